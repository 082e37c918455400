"""Keys already seen and lines of one group, kept on disk so that memory does not grow with the file."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from datetime import date, datetime
from decimal import Decimal
from itertools import groupby
from typing import Any

from crm_core.importing.readers import Row

BATCH_ROWS = 2_000
"""Lines held in memory on their way to the disk."""


def _scratch() -> sqlite3.Connection:
    """Return a database of its own in a temporary file, which disappears when it is closed."""
    database = sqlite3.connect("")
    database.execute("PRAGMA journal_mode = OFF")
    database.execute("PRAGMA synchronous = OFF")
    return database


class SeenKeys:
    """The external ids that a file has given so far."""

    def __init__(self) -> None:
        self._database = _scratch()
        self._database.execute("CREATE TABLE seen (key TEXT PRIMARY KEY, line INTEGER) WITHOUT ROWID")

    def repeats(self, keys: Sequence[tuple[str, int]]) -> dict[int, int]:
        """Take note of (key, line) pairs; return for those seen before, by position, the first line."""
        first = self._lines_of([key for key, _ in keys])
        repeats: dict[int, int] = {}
        fresh: list[tuple[str, int]] = []
        for position, (key, line) in enumerate(keys):
            if key in first:
                repeats[position] = first[key]
            else:
                first[key] = line
                fresh.append((key, line))
        self._database.executemany("INSERT INTO seen VALUES (?, ?)", fresh)
        return repeats

    def close(self) -> None:
        """Give the disk space back."""
        self._database.close()

    def _lines_of(self, keys: list[str]) -> dict[str, int]:
        # As JSON: the number of keys is not bound by how many parameters a statement may have.
        query = "SELECT key, line FROM seen WHERE key IN (SELECT value FROM json_each(?))"
        return dict(self._database.execute(query, [json.dumps(keys)]))


def group_rows(
    rows: Iterator[Row], key_of: Callable[[Sequence[Any]], str | None]
) -> Iterator[tuple[int, list[Sequence[Any]]]]:
    """Return the rows of each key together, with the line of the first, in the order of first lines.

    The lines of a group need not stand together in the file. Rows without a key stay by themselves.
    """
    database = _scratch()
    try:
        database.execute("CREATE TABLE lines (key TEXT, line INTEGER, cells TEXT)")
        batch: list[tuple[str, int, str]] = []
        for line, cells in rows:
            key = key_of(cells)
            batch.append((f"l{line}" if key is None else f"k{key}", line, _dump(cells)))
            if len(batch) == BATCH_ROWS:
                database.executemany("INSERT INTO lines VALUES (?, ?, ?)", batch)
                batch.clear()
        database.executemany("INSERT INTO lines VALUES (?, ?, ?)", batch)
        yield from _groups(database)
    finally:
        database.close()


def _groups(database: sqlite3.Connection) -> Iterator[tuple[int, list[Sequence[Any]]]]:
    database.execute("CREATE INDEX by_key ON lines (key, line)")
    database.execute("CREATE TABLE firsts (first INTEGER PRIMARY KEY, key TEXT)")
    database.execute("INSERT INTO firsts SELECT min(line), key FROM lines GROUP BY key")
    # CROSS JOIN keeps the order of the tables: one walk along the first lines, each followed by its group.
    query = "SELECT first, cells FROM firsts CROSS JOIN lines USING (key) ORDER BY first, line"
    for first, lines in groupby(database.execute(query), key=lambda row: int(row[0])):
        yield first, [_load(cells) for _, cells in lines]


def _dump(cells: Sequence[Any]) -> str:
    return json.dumps(list(cells), default=_tagged)


def _load(text: str) -> list[Any]:
    cells: list[Any] = json.loads(text, object_hook=_untagged)
    return cells


def _tagged(value: object) -> dict[str, str]:
    match value:
        case datetime():
            return {"instant": value.isoformat()}
        case date():
            return {"day": value.isoformat()}
        case Decimal():
            return {"decimal": str(value)}
    return {"text": str(value)}


def _untagged(tagged: dict[str, str]) -> Any:  # noqa: ANN401  what was tagged
    ((tag, text),) = tagged.items()
    return _TAGS[tag](text)


_TAGS: dict[str, Callable[[str], Any]] = {
    "instant": datetime.fromisoformat,
    "day": date.fromisoformat,
    "decimal": Decimal,
    "text": str,
}
