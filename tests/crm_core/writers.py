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
from multiprocessing.process import BaseProcess
from typing import Any

from crm_core.bulk import Update
from crm_core.records import Lead
from crm_core.store import Store

_FORKED = multiprocessing.get_context("forkserver")
"""Processes forked from one that has imported this module and nothing of the tests, threads least of all."""
_FORKED.set_forkserver_preload([__name__])


class Refused(Exception):  # noqa: N818  a signal of the tests, not an error of the program
    """Undoes a transaction."""


@contextmanager
def writers(work: Callable[..., None], arguments: Sequence[tuple[Any, ...]]) -> Iterator[list[BaseProcess]]:
    """Run `work` in a process for each of `arguments`, all beginning together; all must end well."""
    start = _FORKED.Barrier(len(arguments))
    processes = [_FORKED.Process(target=_begin, args=(start, work, each)) for each in arguments]
    for process in processes:
        process.start()
    try:
        yield list(processes)
        for process in processes:
            process.join()
        assert [process.exitcode for process in processes] == [0] * len(processes)
    finally:
        for process in processes:
            process.kill()


def _begin(start: Any, work: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    start.wait(60)
    work(*arguments)


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
