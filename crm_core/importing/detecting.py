"""Finding out how a column's dates and numbers are written, where a mapping asks, and on what evidence.

The whole column is looked at, never a sample: 03.04.2024 alone says nothing, but one 31.12.2023 in the same
column says that the day comes first. Where the column leaves two readings open, nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from crm_core.errors import MappingError
from crm_core.importing.encodings import DETECT
from crm_core.importing.expressions import Cell, Expression, Link, LookedUp, Pick
from crm_core.importing.readers import Fault, Source, read_rows
from crm_core.importing.specs import FieldSpec, Step
from crm_core.importing.specs import Mapping as ImportMapping
from crm_core.importing.values import Kind, Reading, as_text, converter
from crm_core.phrases import Phrase

_TIMES = ("", " %H:%M", " %H:%M:%S", " %I:%M %p", " %I:%M:%S %p", ", %H:%M:%S", ", %I:%M:%S %p")
_DAY_FIRST = ("%d/%m/%Y", "%d.%m.%Y", "%d-%m-%Y", "%d/%m/%y", "%d.%m.%y")
_MONTH_FIRST = ("%m/%d/%Y", "%m.%d.%Y", "%m-%d-%Y", "%m/%d/%y", "%m.%d.%y")
_PLAIN = (
    "%Y/%m/%d",
    "%Y.%m.%d",
    "%Y年%m月%d日",
    "%d %b %Y",
    "%d %b, %Y",
    "%b %d, %Y",
    "%d %B %Y",
    "%B %d, %Y",
)

ORDERS = {
    "day first": tuple(day + time for day in (*_DAY_FIRST, *_PLAIN) for time in _TIMES),
    "month first": tuple(day + time for day in (*_MONTH_FIRST, *_PLAIN) for time in _TIMES),
}
"""Ways to write a date, by which of day and month comes first where only numbers are written."""

SIGNS = {"1,234.56": (".", ","), "1.234,56": (",", "."), "1 234,56": (",", " "), "1'234.56": (".", "'")}
"""Ways to write a number: the sign before its fraction and that between thousands."""

CURRENCIES = ("$", "€", "£", "¥", "₹", "元", "USD", "EUR", "GBP", "CNY", "RMB", "CHF", "%")
UNITS = {"万": 1e4, "亿": 1e8, "k": 1e3, "K": 1e3}

_SHOWN = 3


@dataclass(frozen=True, kw_only=True)
class Found:
    """How a column turned out to be written, and the value that decides it."""

    file: str
    column: str
    written: str
    evidence: str | None

    def in_words(self) -> str:
        """Return it as one line for a person."""
        because = "" if self.evidence is None else f", because of {self.evidence!r}"
        return f"{self.file}: {self.column} is written {self.written}{because}"


def settle(mapping: ImportMapping, sources: Mapping[str, Source]) -> tuple[ImportMapping, list[Found]]:
    """Return a mapping in which nothing is left to be found out, and what was found.

    Raises MappingError, with examples, for a column that can be read in two ways, or in none.
    """
    found: dict[tuple[str, str, Kind], tuple[Reading, Found]] = {}
    steps = []
    for step in mapping.steps:
        finder = _Finder(sources[step.file], found, lenient=mapping.by_hand)
        steps.append(finder.settled(step))
    lookups = tuple(
        replace(
            each,
            key=_Finder(sources[each.file], found).expression(each.key),
            value=_Finder(sources[each.file], found).expression(each.value),
        )
        for each in mapping.lookups
    )
    return replace(mapping, steps=tuple(steps), lookups=lookups), [told for _, told in found.values()]


class _Finder:
    """Settles the expressions that read one file."""

    def __init__(
        self,
        source: Source,
        found: dict[tuple[str, str, Kind], tuple[Reading, Found]],
        *,
        lenient: bool = False,
    ) -> None:
        self._source = source
        self._found = found
        self._lenient = lenient

    def settled(self, step: Step) -> Step:
        def of(value: Any) -> Any:  # noqa: ANN401  an expression, a word or nothing
            return value if value is None or isinstance(value, str) else self.expression(value)

        return replace(
            step,
            external_id=self.expression(step.external_id),
            occurred_at=self.expression(step.occurred_at),
            recorded_at=of(step.recorded_at),
            changed_at=of(step.changed_at),
            won=of(step.won),
            fields=tuple(self._field(each) for each in step.fields),
            leave_out=tuple(replace(each, value=self.expression(each.value)) for each in step.leave_out),
        )

    def _field(self, spec: FieldSpec) -> FieldSpec:
        return replace(spec, value=self.expression(spec.value))

    def expression(self, expression: Expression) -> Expression:
        """Return an expression whose cells all say how they are read."""
        match expression:
            case Cell(reading=reading, template=None) if reading.is_open:
                return replace(expression, reading=self._reading(expression))
            case LookedUp(by=by) | Link(by=by):
                return replace(expression, by=self.expression(by))
            case Pick(choices=choices):
                return replace(expression, choices=tuple(self.expression(each) for each in choices))
        return expression

    def _reading(self, cell: Cell) -> Reading:
        column, reading = cell.columns[0], cell.reading
        key = (self._source.spec.path, column, reading.kind)
        if key not in self._found:
            values = list(self._values(column, reading))
            place = f"{self._source.spec.path}: {column}"
            dated = reading.kind in {Kind.INSTANT, Kind.DAY}
            if self._lenient:
                values = _readable(reading, values, dated=dated)
            settle_column = _settle_dates if dated else _settle_numbers
            settled, written, evidence = settle_column(reading, values, place)
            told = Found(file=self._source.spec.path, column=column, written=written, evidence=evidence)
            self._found[key] = (settled, told)
        settled = self._found[key][0]
        return replace(
            reading,
            formats=settled.formats,
            decimal=settled.decimal,
            thousands=settled.thousands,
            ignore=settled.ignore,
            units=settled.units,
            brackets=settled.brackets,
        )

    def _values(self, column: str, reading: Reading) -> Iterator[str]:
        """Return the different texts of a column, each once, in the order of the file."""
        position = self._source.header.index(column)
        seen: dict[str, None] = {}
        for row in read_rows(self._source):
            cell = None if isinstance(row, Fault) else row[1][position]
            if isinstance(cell, str) and cell not in self._source.spec.empty and cell not in reading.words:
                seen[cell] = None
        return iter(seen)


Settled = tuple[Reading, str, str | None]


def _settle_dates(reading: Reading, values: Sequence[str], place: str) -> Settled:
    given = tuple(each for each in reading.formats if each != DETECT)
    plain = replace(reading, formats=given or ("iso",))
    left = [value for value in values if not _reads(plain, value)]
    if not left:
        return plain, "as " + " or ".join(plain.formats), None
    fits = {order: _fitting(plain, formats, left) for order, formats in ORDERS.items()}
    readable = {order: formats for order, (formats, wrong) in fits.items() if wrong is None}
    if not readable:
        wrong = next(wrong for _, wrong in fits.values() if wrong is not None)
        raise MappingError(
            Phrase(
                "{place}: no way to write dates fits the whole column, see {wrong!r}; say its format",
                place=place,
                wrong=wrong,
            )
        )
    meanings = {
        order: [converter(replace(plain, formats=tuple(formats)))(value) for value in left]
        for order, formats in readable.items()
    }
    if len(readable) > 1 and meanings["day first"] != meanings["month first"]:
        raise MappingError(
            Phrase(
                "{place}: day and month cannot be told apart in {left}; say format = {readable!r} or"
                " {readable_too!r}",
                place=place,
                left=_some(left),
                readable=readable["day first"][0],
                readable_too=readable["month first"][0],
            )
        )
    order, formats = next(iter(readable.items()))
    evidence = None if len(readable) > 1 else next(wrong for _, wrong in fits.values() if wrong is not None)
    told = " or ".join(formats) + ("" if evidence is None else f" ({order})")
    return replace(plain, formats=(*plain.formats, *formats)), f"as {told}", evidence


def _fitting(plain: Reading, formats: Iterable[str], values: Sequence[str]) -> tuple[list[str], str | None]:
    """Return the formats that are needed for the values, and the first value that none of them reads."""
    needed: list[str] = []
    for value in values:
        if any(_reads(replace(plain, formats=(each,)), value) for each in needed):
            continue
        fit = next((each for each in formats if _reads(replace(plain, formats=(each,)), value)), None)
        if fit is None:
            return needed, value
        needed.append(fit)
    return needed, None


def _readable(reading: Reading, values: Sequence[str], *, dated: bool) -> list[str]:
    """Return the values that can be read in some way; the others will refuse their rows."""
    if dated:
        given = tuple(each for each in reading.formats if each != DETECT)
        every = dict.fromkeys(each for formats in ORDERS.values() for each in formats)
        ways = [replace(reading, formats=(*(given or ("iso",)), *every))]
    else:
        base = _with_signs(reading)
        ways = [replace(base, decimal=point, thousands=comma) for point, comma in SIGNS.values()]
    return [value for value in values if any(_reads(way, value) for way in ways)]


def _with_signs(reading: Reading) -> Reading:
    return replace(
        reading,
        ignore=(*reading.ignore, *CURRENCIES),
        units={**UNITS, **reading.units},
        brackets=True,
    )


def _settle_numbers(reading: Reading, values: Sequence[str], place: str) -> Settled:
    base = _with_signs(reading)
    fits = {}
    wrong: dict[str, str] = {}
    for written, (decimal, thousands) in SIGNS.items():
        each = replace(base, decimal=decimal, thousands=thousands)
        bad = next((value for value in values if not _reads(each, value)), None)
        if bad is None:
            fits[written] = each
        else:
            wrong[written] = bad
    if not fits:
        raise MappingError(
            Phrase(
                "{place}: no way to write numbers fits the whole column, see {wrong!r}; say its"
                " decimal and thousands",
                place=place,
                wrong=next(iter(wrong.values())),
            )
        )
    first, *others = fits.items()
    for value in values:
        meant = {str(converter(each)(value)) for each in fits.values()}
        if len(meant) > 1:
            raise MappingError(
                Phrase(
                    "{place}: the signs in {what} can mean {choices}; say its decimal and thousands",
                    place=place,
                    what=_some([value]),
                    choices=" or ".join(sorted(meant)),
                )
            )
    if len(others) == len(SIGNS) - 1:
        return first[1], "without signs between digits", None
    evidence = None if others else wrong["1,234.56" if first[0] != "1,234.56" else "1.234,56"]
    return first[1], f"like {first[0]}", evidence


def _reads(reading: Reading, value: str) -> bool:
    try:
        converter(replace(reading, words={}))(value)
    except ValueError:
        return False
    return True


def _some(values: Sequence[str]) -> str:
    return ", ".join(repr(as_text(value)) for value in values[:_SHOWN])
