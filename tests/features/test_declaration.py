"""What cannot be an input, or makes no sense, is refused when it is declared, by name."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from crm_core.errors import FeatureError, OutcomeFieldError
from crm_core.fields import FieldKind
from features import deal, lead
from features.account import CONTRACTS, ORDERS, TICKETS
from features.declaration import Feature
from features.event_features import (
    DaysSinceFirst,
    DaysSinceLast,
    EventCount,
    EventMean,
    Events,
    EventSum,
    LastValue,
    events,
)
from features.feature_set import FEATURE_SETS, FeatureSet
from features.field_features import (
    ChangesCount,
    DaysUntil,
    FieldValue,
    MissingCount,
    PushesCount,
    Season,
)
from features.field_measures import DaysHeld, Filled, FreeMail, Growth, ListLength
from features.lead import ACTIVITIES, CALLS, INBOUND
from features.measures import EventDistinct, EventLargest, EventShare, EventSmallest, EventTrend
from features.payments import OverdueCount, PaymentDelay
from features.rates import HistoricalRate
from features.responses import DaysSinceResponse
from features.windows import parse_lookback
from features.wording import Noun

NOUN = Noun(one="thing", many="things", zh="东西")
EVERY = [
    pytest.param(one, id=f"{one.record}-{one.name}") for s in FEATURE_SETS.values() for one in s.features
]


@pytest.mark.parametrize("field", ["status", "converted_at", "account_id", "deal_id", "disqualified_reason"])
def test_a_field_written_at_the_outcome_is_refused(field: str) -> None:
    with pytest.raises(OutcomeFieldError, match=rf"lead\.{field}"):
        FieldValue(record="lead", field=field)


@pytest.mark.parametrize("field", ["probability", "score", "grade", "reasons", "model_version"])
def test_what_a_model_wrote_is_refused(field: str) -> None:
    with pytest.raises(OutcomeFieldError, match=rf"deal\.{field} is written by models"):
        FieldValue(record="deal", field=field)


@pytest.mark.parametrize("field", ["id", "external_id", "version", "recorded_at", "deleted_at", "custom"])
def test_bookkeeping_is_refused(field: str) -> None:
    with pytest.raises(FeatureError, match=rf"account\.{field} is bookkeeping"):
        FieldValue(record="account", field=field)


def test_an_outcome_field_is_refused_as_a_filter_a_change_and_a_missing_field_too() -> None:
    with pytest.raises(OutcomeFieldError, match=r"contract\.status"):
        events("account", "contract", NOUN, where={"status": "active"})
    with pytest.raises(OutcomeFieldError, match=r"deal\.closed_at"):
        ChangesCount(record="deal", field="closed_at")
    with pytest.raises(OutcomeFieldError, match=r"deal\.lost_reason"):
        MissingCount(record="deal", fields=("amount", "lost_reason"))
    with pytest.raises(OutcomeFieldError, match=r"contract\.ended_at"):
        LastValue(of=CONTRACTS, field="ended_at", noun=NOUN)


def test_a_leads_account_leads_nowhere_since_only_converted_leads_have_one() -> None:
    with pytest.raises(OutcomeFieldError, match=r"lead\.account_id"):
        FieldValue(record="lead", field="industry", via="account_id")


def test_the_team_of_an_owner_is_reached_in_two_steps_and_says_what_it_reads() -> None:
    team = FEATURE_SETS["win_probability"].get("owner_team")
    assert team.source_fields == ("deal.owner_id", "team.name", "user.team_id")
    assert team.say("North", "en") == "owner's team: North"
    assert team.say("North", "zh") == "负责人所在团队：North"


def test_an_unknown_field_record_or_link_is_refused_by_name() -> None:
    with pytest.raises(FeatureError, match="colour"):
        FieldValue(record="lead", field="colour")
    with pytest.raises(FeatureError, match="invoice"):
        FieldValue(record="invoice", field="amount")
    with pytest.raises(FeatureError, match="'order' is linked to no lead"):
        events("lead", "order", NOUN)
    with pytest.raises(FeatureError, match=r"deal\.owner_id leads to no record"):
        events("deal", "order", NOUN, via="owner_id")
    with pytest.raises(FeatureError, match=r"user\.email says who somebody is"):
        FieldValue(record="deal", field="email", via="owner_id")


def test_a_word_that_the_field_cannot_hold_is_refused() -> None:
    with pytest.raises(FeatureError, match="fax"):
        events("lead", "activity", NOUN, where={"kind": ("call", "fax")})


@pytest.mark.parametrize(
    "lookback", ["30", "", "d", "0d", "-3d", "1.5d", "30 days", "7m", timedelta(0), timedelta(minutes=90)]
)
def test_a_window_without_a_unit_or_a_length_is_refused(lookback: str | timedelta) -> None:
    with pytest.raises(FeatureError, match="lookback"):
        EventCount(of=CALLS, lookback=lookback)
    with pytest.raises(FeatureError, match="lookback"):
        ChangesCount(record="deal", field="amount", lookback=lookback)


def test_lookbacks_of_the_same_length_are_the_same_feature() -> None:
    same = [EventCount(of=CALLS, lookback=lookback) for lookback in ("14d", "2w", "336h", timedelta(days=14))]

    assert {one.name for one in same} == {"calls_count_14d"}
    assert len(set(same)) == 1


def test_a_lookback_of_hours_is_named_in_hours() -> None:
    assert parse_lookback("12h") == 12 * 3600 * 1_000_000
    assert EventCount(of=CALLS, lookback="12h").name == "calls_count_12h"


def test_measures_are_refused_for_fields_they_do_not_fit() -> None:
    with pytest.raises(FeatureError, match="summed exactly"):
        EventSum(of=TICKETS, field="priority", noun=NOUN)
    with pytest.raises(FeatureError, match="summed exactly"):
        EventMean(of=ORDERS, field="deal_id", noun=NOUN)
    with pytest.raises(FeatureError, match="neither a number nor a word"):
        FieldValue(record="deal", field="expected_close_on")
    with pytest.raises(FeatureError, match="no day and no instant"):
        DaysUntil(record="deal", field="amount")
    with pytest.raises(FeatureError, match="put off"):
        PushesCount(record="deal", field="amount")
    with pytest.raises(FeatureError, match="without a lookback"):
        DaysSinceFirst(of=ORDERS, lookback="30d")
    with pytest.raises(FeatureError, match="sin or cos"):
        Season(record="lead", part="tan")
    with pytest.raises(FeatureError, match="with a kind"):
        FieldValue(record="lead", field="custom.budget")
    with pytest.raises(FeatureError, match="days until it"):
        FieldValue(record="lead", field="custom.demo", kind=FieldKind.DAY)


def test_newer_measures_are_refused_for_fields_they_do_not_fit_too() -> None:
    with pytest.raises(FeatureError, match=r"ticket\.priority is no number"):
        EventLargest(of=TICKETS, field="priority", noun=NOUN)
    with pytest.raises(FeatureError, match="neither a number nor a word"):
        EventSmallest(of=CONTRACTS, field="ends_on", noun=NOUN)
    with pytest.raises(FeatureError, match=r"order\.amount is neither a word nor a link"):
        EventDistinct(of=ORDERS, field="amount", noun=NOUN)
    with pytest.raises(FeatureError, match="can be no share of them"):
        EventShare(of=INBOUND, part=ACTIVITIES)
    with pytest.raises(FeatureError, match="can be no share of them"):
        EventShare(of=ORDERS, part=TICKETS)
    with pytest.raises(FeatureError, match="holds no word"):
        DaysHeld(record="deal", field="amount", value="high")
    with pytest.raises(FeatureError, match="holds no 'heaven'"):
        DaysHeld(record="deal", field="stage", value="heaven")
    with pytest.raises(FeatureError, match="holds no list"):
        ListLength(record="deal", field="source")
    with pytest.raises(FeatureError, match="cannot grow"):
        Growth(record="deal", field="source")
    with pytest.raises(FeatureError, match="expected payments"):
        OverdueCount(of=ORDERS)
    with pytest.raises(FeatureError, match="expected payments"):
        PaymentDelay(of=TICKETS)


@pytest.mark.parametrize(
    "declare",
    [
        lambda field: EventLargest(of=CONTRACTS, field=field, noun=NOUN),
        lambda field: EventDistinct(of=CONTRACTS, field=field, noun=NOUN),
        lambda field: events("account", "contract", NOUN, where={field: "active"}),
        lambda field: DaysHeld(record="contract", field=field, value="active"),
        lambda field: Filled(record="contract", field=field),
        lambda field: FreeMail(record="contract", field=field),
        lambda field: ListLength(record="contract", field=field),
        lambda field: Growth(record="contract", field=field),
    ],
    ids=["largest", "distinct", "where", "days", "filled", "mail", "list", "growth"],
)
@pytest.mark.parametrize(
    ("field", "error"),
    [("status", OutcomeFieldError), ("ended_at", OutcomeFieldError), ("colour", FeatureError)],
)
def test_no_measure_takes_an_outcome_or_an_unknown_field(
    declare: Callable[[str], object], field: str, error: type[FeatureError]
) -> None:
    with pytest.raises(error, match=f"{field}"):
        declare(field)


@pytest.mark.parametrize("window", ["30", "d", "0d", "-3d", "30 days", "1m"])
def test_every_window_of_a_newer_measure_needs_a_unit(window: str) -> None:
    for declare in (
        lambda: EventLargest(of=ORDERS, field="amount", noun=NOUN, lookback=window),
        lambda: EventDistinct(of=TICKETS, field="priority", noun=NOUN, lookback=window),
        lambda: EventShare(of=ACTIVITIES, part=CALLS, lookback=window),
        lambda: EventTrend(of=CALLS, lookback=window),
        lambda: EventTrend(of=CALLS, lookback="30d", before=window),
        lambda: DaysHeld(record="deal", field="stage", value="needs", lookback=window),
        lambda: HistoricalRate(record="lead", field="source", horizon=window),
        lambda: HistoricalRate(record="lead", field="source", horizon="30d", lookback=window),
    ):
        with pytest.raises(FeatureError, match="lookback"):
            declare()
    with pytest.raises(FeatureError, match="needs a lookback"):
        EventTrend(of=CALLS)


def test_names_carry_both_windows_of_a_trend_and_the_horizon_of_a_rate() -> None:
    assert EventTrend(of=CALLS, lookback="30d").name == "calls_trend_30d_vs_30d_before"
    assert EventTrend(of=CALLS, lookback="2w", before="90d").name == "calls_trend_14d_vs_90d_before"
    by_owner = HistoricalRate(record="deal", field="owner_id", horizon="60d", lookback="1w")
    assert by_owner.name == "owner_win_rate_60d_over_7d"


def test_two_features_of_one_name_are_refused() -> None:
    with pytest.raises(FeatureError, match="calls_count_7d more than once"):
        FeatureSet(name="x", record_type="lead", features=(EventCount(of=CALLS, lookback="7d"),) * 2)


def test_a_feature_of_another_record_is_refused() -> None:
    with pytest.raises(FeatureError, match="days_since_last_order"):
        FeatureSet(name="x", record_type="lead", features=(DaysSinceLast(of=ORDERS),))


@pytest.mark.parametrize("feature", EVERY)
def test_every_feature_says_itself_in_both_languages(feature: Feature) -> None:
    values: tuple[str | float | None, ...] = (0.0, 1.0, 3.7, None)
    if feature.dtype == "category":
        values = ("call", None)
    for value in values:
        english, chinese = feature.say(value), feature.say(value, "zh")
        for said in (english, chinese):
            assert said
            assert "{" not in said
        assert english.isascii()
        assert any("\u4e00" <= letter <= "\u9fff" for letter in chinese)


@pytest.mark.parametrize("feature", EVERY)
def test_every_feature_states_unit_missing_value_and_group(feature: Feature) -> None:
    units = {"count", "days", "hours", "currency", "ratio", "share", "flag", "value", "category"}
    assert feature.unit in units
    assert feature.nan_meaning
    assert feature.group
    assert feature.name.isidentifier()


def test_a_rep_reads_plain_sentences() -> None:
    calls = EventCount(of=CALLS, lookback="30d")

    assert [calls.say(n) for n in (0, 1, 2)] == [
        "no calls in the last 30 days",
        "1 call in the last 30 days",
        "2 calls in the last 30 days",
    ]
    assert [calls.say(n, "zh") for n in (0, 2)] == ["近 30 天没有通话", "近 30 天 2 次通话"]
    assert DaysSinceLast(of=CALLS).say(None) == "no call yet"
    assert DaysSinceLast(of=CALLS).say(float("nan"), "zh") == "尚无通话"
    assert DaysSinceLast(of=CALLS).say(3.25) == "3 days since the last call"
    assert (
        EventSum(of=ORDERS, field="amount", noun=NOUN, lookback="90d")
        .say(12345.6)
        .endswith("in the last 90 days with a total thing of 12,346")
    )


def test_what_counts_as_a_response_decides_the_fingerprint() -> None:
    mails, calls = lead.MAILS_IN, lead.CONNECTED
    one = DaysSinceResponse(of=lead.CONTACTS, answers=(mails,))
    other = DaysSinceResponse(of=lead.CONTACTS, answers=(mails, calls))
    sets = [FeatureSet(name="lead_scoring", record_type="lead", features=(each,)) for each in (one, other)]
    assert sets[0].fingerprint != sets[1].fingerprint


@pytest.mark.parametrize("answers", [(), (deal.INBOUND,)])
def test_responses_are_events_of_the_same_record(answers: tuple[Events, ...]) -> None:
    with pytest.raises(FeatureError, match="responses to contacts"):
        DaysSinceResponse(of=lead.CONTACTS, answers=answers)


def test_the_last_response_is_looked_for_without_a_lookback() -> None:
    with pytest.raises(FeatureError, match="without a lookback"):
        DaysSinceResponse(of=lead.CONTACTS, answers=(lead.INBOUND,), lookback="30d")
