"""Looking for somebody's data below a folder: in the bytes of all files, and inside those that hide it."""

from __future__ import annotations

import gzip
import json
import sqlite3
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from crm_core.grams import fold_many
from crm_core.personal.scrubbing import edged

_CHUNK: Final = 8 * 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where something was found: the file below the folder, and where inside ("bytes", "table.column")."""

    path: str
    where: str
    needle: str


def list_places_with(home: Path, needles: Iterable[str]) -> list[Place]:
    """Return every place below a folder that holds one of some texts.

    Looked at are the bytes of every file, as UTF-8, UTF-16 and as JSON escapes them, whatever the case of
    Latin letters; and, because a page or a compression may part what belongs together, the cells of SQLite
    databases and of Parquet files in their folded form, and what is packed in gzip and zip files.
    """
    wanted = sorted({needle for needle in needles if needle.strip()})
    found = [
        Place(path=str(path.relative_to(home)), where=where, needle=needle)
        for path in sorted(home.rglob("*"))
        if path.is_file() and not path.is_symlink()
        for where, needle in _search_file(path, wanted)
    ]
    return sorted(set(found), key=lambda place: (place.path, place.where, place.needle))


def _search_file(path: Path, needles: Sequence[str]) -> Iterator[tuple[str, str]]:
    for needle in _in_bytes(path, needles):
        yield "bytes", needle
    with path.open("rb") as file:
        start = file.read(16)
    if start.startswith(b"SQLite format 3"):
        yield from _in_sqlite(path, needles)
    elif start.startswith(b"PAR1"):
        yield from _in_parquet(path, needles)
    elif start.startswith(b"\x1f\x8b"):
        yield from _in_packed("gzip", gzip.decompress(path.read_bytes()), needles)
    elif zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as packed:
            for name in packed.namelist():
                yield from _in_packed(name, packed.read(name), needles)


def _in_bytes(path: Path, needles: Sequence[str]) -> Iterator[str]:
    """Yield the needles that the bytes of a file hold."""
    forms = {needle: _forms(needle) for needle in needles}
    overlap = max((len(form) for each in forms.values() for form in each), default=0)
    left = dict(forms)
    with path.open("rb") as file:
        before = b""
        while left and (chunk := file.read(_CHUNK)):
            data = (before + chunk).lower()
            for needle in [needle for needle, each in left.items() if any(form in data for form in each)]:
                del left[needle]
                yield needle
            before = chunk[-overlap:]


def _forms(needle: str) -> frozenset[bytes]:
    """Return the bytes that stand for a text, Latin letters in lower case."""
    escaped = json.dumps(needle)[1:-1]
    texts = (needle.encode(), escaped.encode(), needle.encode("utf-16-le"), needle.encode("utf-16-be"))
    return frozenset(text.lower() for text in texts)


def _in_sqlite(path: Path, needles: Sequence[str]) -> Iterator[tuple[str, str]]:
    connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
    connection.text_factory = lambda raw: raw.decode(errors="replace")
    try:
        tables = [
            name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        ]
        for table in tables:
            columns = [row[1] for row in connection.execute(f'PRAGMA table_info("{table}")')]
            for column in columns:
                cells = connection.execute(
                    f'SELECT CAST("{column}" AS TEXT) FROM "{table}" WHERE typeof("{column}") = \'text\''  # noqa: S608  names from the schema
                )
                for needle in _in_texts((text for (text,) in cells), needles):
                    yield f"{table}.{column}", needle
    finally:
        connection.close()


def _in_parquet(path: Path, needles: Sequence[str]) -> Iterator[tuple[str, str]]:
    file = pq.ParquetFile(path)
    for group in range(file.num_row_groups):
        table = file.read_row_group(group)
        for name in table.column_names:
            kind = table.schema.field(name).type
            if pa.types.is_dictionary(kind):
                kind = kind.value_type
            if pa.types.is_string(kind) or pa.types.is_large_string(kind):
                texts = (text for text in table[name].to_pylist() if text)
                for needle in _in_texts(texts, needles):
                    yield name, needle


def _in_packed(name: str, data: bytes, needles: Sequence[str]) -> Iterator[tuple[str, str]]:
    lower = data.lower()
    for needle in needles:
        if any(form in lower for form in _forms(needle)):
            yield name, needle


def _in_texts(texts: Iterable[str], needles: Sequence[str]) -> list[str]:
    """Return the needles that some texts hold, folded as for a search."""
    folded = dict(zip(needles, fold_many(list(needles)), strict=True))
    whole = f" {' | '.join(fold_many(list(dict.fromkeys(texts))))} "
    return [needle for needle, form in folded.items() if form and edged(form) in whole]
