"""Tables as they would be if nothing had been learned after an instant: what time alone does to a row."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from crm_core.arrays import NO_INSTANT
from crm_core.history import FieldHistory
from features.columns import Values, Words
from features.tables import Table, Tables
from features.windows import Flags, Ints, visible_from


def known_by(tables: Tables, instant: int) -> Tables:
    """Return tables that hold only what was known at an instant (microseconds), to be asked at a later one.

    Time rule: a record, a change or a deletion stays if it was recorded and had happened by `instant`. What
    became of other records, which rates are counted from, stays as it is: it comes with time.
    """
    return Tables({name: _known(table, instant) for name, table in tables.items()}, tables.populations)


def _known(table: Table, instant: int) -> Table:
    there = visible_from(table.ints("occurred_at"), table.ints("recorded_at")) <= instant
    columns = dict(table.columns)
    histories: dict[str, FieldHistory] = {}
    for name, history in table.histories.items():
        seen = visible_from(history.occurred_at, history.recorded_at) <= instant
        histories[name] = _taken(history, seen)
        columns[name] = _held_before(table, columns[name], history, seen)
    if table.deleted_at is not None:
        later = table.deleted_at > instant
        columns["deleted_at"] = np.where(later, NO_INSTANT, table.deleted_at)
    rows = np.flatnonzero(there)
    return Table({name: _rows(column, rows) for name, column in columns.items()}, histories)


def _rows(column: Values | Words, rows: Ints) -> Values | Words:
    return column.take(rows) if isinstance(column, Words) else column[rows]


def _taken(history: FieldHistory, seen: Flags) -> FieldHistory:
    return FieldHistory(**{name: values[seen] for name, values in _columns(history).items()})


def _columns(history: FieldHistory) -> Mapping[str, Values]:
    return vars(history)


def _held_before(table: Table, column: Values | Words, history: FieldHistory, seen: Flags) -> Values | Words:
    """Return a column in which records of whose changes none was known hold what they held before all."""
    changed, first = np.unique(history.record_id, return_index=True)
    unknown = ~np.isin(changed, history.record_id[seen])
    row = table.rows_of(changed[unknown])
    if not (row >= 0).any():
        return column
    plain = (column.decode() if isinstance(column, Words) else column).copy()
    plain[row[row >= 0]] = history.old[first[unknown][row >= 0]]
    return plain
