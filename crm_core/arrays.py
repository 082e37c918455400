"""Columnar reads: a query's result as numpy arrays, without an object a row.

Both databases are read on the session's own connection, so an array shows what the session sees: one state
while reading, its own writes while writing. A driver with a connection of its own would see another one,
and one that brings its own SQLite would drop the locks that ours holds on the same file.

PostgreSQL sends the rows as COPY does, in binary, and whole columns are decoded at once. SQLite's rows come
in small bunches, so that the tuples of one are gone before the next is asked for.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from sqlalchemy import (
    BigInteger,
    BindParameter,
    Boolean,
    Column,
    ColumnElement,
    Connection,
    CursorResult,
    Dialect,
    Double,
    Float,
    Select,
    String,
    between,
    bindparam,
    type_coerce,
)
from sqlalchemy import cast as as_type
from sqlalchemy.dialects.postgresql.base import PGDialect
from sqlalchemy.orm import Session
from sqlalchemy.sql import visitors
from sqlalchemy.types import TypeEngine

from crm_core.clock import DAY
from crm_core.columns import Day, Instant, Json, Money, PackedJson
from crm_core.copying import NO_INTEGER, CopiedColumns, decoder_of, is_integer
from crm_core.database import COPY_OUT, fetch_together, paramstyle
from crm_core.packing import unpack_json

NO_INSTANT = NO_INTEGER
"""Stands for NULL in an integer array (instants, days, money, ids)."""

_FEW = 500
"""Up to so many ids are listed in a query; more are asked for as a range."""

_BUNCH = 500
"""Rows taken from SQLite together: fewer than make Python look for garbage."""

_REMEMBERED = 50_000
"""Different texts of a column that are kept to be used again."""

Arrays = dict[str, npt.NDArray[Any]]
_Array = npt.NDArray[Any]
_Parts = list[_Array]


class ArrayQuery:
    """A query that is asked again and again, put together once; what differs is given as parameters.

    With `keyed` in it, its text for so many keys is kept too: SQLAlchemy would else put it together anew.
    So is that of a query which names its only key with `the_key`, or takes no notice of it.
    """

    def __init__(self, query: Select[*tuple[Any, ...]]) -> None:
        self.query = query
        self.columns = list(query.selected_columns)
        self.names = [column.key for column in self.columns]
        self._texts: dict[tuple[str, int], _Text] = {}

    @cached_property
    def stored(self) -> Select[*tuple[Any, ...]]:
        """The same with the columns read in their stored form."""
        return self.query.with_only_columns(*map(_untyped, self.columns), maintain_column_froms=True)

    @cached_property
    def is_plain(self) -> bool:
        """Whether rows come as they are stored, with nothing left to be converted."""
        return all(decoder_of(column.type) for column in self.columns)

    @cached_property
    def converters(self) -> list[Callable[[], Callable[[Sequence[Any]], _Array]]]:
        """What makes the converter of each column for one reading."""
        return [_converter_of(column.type) for column in self.columns]

    def text_for(self, keys: Sequence[Any], dialect: Dialect) -> tuple[str, Any]:
        """Return the text of the query for these keys, and its parameters."""
        size = 1 << (len(keys) - 1).bit_length()
        text = self._texts.get((dialect.paramstyle, size))
        if text is None:
            text = self._texts[dialect.paramstyle, size] = _Text.of(self.stored, size, dialect)
        return text.sql, text.filled([*keys, *[keys[-1]] * (size - len(keys))])

    def empty(self) -> Arrays:
        """Return the answer of no rows."""
        return dict(self._nothing)

    @cached_property
    def _nothing(self) -> Arrays:
        return {
            name: as_array(column.type, ())
            for name, column in zip(self.names, self.columns, strict=True)
            if name is not None
        }


_NUMBERED: Dialect = PGDialect(paramstyle="numeric_dollar")  # type: ignore[no-untyped-call]  # of SQLAlchemy
"""How a statement is written that goes to PostgreSQL past its driver's own reading of it."""

_STAND_IN = -(2**40)
"""Stands for the first key in a text that is made for later; those after it are one greater each."""


@dataclass(frozen=True, kw_only=True)
class _Text:
    """The text of a query for so many keys: its parameters by place, and which key belongs at which place."""

    sql: str
    parameters: dict[Any, Any]
    places: list[tuple[Any, int]]
    positional: bool

    @classmethod
    def of(cls, query: Select[*tuple[Any, ...]], size: int, dialect: Dialect) -> _Text:
        """Put a query together."""
        stand_ins = [_STAND_IN + number for number in range(size)]
        compiled = query.params(keys=stand_ins, the_key=stand_ins[0]).compile(dialect=dialect)
        state = compiled.construct_expanded_state(escape_names=False)
        positional = bool(compiled.positional)
        parameters = dict(enumerate(state.positional_parameters)) if positional else dict(state.parameters)
        places = [
            (place, value - _STAND_IN)
            for place, value in parameters.items()
            if isinstance(value, int) and 0 <= value - _STAND_IN < size
        ]
        return cls(sql=state.statement, parameters=parameters, places=places, positional=positional)

    def filled(self, keys: Sequence[Any]) -> Any:  # noqa: ANN401  what the driver takes
        """Return the parameters with the keys in their places."""
        found = self.parameters | {place: keys[number] for place, number in self.places}
        return tuple(found.values()) if self.positional else found


def read_arrays(
    session: Session,
    query: Select[*tuple[Any, ...]] | ArrayQuery,
    parameters: Mapping[str, Any] | None = None,
) -> Arrays:
    """Return the columns of `query` by name, as arrays of one length.

    Instants are int64 microseconds since 1970 UTC, days are int64 microseconds of their midnight UTC, money
    is int64 ten-thousandths, ids and other integers int64; in all of these NULL is NO_INSTANT. Floats and
    booleans are float64 with NaN for NULL. Everything else is an object array with None for NULL. Row order
    is the query's.
    """
    asked = query if isinstance(query, ArrayQuery) else ArrayQuery(query)
    if parameters and not parameters.get("keys", True):
        return asked.empty()
    if _AHEAD in session.info and parameters and "keys" in parameters:
        found: Arrays | None = session.info[_AHEAD].get((asked, tuple(parameters["keys"])))
        if found is not None:
            return dict(found)
    if _ONLY_AHEAD in session.info:
        raise NotReadAheadError
    connection = session.connection()
    read = _copied if connection.dialect.name == "postgresql" else _fetched
    parts = read(connection, asked, parameters or {})
    return {
        name: _joined(part, column.type)
        for name, column, part in zip(asked.names, asked.columns, parts, strict=True)
        if name is not None
    }


_AHEAD = "arrays read ahead"
_ONLY_AHEAD = "no other arrays"


class NotReadAheadError(Exception):
    """Something was to be read that was not read ahead, in a session that saw one state only for a moment."""


def read_only_ahead(session: Session) -> None:
    """Have a session refuse to read any arrays that `read_ahead` did not."""
    session.info[_ONLY_AHEAD] = True


Keyed = tuple[ArrayQuery, Sequence[Any]]
"""A query with `keyed` in it, and the few keys that it is asked with."""


def read_ahead(session: Session, asked: Sequence[Keyed]) -> list[Arrays]:
    """Return what `read_arrays` does of several queries, which the database is asked in one go.

    `session` must be one that only reads. There, whoever asks one of them by `read_arrays` is given what was
    read here.
    """
    connection = session.connection()
    named = dict.fromkeys((query, tuple(keys)) for query, keys in asked)
    plain = [(query, keys) for query, keys in named if query.is_plain and keys]
    dialect = connection.dialect if paramstyle(connection) != _NUMBERED.paramstyle else _NUMBERED
    texts = [query.text_for(keys, dialect) for query, keys in plain]
    rows = fetch_together(connection, texts)
    read = {each: _arrays_of(each[0], found) for each, found in zip(plain, rows, strict=True)}
    for query, keys in named:
        if (query, keys) not in read:
            read[query, keys] = read_arrays(session, query, {"keys": keys})
    session.info.setdefault(_AHEAD, {}).update(read)
    return [read[query, tuple(keys)] for query, keys in asked]


def keep_ahead(session: Session, query: ArrayQuery, keys: Sequence[Any], found: Arrays) -> None:
    """Have `read_arrays` give what was found out otherwise to whoever asks a query with these keys next."""
    session.info.setdefault(_AHEAD, {})[query, tuple(keys)] = found


def _arrays_of(asked: ArrayQuery, rows: Sequence[tuple[Any, ...]]) -> Arrays:
    if not rows:
        return asked.empty()
    columns = zip(*rows, strict=True)
    return {
        name: make()(cells)
        for name, make, cells in zip(asked.names, asked.converters, columns, strict=True)
        if name is not None
    }


def among(column: Any, ids: npt.NDArray[np.int64]) -> ColumnElement[bool]:  # noqa: ANN401  any integer column
    """Return a condition that lets `ids` through: these alone if they are few, else all that lie between.

    Who asks for many must leave out what they did not ask for; one id costs one look into the index.
    """
    if ids.size > _FEW:
        return between(column, int(ids.min()), int(ids.max()))
    return cast("ColumnElement[bool]", column.in_(ids.tolist()))


def keyed(column: Any, *, few: bool) -> ColumnElement[bool]:  # noqa: ANN401  any integer column
    """Return the condition of `among` for ids that are given as parameters, those of `keys_of`."""
    if few:
        return cast("ColumnElement[bool]", column.in_(bindparam("keys", expanding=True)))
    return between(column, bindparam("first_key"), bindparam("last_key"))


def the_key() -> BindParameter[int]:
    """Return what stands for the only key that a query is asked with."""
    return bindparam("the_key", type_=BigInteger)


def are_few(ids: npt.NDArray[np.int64]) -> bool:
    """Tell whether ids are listed in a query, and not asked for as a range."""
    return ids.size <= _FEW


def keys_of(ids: npt.NDArray[np.int64]) -> dict[str, Any]:
    """Return the parameters of `keyed`."""
    if are_few(ids):
        return {"keys": ids.tolist()}
    return {"first_key": int(ids.min()), "last_key": int(ids.max())}


def as_array(kind: TypeEngine[Any], cells: Sequence[Any]) -> npt.NDArray[Any]:
    """Return stored values of a column of type `kind` as the array that `read_arrays` makes of them."""
    if isinstance(kind, Float | Boolean):
        return np.array([np.nan if cell is None else cell for cell in cells], dtype=np.float64)
    if isinstance(kind, Day):
        return np.array([NO_INSTANT if cell is None else cell * DAY for cell in cells], dtype=np.int64)
    if is_integer(kind):
        return np.array([NO_INSTANT if cell is None else cell for cell in cells], dtype=np.int64)
    return _objects(cells)


def _copied(connection: Connection, asked: ArrayQuery, parameters: Mapping[str, Any]) -> list[_Parts]:
    """Return the columns of a query on PostgreSQL, in parts."""
    query, columns = asked.query, asked.columns
    few = "keys" in parameters or _asks_for_few(query)
    decoders = [] if few else [decoder_of(column.type) for column in columns]
    if not decoders or not all(decoders):
        return _fetched(connection, asked, parameters)
    taken = CopiedColumns([decode for decode in decoders if decode])
    if not all(_has_its_type(column) for column in columns):
        query = query.with_only_columns(*map(_of_its_type, columns), maintain_column_froms=True)
    connection.execute(query, parameters, execution_options={COPY_OUT: taken.take})
    return taken.parts


def _asks_for_few(query: Select[*tuple[Any, ...]]) -> bool:
    """Tell whether a query lists the ids that it is about, so that a copy would not pay for its beginning."""
    where = query.whereclause
    return where is not None and any(map(_lists_few, visitors.iterate(where)))


def _lists_few(part: object) -> bool:
    return (
        isinstance(part, BindParameter)
        and part.expanding
        and is_integer(part.type)
        and len(part.value or ()) <= _FEW
    )


def _has_its_type(column: Any) -> bool:  # noqa: ANN401  any selectable column
    """Tell whether PostgreSQL has a column in the type that we say it has: a sum, say, it widens."""
    return all(isinstance(base, Column) for base in column.base_columns)


def _of_its_type(column: Any) -> Any:  # noqa: ANN401  any selectable column
    kind = column.type
    if _has_its_type(column) or isinstance(kind, String | Json):
        return column
    if isinstance(kind, Boolean):
        return as_type(column, Boolean).label(column.key)
    return as_type(column, Double if isinstance(kind, Float) else BigInteger).label(column.key)


def _fetched(connection: Connection, asked: ArrayQuery, parameters: Mapping[str, Any]) -> list[_Parts]:
    """Return the columns of a query, in parts, by way of rows."""
    result = _run(connection, asked, parameters)
    # Where nothing is left to be converted, SQLAlchemy's own rows would be half of the work.
    plain = connection.dialect.name == "sqlite" and asked.is_plain
    fetch = result.cursor.fetchmany if plain and result.cursor is not None else result.fetchmany
    parts: list[_Parts] = [[] for _ in asked.columns]
    converters: list[Callable[[Sequence[Any]], _Array]] = []
    while rows := fetch(_BUNCH):
        converters = converters or [make() for make in asked.converters]
        for part, convert, cells in zip(parts, converters, zip(*rows, strict=True), strict=True):
            part.append(convert(cells))
        if len(rows) < _BUNCH:
            break
    result.close()
    return parts


def _run(
    connection: Connection, asked: ArrayQuery, parameters: Mapping[str, Any]
) -> CursorResult[*tuple[Any, ...]]:
    keys = parameters.get("keys")
    if keys is None or not asked.is_plain:
        return connection.execute(asked.stored, parameters)
    return connection.exec_driver_sql(*asked.text_for(keys, connection.dialect))


def _untyped(column: Any) -> Any:  # noqa: ANN401  any selectable column
    """Return the column read in its stored form, so that no Python object is built a cell."""
    kind = column.type
    if isinstance(kind, Instant | Day | Money | Json):
        return type_coerce(column, kind.impl_instance).label(column.key)
    return column


def _converter_of(kind: TypeEngine[Any]) -> Callable[[], Callable[[Sequence[Any]], _Array]]:
    """Return what makes, for one reading, what makes an array of cells in stored form."""
    if isinstance(kind, PackedJson):
        return lambda: _unpacked
    if isinstance(kind, Json):
        return lambda: _parsed
    if isinstance(kind, String):
        return _Texts
    if is_integer(kind) and not isinstance(kind, Day):
        return _Integers
    return lambda: partial(as_array, kind)


def _parsed(cells: Sequence[str | None]) -> _Array:
    return _objects([None if cell is None else json.loads(cell) for cell in cells])


def _unpacked(cells: Sequence[bytes | str | None]) -> _Array:
    return _parsed([None if cell is None else unpack_json(cell) for cell in cells])


class _Integers:
    """Makes arrays of whole numbers; a column is searched for NULL only once it was seen to hold one."""

    def __init__(self) -> None:
        self._has_gaps = False

    def __call__(self, cells: Sequence[Any]) -> _Array:
        if not self._has_gaps:
            try:
                return np.fromiter(cells, np.int64, len(cells))
            except TypeError:
                self._has_gaps = None in cells
                if not self._has_gaps:
                    raise
        filled = [NO_INSTANT if cell is None else cell for cell in cells] if None in cells else cells
        return np.fromiter(filled, np.int64, len(cells))


class _Texts:
    """Makes arrays of texts; the few that a column of words is made of become one object each."""

    def __init__(self) -> None:
        self._seen: dict[str | None, str | None] = {}

    def __call__(self, cells: Sequence[str | None]) -> _Array:
        if len(self._seen) > _REMEMBERED:
            self._seen.clear()
        return _objects(list(map(self._seen.setdefault, cells, cells)))


def _objects(cells: Sequence[Any]) -> npt.NDArray[np.object_]:
    # One by one: numpy would take lists among them for a dimension.
    return np.fromiter(cells, dtype=object, count=len(cells))


def _joined(parts: list[_Array], kind: TypeEngine[Any]) -> _Array:
    """Return the parts of a column as one array, and let go of them."""
    if len(parts) == 1:
        return parts[0]
    joined = np.concatenate(parts) if parts else as_array(kind, ())
    parts.clear()
    return joined
