"""What the records looked like that a model learned from, to tell when one is unlike any of them.

A value is strange where it is a number beyond everything seen by more than the whole width of what was seen,
a level that hardly any record had, or missing where none ever was. Features that read the same thing are one
field. A record with more strange fields than `most` is unlike anything seen: the answer about it is "not
enough data".

How many are too many is found on records that are held out, in two ways: by dealing them into parts, and by
setting aside the newest quarter. A feature that is strange in more than one in a hundred of them (free text,
what grows with time) tells nothing and is left out; `most` is the least number that no more than one in a
hundred exceed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from features.rows import Frame, Rows, column_of
from models.encoding import is_missing
from models.hazard import Bools, Floats, Ints
from models.splits import deal_accounts

if TYPE_CHECKING:
    from pandas import DataFrame

FALSE_ALARMS = 0.01
"""Share of held-out records that may be called unlike anything seen."""

FEWEST_STRANGE = 2
"""One strange field alone is never enough."""

FEWEST_OF_A_LEVEL = 5
"""Records that must have had a level before it counts as seen."""

MOST_LEVELS = 200
"""A category with more levels is open-ended, and nothing in it is strange."""

MOST_TRIED = 30_000
"""Questions that are looked at as held out: of some of the records where there are more."""

_PARTS = 4
_NEWEST = 0.25


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What was seen of one feature: the range of its numbers, or its levels; and whether it was ever missing.

    `field` is shared by the features that read the same thing.
    """

    field: str
    may_miss: bool
    low: float | None = None
    high: float | None = None
    levels: tuple[str, ...] | None = None

    def strange(self, values: npt.NDArray[Any]) -> Bools:
        """Tell which values are strange: bool[n]."""
        if self.low is not None and self.high is not None:
            return self._strange_numbers(values.astype(np.float64), self.low, self.high)
        allowed = self._allowed
        found = [
            not self.may_miss if is_missing(value) else str(value) not in allowed for value in values.tolist()
        ]
        return np.array(found, dtype=np.bool_)

    def _strange_numbers(self, values: Floats, low: float, high: float) -> Bools:
        width = high - low
        beyond = (values > high + width) | (values < low - width)
        return beyond if self.may_miss else beyond | np.isnan(values)

    @cached_property
    def _allowed(self) -> frozenset[str]:
        return frozenset(self.levels or ())

    def to_json(self) -> list[Any]:
        """Return it as plain data."""
        levels = None if self.levels is None else list(self.levels)
        return [self.field, self.may_miss, self.low, self.high, levels]

    @classmethod
    def from_json(cls, data: list[Any]) -> Seen:
        """Return what `to_json` described."""
        name, may_miss, low, high, levels = data
        kept = None if levels is None else tuple(str(level) for level in levels)
        return cls(field=name, may_miss=bool(may_miss), low=low, high=high, levels=kept)


@dataclass(frozen=True, kw_only=True)
class Familiar:
    """What was seen of each feature, and how many strange fields a record may have."""

    seen: Mapping[str, Seen] = field(default_factory=dict)
    most: int = 0

    def unlike(self, frame: Frame) -> Bools:
        """Tell which rows are unlike anything seen: bool[n]."""
        if not self.seen:
            return np.zeros(len(frame), dtype=np.bool_)
        if isinstance(frame, Rows) and all(name in frame for name in self.seen):
            return np.asarray(self._together.count(frame) > self.most, dtype=np.bool_)
        return np.asarray(_count(self._strange(frame), len(frame)) > self.most, dtype=np.bool_)

    @cached_property
    def _together(self) -> _Together:
        return _Together.of(self.seen)

    def strange_features(self, frame: Frame, row: int) -> list[str]:
        """Return the strange features of one row, one a field."""
        found: dict[str, str] = {}
        for name, seen in self.seen.items():
            if name in frame and bool(seen.strange(column_of(frame, name)[row : row + 1])[0]):
                found.setdefault(seen.field, name)
        return list(found.values())

    def _strange(self, frame: Frame) -> Iterator[tuple[str, Bools]]:
        for name, seen in self.seen.items():
            if name in frame:
                yield seen.field, seen.strange(column_of(frame, name))

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {"most": self.most, "seen": {name: seen.to_json() for name, seen in self.seen.items()}}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Familiar:
        """Return what `to_json` described."""
        seen = {name: Seen.from_json(part) for name, part in data["seen"].items()}
        return cls(seen=seen, most=int(data["most"]))


@dataclass(frozen=True, kw_only=True, eq=False)
class _Together:
    """What was seen of all features, put so that a record is compared with all of it at once.

    `low`, `high` (beyond which numbers are strange) and `must` (be there): [features, 1]. `order` brings
    the features of a field together, numbers first before, and `starts` is where each field begins.
    """

    numbers: tuple[str, ...]
    low: Floats
    high: Floats
    must: Bools
    words: tuple[tuple[str, Seen], ...]
    order: Ints
    starts: Ints

    @classmethod
    def of(cls, seen: Mapping[str, Seen]) -> _Together:
        numbers = {name: one for name, one in seen.items() if one.low is not None and one.high is not None}
        words = {name: one for name, one in seen.items() if name not in numbers}
        spans = [(one.low or 0.0, one.high or 0.0) for one in numbers.values()]
        fields = [one.field for one in (*numbers.values(), *words.values())]
        order = sorted(range(len(fields)), key=fields.__getitem__)
        starts = [at for at, here in enumerate(order) if at == 0 or fields[here] != fields[order[at - 1]]]
        return cls(
            numbers=tuple(numbers),
            low=np.array([[low - (high - low)] for low, high in spans]).reshape(-1, 1),
            high=np.array([[high + (high - low)] for low, high in spans]).reshape(-1, 1),
            must=np.array([[not one.may_miss] for one in numbers.values()], dtype=np.bool_).reshape(-1, 1),
            words=tuple(words.items()),
            order=np.array(order, dtype=np.int64),
            starts=np.array(starts, dtype=np.int64),
        )

    def count(self, rows: Rows) -> Ints:
        """Return how many fields are strange in each row: int64[n]."""
        values = np.array([rows[name] for name in self.numbers]).reshape(len(self.numbers), len(rows))
        beyond = (values > self.high) | (values < self.low) | (np.isnan(values) & self.must)
        other = [seen.strange(rows[name]) for name, seen in self.words]
        found = np.concatenate((beyond, np.array(other, dtype=np.bool_).reshape(len(other), len(rows))))
        by_field = np.logical_or.reduceat(found[self.order], self.starts, axis=0)
        return np.asarray(by_field.sum(axis=0, dtype=np.int64))


def fit_familiar(frame: DataFrame, ids: Ints, as_of: Ints, field_of: Mapping[str, str]) -> Familiar:
    """Return what the questions of a frame looked like.

    Parameters
    ----------
    frame
        One row a question; float columns are numbers, all others categories.
    ids, as_of
        int64[n], the record asked about and when: held-out records are not asked about on the other side.
    field_of
        What each feature reads; features of one field count once.
    """
    records, record = np.unique(ids, return_inverse=True)
    named = {name: field_of.get(name, name) for name in frame.columns}
    seen = {name: _see(frame[name].to_numpy(), record, of) for name, of in named.items()}
    tried = _some(records)[record] if len(ids) > MOST_TRIED else np.ones(len(ids), dtype=np.bool_)
    trial = _Trial.of(records, record[tried], as_of[tried])
    some = frame[tried]
    kept = {
        name: one
        for name, one in seen.items()
        if one is not None and trial.admits(name, some[name].to_numpy(), one.field)
    }
    return Familiar(seen=kept, most=max(FEWEST_STRANGE - 1, trial.most()))


def _some(records: Ints) -> Bools:
    """Tell which records are looked at: one in eight, always the same."""
    return np.asarray(deal_accounts(records, 8) == 0, dtype=np.bool_)


@dataclass(frozen=True, kw_only=True)
class _Trial:
    """Ways to hold records out: int64[n] each, the part of each question, -1 for one that only teaches."""

    record: Ints
    ways: tuple[Ints, ...]
    strange: dict[str, list[tuple[str, Bools]]] = field(default_factory=dict)

    @classmethod
    def of(cls, records: Ints, record: Ints, as_of: Ints) -> _Trial:
        first = np.full(len(records), np.iinfo(np.int64).max)
        np.minimum.at(first, record, as_of)
        here = np.unique(record)
        newest = first >= np.quantile(first[here], 1 - _NEWEST) if len(here) else first > 0
        # Parts are dealt by another number than the choice of records, or one part would be all of them.
        dealt = deal_accounts(records * 7 + 3, _PARTS)
        return cls(record=record, ways=(dealt[record], np.where(newest, 0, -1)[record]))

    def admits(self, name: str, values: npt.NDArray[Any], of: str) -> bool:
        """Return whether a feature is strange in few enough records, and remember where."""
        found = [_strange_out(values, self.record, way, of) for way in self.ways]
        few = all(
            _share(one, self.record, way) <= FALSE_ALARMS for one, way in zip(found, self.ways, strict=True)
        )
        if few:
            self.strange[name] = [(of, one) for one in found]
        return few

    def most(self) -> int:
        """Return how many strange fields no more than FALSE_ALARMS of the records exceed, either way."""
        counts = [
            _count((found[place] for found in self.strange.values()), len(self.record))
            for place in range(len(self.ways))
        ]
        return max(_least(count, self.record, way) for count, way in zip(counts, self.ways, strict=True))


def _see(values: npt.NDArray[Any], record: Ints, name: str) -> Seen | None:
    """Return what is seen of a feature; None where nothing in it can be strange."""
    if values.dtype.kind in "fiub":
        numbers = values.astype(np.float64)
        missing = np.isnan(numbers)
        known = numbers[~missing]
        if not known.size or known.min() == known.max():
            return None
        low, high = float(known.min()), float(known.max())
        return Seen(field=name, may_miss=bool(missing.any()), low=low, high=high)
    levels, missed = _levels(values, record)
    if not levels or len(levels) > MOST_LEVELS:
        return None
    return Seen(field=name, may_miss=missed, levels=levels)


def _levels(values: npt.NDArray[Any], record: Ints) -> tuple[tuple[str, ...], bool]:
    """Return the levels that enough records had, in order, and whether any was missing."""
    import pandas as pd

    code, words = pd.factorize(values)
    pairs = np.unique(code.astype(np.int64) * (int(record.max(initial=0)) + 1) + record)
    count = np.bincount(pairs[pairs >= 0] // (int(record.max(initial=0)) + 1), minlength=len(words))
    kept = sorted(str(word) for word, times in zip(words, count, strict=True) if times >= FEWEST_OF_A_LEVEL)
    return tuple(kept), bool((code < 0).any())


def _strange_out(values: npt.NDArray[Any], record: Ints, held: Ints, name: str) -> Bools:
    """Tell which held-out questions are strange to what the others of their way have seen: bool[n]."""
    found = np.zeros(len(values), dtype=np.bool_)
    for part in np.unique(held[held >= 0]):
        out = held == part
        seen = _see(values[~out], record[~out], name)
        if seen is not None:
            found[out] = seen.strange(values[out])
    return found


def _share(strange: Bools, record: Ints, held: Ints) -> float:
    """Return the share of held-out records with any strange question."""
    out = held >= 0
    return len(np.unique(record[strange & out])) / max(len(np.unique(record[out])), 1)


def _least(counts: Ints, record: Ints, held: Ints) -> int:
    """Return the least number of strange fields that no more than FALSE_ALARMS of the records exceed."""
    out = held >= 0
    records, place = np.unique(record[out], return_inverse=True)
    worst = np.zeros(len(records), dtype=np.int64)
    np.maximum.at(worst, place, counts[out])
    allowed = int(FALSE_ALARMS * len(worst))
    return int(np.sort(worst)[len(worst) - 1 - allowed]) if len(worst) else 0


def _count(strange: Iterator[tuple[str, Bools]], rows: int) -> Ints:
    """Return how many fields are strange in each row: int64[n]."""
    fields: dict[str, Bools] = {}
    for name, found in strange:
        fields[name] = fields[name] | found if name in fields else found
    return np.sum(list(fields.values()), axis=0, dtype=np.int64) if fields else np.zeros(rows, dtype=np.int64)
