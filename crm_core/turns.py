"""Turns: threads of one process that want the same thing get it in the order in which they asked."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from crm_core.errors import StoreBusyError
from crm_core.phrases import Phrase


class Turns:
    """A lock that is handed to whoever has waited longest.

    SQLite has one writer at a time and lets the others ask again and again, each after a pause that grows:
    who came last asks most often, and a thread that is unlucky, or that the interpreter's own lock keeps
    from asking, can come away with nothing in half a minute. Threads that queue here wait for those before
    them and for nobody else. Other processes still have to ask SQLite.
    """

    def __init__(self, *, patience: float) -> None:
        self._patience = patience
        self._guard = threading.Lock()
        self._queue: deque[threading.Lock] = deque()
        self._taken = False
        self._given = 0

    @property
    def waiting(self) -> int:
        """How many threads are in the queue."""
        return len(self._queue)

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for a turn and keep it until the block ends.

        Raises StoreBusyError if one thread keeps its turn for longer than the patience in seconds; a queue
        that moves is waited for however long it is.
        """
        self._take()
        try:
            yield
        finally:
            self._hand_on()

    def _take(self) -> None:
        with self._guard:
            if not self._taken:
                self._taken = True
                return
            ticket = threading.Lock()
            ticket.acquire()
            self._queue.append(ticket)
            given = self._given
        try:
            while not ticket.acquire(timeout=self._patience):
                given = self._still_moving(given)
        except BaseException:  # an interrupt too: a turn must never go to somebody who is gone
            self._leave(ticket)
            raise

    def _still_moving(self, given: int) -> int:
        """Return how many turns were handed on so far; raise if it is still `given`."""
        if self._given == given:
            raise StoreBusyError(
                Phrase("one write has kept all others waiting for {patience:g} s", patience=self._patience)
            )
        return self._given

    def _leave(self, ticket: threading.Lock) -> None:
        with self._guard:
            if ticket in self._queue:
                self._queue.remove(ticket)
                return
        self._hand_on()

    def _hand_on(self) -> None:
        with self._guard:
            if self._queue:
                self._given += 1
                self._queue.popleft().release()
            else:
                self._taken = False
