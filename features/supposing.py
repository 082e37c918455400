"""What features would be if something happened at the question: events and values laid over tables.

Nothing is written anywhere. The same feature functions answer, over tables that hold one event more, or a
field that was just set; what is supposed has happened and is known at the very instant of the question. A
row that was supposed is the row that there would be, to the bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from crm_core.arrays import NO_INSTANT
from crm_core.errors import FeatureError
from crm_core.history import FieldHistory
from features.cohort import Cohort
from features.columns import Values, Words, as_objects, nothing_in
from features.supposed import longer
from features.tables import Table, Tables
from features.windows import Ints

Held = str | int | float | None
"""A value in its stored form: a word, an instant in microseconds, money in ten-thousandths."""


@dataclass(frozen=True, kw_only=True)
class Supposition:
    """What is supposed to happen to the record asked about, at the instant of the question.

    `events`: (record type, fields) of each event that comes to be linked to it; `fields`: what its own fields
    are set to; `linked`: (record type, field, from, to), which sets a field of all events linked to it that
    hold `from`.
    """

    events: tuple[tuple[str, Mapping[str, Held]], ...] = ()
    fields: Mapping[str, Held] = field(default_factory=dict)
    linked: tuple[tuple[str, str, Held, Held], ...] = ()


def suppose(tables: Tables, cohort: Cohort, supposition: Supposition) -> Tables:
    """Return tables in which the supposition has come true for the one question of a cohort.

    What no feature reads is not in the tables, and supposing it changes nothing. The tables themselves stay
    as they are.
    """
    if len(cohort) != 1:
        raise FeatureError(f"suppositions are about one question at a time, not {len(cohort)}")
    record_id, as_of = int(cohort.ids[0]), int(cohort.as_of[0])
    found: dict[str, Table] = dict(tables)
    own = np.array([record_id], dtype=np.int64)
    for name, value in supposition.fields.items():
        found[cohort.record_type] = _set(found[cohort.record_type], own, name, value, as_of)
    link = f"{cohort.record_type}_id"
    for event, values in supposition.events:
        if event in found:
            found[event] = _with_event(found[event], {**values, link: record_id}, as_of)
    for event, name, old, new in supposition.linked:
        if event in found and name in found[event].columns:
            table = found[event]
            holding = (table.ints(link) == record_id) & _holds(table.columns[name], old)
            found[event] = _set(table, table.ints("id")[holding], name, new, as_of)
    return Tables(found, tables.populations)


def _with_event(table: Table, values: Mapping[str, Held], as_of: int) -> Table:
    """Return the table with one record more; of its fields, those that nobody reads are left out."""
    known = table.ints("id")
    given: dict[str, Held] = {
        **values,
        "id": int(known.max(initial=0)) + 1,
        "occurred_at": as_of,
        "recorded_at": as_of,
    }
    columns = {name: longer(column, given.get(name)) for name, column in table.columns.items()}
    return Table(columns, table.histories)


def _set(table: Table, ids: Ints, name: str, value: Held, as_of: int) -> Table:
    """Return the table with a field of some records set, as the last of its changes."""
    rows = table.rows_of(ids)
    if name not in table.columns or ids.size == 0:
        return table
    column = table.columns[name]
    plain = column.decode() if isinstance(column, Words) else column
    history = table.histories.get(name) or _no_history(plain)
    for record_id, old in zip(ids.tolist(), plain[rows], strict=True):
        history = _with_change(history, record_id, (old, value), as_of)
    changed = plain.copy()
    changed[rows] = nothing_in(plain) if value is None else value
    columns = {**table.columns, name: changed}
    return Table(columns, {**table.histories, name: history})


def _with_change(history: FieldHistory, record_id: int, step: tuple[Any, Any], as_of: int) -> FieldHistory:
    """Return the history with one change more, behind all of the record's."""
    place = int(np.searchsorted(history.record_id, record_id, side="right"))
    old, new = (nothing_in(history.new) if value is None else value for value in step)
    newest = int(history.change_id.max(initial=0))

    def longer(values: Values, value: Any) -> Values:  # noqa: ANN401  any stored value
        added = as_objects([value]) if values.dtype == object else np.array([value], dtype=values.dtype)
        return np.concatenate((values[:place], added, values[place:]))

    return FieldHistory(
        record_id=longer(history.record_id, record_id),
        change_id=longer(history.change_id, newest + 1),
        occurred_at=longer(history.occurred_at, as_of),
        recorded_at=longer(history.recorded_at, as_of),
        old=longer(history.old, old),
        new=longer(history.new, new),
    )


def _no_history(column: Values) -> FieldHistory:
    nothing = np.empty(0, dtype=np.int64)
    return FieldHistory(
        record_id=nothing,
        change_id=nothing,
        occurred_at=nothing,
        recorded_at=nothing,
        old=column[:0],
        new=column[:0],
    )


def _holds(column: Values | Words, value: Held) -> Values:
    if isinstance(column, Words):
        return column.among((str(value),))
    wanted = NO_INSTANT if value is None else value
    return np.fromiter((cell == wanted for cell in column.tolist()), dtype=np.bool_, count=column.size)
