"""What a field held, as it was known at an instant, read from the change log."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import Text, select, type_coerce
from sqlalchemy.orm import Session

from crm_core.arrays import Arrays, among, read_arrays
from crm_core.changes import Action, Change
from crm_core.clock import micros
from crm_core.columns import Day, Instant, Money
from crm_core.errors import UnknownFieldError
from crm_core.records import SCORE_COLUMNS, Record
from crm_core.segments import end_within, runs_of
from crm_core.validation import columns_of

Ints = npt.NDArray[np.int64]
Objects = npt.NDArray[np.object_]
Values = npt.NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class FieldHistory:
    """All changes of one field of one record type, sorted by record and then by the order of being written.

    `record_id`, `change_id`, `occurred_at`, `recorded_at`: int64[n], instants in microseconds.
    `old`, `new`: object[n], decoded values in their stored form (see `crm_core.changes`).
    """

    record_id: Ints
    change_id: Ints
    occurred_at: Ints
    recorded_at: Ints
    old: Values
    new: Values


def read_field_history(session: Session, model: type[Record], field: str) -> FieldHistory:
    """Return every change of `field` (a column, or `custom.NAME`); its cost is that of the changes."""
    return read_histories(session, model, [field])[field]


def read_histories(
    session: Session, model: type[Record], fields: Sequence[str], ids: Ints | None = None
) -> dict[str, FieldHistory]:
    """Return every change of each of `fields`, in one query; with `ids`, those of these records only."""
    for field in fields:
        _check_field(model, field)
    query = select(
        Change.field,
        Change.record_id,
        Change.id.label("change_id"),
        Change.occurred_at,
        Change.recorded_at,
        type_coerce(Change.old, Text).label("old"),
        type_coerce(Change.new, Text).label("new"),
    ).where(Change.record_type == model.record_type, Change.field.in_(fields))
    if ids is not None:
        query = query.where(among(Change.record_id, ids))
    columns = read_arrays(session, query.order_by(Change.field, Change.record_id, Change.id))
    if ids is not None:
        asked = np.isin(columns["record_id"], ids)
        columns = {name: column[asked] for name, column in columns.items()}
    return {field: _history(columns, columns["field"] == field) for field in fields}


def _history(columns: Arrays, rows: npt.NDArray[np.bool_]) -> FieldHistory:
    return FieldHistory(
        record_id=columns["record_id"][rows],
        change_id=columns["change_id"][rows],
        occurred_at=columns["occurred_at"][rows],
        recorded_at=columns["recorded_at"][rows],
        old=_decoded(columns["old"][rows]),
        new=_decoded(columns["new"][rows]),
    )


def values_as_of(session: Session, model: type[Record], field: str, ids: Ints, as_of: Ints) -> Objects:
    """Return what `field` of each record held, as known at each instant.

    Parameters
    ----------
    ids, as_of : int64[n]
        The questions: a record's id, and microseconds since 1970. A record may be asked many times.

    Returns
    -------
    object[n]
        The stored form of the value (ints for instants, days and money; str; float; bool), None where it
        was empty.

    Notes
    -----
    Time rule: among changes with recorded_at <= as_of and occurred_at <= as_of, the one that occurred last
    counts, and of those that occurred together the one written last. Without any, the value before the
    first change written. Whether the record itself was known at `as_of` is for the caller to ask.
    """
    _check_field(model, field)
    history = read_field_history(session, model, field)
    return resolve_as_of(history, current_values(session, model, field, ids), ids, as_of)


def current_values(session: Session, model: type[Record], field: str, ids: Ints) -> Objects:
    """Return what `field` of each record holds now, in its stored form; None for an unknown record."""
    if field.startswith("custom."):
        name = field.removeprefix("custom.")
        rows = session.execute(select(model.id, model.custom).where(model.custom.is_not(None)))
        found = {record_id: custom.get(name) for record_id, custom in rows}
    else:
        column = columns_of(model)[field]
        kind = column.type.impl_instance if isinstance(column.type, Instant | Day | Money) else column.type
        query = select(columns_of(model)["id"], type_coerce(column, kind).label("value"))
        found = {row.id: row.value for row in session.connection().execute(query)}
    return _objects([found.get(record_id) for record_id in ids.tolist()])


def newest_known(history: FieldHistory, ids: Ints, as_of: Ints) -> Ints:
    """Return the change that decides what each record's field held, as known at each instant.

    Parameters
    ----------
    ids, as_of : int64[n]
        The questions: a record's id, and microseconds since 1970. A record may be asked many times.

    Returns
    -------
    int64[n]
        Positions in `history`; -1 where no change was known. Time rule: that of `values_as_of`.
    """
    if history.record_id.size == 0:
        return np.full(ids.size, -1, dtype=np.int64)
    by_age = np.lexsort((history.change_id, history.occurred_at, history.record_id))
    rank = np.empty_like(by_age)
    rank[by_age] = np.arange(by_age.size)
    visible = np.maximum(history.occurred_at, history.recorded_at)
    by_sight = np.lexsort((visible, history.record_id))
    # Ranks grow with the record first, so a running maximum never looks into the record before.
    newest = by_age[np.maximum.accumulate(rank[by_sight])]
    start, stop = runs_of(history.record_id, ids)
    end = end_within(visible[by_sight], start, stop, as_of)
    return np.where(end > start, newest[end - 1], -1)


def resolve_as_of(history: FieldHistory, current: Values, ids: Ints, as_of: Ints) -> Values:
    """Answer `values_as_of` from arrays that were read before; `history` and `current` hold values alike."""
    result = current.copy()
    start, stop = runs_of(history.record_id, ids)
    changed = stop > start
    result[changed] = history.old[start[changed]]
    newest = newest_known(history, ids, as_of)
    known = newest >= 0
    result[known] = history.new[newest[known]]
    return result


def state_as_of(session: Session, model: type[Record], record_id: int, at: datetime) -> dict[str, Any] | None:
    """Return every field of one record as known at `at`, in stored form; None if it was not known then.

    Columns that models write are left out: they are kept in `predictions`.
    """
    record = session.get(model, record_id)
    if record is None or record.recorded_at > at or record.occurred_at > at:
        return None
    if record.deleted_at is not None and record.deleted_at <= at:
        return None
    ids, when = np.array([record_id]), np.array([micros(at)])
    fields = [name for name in columns_of(model) if name not in _NOT_STATE]
    fields += [f"custom.{name}" for name in _custom_names(session, record)]
    return {field: values_as_of(session, model, field, ids, when)[0] for field in fields}


_NOT_STATE = SCORE_COLUMNS | {"custom", "version", "deleted_at"}


def _custom_names(session: Session, record: Record) -> set[str]:
    logged = session.scalars(
        select(Change.field).where(
            Change.record_type == record.record_type,
            Change.record_id == record.id,
            Change.action == Action.UPDATED,
            Change.field.startswith("custom."),
        )
    )
    return set(record.custom or {}) | {field.removeprefix("custom.") for field in logged if field}


def _check_field(model: type[Record], field: str) -> None:
    if not field.startswith("custom.") and field not in columns_of(model):
        raise UnknownFieldError(model.record_type, field)


def _decoded(texts: Objects) -> Objects:
    # Few different values are written over and over: each is parsed once.
    parsed = {text: None if text is None else json.loads(text) for text in set(texts.tolist())}
    return _objects([parsed[text] for text in texts.tolist()])


def _objects(values: list[Any]) -> Objects:
    # One by one: numpy would take lists among them for a dimension.
    return np.fromiter(values, dtype=object, count=len(values))
