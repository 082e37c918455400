"""From the text of a cell to the value of a field.

A converter takes what stood in a cell (a text, or what Parquet holds) and returns the value, or raises
ValueError. Whoever calls it knows the column and what was expected, and says so.
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from typing import Any

from crm_core.columns import money_units
from crm_core.errors import InvalidValueError
from crm_core.importing.encodings import DETECT
from crm_core.phrases import Phrase, one_of

Converter = Callable[[Any], Any]

_INSTANT_BEFORE = timedelta(microseconds=1)


class Kind(StrEnum):
    """What a value is."""

    TEXT = "text"
    NUMBER = "number"
    INTEGER = "integer"
    MONEY = "money"
    FLAG = "flag"
    INSTANT = "instant"
    DAY = "day"
    LIST = "list"


class Within(StrEnum):
    """Which instant stands for a whole day or month."""

    START = "start"
    END = "end"


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How cells are turned into values of one kind.

    `formats` are ISO, strptime patterns, `unix`, `unix_ms`, `excel` or `days since YYYY-MM-DD`, tried in
    order. `zone` is that of instants that name none. `within` says which instant stands for a date without a
    time. A time of exactly midnight in `midnight_in` counts as a date without a time. `words` are texts with
    a meaning of their own; `others` says what becomes of texts that are not among them: convert, refuse or
    empty. In numbers, `ignore` are texts that mean nothing (a currency's sign), `units` are texts at the end
    with what they multiply by, and `brackets` stand for a minus. What does not begin with one of `begins`
    counts as empty. A list is JSON, or texts with `separator` between them.
    """

    kind: Kind
    formats: tuple[str, ...] = ("iso",)
    zone: tzinfo = UTC
    within: Within = Within.START
    midnight_in: tzinfo | None = None
    shift: timedelta = timedelta(0)
    decimal: str = "."
    thousands: str = ""
    multiply: float = 1.0
    ignore: tuple[str, ...] = ()
    units: Mapping[str, float] = field(default_factory=dict)
    brackets: bool = False
    begins: tuple[str, ...] = ()
    separator: str = ""
    words: Mapping[str, Any] = field(default_factory=dict)
    others: str = "convert"

    @property
    def is_open(self) -> bool:
        """Whether how cells are written is yet to be found out; see `crm_core.importing.detecting`."""
        return DETECT in self.formats or self.decimal == DETECT

    @property
    def expected(self) -> str:
        """What a cell must hold, in words."""
        if self.words and self.others == "refuse":
            return one_of(sorted(self.words))
        if self.kind in {Kind.INSTANT, Kind.DAY}:
            return Phrase("a date as {formats}", formats=" or ".join(map(_format_in_words, self.formats)))
        return _EXPECTED[self.kind]


_EXPECTED = {
    Kind.TEXT: "a text",
    Kind.NUMBER: "a finite number",
    Kind.INTEGER: "a whole number",
    Kind.MONEY: "an amount of money",
    Kind.FLAG: "true or false",
    Kind.LIST: "a list of texts",
}


def converter(reading: Reading) -> Converter:
    """Return the function that turns a cell into a value, as `reading` says."""
    convert = _MAKERS[reading.kind](reading)
    if reading.begins:
        return _only_if_begins(reading.begins, converter(replace(reading, begins=())))
    if not reading.words:
        return convert
    words, others = reading.words, reading.others

    def convert_word(cell: Any) -> Any:  # noqa: ANN401  whatever a cell holds
        text = as_text(cell)
        if text in words:
            return words[text]
        if others == "convert":
            return convert(cell)
        if others == "empty":
            return None
        raise ValueError(text)

    return convert_word


def _only_if_begins(begins: tuple[str, ...], convert: Converter) -> Converter:
    return lambda cell: convert(cell) if as_text(cell).startswith(begins) else None


def as_text(cell: object) -> str:
    """Return a cell as text: Parquet's typed values in their plain form."""
    match cell:
        case str():
            return cell
        case bool():
            return "true" if cell else "false"
        case date():
            return cell.isoformat()
        case bytes():
            return cell.decode()
    return str(cell)


def narrowed(text: str) -> str:
    """Return a text with full-width digits and signs as plain ones: Chinese keyboards write both."""
    return text if text.isascii() else unicodedata.normalize("NFKC", text)


def _text(_reading: Reading) -> Converter:
    return as_text


def _number_text(cell: object, reading: Reading) -> tuple[str, float]:
    """Return the number in a cell as Python writes it, and what its unit multiplies it by."""
    text = narrowed(as_text(cell)).strip()
    if "_" in text:  # Python reads 1_000 as a number; files do not mean that
        raise ValueError(text)
    for sign in reading.ignore:
        text = text.replace(narrowed(sign), "")
    text, minus = _without_brackets(text.strip()) if reading.brackets else (text.strip(), "")
    text, factor = _without_unit(text, reading.units)
    if reading.thousands:
        text = _without_thousands(text, reading)
    return minus + (text if reading.decimal == "." else text.replace(reading.decimal, ".")), factor


def _without_brackets(text: str) -> tuple[str, str]:
    return (text[1:-1].strip(), "-") if text[:1] + text[-1:] == "()" else (text, "")


def _without_unit(text: str, units: Mapping[str, float]) -> tuple[str, float]:
    for unit in sorted(units, key=len, reverse=True):
        if text.endswith(unit):
            return text.removesuffix(unit).strip(), units[unit]
    return text, 1.0


def _without_thousands(text: str, reading: Reading) -> str:
    """Take the signs between thousands out; one that stands elsewhere makes another number of it."""
    sign = reading.thousands
    if sign.isspace():  # programs write narrow and unbreakable spaces, people type plain ones
        text, sign = re.sub(r"\s", " ", text), " "
    whole, *fraction = text.split(reading.decimal)
    _, *groups = whole.split(sign)
    if any(sign in part for part in fraction):
        raise ValueError(text)
    if groups and (len(groups[-1]) != 3 or any(len(group) not in {2, 3} for group in groups)):
        raise ValueError(text)  # India writes 12,34,567
    return text.replace(sign, "")


def _number(reading: Reading) -> Converter:
    def convert(cell: Any) -> float:  # noqa: ANN401  whatever a cell holds
        text, factor = (cell, 1.0) if type(cell) in {int, float} else _number_text(cell, reading)
        number = float(text) * factor * reading.multiply
        if not math.isfinite(number):
            raise ValueError(cell)
        return number

    return convert


def _integer(reading: Reading) -> Converter:
    def convert(cell: Any) -> int:  # noqa: ANN401  whatever a cell holds
        number = _decimal(cell, reading)
        if number != number.to_integral_value():
            raise ValueError(cell)
        return int(number)

    return convert


def _money(reading: Reading) -> Converter:
    def convert(cell: Any) -> Decimal:  # noqa: ANN401  whatever a cell holds
        amount = _decimal(cell, reading)
        try:
            money_units(amount)
        except InvalidValueError as error:
            raise ValueError(cell) from error
        return amount

    return convert


def _decimal(cell: object, reading: Reading) -> Decimal:
    text, factor = (str(cell), 1.0) if type(cell) in {int, float} else _number_text(cell, reading)
    try:
        number = Decimal(text)
    except InvalidOperation as error:
        raise ValueError(cell) from error
    if not number.is_finite():
        raise ValueError(cell)
    for factor_of_it in (factor, reading.multiply):
        number = number if factor_of_it == 1.0 else number * Decimal(str(factor_of_it))
    return number


_FLAGS = {"true": True, "yes": True, "1": True, "1.0": True, "t": True, "y": True}
_FLAGS |= {"是": True, "有": True, "否": False, "无": False}
_FLAGS |= {"false": False, "no": False, "0": False, "0.0": False, "f": False, "n": False}


def _flag(_reading: Reading) -> Converter:
    def convert(cell: Any) -> bool:  # noqa: ANN401  whatever a cell holds
        flag = _FLAGS.get(as_text(cell).strip().lower())
        if flag is None:
            raise ValueError(cell)
        return flag

    return convert


def _list(reading: Reading) -> Converter:
    def convert(cell: Any) -> list[str]:  # noqa: ANN401  whatever a cell holds
        if reading.separator and isinstance(cell, str):
            return [part for each in cell.split(reading.separator) if (part := each.strip())]
        found = json.loads(cell) if isinstance(cell, str) else cell
        if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
            raise ValueError(cell)
        return found

    return convert


def _instant(reading: Reading) -> Converter:
    parse = _moment_parser(reading)
    shift = reading.shift

    def convert(cell: Any) -> datetime:  # noqa: ANN401  whatever a cell holds
        moment, period = parse(cell)
        moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=reading.zone)
        if reading.midnight_in is not None and not period:
            moment, period = _midnight_as_day(moment, reading.midnight_in)
        if period and reading.within is Within.END:
            moment = _end_of(moment, period)
        return moment.astimezone(UTC) + shift

    return _without_overflow(convert)


def _day(reading: Reading) -> Converter:
    parse = _moment_parser(reading)
    shift = reading.shift

    def convert(cell: Any) -> date:  # noqa: ANN401  whatever a cell holds
        moment, period = parse(cell)
        if period and reading.within is Within.END:
            moment = _end_of(moment, period)
        if moment.tzinfo is not None:
            moment = moment.astimezone(reading.zone)
        return (moment + shift).date()

    return _without_overflow(convert)


def _without_overflow(convert: Converter) -> Converter:
    def checked(cell: Any) -> Any:  # noqa: ANN401  whatever a cell holds
        try:
            return convert(cell)
        except OverflowError as error:
            raise ValueError(cell) from error

    return checked


_MAKERS: dict[Kind, Callable[[Reading], Converter]] = {
    Kind.TEXT: _text,
    Kind.NUMBER: _number,
    Kind.INTEGER: _integer,
    Kind.MONEY: _money,
    Kind.FLAG: _flag,
    Kind.INSTANT: _instant,
    Kind.DAY: _day,
    Kind.LIST: _list,
}

# ------------------------------------------------------------------------------------------------ dates

Period = str
"""What a date stands for as a whole: day, month or year; empty for an exact time."""

Parser = Callable[[Any], tuple[datetime, Period]]

_SINCE = "days since "
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EXCEL_START = datetime(1899, 12, 30)  # noqa: DTZ001  the zone follows
_EXCEL_BEFORE = datetime(1899, 12, 31)  # noqa: DTZ001  as above
_NEVER_WAS = 60
_EXCEL_ENDS = 2_958_466
_TIME_DIRECTIVES = re.compile(r"%[HIMSfcXsT]")
_DAY_DIRECTIVES = re.compile(r"%[djxDFaAuwUWV]")
_MONTH_DIRECTIVES = re.compile(r"%[mbBh]")


def check_format(pattern: str) -> None:
    """Raise ValueError for a date format that no cell could ever follow."""
    if pattern in {"iso", "unix", "unix_ms", "excel", DETECT}:
        return
    if pattern.startswith(_SINCE):
        date.fromisoformat(pattern.removeprefix(_SINCE))
        return
    if "%" not in pattern:
        raise ValueError(pattern)
    example = datetime(2001, 2, 3, 4, 5, 6, tzinfo=UTC).strftime(pattern)
    datetime.strptime(example, pattern)  # noqa: DTZ007  only whether it can be read back


def _format_in_words(pattern: str) -> str:
    named = {"iso": "YYYY-MM-DD[ HH:MM[:SS]]", "unix": "seconds since 1970", "unix_ms": "ms since 1970"}
    named["excel"] = "a number of Excel"
    return named.get(pattern, pattern)


def _moment_parser(reading: Reading) -> Parser:
    parsers = [_parser_of(pattern) for pattern in reading.formats]
    if len(parsers) == 1:
        only = parsers[0]
        return lambda cell: _typed_moment(cell) or only(narrowed(as_text(cell)).strip())

    def parse(cell: Any) -> tuple[datetime, Period]:  # noqa: ANN401  whatever a cell holds
        typed = _typed_moment(cell)
        return typed if typed is not None else _first_that_reads(parsers, narrowed(as_text(cell)).strip())

    return parse


def _first_that_reads(parsers: list[Parser], text: str) -> tuple[datetime, Period]:
    for parse in parsers:
        try:
            return parse(text)
        except ValueError:
            continue
    raise ValueError(text)


def _typed_moment(cell: object) -> tuple[datetime, Period] | None:
    """Return a date that the file itself holds as one (Parquet does)."""
    if isinstance(cell, datetime):
        return cell, ""
    if isinstance(cell, date):
        return datetime.combine(cell, time.min), "day"
    return None


def _parser_of(pattern: str) -> Parser:
    if pattern == "iso":
        return _parse_iso
    if pattern in {"unix", "unix_ms"}:
        scale = 1 if pattern == "unix" else 1000
        return lambda text: (_EPOCH + timedelta(seconds=float(text) / scale), "")
    if pattern == "excel":
        return lambda text: _parse_excel(float(text))
    if pattern.startswith(_SINCE):
        start = datetime.combine(date.fromisoformat(pattern.removeprefix(_SINCE)), time.min)
        return lambda text: _days_after(start, float(text))
    period = _period_of(pattern)
    return lambda text: (datetime.strptime(text, pattern), period)  # noqa: DTZ007  the zone follows


def _parse_iso(text: str) -> tuple[datetime, Period]:
    return datetime.fromisoformat(text), "" if ":" in text or "T" in text else "day"


def _days_after(start: datetime, days: float) -> tuple[datetime, Period]:
    if not math.isfinite(days):
        raise ValueError(days)
    return start + timedelta(days=days), "day" if days.is_integer() else ""


def _parse_excel(days: float) -> tuple[datetime, Period]:
    """Return the date that Excel means by a number, to the millisecond, as Excel shows it.

    Day 60 is the 29th of February 1900, which never was: Excel counts it because Lotus 1-2-3 did.
    """
    if not 1 <= days < _EXCEL_ENDS or int(days) == _NEVER_WAS:
        raise ValueError(days)
    start = _EXCEL_BEFORE if days < _NEVER_WAS else _EXCEL_START
    return start + timedelta(milliseconds=round(days * 86_400_000)), "day" if days.is_integer() else ""


def _period_of(pattern: str) -> Period:
    if _TIME_DIRECTIVES.search(pattern):
        return ""
    if _DAY_DIRECTIVES.search(pattern):
        return "day"
    return "month" if _MONTH_DIRECTIVES.search(pattern) else "year"


def _midnight_as_day(moment: datetime, zone: tzinfo) -> tuple[datetime, Period]:
    local = moment.astimezone(zone)
    return (local, "day") if local.time() == time.min else (moment, "")


def _end_of(moment: datetime, period: Period) -> datetime:
    """Return the last microsecond of the day, month or year that begins at `moment`."""
    match period:
        case "day":
            following = moment + timedelta(days=1)
        case "month":
            following = (moment.replace(day=1) + timedelta(days=32)).replace(day=1)
        case _:
            following = moment.replace(year=moment.year + 1)
    return following - _INSTANT_BEFORE
