"""A record that is supposed to exist, and what is linked to it: rows laid over the tables that are read.

Nothing is written anywhere, and no id is used up: what is supposed has ids that no record ever gets, greater
than all, in the order in which it would have been created. The same feature functions answer, so that the row
of a supposed record is the row that there would be, to the bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from sqlalchemy.sql.schema import ScalarElementColumnDefault

from crm_core.arrays import as_array
from crm_core.creating import as_stored
from crm_core.records import Record
from crm_core.validation import columns_of
from features.columns import Values, Words, as_objects, nothing_in
from features.tables import Table

FIRST_ID: Final = 2**62
"""The id of the record that is asked about; what is linked to it has those that follow."""

Cell = Any
"""A value as `crm_core.arrays.read_arrays` gives it; None for an empty one of any kind."""


@dataclass(frozen=True, kw_only=True)
class Supposed:
    """A record that does not exist, and events linked to it: cells by field of each, with its record type.

    The first row is the record asked about; its id is `FIRST_ID`.
    """

    rows: tuple[tuple[str, Mapping[str, Cell]], ...]

    @classmethod
    def of(cls, record: Record, events: Sequence[Record] = ()) -> Supposed:
        """Return records that `Transaction.prepare` has checked, in the order of being created.

        Events name the record that is asked about by `FIRST_ID`.
        """
        rows = (record, *events)
        return cls(
            rows=tuple(
                (row.record_type, {**_cells(row), "id": FIRST_ID + number}) for number, row in enumerate(rows)
            )
        )

    @property
    def record_id(self) -> int:
        """Return the id under which the record is asked about."""
        return FIRST_ID

    def laid_over(self, record_type: str, table: Table) -> Table:
        """Return a table with the rows of its type that are supposed; what nobody reads is left out."""
        for kind, cells in self.rows:
            if kind == record_type:
                columns = {name: longer(column, cells.get(name)) for name, column in table.columns.items()}
                table = Table(columns, table.histories)
        return table


def _cells(record: Record) -> dict[str, Cell]:
    """Return what a record holds, as reading it would give it; custom fields by their name."""
    model = type(record)
    cells: dict[str, Cell] = {}
    for name, column in columns_of(model).items():
        value = getattr(record, name)
        if value is None and isinstance(column.default, ScalarElementColumnDefault):
            value = column.default.arg
        if value is not None and name != "custom":
            stored = as_stored(model, {name: [value]})[name]
            cells[name] = as_array(column.type, stored)[0]
    cells |= {f"custom.{name}": value for name, value in (record.custom or {}).items()}
    return cells


def longer(column: Values | Words, cell: Cell) -> Values | Words:
    """Return a column with one cell more; None stands for empty."""
    plain = column.decode() if isinstance(column, Words) else column
    held = nothing_in(column) if cell is None else cell
    if plain.dtype == object:
        return np.concatenate((plain, as_objects([held])))
    return np.append(plain, np.array([held], dtype=plain.dtype))
