"""Counting, summing and finding events by the time rule, for many questions at once.

An event is visible to the questions asked in `[start, stop)`: from when it was known until it was deleted or
one of its fields was corrected, when its next version takes over. A window of `lookback` sees it until
`occurred_at + lookback`. Most records have few events, and then a compiled loop looks at each event of each
question (`features.kernels`). Where a record has many, what a window holds at `as_of` is what came into sight
by then less what has left, and both are running sums found by binary search. Both ways count and sum in
integers and so give the same: neither the order of rows nor the size of batches changes a bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from crm_core.arrays import NO_INSTANT
from crm_core.clock import DAY
from crm_core.segments import end_within, expand_runs, runs_of
from features.asks import Ask, Measure, Panel
from features.columns import Columns, in_words, stored_in
from features.compiled import loops
from features.windows import NEVER, Ints, leaves_window

Values = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]

_CHUNK = 1_000_000
"""Pairs of question and event looked at together."""
FEW = 64
"""Events of a record up to which each is looked at for each question."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Versions:
    """Events as they were known, one row for each span of time in which what was known of one did not change.

    Attributes
    ----------
    key : int64[m]
        Whom the event concerns (the id of a lead, deal, account or record); NO_INSTANT: nobody.
    record_id, occurred_at : int64[m]
        Which event, and when it happened.
    start, stop : int64[m]
        It was known like this to questions with start <= as_of < stop; `start` is never before `occurred_at`.
    columns : arrays of length m
        Its fields in stored form: int64 with NO_INSTANT for empty, float64 with NaN, object with None.
    """

    key: Ints
    record_id: Ints
    occurred_at: Ints
    start: Ints
    stop: Ints
    columns: Mapping[str, Values]

    def take(self, rows: Values) -> Versions:
        """Return the given rows (positions or a mask), in their order."""
        if rows.dtype == np.bool_:
            rows = rows.nonzero()[0]
        key, record_id, occurred_at, start, stop = loops().take(
            rows, self.key, self.record_id, self.occurred_at, self.start, self.stop
        )
        return Versions(
            key=key,
            record_id=record_id,
            occurred_at=occurred_at,
            start=start,
            stop=stop,
            columns=Columns(self.columns, rows),
        )

    def in_order(self) -> Versions:
        """Return those that concern somebody and were ever visible, by key, as they happened, as written."""
        if loops().is_in_order(self.key, self.occurred_at, self.record_id, self.start, self.stop):
            return self
        rows = np.flatnonzero((self.key != NO_INSTANT) & (self.start < self.stop))
        order = np.lexsort((self.start[rows], self.record_id[rows], self.occurred_at[rows], self.key[rows]))
        return self.take(rows[order])

    def holding(self, field: str, wanted: tuple[str | None, ...]) -> npt.NDArray[np.bool_]:
        """Tell which of them have one of `wanted` in a field of words; None is an empty field of any kind."""
        return in_words(stored_in(self.columns, field)).among(wanted)


class AskedEvents:
    """Events of one kind beside the questions that are asked of them.

    Every answer is an array with one value a question; `keys[i]` and `as_of[i]` are the question. Versions
    must be `in_order()`; answers that are versions are positions in them, -1 for none.
    """

    def __init__(self, versions: Versions, keys: Ints, as_of: Ints) -> None:
        self.versions = versions
        self._keys = keys
        self._as_of = as_of
        self._loops = loops()
        self._start, self._stop, self._longest = self._loops.runs(versions.key, keys)
        self._asked = (self._start, self._stop, as_of)
        self._seen = (versions.start, versions.stop)

    def count(self, lookback: int | None = None) -> Ints:
        """Return how many events the window holds."""
        length = -1 if lookback is None else lookback
        happened = self.versions.occurred_at
        result: Ints = self._loops.count(*self._asked, happened, *self._seen, length, FEW)
        if self._longest > FEW:
            asked, _, many = self._many
            result[asked] = many.total(np.ones(many.size, dtype=np.int64), lookback)
        return result

    def count_after(self, after: Ints) -> Ints:
        """Return how many events happened after an instant of each question (NO_INSTANT: of all time)."""
        happened = self.versions.occurred_at
        result: Ints = self._loops.count_after(*self._asked, happened, *self._seen, after)
        return result

    def total(self, weight: Ints, lookback: int | None = None) -> Ints:
        """Return the sum of `weight` (int64, one a version) over the events that the window holds."""
        length = -1 if lookback is None else lookback
        happened = self.versions.occurred_at
        result: Ints = self._loops.total(*self._asked, happened, *self._seen, weight, length, FEW)
        if self._longest > FEW:
            asked, rows, many = self._many
            result[asked] = many.total(weight[rows], lookback)
        return result

    def newest(self, lookback: int | None = None) -> Ints:
        """Return the event in the window that happened last; of two together, the one written last."""
        length = -1 if lookback is None else lookback
        happened = self.versions.occurred_at
        result: Ints = self._loops.newest(*self._asked, happened, *self._seen, length, FEW)
        if self._longest > FEW:
            asked, rows, many = self._many
            result[asked] = among(rows, many.newest(lookback))
        return result

    def oldest(self) -> Ints:
        """Return the event that happened first; of two together, the one written first."""
        result: Ints = self._loops.oldest(*self._asked, *self._seen, FEW)
        if self._longest > FEW:
            asked, rows, many = self._many
            result[asked] = among(rows, many.oldest())
        return result

    def panel(self, panel: Panel) -> tuple[Floats, Ints, list[int]]:
        """Return (numbers, events) by ask, and the places of those left to `number` and `event`."""
        versions = self.versions
        numbers, events, longest = self._loops.panel(
            *self._asked,
            versions.occurred_at,
            *self._seen,
            panel.kinds_of(versions.columns),
            panel.values_of(versions.columns),
            panel.bit,
            panel.measure,
            panel.length,
            panel.column,
            panel.scale,
            FEW,
        )
        if self._longest <= FEW:
            return numbers, events, []
        left = (longest > FEW) & (panel.measure <= Measure.FIRST)
        return numbers, events, left.nonzero()[0].tolist()

    def number(self, ask: Ask) -> Floats:
        """Return a number that is asked of these events, however many a record has."""
        if ask.measure == Measure.COUNT:
            return self.count(ask.length).astype(np.float64)
        if ask.measure in (Measure.TOTAL, Measure.MEAN):
            column = self.versions.columns[ask.field]
            total = self.total(np.where(column == NO_INSTANT, 0, column), ask.length) / ask.scale
            if ask.measure == Measure.TOTAL:
                return total
            given = self.total((column != NO_INSTANT).astype(np.int64), ask.length)
            return ratio(total, given.astype(np.float64))
        found = self.event(ask)
        if self.versions.key.size == 0:
            return np.full(found.size, np.nan)
        return np.where(found < 0, np.nan, (self._as_of - self.versions.occurred_at[found]) / DAY)

    def event(self, ask: Ask) -> Ints:
        """Return the event that is asked for, or the one to which days are; -1 for none."""
        first = ask.measure in (Measure.FIRST, Measure.DAYS_SINCE_FIRST)
        return self.oldest() if first else self.newest(ask.length)

    def any_of(self) -> Ints:
        """Return one event of each question's record, whether known or not; -1 where it has none."""
        return np.where(self._stop > self._start, self._start, -1)

    def pairs(self, lookback: int | None = None) -> Iterator[tuple[Ints, Ints]]:
        """Yield (questions, versions): every version that each question's window holds, in order, in chunks.

        The pairs of one question are never spread over two chunks.
        """
        length = -1 if lookback is None else lookback
        happened = self.versions.occurred_at
        for first, last in self._chunks():
            yield self._loops.held(first, last, *self._asked, happened, *self._seen, length)

    def steps(self, lookback: int | None = None) -> Iterator[tuple[Ints, Ints, Ints]]:
        """Yield (questions, versions, the version known before each or -1) as `pairs` does."""
        length = -1 if lookback is None else lookback
        happened = self.versions.occurred_at
        for first, last in self._chunks():
            yield self._loops.steps(first, last, *self._asked, happened, *self._seen, length)

    def payments(self, lookback: int | None = None) -> tuple[Ints, Ints, Ints]:
        """Return how many payments in the window are overdue, by how much due ones are late, and how many.

        A payment counts from the midnight after its day `due_on`, as open until `paid_at`.
        """
        length = -1 if lookback is None else lookback
        columns = self.versions.columns
        found: tuple[Ints, Ints, Ints] = self._loops.payments(
            *self._asked,
            self.versions.occurred_at,
            *self._seen,
            columns["due_on"],
            columns["paid_at"],
            length,
        )
        return found

    def running(self, stands: npt.NDArray[np.bool_], value: Ints) -> Ints:
        """Return the `value` of those that stand and run, from `starts_on` to before `ends_on`."""
        columns = self.versions.columns
        result: Ints = self._loops.running(
            *self._asked, *self._seen, stands, columns["starts_on"], columns["ends_on"], value
        )
        return result

    def largest(self, values: Ints) -> Ints:
        """Return the largest of `values` (int64, one a version) of known events; NO_INSTANT for none."""
        result: Ints = self._loops.largest(*self._asked, *self._seen, values)
        return result

    def _chunks(self) -> Iterator[tuple[int, int]]:
        if self._longest * self._keys.size <= _CHUNK:
            return iter([(0, self._keys.size)])
        return _chunks(self._stop - self._start)

    @cached_property
    def _many(self) -> tuple[Ints, Ints, _ManyEvents]:
        """Return the questions about records with many events, the versions of these, and both together."""
        asked = np.flatnonzero(self._stop - self._start > FEW)
        first, place = np.unique(self._start[asked], return_index=True)
        rows = expand_runs(first, self._stop[asked][place])[1]
        return asked, rows, _ManyEvents(self.versions.take(rows), self._keys[asked], self._as_of[asked])


class _ManyEvents:
    """The same answers at the cost of a binary search a question, however many events a record has."""

    def __init__(self, versions: Versions, keys: Ints, as_of: Ints) -> None:
        self.versions = versions
        self.size = versions.key.size
        self._keys = keys
        self._as_of = as_of
        self._start, self._stop = runs_of(versions.key, keys)
        self._by_sight = np.lexsort((versions.start, versions.key))
        # One search serves every measure of the same window.
        self._seen = end_within(versions.start[self._by_sight], self._start, self._stop, as_of)
        self._left: dict[int, Ints] = {}

    def total(self, weight: Ints, lookback: int | None = None) -> Ints:
        """Return the sum of `weight` (int64, one a version) over the events that the window holds."""
        seen = _running(weight[self._by_sight])
        result = seen[self._seen] - seen[self._start]
        if lookback is not None:
            left = _running(weight)
            result -= left[self._left_by(lookback)] - left[self._start]
        return result + self._corrections(weight, lookback)

    def newest(self, lookback: int | None = None) -> Ints:
        """Return the event in the window that happened last, -1 for none."""
        found = self._highest(np.arange(self.size))
        if lookback is None:
            return found
        inside = leaves_window(self.versions.occurred_at[found], lookback) > self._as_of
        return np.where(inside, found, -1)

    def oldest(self) -> Ints:
        """Return the event that happened first, -1 for none."""
        start, stop = runs_of(self.versions.key, self.versions.key)
        backwards = start + stop - 1 - np.arange(self.size)
        found = self._highest(backwards)
        return np.where(found < 0, -1, self._start + self._stop - 1 - found)

    def _left_by(self, lookback: int) -> Ints:
        if lookback not in self._left:
            limit = self._as_of - lookback
            self._left[lookback] = end_within(self.versions.occurred_at, self._start, self._stop, limit)
        return self._left[lookback]

    def _corrections(self, weight: Ints, lookback: int | None) -> Ints | int:
        """Return what to add for the few that end before their window does, or were known too late for it."""
        versions = self.versions
        expiry = (
            np.full(weight.size, NEVER) if lookback is None else leaves_window(versions.occurred_at, lookback)
        )
        leaving = np.minimum(versions.stop, expiry)
        odd = np.flatnonzero((leaving < expiry) | (versions.start >= leaving))
        if odd.size == 0:
            return 0
        gone = np.maximum(versions.start[odd], leaving[odd])
        time, step, key = gone, -weight[odd], versions.key[odd]
        if lookback is not None:
            time, step = np.concatenate((gone, expiry[odd])), np.concatenate((step, weight[odd]))
            key = np.concatenate((key, key))
        return self._steps_until(key, time, step)

    def _steps_until(self, key: Ints, time: Ints, step: Ints) -> Ints:
        order = np.lexsort((time, key))
        running = _running(step[order])
        start, stop = runs_of(key[order], self._keys)
        return running[end_within(time[order], start, stop, self._as_of)] - running[start]

    def _highest(self, rank: Ints) -> Ints:
        """Return the highest rank of the versions each question sees, -1 for none; ranks grow by key."""
        versions = self.versions
        lasting = self._by_sight[versions.stop[self._by_sight] == NEVER]
        result = np.full(self._as_of.size, -1, dtype=np.int64)
        if lasting.size:
            # Ranks grow with the key, so a running maximum never looks into the key before.
            best = np.maximum.accumulate(rank[lasting])
            start, stop = runs_of(versions.key[lasting], self._keys)
            end = end_within(versions.start[lasting], start, stop, self._as_of)
            result = np.where(end > start, best[end - 1], -1)
        if lasting.size < versions.key.size:
            ending = np.flatnonzero(versions.stop != NEVER)
            few = AskedEvents(versions.take(ending), self._keys, self._as_of)
            np.maximum(result, few.largest(rank[ending]), out=result)
        return result


def ratio(above: Floats, below: Floats) -> Floats:
    """Return one over the other, NaN where the other is 0."""
    result = np.full(below.size, np.nan)
    np.divide(above, below, out=result, where=below != 0)
    return result


def _running(weight: Ints) -> Ints:
    """Return the sums of the first 0, 1, ... of `weight`; integers wrap around, differences stay exact."""
    result = np.zeros(weight.size + 1, dtype=np.int64)
    np.cumsum(weight, out=result[1:])
    return result


def _chunks(length: Ints) -> Iterator[tuple[int, int]]:
    total = np.cumsum(length)
    first = 0
    while first < length.size:
        before = total[first - 1] if first else 0
        last = max(first + 1, int(np.searchsorted(total, before + _CHUNK, side="right")))
        yield first, last
        first = last


def among(rows: Ints, found: Ints) -> Ints:
    """Return positions among `rows` as positions in what the rows were taken from."""
    return np.where(found < 0, -1, rows[found]) if rows.size else found
