"""Scores on records beside what people write there: neither undoes the other, neither waits for ever."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, select, text, update

from crm_core.changes import Change, Source, newest_sequence
from crm_core.clock import FixedClock
from crm_core.predictions import (
    SCORED_TYPES,
    Prediction,
    columns_of,
    list_predictions,
    write_prediction_columns,
)
from crm_core.records import SCORE_COLUMNS, Activity, Lead
from crm_core.rescoring import Work
from crm_core.store import Store
from serving.champions import Champions
from serving.rescoring import Rescorer
from serving.rescoring_state import read_state
from tests.factories import make_account, make_activity, make_deal, make_lead, make_user
from tests.serving.both_databases import *  # noqa: F403  its fixtures
from tests.serving.crash import EVERY_BOUNDARY, counting, said_of
from tests.serving.hand_made import HandMadeModel, prediction
from tests.serving.test_rescoring import rising, run_dry

ROUNDS = 200 if EVERY_BOUNDARY else 30
Promote = Callable[..., HandMadeModel]


@pytest.fixture
def now(store: Store) -> Iterator[Store]:
    """The same store on the clock of the day."""
    opened = Store(store.engine.url.render_as_string(hide_password=False))
    yield opened
    opened.close()


def test_edits_and_scores_of_the_same_records_at_the_same_time_all_survive(
    now: Store, models: dict[str, HandMadeModel], promote: Promote
) -> None:
    promote(probability=rising())
    with now.transaction() as transaction:
        ids = [make_lead(transaction).id for _ in range(3)]
    rescorers = [Rescorer(now, Champions(now, lambda *_: models["lead_scoring-1"])) for _ in range(2)]
    run_dry(rescorers[0])
    ended, troubles = threading.Event(), []

    def score(rescorer: Rescorer) -> None:
        try:
            while not ended.is_set():
                rescorer.run_once()
            run_dry(rescorer)
        except Exception as error:
            troubles.append(error)
            raise

    scoring = [threading.Thread(target=score, args=(rescorer,)) for rescorer in rescorers]
    for thread in scoring:
        thread.start()
    for number in range(ROUNDS):
        with now.transaction() as transaction:
            for lead_id in reversed(ids):  # the other way round than those who score
                transaction.update(transaction.get(Lead, lead_id), {"title": f"edit {number}"})
    ended.set()
    for thread in scoring:
        thread.join()
    assert troubles == []
    with now.reading() as session:
        for lead in session.scalars(select(Lead)):
            assert (lead.title, lead.version) == (f"edit {ROUNDS - 1}", ROUNDS + 1)
            edits = select(func.count()).where(Change.record_id == lead.id, Change.field == "title")
            assert session.scalar(edits) == ROUNDS
            newest = list_predictions(session, "lead", lead.id)[0]
            assert (lead.probability, lead.scored_at) == (newest.probability, newest.as_of)
            last = session.scalar(select(func.max(Change.id)).where(Change.record_id == lead.id))
            assert newest.cause_change_id == last, "the last edit was answered"
        assert session.scalars(select(Work)).all() == []


def row(store: Store, record_type: str, record_id: int) -> dict[str, Any]:
    with store.reading() as session:
        table = SCORED_TYPES[record_type].__table__
        return dict(session.execute(select(table).where(table.c.id == record_id)).mappings().one())


def test_a_lot_and_somebody_who_edits_the_same_records_wait_for_each_other_and_not_in_a_circle(
    now: Store, promote: Promote
) -> None:
    if now.engine.dialect.name == "sqlite":
        pytest.skip("there one writes at a time")
    with now.transaction() as transaction:
        ids = [make_lead(transaction).id for _ in range(12)]
        transaction.create_many(Lead, [{"occurred_at": transaction.now}] * 2000)
    with now.transaction() as transaction:  # from now on the last one lies before all but the first
        transaction.session.execute(update(Lead).where(Lead.id.in_(ids[1:-1])).values(version=2))
        transaction.session.execute(text("ANALYZE leads"))
    columns = columns_of([prediction(lead_id, 0.5) for lead_id in ids], horizon_days=90)
    common: dict[str, Any] = {"task": "lead_scoring", "record_type": "lead", "model_version": "1"}

    def write() -> int:
        with now.transaction(source=Source.MODEL) as transaction:
            for way in ("nestloop", "mergejoin", "indexscan", "bitmapscan"):  # they are taken as they lie
                transaction.session.execute(text(f"SET LOCAL enable_{way} = off"))
            return write_prediction_columns(transaction, as_of=transaction.now, columns=columns, **common)

    with ThreadPoolExecutor(1) as pool:
        with now.transaction() as transaction:
            transaction.get(Lead, ids[1])
            lot = pool.submit(write)
            until_somebody_waits(now)
            transaction.update(transaction.get(Lead, ids[-1]), {"region": "north"})
        assert lot.result() == len(ids)
    with now.reading() as session:
        last = session.get_one(Lead, ids[-1])
        assert (last.region, last.probability) == ("north", 0.5)


def until_somebody_waits(store: Store) -> None:
    """Return once a transaction waits for another one's lock."""
    waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
    for _ in range(1000):
        with store.reading() as session:
            if session.scalar(waiting):
                return
        time.sleep(0.01)
    raise AssertionError("nobody waits")


def test_a_score_touches_no_column_but_its_own_and_leaves_no_change(
    store: Store, champions: Champions, promote: Promote, clock: FixedClock
) -> None:
    for task in ("lead_scoring", "win_probability", "churn"):
        promote(task, probability=rising())
    with store.transaction() as transaction:
        owner = make_user(transaction, "Ana")
        account = make_account(transaction, owner_id=owner.id, custom=None)
        kept = {
            "account": account.id,
            "lead": make_lead(transaction, owner_id=owner.id, account_id=account.id).id,
            "deal": make_deal(transaction, owner_id=owner.id, account_id=account.id, rep_probability=0.35).id,
        }
    before = {kind: row(store, kind, record_id) for kind, record_id in kept.items()}
    with store.reading() as session:
        log = newest_sequence(session), session.scalar(select(func.count(Change.id)))
    rescorer = Rescorer(store, champions)
    assert run_dry(rescorer) == 3
    clock.advance(timedelta(days=1))
    assert run_dry(rescorer) == 3
    for kind, record_id in kept.items():
        after = row(store, kind, record_id)
        changed = {name for name in after if after[name] != before[kind][name]}
        assert changed == SCORE_COLUMNS
    with store.reading() as session:
        assert (newest_sequence(session), session.scalar(select(func.count(Change.id)))) == log
    assert rescorer.run_once() == 0


def test_a_question_waits_for_those_who_still_write_so_that_it_can_be_asked_again(
    now: Store, promote: Promote
) -> None:
    promote()
    with now.transaction() as transaction:
        lead_id = make_lead(transaction).id
    rescorer = counting(now)
    run_dry(rescorer)
    with now.transaction() as transaction:
        make_activity(transaction, lead_id=lead_id)
    answering = threading.Thread(target=run_dry, args=(rescorer,))
    with now.transaction() as transaction:
        transaction.create(Activity(kind="call", lead_id=lead_id))  # without a lock on the lead
        answering.start()
        while (
            answering.is_alive() and now.engine.dialect.name == "postgresql" and not read_state(now).at_work
        ):
            time.sleep(0.01)
        answering.join(0.5)
    answering.join()
    run_dry(rescorer)
    with now.reading() as session:
        for each in session.scalars(select(Prediction)):
            again = counting_at(now, each)
            assert each.probability == again, "what was known then, read now"


def counting_at(store: Store, prediction: Prediction) -> float:
    """What the counting model says now of what was known then."""
    with store.reading() as session:
        known = select(func.count()).where(
            Activity.lead_id == prediction.record_id, Activity.recorded_at <= prediction.as_of
        )
        return said_of(session.scalar(known) or 0)
