"""The engine behind the store, set up so that SQLite behaves like a database with several users."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, NoReturn

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from crm_core.round_trips import fetch_at_once

if TYPE_CHECKING:
    import psycopg

BUSY_SECONDS = 30
"""How long somebody who writes to SQLite may keep the others waiting."""

_PRAGMAS = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA foreign_keys = ON",
    f"PRAGMA busy_timeout = {BUSY_SECONDS * 1000}",
    "PRAGMA wal_autocheckpoint = 4000",  # 16 MB: pages that every lot of scores changes are copied less often
    "PRAGMA cache_size = -65536",
    "PRAGMA temp_store = MEMORY",
    "PRAGMA secure_delete = ON",  # what is erased is overwritten; not every SQLite does that by itself
)

COPY_OUT = "copy_out"
"""The execution option that holds what takes the rows of a query on PostgreSQL: it is given the copy."""

COPY_IN = "copy_in"
"""The execution option that holds the rows for a statement that copies into a table of PostgreSQL.

Or what returns them as they are sent, where the statement asks for that form."""

COPY_BEGINS = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
COPY_ENDS = b"\xff\xff"
"""What a copy in binary begins and ends with."""


def open_engine(url: str) -> Engine:
    """Return an engine for `url`; SQLite gets WAL, foreign keys and honest transactions."""
    # What is written must not be in messages about errors: they go to logs.
    engine = create_engine(url, hide_parameters=True)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    else:
        event.listen(engine, "do_execute", _copy)
    return engine


def without_foreign_keys(engine: Engine) -> Engine:
    """Return the engine for a migration: SQLite alters a table by building it anew and dropping the old one.

    With foreign keys on, that drop would empty every table that points at it.
    """
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _forget_foreign_keys)
    return engine


def is_deadlock(error: DBAPIError) -> bool:
    """Tell whether a transaction was undone because it and another one waited for each other."""
    return getattr(error.orig, "sqlstate", None) == "40P01"


def one_state(engine: Engine) -> Engine:
    """Return an engine whose transactions see one state from their first read to their end."""
    if engine.dialect.name == "sqlite":
        return engine  # WAL gives just that
    return engine.execution_options(isolation_level="REPEATABLE READ")


def alone(engine: Engine) -> Engine | None:
    """Return an engine on which every statement is a transaction by itself; None where that saves nothing."""
    if engine.dialect.name == "sqlite":
        return None
    return engine.execution_options(isolation_level="AUTOCOMMIT")


def fetch_together(
    connection: Connection, asked: Sequence[tuple[str, Any]]
) -> list[Sequence[tuple[Any, ...]]]:
    """Return the rows of statements that only read, given as the driver takes them, each with its parameters.

    PostgreSQL is sent all of them before it is waited for, so that together they cost one round trip. The
    driver is asked itself: what SQLAlchemy does for every statement takes longer than reading a few rows.
    """
    driver: Any = connection.connection.driver_connection
    errors = connection.dialect.loaded_dbapi
    try:
        if connection.dialect.name == "sqlite":
            return [driver.execute(*each).fetchall() for each in asked]
        if driver.autocommit:
            return fetch_at_once(driver, connection.info, asked)
        with driver.pipeline():
            cursors = [driver.execute(*each) for each in asked]
        return [cursor.fetchall() for cursor in cursors]
    except errors.Error as error:
        _raise_as_sqlalchemy(connection, error)


def write_at_once(connection: Connection, sql: str, values: Sequence[Any]) -> Sequence[tuple[Any, ...]]:
    """Return the rows of one statement that writes, and is a transaction by itself; see `is_alone`.

    It has $1, $2 and so on for its values. PostgreSQL plans it once for all values: planning a statement
    that looks records up, adds rows and shows them takes longer than doing it for one.
    """
    driver: Any = connection.connection.driver_connection
    try:
        return fetch_at_once(driver, connection.info, [(sql, values)], writes=True)[0]
    except connection.dialect.loaded_dbapi.Error as error:
        _raise_as_sqlalchemy(connection, error)


def is_alone(connection: Connection) -> bool:
    """Tell whether every statement on this connection to PostgreSQL is a transaction by itself."""
    driver: Any = connection.connection.driver_connection
    return connection.dialect.name == "postgresql" and bool(driver.autocommit)


def paramstyle(connection: Connection) -> str:
    """Return how parameters have to be written in a statement that is given to `fetch_together`."""
    return "numeric_dollar" if is_alone(connection) else connection.dialect.paramstyle


def end_reading(session: Session) -> None:
    """Undo a transaction that wrote nothing, and let PostgreSQL's driver keep the statements it has prepared.

    By itself the driver forgets all of them with whatever is undone, and tells the server so in a message of
    its own: what they name might have been made there. A request that only read would so take from all others
    what they are quick by.
    """
    if session.get_bind().dialect.name == "sqlite" or not (session.in_transaction() and session.is_active):
        return
    connection = session.connection()
    if connection.invalidated:
        return
    pgconn = connection.connection.driver_connection.pgconn  # type: ignore[union-attr]  # of psycopg
    if pgconn.transaction_status == _IN_TRANSACTION:
        pgconn.exec_(b"ROLLBACK")


_IN_TRANSACTION: Final = 2
"""How PostgreSQL's library calls a connection that waits for the next statement of a transaction."""


def _raise_as_sqlalchemy(connection: Connection, error: Any) -> NoReturn:  # noqa: ANN401  each driver has its own
    """Raise a driver's error as SQLAlchemy would, and give a connection up that is lost."""
    dialect = connection.dialect
    lost = dialect.is_disconnect(error, connection.connection.dbapi_connection, None)
    if lost:
        connection.invalidate(error)
    raise DBAPIError.instance(
        None,
        None,
        error,
        dialect.loaded_dbapi.Error,
        hide_parameters=True,
        connection_invalidated=lost,
        dialect=dialect,
    ) from error


def _prepare_sqlite(connection: sqlite3.Connection, _record: Any) -> None:  # noqa: ANN401  pool internals
    # The driver must not begin transactions by itself: a read that turns into a write would then fail
    # at once with "database is locked" instead of waiting.
    connection.isolation_level = None
    for pragma in _PRAGMAS:
        connection.execute(pragma)


def _forget_foreign_keys(connection: sqlite3.Connection, _record: Any) -> None:  # noqa: ANN401  as above
    connection.execute("PRAGMA foreign_keys = OFF")


def _copy(cursor: psycopg.Cursor[Any], statement: str, parameters: Any, context: Any) -> bool:  # noqa: ANN401  as SQLAlchemy calls it
    """Copy rows in or out where an execution option asks for that, so that SQLAlchemy names what fails."""
    take, rows = (context.execution_options.get(option) for option in (COPY_OUT, COPY_IN))
    if take is None and rows is None:
        return False
    # A cursor of its own: from this one SQLAlchemy would learn, and remember, that columns have no type.
    with cursor.connection.cursor() as own:
        if take is not None:
            with own.copy(f"COPY ({statement}) TO STDOUT (FORMAT BINARY)", parameters) as copy:
                take(copy)
        else:
            with own.copy(statement) as copy:
                if callable(rows):
                    copy.write(rows())
                    return True
                for row in rows:
                    copy.write_row(row)
    return True


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
