"""The operation log as the service writes it: what matters at once, reads together, a second later at most.

A login, a key and a handed out person are written before they are answered. That a record was read waits in
memory, so that reading does not mean writing: `crm serve` writes it every second and when it stops; without
that thread the next request after a second does. A process that is killed loses that second.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from datetime import datetime, timedelta

from flask import Response, g, has_request_context, request
from sqlalchemy import event

from crm_core.operations import Done, Operation, Origin, Via, forget_operations, write_operations
from crm_core.records import Contact, Lead, Record, User
from crm_core.store import Store
from crm_core.tokens import note_use
from serving.logs import get_log

FLUSHED_EVERY = 1.0
"""Seconds for which reads may wait."""

PEOPLE = frozenset({"lead", "contact"})
"""Record types whose records stand for people."""

_MOST_WAITING = 1_000
_PURGED_EVERY = 3600.0

COMMAND = Origin(via=Via.COMMAND)
"""Somebody at the command line, whom nobody asked for a password."""

_log = get_log("serving.journal")


class Journal:
    """What is to be written down."""

    def __init__(self, store: Store, *, kept_days: int) -> None:
        self._store = store
        self._kept = timedelta(days=kept_days)
        self._guard = threading.Lock()
        self._waiting: list[Operation] = []
        self._used: dict[int, datetime] = {}
        self._flushed = time.monotonic()
        self._purged = -_PURGED_EVERY
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()

    def write(self, operation: Operation) -> None:
        """Write something down now."""
        with self._store.transaction() as transaction:
            write_operations(transaction.session, [operation])

    def note(self, operations: Iterable[Operation]) -> None:
        """Have something written down soon."""
        with self._guard:
            self._waiting.extend(operations)
        self._flush_if_due()

    def note_use(self, token_id: int, now: datetime) -> None:
        """Have it written down soon that a key was used."""
        with self._guard:
            self._used[token_id] = now
        self._flush_if_due()

    def flush(self) -> None:
        """Write down what waits; what cannot be written waits on."""
        with self._guard:
            waiting, self._waiting = self._waiting, []
            used, self._used = self._used, {}
            self._flushed = time.monotonic()
        if not waiting and not used:
            return
        try:
            self._write(waiting, used)
        except Exception:
            with self._guard:
                self._waiting = waiting + self._waiting
                self._used = used | self._used
            raise

    def start(self) -> None:
        """Write from a thread of its own from now on."""
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._thread.start()

    def stop(self, timeout: float = 10.0) -> None:
        """End the thread and write down what waits."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(timeout)
        self.flush()

    def _run(self) -> None:
        while not self._stopping.wait(FLUSHED_EVERY):
            self._try_to_flush()

    def _flush_if_due(self) -> None:
        late = time.monotonic() - self._flushed >= FLUSHED_EVERY
        if len(self._waiting) >= _MOST_WAITING or (self._thread is None and late):
            self._try_to_flush()

    def _try_to_flush(self) -> None:
        try:
            self.flush()
        except Exception as error:  # noqa: BLE001  a request or thread must not die of it: it is tried again
            _log.error("the operation log waits", error=type(error).__name__, exc_info=error)

    def _write(self, waiting: list[Operation], used: dict[int, datetime]) -> None:
        purge = time.monotonic() - self._purged >= _PURGED_EVERY
        with self._store.transaction() as transaction:
            write_operations(transaction.session, waiting)
            for token_id, now in used.items():
                note_use(transaction.session, token_id, now=now)
            if purge:
                forget_operations(transaction.session, before=transaction.now - self._kept)
        if purge:
            self._purged = time.monotonic()


def origin_of_request(user: User | None = None) -> Origin:
    """Return who asks, which way, with which key, and from where."""
    user = user or g.get("caller")
    holder = g.get("key_holder")
    return Origin(
        via=Via.API if holder is not None else Via.PAGE,
        user_id=None if user is None else user.id,
        token_id=None if holder is None else holder.token_id,
        address=request.remote_addr,
    )


def note_people(record_type: str, ids: Iterable[int]) -> None:
    """Remember that the answer at hand tells of leads or contacts; loading these is remembered by itself."""
    if has_request_context():
        g.setdefault("people_told", {}).setdefault(record_type, set()).update(ids)


def people_told(response: Response, now: datetime) -> list[Operation]:
    """Return what the request at hand has read about people, if it was answered."""
    told: dict[str, set[int]] = g.get("people_told" if _only_reads() else "people_unchanged", {})
    if not told or response.status_code >= 300:
        return []
    if g.get("caller") is None:
        return []
    one = any(isinstance(value, int) for value in (request.view_args or {}).values())
    done = Done.READ if one else Done.LISTED
    origin = origin_of_request()
    return [
        Operation(at=now, done=done, origin=origin, record_type=kind, ids=tuple(ids))
        for kind, ids in told.items()
    ]


def note_unchanged(record: Record) -> None:
    """Remember that a write changed nothing of a record: all that came of it is that it was read."""
    if has_request_context() and record.record_type in PEOPLE:
        g.setdefault("people_unchanged", {}).setdefault(record.record_type, set()).add(record.id)


def _only_reads() -> bool:
    """Tell whether the request at hand changes no record: what is changed is in the change log."""
    return request.method in {"GET", "HEAD"} or g.get("only_scores", False)


@event.listens_for(Lead, "load")
@event.listens_for(Contact, "load")
def _loaded(record: Record, _context: object) -> None:
    if has_request_context():
        note_people(record.record_type, (record.id,))
