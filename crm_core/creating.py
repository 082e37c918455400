"""Many new records at once: columns are checked and written as columns.

A column is looked at as a whole, which is quick and tells only whether every value surely fits. Where it does
not tell, the records are checked one by one, as a single one is, so that the first bad one is named by the
same error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from decimal import Decimal
from itertools import repeat
from operator import itemgetter
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Connection,
    Float,
    Integer,
    String,
    between,
    insert,
    literal,
    select,
)
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session
from sqlalchemy.sql.schema import ScalarElementColumnDefault
from sqlalchemy.types import TypeDecorator, TypeEngine

from crm_core.arrays import NO_INSTANT
from crm_core.bulk import Writer
from crm_core.changes import Action, Change
from crm_core.clock import DAY, day_of, instant
from crm_core.columns import MONEY_SCALE, Day, Instant, Json, Money, check_text
from crm_core.copying import is_integer
from crm_core.database import COPY_IN
from crm_core.errors import CRMError, DuplicateExternalIdError, InvalidValueError
from crm_core.phrases import Phrase
from crm_core.records import Record
from crm_core.validation import CHOICES, ORDERED, check_values, columns_of

AT_ONCE: Final = 20_000
"""Records that are checked and written together."""

_FEW: Final = 1_000
"""Up to so many different texts are looked at one by one."""

_LISTED: Final = 5_000
"""External ids in one query."""

Cells = Sequence[Any] | npt.NDArray[Any]
"""A column: values as a record takes them, or an array as `crm_core.arrays.read_arrays` makes it."""

Stored = dict[str, list[Any]]
"""Columns in the form in which they are stored."""


@dataclass(frozen=True, kw_only=True)
class Times:
    """What the instants of new records may be, in microseconds, and whether they may say when we learned."""

    now: int
    latest: int
    may_tell: bool


def size_of(model: type[Record], columns: Mapping[str, Cells]) -> int:
    """Return how long columns are; refuse those of different lengths."""
    size = max(map(len, columns.values()), default=0)
    for name, cells in columns.items():
        if len(cells) != size:
            raise InvalidValueError(
                f"{model.record_type}.{name}",
                Phrase("{count} values", count=len(cells)),
                Phrase("{size} values", size=size),
            )
    return size


def turned(rows: Sequence[Mapping[str, Any]]) -> dict[str, Sequence[Any]]:
    """Return rows as columns; what a row does not name is None."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    if len(names) > 1 and all(len(row) == len(names) for row in rows):
        return dict(zip(names, zip(*map(itemgetter(*names), rows), strict=True), strict=True))
    return {name: [row.get(name) for row in rows] for name in names}


def rows_of(model: type[Record], columns: Mapping[str, Cells]) -> Iterator[dict[str, Any]]:
    """Yield columns as rows of such values as a record takes."""
    known = columns_of(model)
    plain = [
        _as_values(known[name].type, cells) if name in known else list(cells)
        for name, cells in columns.items()
    ]
    for row in zip(*plain, strict=True):
        yield dict(zip(columns, row, strict=True))


def _as_values(kind: TypeEngine[Any], cells: Cells) -> list[Any]:
    """Return the cells of a column as a record takes them."""
    if not isinstance(cells, np.ndarray):
        return list(cells)
    if cells.dtype.kind == "i" and is_integer(kind):
        return [None if cell == NO_INSTANT else _as_value(kind, cell) for cell in cells.tolist()]
    if cells.dtype.kind == "f" and isinstance(kind, Float | Boolean):
        return [None if cell != cell else _as_value(kind, cell) for cell in cells.tolist()]  # noqa: PLR0124  NaN
    return list(cells.tolist())


def _as_value(kind: TypeEngine[Any], cell: float) -> object:
    try:
        if isinstance(kind, Instant):
            return instant(int(cell))
        if isinstance(kind, Day):
            return cell if cell % DAY else day_of(int(cell) // DAY)
        if isinstance(kind, Money):
            return Decimal(int(cell)) / MONEY_SCALE
        return bool(cell) if isinstance(kind, Boolean) and cell in (0, 1) else cell
    except OverflowError:
        return cell  # which the check of single values will name


def stored_columns(model: type[Record], columns: Mapping[str, Cells], times: Times) -> Stored | None:
    """Return columns in stored form; None unless it is sure that every value fits."""
    known = columns_of(model)
    stored: Stored = {}
    for name, cells in columns.items():
        found = _stored(model, name, known[name], cells) if name in known else None
        if found is None:
            return None
        stored[name] = found
    if not _stages_fit(model, columns) or _ends_are_given(model, stored):
        return None
    return _timed(stored, size_of(model, columns), times)


def _stored(model: type[Record], name: str, column: Column[Any], cells: Cells) -> list[Any] | None:
    """Return a column in stored form; None unless it is sure that every value fits."""
    kind = column.type
    if isinstance(cells, np.ndarray) and cells.dtype.kind in "if":
        return _stored_array(model, name, kind, cells)
    cells = cells.tolist() if isinstance(cells, np.ndarray) else cells
    types = set(map(type, cells)) - {type(None)}
    if len(types) != 1:
        return list(cells) if not types else None
    if isinstance(kind, Json):
        return None
    if isinstance(kind, Instant | Day | Money):
        return _bound(kind, cells)
    return list(cells) if _all_fit(model, name, kind, cells, types.pop()) else None


def _stored_array(
    model: type[Record], name: str, kind: TypeEngine[Any], cells: npt.NDArray[Any]
) -> list[Any] | None:
    """Return a column in stored form, given as numbers with one sign for nothing."""
    if cells.dtype.kind == "i" and is_integer(kind):
        return _stored_integers(model, name, kind, cells)
    if cells.dtype.kind == "f" and isinstance(kind, Float):
        missing = np.isnan(cells)
        return _with_none(cells, missing) if _ends_fit(model, name, kind, cells[~missing]) else None
    return None


def _stored_integers(
    model: type[Record], name: str, kind: TypeEngine[Any], cells: npt.NDArray[Any]
) -> list[Any] | None:
    missing = cells == NO_INSTANT
    known = cells[~missing]
    if not _ends_fit(model, name, kind, known):
        return None
    if isinstance(kind, Day):
        return None if (known % DAY).any() else _with_none(cells // DAY, missing)
    return _with_none(cells, missing)


def _with_none(cells: npt.NDArray[Any], missing: npt.NDArray[np.bool_]) -> list[Any]:
    values: list[Any] = cells.tolist()
    for at in np.flatnonzero(missing).tolist():
        values[at] = None
    return values


def _ends_fit(model: type[Record], name: str, kind: TypeEngine[Any], known: npt.NDArray[Any]) -> bool:
    """Tell whether the smallest and the greatest fit, and with them all between."""
    ends = [known.min(), known.max()] if known.size else []
    return _each_fits(model, name, [_as_value(kind, end.item()) for end in ends])


def _each_fits(model: type[Record], name: str, values: Iterable[Any]) -> bool:
    try:
        for value in values:
            check_values(model, {name: value})
    except CRMError:
        return False
    return True


def _bound(kind: TypeDecorator[Any], cells: Sequence[Any]) -> list[Any] | None:
    """Return instants, days or money as they are stored; None if one of them is something else."""
    # No dialect matters to these types.
    bind: Callable[[Any, Any], Any] = kind.process_bind_param
    try:
        return [bind(cell, None) for cell in cells]
    except (TypeError, ValueError, AttributeError, OverflowError, InvalidValueError):
        return None


def _all_fit(model: type[Record], name: str, kind: TypeEngine[Any], cells: Sequence[Any], only: type) -> bool:
    """Tell whether cells of one Python type, or None, surely fit."""
    if issubclass(only, int | float):
        known = [cell for cell in cells if cell is not None]
        # With numpy's extremes NaN comes out, where there is one; integers beyond 64 bits are Python's alone.
        ends = np.array(known, dtype=None if issubclass(only, float | bool) else object)
        return _each_fits(model, name, [np.asarray(ends.min()).item(), np.asarray(ends.max()).item()])
    different = set(cells) - {None} if issubclass(only, str) else set()
    if 0 < len(different) <= _FEW:
        return _each_fits(model, name, different)
    words = (model.record_type, name) in CHOICES or name == "subject_type"
    return isinstance(kind, String) and bool(different) and not words and _texts_fit(model, name, different)


def _texts_fit(model: type[Record], name: str, texts: set[str]) -> bool:
    """Tell whether the longest text fits, and nothing unsafe is in any."""
    joined = "".join(texts)
    try:
        check_text(name, joined, longest=len(joined))
    except InvalidValueError:
        return False
    return _each_fits(model, name, [max(texts, key=len)])


def _stages_fit(model: type[Record], columns: Mapping[str, Cells]) -> bool:
    """Tell whether each stage is one of its pipeline: the one check that two fields take part in."""
    stages = columns.get("stage")
    if model.record_type != "deal" or stages is None:
        return True
    pipelines = columns.get("pipeline", repeat(None))
    pairs = set(zip(pipelines, stages, strict=False))
    try:
        for pipeline, stage in pairs:
            check_values(model, {"pipeline": pipeline, "stage": stage})
    except CRMError:
        return False
    return True


def _ends_are_given(model: type[Record], stored: Stored) -> bool:
    """Tell whether something is said to have ended, which must not be before it began."""
    ends = [stored.get(end) for _, end in ORDERED.get(model.record_type, ())]
    return any(cells is not None and any(cell is not None for cell in cells) for cells in ends)


def _timed(stored: Stored, size: int, times: Times) -> Stored | None:
    """Return columns with both instants, now where nothing is said; None if one of them may not be."""
    for name in ("occurred_at", "recorded_at"):
        said = stored.get(name) or [None] * size
        known = [at for at in said if at is not None]
        if known and (max(known) > times.latest or (name == "recorded_at" and not times.may_tell)):
            return None
        stored[name] = [times.now if at is None or at > times.now else at for at in said]
    return stored


def as_stored(model: type[Record], columns: Mapping[str, Sequence[Any]]) -> Stored:
    """Return columns of checked values in stored form."""
    known = columns_of(model)
    return {name: _as_stored(known[name].type, cells) for name, cells in columns.items()}


def _as_stored(kind: TypeEngine[Any], cells: Sequence[Any]) -> list[Any]:
    if not isinstance(kind, TypeDecorator):
        return list(cells)
    bind: Callable[[Any, Any], Any] = kind.process_bind_param
    return [bind(cell, None) for cell in cells]


def write_new(session: Session, model: type[Record], stored: Stored, first: int, writer: Writer) -> None:
    """Write checked records under ids that ascend from `first`, and a change row for each."""
    size = len(stored["occurred_at"])
    columns = {**_with_defaults(model, stored, size), "id": list(range(first, first + size))}
    session.flush()
    connection = session.connection()
    try:
        # A statement that fails ends a transaction on PostgreSQL, and who reads must not.
        with connection.begin_nested() if "external_id" in stored else nullcontext():
            _insert(connection, model, columns)
    except IntegrityError as error:
        _refuse_duplicate(connection, model, stored, first, error)
        raise
    _log_new(connection, model, first, first + size - 1, writer)


def _with_defaults(model: type[Record], stored: Stored, size: int) -> Stored:
    """Return columns with what a field holds of which nothing is said."""
    filled = dict(stored)
    for name, column in columns_of(model).items():
        if isinstance(column.default, ScalarElementColumnDefault):
            default = column.default.arg
            cells = filled.get(name)
            filled[name] = (
                [default] * size if cells is None else [default if cell is None else cell for cell in cells]
            )
    return filled


def _insert(connection: Connection, model: type[Record], columns: Stored) -> None:
    if connection.dialect.name == "postgresql":
        names = ", ".join(map(connection.dialect.identifier_preparer.quote, columns))
        rows = zip(*columns.values(), strict=True)
        statement = f"COPY {model.__tablename__} ({names}) FROM STDIN"
        connection.exec_driver_sql(statement, execution_options={COPY_IN: rows})
        return
    compiled = insert(model).values(dict.fromkeys(columns)).compile(dialect=connection.dialect)
    ordered = [columns[name] for name in compiled.positiontup or ()]
    connection.exec_driver_sql(str(compiled), list(zip(*ordered, strict=True)))


def _log_new(connection: Connection, model: type[Record], first: int, last: int, writer: Writer) -> None:
    """Write the change rows of new records, from what was written of them."""
    known = columns_of(model)
    values: dict[str, ColumnElement[Any]] = {
        "sequence": literal(writer.sequence, BigInteger),
        "record_type": literal(model.record_type),
        "record_id": known["id"],
        "action": literal(Action.CREATED.value),
        "occurred_at": known["occurred_at"],
        "recorded_at": known["recorded_at"],
        "source": literal(str(writer.source)),
        "actor_id": literal(writer.actor_id, Integer),
    }
    rows = select(*values.values()).where(between(known["id"], first, last)).order_by(known["id"])
    connection.execute(insert(Change).from_select(list(values), rows))


def _refuse_duplicate(
    connection: Connection, model: type[Record], stored: Stored, first: int, error: Exception
) -> None:
    """Name the first external id that is another record's, if it is one that the database refused.

    Records of two declared types may have the same one.
    """
    seen: set[tuple[Any, str]] = set()
    kinds = stored.get("type_id", repeat(None))
    kind = columns_of(model).get("type_id", literal(None))
    cells = [cell for cell in zip(kinds, stored.get("external_id", ()), strict=False) if cell[1] is not None]
    for start in range(0, len(cells), _LISTED):
        some = cells[start : start + _LISTED]
        listed = model.external_id.in_([external_id for _, external_id in some])
        query = select(kind, model.external_id).where(listed, model.id < first)
        taken = {(type_id, external_id) for type_id, external_id in connection.execute(query)}
        for cell in some:
            if cell in taken or cell in seen:
                raise DuplicateExternalIdError(model.record_type, cell[1]) from error
            seen.add(cell)
