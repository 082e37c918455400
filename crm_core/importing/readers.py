"""Reading CSV, Excel and Parquet in chunks, so that memory does not grow with the file.

Every file is looked at as a whole before anything is written: a file that is missing, in another encoding,
cut off inside a quoted text or without a column that the mapping names stops the import while the store is
still untouched.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from os import SEEK_END
from pathlib import Path
from typing import Any

from crm_core.errors import MappingError, SourceFileError
from crm_core.formulas import unguard
from crm_core.importing.encodings import DETECT, detect_encoding
from crm_core.importing.sheets import read_sheet
from crm_core.importing.specs import FileSpec
from crm_core.importing.tables import did_you_mean
from crm_core.importing.values import as_text
from crm_core.phrases import Phrase

Row = tuple[int, Sequence[Any]]
"""The line where it begins (in Excel and Parquet: the number of the row) and its cells."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A line that is no row."""

    line: int
    value: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Source:
    """A file that can be read: `header` are the columns of its rows, `rows` is how many there are."""

    spec: FileSpec
    path: Path
    header: tuple[str, ...]
    rows: int
    unused: tuple[str, ...]


def open_source(spec: FileSpec, folder: Path, wanted: Mapping[str, str]) -> Source:
    """Return a file after looking through it; `wanted` are the columns to find, with who wants each.

    Raises SourceFileError for a file that cannot be read, MappingError for a column that it does not have.
    """
    path = folder / spec.path
    if not path.is_file():
        raise SourceFileError(Phrase("{path} is missing in {folder}", path=spec.path, folder=folder))
    if spec.encoding == DETECT:
        spec = replace(spec, encoding=detect_encoding(path) if spec.format == "csv" else "utf-8")
    header, rows = _LOOKS[spec.format](spec, path)
    header = _checked_header(spec, tuple(spec.rename.get(column, column) for column in header))
    for column, place in wanted.items():
        if column not in header:
            raise MappingError(
                Phrase(
                    "{place}: {path} has no column {column!r}{column_too}",
                    place=place,
                    path=spec.path,
                    column=column,
                    column_too=did_you_mean(column, header),
                )
            )
    unused = tuple(column for column in header if column not in wanted)
    if spec.format == "parquet" and wanted:
        header = tuple(column for column in header if column in wanted)  # no other column is read
    return Source(spec=spec, path=path, header=header, rows=rows, unused=unused)


def read_header(spec: FileSpec, path: Path) -> tuple[str, ...]:
    """Return the names of a file's columns."""
    if spec.format == "csv":
        return _csv_header(spec, path)
    return _LOOKS[spec.format](spec, path)[0]


def read_rows(source: Source) -> Iterator[Row | Fault]:
    """Return every row in order; a line that is no row comes as a fault."""
    match source.spec.format:
        case "csv":
            return _read_csv(source.spec, source.path, len(source.header))
        case "xlsx":
            return _read_xlsx(source.spec, source.path, len(source.header))
    return _read_parquet(source)


# ------------------------------------------------------------------------------------------------ CSV


def _look_through_csv(spec: FileSpec, path: Path) -> tuple[tuple[str, ...], int]:
    try:
        header = _csv_header(spec, path)
        return header, sum(1 for _ in _read_csv(spec, path, len(header)))
    except UnicodeDecodeError as error:
        raise SourceFileError(_encoding_fault(spec, path, error)) from error
    except UnicodeError as error:
        raise SourceFileError(
            Phrase(
                "{path} is not in {encoding}: {error}", path=spec.path, encoding=spec.encoding, error=error
            )
        ) from error
    except OSError as error:
        raise SourceFileError(
            Phrase("{path} cannot be read: {error}", path=spec.path, error=error)
        ) from error


def _csv_header(spec: FileSpec, path: Path) -> tuple[str, ...]:
    try:
        with path.open(encoding=_codec(spec), newline="") as file:
            header = tuple(next(_csv_reader(spec, file), ()))
    except csv.Error as error:
        raise SourceFileError(
            Phrase("{path}: its first line cannot be read: {error}", path=spec.path, error=error)
        ) from error
    return _checked_header(spec, header)


def _checked_header(spec: FileSpec, header: tuple[str, ...]) -> tuple[str, ...]:
    if not header:
        raise SourceFileError(
            Phrase("{path} is empty, expected a first line with the names of its columns", path=spec.path)
        )
    twice = sorted(column for column, count in Counter(header).items() if count > 1)
    if twice:
        raise SourceFileError(
            Phrase("{path} has two columns called {twice!r}", path=spec.path, twice=twice[0])
        )
    return header


def _read_csv(spec: FileSpec, path: Path, width: int) -> Iterator[Row | Fault]:
    short = None
    with path.open(encoding=_codec(spec), newline="") as file:
        reader = _csv_reader(spec, file)
        next(reader, None)
        while True:
            line = reader.line_num + 1
            try:
                cells = next(reader)
            except StopIteration:
                break
            except csv.Error as error:
                yield _csv_fault(spec, line, str(error))
                continue
            short = line if 0 < len(cells) < width else None
            if len(cells) == width:
                yield line, [unguard(cell) for cell in cells] if spec.apostrophes else cells
            elif cells:
                shown = spec.delimiter.join(cells)[:80]
                yield Fault(
                    line=line,
                    value=shown,
                    reason=Phrase("expected {width} cells, got {count}", width=width, count=len(cells)),
                )
    if short is not None and not _ends_with_a_line(spec, path):
        raise SourceFileError(
            Phrase(
                "{path} ends in the middle of line {short}; is the file cut off?", path=spec.path, short=short
            )
        )


def _ends_with_a_line(spec: FileSpec, path: Path) -> bool:
    width = 2 if spec.encoding.lower().startswith("utf-16") else 1
    with path.open("rb") as file:
        file.seek(-width, SEEK_END)
        return file.read(width).strip(b"\x00") in {b"\r", b"\n"}


def _csv_reader(spec: FileSpec, file: Any) -> Any:  # noqa: ANN401  csv names no type
    return csv.reader(file, delimiter=spec.delimiter, quotechar=spec.quote, strict=True)


def _codec(spec: FileSpec) -> str:
    # A byte order mark is no part of the first column's name.
    return "utf-8-sig" if spec.encoding.lower().replace("_", "-") in {"utf-8", "utf8"} else spec.encoding


def _csv_fault(spec: FileSpec, line: int, reason: str) -> Fault:
    if "unexpected end of data" in reason or "field larger" in reason:
        # What follows the quote is swallowed, so no row after it can be told from text.
        raise SourceFileError(
            Phrase(
                "{path}: a quoted text begins in or after line {line} and never ends; is the file cut off?",
                path=spec.path,
                line=line,
            )
        )
    return Fault(line=line, value="", reason=Phrase("no row: {why}", why=reason))


def _encoding_fault(spec: FileSpec, path: Path, error: UnicodeDecodeError) -> str:
    found = error.object[error.start : error.start + 1]
    line = _line_that_fails(path, spec.encoding)
    return Phrase(
        "{path} is not in {encoding}: {where} holds the byte 0x{found};"
        " say which encoding it has: [files.{name}] encoding = ...",
        path=spec.path,
        encoding=spec.encoding,
        where=Phrase("line {line}", line=line) if line else "it",
        found=found.hex(),
        name=spec.name,
    )


def _line_that_fails(path: Path, encoding: str) -> int | None:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode(encoding)
            except UnicodeError:
                return number
    return None


# ------------------------------------------------------------------------------------------------ Excel


def _look_through_xlsx(spec: FileSpec, path: Path) -> tuple[tuple[str, ...], int]:
    rows = read_sheet(path, spec.sheet)
    _, cells = next(rows, (0, []))
    while cells and cells[-1] is None:
        cells.pop()
    if None in cells:
        raise SourceFileError(
            Phrase(
                "{path}: column {cells} has no name in the first row",
                path=spec.path,
                cells=cells.index(None) + 1,
            )
        )
    header = _checked_header(spec, tuple(as_text(cell).strip() for cell in cells))
    return header, sum(1 for _ in rows)


def _read_xlsx(spec: FileSpec, path: Path, width: int) -> Iterator[Row | Fault]:
    rows = read_sheet(path, spec.sheet)
    next(rows, None)
    for line, cells in rows:
        beyond = [cell for cell in cells[width:] if cell is not None]
        if beyond:
            reason = Phrase("expected {width} cells, got {count}", width=width, count=len(cells))
            yield Fault(line=line, value=as_text(beyond[0])[:80], reason=reason)
        else:
            yield line, (cells + [None] * width)[:width]


# ------------------------------------------------------------------------------------------------ Parquet

_BATCH_ROWS = 8_192


def _look_at_parquet(spec: FileSpec, path: Path) -> tuple[tuple[str, ...], int]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            return tuple(file.schema_arrow.names), file.metadata.num_rows
    except (pa.ArrowException, OSError) as error:
        raise SourceFileError(
            Phrase("{path} is no readable Parquet file: {error}", path=spec.path, error=error)
        ) from error


def _read_parquet(source: Source) -> Iterator[Row | Fault]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    line = 0
    try:
        with pq.ParquetFile(source.path) as file:
            for batch in file.iter_batches(batch_size=_BATCH_ROWS, columns=_stored_names(source)):
                columns = [_plain(column).to_pylist() for column in batch.columns]
                for cells in zip(*columns, strict=True):
                    line += 1
                    yield line, cells
    except (pa.ArrowException, OSError) as error:
        raise SourceFileError(
            Phrase(
                "{path} is damaged after row {line}: {error}", path=source.spec.path, line=line, error=error
            )
        ) from error


def _stored_names(source: Source) -> list[str]:
    stored = {name: column for column, name in source.spec.rename.items()}
    return [stored.get(name, name) for name in source.header]


def _plain(column: Any) -> Any:  # noqa: ANN401  pyarrow ships no types
    """Return a column whose values Python holds as its own: nanoseconds would come as pandas objects."""
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_timestamp(column.type) and column.type.unit == "ns":
        return column.cast(pa.timestamp("us", tz=column.type.tz), safe=False)
    return column


_LOOKS: dict[str, Callable[[FileSpec, Path], tuple[tuple[str, ...], int]]] = {
    "csv": _look_through_csv,
    "xlsx": _look_through_xlsx,
    "parquet": _look_at_parquet,
}
