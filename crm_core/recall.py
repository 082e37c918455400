"""What is asked with every request and seldom changes, kept until it is written: rights, keys, declarations.

The contract: what this process writes is seen at once, by all its stores of the same database; what another
process writes is seen within FRESH_SECONDS. A transaction that writes any of it sees its own writes, and so
reads for itself from then on; all is forgotten when it has committed. What is written all day long, listed in
BUSY, is never kept, so that writing it lets everything else be recalled.

Each transaction of a store that writes what may be recalled counts itself, in the one row of RecalledWrites:
who finds the count as it was knows with one statement that all that is kept still stands, however long ago
it was read. Who may not be told of: a hand that writes to the database past every store. What it wrote is
seen when everything is read anew, after LONGEST_SECONDS.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import lru_cache
from math import inf
from typing import Any, Final, TypeVar
from weakref import WeakValueDictionary

from sqlalchemy import BigInteger, Connection, Engine, Integer, event, select, text
from sqlalchemy.orm import Mapped, Session, mapped_column

from crm_core.clock import ticks
from crm_core.records.base import Base

T = TypeVar("T")

FRESH_SECONDS: Final = 1.0
"""For how long something may be recalled that another process has changed meanwhile."""

LONGEST_SECONDS: Final = 300.0
"""For how long anything is kept at all."""

_MOST: Final = 10_000
"""Things that are kept; beyond, all are forgotten."""

BUSY: Final = frozenset(
    {"accounts", "activities", "alerts", "alert_actions", "attachments", "campaign_members", "changes"}
    | {"automation_runs", "automation_turns"}
    | {
        "comments",
        "contacts",
        "contracts",
        "cursors",
        "deals",
        "imports",
        "jobs",
        "kept_answers",
        "leads",
        "lines",
        "notifications",
    }
    | {
        "operations",
        "orders",
        "payments",
        "predictions",
        "predictions_to_write",
        "queue_turns",
        "quotes",
        "rescoring_lots",
        "rescoring_sweeps",
    }
    | {"rescoring_work", "rescoring_workers", "search_fresh", "search_postings", "search_segments"}
    | {"shadow_predictions", "tags", "ticket_clocks", "tickets"}
    | {"connection_marks", "connection_told", "day_plans", "form_submissions", "intake_items"}
    | {"kept_forecasts", "login_failures", "login_sessions", "mailboxes", "messages", "number_series"}
    | {"sequence_runs", "stage_ticks"}
)
"""Tables of which nothing is kept; a table that is not named here may be recalled."""

_KEY: Final = "recall"
_READS: Final = re.compile(
    r"\s*(SELECT|PRAGMA|BEGIN|CREATE\s+TEMPORARY|SAVEPOINT|RELEASE|LOCK|SET)\b", re.IGNORECASE
)
_TARGET: Final = re.compile(
    r'\b(?:INSERT(?:\s+OR\s+\w+)?\s+INTO|UPDATE|DELETE\s+FROM|COPY)\s+"?(\w+)', re.IGNORECASE
)


class RecalledWrites(Base):
    """How many transactions have written what may be recalled, in one row; none before the first."""

    __tablename__ = "recalled_writes"

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    writes: Mapped[int] = mapped_column(BigInteger)


WRITES: Final = select(RecalledWrites.writes).scalar_subquery()
"""The count, to be read along with something else and handed to `compare_writes`; None is zero."""

_COUNT: Final = text(
    "INSERT INTO recalled_writes (id, writes) VALUES (1, 1)"
    " ON CONFLICT (id) DO UPDATE SET writes = recalled_writes.writes + 1"
)


class _Kept:
    """What was read at one count of writes, or later: the count is then found to be another one."""

    def __init__(self) -> None:
        self.things: dict[Hashable, Any] = {}
        self.began = ticks()
        self.writes: int | None = None
        self.held_at = -inf  # when the count was this one
        self.known_at = inf  # who begins after that reads nothing older

    def is_old(self) -> bool:
        """Tell whether it is time to read everything anew."""
        return ticks() - self.began >= LONGEST_SECONDS

    def stands_for(self, began: float) -> bool:
        """Tell whether it need not be asked whether this stands for who began then."""
        return began >= self.known_at and ticks() - self.held_at < FRESH_SECONDS


class Recall:
    """What was read of one database, by name."""

    def __init__(self) -> None:
        self.kept = _Kept()
        self._lock = threading.Lock()

    def forget(self) -> None:
        """Forget everything: something was written."""
        with self._lock:
            self.kept = _Kept()

    def compare(self, known: _Kept, writes: int, began: float) -> _Kept | None:
        """Return what stands at a count that was read after `began`; None if others know of later writes."""
        with self._lock:
            kept = self.kept
            if known is not kept or (began < kept.known_at and writes < (kept.writes or 0)):
                return None
            if kept.writes not in {None, writes} or kept.is_old():
                kept = self.kept = _Kept()
            kept.writes = writes
            kept.held_at = max(kept.held_at, began)
            kept.known_at = min(kept.known_at, ticks())
            return kept


_BY_URL: WeakValueDictionary[str, Recall] = WeakValueDictionary()
_GUARD = threading.Lock()


def recall_of(url: str) -> Recall:
    """Return what all stores of a database in this process share; a database in memory is one store's own."""
    if url.startswith("sqlite") and (":memory:" in url or url.rstrip("/").endswith(":")):
        return Recall()
    with _GUARD:
        found = _BY_URL.get(url)
        if found is None:
            found = _BY_URL[url] = Recall()
        return found


@dataclass
class Writing:
    """A transaction that may write; `touched` once it wrote something that may be recalled."""

    touched: bool = False


class _Recalling:
    """What a session may recall."""

    def __init__(self, recall: Recall, writing: Writing | None) -> None:
        self.writing = writing
        self._recall = recall
        self._kept = recall.kept
        self._began = ticks()
        self._compared_at = -inf

    def things(self, session: Session) -> dict[Hashable, Any] | None:
        """Return what is kept if the session would read just that; None if it reads for itself."""
        if self._may(session) and (self._stands() or self.compare(session.scalar(_READ_WRITES))):
            return self._kept.things
        return None

    def compare(self, writes: int | None) -> bool:
        """Take what the session found the count to be; tell whether it may recall then."""
        began = ticks() if self.writing is not None else self._began
        kept = self._recall.compare(self._kept, writes or 0, began)
        if kept is not None:
            self._kept, self._compared_at = kept, ticks()
        return kept is not None

    def _may(self, session: Session) -> bool:
        """Tell whether nothing was written since the session began, nor by itself."""
        if self._kept is not self._recall.kept:
            return False
        if self.writing is None:
            return True
        pending = (*session.new, *session.dirty, *session.deleted)
        return not self.writing.touched and all(map(_is_busy, pending))

    def _stands(self) -> bool:
        if self.writing is None and self._compared_at > -inf:
            return True  # it goes on seeing the state of then
        return ticks() - self._compared_at < FRESH_SECONDS or self._kept.stands_for(self._began)


_READ_WRITES: Final = select(WRITES)


def _is_busy(row: object) -> bool:
    return getattr(row, "__tablename__", "") in BUSY


def watch_writes(engine: Engine) -> None:
    """Notice what is written through an engine by transactions that `let_recall` knows."""
    event.listen(engine, "before_cursor_execute", _note_write)


def let_recall(session: Session, recall: Recall) -> None:
    """Let a session that only reads recall."""
    session.info[_KEY] = _Recalling(recall, None)


def let_recall_while_writing(session: Session, recall: Recall) -> Writing:
    """Let a session in a transaction recall until it writes something that may be recalled."""
    writing = Writing()
    session.info[_KEY] = _Recalling(recall, writing)
    session.connection().info[_KEY] = writing  # a later transaction on the connection puts its own there
    return writing


def count_writes(session: Session, writing: Writing) -> None:
    """Have other processes see that a transaction, which is about to end, wrote what may be recalled."""
    if not session.in_transaction():  # it was undone, and writes nothing
        return
    session.flush()
    if writing.touched:
        session.execute(_COUNT)


def compare_writes(session: Session, writes: int | None) -> None:
    """Tell what a session found WRITES to be, so that nobody need ask for them."""
    known: _Recalling | None = session.info.get(_KEY)
    if known is not None:
        known.compare(writes)


def only_reads(session: Session) -> bool:
    """Tell whether a session is one that sees one state throughout and writes nothing."""
    known: _Recalling | None = session.info.get(_KEY)
    return known is not None and known.writing is None


def recalled(session: Session, key: Hashable, read: Callable[[], T]) -> T:
    """Return what `read` returns, or returned since it was last written; None is never kept.

    What is returned may be used by other sessions, so it must be no object of this one, must not be
    changed, and must follow from tables alone that are not in BUSY: not from the time either.
    """
    known: _Recalling | None = session.info.get(_KEY)
    things = known.things(session) if known is not None else None
    if things is None:
        return read()
    found: T | None = things.get(key)
    if found is not None:
        return found
    value = read()
    if len(things) >= _MOST:
        things.clear()
    if value is not None:
        things[key] = value  # nobody looks here any more if something was written meanwhile
    return value


def recalled_by_readers(session: Session, key: Hashable, read: Callable[[], T]) -> T:
    """Return the same for what only sessions that write nothing may share: what they fill in bit by bit."""
    return recalled(session, key, read) if only_reads(session) else read()


def _note_write(
    connection: Connection,
    _cursor: object,
    statement: str,
    _parameters: object,
    _context: object,
    _many: bool,  # noqa: FBT001  as SQLAlchemy calls it
) -> None:
    writing: Writing | None = connection.info.get(_KEY)
    if writing is not None and not writing.touched:
        writing.touched = touches(statement)


@lru_cache(maxsize=1000)
def touches(statement: str) -> bool:
    """Tell whether a statement may write to another table than those in BUSY."""
    if _READS.match(statement):
        return False
    found = {name.lower() for name in _TARGET.findall(statement)} - {"set"}  # ON CONFLICT DO UPDATE SET
    return not found <= BUSY if found else not statement.lstrip().upper().startswith("WITH")
