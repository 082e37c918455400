"""How a frame of features becomes a matrix of doubles: part of the model, the same for all uses.

Numbers stay what they are, NaN included. A category becomes one column for each level that enough entities
had, one for all other levels and one for a missing value, each 0 or 1.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np

from models.hazard import Floats

if TYPE_CHECKING:
    from pandas import DataFrame

FEWEST_OF_A_LEVEL = 20
"""Entities that must have had a level before it gets a column of its own."""

MOST_LEVELS = 100
"""Columns that one category may take; what is rarer counts as other."""


Forced = Mapping[str, frozenset[str | None]]
"""Features that get columns whatever the frame holds, with the levels that do (None: a missing value)."""

_NONE: frozenset[str | None] = frozenset()


class ColumnKind(StrEnum):
    """What a column of the matrix holds."""

    NUMBER = "number"
    LEVEL = "level"
    OTHER = "other"
    MISSING = "missing"


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column of the matrix: a number, or whether a category has a level."""

    feature: str
    kind: ColumnKind
    level: str | None = None

    @property
    def name(self) -> str:
        """Return the column's name, unique within the encoder."""
        match self.kind:
            case ColumnKind.NUMBER:
                return self.feature
            case ColumnKind.LEVEL:
                return f"{self.feature}={self.level}"
        return f"{self.feature}~{self.kind}"


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """Turns a frame into a matrix, column by column in a fixed order."""

    columns: tuple[Column, ...]
    _index: dict[str, dict[str, int]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        index: dict[str, dict[str, int]] = {}
        for position, column in enumerate(self.columns):
            key = f"={column.level}" if column.kind is ColumnKind.LEVEL else f"~{column.kind}"
            index.setdefault(column.feature, {})[key] = position
        object.__setattr__(self, "_index", index)

    @property
    def features(self) -> tuple[str, ...]:
        """Return the features read, in order."""
        return tuple(self._index)

    def encode(self, frame: DataFrame) -> Floats:
        """Return the matrix of `frame`: float64[n, columns], NaN only for a missing number.

        A level that was not seen in training counts as other; without such a column it is 0 in all.
        """
        matrix = np.zeros((len(frame), len(self.columns)))
        for feature, places in self._index.items():
            values = frame[feature].to_numpy()
            if "~number" in places:
                matrix[:, places["~number"]] = values.astype(np.float64)
            else:
                _mark_levels(matrix, values, places)
        return matrix

    def to_json(self) -> list[list[str | None]]:
        """Return the columns as plain data."""
        return [[column.feature, str(column.kind), column.level] for column in self.columns]

    @classmethod
    def from_json(cls, data: list[list[str | None]]) -> Encoder:
        """Return the encoder that `to_json` described."""
        columns = (
            Column(feature=str(feature), kind=ColumnKind(str(kind)), level=level)
            for feature, kind, level in data
        )
        return cls(columns=tuple(columns))


def _mark_levels(matrix: Floats, values: np.ndarray[Any, Any], places: dict[str, int]) -> None:
    other = places.get("~other", -1)
    missing = places.get("~missing", other)
    found = [missing if is_missing(value) else places.get(f"={value}", other) for value in values.tolist()]
    at = np.array(found, dtype=np.int64)
    rows = np.flatnonzero(at >= 0)
    matrix[rows, at[rows]] = 1.0


def is_missing(value: object) -> bool:
    """Tell whether a cell holds nothing."""
    return value is None or value != value  # noqa: PLR0124  NaN is what does not equal itself


def fit_encoder(
    frame: DataFrame,
    entity: Sequence[int] | np.ndarray[Any, Any],
    *,
    features: Sequence[str] | None = None,
    fewest: int = FEWEST_OF_A_LEVEL,
    forced: Forced | None = None,
    segments: Sequence[str] = (),
) -> Encoder:
    """Return the encoder for the features of a training frame; a feature that never varies gets no column.

    Parameters
    ----------
    frame
        One row a question; float columns are numbers, all others categories.
    entity
        int64[n], the entity asked about: a level counts once an entity.
    features
        Those to use; all columns by default.
    forced
        What gets a column of its own although it never varies or is rare.
    segments
        Categories of which every level gets a column: who fits them sees to it that rare ones say little.
    """
    owners, kept = np.asarray(entity), forced or {}
    columns: list[Column] = []
    for feature in features if features is not None else list(frame.columns):
        values = frame[feature]
        if values.dtype.kind in "fiub":
            columns += _number(feature, values.to_numpy().astype(np.float64), forced=feature in kept)
        else:
            least = 1 if feature in segments else fewest
            columns += _category(feature, values.to_numpy(), owners, least, kept.get(feature, _NONE))
    return Encoder(columns=tuple(columns))


def _number(feature: str, values: Floats, *, forced: bool) -> list[Column]:
    missing = np.isnan(values)
    known = values[~missing]
    varies = known.size > 0 and (known.min() < known.max() or bool(missing.any()))
    return [Column(feature=feature, kind=ColumnKind.NUMBER)] if varies or forced else []


def _category(
    feature: str,
    values: np.ndarray[Any, Any],
    owners: np.ndarray[Any, Any],
    fewest: int,
    forced: frozenset[str | None],
) -> list[Column]:
    pairs = {
        (None if is_missing(value) else str(value), owner)
        for value, owner in zip(values, owners, strict=True)
    }
    count = Counter(level for level, _ in pairs)
    missing = count.pop(None, 0)
    ranked = sorted(count.items(), key=lambda item: (-item[1], str(item[0])))
    kept = {str(level) for level, times in ranked[:MOST_LEVELS] if times >= fewest}
    kept |= {level for level in forced if level is not None}
    other = sum(count.values()) - sum(count[level] for level in kept)
    columns = [Column(feature=feature, kind=ColumnKind.LEVEL, level=level) for level in sorted(kept)]
    if other:
        columns.append(Column(feature=feature, kind=ColumnKind.OTHER))
    if missing or None in forced:
        columns.append(Column(feature=feature, kind=ColumnKind.MISSING))
    return columns if len(columns) > 1 or forced else []
