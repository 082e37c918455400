"""Killed at any boundary of write-back and started again: every prediction once, every record up to date."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, select

from crm_core.changes import Cursor, newest_sequence
from crm_core.clock import FixedClock
from crm_core.predictions import Prediction, list_predictions
from crm_core.records import Lead
from crm_core.store import Store
from serving.champions import Champions
from serving.rescoring import CURSOR, SWEEP, Rescorer
from tests.factories import make_activity, make_lead
from tests.serving.both_databases import *  # noqa: F403  its fixtures
from tests.serving.crash import RECORDS_AT_ONCE
from tests.serving.hand_made import HandMadeModel

ROOT = Path(__file__).resolve().parents[2]
LEADS = 5

FOLLOWING = [
    ("begun", 1),
    ("scored", 1),
    ("writing", 1),
    ("written", 1),
    ("writing", 3),
    ("moving", 1),
    ("moved", 1),
]
SWEEPING = [("sweep begun", 1), ("writing", 1), ("written", 2), ("sweep moved", 3)]


def run_and_kill(store: Store, clock: FixedClock, checkpoint: str, occurrence: int) -> None:
    """Run re-scoring in a process of its own until it is killed there."""
    command = [sys.executable, "-m", "tests.serving.crash", store.url, clock.now().isoformat()]
    ended = subprocess.run([*command, checkpoint, str(occurrence)], cwd=ROOT, timeout=60, check=False)
    assert ended.returncode == -signal.SIGKILL, f"the boundary {checkpoint} was never reached"


def run_again(store: Store, champions: Champions) -> None:
    rescorer = Rescorer(store, champions, records_at_once=RECORDS_AT_ONCE)
    while rescorer.run_once():
        pass


def check_every_lead_has(store: Store, count: int) -> None:
    """Every lead has exactly `count` predictions and shows its newest; nothing is left to do."""
    with store.reading() as session:
        for lead in session.scalars(select(Lead)):
            predictions = list_predictions(session, "lead", lead.id)
            assert len(predictions) == count
            newest = predictions[0]
            shown = (lead.probability, lead.scored_at, lead.model_version, lead.reasons)
            assert shown == (newest.probability, newest.as_of, newest.model_version, newest.reasons)
        cursor = session.get_one(Cursor, CURSOR)
        assert (cursor.position, cursor.batch_until) == (newest_sequence(session), None)
        assert session.get_one(Cursor, SWEEP + "lead_scoring").batch_until is None


@pytest.mark.parametrize(("checkpoint", "occurrence"), FOLLOWING)
def test_killed_while_following_changes(
    store: Store,
    clock: FixedClock,
    champions: Champions,
    promote: Callable[..., HandMadeModel],
    checkpoint: str,
    occurrence: int,
) -> None:
    promote()
    with store.transaction() as transaction:
        ids = [make_lead(transaction).id for _ in range(LEADS)]
    run_again(store, champions)
    clock.advance(timedelta(minutes=5))
    with store.transaction() as transaction:
        for lead_id in ids:
            make_activity(transaction, lead_id=lead_id)
    run_and_kill(store, clock, checkpoint, occurrence)
    clock.advance(timedelta(minutes=5))
    run_again(store, champions)
    check_every_lead_has(store, 2)
    with store.reading() as session:
        asked_from = session.scalar(select(func.count(Prediction.as_of.distinct())))
    assert asked_from == 2, "the batch was asked from one instant, before and after the kill"


@pytest.mark.parametrize(("checkpoint", "occurrence"), SWEEPING)
def test_killed_while_sweeping(
    store: Store,
    clock: FixedClock,
    champions: Champions,
    promote: Callable[..., HandMadeModel],
    checkpoint: str,
    occurrence: int,
) -> None:
    promote()
    with store.transaction() as transaction:
        for _ in range(LEADS):
            make_lead(transaction)
    run_and_kill(store, clock, checkpoint, occurrence)
    clock.advance(timedelta(minutes=5))
    run_again(store, champions)
    check_every_lead_has(store, 1)
