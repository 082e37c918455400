"""On both databases each event is told once: by many followers, killed anywhere, committed late or not."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from crm_core.changes import Source
from crm_core.clock import FixedClock
from crm_core.jobs import Job
from crm_core.predictions import NewPrediction, write_predictions
from crm_core.promotions import Promotion
from crm_core.records import Account, Lead
from crm_core.store import Store, Transaction
from crm_core.webhook_events import EventFollower
from crm_core.webhooks import WEBHOOK, WebhookEndpoint, start
from tests.factories import make_account, make_lead, make_user
from tests.serving.both_databases import *  # noqa: F403  its fixtures

ROOT = Path(__file__).resolve().parents[2]
LEADS = 7


@pytest.fixture
def endpoint(store: Store) -> int:
    """An endpoint that asked for everything, of an administrator."""
    return add_endpoint(store)


def add_endpoint(store: Store) -> int:
    with store.transaction() as transaction:
        adam = make_user(transaction, "Adam", role="admin")
    with store.transaction() as transaction:
        made = WebhookEndpoint(
            name="all",
            url="https://example.com/",
            event_types=["*"],
            owner_id=adam.id,
            least_change=0.1,
            secret_salt="salt",
            secret_mark="mark",
            created_at=transaction.now,
        )
        start(transaction.session, made)
        transaction.session.add(made)
        transaction.session.flush()
        return made.id


def add_leads(store: Store, count: int = LEADS) -> list[int]:
    ids = []
    for _ in range(count):
        with store.transaction() as transaction:
            ids.append(make_lead(transaction).id)
    return ids


def events(store: Store, event_type: str) -> list[int]:
    """Return the ids of the records that were told of, one for each job."""
    with store.reading() as session:
        payloads = session.scalars(select(Job.payload).where(Job.kind == WEBHOOK).order_by(Job.id))
        contents = [payload["content"] for payload in payloads if payload["type"] == event_type]
    return [content["data"].get("record_id", 0) for content in contents]


def follow(store: Store) -> None:
    # Logs without sequences are looked at first and dealt with at the next call.
    follower = EventFollower(store, at_once=3)
    for _ in range(3):
        while follower.run_once():
            pass


@pytest.mark.parametrize(("checkpoint", "occurrence"), [("told", 2), ("moved", 1)])
def test_killed_between_effect_and_cursor(
    store: Store, endpoint: int, checkpoint: str, occurrence: int
) -> None:
    ids = add_leads(store)
    command = [sys.executable, "-m", "tests.serving.event_process", store.url, checkpoint, str(occurrence)]
    ended = subprocess.run(command, cwd=ROOT, timeout=60, check=False)
    assert ended.returncode == -signal.SIGKILL, f"the boundary {checkpoint} was never reached"
    follow(store)
    assert events(store, "lead.created") == ids


def test_followers_side_by_side_tell_each_event_once(store: Store, endpoint: int) -> None:
    ids = add_leads(store, 12)
    threads = [threading.Thread(target=follow, args=(store,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(events(store, "lead.created")) == ids


def predict(store: Store, account: int, probability: float) -> None:
    with store.transaction(source=Source.MODEL) as transaction:
        _predict(transaction, account, probability)


def _predict(transaction: Transaction, account: int, probability: float) -> None:
    new = NewPrediction(record_id=account, probability=probability, score=1, grade="B", reasons=[])
    write_predictions(
        transaction,
        task="churn",
        record_type="account",
        as_of=transaction.now,
        model_version="churn-1",
        horizon_days=90,
        predictions=[new],
    )


def test_scores_and_promotions_are_told_once(store: Store, endpoint: int, clock: FixedClock) -> None:
    with store.transaction() as transaction:
        account = make_account(transaction).id
    for probability in (0.1, 0.5, 0.55, 0.9):
        clock.advance(timedelta(minutes=1))
        predict(store, account, probability)
        follow(store)
    with store.transaction() as transaction:
        promotion = Promotion(
            task="churn",
            model_version="churn-2",
            sha256="0" * 64,
            run_id="r",
            promoted_at=transaction.now,
            reason="better",
        )
        transaction.session.add(promotion)
    follow(store)
    assert events(store, "prediction.changed") == [account, account]
    assert events(store, "model.promoted") == [0]


def test_a_score_that_is_committed_late_is_told_all_the_same(
    postgres_database: str, clock: FixedClock
) -> None:
    """Its id is smaller than that of one that was found before it could be seen."""
    store = Store(postgres_database, clock=clock)
    add_endpoint(store)
    with store.transaction() as transaction:
        early, late = make_account(transaction).id, make_account(transaction).id
    for account in (early, late):
        predict(store, account, 0.1)
    follow(store)
    clock.advance(timedelta(minutes=1))
    with store.transaction(source=Source.MODEL) as open_for_long:
        _predict(open_for_long, early, 0.9)
        predict(store, late, 0.9)
        follow(store)
        assert events(store, "prediction.changed") == []
    follow(store)
    assert sorted(events(store, "prediction.changed")) == [early, late]
    store.close()


def test_a_change_that_is_committed_late_is_told_all_the_same(
    postgres_database: str, clock: FixedClock
) -> None:
    store = Store(postgres_database, clock=clock)
    add_endpoint(store)
    with store.transaction() as open_for_long:
        early = make_lead(open_for_long).id
        (late,) = add_leads(store, 1)
        follow(store)
    follow(store)
    assert sorted(events(store, "lead.created")) == sorted([early, late])
    store.close()


def test_a_right_is_asked_of_the_database_for_records_of_every_type(store: Store, endpoint: int) -> None:
    with store.transaction() as transaction:
        account = make_account(transaction)
        lead = make_lead(transaction)
    follow(store)
    assert events(store, "account.created") == [account.id]
    with store.transaction() as transaction:
        transaction.delete(transaction.get(Account, account.id))
        transaction.update(transaction.get(Lead, lead.id), {"title": "Buyer"})
    follow(store)
    assert (events(store, "account.deleted"), events(store, "lead.updated")) == ([account.id], [lead.id])
