"""Scores follow what changes."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import cast

import pytest
from sqlalchemy import select
from sqlalchemy.exc import OperationalError

from crm_core.changes import Change, Cursor, newest_sequence
from crm_core.clock import FixedClock
from crm_core.errors import DamagedModelError, FeatureSetMismatchError
from crm_core.leads import convert_lead
from crm_core.predictions import Prediction, list_predictions
from crm_core.promotions import Promotion
from crm_core.records import Activity, Lead
from crm_core.store import Store
from serving.champions import Champions
from serving.rescoring import (
    CURSOR,
    LONGEST_BREATH_SECONDS,
    Rescorer,
    RescoringThread,
    note_full_scoring,
)
from tests.factories import make_account, make_activity, make_deal, make_lead, make_order, make_ticket
from tests.serving.both_databases import *  # noqa: F403  its fixtures
from tests.serving.hand_made import HandMadeModel

Promote = Callable[..., HandMadeModel]


@pytest.fixture
def rescorer(store: Store, champions: Champions) -> Rescorer:
    return Rescorer(store, champions)


def rising() -> Callable[[int], float]:
    """Say something else whenever asked."""
    said = itertools.count(1)
    return lambda record_id: next(said) / 1000


def run_dry(rescorer: Rescorer) -> int:
    """Run until nothing is left to do; return how many predictions that took."""
    total = 0
    while done := rescorer.run_once():
        total += done
    return total


def predictions(store: Store, record_type: str, record_id: int) -> list[Prediction]:
    with store.reading() as session:
        found = list(list_predictions(session, record_type, record_id))
        session.expunge_all()
        return found


def test_the_first_run_scores_every_open_record_once(
    store: Store, rescorer: Rescorer, promote: Promote
) -> None:
    promote()
    with store.transaction() as transaction:
        ids = [make_lead(transaction).id for _ in range(5)]
        convert_lead(transaction, transaction.get(Lead, ids[4]))
        transaction.delete(transaction.get(Lead, ids[3]))
    assert run_dry(rescorer) == 3
    assert [len(predictions(store, "lead", lead_id)) for lead_id in ids] == [1, 1, 1, 0, 0]
    assert rescorer.run_once() == 0


def test_a_logged_call_scores_its_lead_again_and_no_other(
    store: Store, rescorer: Rescorer, promote: Promote, clock: FixedClock
) -> None:
    promote(probability=rising())
    with store.transaction() as transaction:
        lead, other = make_lead(transaction), make_lead(transaction)
    run_dry(rescorer)
    clock.advance(timedelta(minutes=5))
    with store.transaction() as transaction:
        call = make_activity(transaction, lead_id=lead.id)
    assert rescorer.run_once() == 1
    newest, _ = predictions(store, "lead", lead.id)
    assert newest.as_of >= call.recorded_at
    with store.reading() as session:
        change = session.scalars(select(Change).where(Change.record_type == "activity")).one()
        assert newest.cause_change_id == change.id
        assert session.get_one(Lead, lead.id).scored_at == newest.as_of
    assert len(predictions(store, "lead", other.id)) == 1


def test_its_own_writes_do_not_set_it_off(store: Store, rescorer: Rescorer, promote: Promote) -> None:
    model = promote()
    with store.transaction() as transaction:
        make_lead(transaction)
    run_dry(rescorer)
    asked = len(model.asked)
    for _ in range(3):
        assert rescorer.run_once() == 0
    assert len(model.asked) == asked


def test_what_happens_at_a_customer_scores_the_customer_and_its_open_deals(
    store: Store, rescorer: Rescorer, promote: Promote, clock: FixedClock
) -> None:
    promote("churn", probability=rising()), promote("win_probability", probability=rising())
    with store.transaction() as transaction:
        account = make_account(transaction)
        deal = make_deal(transaction, account_id=account.id)
        make_account(transaction)
    run_dry(rescorer)
    for make in (make_ticket, make_order):
        clock.advance(timedelta(hours=1))
        with store.transaction() as transaction:
            make(transaction, account_id=account.id)
        assert rescorer.run_once() == 2
    assert len(predictions(store, "account", account.id)) == 3
    assert len(predictions(store, "deal", deal.id)) == 3


def test_an_activity_moved_to_another_lead_scores_both(
    store: Store, rescorer: Rescorer, promote: Promote, clock: FixedClock
) -> None:
    promote()
    with store.transaction() as transaction:
        lead, other = make_lead(transaction), make_lead(transaction)
        call = make_activity(transaction, lead_id=lead.id)
    run_dry(rescorer)
    clock.advance(timedelta(hours=1))
    with store.transaction() as transaction:
        transaction.update(transaction.get(Activity, call.id), {"lead_id": other.id})
    assert rescorer.run_once() == 2


def test_a_converted_lead_keeps_its_last_score(
    store: Store, rescorer: Rescorer, promote: Promote, clock: FixedClock
) -> None:
    promote()
    with store.transaction() as transaction:
        lead = make_lead(transaction)
    run_dry(rescorer)
    clock.advance(timedelta(hours=1))
    with store.transaction() as transaction:
        convert_lead(transaction, transaction.get(Lead, lead.id))
    assert rescorer.run_once() == 0
    assert len(predictions(store, "lead", lead.id)) == 1


def test_one_record_that_cannot_be_scored_does_not_hold_up_the_others(
    store: Store, rescorer: Rescorer, promote: Promote, clock: FixedClock
) -> None:
    with store.transaction() as transaction:
        ids = [make_lead(transaction).id for _ in range(7)]
    bad = ids[3]

    def probability(record_id: int) -> float:
        return 1 / 0 if record_id == bad else 0.5

    model = promote(probability=probability)
    assert run_dry(rescorer) == 6
    assert [(failure.record_id, failure.error) for failure in rescorer.failures] == [
        (bad, "ZeroDivisionError")
    ]
    model.probability = lambda record_id: 0.5
    clock.advance(timedelta(hours=1))
    with store.transaction() as transaction:
        make_activity(transaction, lead_id=bad)
    assert rescorer.run_once() == 1
    assert rescorer.failures == []


def test_a_database_in_trouble_is_waited_for(
    store: Store, rescorer: Rescorer, promote: Promote, clock: FixedClock
) -> None:
    model = promote()
    with store.transaction() as transaction:
        lead = make_lead(transaction)
    run_dry(rescorer)
    clock.advance(timedelta(hours=1))
    with store.transaction() as transaction:
        make_activity(transaction, lead_id=lead.id)

    def fail(record_id: int) -> float:
        raise OperationalError("SELECT 1", {}, Exception("disk I/O error"))

    model.probability = fail
    with pytest.raises(OperationalError):
        rescorer.run_once()
    model.probability = lambda record_id: 0.7
    assert rescorer.run_once() == 1
    assert [found.probability for found in predictions(store, "lead", lead.id)] == [0.7, 0.5]
    assert rescorer.failures == [], "it was not the record's fault"


def test_a_promoted_model_takes_over_and_scores_everything(
    store: Store, rescorer: Rescorer, promote: Promote, clock: FixedClock
) -> None:
    promote()
    with store.transaction() as transaction:
        ids = [make_lead(transaction).id for _ in range(3)]
    run_dry(rescorer)
    clock.advance(timedelta(hours=1))
    promote(version="lead_scoring-2", probability=lambda record_id: 0.7)
    assert run_dry(rescorer) == 3
    with store.reading() as session:
        leads = session.scalars(select(Lead).where(Lead.id.in_(ids))).all()
        assert {(lead.model_version, lead.probability) for lead in leads} == {("lead_scoring-2", 0.7)}


@pytest.mark.parametrize(
    "error", [DamagedModelError("other bytes"), FeatureSetMismatchError("other features")]
)
def test_a_model_that_cannot_be_loaded_leaves_the_one_before_in_charge(
    store: Store, promote: Promote, models: dict[str, HandMadeModel], clock: FixedClock, error: Exception
) -> None:
    loads = []

    def load(task: str, promotion: Promotion) -> HandMadeModel:
        loads.append(promotion.model_version)
        if promotion.model_version == "lead_scoring-2":
            raise error
        return models[promotion.model_version]

    champions = Champions(store, load)
    rescorer = Rescorer(store, champions)
    promote()
    with store.transaction() as transaction:
        lead = make_lead(transaction)
    run_dry(rescorer)
    promote(version="lead_scoring-2")
    clock.advance(timedelta(minutes=1))
    with store.transaction() as transaction:
        make_activity(transaction, lead_id=lead.id)
    rescorer.run_once(), rescorer.run_once()
    assert predictions(store, "lead", lead.id)[0].model_version == "lead_scoring-1"
    assert champions.troubles["lead_scoring"].model_version == "lead_scoring-2"
    assert loads.count("lead_scoring-2") == 1, "left alone for a while"
    clock.advance(timedelta(minutes=1))
    rescorer.run_once()
    assert loads.count("lead_scoring-2") == 2


def test_the_next_day_everything_is_asked_again(
    store: Store, rescorer: Rescorer, promote: Promote, clock: FixedClock
) -> None:
    promote()
    with store.transaction() as transaction:
        lead = make_lead(transaction)
    run_dry(rescorer)
    clock.advance(timedelta(hours=16))
    assert run_dry(rescorer) == 0
    clock.advance(timedelta(hours=2))
    assert run_dry(rescorer) == 1
    assert predictions(store, "lead", lead.id)[0].cause_change_id is None


def test_changes_go_before_a_sweep_that_is_under_way(
    store: Store, champions: Champions, promote: Promote, clock: FixedClock
) -> None:
    model = promote()
    with store.transaction() as transaction:
        ids = [make_lead(transaction).id for _ in range(6)]
    rescorer = Rescorer(store, champions, records_at_once=2, swept_at_once=2)
    rescorer.run_once()
    clock.advance(timedelta(minutes=1))
    with store.transaction() as transaction:
        make_activity(transaction, lead_id=ids[5])
    rescorer.run_once()
    run_dry(rescorer)
    assert [asked for asked, _ in model.asked] == [(1, 2), (6,), (3, 4), (5,)]


def test_a_long_backlog_is_answered_by_one_sweep(
    store: Store, champions: Champions, promote: Promote, clock: FixedClock
) -> None:
    model = promote()
    with store.transaction() as transaction:
        lead = make_lead(transaction)
    rescorer = Rescorer(store, champions, backlog=10)
    run_dry(rescorer)
    clock.advance(timedelta(hours=1))
    with store.transaction() as transaction:
        for _ in range(11):
            make_activity(transaction, lead_id=lead.id)
    assert run_dry(rescorer) == 1
    assert len(model.asked) == 2
    with store.reading() as session:
        assert session.get_one(Cursor, CURSOR).position == newest_sequence(session)


def test_after_a_full_scoring_by_hand_only_what_came_later_is_asked(
    store: Store, rescorer: Rescorer, promote: Promote, clock: FixedClock
) -> None:
    promote()
    with store.transaction() as transaction:
        scored, later = make_lead(transaction), make_lead(transaction)
    with store.transaction() as transaction:
        position = newest_sequence(transaction.session)
        note_full_scoring(transaction, "lead_scoring", as_of=transaction.now, position=position)
    clock.advance(timedelta(minutes=1))
    with store.transaction() as transaction:
        make_activity(transaction, lead_id=later.id)
    assert run_dry(rescorer) == 1
    assert predictions(store, "lead", scored.id) == []


class SlowSteps:
    """Stands for a rescorer that always finds something to do, and notes when."""

    idle = False
    breather = 0.0

    def __init__(self) -> None:
        self.took: list[tuple[float, float]] = []
        self.enough = threading.Event()

    def step(self) -> int:
        began = time.monotonic()
        time.sleep(0.03)
        self.took.append((began, time.monotonic()))
        if len(self.took) == 4:
            self.enough.set()
        return 1

    def beat(self, error: str | None = None) -> None: ...

    def leave(self) -> None: ...


def test_while_people_wait_the_thread_rests_as_long_as_it_worked() -> None:
    steps = SlowSteps()
    thread = RescoringThread(cast("Rescorer", steps), busy=lambda: True)
    thread.start()
    thread.wake()
    assert steps.enough.wait(60)
    thread.stop()

    for (began, ended), (next_began, _) in itertools.pairwise(steps.took):
        assert next_began - ended > 0.9 * min(ended - began, LONGEST_BREATH_SECONDS)
