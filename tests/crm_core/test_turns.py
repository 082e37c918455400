"""Threads that write to one store are served in the order in which they came."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import select

from crm_core.clock import FixedClock
from crm_core.errors import StoreBusyError
from crm_core.records import Team
from crm_core.store import Store
from crm_core.turns import Turns
from tests.factories import make_team


@pytest.fixture
def store(home: Path, empty_database: Path, clock: FixedClock) -> Iterator[Store]:
    """SQLite alone: PostgreSQL has queues of its own."""
    shutil.copy(empty_database, home / "crm.db")
    opened = Store(f"sqlite:///{home / 'crm.db'}", clock=clock)
    yield opened
    opened.close()


def queue_up(turns: Turns, work: list[Callable[[], None]]) -> list[threading.Thread]:
    """Start threads one after the other, each once all before it wait for their turn."""
    threads = []
    for already, task in enumerate(work):
        threads.append(threading.Thread(target=task))
        threads[-1].start()
        while turns.waiting <= already:
            time.sleep(0.001)
    return threads


def test_who_writes_is_served_in_the_order_of_asking(store: Store) -> None:
    def write(name: str) -> None:
        with store.transaction() as transaction:
            make_team(transaction, name=name)

    names = [f"Team {number}" for number in range(12)]
    with store.transaction():
        threads = queue_up(store.turns, [partial(write, name) for name in names])
    for thread in threads:
        thread.join()

    with store.reading() as session:
        assert list(session.scalars(select(Team.name).order_by(Team.id))) == names


def test_a_rehearsal_waits_for_its_turn_too(store: Store) -> None:
    seen: list[int] = []

    def rehearse() -> None:
        with store.rehearsal() as rehearsal, rehearsal.transaction() as transaction:
            seen.extend(transaction.session.scalars(select(Team.id)))

    with store.transaction() as transaction:
        (thread,) = queue_up(store.turns, [rehearse])
        team = make_team(transaction)
    thread.join()
    assert seen == [team.id]


def test_a_write_that_fails_hands_its_turn_on(store: Store) -> None:
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), store.transaction():
            raise ZeroDivisionError
    with store.transaction() as transaction:
        make_team(transaction)
    assert store.turns.waiting == 0


def test_who_waits_for_one_turn_that_does_not_end_is_refused_and_leaves_the_queue() -> None:
    turns = Turns(patience=0.01)
    with turns.turn():
        with pytest.raises(StoreBusyError, match=r"kept all others waiting for 0\.01 s"), turns.turn():
            pass
        assert turns.waiting == 0
    with turns.turn():
        pass


def test_readers_wait_for_nobody(store: Store) -> None:
    with store.transaction() as transaction, store.reading() as session:
        make_team(transaction)
        assert session.scalars(select(Team.id)).all() == []
