"""From what a mapping says to functions that are called once a row.

A compiled expression takes the cells of a row (or, in a step that groups, the list of the cells of its rows)
and returns a value, or raises InvalidValueError with the column, what stood there and what was expected.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from crm_core.errors import InvalidValueError
from crm_core.importing.expressions import (
    COLUMN_IN_TEMPLATE,
    Cell,
    Constant,
    Expression,
    Link,
    LookedUp,
    Pick,
)
from crm_core.importing.specs import Filter
from crm_core.importing.values import as_text, converter
from crm_core.phrases import Phrase

Cells = Sequence[Any]
Reader = Callable[[Any], Any]
"""From the cells of a row or group to a value."""

Lookups = Mapping[str, Mapping[str, Any]]


class Compiler:
    """Compiles expressions against the header of one file."""

    def __init__(
        self, header: Sequence[str], *, empty: frozenset[str], lookups: Lookups, group: bool = False
    ) -> None:
        self._index = {column: position for position, column in enumerate(header)}
        self._empty = empty
        self._lookups = lookups
        self._group = group

    def reader(self, expression: Expression) -> Reader:
        """Return the function that gives the value of an expression; of a link, the external id."""
        match expression:
            case Constant(value=value):
                return lambda _cells: value
            case Cell():
                one = self._with_shift(expression, self._one_row(expression))
                return _over_group(one, expression) if self._group else one
            case LookedUp(lookup=lookup, by=by):
                return _looking_up(self._lookups[lookup], self.reader(by))
            case Pick(rule=rule, choices=choices):
                return _PICKS[rule]([self.reader(choice) for choice in choices])
            case Link(by=by, type_by=type_by):
                key_of = self.reader(by)
                return key_of if type_by is None else _with_type(key_of, self.reader(type_by))

    def left_out(self, spec: Filter) -> Reader:
        """Return the function that says whether a filter leaves a row out."""
        return _TESTS[spec.test](self.reader(spec.value), spec.operand)

    def _one_row(self, cell: Cell) -> Reader:
        text = self._column(cell.columns[0]) if cell.template is None else self._template(cell)
        convert, expected, name = converter(cell.reading), cell.reading.expected, ", ".join(cell.columns)

        def read(cells: Cells) -> Any:  # noqa: ANN401  whatever the field holds
            raw = text(cells)
            if raw is None:
                return None
            try:
                return convert(raw)
            except ValueError as error:
                raise InvalidValueError(name, raw, expected) from error

        return read

    def _column(self, column: str) -> Reader:
        position, empty = self._index[column], self._empty

        def read(cells: Cells) -> Any:  # noqa: ANN401  whatever the file holds
            raw = cells[position]
            return None if raw is None or (type(raw) is str and raw in empty) else raw

        return read

    def _template(self, cell: Cell) -> Reader:
        # Literal texts stand at even places, columns at odd ones.
        parts = re.split(COLUMN_IN_TEMPLATE, cell.template or "")
        literals, readers = parts[::2], [self._column(column) for column in parts[1::2]]

        def read(cells: Cells) -> str | None:
            values = [reader(cells) for reader in readers]
            if any(value is None for value in values):
                return None
            filled = zip(literals, [*map(as_text, values), ""], strict=True)
            return "".join(literal + value for literal, value in filled)

        return read

    def _with_shift(self, cell: Cell, date_of: Reader) -> Reader:
        if cell.shift_column is None:
            return date_of
        column, days_of = cell.shift_column, self._column(cell.shift_column)

        def read(cells: Cells) -> Any:  # noqa: ANN401  an instant, a day or nothing
            date, days = date_of(cells), days_of(cells)
            if date is None or days is None:
                return None
            try:
                return date + timedelta(days=float(days))
            except (ValueError, OverflowError) as error:
                raise InvalidValueError(column, days, "a number of days that leads to a date") from error

        return read


def _with_type(key_of: Reader, type_of: Reader) -> Reader:
    """Return what gives a record type and an external id, or nothing where one of them is missing."""

    def read(cells: Any) -> Any:  # noqa: ANN401  a row or a group
        record_type, key = type_of(cells), key_of(cells)
        return None if record_type is None or key is None else (record_type, key)

    return read


def _looking_up(found: Mapping[str, Any], key_of: Reader) -> Reader:
    def read(cells: Any) -> Any:  # noqa: ANN401  a row or a group
        key = key_of(cells)
        return None if key is None else found.get(key)

    return read


def _over_group(one: Reader, cell: Cell) -> Reader:
    take = _reducer(cell)
    if cell.take == "first":
        return lambda lines: next((value for line in lines if (value := one(line)) is not None), None)
    return lambda lines: take([one(line) for line in lines])


# ------------------------------------------------------------------------------------------------ takes


def folding(take: str) -> Callable[[Any, Any], Any]:
    """Return the function that takes one more value into a running one."""
    of = _TAKES[take]
    return lambda before, value: of([before, value])


def _reducer(cell: Cell) -> Callable[[list[Any]], Any]:
    """Return the function that makes one value of the values of several lines."""
    take, name = _TAKES[cell.take], ", ".join(cell.columns)

    def reduce(values: list[Any]) -> Any:  # noqa: ANN401  whatever the field holds
        present = [value for value in values if value is not None]
        if cell.take == "same" and len(set(present)) > 1:
            raise InvalidValueError(
                name,
                present[1],
                Phrase("the same value on every line of the group, {present!r}", present=present[0]),
            )
        return take(present) if present or cell.take in {"count", "distinct"} else None

    return reduce


_TAKES: dict[str, Callable[[list[Any]], Any]] = {
    "first": lambda values: values[0],
    "last": lambda values: values[-1],
    "same": lambda values: values[0],
    "only": lambda values: values[0] if values[0] == values[1] else None,
    "min": min,
    "max": max,
    "sum": sum,
    "mean": lambda values: sum(values) / len(values),
    "count": len,
    "distinct": lambda values: len(set(values)),
    "any": any,
    "all": all,
}

# ------------------------------------------------------------------------------------------------ picks


def _earliest(readers: list[Reader]) -> Reader:
    return lambda cells: min(_present(readers, cells), default=None)


def _latest(readers: list[Reader]) -> Reader:
    return lambda cells: max(_present(readers, cells), default=None)


def _first_of(readers: list[Reader]) -> Reader:
    return lambda cells: next((value for read in readers if (value := read(cells)) is not None), None)


def _present(readers: list[Reader], cells: Any) -> list[Any]:  # noqa: ANN401  a row or a group
    return [value for read in readers if (value := read(cells)) is not None]


_PICKS: dict[str, Callable[[list[Reader]], Reader]] = {
    "earliest": _earliest,
    "latest": _latest,
    "first_of": _first_of,
}

# ------------------------------------------------------------------------------------------------ tests


def _compared(holds: Callable[[Any, Any], bool]) -> Callable[[Reader, Any], Reader]:
    """Return a test in which an empty value never leaves a row out."""
    return lambda read, operand: lambda cells: (value := read(cells)) is not None and holds(value, operand)


_TESTS: dict[str, Callable[[Reader, Any], Reader]] = {
    "empty": lambda read, operand: lambda cells: (read(cells) is None) is operand,
    "equals": _compared(lambda value, operand: value in operand),
    "other_than": _compared(lambda value, operand: value not in operand),
    "before": _compared(lambda value, operand: value < operand),
    "from": _compared(lambda value, operand: value >= operand),
    "below": _compared(lambda value, operand: value < operand),
    "above": _compared(lambda value, operand: value > operand),
}
