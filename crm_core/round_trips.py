"""Statements sent to PostgreSQL in one piece and waited for once: all that one question reads, or one write.

The driver has pipelines too, and hands every statement of one to the network by itself: for a question that
takes twenty of them, waking the server twenty times took longer than all that it then did. Its library can
hold them back until the last, which is what is asked here.

The statements are prepared once a connection, planned for whatever keys come: rows that are looked up by
a few keys are found in the same way whichever these are. They are a transaction of their own: one that reads
sees one state.
"""

from __future__ import annotations

import selectors
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import psycopg
    from psycopg.pq.abc import PGconn, PGresult

Numbered = tuple[str, Sequence[Any]]
"""A statement with $1, $2 and so on in it, and what these are: numbers, texts, or None."""

_READS: Final[Numbered] = ("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", ())
_WRITES: Final[Numbered] = ("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE", ())
_PLANNED_ONCE: Final[Numbered] = ("SET LOCAL plan_cache_mode = force_generic_plan", ())
_END: Final[tuple[Numbered, ...]] = (("COMMIT", ()),)

_MOST: Final = 300
"""Statements that a connection keeps prepared: each costs the server some tens of kilobytes."""

_GONE: Final = frozenset({"26000", "42P05", "0A000"})
"""What is said of a prepared statement that is not there, that is there already, or whose tables changed."""

_WELL: Final = frozenset({1, 2})
"""How PostgreSQL's library numbers a command that was done and rows that came; no transaction; and an error's
code."""
_IDLE: Final = 0
_SQLSTATE: Final = 67


@dataclass
class _Prepared:
    """What a connection has prepared, and how often all of that had to be forgotten."""

    names: OrderedDict[str, bytes] = field(default_factory=OrderedDict)
    lost: int = 0

    def name_for(self, sql: str) -> bytes:
        digest = blake2b(sql.encode(), digest_size=12).hexdigest()
        return f"crm_{self.lost}_{digest}".encode()

    def forget(self) -> None:
        self.names.clear()
        self.lost += 1


def fetch_at_once(
    driver: psycopg.Connection[Any], info: dict[Any, Any], asked: Sequence[Numbered], *, writes: bool = False
) -> list[Sequence[tuple[Any, ...]]]:
    """Return the rows of each statement; `driver` must be outside of any transaction.

    What `writes` is committed before this returns, all of it or nothing. `info` is what is kept with the
    connection. Raises the driver's errors; a connection that was lost, or left in the middle, is closed.
    """
    prepared: _Prepared = info.setdefault(_Prepared, _Prepared())
    begin = (_WRITES if writes else _READS, _PLANNED_ONCE)
    written = [(sql, [_written(value) for value in values]) for sql, values in (*begin, *asked, *_END)]
    try:
        results = _Exchange(driver.pgconn, prepared).answers(written)
        if _sqlstate_of(results) in _GONE:  # the driver forgets all when it undoes something
            prepared.forget()
            results = _Exchange(driver.pgconn, prepared).answers(written)
    except BaseException:
        driver.close()
        raise
    _check(results)
    return _rows(driver, results[len(begin) : -len(_END)])


class _Exchange:
    """One round trip on a connection."""

    def __init__(self, pgconn: PGconn, prepared: _Prepared) -> None:
        self._pgconn = pgconn
        self._prepared = prepared
        self._new: dict[int, str] = {}
        """The statements that are prepared on the way, by their place."""

    def answers(self, written: Sequence[tuple[str, list[bytes | None]]]) -> list[PGresult]:
        """Send all statements and return the result of each."""
        self._pgconn.enter_pipeline_mode()
        for at, (sql, values) in enumerate(written):
            self._send(at, sql, values)
        dropped = self._drop()
        self._pgconn.pipeline_sync()
        with selectors.DefaultSelector() as selector:
            selector.register(self._pgconn.socket, selectors.EVENT_READ | selectors.EVENT_WRITE)
            while self._pgconn.flush():
                selector.select()
                self._pgconn.consume_input()  # who does not listen may not be listened to
            selector.modify(self._pgconn.socket, selectors.EVENT_READ)
            results = [self._answer(at, selector) for at in range(len(written))]
            for _ in range(dropped):
                self._result(selector)
            self._awaited(selector)  # that of the end
        self._pgconn.exit_pipeline_mode()
        if self._pgconn.transaction_status != _IDLE:
            self._pgconn.exec_(b"ROLLBACK")
        return results

    def _send(self, at: int, sql: str, values: list[bytes | None]) -> None:
        name = self._prepared.names.get(sql)
        if name is not None:
            self._prepared.names.move_to_end(sql)
        else:
            name = self._prepared.name_for(sql)
            if sql not in self._new.values():
                self._new[at] = sql
                self._pgconn.send_prepare(name, sql.encode())
        self._pgconn.send_query_prepared(name, values)

    def _drop(self) -> int:
        """Have the server forget what was not asked for longest; return how many statements that takes."""
        names = self._prepared.names
        over = max(0, len(names) - _MOST)
        for _ in range(over):
            self._pgconn.send_query_params(b"DEALLOCATE " + names.popitem(last=False)[1], None)
        return over

    def _answer(self, at: int, selector: selectors.BaseSelector) -> PGresult:
        sql = self._new.get(at)
        if sql is not None:
            made = self._result(selector)
            if made.status not in _WELL:
                self._result(selector)
                return made
            self._prepared.names[sql] = self._prepared.name_for(sql)
        return self._result(selector)

    def _result(self, selector: selectors.BaseSelector) -> PGresult:
        found = self._awaited(selector)
        if found is None:
            raise self._lost()
        self._awaited(selector)  # nothing: it parts one statement from the next
        return found

    def _awaited(self, selector: selectors.BaseSelector) -> PGresult | None:
        # Asked for a result that is not there, the library would keep all other threads waiting too.
        while self._pgconn.is_busy():
            selector.select()
            self._pgconn.consume_input()
        return self._pgconn.get_result()

    def _lost(self) -> Exception:
        from psycopg import OperationalError

        return OperationalError(self._pgconn.get_error_message())


def _written(value: object) -> bytes | None:
    """Return a value as PostgreSQL reads it."""
    if value is None:
        return None
    if isinstance(value, bool):
        return b"true" if value else b"false"
    if isinstance(value, int | str):
        return str(value).encode()
    raise TypeError(f"expected a number or a text to be asked for, got {type(value).__name__}")


def _first_failed(results: Sequence[PGresult]) -> PGresult | None:
    return next((each for each in results if each.status not in _WELL), None)


def _sqlstate_of(results: Sequence[PGresult]) -> str | None:
    failed = _first_failed(results)
    state = None if failed is None else failed.error_field(_SQLSTATE)
    return None if state is None else state.decode()


def _check(results: Sequence[PGresult]) -> None:
    """Raise the driver's error for the first statement that failed."""
    from psycopg import OperationalError, errors

    failed, state = _first_failed(results), _sqlstate_of(results)
    if failed is not None:
        kind = errors.lookup(state) if state is not None else OperationalError
        raise kind(failed.error_message.decode(errors="replace"))


def _rows(driver: psycopg.Connection[Any], results: Sequence[PGresult]) -> list[Sequence[tuple[Any, ...]]]:
    from psycopg.adapt import Transformer

    reading = Transformer(driver)
    found: list[Sequence[tuple[Any, ...]]] = []
    for result in results:
        reading.set_pgresult(result)
        found.append(reading.load_rows(0, result.ntuples, tuple))
    return found
