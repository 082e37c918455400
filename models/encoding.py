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

from features.rows import Frame, column_of
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


class _Levels:
    """Where the columns of a category stand; -1 for none."""

    def __init__(self) -> None:
        self.level: dict[str, int] = {}
        self.other = -1
        self.missing: int | None = None

    def note(self, column: Column, position: int) -> None:
        """Note where a column stands."""
        if column.kind is ColumnKind.LEVEL:
            self.level[str(column.level)] = position
        elif column.kind is ColumnKind.OTHER:
            self.other = position
        else:
            self.missing = position

    def mark(self, matrix: Floats, values: np.ndarray[Any, Any]) -> None:
        """Write 1 where each value belongs."""
        level, other = self.level, self.other
        missing = other if self.missing is None else self.missing
        found = [missing if is_missing(value) else level.get(str(value), other) for value in values.tolist()]
        at = np.array(found, dtype=np.int64)
        rows = np.flatnonzero(at >= 0)
        matrix[rows, at[rows]] = 1.0


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """Turns a frame into a matrix, column by column in a fixed order."""

    columns: tuple[Column, ...]
    _places: dict[str, int | _Levels] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        places: dict[str, int | _Levels] = {}
        for position, column in enumerate(self.columns):
            if column.kind is ColumnKind.NUMBER:
                places[column.feature] = position
            else:
                levels = places.setdefault(column.feature, _Levels())
                if isinstance(levels, _Levels):
                    levels.note(column, position)
        object.__setattr__(self, "_places", places)
        object.__setattr__(self, "features", tuple(places))

    features: tuple[str, ...] = field(init=False, repr=False, compare=False)
    """The features read, in order."""

    def encode(self, frame: Frame) -> Floats:
        """Return the matrix of `frame`: float64[n, columns], NaN only for a missing number.

        A level that was not seen in training counts as other; without such a column it is 0 in all.
        """
        matrix = np.zeros((len(frame), len(self.columns)))
        for feature, place in self._places.items():
            values = column_of(frame, feature)
            if isinstance(place, int):
                matrix[:, place] = values
            else:
                place.mark(matrix, values)
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
