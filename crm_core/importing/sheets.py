"""Reading a sheet of an Excel workbook: one at a time is held in memory, in compact form."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from crm_core.errors import SourceFileError

_WHOLE = 2**53
"""Up to here a number of a sheet that has no fraction is a whole number for certain."""


def read_sheet(path: Path, sheet: str | None) -> Iterator[tuple[int, list[Any]]]:
    """Return the rows of a sheet (the first unless named) that hold anything, with their numbers.

    Sheets that continue the first (`lead`, then `lead 2` and so on: a sheet holds a million rows) follow it.

    Whole numbers come as int, so that the id 1001 is not read as 1001.0; empty cells and errors such as #N/A
    come as None, formulas as their last result. Raises SourceFileError for what is no readable workbook.
    """
    import python_calamine as calamine

    try:
        with calamine.CalamineWorkbook.from_path(path) as book:
            names = book.sheet_names
            if sheet is not None and sheet not in names:
                there = ", ".join(names)
                raise SourceFileError(f"{path.name} has no sheet {sheet!r} (there are: {there})")
            first = sheet or names[0]
            yield from _rows_of(book, first)
            for name in names if sheet is None else ():
                if re.fullmatch(rf"{re.escape(first)} \d+", name):
                    further = _rows_of(book, name)
                    next(further, None)  # the names of the columns stand on every sheet
                    yield from further
    except (calamine.CalamineError, OSError) as error:
        raise SourceFileError(f"{path.name} is no readable Excel workbook: {error}") from error


def _rows_of(book: Any, name: str) -> Iterator[tuple[int, list[Any]]]:  # noqa: ANN401  calamine ships no types
    for number, row in enumerate(book.get_sheet_by_name(name).iter_rows(), start=1):
        cells = [_cell(cell) for cell in row]
        if any(cell is not None for cell in cells):
            yield number, cells


def _cell(cell: Any) -> Any:  # noqa: ANN401  whatever a sheet holds
    if cell == "":
        return None
    if type(cell) is float and cell.is_integer() and abs(cell) < _WHOLE:
        return int(cell)
    return cell
