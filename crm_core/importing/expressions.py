"""Where a value comes from: one or more columns, a constant, another table, or a choice among these.

Each expression is written in a mapping as a text (the name of a column) or as a small table;
docs/importing.md lists them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta, tzinfo
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from crm_core.importing.tables import Table
from crm_core.importing.values import Kind, Reading, Within, check_format, converter

COLUMN_IN_TEMPLATE = r"\{([^{}]+)\}"
"""A column in braces, as templates name them."""

TAKES = ("first", "last", "min", "max", "sum", "mean", "count", "distinct", "any", "all", "same")
"""How the lines of one group become one value."""

LOOKUP_TAKES = ("first", "last", "only", "min", "max", "sum", "any", "all")
"""How the rows of one key become one value, row by row."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """The text of one column, or of several put together by `template`, read as `reading` says."""

    columns: tuple[str, ...]
    reading: Reading
    template: str | None = None
    take: str = "first"
    shift_column: str | None = None


@dataclass(frozen=True, kw_only=True)
class Constant:
    """The same value for every row."""

    value: Any


@dataclass(frozen=True, kw_only=True)
class LookedUp:
    """What a lookup holds under the key that `by` gives; empty if it holds nothing."""

    lookup: str
    by: Expression


@dataclass(frozen=True, kw_only=True)
class Pick:
    """The earliest, latest or first of several values that are not empty."""

    rule: str
    choices: tuple[Expression, ...]


@dataclass(frozen=True, kw_only=True)
class Link:
    """The record that has the external id that `by` gives.

    With `type_by`, of the record type that this gives; `record` names its type where no column does; with
    `many`, as many records as `by` lists.
    """

    by: Expression
    may_be_missing: bool
    type_by: Expression | None = None
    record: str | None = None
    many: bool = False


Expression = Cell | Constant | LookedUp | Pick | Link

Parse = Callable[[Table, Kind, tzinfo], Expression]


def parts_of(expression: Expression) -> Iterator[Expression]:
    """Return an expression and every expression inside it."""
    yield expression
    match expression:
        case LookedUp(by=inner) | Link(by=inner, type_by=None):
            yield from parts_of(inner)
        case Link(by=inner, type_by=Cell() | Constant() | LookedUp() | Pick() as type_by):
            yield from parts_of(inner)
            yield from parts_of(type_by)
        case Pick(choices=choices):
            for choice in choices:
                yield from parts_of(choice)


def cells_in(expression: Expression) -> list[Cell]:
    """Return the parts of an expression that read columns."""
    return [part for part in parts_of(expression) if isinstance(part, Cell)]


def columns_in(expression: Expression) -> list[str]:
    """Return the columns that an expression reads."""
    shifts = [cell.shift_column for cell in cells_in(expression) if cell.shift_column is not None]
    return [column for cell in cells_in(expression) for column in cell.columns] + shifts


def lookups_in(expression: Expression) -> list[str]:
    """Return the lookups that an expression asks."""
    return [part.lookup for part in parts_of(expression) if isinstance(part, LookedUp)]


def parse_value(table: Table, key: str, kind: Kind, zone: tzinfo) -> Expression:
    """Read the expression under `key`, which must give a value of `kind`."""
    value = table.value(key)
    if isinstance(value, str):
        return Cell(columns=(value,), reading=Reading(kind=kind, zone=zone))
    inner = table.table(key)
    expression = parse_expression(inner, kind, zone)
    inner.finish()
    return expression


def parse_expression(table: Table, kind: Kind, zone: tzinfo) -> Expression:
    """Read an expression out of the keys of `table`, leaving other keys to the caller."""
    forms = [form for form in _FORMS if form in table]
    if len(forms) != 1:
        raise table.refuse(f"expected exactly one of {', '.join(_FORMS)}, got {', '.join(forms) or 'none'}")
    parse = _FORMS[forms[0]]
    return parse(table, kind, zone)


def _column(table: Table, kind: Kind, zone: tzinfo) -> Expression:
    return _cell(table, (table.typed("column", str),), None, kind, zone)


def _template(table: Table, kind: Kind, zone: tzinfo) -> Expression:
    template = table.typed("template", str)
    columns = tuple(re.findall(COLUMN_IN_TEMPLATE, template))
    if not columns:
        raise table.refuse("names no column in braces", "template")
    return _cell(table, columns, template, kind, zone)


def _cell(table: Table, columns: tuple[str, ...], template: str | None, kind: Kind, zone: tzinfo) -> Cell:
    take = table.choice("take", TAKES, "first")
    shift = table.value("shift_days", 0)
    reading = _reading(table, Kind.TEXT if take in {"count", "distinct"} else kind, zone)
    dated = reading.kind in {Kind.INSTANT, Kind.DAY}
    if template is not None and reading.is_open:
        raise table.refuse("how it is written can be found out of one column only, not of a template")
    if shift and not dated:
        raise table.refuse(f"only a date can be shifted, this is {reading.kind.value}", "shift_days")
    if not isinstance(shift, str):
        reading = replace(reading, shift=timedelta(days=table.number("shift_days", 0)))
    return Cell(
        columns=columns,
        template=template,
        reading=reading,
        take=take,
        shift_column=shift if isinstance(shift, str) else None,
    )


def _constant(table: Table, kind: Kind, zone: tzinfo) -> Expression:
    value = table.value("constant")
    reading = Reading(kind=kind, zone=zone)
    try:
        return Constant(value=converter(reading)(value))
    except ValueError as error:
        raise table.refuse(f"expected {reading.expected}, got {value!r}", "constant") from error


def _lookup(table: Table, _kind: Kind, zone: tzinfo) -> Expression:
    return LookedUp(lookup=table.typed("lookup", str), by=parse_value(table, "by", Kind.TEXT, zone))


def _pick(rule: str) -> Parse:
    def parse(table: Table, kind: Kind, zone: tzinfo) -> Expression:
        if rule != "first_of" and kind not in {Kind.INSTANT, Kind.DAY}:
            raise table.refuse(f"only dates have an {rule}, this is {kind.value}", rule)
        choices = table.value(rule)
        if not isinstance(choices, list) or not choices:
            raise table.refuse(f"expected a list of columns or tables, got {choices!r}", rule)
        numbered = Table({str(number): each for number, each in enumerate(choices, start=1)}, table.place)
        return Pick(rule=rule, choices=tuple(parse_value(numbered, key, kind, zone) for key in numbered))

    return parse


_FORMS: dict[str, Parse] = {
    "column": _column,
    "template": _template,
    "constant": _constant,
    "lookup": _lookup,
    "earliest": _pick("earliest"),
    "latest": _pick("latest"),
    "first_of": _pick("first_of"),
}


def _reading(table: Table, kind: Kind, zone: tzinfo) -> Reading:
    own_zone = parse_zone(table, "zone", zone)
    return Reading(
        kind=kind,
        formats=_formats(table),
        zone=own_zone,
        within=Within(table.choice("within", list(Within), Within.START)),
        midnight_in=parse_zone(table, "midnight_in", own_zone) if "midnight_in" in table else None,
        decimal=table.typed("decimal", str, "."),
        thousands=table.typed("thousands", str, ""),
        multiply=table.number("multiply", 1.0),
        ignore=table.texts("ignore", ()),
        units=_units(table),
        brackets=table.typed("brackets", bool, default=False),
        begins=table.texts("begins", ()),
        separator=_separator(table, kind),
        words=_words(table, kind, own_zone),
        others=table.choice("others", ("convert", "refuse", "empty"), _others(table, kind)),
    )


def _separator(table: Table, kind: Kind) -> str:
    separator: str = table.typed("separator", str, "")
    if separator and kind is not Kind.LIST:
        raise table.refuse(f"only a list has a separator, this is {kind.value}", "separator")
    return separator


def _others(table: Table, kind: Kind) -> str:
    # A text can always be taken as it is, so a list of words is meant to be complete.
    return "refuse" if "values" in table and kind in {Kind.TEXT, Kind.FLAG} else "convert"


def _formats(table: Table) -> tuple[str, ...]:
    formats = table.texts("format", ("iso",))
    for pattern in formats:
        try:
            check_format(pattern)
        except ValueError as error:
            raise table.refuse(f"no date can be read by {pattern!r}", "format") from error
    return formats


def _units(table: Table) -> dict[str, float]:
    units = table.table("units")
    return {unit: units.number(unit, 1.0) for unit in units}


def _words(table: Table, kind: Kind, zone: tzinfo) -> dict[str, Any]:
    words = table.table("values")
    return {key: _word(words, key, kind, zone) for key in words}


def _word(words: Table, key: str, kind: Kind, zone: tzinfo) -> object:
    value, reading = words.value(key), Reading(kind=kind, zone=zone)
    try:
        return converter(reading)(value)
    except ValueError as error:
        raise words.refuse(f"expected {reading.expected}, got {value!r}", key) from error


def parse_zone(table: Table, key: str, default: tzinfo) -> tzinfo:
    """Read the name of a time zone, such as Europe/Berlin or UTC."""
    name = table.typed(key, str, None)
    if name is None:
        return default
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise table.refuse(
            f"no time zone is called {name!r}; use a name such as Europe/Berlin", key
        ) from error
