"""Columns of fields: words kept as numbers, and rows that are chosen only when a column is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from crm_core.arrays import NO_INSTANT

Values = npt.NDArray[Any]
Flags = npt.NDArray[np.bool_]


_MANY = 1000
"""Words from which on a library that looks at them all at once is quicker."""


class Words:
    """A column of words, None for empty, of which few differ: `codes[i]` is a place in `words`."""

    def __init__(self, codes: Values, words: npt.NDArray[np.object_]) -> None:
        self.codes = codes
        self.words = words

    @classmethod
    def of(cls, values: npt.NDArray[np.object_]) -> Words:
        """Return a column of objects as words; equal objects become one."""
        return (cls._of_many(values) if values.size > _MANY else None) or cls._of_any(values.tolist())

    @classmethod
    def of_filled(cls, column: Values) -> Words:
        """Return of a column of whole numbers, as links are, only which are empty: None, or no word."""
        return cls((column != NO_INSTANT).astype(np.int32), as_objects([None, ""]))

    @classmethod
    def _of_any(cls, cells: list[Any]) -> Words:
        """Return a column of whatever JSON holds; lists stay apart."""
        try:
            place = {word: number for number, word in enumerate(dict.fromkeys(cells))}
        except TypeError:
            return cls(np.arange(len(cells), dtype=np.int32), as_objects(cells))
        codes = np.fromiter(map(place.__getitem__, cells), dtype=np.int32, count=len(cells))
        return cls(codes, as_objects(list(place)))

    @classmethod
    def _of_many(cls, values: npt.NDArray[np.object_]) -> Words | None:
        """Return the same without an object a row; None where not all are words, as in custom fields."""
        import pyarrow as pa

        try:
            coded = pa.array(values, type=pa.string(), from_pandas=True).dictionary_encode()
        except pa.ArrowTypeError:
            return None
        words = as_objects([*coded.dictionary.to_pylist(), None])
        codes = coded.indices.fill_null(len(words) - 1).to_numpy(zero_copy_only=False)
        return cls(codes.astype(np.int32), words)

    @property
    def size(self) -> int:
        """Return the number of rows."""
        return int(self.codes.size)

    def take(self, rows: Values) -> Words:
        """Return the given rows."""
        return Words(self.codes[rows], self.words)

    def decode(self) -> npt.NDArray[np.object_]:
        """Return the words themselves."""
        return self.words[self.codes]

    def among(self, wanted: tuple[str | None, ...]) -> Flags:
        """Tell which rows hold one of `wanted`; None is an empty one."""
        chosen = np.array([word in wanted for word in self.words.tolist()], dtype=np.bool_)
        return chosen[self.codes]


class Columns(Mapping[str, Values]):
    """Columns of one length by name, each taken from longer ones (`rows` of them) when first asked for."""

    def __init__(
        self, whole: Mapping[str, Values | Words] | Columns, rows: npt.NDArray[np.int64] | None = None
    ) -> None:
        self._whole = whole
        self._rows = rows
        self._stored: dict[str, Values | Words] = {}
        self._decoded: dict[str, Values] = {}

    def __getitem__(self, name: str) -> Values:
        column = self.stored(name)
        if not isinstance(column, Words):
            return column
        if name not in self._decoded:
            self._decoded[name] = column.decode()
        return self._decoded[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._whole)

    def __len__(self) -> int:
        return len(self._whole)

    def stored(self, name: str) -> Values | Words:
        """Return a column as it is kept."""
        found = self._stored.get(name)
        if found is None:
            found = stored_in(self._whole, name)
            if self._rows is not None:
                found = found.take(self._rows)
            self._stored[name] = found
        return found


def stored_in(columns: Mapping[str, Values | Words] | Columns, name: str) -> Values | Words:
    """Return a column as it is kept: as words, where it is."""
    return columns.stored(name) if isinstance(columns, Columns) else columns[name]


def picked(column: Values | Words, rows: npt.NDArray[np.int64]) -> Values:
    """Return what a column holds in some rows; what stands for empty in row -1."""
    if column.size == 0:
        return np.full(rows.size, nothing_in(column), dtype=kind_of(column))
    held = column.words[column.codes[rows]] if isinstance(column, Words) else column[rows]
    none = rows < 0
    if none.any():
        held[none] = nothing_in(column)
    return held


def kind_of(column: Values | Words) -> np.dtype[np.generic]:
    """Return what a column's values are kept as."""
    return np.dtype(object) if isinstance(column, Words) else column.dtype


def as_objects(values: list[Any]) -> npt.NDArray[np.object_]:
    """Return values as an array of objects, whatever they are."""
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def in_words(column: Values | Words) -> Words:
    """Return a column as words; of whole numbers, only which are empty."""
    if isinstance(column, Words):
        return column
    return Words.of_filled(column) if column.dtype.kind == "i" else Words.of(column)


def nothing_in(column: Values | Words) -> float | int | None:
    """Return what stands for empty in a column of this kind."""
    if isinstance(column, Words):
        return None
    return {"i": NO_INSTANT, "f": np.nan}.get(column.dtype.kind)
