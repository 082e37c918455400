"""Charts as SVG made on the server: axes with units, intervals, values on hover, and a table behind each.

A page describes what is to be seen (`Axis`, and marks: `Line`, `Band`, `Bars`, `Dots`, `Level`), `draw`
places it, and the macro `chart` of `_chart.html` shows it. Colours and dashes are classes of `charts.css`: no
mark is told from another by its colour alone, and what cannot be seen is in the table.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any, Literal

X = float | int | Decimal | date | datetime | str
"""A place on the horizontal axis: a number, a day, an instant, or a name (names stand in their order)."""

Number = float | int | Decimal

_TOP, _BOTTOM, _RIGHT = 14, 42, 18
_TICKS = 5
_WIDEST_BARS = 72
_LETTER = 6.2
"""Width of a digit of the axes' text, in the units of the picture: what the left margin is reckoned from."""
_WIDE_LETTER = 11.0
_GAP = 8
"""Least room between two texts of an axis."""
_HIGHEST_LATIN = 0x2E7F


@dataclass(frozen=True, kw_only=True)
class Axis:
    """One axis: `label` says what it measures and its unit, `show` turns a value into text.

    `low` and `high` are its ends where they are fixed (a probability has 0 and 1); else it holds all marks,
    and a vertical axis begins at zero unless `low` is given as a number.
    """

    label: str
    show: Callable[[Any], str] = str
    low: Number | None = None
    high: Number | None = None


@dataclass(frozen=True, kw_only=True)
class Line:
    """Points joined by a line; None leaves a gap. `step` holds each value until the next."""

    name: str
    points: Sequence[tuple[X, Number | None]]
    step: bool = False
    reference: bool = False
    """It is no measurement but something to compare with: thin, dashed, without dots."""


@dataclass(frozen=True, kw_only=True)
class Band:
    """A range, from low to high, at each place: an interval."""

    name: str
    points: Sequence[tuple[X, Number, Number]]


@dataclass(frozen=True, kw_only=True)
class Bars:
    """Bars from zero; several `Bars` stand beside each other, or on each other if the picture is stacked."""

    name: str
    points: Sequence[tuple[X, Number | None]]


@dataclass(frozen=True, kw_only=True)
class Dots:
    """Single values, each with its interval where one is known."""

    name: str
    points: Sequence[tuple[X, Number, Number | None, Number | None]]
    """(place, value, low, high)"""


@dataclass(frozen=True, kw_only=True)
class Level:
    """A horizontal line at one value: a target, a base rate."""

    name: str
    value: Number


Mark = Line | Band | Bars | Dots | Level


@dataclass(frozen=True, kw_only=True)
class Shape:
    """One thing to draw; `kind` is its element in the template, `series` the number of its mark."""

    kind: Literal["path", "area", "bar", "dot", "whisker"]
    series: int
    path: str = ""
    x: float = 0
    y: float = 0
    width: float = 0
    height: float = 0
    title: str = ""
    reference: bool = False


@dataclass(frozen=True, kw_only=True)
class Tick:
    """A mark of an axis: where it is, what it says, and which part of the text stands there."""

    at: float
    text: str
    anchor: Literal["start", "middle", "end"] = "middle"

    def ends(self) -> tuple[float, float]:
        """Return from where to where its text goes."""
        width = width_of(self.text)
        start = self.at - {"start": 0.0, "middle": width / 2, "end": width}[self.anchor]
        return start, start + width


@dataclass(frozen=True, kw_only=True)
class Sign:
    """What a mark looks like, for the legend."""

    series: int
    name: str
    filled: bool
    reference: bool


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A picture ready for the template, with the rows of its table."""

    title: str
    x: Axis
    y: Axis
    width: int
    height: int
    left: float
    right: float
    top: float
    floor: float
    zero: float
    x_ticks: Sequence[Tick]
    y_ticks: Sequence[Tick]
    shapes: Sequence[Shape]
    legend: Sequence[Sign]
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    wide: bool = False


@dataclass
class _Places:
    """The horizontal axis: numbers and instants by their size, names by their order."""

    axis: Axis
    left: float
    right: float
    values: list[X] = field(default_factory=list)
    banded: bool = False

    def __post_init__(self) -> None:
        self.named = any(isinstance(value, str) for value in self.values)
        if not self.named:
            self.values.sort(key=_size)
        ends = [0.0] if self.named else [_size(value) for value in self.values]
        self.low = float(self.axis.low) if self.axis.low is not None else min(ends)
        self.high = float(self.axis.high) if self.axis.high is not None else max(ends)
        self.slot = (self.right - self.left) / max(1, len(self.values))

    def place(self, value: X) -> float:
        """Return where a value stands."""
        if self.banded or self.named:
            return self.left + (self.values.index(value) + 0.5) * self.slot
        share = 0.5 if self.high == self.low else (_size(value) - self.low) / (self.high - self.low)
        return self.left + share * (self.right - self.left)

    def ticks(self) -> list[Tick]:
        """Return as many ticks as there is room for, names and days at their own places."""
        if not self.values:
            return []
        dated = isinstance(self.values[0], date)
        if not (self.banded or self.named or dated):
            even = [step for step in nice_steps(self.low, self.high) if self.low <= step <= self.high]
            return _apart([self._tick(self._even(step), self.axis.show(step)) for step in even])
        texts = [self.axis.show(value) for value in self.values]
        room = max(width_of(text) for text in texts) + _GAP
        every = max(1, math.ceil(room * len(texts) / (self.right - self.left)))
        chosen = list(range(len(texts) - 1, -1, -every))[::-1]
        return _apart([self._tick(self.place(self.values[index]), texts[index]) for index in chosen])

    def _even(self, value: float) -> float:
        span = self.high - self.low
        return self.left + (value - self.low) / span * (self.right - self.left) if span else self.left

    def _tick(self, at: float, text: str) -> Tick:
        half = width_of(text) / 2
        if at + half > self.right + _RIGHT:
            return Tick(at=round(at, 1), text=text, anchor="end")
        return Tick(at=round(at, 1), text=text, anchor="start" if at - half < 0 else "middle")


def draw(
    title: str,
    *,
    x: Axis,
    y: Axis,
    marks: Sequence[Mark],
    wide: bool = False,
    small: bool = False,
    stacked: bool = False,
) -> Chart | None:
    """Return the picture of `marks`; None when none of them has a value.

    Parameters
    ----------
    title : str
        What the picture tells, as its heading.
    x, y : Axis
        Both axes. Instants and days are placed by time; names and bars by the order they come in.
    marks : sequence of Mark
        Drawn in this order, so intervals come before what lies in them. Missing values (None) are left out
        of the picture and shown as a dash in the table.
    wide : bool
        Takes the whole width of a page; on a phone it scrolls.
    small : bool
        Stands in a narrow column beside others: its texts stay as large as theirs.
    stacked : bool
        Bars stand on each other.
    """
    values = _values_of(marks, stacked)
    if not values:
        return None
    width, height = (860, 280) if wide else (300, 200) if small else (440, 260)
    steps = _steps(y, values)
    left = round(max(width_of(y.show(step)) for step in steps) + 12, 1)
    floor = height - _BOTTOM
    bars = [mark for mark in marks if isinstance(mark, Bars)]
    places = _Places(x, left, width - _RIGHT, _places_of(marks), banded=bool(bars))

    def up(value: Number) -> float:
        return floor - (float(value) - steps[0]) / (steps[-1] - steps[0]) * (floor - _TOP)

    zero = up(min(max(0.0, steps[0]), steps[-1]))
    pen = _Pen(x=x, y=y, places=places, up=up, zero=zero, bars=len(bars), stacked=stacked)
    return Chart(
        title=title,
        x=x,
        y=y,
        width=width,
        height=height,
        left=left,
        right=width - _RIGHT,
        top=_TOP,
        floor=floor,
        zero=round(zero, 1),
        x_ticks=places.ticks(),
        y_ticks=[Tick(at=round(up(step), 1), text=y.show(step)) for step in steps],
        shapes=[shape for series, mark in enumerate(marks) for shape in pen.shapes(series, mark)],
        legend=[
            Sign(
                series=series,
                name=mark.name,
                filled=isinstance(mark, Bars | Band),
                reference=isinstance(mark, Level) or (isinstance(mark, Line) and mark.reference),
            )
            for series, mark in enumerate(marks)
        ],
        header=[x.label, *(mark.name for mark in marks if not isinstance(mark, Level))],
        rows=_rows(x, y, marks, places.values),
        wide=wide,
    )


def nice_steps(low: float, high: float, about: int = _TICKS, *, whole: bool = False) -> list[float]:
    """Return round numbers, evenly apart, the first at most `low` and the last at least `high`.

    Of what is counted they are `whole`: there are no two and a half deals.
    """
    if high <= low:
        high = low + (abs(low) or 1.0)
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    times = (1, 2, 5, 10) if whole else (1, 2, 2.5, 5, 10)
    step = next(each * power for each in times if each * power >= rough * 0.999)
    step = max(step, 1.0) if whole else step
    first = math.floor(low / step + 1e-9)
    last = math.ceil(high / step - 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]


def width_of(text: str) -> float:
    """Return about how wide a text is in the picture; Chinese takes nearly twice as much."""
    return sum(_LETTER if ord(letter) < _HIGHEST_LATIN else _WIDE_LETTER for letter in text)


@dataclass(kw_only=True)
class _Pen:
    """Turns marks into shapes."""

    x: Axis
    y: Axis
    places: _Places
    up: Callable[[Number], float]
    zero: float
    bars: int
    stacked: bool
    beside: int = 0
    heaps: dict[X, list[float]] = field(default_factory=dict)

    def shapes(self, series: int, mark: Mark) -> list[Shape]:
        """Return the shapes of one mark."""
        if isinstance(mark, Line):
            return self._line(series, mark)
        if isinstance(mark, Band):
            return self._band(series, mark)
        if isinstance(mark, Bars):
            return self._bars(series, mark)
        if isinstance(mark, Dots):
            return self._dots(series, mark)
        return [self._level(series, mark)]

    def _line(self, series: int, line: Line) -> list[Shape]:
        path, pen_down = [], False
        dots = []
        for at, value in line.points:
            if value is None:
                pen_down = False
                continue
            x, y = round(self.places.place(at), 1), round(self.up(value), 1)
            path.append((f"H{x}V{y}" if line.step else f"L{x} {y}") if pen_down else f"M{x} {y}")
            pen_down = True
            dots.append(Shape(kind="dot", series=series, x=x, y=y, title=self._said(line.name, at, value)))
        joined = Shape(kind="path", series=series, path="".join(path), reference=line.reference)
        return [joined] if line.reference else [joined, *dots]

    def _band(self, series: int, band: Band) -> list[Shape]:
        ends = [
            (round(self.places.place(at), 1), round(self.up(low), 1), round(self.up(high), 1))
            for at, low, high in band.points
        ]
        forth = [f"{x} {high}" for x, _, high in ends]
        back = [f"{x} {low}" for x, low, _ in reversed(ends)]
        return [Shape(kind="area", series=series, path="M" + "L".join([*forth, *back]) + "Z")] if ends else []

    def _bars(self, series: int, bars: Bars) -> list[Shape]:
        place, self.beside = self.beside, self.beside + 1
        room = min(self.places.slot * 0.72, _WIDEST_BARS * (1 if self.stacked else self.bars))
        width = room if self.stacked else room / self.bars
        shapes = []
        for at, value in bars.points:
            if value is None:
                continue
            start, end = self._span(at, float(value))
            x = self.places.place(at) - room / 2 + (0 if self.stacked else place * width)
            shapes.append(
                Shape(
                    kind="bar",
                    series=series,
                    x=round(x, 1),
                    y=round(min(self.up(start), self.up(end)), 1),
                    width=round(max(1.0, width - 1), 1),
                    height=round(abs(self.up(start) - self.up(end)), 1),
                    title=self._said(bars.name, at, value),
                )
            )
        return shapes

    def _span(self, at: X, value: float) -> tuple[float, float]:
        if not self.stacked:
            return 0.0, value
        heap = self.heaps.setdefault(at, [0.0, 0.0])
        side = int(value < 0)
        start = heap[side]
        heap[side] += value
        return start, heap[side]

    def _dots(self, series: int, dots: Dots) -> list[Shape]:
        shapes = []
        for at, value, low, high in dots.points:
            x = round(self.places.place(at), 1)
            if low is not None and high is not None:
                top, end = round(self.up(high), 1), round(self.up(low), 1)
                shapes.append(Shape(kind="whisker", series=series, x=x, y=top, height=round(end - top, 1)))
            said = self._said(dots.name, at, value) + _between(self.y, low, high)
            shapes.append(Shape(kind="dot", series=series, x=x, y=round(self.up(value), 1), title=said))
        return shapes

    def _level(self, series: int, level: Level) -> Shape:
        y = round(self.up(level.value), 1)
        path = f"M{self.places.left} {y}H{self.places.right}"
        return Shape(kind="path", series=series, path=path, reference=True)

    def _said(self, name: str, at: X, value: Number) -> str:
        return f"{name}, {self.x.show(at)}: {self.y.show(value)}"


def _between(axis: Axis, low: Number | None, high: Number | None) -> str:
    return "" if low is None or high is None else f" ({axis.show(low)} – {axis.show(high)})"  # noqa: RUF001  a dash, as one sets it


def _apart(ticks: Sequence[Tick]) -> list[Tick]:
    """Return the ticks whose texts do not meet; of two that do, the later one stays."""
    kept: list[Tick] = []
    for tick in reversed(ticks):
        if not kept or tick.ends()[1] + _GAP <= kept[-1].ends()[0]:
            kept.append(tick)
    return kept[::-1]


def _size(value: X) -> float:
    if isinstance(value, datetime):
        return value.timestamp()
    if isinstance(value, date):
        return datetime.combine(value, time()).timestamp()
    return float(value)


def _places_of(marks: Sequence[Mark]) -> list[X]:
    return list(
        dict.fromkeys(point[0] for mark in marks if not isinstance(mark, Level) for point in mark.points)
    )


def _values_of(marks: Sequence[Mark], stacked: bool) -> list[float]:  # noqa: FBT001  as `draw` was asked
    values: list[float] = []
    heaps: dict[tuple[X, bool], float] = {}
    for mark in marks:
        if isinstance(mark, Level):
            continue
        for at, *numbers in mark.points:
            known = [float(number) for number in numbers if number is not None]
            values += known
            if stacked and isinstance(mark, Bars) and known:
                heap = (at, known[0] < 0)
                heaps[heap] = heaps.get(heap, 0.0) + known[0]
    levels = [float(mark.value) for mark in marks if isinstance(mark, Level)]
    return [*values, *heaps.values(), *levels] if values else []


def _steps(y: Axis, values: Sequence[float]) -> list[float]:
    low = float(y.low) if y.low is not None else min(0.0, *values)
    high = float(y.high) if y.high is not None else max(values)
    counted = high > 1 and all(float(value).is_integer() for value in values)
    steps = nice_steps(low, high, whole=counted)
    first = bisect_right(steps, min(low, *values)) - 1
    return steps[max(0, first) :]


def _rows(x: Axis, y: Axis, marks: Sequence[Mark], places: Sequence[X]) -> list[list[str]]:
    told = [_told(y, mark) for mark in marks if not isinstance(mark, Level)]
    return [[x.show(place), *(of.get(place, "–") for of in told)] for place in places]  # noqa: RUF001  a dash, as one sets it


def _told(y: Axis, mark: Line | Band | Bars | Dots) -> dict[X, str]:
    if isinstance(mark, Band):
        return {at: _between(y, low, high).strip(" ()") for at, low, high in mark.points}
    if isinstance(mark, Dots):
        return {at: y.show(value) + _between(y, low, high) for at, value, low, high in mark.points}
    return {at: y.show(value) for at, value in mark.points if value is not None}
