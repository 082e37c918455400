"""The company's records as columns, before they are written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from crm_core.arrays import NO_INSTANT

Ints = npt.NDArray[np.int64]
Objects = npt.NDArray[np.object_]
Columns = dict[str, npt.NDArray[Any]]

NONE = -1
"""Stands for no record in a column of references."""


@dataclass(frozen=True, kw_only=True)
class Edits:
    """Changes of one field: `record`: int64[n], positions in the table; one `value` and two instants each."""

    field: str
    record: Ints
    value: npt.NDArray[Any]
    occurred_at: Ints
    recorded_at: Ints


@dataclass(frozen=True, kw_only=True)
class Table:
    """Records of one type as they were created, and what was changed later.

    Instants and days are int64 (microseconds; days since 1970) with NO_INSTANT for none, references are
    positions in the other table (NONE for none), money is float64 with NaN for none, the rest is object or a
    number.
    """

    columns: Columns
    edits: list[Edits] = field(default_factory=list)

    def __len__(self) -> int:
        """Return how many records there are."""
        return len(self.columns["occurred_at"])

    def edit(
        self, name: str, record: Ints, value: npt.NDArray[Any], occurred_at: Ints, recorded_at: Ints
    ) -> None:
        """Note changes of one field."""
        edits = Edits(
            field=name, record=record, value=value, occurred_at=occurred_at, recorded_at=recorded_at
        )
        self.edits.append(edits)


def chosen(rng: np.random.Generator, shares: npt.ArrayLike, size: int) -> Ints:
    """Return positions drawn with the given shares, which need not sum to 1."""
    weights = np.asarray(shares, dtype=np.float64)
    return rng.choice(weights.size, size=size, p=weights / weights.sum())


def texts(values: Sequence[object]) -> Objects:
    """Return values as an object array."""
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def blanked(values: npt.NDArray[Any], missing: npt.NDArray[np.bool_]) -> Objects:
    """Return a copy with None where `missing`."""
    array = values.astype(object)
    array[missing] = None
    return array


def missing(values: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Return where there is None."""
    return np.array([value is None for value in values], dtype=bool)


def happened(at: Ints) -> npt.NDArray[np.bool_]:
    """Return where there is an instant."""
    return np.asarray(at != NO_INSTANT)


def joined_tables(tables: list[Table]) -> Table:
    """Return one table with the records of all, one after the other."""
    offsets = np.cumsum([0, *(len(table) for table in tables)])
    edits = [
        replace(edits, record=edits.record + offset)
        for table, offset in zip(tables, offsets, strict=False)
        for edits in table.edits
    ]
    names = tables[0].columns
    columns = {name: np.concatenate([table.columns[name] for table in tables]) for name in names}
    return Table(columns=columns, edits=edits)
