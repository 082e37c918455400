"""Reading a sheet of an Excel workbook: one at a time is held in memory, in compact form."""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from crm_core.errors import SourceFileError
from crm_core.phrases import Phrase

_WHOLE = 2**53
"""Up to here a number of a sheet that has no fraction is a whole number for certain."""

MOST_CELLS: Final = 64_000_000
"""Cells between the first and the last one of a sheet: the reader holds a place for each, 32 bytes."""

MOST_UNPACKED: Final = 4 * 2**30
"""Bytes that a workbook may unpack to."""

_BLOCK: Final = 2**20
_LONGEST_PLACE: Final = 64
_PLACE: Final = re.compile(rb"""\br\s*=\s*["'](?:([A-Za-z]{1,9})(\d{1,19})|(\d{1,19}))["']""")
"""Where a cell or a row says that it stands."""

_CELLS: Final = (b"<c ", b"<c>", b"<c/", b":c ", b":c>", b":c/")
"""How a cell begins."""


def check_workbook(path: Path, *, most_cells: int = MOST_CELLS, most_unpacked: int = MOST_UNPACKED) -> None:
    """Raise SourceFileError for a workbook that would take more memory than there is.

    A file of some kilobytes may say that a cell stands in the last row and column, or unpack to gigabytes:
    the reader would ask for the memory at once, and end the whole process where there is none.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            left = most_unpacked
            for entry in archive.infolist():
                with archive.open(entry) as file:
                    left -= _look_through(path, file, left, most_cells)
    except (zipfile.BadZipFile, zlib.error, OSError, NotImplementedError, RuntimeError, EOFError) as error:
        raise SourceFileError(
            Phrase("{name} is no readable Excel workbook: {error}", name=path.name, error=error)
        ) from error


def _look_through(path: Path, file: Any, left: int, most_cells: int) -> int:  # noqa: ANN401  of a zip file
    """Return how long a part of a workbook is unpacked; any part may be named as a sheet."""
    size, before, rows, columns, told = 0, b"", 0, 0, 0
    while block := file.read(_BLOCK):
        size += len(block)
        if size > left:
            raise SourceFileError(Phrase("{name} unpacks to more than a workbook may", name=path.name))
        for letters, row, only in _PLACE.findall(before + block):
            told = max(told, int(row or only))
            columns = max(columns, _column(letters))
        # Rows and cells that do not say where they stand follow each other.
        pieces = block.split(b"row")
        rows += len(pieces) // 2
        columns = max(columns, *(sum(map(piece.count, _CELLS)) for piece in pieces))
        if max(rows, told) * columns > most_cells:
            raise SourceFileError(
                Phrase(
                    "{name} has a sheet of {rows:,} rows and {columns:,} columns",
                    name=path.name,
                    rows=max(rows, told),
                    columns=columns,
                )
            )
        before = block[-_LONGEST_PLACE:]
    return size


def _column(letters: bytes) -> int:
    """Return the number of a column: A is 1, AA is 27."""
    number = 0
    for letter in letters.upper():
        number = number * 26 + letter - 64
    return number


def read_sheet(path: Path, sheet: str | None) -> Iterator[tuple[int, list[Any]]]:
    """Return the rows of a sheet (the first unless named) that hold anything, with their numbers.

    Sheets that continue the first (`lead`, then `lead 2` and so on: a sheet holds a million rows) follow it.

    Whole numbers come as int, so that the id 1001 is not read as 1001.0; empty cells and errors such as #N/A
    come as None, formulas as their last result. Raises SourceFileError for what is no readable workbook.
    """
    import python_calamine as calamine

    check_workbook(path)
    try:
        with calamine.CalamineWorkbook.from_path(path) as book:
            names = book.sheet_names
            if sheet is not None and sheet not in names:
                there = ", ".join(names)
                raise SourceFileError(  # noqa: TRY301  it is caught nowhere here
                    Phrase(
                        "{name} has no sheet {sheet!r} (there are: {there})",
                        name=path.name,
                        sheet=sheet,
                        there=there,
                    )
                )
            first = sheet or names[0]
            yield from _rows_of(book, first)
            for name in names if sheet is None else ():
                if re.fullmatch(rf"{re.escape(first)} \d+", name):
                    further = _rows_of(book, name)
                    next(further, None)  # the names of the columns stand on every sheet
                    yield from further
    except (calamine.CalamineError, OSError) as error:
        raise SourceFileError(
            Phrase("{name} is no readable Excel workbook: {error}", name=path.name, error=error)
        ) from error
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # a fault of the reader, which no `Exception` is
            raise
        raise SourceFileError(Phrase("{name} is no readable Excel workbook", name=path.name)) from error


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
