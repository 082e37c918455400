"""What is asked with every request and seldom changes, kept for a moment: rights, keys, declarations.

The contract: what this process writes is seen at once, by all its stores of the same database; what another
process writes is seen within FRESH_SECONDS. A transaction that writes any of it sees its own writes, and so
reads for itself from then on; all is forgotten when it has committed. What is written all day long, listed in
BUSY, is never kept, so that writing it lets everything else be recalled.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, TypeVar
from weakref import WeakValueDictionary

from sqlalchemy import Connection, Engine, event
from sqlalchemy.orm import Session

from crm_core.clock import ticks

T = TypeVar("T")

FRESH_SECONDS: Final = 1.0
"""For how long something may be recalled that another process has changed meanwhile."""

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
)
"""Tables of which nothing is kept; a table that is not named here may be recalled."""

_KEY: Final = "recall"
_READS: Final = re.compile(
    r"\s*(SELECT|PRAGMA|BEGIN|CREATE\s+TEMPORARY|SAVEPOINT|RELEASE|LOCK|SET)\b", re.IGNORECASE
)
_TARGET: Final = re.compile(
    r'\b(?:INSERT(?:\s+OR\s+\w+)?\s+INTO|UPDATE|DELETE\s+FROM|COPY)\s+"?(\w+)', re.IGNORECASE
)


class Recall:
    """What was read of one database, by name."""

    def __init__(self) -> None:
        self._kept: dict[Hashable, tuple[float, Any]] = {}
        self._lock = threading.Lock()

    def get(self, key: Hashable, read: Callable[[], T]) -> T:
        """Return what is known by `key`, or read it if that was too long ago; None is never kept.

        What is returned must not be changed.
        """
        kept = self._kept
        found = kept.get(key)
        if found is not None and ticks() - found[0] < FRESH_SECONDS:
            value: T = found[1]
            return value
        began, value = ticks(), read()
        if len(kept) >= _MOST:
            self.forget()
            return value
        if value is not None:
            kept[key] = began, value  # where reading began: a write since then has put another in its place
        return value

    @property
    def writes(self) -> object:
        """What stands for all writes so far: another object after each."""
        return self._kept

    def forget(self) -> None:
        """Forget everything: something was written."""
        with self._lock:
            self._kept = {}


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


@dataclass(frozen=True)
class _Recalling:
    recall: Recall
    writing: Writing | None
    writes: object

    @property
    def is_current(self) -> bool:
        """Whether nothing was written since the session began: it goes on seeing the state of then."""
        return self.writes is self.recall.writes

    def may(self, session: Session) -> bool:
        """Tell whether what is known stands for what a session would read."""
        if not self.is_current:
            return False
        if self.writing is None:
            return True
        pending = (*session.new, *session.dirty, *session.deleted)
        return not self.writing.touched and all(map(_is_busy, pending))


def _is_busy(row: object) -> bool:
    return getattr(row, "__tablename__", "") in BUSY


def watch_writes(engine: Engine) -> None:
    """Notice what is written through an engine by transactions that `let_recall` knows."""
    event.listen(engine, "before_cursor_execute", _note_write)


def let_recall(session: Session, recall: Recall) -> None:
    """Let a session that only reads recall."""
    session.info[_KEY] = _Recalling(recall, None, recall.writes)


def let_recall_while_writing(session: Session, recall: Recall) -> Writing:
    """Let a session in a transaction recall until it writes something that may be recalled."""
    writing = Writing()
    session.info[_KEY] = _Recalling(recall, writing, recall.writes)
    session.connection().info[_KEY] = writing  # a later transaction on the connection puts its own there
    return writing


def only_reads(session: Session) -> bool:
    """Tell whether a session is one that sees one state throughout and writes nothing."""
    known: _Recalling | None = session.info.get(_KEY)
    return known is not None and known.writing is None


def recalled(session: Session, key: Hashable, read: Callable[[], T]) -> T:
    """Return what `read` returns, or returned a moment ago.

    What is returned may be used by other sessions, so it must be no object of this one.
    """
    known: _Recalling | None = session.info.get(_KEY)
    return known.recall.get(key, read) if known is not None and known.may(session) else read()


def recalled_by_readers(session: Session, key: Hashable, read: Callable[[], T]) -> T:
    """Return the same for what only sessions that write nothing may share: what they fill in bit by bit."""
    known: _Recalling | None = session.info.get(_KEY)
    reads = known is not None and known.writing is None and known.is_current
    return known.recall.get(key, read) if known is not None and reads else read()


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
