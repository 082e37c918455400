"""Writing a table to a CSV, Excel or Parquet file, chunk by chunk."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from crm_core.clock import micros
from crm_core.exporting.tables import ExportColumn, ExportTable
from crm_core.formulas import guard
from crm_core.importing.values import Kind

Told = Callable[[int], None]
"""Told how many rows were written."""


def as_cell(value: object) -> str:
    """Return a value as text: instants in ISO 8601 UTC, amounts exactly, flags as true and false."""
    if value is None:
        return ""
    return next((write(value) for kind, write in _CELLS.items() if isinstance(value, kind)), str(value))


_CELLS: dict[type, Callable[[Any], str]] = {
    bool: lambda flag: "true" if flag else "false",
    datetime: lambda moment: moment.astimezone(UTC).isoformat().replace("+00:00", "Z"),
    date: date.isoformat,
    Decimal: lambda amount: format(amount, "f"),
}
"""The first that fits counts: an instant is a day to Python."""


# ------------------------------------------------------------------------------------------------ CSV


def write_csv(table: ExportTable, path: Path, told: Told, *, raw: bool) -> Counter[str]:
    """Write a CSV file; unless `raw`, with a byte order mark and without cells that a spreadsheet runs."""
    with path.open("w", encoding="utf-8" if raw else "utf-8-sig", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([column.name for column in table.columns])
        for chunk in table.chunks():
            writer.writerows([_csv_cell(cell, raw=raw) for cell in row] for row in chunk)
            told(len(chunk))
    return Counter()


def _csv_cell(value: object, *, raw: bool) -> str:
    return guard(value) if isinstance(value, str) and not raw else as_cell(value)


# ------------------------------------------------------------------------------------------------ Excel

SHEET_ROWS = 1_048_576
LONGEST_TEXT = 32_767
_EXACT_DIGITS = 15
"""Digits that a number in a sheet holds for certain."""

_UNWRITABLE = re.compile(r"[\x00-\x08\x0b-\x0d\x0e-\x1f]|_x[0-9A-Fa-f]{4}_")
CUT = f"texts cut to the {LONGEST_TEXT:,} characters that a cell of Excel holds"


def write_xlsx(table: ExportTable, path: Path, told: Told) -> Counter[str]:
    """Write an Excel workbook, with further sheets where one is full; no text is ever a formula."""
    import openpyxl
    from openpyxl.cell import WriteOnlyCell

    book = openpyxl.Workbook(write_only=True)
    notes: Counter[str] = Counter()
    header = [column.name for column in table.columns]
    sheet, filled = book.create_sheet(table.name), 1
    sheet.append(header)

    def cell(value: Any) -> Any:  # noqa: ANN401  what openpyxl takes
        plain = _sheet_value(value, notes)
        if isinstance(plain, datetime):
            shown = WriteOnlyCell(sheet, value=plain)
            shown.number_format = "yyyy-mm-dd hh:mm:ss"
            return shown
        if isinstance(plain, float) and float(f"{plain:.16g}") != plain:
            number = WriteOnlyCell(sheet, value=0.0)
            number._value = repr(plain)  # noqa: SLF001  openpyxl rounds to 16 digits, a sheet holds 17
            return number
        if not isinstance(plain, str):
            return plain
        made = WriteOnlyCell(sheet, value=plain)
        made.data_type = "s"
        made.quotePrefix = guard(plain) != plain  # it stays a text when somebody edits it
        return made

    for chunk in table.chunks():
        for row in chunk:
            if filled == SHEET_ROWS:
                sheet, filled = book.create_sheet(f"{table.name} {len(book.worksheets) + 1}"), 1
                sheet.append(header)
            sheet.append([cell(value) for value in row])
            filled += 1
        told(len(chunk))
    book.save(path)
    return notes


def _sheet_value(value: Any, notes: Counter[str]) -> Any:  # noqa: ANN401, PLR0911  any value; one return a type
    match value:
        case None | bool():
            return value
        case datetime() if _is_exact_in_sheets(value):
            return value.astimezone(UTC).replace(tzinfo=None)
        case datetime():
            return as_cell(value)
        case date():
            return value
        case int() | Decimal():
            return value if len(Decimal(value).normalize().as_tuple().digits) <= _EXACT_DIGITS else str(value)
        case float():
            return value
    text = _UNWRITABLE.sub(_escaped, str(value))
    if len(text) > LONGEST_TEXT:
        notes[CUT] += 1
    return text[:LONGEST_TEXT]


_SHEETS_BEGIN = datetime(1900, 3, 1, tzinfo=UTC)


def _is_exact_in_sheets(moment: datetime) -> bool:
    """Say whether a sheet holds an instant as it is: whole milliseconds, after Excel's 29 February 1900."""
    return moment >= _SHEETS_BEGIN and moment.microsecond % 1000 == 0


def _escaped(found: re.Match[str]) -> str:
    """Return what Excel writes for a character that XML does not hold, or that looks like such."""
    text = found.group()
    return f"_x{ord(text):04X}_" if len(text) == 1 else f"_x005F{text}"


# ------------------------------------------------------------------------------------------------ Parquet


def write_parquet(table: ExportTable, path: Path, told: Told) -> Counter[str]:
    """Write a Parquet file with a type for each column."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([(column.name, _arrow_type(column)) for column in table.columns])
    with pq.ParquetWriter(path, schema) as writer:
        for chunk in table.chunks():
            writer.write_table(pa.table(_arrays(table.columns, schema, chunk), schema=schema))
            told(len(chunk))
    return Counter()


def _arrays(columns: Sequence[ExportColumn], schema: Any, chunk: list[list[Any]]) -> list[Any]:  # noqa: ANN401  pyarrow ships no types
    import pyarrow as pa

    cells = zip(*chunk, strict=True)
    return [
        pa.array([_arrow_value(column.kind, cell) for cell in each], type=field.type)
        for column, field, each in zip(columns, schema, cells, strict=True)
    ]


def _arrow_value(kind: Kind, cell: Any) -> Any:  # noqa: ANN401  any value
    if cell is None:
        return None
    match kind:
        case Kind.INSTANT:
            return micros(cell)
        case Kind.NUMBER:
            return float(cell)
    return cell


def _arrow_type(column: ExportColumn) -> Any:  # noqa: ANN401  as above
    import pyarrow as pa

    return {
        Kind.TEXT: pa.string(),
        Kind.NUMBER: pa.float64(),
        Kind.INTEGER: pa.int64(),
        Kind.MONEY: pa.decimal128(19, 4),
        Kind.FLAG: pa.bool_(),
        Kind.INSTANT: pa.timestamp("us", tz="UTC"),
        Kind.DAY: pa.date32(),
    }[column.kind]
