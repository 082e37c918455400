"""Predictions are kept once each, and the record shows the newest."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import func, select

from crm_core.arrays import read_arrays
from crm_core.changes import newest_sequence
from crm_core.clock import FixedClock
from crm_core.predictions import (
    AT_ONCE,
    NewPrediction,
    Prediction,
    list_predictions,
    newest_predictions,
    write_predictions,
)
from crm_core.records import Lead
from crm_core.store import Store
from crm_core.writing_back import FEW
from tests.factories import make_lead

REASONS = [{"group": "calls", "log_odds": 0.4, "en": "3 calls", "zh": "3 次通话"}]


def make_one_lead(store: Store) -> int:
    with store.transaction() as transaction:
        return make_lead(transaction).id


def say(store: Store, lead_id: int, probability: float | None, *, as_of: datetime, version: str = "1") -> int:
    new = NewPrediction(record_id=lead_id, probability=probability, score=50, grade="B", reasons=REASONS)
    with store.transaction() as transaction:
        return write_predictions(
            transaction,
            task="lead_scoring",
            record_type="lead",
            as_of=as_of,
            model_version=version,
            horizon_days=90,
            predictions=[new],
        )


def read_lead(store: Store, lead_id: int) -> Lead:
    with store.reading() as session:
        return session.get_one(Lead, lead_id)


def test_a_prediction_is_kept_and_shown_on_its_record(store: Store, clock: FixedClock) -> None:
    lead_id = make_one_lead(store)
    assert say(store, lead_id, 0.25, as_of=clock.now()) == 1

    lead = read_lead(store, lead_id)
    assert (lead.probability, lead.score, lead.grade, lead.trend) == (0.25, 50, "B", None)
    assert (lead.scored_at, lead.model_version, lead.reasons) == (clock.now(), "1", REASONS)


def test_the_same_question_is_answered_once_however_often_it_is_asked(
    store: Store, clock: FixedClock
) -> None:
    lead_id = make_one_lead(store)
    assert [say(store, lead_id, p, as_of=clock.now()) for p in (0.25, 0.25, 0.9)] == [1, 0, 0]

    with store.reading() as session:
        assert session.scalar(select(func.count()).select_from(Prediction)) == 1
    assert read_lead(store, lead_id).probability == 0.25


def test_another_model_may_answer_the_same_question(store: Store, clock: FixedClock) -> None:
    lead_id = make_one_lead(store)
    assert say(store, lead_id, 0.25, as_of=clock.now(), version="1") == 1
    assert say(store, lead_id, 0.35, as_of=clock.now(), version="2") == 1
    assert read_lead(store, lead_id).model_version == "2"


def test_the_record_says_where_its_score_is_going(store: Store, clock: FixedClock) -> None:
    lead_id = make_one_lead(store)
    trends = []
    for probability in (0.25, 0.40, 0.405, 0.2):
        clock.advance(timedelta(hours=1))
        say(store, lead_id, probability, as_of=clock.now())
        trends.append(read_lead(store, lead_id).trend)
    assert trends == [None, "up", "flat", "down"]
    assert read_lead(store, lead_id).previous_probability == 0.405


def test_an_answer_to_an_older_question_is_kept_but_not_shown(store: Store, clock: FixedClock) -> None:
    lead_id = make_one_lead(store)
    say(store, lead_id, 0.25, as_of=clock.now())
    say(store, lead_id, 0.9, as_of=clock.now() - timedelta(days=1))

    assert read_lead(store, lead_id).probability == 0.25
    with store.reading() as session:
        kept = [row.probability for row in list_predictions(session, "lead", lead_id)]
    assert kept == [0.25, 0.9]


def test_not_enough_data_is_an_answer_too(store: Store, clock: FixedClock) -> None:
    lead_id = make_one_lead(store)
    say(store, lead_id, None, as_of=clock.now())

    lead = read_lead(store, lead_id)
    assert (lead.probability, lead.scored_at) == (None, clock.now())


def test_a_score_neither_counts_as_an_edit_nor_enters_the_change_log(store: Store, clock: FixedClock) -> None:
    lead_id = make_one_lead(store)
    with store.reading() as session:
        before = newest_sequence(session)
    say(store, lead_id, 0.25, as_of=clock.now())
    with store.reading() as session:
        assert newest_sequence(session) == before
    assert read_lead(store, lead_id).version == 1


def test_many_predictions_are_each_kept_and_shown_as_one_is(store: Store, clock: FixedClock) -> None:
    count = AT_ONCE + FEW + 100
    with store.transaction() as transaction:
        ids = transaction.create_columns(Lead, {"name": ["One"] * count}).tolist()
    say(store, ids[-1], 0.5, as_of=clock.now())
    earlier = clock.now() - timedelta(hours=1)
    say(store, ids[0], 0.5, as_of=earlier)
    said = [
        NewPrediction(record_id=each, probability=each / count / 2, score=1, grade="C", reasons=REASONS)
        for each in ids
    ]
    with store.transaction() as transaction:
        written = write_predictions(
            transaction,
            task="lead_scoring",
            record_type="lead",
            as_of=clock.now(),
            model_version="1",
            horizon_days=90,
            predictions=said,
        )

    with store.reading() as session:
        leads = read_arrays(
            session,
            select(Lead.id, Lead.probability, Lead.previous_probability, Lead.trend).order_by(Lead.id),
        )
        kept = session.scalar(select(func.count()).select_from(Prediction))
    assert (written, kept) == (count - 1, count + 1)
    assert leads["probability"].tolist() == [*(each / count / 2 for each in ids[:-1]), 0.5]
    assert (leads["previous_probability"][0], leads["trend"][0]) == (0.5, "down")
    assert set(leads["trend"][1:].tolist()) == {None}


def test_all_horizons_the_expected_time_and_the_yearly_value_are_kept(
    store: Store, clock: FixedClock
) -> None:
    lead_id, other = make_one_lead(store), make_one_lead(store)
    worth = [{"currency": "EUR", "amount": "1200.00", "of": "contract"}]
    full = NewPrediction(
        record_id=lead_id,
        probability=0.25,
        score=50,
        grade="B",
        reasons=REASONS,
        within={30: 0.1, 90: 0.25, 180: None},
        expected_days=41.5,
        yearly_value=worth,
        horizon_days=45,
    )
    silent = NewPrediction(record_id=other, probability=None, score=None, grade=None, reasons=REASONS)
    with store.transaction() as transaction:
        written = write_predictions(
            transaction,
            task="lead_scoring",
            record_type="lead",
            as_of=clock.now(),
            model_version="1",
            horizon_days=90,
            predictions=[full, silent],
        )
    assert written == 2
    with store.reading() as session:
        found = newest_predictions(session, "lead", [lead_id, other, 999])
        kept, nothing = found[lead_id], found[other]
        assert (kept.within, kept.expected_days, kept.yearly_value, kept.horizon_days) == (
            {"30": 0.1, "90": 0.25, "180": None},
            41.5,
            worth,
            45,
        )
        assert (nothing.within, nothing.expected_days, nothing.yearly_value) == (None, None, None)
        assert (nothing.horizon_days, nothing.probability) == (90, None)
        assert sorted(found) == [lead_id, other]


def test_the_newest_prediction_is_the_one_that_the_record_shows(store: Store, clock: FixedClock) -> None:
    lead_id = make_one_lead(store)
    say(store, lead_id, 0.4, as_of=clock.now(), version="2")
    say(store, lead_id, 0.3, as_of=clock.now() - timedelta(days=3), version="1")
    with store.reading() as session:
        assert newest_predictions(session, "lead", [lead_id])[lead_id].probability == 0.4
        assert newest_predictions(session, "lead", []) == {}


def test_a_score_may_be_followed_by_nothing_and_nothing_by_a_score(store: Store, clock: FixedClock) -> None:
    lead_id = make_one_lead(store)
    for probability, shown in ((0.4, None), (None, None), (0.3, None), (0.6, "up")):
        clock.advance(timedelta(hours=1))
        say(store, lead_id, probability, as_of=clock.now())
        lead = read_lead(store, lead_id)
        assert (lead.probability, lead.trend) == (probability, shown)
