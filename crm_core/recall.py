"""What is asked with every request and seldom changes, kept for a moment: rights, keys, declarations.

The contract: what this process writes is seen at once, by all its stores of the same database; what another
process writes is seen within FRESH_SECONDS. Only sessions that read recall; one that writes sees its own
writes, and so reads for itself.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import Any, Final, TypeVar
from weakref import WeakValueDictionary

from sqlalchemy.orm import Session

from crm_core.clock import ticks

T = TypeVar("T")

FRESH_SECONDS: Final = 1.0
"""For how long something may be recalled that another process has changed meanwhile."""

_MOST: Final = 10_000
"""Things that are kept; beyond, all are forgotten."""

_KEY: Final = "recall"


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


def let_recall(session: Session, recall: Recall) -> None:
    """Let a session that only reads recall."""
    session.info[_KEY] = recall


def recalled(session: Session, key: Hashable, read: Callable[[], T]) -> T:
    """Return what `read` returns, or returned a moment ago; in a session that writes always the former."""
    recall: Recall | None = session.info.get(_KEY)
    return read() if recall is None else recall.get(key, read)
