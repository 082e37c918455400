"""Alerts follow what models say: once each, through kills, several workers and late commits."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from crm_core.alerting import CURSOR
from crm_core.changes import Cursor
from crm_core.clock import FixedClock
from crm_core.jobs import Job
from crm_core.predictions import NewPrediction, write_predictions
from crm_core.records import User
from crm_core.store import Store, Transaction
from serving.alerting import ALERT_MAIL, Alerting
from tests.alerts.world import DAY, WORTH, alerts, in_threads, say
from tests.factories import make_account, make_deal
from tests.serving.both_databases import *  # noqa: F403  its fixtures

ROOT = Path(__file__).resolve().parents[2]


def make_customers(store: Store, people: dict[str, User], count: int) -> list[int]:
    with store.transaction() as transaction:
        return [make_account(transaction, owner_id=people["Ana"].id).id for _ in range(count)]


def mails(store: Store) -> list[tuple[int, int]]:
    """Return the mails asked for: to whom, about how many alerts."""
    with store.reading() as session:
        jobs = session.scalars(select(Job).where(Job.kind == ALERT_MAIL).order_by(Job.id))
        return [(job.payload["user_id"], len(job.payload["alert_ids"])) for job in jobs]


def test_what_is_said_is_followed_and_told_in_one_mail_each(
    store: Store, clock: FixedClock, people: dict[str, User]
) -> None:
    ids = make_customers(store, people, 3)
    alerting = Alerting(store, by_mail=True)
    alerting.run_until_done()
    assert alerts(store) == []

    for record_id in ids:
        say(store, record_id, 0.5)
    alerting.run_until_done()
    assert [alert.record_id for alert in alerts(store)] == ids
    assert sorted(mails(store)) == sorted([(people["Ana"].id, 3), (people["Mara"].id, 3)])

    clock.advance(timedelta(hours=1))
    for record_id in ids:
        say(store, record_id, 0.6)
    alerting.run_until_done()
    assert len(alerts(store)) == 3
    assert len(mails(store)) == 2


def test_the_first_look_finds_what_was_said_before(store: Store, people: dict[str, User]) -> None:
    for record_id in make_customers(store, people, 4):
        say(store, record_id, 0.5)
    Alerting(store, by_mail=True).run_until_done()
    assert len(alerts(store)) == 4
    assert {count for _, count in mails(store)} == {4}


def test_a_row_that_is_committed_late_is_not_missed(
    postgres_database: str, clock: FixedClock, people: dict[str, User], store: Store
) -> None:
    if store.engine.dialect.name != "postgresql":
        return  # one writer at a time: nothing is committed late
    early, late = make_customers(store, people, 2)
    alerting = Alerting(store)
    alerting.run_until_done()
    with store.transaction() as slow:
        say_in(slow, late, 0.5)
        say(store, early, 0.5)
        for _ in range(5):
            alerting.run_once()
        assert [alert.record_id for alert in alerts(store)] == [early]
    for _ in range(5):
        alerting.run_once()
    assert sorted(alert.record_id for alert in alerts(store)) == [early, late]


def say_in(transaction: Transaction, record_id: int, probability: float) -> None:
    new = NewPrediction(
        record_id=record_id, probability=probability, score=1, grade="D", reasons=[], yearly_value=WORTH
    )
    write_predictions(
        transaction,
        task="churn",
        record_type="account",
        as_of=transaction.now,
        model_version="1",
        horizon_days=90,
        predictions=[new],
    )


def test_two_who_follow_at_once_raise_and_tell_once(
    store: Store, clock: FixedClock, people: dict[str, User]
) -> None:
    ids = make_customers(store, people, 5)
    workers = [Alerting(store, by_mail=True) for _ in range(2)]
    for worker in workers:
        worker.run_until_done()
    for probability in (0.5, 0.1, 0.5):
        for record_id in ids:
            say(store, record_id, probability)
        run_together(workers)
        clock.advance(DAY)
    causes = Counter(alert.cause for alert in alerts(store))
    assert set(causes.values()) == {1}
    assert len(causes) == 10
    assert Counter(user for user, _ in mails(store)) == {people["Ana"].id: 2, people["Mara"].id: 2}


def run_together(workers: Sequence[Alerting]) -> None:
    waiting = list(workers)
    in_threads(len(waiting), lambda: waiting.pop().run_until_done())


@pytest.mark.parametrize(
    ("checkpoint", "occurrence"),
    [("looked", 1), ("worked out", 1), ("raising", 1), ("raised", 1), ("telling", 1), ("told", 1)],
)
def test_killed_anywhere_every_alert_is_raised_and_told_once(
    store: Store, clock: FixedClock, people: dict[str, User], checkpoint: str, occurrence: int
) -> None:
    for record_id in make_customers(store, people, 2):
        say(store, record_id, 0.5)
    with store.transaction() as transaction:
        deal_id = make_deal(transaction, owner_id=people["Ana"].id).id
    for probability in (0.9, 0.3):
        say(store, deal_id, probability, of="deal")
        clock.advance(timedelta(hours=1))
    command = [sys.executable, "-m", "tests.alerts.crash", store.url, clock.now().isoformat()]
    ended = subprocess.run([*command, checkpoint, str(occurrence)], cwd=ROOT, timeout=120, check=False)
    assert ended.returncode == -signal.SIGKILL, f"the boundary {checkpoint} was never reached"

    Alerting(store, by_mail=True).run_until_done()
    assert Counter(alert.kind for alert in alerts(store)) == {"churn_level": 2, "deal_fall": 1}
    assert sorted(mails(store)) == sorted([(people["Ana"].id, 3), (people["Mara"].id, 3)])


def test_a_restart_goes_on_from_its_place(store: Store, clock: FixedClock, people: dict[str, User]) -> None:
    (record_id,) = make_customers(store, people, 1)
    Alerting(store).run_until_done()
    say(store, record_id, 0.5)
    first = Alerting(store)
    first.run_until_done()
    clock.advance(timedelta(seconds=6))
    for _ in range(4):
        first.run_once()
    with store.reading() as session:
        assert session.get_one(Cursor, CURSOR).position == 1
