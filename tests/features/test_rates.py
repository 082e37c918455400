"""Historical rates: whole intervals, only what was known, never the record itself, and always up to date."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from crm_core.changes import Source
from crm_core.clock import FixedClock
from crm_core.errors import CRMError, FeatureError, OutcomeFieldError
from crm_core.history import state_as_of
from crm_core.leads import convert_lead
from crm_core.records import Lead
from crm_core.store import Store, Transaction
from features.cohort import Cohort
from features.event_features import EventCount, LastValue, events
from features.explorer import explore
from features.feature_set import FEATURE_SETS, FeatureSet
from features.field_features import FieldValue
from features.frame import build_frame, build_frame_in
from features.measures import EventShare
from features.rates import HistoricalRate
from features.wording import Noun
from tests.factories import make_lead, make_user

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
NOUN = Noun(one="thing", many="things", zh="东西")


def day(number: float) -> datetime:
    return BEGIN + timedelta(days=number)


def rate(**given: Any) -> HistoricalRate:
    return HistoricalRate(**{"record": "lead", "field": "source", "horizon": "30d", "strength": 1, **given})


def ask(store: Store, lead: int, when: datetime, feature: HistoricalRate | None = None) -> float:
    feature_set = FeatureSet(name="rates", record_type="lead", features=(feature or rate(),))
    frame = build_frame(store, Cohort.single("lead", lead, when), feature_set)
    return float(frame.to_numpy()[0, 0])


def make(step: Transaction, source: str, when: datetime, **given: Any) -> Lead:
    return make_lead(step, source=source, occurred_at=when, recorded_at=when, **given)


def convert(store: Store, ids: Sequence[int], when: datetime, *, learned: datetime | None = None) -> None:
    with store.transaction(source=Source.IMPORT) as step:
        for number in ids:
            step.update(
                step.get(Lead, number), {"status": "converted"}, occurred_at=when, recorded_at=learned
            )


@pytest.fixture
def ten(store: Store, clock: FixedClock) -> Store:
    """Ten fair leads of 1 January, of which two were converted on the sixth; lead 11 is of 9 February."""
    clock.set(day(200))
    with store.transaction(source=Source.IMPORT) as step:
        for _ in range(10):
            make(step, "fair", day(0))
        make(step, "fair", day(39))
    convert(store, (1, 2), day(5), learned=day(5))
    return store


def test_leads_that_came_to_nothing_count_whether_somebody_closed_them_or_not(ten: Store) -> None:
    with ten.transaction(source=Source.IMPORT) as step:
        step.update(step.get(Lead, 3), {"status": "disqualified"}, occurred_at=day(9), recorded_at=day(9))

    assert ask(ten, 11, day(40)) == (2 * 10 + 1 * 2) / ((10 + 1) * 10)  # two in ten, not two in three


def test_nothing_counts_before_its_whole_horizon_is_over(ten: Store) -> None:
    assert math.isnan(ask(ten, 3, day(30) - timedelta(microseconds=1)))
    assert not math.isnan(ask(ten, 3, day(30)))


def test_an_outcome_after_the_horizon_does_not_count(ten: Store) -> None:
    before = ask(ten, 11, day(100))
    convert(ten, (4,), day(31), learned=day(31))

    assert ask(ten, 11, day(100)) == before


def test_an_outcome_learned_late_is_invisible_before_it_was_recorded(ten: Store) -> None:
    before = ask(ten, 11, day(60))
    convert(ten, (4,), day(20), learned=day(61))

    assert ask(ten, 11, day(60)) == before
    assert ask(ten, 11, day(61)) == (3 * 10 + 1 * 3) / ((10 + 1) * 10)


@pytest.mark.parametrize("horizon", ["1d", "5d", "30d"])
def test_the_outcome_of_the_record_itself_never_counts(ten: Store, horizon: str) -> None:
    before = [ask(ten, 3, day(number), rate(horizon=horizon)) for number in (35, 50, 150)]
    convert(ten, (3,), day(1), learned=day(1))

    after = [ask(ten, 3, day(number), rate(horizon=horizon)) for number in (35, 50, 150)]

    assert after == before


def test_who_took_over_what_was_left_open_does_not_seem_to_win_nothing(
    store: Store, clock: FixedClock
) -> None:
    clock.set(day(200))
    with store.transaction(source=Source.IMPORT) as step:
        ana, ben = make_user(step, "Ana"), make_user(step, "Ben")
        for _ in range(4):
            make(step, "fair", day(0), owner_id=ana.id)
        make(step, "fair", day(1), owner_id=ben.id)
        make(step, "fair", day(90), owner_id=ben.id)
        ana_id, ben_id = ana.id, ben.id
    convert(store, (1, 5), day(5), learned=day(5))
    before = ask(store, 6, day(91), rate(field="owner_id"))
    with store.transaction(source=Source.IMPORT) as step:
        for number in (2, 3, 4):
            step.update(
                step.get(Lead, number), {"owner_id": ben_id}, occurred_at=day(20), recorded_at=day(20)
            )

    assert ana_id != ben_id
    assert ask(store, 6, day(91), rate(field="owner_id")) == before == (1 * 5 + 1 * 2) / ((1 + 1) * 5)


def test_leads_learned_of_when_they_were_converted_already_are_nobodys_success(ten: Store) -> None:
    before = ask(ten, 11, day(100))
    with ten.transaction(source=Source.IMPORT) as step:
        lead = make_lead(step, source="fair", occurred_at=day(2), recorded_at=day(10))
    convert(ten, (lead.id,), day(3), learned=day(12))

    assert ask(ten, 11, day(100)) == before


def test_a_small_group_is_drawn_towards_the_share_of_all(ten: Store) -> None:
    with ten.transaction(source=Source.IMPORT) as step:
        make(step, "referral", day(1))
        make(step, "referral", day(50))
    convert(ten, (12,), day(6), learned=day(6))
    few, many = (ask(ten, 13, day(51), rate(strength=strength)) for strength in (1, 10))

    # Of eleven known for 30 days three were converted; one referral of one.
    assert few == (1 * 11 + 1 * 3) / ((1 + 1) * 11)
    assert many == (1 * 11 + 10 * 3) / ((1 + 10) * 11)


def test_a_source_nobody_had_before_gets_the_share_of_all_and_no_source_gets_nothing(ten: Store) -> None:
    with ten.transaction(source=Source.IMPORT) as step:
        make(step, "podcast", day(50))
        make_lead(step, source=None, occurred_at=day(50), recorded_at=day(50))

    assert ask(ten, 12, day(51)) == 2 / 10
    assert math.isnan(ask(ten, 13, day(51)))


def test_with_a_lookback_old_questions_are_forgotten(ten: Store) -> None:
    lately = rate(lookback="10d")

    assert not math.isnan(ask(ten, 11, day(40) - timedelta(microseconds=1), lately))
    assert math.isnan(ask(ten, 11, day(40), lately))


def test_a_write_is_seen_by_the_next_question_as_by_a_store_that_never_read(ten: Store) -> None:
    for number in (4, 5, 6):
        convert(ten, (number,), day(7), learned=day(7))
        with ten.transaction(source=Source.IMPORT) as step:
            make(step, "fair", day(3))
        other = Store(ten.url, clock=ten.clock)
        assert ask(ten, 11, day(100)) == ask(other, 11, day(100))
        other.close()


def test_what_a_transaction_undid_is_seen_by_nobody(ten: Store) -> None:
    before = ask(ten, 11, day(100))
    feature_set = FeatureSet(name="rates", record_type="lead", features=(rate(),))
    inside = 0.0

    def give_up() -> None:
        nonlocal inside
        with ten.transaction(source=Source.IMPORT) as step:
            step.update(step.get(Lead, 4), {"status": "converted"}, occurred_at=day(7), recorded_at=day(7))
            step.session.flush()
            frame = build_frame_in(step.session, Cohort.single("lead", 11, day(100)), feature_set)
            inside = float(frame.to_numpy()[0, 0])
            raise CRMError("undone")

    with pytest.raises(CRMError, match="undone"):
        give_up()

    assert inside > before
    assert ask(ten, 11, day(100)) == before


def test_a_conversion_through_the_store_counts_like_any_other(ten: Store, clock: FixedClock) -> None:
    with ten.transaction(source=Source.IMPORT) as step:
        lead = make(step, "fair", day(190))
    with ten.transaction(source=Source.IMPORT) as step:
        convert_lead(step, step.get(Lead, lead.id), occurred_at=day(199))
    clock.set(day(230))

    assert ask(ten, 11, day(229)) > ask(ten, 11, day(199))


@pytest.mark.parametrize("field", ["status", "converted_at", "disqualified_reason", "account_id", "score"])
def test_an_outcome_can_be_no_group(field: str) -> None:
    with pytest.raises(OutcomeFieldError, match=rf"lead\.{field}"):
        rate(field=field)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"horizon": "30"}, "horizon: .*with a unit"),
        ({"horizon": ""}, "horizon: .*with a unit"),
        ({"horizon": "-30d"}, "horizon: .*with a unit"),
        ({"horizon": "12h"}, "horizon: expected at least a day"),
        ({"lookback": "90"}, "lookback: .*with a unit"),
        ({"field": "colour"}, "lead has no field 'colour'"),
        ({"field": "employees"}, r"lead\.employees is neither a word nor a link"),
        ({"field": "occurred_at"}, r"lead\.occurred_at is bookkeeping"),
        ({"record": "account", "field": "region"}, "a rate of accounts: expected lead or deal"),
        ({"record": "deal", "via": "account_id", "field": "industry"}, "groups of deals themselves"),
        ({"each": "week"}, "expected each record or entry"),
        ({"strength": 0}, "a strength of at least 1"),
    ],
)
def test_a_rate_that_makes_no_sense_is_refused_when_declared(given: dict[str, Any], told: str) -> None:
    with pytest.raises(FeatureError, match=told):
        rate(**given)


def test_a_rate_does_not_let_its_outcome_be_an_input_anywhere_else() -> None:
    rate(record="deal", field="owner_id")

    with pytest.raises(OutcomeFieldError, match=r"deal\.status"):
        FieldValue(record="deal", field="status")
    with pytest.raises(OutcomeFieldError, match=r"deal\.status"):
        events("account", "deal", NOUN, where={"status": "won"})
    won = events("account", "deal", NOUN)
    with pytest.raises(OutcomeFieldError, match=r"deal\.closed_at"):
        LastValue(of=won, field="closed_at", noun=NOUN)
    with pytest.raises(FeatureError, match="no share"):
        EventShare(of=won, part=events("account", "order", NOUN))
    assert EventCount(of=won).source_fields == ("deal.occurred_at",)


def test_no_declared_feature_reads_an_outcome() -> None:
    outcomes = {"lead.status", "lead.converted_at", "deal.status", "deal.closed_at", "contract.status"}

    for found in FEATURE_SETS.values():
        assert not found.source_fields & outcomes


def test_whoever_asks_why_sees_how_many_a_rate_is_counted_from(ten: Store) -> None:
    feature_set = FeatureSet(name="rates", record_type="lead", features=(rate(), rate(field="campaign")))

    (one, none) = explore(ten, feature_set, 11, day(40))

    assert dict(one.others) == {"asked": 10, "won": 2, "all_asked": 10, "all_won": 2}
    assert one.value == ask(ten, 11, day(40))
    assert (none.value, none.others["asked"]) == (None, 0)


def test_of_changes_of_one_instant_the_one_learned_last_counts_not_the_one_written_last(ten: Store) -> None:
    for source, learned in (("expo", day(30)), ("web", day(10))):
        with ten.transaction(source=Source.IMPORT) as step:
            step.update(step.get(Lead, 3), {"source": source}, occurred_at=day(5), recorded_at=learned)
    field = FieldValue(record="lead", field="source", noun=NOUN)
    feature_set = FeatureSet(name="field", record_type="lead", features=(field,))
    asked = [day(9), day(20), day(40)]

    held = [build_frame(ten, Cohort.single("lead", 3, when), feature_set).iloc[0, 0] for when in asked]

    with ten.reading() as session:
        states = [state_as_of(session, Lead, 3, when) for when in asked]
    assert held == [state["source"] for state in states if state] == ["fair", "web", "expo"]
