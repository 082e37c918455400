"""Writers in processes of their own: threads would only take turns at the interpreter's lock.

What runs there is named by function and must be importable without much: a test module would bring pytest
and its fixtures along.
"""

from __future__ import annotations

import multiprocessing
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from sqlalchemy import select

from crm_core.bulk import Update
from crm_core.errors import StaleRecordError
from crm_core.records import Lead
from crm_core.store import Store

_FORKED = multiprocessing.get_context("forkserver")
"""Processes forked from one that has imported this module and nothing of the tests, threads least of all."""
_FORKED.set_forkserver_preload([__name__])


class Refused(Exception):  # noqa: N818  a signal of the tests, not an error of the program
    """Undoes a transaction."""


class Crew:
    """Processes at work."""

    def __init__(self, work: Callable[..., Any], arguments: Sequence[tuple[Any, ...]]) -> None:
        # Kept here: one that nobody holds is gone before a process on a busy machine has opened it.
        self._start = _FORKED.Barrier(len(arguments))
        self._answers = _FORKED.SimpleQueue()
        given = [(self._start, self._answers, work, each) for each in arguments]
        self.processes = [_FORKED.Process(target=_begin, args=each) for each in given]
        for process in self.processes:
            process.start()

    def at_work(self) -> bool:
        """Say whether any of them is still at it."""
        return any(process.is_alive() for process in self.processes)

    def join(self) -> list[Any]:
        """Return what they answered, in the order of their being done, once all have ended well."""
        for process in self.processes:
            process.join()
        assert [process.exitcode for process in self.processes] == [0] * len(self.processes)
        return [self._answers.get() for _ in self.processes]


@contextmanager
def writers(work: Callable[..., Any], arguments: Sequence[tuple[Any, ...]]) -> Iterator[Crew]:
    """Run `work` in a process for each of `arguments`, all beginning together; none outlives the block."""
    crew = Crew(work, arguments)
    try:
        yield crew
    finally:
        for process in crew.processes:
            process.kill()


def _begin(start: Any, answers: Any, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    start.wait(60)
    answers.put(work(*arguments))


def edit_leads(url: str, seed: int, ids: list[int], rows: int) -> None:
    """Leave `rows` change rows in small transactions that commit late and, one in twenty, not at all."""
    store, chance, left = Store(url), random.Random(seed), rows
    while left:
        size = min(left, chance.randint(1, len(ids)))
        with suppress(Refused), store.transaction() as transaction:
            updates = [Update(record_id=each, values={"employees": left}) for each in ids[:size]]
            written = sum(transaction.update_many(Lead, updates))
            assert written == size
            time.sleep(chance.random() * 0.004)
            if chance.random() < 0.05:
                raise Refused
            left -= size
    store.close()


def count_up(url: str, seed: int, ids: list[int], edits: int) -> int:
    """Raise a counter of one of some leads by one, `edits` times, each on the version that was seen before.

    Returns how often somebody else had been there in between; then it is tried again on what they left.
    """
    store, chance, refused = Store(url), random.Random(seed), 0
    for _ in range(edits):
        lead_id = chance.choice(ids)
        with store.reading() as session:
            version = session.scalars(select(Lead.version).where(Lead.id == lead_id)).one()
        while (found := _count_up_once(store, lead_id, version)) != version:
            version, refused = found, refused + 1
    store.close()
    return refused


def _count_up_once(store: Store, lead_id: int, version: int) -> int:
    """Return the version that the edit was made on, or the one that stands in its way."""
    try:
        with store.transaction() as transaction:
            lead = transaction.get(Lead, lead_id, version=version)
            transaction.update(lead, {"employees": (lead.employees or 0) + 1})
    except StaleRecordError as error:
        return error.found
    return version
