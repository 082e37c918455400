"""What a field held, as it was known at an instant, read from the change log."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import Text, select, type_coerce
from sqlalchemy.orm import Session

from crm_core.arrays import read_arrays
from crm_core.changes import Action, Change
from crm_core.clock import micros
from crm_core.columns import Day, Instant, Money
from crm_core.errors import UnknownFieldError
from crm_core.records import SCORE_COLUMNS, Record
from crm_core.validation import columns_of

Ints = npt.NDArray[np.int64]
Objects = npt.NDArray[np.object_]


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
    old: Objects
    new: Objects


def read_field_history(session: Session, model: type[Record], field: str) -> FieldHistory:
    """Return every change of `field` (a column, or `custom.NAME`); its cost is that of the changes."""
    _check_field(model, field)
    query = (
        select(
            Change.record_id,
            Change.id.label("change_id"),
            Change.occurred_at,
            Change.recorded_at,
            type_coerce(Change.old, Text).label("old"),
            type_coerce(Change.new, Text).label("new"),
        )
        .where(Change.record_type == model.record_type, Change.field == field)
        .order_by(Change.record_id, Change.id)
    )
    columns = read_arrays(session, query)
    return FieldHistory(
        record_id=columns["record_id"],
        change_id=columns["change_id"],
        occurred_at=columns["occurred_at"],
        recorded_at=columns["recorded_at"],
        old=_decoded(columns["old"]),
        new=_decoded(columns["new"]),
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


def resolve_as_of(history: FieldHistory, current: Objects, ids: Ints, as_of: Ints) -> Objects:
    """Answer `values_as_of` from arrays that were read before."""
    result = current.copy()
    start = np.searchsorted(history.record_id, ids, side="left")
    stop = np.searchsorted(history.record_id, ids, side="right")
    for row in np.flatnonzero(stop > start):
        span = slice(start[row], stop[row])
        known = (history.recorded_at[span] <= as_of[row]) & (history.occurred_at[span] <= as_of[row])
        positions = np.flatnonzero(known)
        if positions.size == 0:
            result[row] = history.old[start[row]]
            continue
        happened = history.occurred_at[span][positions]
        newest = positions[happened.size - 1 - np.argmax(happened[::-1])]
        result[row] = history.new[start[row] + newest]
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
    return _objects([None if text is None else json.loads(text) for text in texts])


def _objects(values: list[Any]) -> Objects:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array
