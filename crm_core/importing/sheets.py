"""Reading a sheet of an Excel workbook: one at a time is held in memory, in compact form."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from crm_core.errors import SourceFileError

_WHOLE = 2**53
"""Up to here a number of a sheet that has no fraction is a whole number for certain."""


def read_sheet(path: Path, sheet: str | None) -> Iterator[tuple[int, list[Any]]]:
    """Return the rows of a sheet (the first unless named) that hold anything, with their numbers.

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
            rows = book.get_sheet_by_name(sheet or names[0]).iter_rows()
            for number, row in enumerate(rows, start=1):
                cells = [_cell(cell) for cell in row]
                if any(cell is not None for cell in cells):
                    yield number, cells
    except (calamine.CalamineError, OSError) as error:
        raise SourceFileError(f"{path.name} is no readable Excel workbook: {error}") from error


def _cell(cell: Any) -> Any:  # noqa: ANN401  whatever a sheet holds
    if cell == "":
        return None
    if type(cell) is float and cell.is_integer() and abs(cell) < _WHOLE:
        return int(cell)
    return cell
