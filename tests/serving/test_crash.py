"""Killed at any statement and started again: no answer is lost, none is there twice, records show the newest.

By default a few boundaries of each kind are tried; with EVERY_BOUNDARY=1 in the environment, all of them.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, text

from crm_core.changes import Change, Cursor, newest_sequence
from crm_core.clock import FixedClock
from crm_core.predictions import Prediction, list_predictions
from crm_core.records import Activity, Lead
from crm_core.rescoring import Lot, Sweep, Work
from crm_core.store import Store
from serving.rescoring import CURSOR
from tests.factories import make_activity, make_lead
from tests.serving.both_databases import *  # noqa: F403  its fixtures
from tests.serving.crash import EVERY_BOUNDARY, counting, said_of
from tests.serving.hand_made import HandMadeModel

ROOT = Path(__file__).resolve().parents[2]
LEADS = 5
TRIED = 6

pytestmark = pytest.mark.timeout(1800 if EVERY_BOUNDARY else 120)
ROUNDS = 20 if EVERY_BOUNDARY else 3

Run = Callable[..., list[dict[str, Any]]]


@pytest.fixture(scope="module")
def processes() -> Iterator[subprocess.Popen[str]]:
    """A process that forks those that are to be killed."""
    command = [sys.executable, "-m", "tests.serving.crash"]
    with subprocess.Popen(
        command, cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


@pytest.fixture
def run(processes: subprocess.Popen[str], store: Store) -> Run:
    """Run re-scoring in processes of their own, until each is done or killed at a boundary."""

    def run_it(*boundaries: int | None, now: str | None = None) -> list[dict[str, Any]]:
        assert processes.stdin is not None
        assert processes.stdout is not None
        url = store.engine.url.render_as_string(hide_password=False)
        processes.stdin.write(json.dumps({"url": url, "now": now, "boundaries": boundaries}) + "\n")
        processes.stdin.flush()
        ended: list[dict[str, Any]] = json.loads(processes.stdout.readline())
        return ended

    return run_it


def wait_until_alone(store: Store) -> None:
    """Wait until PostgreSQL has noticed that a process is gone."""
    if store.engine.dialect.name != "postgresql":
        return
    others = text(
        "SELECT count(*) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid() AND state <> 'idle'"
    )
    for _ in range(500):
        with store.reading() as session:
            if not session.scalar(others):
                return
        time.sleep(0.01)
    pytest.fail("PostgreSQL still runs a transaction of a process that is gone")


def run_again(store: Store) -> None:
    wait_until_alone(store)
    rescorer = counting(store)
    rescorer.beat()
    while rescorer.run_once():
        pass
    rescorer.leave()


def check_leads(store: Store) -> None:
    """Every lead shows its newest prediction, which knows all; nothing is left to do."""
    with store.reading() as session:
        logged = Counter(session.scalars(select(Activity.lead_id)))
        for lead in session.scalars(select(Lead)):
            predictions = list_predictions(session, "lead", lead.id, limit=10_000)
            newest = predictions[0]
            shown = (lead.probability, lead.scored_at, lead.model_version, lead.reasons)
            assert shown == (newest.probability, newest.as_of, newest.model_version, newest.reasons)
            assert lead.probability == said_of(logged[lead.id]), "nothing is lost"
            assert newest.recorded_at == max(each.recorded_at for each in predictions)
        assert session.get_one(Cursor, CURSOR).position == newest_sequence(session)
        assert session.scalars(select(Work)).all() == []
        assert session.scalars(select(Lot)).all() == []
        assert session.get_one(Sweep, "lead_scoring").ended_at is not None


def said(store: Store) -> dict[int, list[float | None]]:
    """What was said of each lead, in the order of being asked."""
    with store.reading() as session:
        found: dict[int, list[float | None]] = {}
        for each in session.scalars(select(Prediction).order_by(Prediction.as_of)):
            found.setdefault(each.record_id, []).append(each.probability)
        return found


def boundaries(count: int) -> list[int]:
    """Return the boundaries to try: all, or some drawn once and for all."""
    every = range(1, count + 1)
    return list(every) if EVERY_BOUNDARY else sorted(random.Random(6).sample(every, min(TRIED, count)))


@pytest.fixture
def leads(store: Store, promote: Callable[..., HandMadeModel]) -> list[int]:
    """Leads that were scored once."""
    promote()
    with store.transaction() as transaction:
        ids = [make_lead(transaction).id for _ in range(LEADS)]
    run_again(store)
    return ids


def test_killed_at_any_statement_of_following_changes(
    store: Store, clock: FixedClock, leads: list[int], run: Run
) -> None:
    def change() -> None:
        clock.advance(timedelta(seconds=40))
        with store.transaction() as transaction:
            for lead_id in leads:
                make_activity(transaction, lead_id=lead_id)

    change()
    count = run(None, now=clock.now().isoformat())[0]["passed"]
    rounds = boundaries(count)
    for boundary in rounds:
        change()
        assert run(boundary, now=clock.now().isoformat())[0]["killed"], (
            f"boundary {boundary} of {count} was not reached"
        )
        clock.advance(timedelta(seconds=40))
        run_again(store)
        check_leads(store)
    expected = [said_of(known) for known in range(len(rounds) + 2)]
    assert said(store) == dict.fromkeys(leads, expected), "every change is answered once"


def test_killed_at_any_statement_of_a_sweep(
    store: Store, clock: FixedClock, leads: list[int], run: Run
) -> None:
    clock.advance(timedelta(days=1))
    count = run(None, now=clock.now().isoformat())[0]["passed"]
    rounds = boundaries(count)
    for boundary in rounds:
        clock.advance(timedelta(days=1))
        assert run(boundary, now=clock.now().isoformat())[0]["killed"], (
            f"boundary {boundary} of {count} was not reached"
        )
        clock.advance(timedelta(seconds=40))
        run_again(store)
        check_leads(store)
    with store.reading() as session:
        asked = session.execute(select(Prediction.record_id, func.count()).group_by(Prediction.record_id))
        assert {row[0]: row[1] for row in asked} == dict.fromkeys(leads, len(rounds) + 2)


def test_two_workers_killed_again_and_again_while_people_write(
    store: Store, leads: list[int], run: Run
) -> None:
    rounds, drawn = ROUNDS, random.Random(7)
    now = Store(store.engine.url.render_as_string(hide_password=False))  # on the clock of the day
    run_again(now)
    count = run(None)[0]["passed"] + 60
    for _ in range(rounds):
        writers = [threading.Thread(target=write, args=(now, leads, drawn.random())) for _ in range(2)]
        for writer in writers:
            writer.start()
        while any(writer.is_alive() for writer in writers):
            run(drawn.randint(1, count), drawn.randint(1, count))
        for writer in writers:
            writer.join()
    run_again(now)
    check_leads(now)
    for answers in said(now).values():
        known = [each for each in answers[2:] if each is not None]  # after the sweeps
        assert known == sorted(set(known)), "nothing is said twice"
    with now.reading() as session:
        edits = session.scalars(select(Change.record_id).where(Change.field == "title")).all()
        versions = dict.fromkeys(leads, 1) | {one: times + 1 for one, times in Counter(edits).items()}
        assert {lead.id: lead.version for lead in session.scalars(select(Lead))} == versions
    now.close()


def write(store: Store, leads: list[int], seed: float) -> None:
    """Log calls and edit leads, one after another and in any order."""
    drawn = random.Random(seed)
    for number in range(15):
        some = drawn.sample(leads, 2)
        with store.transaction() as transaction:
            for lead_id in sorted(some, reverse=True):  # the other way round than those who score
                if drawn.random() < 0.5:
                    make_activity(transaction, lead_id=lead_id)
                else:
                    lead = transaction.get(Lead, lead_id)
                    transaction.update(lead, {"title": f"{seed} {number}"})
        time.sleep(drawn.random() / 50)
