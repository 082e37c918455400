"""Running an export: all files are written beside their places and then put there, or none is."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import select

from crm_core.access import Reader, Scope
from crm_core.errors import AccessDeniedError, ExportFolderError, InvalidValueError
from crm_core.exporting.files import write_csv, write_parquet, write_xlsx
from crm_core.exporting.mapping import mapping_of
from crm_core.exporting.tables import LOGS, ExportTable, log_table, table_of
from crm_core.fields import Coverage
from crm_core.record_types import list_record_types
from crm_core.records import RECORD_TYPES, CustomRecord, CustomRecordType, Role, User
from crm_core.store import Store

FORMATS = ("csv", "xlsx", "parquet")

EXPORTED = (*RECORD_TYPES, *LOGS)
"""What can be exported: every record type, and for administrators the change log and the predictions."""

MAPPING = "import.toml"

Progress = Callable[[str, int], None]
"""Told the file and how many of its rows are written."""


@dataclass(frozen=True, kw_only=True)
class FileReport:
    """A file that was written; `notes` count what the format could not hold."""

    file: str
    rows: int
    notes: dict[str, int] = field(default_factory=dict)

    def in_words(self) -> str:
        """Return it as one line for a person."""
        notes = "".join(f"; {count:,} {note}" for note, count in self.notes.items())
        return f"{self.file}: {self.rows:,} rows{notes}"


@dataclass(frozen=True, kw_only=True)
class ExportReport:
    """What an export wrote, and what it left out because the user may not see it."""

    folder: str
    format: str
    files: list[FileReport]
    not_allowed: list[str]

    def to_json(self) -> dict[str, Any]:
        """Return the report as one JSON object."""
        return {**vars(self), "files": [dict(vars(file)) for file in self.files]}

    def in_words(self) -> list[str]:
        """Return the report as lines for a screen."""
        denied = [f"not allowed to see: {', '.join(self.not_allowed)}"] if self.not_allowed else []
        return [*(file.in_words() for file in self.files), *denied]


def export_records(
    store: Store,
    folder: Path,
    *,
    format: str,  # noqa: A002  the word that users know
    names: Sequence[str] = (),
    user_id: int | None = None,
    raw: bool = False,
    progress: Progress | None = None,
) -> ExportReport:
    """Write what the user may see to `folder`, one file a record type, and a mapping to import it again.

    Without `user_id` everything an administrator sees is written. Without `names` everything the user may see
    is. All files show the store at one instant. Raises AccessDeniedError for a name that the user may not
    see, InvalidValueError for one that there is not, ExportFolderError where nothing can be written.
    """
    if format not in FORMATS:
        raise InvalidValueError("format", format, f"one of {', '.join(FORMATS)}")
    with store.reading() as session:
        kinds = {kind.name: kind for kind in list_record_types(session)}
        known = _known(kinds)
        for name in names:
            if name not in known:
                raise InvalidValueError("record", name, f"one of {', '.join(known)}")
        user = User(name="export", role=Role.ADMIN) if user_id is None else session.get_one(User, user_id)
        reader = Reader(session, user)
        asked = [name for name in known if not names or name in names]
        allowed = [name for name in asked if _may_export(reader, name)]
        denied = [name for name in asked if name not in allowed]
        if names and denied:
            raise AccessDeniedError(f"the role {user.role} may not export {denied[0]}")
        tables = [_table(reader, name, kinds.get(name)) for name in allowed]
        with _all_or_nothing(folder) as place:
            files = [_write(table, place, format, raw=raw, progress=progress) for table in tables]
            covered = {each.record_type: each.observed_until for each in session.scalars(select(Coverage))}
            guarded = format == "csv" and not raw
            mapping = mapping_of(tables, format, guarded=guarded, covered=covered)
            (place / MAPPING).write_text(mapping, encoding="utf-8")
    return ExportReport(folder=str(folder), format=format, files=files, not_allowed=denied)


def _known(kinds: Mapping[str, CustomRecordType]) -> list[str]:
    """Return what can be exported here; records of declared types have a file a type, parents first."""
    ordered = sorted(kinds.values(), key=lambda kind: (_depth(kind, kinds, frozenset()), kind.name))
    names = [kind.name for kind in ordered] or [CustomRecord.record_type]
    return [part for name in EXPORTED for part in (names if name == CustomRecord.record_type else [name])]


def _depth(kind: CustomRecordType, kinds: Mapping[str, CustomRecordType], seen: frozenset[str]) -> int:
    above = [kinds[link] for link in kind.links if link in kinds and link not in seen | {kind.name}]
    return 1 + max((_depth(each, kinds, seen | {kind.name}) for each in above), default=-1)


def _may_export(reader: Reader, name: str) -> bool:
    if name in LOGS:
        return reader.user.role == Role.ADMIN
    return reader.right(name).read is not Scope.NONE


def _table(reader: Reader, name: str, kind: CustomRecordType | None) -> ExportTable:
    if kind is not None:
        return table_of(reader, CustomRecord, kind)
    return log_table(reader, name) if name in LOGS else table_of(reader, RECORD_TYPES[name])


def _write(
    table: ExportTable,
    folder: Path,
    format: str,  # noqa: A002  as above
    *,
    raw: bool,
    progress: Progress | None,
) -> FileReport:
    path, rows = folder / f"{table.name}.{format}", 0

    def told(count: int) -> None:
        nonlocal rows
        rows += count
        if progress is not None:
            progress(path.name, rows)

    writers: dict[str, Callable[..., Counter[str]]] = {
        "csv": partial(write_csv, raw=raw),
        "xlsx": write_xlsx,
        "parquet": write_parquet,
    }
    notes = writers[format](table, path, told)
    return FileReport(file=path.name, rows=rows, notes=dict(notes))


@contextmanager
def _all_or_nothing(folder: Path) -> Iterator[Path]:
    """Give a folder whose files are moved into `folder` if the block ends, and thrown away if it raises."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        place = Path(tempfile.mkdtemp(prefix=".export-", dir=folder))
    except OSError as error:
        raise ExportFolderError(f"nothing can be written to {folder}: {error}") from error
    try:
        yield place
        for path in sorted(place.iterdir()):
            _sync(path)
        for path in sorted(place.iterdir()):
            path.replace(folder / path.name)
    except OSError as error:
        raise ExportFolderError(f"the export to {folder} failed, nothing was replaced: {error}") from error
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
