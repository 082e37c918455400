"""From facts to a table: rows by one dimension, columns by another, and a figure in each cell."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from crm_core.arrays import NO_INSTANT
from crm_core.clock import DAY
from crm_core.columns import MONEY_SCALE, Day
from crm_core.records import Direction
from crm_core.reporting.catalogue import (
    LINKS,
    PERIODS,
    SUBJECTS,
    Kind,
    Measure,
    Path,
    Unit,
    Where,
    stands_in_several,
)
from crm_core.reporting.facts import DERIVED, Facts, is_missing
from crm_core.reporting.intervals import of_mean, of_median, of_share
from crm_core.reporting.periods import Parts, ends_of_days, starts_of_days
from crm_core.validation import RANGES, columns_of

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Key = str | int | None
"""What stands for a row or a column: a word, an id, the name of a part of time, or None for no value."""

_HOUR: Final = 3_600_000_000


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One number, how many records it is of, and its 95 % interval where it has one.

    `value` is a Decimal for money and None where nothing can be said; shares are in [0, 1], durations in the
    measure's unit.
    """

    value: float | int | Decimal | None
    count: int
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, kw_only=True)
class Series:
    """One column of figures: of a measure, in a currency where it is money, of one column's key if any."""

    measure: str
    currency: str | None = None
    column: Key = None


@dataclass(frozen=True, kw_only=True)
class Counted:
    """The figures of one measure: by series and row, and of all rows together."""

    cells: Mapping[Series, Mapping[Key, Figure]] = field(default_factory=dict)
    totals: Mapping[Series, Figure] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How the rows of facts are put into cells; dimensions are None where there is but one row or column."""

    rows: str | None
    columns: str | None
    parts: Parts

    def parts_by(self, name: str | None) -> Parts | None:
        """Return the parts of time if a dimension is one."""
        if name not in PERIODS:
            return None
        return Parts(span=name, since=self.parts.since, until=self.parts.until, zone=self.parts.zone)


@dataclass(frozen=True, kw_only=True, eq=False)
class Placed:
    """Rows that count for a measure, each in a cell: row numbers of the facts and their keys.

    `amounts` says what of each one's amount is in the cell, where a row stands in several.
    """

    index: Ints
    row: Ints
    column: Ints
    row_keys: Sequence[Key]
    column_keys: Sequence[Key]
    amounts: Ints | None = None

    def take(self, places: Ints | Bools) -> Placed:
        """Return some of them."""
        amounts = None if self.amounts is None else self.amounts[places]
        parts = {name: getattr(self, name)[places] for name in ("index", "row", "column")}
        return replace(self, **parts, amounts=amounts)


def count_measure(facts: Facts, measure: Measure, layout: Layout) -> Counted:
    """Return the figures of one measure."""
    placed = place(facts, measure, layout)
    values = _Values(facts, measure)
    cells: dict[Series, dict[Key, Figure]] = defaultdict(dict)
    for (row, column, currency), members in _grouped(placed, values, by_row=True):
        series = Series(measure=measure.name, currency=currency, column=placed.column_keys[column])
        figure = values.figure(placed, members)
        if figure.count:  # what was counted and taken back is not there
            cells[series][placed.row_keys[row]] = figure
    summed = summed_up(facts, placed, measure, layout)
    totals = {
        Series(measure=measure.name, currency=currency, column=summed.column_keys[column]): values.figure(
            summed, part
        )
        for (_, column, currency), part in _grouped(summed, values, by_row=False)
    }
    return Counted(cells=cells, totals=totals)


def summed_up(facts: Facts, placed: Placed, measure: Measure, layout: Layout) -> Placed:
    """Return what all rows together are of: each record once, a stock as of the last of several instants."""
    if stands_in_several(measure.subject, layout.rows):
        return place(facts, measure, replace(layout, rows=None))
    if not measure.stock or layout.rows not in PERIODS or not placed.row.size:
        return placed
    parts = layout.parts_by(layout.rows) or layout.parts
    return placed.take(placed.row == np.searchsorted(parts.starts[:-1], facts.view.at, side="right") - 1)


def place(facts: Facts, measure: Measure, layout: Layout) -> Placed:
    """Return the rows of facts that count, and where."""
    if measure.stock:
        return _place_stock(facts, measure, layout)
    at = instants_along(facts, measure.at, layout)
    counts = _counting(facts, measure) & (layout.parts.place(at) >= 0)
    if not _is_day(measure):
        counts &= at <= facts.view.at
    index = np.flatnonzero(counts)
    bucket = {
        name: parts.place(at[index])
        for name in (layout.rows, layout.columns)
        if (parts := layout.parts_by(name)) is not None
    }
    return _in_cells(facts, measure, layout, index, bucket)


def _place_stock(facts: Facts, measure: Measure, layout: Layout) -> Placed:
    """Return what is there at the end of each part of time that is asked for, and at the end of all else."""
    dated = next((name for name in (layout.rows, layout.columns) if name in PERIODS), None)
    parts = layout.parts_by(dated) or layout.parts
    ends = np.minimum(parts.starts[1:], facts.view.at + 1)
    if dated is None:
        ends = ends[-1:]
    began, over = _life(facts, measure, layout)
    counting = _counting(facts, measure)
    found = [np.flatnonzero(counting & (began < end) & (over >= end)) for end in ends.tolist()]
    # What has not begun by the instant of the report is not there to be looked at.
    found = [
        each if start <= facts.view.at else each[:0]
        for each, start in zip(found, parts.starts.tolist(), strict=False)
    ]
    index = np.concatenate(found) if found else np.empty(0, dtype=np.int64)
    bucket = np.repeat(np.arange(len(found)), [each.size for each in found])
    return _in_cells(facts, measure, layout, index, {} if dated is None else {dated: bucket})


def _in_cells(
    facts: Facts, measure: Measure, layout: Layout, index: Ints, bucket: Mapping[str | None, Ints]
) -> Placed:
    """Put rows that count into their cells; `bucket` has the part of time of each, by the dimension."""
    by = (layout.rows, layout.columns)
    several = next((name for name in by if stands_in_several(measure.subject, name)), None)
    if several is None:
        (row, row_keys), (column, column_keys) = (
            _keys(facts, measure, layout, name, index, bucket) for name in by
        )
        return Placed(index=index, row=row, column=column, row_keys=row_keys, column_keys=column_keys)
    path = SUBJECTS[measure.subject].dimensions[several][0]
    spread = facts.spread(path, index)
    more = {name: each[spread.index] for name, each in bucket.items()}
    spread_index = index[spread.index]
    (row, row_keys), (column, column_keys) = (
        _keys(facts, measure, layout, name, spread_index, more)
        if not stands_in_several(measure.subject, name)
        else codes_of(spread.product if name == "product" else facts.of_products(spread.product, str(name)))
        for name in by
    )
    amounts = spread.divide(facts.columns[measure.value][index]) if measure.unit is Unit.MONEY else None
    placed = Placed(
        index=spread_index,
        row=row,
        column=column,
        row_keys=row_keys,
        column_keys=column_keys,
        amounts=amounts,
    )
    return _once_a_cell(placed)


def _once_a_cell(placed: Placed) -> Placed:
    """Join what is of one record in one cell: two products of a family."""
    order = np.lexsort((placed.column, placed.row, placed.index))
    keys = np.stack([placed.index[order], placed.row[order], placed.column[order]])
    first = np.flatnonzero(np.any(np.diff(keys, prepend=-1) != 0, axis=0))
    joined = placed.take(order[first])
    if placed.amounts is None or not first.size:
        return joined
    return replace(joined, amounts=np.add.reduceat(placed.amounts[order], first))


def _life(facts: Facts, measure: Measure, layout: Layout) -> tuple[Ints, Ints]:
    """Return since when and until when each row is there."""
    if _is_day(measure):  # over the day itself it is not late yet
        began = ends_of_days(facts.along(measure.at), layout.parts.zone)
    else:
        began = instants_along(facts, measure.at, layout)
    began = np.where(began == NO_INSTANT, np.iinfo(np.int64).max, began)
    over = facts.columns[measure.ends]
    never = np.iinfo(np.int64).max
    if measure.ended:
        ended = _meets(facts, measure.ended)
        return began, np.where(ended, np.where(over == NO_INSTANT, began, over), never)
    return began, np.where(over == NO_INSTANT, never, over)


def _counting(facts: Facts, measure: Measure) -> Bools:
    counts = _meets(facts, measure.where)
    if measure.touches:
        counts &= facts.columns["direction"] != Direction.INBOUND
    if measure.within_days:
        counts &= facts.columns[measure.since] + measure.within_days * DAY <= facts.view.at
    elif measure.until:
        counts &= facts.columns[measure.until] != NO_INSTANT
    elif measure.value and not measure.within_days:
        counts &= ~is_missing(facts.columns[measure.value])
    return counts


def _meets(facts: Facts, where: Where) -> Bools:
    found = np.ones(len(facts), dtype=np.bool_)
    for name, words in where:
        column = facts.columns[name]
        found &= np.logical_or.reduce([column == word for word in words])
    return found


def instants_along(facts: Facts, path: Path, layout: Layout) -> Ints:
    """Return the instants at the end of a path; a day stands for its beginning in the zone."""
    at = facts.along(path)
    return starts_of_days(at, layout.parts.zone) if _is_day_field(facts, path) else at


def _is_day(measure: Measure) -> bool:
    subject = SUBJECTS[measure.subject]
    column = columns_of(subject.model).get(measure.at[-1]) if len(measure.at) == 1 else None
    return column is not None and isinstance(column.type, Day)


def _is_day_field(facts: Facts, path: Path) -> bool:
    model = facts.model
    for link in path[:-1]:
        model = LINKS[link]
    column = None if path[-1] in DERIVED else columns_of(model).get(path[-1])
    return column is not None and isinstance(column.type, Day)


# ---------------------------------------------------------------- keys


def _keys(
    facts: Facts,
    measure: Measure,
    layout: Layout,
    name: str | None,
    index: Ints,
    bucket: Mapping[str | None, Ints],
) -> tuple[Ints, Sequence[Key]]:
    """Return for each row that counts the number of its key, and the keys."""
    parts = layout.parts_by(name)
    return _plain_keys(facts, measure, name, index) if parts is None else (bucket[name], parts.keys)


def _plain_keys(facts: Facts, measure: Measure, name: str | None, index: Ints) -> tuple[Ints, Sequence[Key]]:
    if name is None:
        return np.zeros(index.size, dtype=np.int64), [None]
    values = facts.first_of(SUBJECTS[measure.subject].dimensions[name])[index]
    return codes_of(values)


def codes_of(values: npt.NDArray[Any]) -> tuple[Ints, Sequence[Key]]:
    """Return the values as numbers of keys, and the keys; no value and an empty text are one key."""
    if values.dtype != object:
        keys, codes = np.unique(values, return_inverse=True)
        return codes.astype(np.int64), [None if each == NO_INSTANT else each for each in keys.tolist()]
    numbers: dict[Key, int] = {}
    codes = np.fromiter(
        (numbers.setdefault(each or None, len(numbers)) for each in values.tolist()), np.int64, values.size
    )
    return codes, list(numbers)


# ---------------------------------------------------------------- figures


class _Values:
    """What the figures of a measure are made from, and how."""

    def __init__(self, facts: Facts, measure: Measure) -> None:
        self.measure = measure
        self.weights = facts.weights
        self.currency = facts.along(measure.currency) if measure.unit is Unit.MONEY else None
        self.hits = self._read_hits(facts)
        self.values = self._read_values(facts)

    def _read_hits(self, facts: Facts) -> Bools | None:
        if self.measure.kind is not Kind.SHARE:
            return None
        hits = _meets(facts, self.measure.hit)
        if self.measure.within_days:
            took = facts.columns[self.measure.until] - facts.columns[self.measure.since]
            given = facts.columns[self.measure.until] != NO_INSTANT
            hits &= given & (took <= self.measure.within_days * DAY)
        return hits

    def _read_values(self, facts: Facts) -> npt.NDArray[Any] | None:
        measure = self.measure
        if measure.kind in {Kind.COUNT, Kind.SHARE}:
            return None
        if measure.value:
            return facts.columns[measure.value]
        took = np.maximum(facts.columns[measure.until] - facts.columns[measure.since], 0)
        return np.asarray(took / (_HOUR if measure.unit is Unit.HOURS else DAY))

    def figure(self, placed: Placed, members: Ints) -> Figure:
        """Return the figure of some of the rows that were placed."""
        rows = placed.index[members]
        count = int(self.weights[rows].sum())
        match self.measure.kind:
            case Kind.COUNT:
                return Figure(value=count, count=count)
            case Kind.SHARE:
                return self._share(rows)
        some = self._of(rows) if placed.amounts is None else placed.amounts[members]
        if self.measure.kind is Kind.SUM:
            return Figure(value=_amount(some.sum()), count=count)
        values = some.astype(np.float64)
        if self.measure.unit is Unit.MONEY:
            values = values / MONEY_SCALE
        mean = self.measure.kind is Kind.MEAN
        span = (of_mean(values, self._range(values)) if mean else of_median(values)) or (None, None)
        middle = float(values.mean() if mean else np.median(values))
        value = (
            Decimal(round(middle * MONEY_SCALE)) / MONEY_SCALE if self.measure.unit is Unit.MONEY else middle
        )
        return Figure(value=value, count=count, low=span[0], high=span[1])

    def _range(self, values: npt.NDArray[np.float64]) -> tuple[float, float]:
        """Return what a mean can be: a grade has two ends, and money without a credit none below zero."""
        if self.measure.unit is Unit.GRADE:
            return RANGES[self.measure.subject, self.measure.value]
        return (-np.inf if values.min(initial=0.0) < 0 else 0.0), np.inf

    def _share(self, rows: Ints) -> Figure:
        hits = 0 if self.hits is None else int(self.hits[rows].sum())
        low, high = of_share(hits, rows.size)
        return Figure(value=hits / rows.size, count=rows.size, low=low, high=high)

    def _of(self, rows: Ints) -> npt.NDArray[Any]:
        return np.empty(0) if self.values is None else self.values[rows]


def _amount(units: Any) -> Decimal:  # noqa: ANN401  a number of numpy
    return Decimal(int(units)) / MONEY_SCALE


def _grouped(
    placed: Placed, values: _Values, *, by_row: bool
) -> Iterator[tuple[tuple[int, int, str | None], Ints]]:
    """Yield which of the rows that were placed are in each cell, or in each column of cells."""
    if not placed.index.size:
        return
    row = placed.row if by_row else np.zeros_like(placed.row)
    currency, currencies = np.zeros(placed.index.size, dtype=np.int64), [None]
    if values.currency is not None:
        currency, currencies = codes_of(values.currency[placed.index])  # type: ignore[assignment]  # texts
    width, depth = len(placed.column_keys), len(currencies)
    cell = (row * width + placed.column) * depth + currency
    order = np.argsort(cell, kind="stable")
    starts = np.flatnonzero(np.diff(cell[order], prepend=-1))
    for members in np.split(order, starts[1:]):
        number = int(cell[members[0]])
        key = (number // depth // width, number // depth % width, currencies[number % depth])
        yield key, members
