"""Writing predictions back, by column: history rows and the records' own columns, in a few statements.

What every path here keeps, however many rows it is given:

- A question that has an answer keeps it: the database leaves the second one out, also where two workers write
  it at the same time, and a record shows only what was added by this very statement or transaction.
- Whoever asked not to be scored is looked up in the transaction that writes, not before it.
- A record shows the newest answer by the instant it was asked from.
- Records are locked in the order of their ids, as by everybody who writes several of them.

On PostgreSQL a few rows travel as JSON in one statement; many are copied into a table that belongs to the
connection and is empty after each transaction. On SQLite one prepared statement adds the rows and one shows
them.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache, partial
from itertools import chain, repeat
from struct import Struct
from typing import Any, Final

from sqlalchemy import Connection, Dialect, Row, Select, bindparam, select, text
from sqlalchemy.dialects.postgresql.base import PGDialect

from crm_core.columns import dump_json
from crm_core.database import COPY_BEGINS, COPY_ENDS, COPY_IN, is_alone, write_at_once
from crm_core.opting_out import may_be_scored
from crm_core.records import Account, Deal, Lead

FLAT: Final = 0.01
"""A probability that moves by less than this has no trend."""

FEW: Final = 200
"""Up to so many rows travel as JSON on PostgreSQL; for more a copy is quicker."""


FIRST_LOT: Final = 500
"""Records of the first lot, before it is known how long one takes."""

SMALLEST_LOT: Final = 200
LARGEST_LOT: Final = 10_000

LOT_SECONDS: Final = 0.07
"""How long a lot is to take to be written; twice as long at worst, as checkpoints fall into some.

The sizes of lots follow from it: a slow disk makes them smaller."""


def next_size(size: int, took: float, wanted: float) -> int:
    """Return how many the next lot should have: it grows to twice at most, and shrinks at once."""
    fitting = int(size * min(wanted / max(took, 1e-6), 2.0))
    return max(SMALLEST_LOT, min(fitting, LARGEST_LOT))


_DENSE: Final = 8
"""Ids are looked for between the first and the last where those are at most so many times as many."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PredictionColumns:
    """Predictions as columns of one length, in the form in which they are stored.

    `within` and `yearly_value` are JSON as `dump_json` makes it, `reasons` the same packed
    (`crm_core.packing`), None for nothing; all others are Python's own numbers and texts. Records are named
    once each.
    """

    record_id: Sequence[int]
    horizon_days: Sequence[int]
    probability: Sequence[float | None]
    score: Sequence[int | None]
    grade: Sequence[str | None]
    reasons: Sequence[bytes | None]
    within: Sequence[str | None]
    expected_days: Sequence[float | None]
    yearly_value: Sequence[str | None]
    cause_change_id: Sequence[int | None]

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.record_id)

    def part(self, start: int, stop: int) -> PredictionColumns:
        """Return those from `start` to before `stop`."""
        return PredictionColumns(**{name: getattr(self, name)[start:stop] for name in COLUMNS})

    def only(self, ids: Container[int]) -> PredictionColumns:
        """Return those about some records."""
        kept = [at for at, record_id in enumerate(self.record_id) if record_id in ids]
        if len(kept) == len(self):
            return self
        return PredictionColumns(**{name: [cells[at] for at in kept] for name, cells in self.lists().items()})

    @classmethod
    def joined(cls, parts: Sequence[PredictionColumns]) -> PredictionColumns:
        """Return the parts as one, in their order."""
        if len(parts) == 1:
            return parts[0]
        return cls(**{name: [cell for part in parts for cell in getattr(part, name)] for name in COLUMNS})

    def lists(self) -> dict[str, list[Any]]:
        """Return the columns as lists by name."""
        return {name: list(getattr(self, name)) for name in COLUMNS}

    def rows(self) -> Iterator[tuple[Any, ...]]:
        """Yield the rows, cells in the order of COLUMNS."""
        return zip(*(getattr(self, name) for name in COLUMNS), strict=True)


COLUMNS: Final = tuple(field.name for field in fields(PredictionColumns))
"""The columns that differ from row to row."""

_COMMON: Final = ("task", "record_type", "as_of", "recorded_at", "model_version")

_TYPES: Final = dict(
    zip(
        COLUMNS,
        ("bigint", "int", "float8", "int", "text", "bytea", "text", "float8", "text", "bigint"),
        strict=True,
    )
)
"""The types of the columns on PostgreSQL."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What the rows of a lot have in common; instants in microseconds."""

    task: str
    record_type: str
    as_of: int
    recorded_at: int
    model_version: str

    @property
    def cells(self) -> tuple[Any, ...]:
        """Return it in the order of the table's columns."""
        return (self.task, self.record_type, self.as_of, self.recorded_at, self.model_version)


def write_columns(
    connection: Connection, model: type[Lead | Deal | Account], asked: Asked, columns: PredictionColumns
) -> int:
    """Append predictions and show them on their records; return how many were new."""
    if not len(columns):
        return 0
    if connection.dialect.name == "postgresql":
        return _write_postgresql(connection, model, asked, columns)
    return _write_sqlite(connection, model, asked, columns)


def write_one(
    connection: Connection, model: type[Lead | Deal | Account], asked: Asked, columns: PredictionColumns
) -> int | None:
    """Append and show the one prediction of `columns`; return its id, None if it was not new.

    On PostgreSQL it is one statement, which need not be in a transaction with any other.
    """
    if connection.dialect.name == "postgresql":
        run = _run_alone if is_alone(connection) else _run_few
        newest: int | None = run(connection, model, asked, columns)[1]
        return newest
    if _silent(connection, model, columns.record_id):
        return None
    insert, show = _sqlite_statements(model)
    (row,) = columns.rows()
    added = connection.exec_driver_sql(insert, (*asked.cells, *row))
    if not added.rowcount:
        return None
    given = (getattr(columns, name)[0] for name in _GIVEN)
    connection.exec_driver_sql(show, (*given, asked.as_of, asked.model_version, columns.record_id[0]))
    return added.lastrowid


# ---------------------------------------------------------------- SQLite


def _write_sqlite(
    connection: Connection, model: type[Lead | Deal | Account], asked: Asked, columns: PredictionColumns
) -> int:
    columns = _without(columns, _silent(connection, model, columns.record_id))
    if not len(columns):
        return 0
    insert, show = _sqlite_statements(model)
    last = connection.exec_driver_sql("SELECT coalesce(max(id), 0) FROM predictions").scalar_one()
    rows = zip(*map(repeat, asked.cells), *(getattr(columns, name) for name in COLUMNS), strict=False)
    added = connection.exec_driver_sql(insert, list(rows)).rowcount
    if added and added < len(columns):
        # Ids of SQLite ascend: what has a greater one than all before was added by this transaction.
        found = connection.exec_driver_sql("SELECT record_id FROM predictions WHERE id > ?", (last,))
        columns = columns.only(frozenset(found.scalars()))
    if added:
        given = (getattr(columns, name) for name in _GIVEN)
        cells = zip(*given, repeat(asked.as_of), repeat(asked.model_version), columns.record_id, strict=False)
        connection.exec_driver_sql(show, list(cells))
    return added


def _silent(connection: Connection, model: type[Lead | Deal | Account], ids: Sequence[int]) -> frozenset[int]:
    """Return those of whom nothing may be said; nobody else writes until this transaction ends."""
    lowest, highest = min(ids), max(ids)
    if are_dense(ids):
        found = connection.execute(_silent_between(model), {"lowest": lowest, "highest": highest})
    else:
        found = connection.execute(select(model.id).where(model.id.in_(ids), ~may_be_scored(model)))
    return frozenset(found.scalars())


@cache
def _silent_between(model: type[Lead | Deal | Account]) -> Select[int]:
    among = model.id.between(bindparam("lowest"), bindparam("highest"))
    return select(model.id).where(among, ~may_be_scored(model))


def are_dense(ids: Sequence[int]) -> bool:
    """Tell whether records are looked for between the first and the last instead of by their keys."""
    return max(ids) - min(ids) < _DENSE * len(ids)


def _without(columns: PredictionColumns, silent: frozenset[int]) -> PredictionColumns:
    """Return the predictions of all others."""
    if silent.isdisjoint(columns.record_id):
        return columns
    kept = [at for at, record_id in enumerate(columns.record_id) if record_id not in silent]
    return PredictionColumns(**{name: [cells[at] for at in kept] for name, cells in columns.lists().items()})


@cache
def _sqlite_statements(model: type[Lead | Deal | Account]) -> tuple[str, str]:
    """Return what adds a row, and what shows it."""
    table, names = model.__tablename__, (*_COMMON, *COLUMNS)
    insert = (
        f"INSERT INTO predictions ({', '.join(names)}) VALUES ({', '.join('?' * len(names))}) "  # noqa: S608  our own names
        "ON CONFLICT DO NOTHING"
    )
    places = {name: f"?{place}" for place, name in enumerate(_SHOWN, start=1)}
    show = (
        f"UPDATE {table} SET {_shown(table, places)} WHERE id = ?{len(places) + 1} "  # noqa: S608  our own names
        f"AND {_older(table, places['as_of'])}"
    )
    return insert, show


# ---------------------------------------------------------------- PostgreSQL


def _write_postgresql(
    connection: Connection, model: type[Lead | Deal | Account], asked: Asked, columns: PredictionColumns
) -> int:
    if len(columns) <= FEW:
        return int(_run_few(connection, model, asked, columns)[0])
    given = _bounds(asked, columns)
    connection.exec_driver_sql(_MAKE_LOT)
    # The same transaction may have written another lot.
    connection.exec_driver_sql("DELETE FROM predictions_to_write")
    connection.exec_driver_sql(_COPY_LOT, execution_options={COPY_IN: partial(_copied, columns)})
    hold, add, show = _write_many(model, connection.dialect)
    connection.execute(text(hold), given)
    added = int(connection.execute(text(add), given).scalar_one())
    if added:
        connection.execute(text(show), given)
    return added


def _run_few(
    connection: Connection, model: type[Lead | Deal | Account], asked: Asked, columns: PredictionColumns
) -> Row[int, int | None]:
    """Write a few rows in one statement; return how many were new, and the greatest id of these."""
    given = _bounds(asked, columns) | {"rows": _as_json(columns)}
    return connection.execute(text(_write_few(model, connection.dialect)), given).one()


def _run_alone(
    connection: Connection, model: type[Lead | Deal | Account], asked: Asked, columns: PredictionColumns
) -> tuple[Any, ...]:
    """Do the same as a transaction by itself; of one row the plan is the same whichever it is about."""
    sql, names = _numbered(_write_few(model, connection.dialect))
    given = _bounds(asked, columns) | {"rows": _as_json(columns)}
    return write_at_once(connection, sql, [given[name] for name in names])[0]


@cache
def _numbered(sql: str) -> tuple[str, Sequence[str]]:
    """Return a statement with $1, $2 and so on in the place of names, and the names in their order."""
    compiled = text(sql).compile(dialect=PGDialect(paramstyle="numeric_dollar"))  # type: ignore[no-untyped-call]  # of SQLAlchemy
    return compiled.string, compiled.positiontup or ()


def _bounds(asked: Asked, columns: PredictionColumns) -> dict[str, Any]:
    """Return what the statements are given beside the rows."""
    given: dict[str, Any] = dict(zip(_COMMON, asked.cells, strict=True))
    return given | {"lowest": min(columns.record_id), "highest": max(columns.record_id)}


def _as_json(columns: PredictionColumns) -> str:
    """Return rows as a JSON array; bytes as PostgreSQL writes them in a text."""
    rows = [dict(zip(COLUMNS, row, strict=True)) for row in columns.rows()]
    for row in rows:
        row["reasons"] = None if row["reasons"] is None else f"\\x{row['reasons'].hex()}"
    return dump_json(rows)


_MAKE_LOT: Final = (
    "CREATE TEMPORARY TABLE IF NOT EXISTS predictions_to_write "
    f"({', '.join(f'{name} {kind}' for name, kind in _TYPES.items())}) ON COMMIT DELETE ROWS"
)
_COPY_LOT: Final = f"COPY predictions_to_write ({', '.join(COLUMNS)}) FROM STDIN (FORMAT BINARY)"
_NUMBERS: Final = {"bigint": Struct(">iq"), "int": Struct(">ii"), "float8": Struct(">id")}
_NULL: Final = Struct(">i").pack(-1)


def _copied(columns: PredictionColumns) -> bytes:
    """Return columns as PostgreSQL copies rows in binary: of each its fields, lengths before them."""
    count = Struct(">h").pack(len(COLUMNS))
    cells = (_fields(_TYPES[name], getattr(columns, name)) for name in COLUMNS)
    rows = chain.from_iterable(zip(repeat(count), *cells, strict=False))
    return b"".join((COPY_BEGINS, *rows, COPY_ENDS))


def _fields(kind: str, cells: Sequence[Any]) -> list[bytes]:
    """Return the fields of a column, each with its length before it."""
    if kind in _NUMBERS:
        form = _NUMBERS[kind]
        pack, size = form.pack, form.size - 4
        return [_NULL if cell is None else pack(size, cell) for cell in cells]
    if kind == "text":
        cells = [None if cell is None else cell.encode() for cell in cells]
    length = Struct(">i").pack
    return [_NULL if cell is None else length(len(cell)) + cell for cell in cells]


_FROM_JSON: Final = (
    "SELECT * FROM json_to_recordset(CAST(:rows AS json)) "  # noqa: S608  our own names
    f"AS given ({', '.join(f'{name} {kind}' for name, kind in _TYPES.items())})"
)


@cache
def _write_few(model: type[Lead | Deal | Account], dialect: Dialect) -> str:
    """Return the statement that adds and shows rows given as JSON, and tells how many were new."""
    return (
        f"WITH given AS ({_FROM_JSON}), {_held(model, dialect, 'given')}, "  # noqa: S608  our own names
        f"new AS ({_added('given', 'JOIN held ON held.id = given.record_id ORDER BY given.record_id')}), "
        f"shown AS ({_shown_from(model, 'new JOIN given ON given.record_id = new.record_id')}) "
        "SELECT count(*), max(id) FROM new"
    )


@cache
def _write_many(model: type[Lead | Deal | Account], dialect: Dialect) -> tuple[str, str, str]:
    """Return what locks records, adds the rows that were copied, and shows them.

    Each leaves in the table that was copied into what the next one is about. One statement would join the
    rows three times over.
    """
    given = "predictions_to_write AS given"
    hold = (
        f"WITH {_held(model, dialect, given)} "  # noqa: S608  our own names
        f"DELETE FROM {given} WHERE record_id NOT IN (SELECT id FROM held)"
    )
    add = (
        f"WITH new AS ({_added(given, '')}), "  # noqa: S608  as above
        f"known AS (DELETE FROM {given} WHERE record_id NOT IN (SELECT record_id FROM new)) "
        "SELECT count(*) FROM new"
    )
    return hold, add, _shown_from(model, given)


def _between(table: str) -> str:
    """Return bounds that let many records be read in their order, and few by their keys."""
    return f"{table}.id BETWEEN :lowest AND :highest"


def _held(model: type[Lead | Deal | Account], dialect: Dialect, given: str) -> str:
    """Return what locks the records that may be written: nobody then waits for one who waits for him."""
    table = model.__tablename__
    return (
        f"held AS MATERIALIZED (SELECT {table}.id FROM {table} "  # noqa: S608  our own names
        f"JOIN {given} ON {table}.id = given.record_id AND {_between(table)} "
        f"WHERE {_willing(model, dialect)} ORDER BY {table}.id FOR NO KEY UPDATE OF {table})"
    )


def _added(given: str, which: str) -> str:
    """Return what adds the rows to the history that are not there."""
    cells = (*(f":{name}" for name in _COMMON), *(f"given.{name}" for name in COLUMNS))
    return (
        f"INSERT INTO predictions ({', '.join((*_COMMON, *COLUMNS))}) "  # noqa: S608  our own names
        f"SELECT {', '.join(cells)} FROM {given} {which} ON CONFLICT DO NOTHING RETURNING id, record_id"
    )


def _shown_from(model: type[Lead | Deal | Account], given: str) -> str:
    """Return what shows rows on their records."""
    table = model.__tablename__
    places = {name: f"given.{name}" for name in _GIVEN} | {name: f":{name}" for name in _ASKED}
    return (
        f"UPDATE {table} SET {_shown(table, places)} FROM {given} "  # noqa: S608  our own names
        f"WHERE {table}.id = given.record_id AND {_between(table)} AND {_older(table, ':as_of')}"
    )


# ---------------------------------------------------------------- both

_GIVEN: Final = ("probability", "score", "grade", "reasons")
_ASKED: Final = ("as_of", "model_version")
_SHOWN: Final = (*_GIVEN, *_ASKED)
"""The columns of a prediction that its record shows: of its row, and of the lot."""


def _shown(table: str, new: Mapping[str, str]) -> str:
    """Return what shows a prediction, given how each of its columns is written."""
    before, now = f"{table}.probability", new["probability"]
    trend = (
        f"CASE WHEN {before} IS NULL OR {now} IS NULL THEN NULL WHEN abs({now} - {before}) < {FLAT} "
        f"THEN 'flat' WHEN {now} > {before} THEN 'up' ELSE 'down' END"
    )
    return (
        f"previous_probability = {before}, trend = {trend}, probability = {now}, score = {new['score']}, "
        f"grade = {new['grade']}, reasons = {new['reasons']}, scored_at = {new['as_of']}, "
        f"model_version = {new['model_version']}"
    )


def _older(table: str, as_of: str) -> str:
    """Return the condition that a record shows nothing newer."""
    return f"({table}.scored_at IS NULL OR {table}.scored_at <= {as_of})"


def _willing(model: type[Lead | Deal | Account], dialect: Dialect) -> str:
    """Return the condition that nobody whom a record is about asked not to be scored."""
    query = select(model.id).where(may_be_scored(model))
    told = str(query.compile(dialect=dialect, compile_kwargs={"literal_binds": True}))
    return f"({' '.join(told.split()).partition(' WHERE ')[2]})"
