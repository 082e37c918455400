"""What was usual among the questions a model learned from, and how far its experience reaches.

A reason is told beside the usual value, because what a feature adds is about the difference. What might be
done is told with caution where the model has hardly seen the like.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from models.encoding import ColumnKind, Encoder
from models.hazard import Floats, Ints
from models.logistic import fit_scale

if TYPE_CHECKING:
    from pandas import DataFrame

Range = tuple[float, float]

MOST_ROWS = 100_000
"""Rows looked at: more say the same."""

MOST_MISSING = 0.2
"""Share of missing values up to which a value is told beside the usual one."""

REACH = (0.01, 0.99)
"""Quantiles between which a model is at home."""

AGES_DAYS = (7, 30, 90)
"""Ages at which leads come into another situation: what is usual for a new one is odd for an old one."""

_SITUATION = {"deal": "stage", "lead": "age_days"}
"""The feature that tells situations apart, by record type; customers are all in one."""

_ALL = ""


@dataclass(frozen=True, kw_only=True)
class Usual:
    """What the questions of a training looked like.

    `middle`: by numeric feature that hardly misses, the value that a model calls neither high nor low.
    `reach`: by situation (a deal's stage, a lead's age; "" is all of them) and feature, the range in which
    all but the outermost two in a hundred lie. `records`: how many records were in each situation.
    """

    by: str | None = None
    middle: Mapping[str, float] = field(default_factory=dict)
    reach: Mapping[str, Mapping[str, Range]] = field(default_factory=dict)
    records: Mapping[str, int] = field(default_factory=dict)

    def situation(self, values: Mapping[str, Any]) -> str:
        """Return the situation of a record by the values of its features."""
        if self.by is None:
            return _ALL
        return str(_situations(np.array([values[self.by]], dtype=object))[0])

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "by": self.by,
            "middle": dict(self.middle),
            "reach": {name: {f: list(r) for f, r in reach.items()} for name, reach in self.reach.items()},
            "records": dict(self.records),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Usual:
        """Return what `to_json` described."""
        return cls(
            by=data["by"],
            middle={name: float(value) for name, value in data["middle"].items()},
            reach={
                name: {feature: (float(low), float(high)) for feature, (low, high) in reach.items()}
                for name, reach in data["reach"].items()
            },
            records={name: int(count) for name, count in data["records"].items()},
        )


def find_usual(frame: DataFrame, encoder: Encoder, ids: Ints, weight: Floats, record_type: str) -> Usual:
    """Return what is usual in a training frame.

    Parameters
    ----------
    frame : n rows
        What was known at each question; missing numbers (NaN) are left out.
    ids, weight : int64[n], float64[n]
        The record, and how much the question counts, as for the model.
    """
    step = -(-len(frame) // MOST_ROWS) or 1
    frame, ids, weight = frame.iloc[::step], ids[::step], weight[::step]
    names = [column.feature for column in encoder.columns if column.kind is ColumnKind.NUMBER]
    by = _SITUATION.get(record_type)
    by = by if by in frame.columns else None
    situations = np.full(len(frame), _ALL) if by is None else _situations(frame[by].to_numpy())
    matrix = frame[names].to_numpy(dtype=np.float64)
    groups = {name: situations == name for name in np.unique(situations).tolist()}
    return Usual(
        by=by,
        middle=_middle(names, matrix, weight),
        reach={
            name: _reach(names, matrix[rows])
            for name, rows in {_ALL: np.ones(len(frame), dtype=np.bool_), **groups}.items()
        },
        records={name: len(np.unique(ids[rows])) for name, rows in groups.items()},
    )


def _middle(names: list[str], matrix: Floats, weight: Floats) -> dict[str, float]:
    """Return the mean of each column on the scale on which a model reads it."""
    if not names or not len(matrix):
        return {}
    scale = fit_scale(matrix, weight, is_number=np.ones(len(names), dtype=np.bool_))
    held = np.where(scale.logarithmic, scale.mean, 0.0)
    mean = np.where(scale.logarithmic, np.sign(held) * np.expm1(np.abs(held)), scale.mean)
    # Where many have no value, having one at all tells more than which: beside it a reason reads backwards.
    known = np.flatnonzero(scale.missing_share <= MOST_MISSING).tolist()
    return {names[column]: _short(mean[column]) for column in known}


def _reach(names: list[str], matrix: Floats) -> dict[str, Range]:
    found: dict[str, Range] = {}
    for name, column in zip(names, matrix.T, strict=True):
        known = column[~np.isnan(column)]
        if known.size:
            low, high = np.quantile(known, REACH)
            found[name] = (_short(low), _short(high))
    return found


def _situations(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the situation by each value: a word itself, ages by where they lie."""
    if values.dtype.kind == "f" or all(isinstance(value, float) for value in values.tolist()):
        return np.searchsorted(AGES_DAYS, values.astype(np.float64), side="right").astype(str)
    return np.array(["" if value is None else str(value) for value in values.tolist()], dtype=object)


def _short(value: float) -> float:
    """Return a number as exactly as anybody reads it, so that the file stays small."""
    return float(f"{value:.6g}")
