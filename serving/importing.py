"""Files that people import on the pages: keeping them, checking them and importing them as jobs.

A file lies in a folder of its own below `imports/` of the home folder, with what a run says of it: how far it
is, its report, and the rows that it refused. A dry run holds the store's writing transaction until it has
undone everything, so that how far it is is told by a file and not by the store.
"""

from __future__ import annotations

import csv
import io
import json
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from crm_core.access import Reader, check_may_write
from crm_core.errors import CRMError, InvalidValueError, MappingError, SourceFileError
from crm_core.formulas import guard
from crm_core.importing.guessing import Column, look_at_columns
from crm_core.importing.mapping import list_shipped, load_mapping
from crm_core.importing.planning import Plan, mapping_of
from crm_core.importing.presets import look_at, recognise_export
from crm_core.importing.readers import Fault, Source, open_source, read_rows
from crm_core.importing.report import ImportProgress, ImportReport, why_refused
from crm_core.importing.run import run_import
from crm_core.importing.sheets import check_workbook
from crm_core.importing.specs import FileSpec, Mapping
from crm_core.importing.values import as_text
from crm_core.jobs import Job, enqueue
from crm_core.notifications import Occasion, notify
from crm_core.phrases import Phrase
from crm_core.records import Role, User
from crm_core.store import Store, Transaction
from crm_core.tokens import check_works_here
from crm_core.uploads import Import, ImportState, add_upload, list_outdated
from serving.home import Home
from serving.settings import Settings

IMPORT: Final = "import"
"""The kind of the jobs that check or import a file."""

LONGEST_FILE: Final = 10 * 2**20
"""Bytes of a file that a page takes; what is larger is imported from the command line."""

MOST_ROWS: Final = 20_000
"""Rows of such a file: a dry run keeps others from writing while it lasts."""

MOST_COLUMNS: Final = 300
"""Columns of such a file: the page has a line for each."""

_MOST_CELLS: Final = 10_000_000
_MOST_UNPACKED: Final = 200 * 2**20
"""What an Excel file of a page may hold and unpack to: it is read in the process that serves pages."""

ENDINGS: Final = (".csv", ".txt", ".tsv", ".xlsx", ".parquet")

_REFUSALS: Final = "refusals.jsonl"
_PROGRESS: Final = "progress.json"
_REPORT: Final = "report.json"
_PRESET: Final = "preset"


@dataclass(frozen=True, kw_only=True)
class Uploaded:
    """An uploaded file as it presents itself; `preset` is the system whose export it looks like."""

    spec: FileSpec
    source: Source
    columns: list[Column]
    preset: str | None


def folder_of(home: Home, found: Import) -> Path:
    """Return where the file of an import lies."""
    return home.folder / "imports" / found.folder


def put_upload(home: Home, name: str, content: bytes) -> tuple[str, Uploaded]:
    """Keep a file and return its folder and what it looks like; SourceFileError if it cannot be read.

    It is looked at outside of any transaction: nobody else's write waits for that.
    """
    ending = Path(name).suffix.lower()
    if ending not in ENDINGS:
        raise SourceFileError(
            Phrase(
                "expected a file that ends in {choices}, got {name!r}", choices=tuple(ENDINGS), name=name[:80]
            )
        )
    if not content:
        raise SourceFileError(Phrase("{name} is empty", name=name[:80]))
    if len(content) > LONGEST_FILE:
        raise SourceFileError(
            Phrase("{name} is larger than {longest} MiB", name=name[:80], longest=LONGEST_FILE // 2**20)
        )
    folder = secrets.token_hex(16)
    place = home.folder / "imports" / folder
    place.mkdir(mode=0o700, parents=True)
    try:
        (place / f"file{ending}").write_bytes(content)
        uploaded = look_at_upload(place)
        if uploaded.source.rows > MOST_ROWS:
            rows = f"{uploaded.source.rows:,}"
            raise SourceFileError(
                Phrase(
                    "{name} has {rows} rows; pages import up to {most:,}",
                    name=name[:80],
                    rows=rows,
                    most=MOST_ROWS,
                )
            )
    except CRMError:
        shutil.rmtree(place, ignore_errors=True)
        raise
    return folder, uploaded


def keep_upload(transaction: Transaction, home: Home, user: User, name: str, folder: str) -> Import:
    """Write down the import of a file that was put in a folder; files that were kept long enough go."""
    forget_old(transaction, home)
    return add_upload(transaction.session, user, folder, name, now=transaction.now)


def forget_old(transaction: Transaction, home: Home) -> None:
    """Delete the files that have been kept long enough."""
    for folder in list_outdated(transaction.session, transaction.now):
        shutil.rmtree(home.folder / "imports" / folder, ignore_errors=True)


def forget_files(home: Home) -> None:
    """Delete every file that was uploaded or made for a download: one of them may tell of somebody erased."""
    for name in ("imports", "exports"):
        shutil.rmtree(home.folder / name, ignore_errors=True)


def is_kept(folder: Path) -> bool:
    """Say whether the file is still there."""
    return folder.is_dir()


def look_at_upload(folder: Path) -> Uploaded:
    """Return what an uploaded file looks like; raise SourceFileError for one that cannot be read."""
    path = next((each for each in folder.iterdir() if each.stem == "file"), None)
    if path is None:
        raise SourceFileError("the file is not there any more")
    try:
        if path.suffix == ".xlsx":
            check_workbook(path, most_cells=_MOST_CELLS, most_unpacked=_MOST_UNPACKED)
        spec = look_at(path)
        source = open_source(spec, folder, {})
    except UnicodeError as error:
        raise SourceFileError(
            Phrase("{name} cannot be read as text: {error}", name=path.name, error=error)
        ) from error
    if len(source.header) > MOST_COLUMNS:
        raise SourceFileError(
            Phrase(
                "{name} has {count:,} columns; pages import up to {most}",
                name=path.name,
                count=len(source.header),
                most=MOST_COLUMNS,
            )
        )
    return Uploaded(
        spec=spec, source=source, columns=look_at_columns(source), preset=_recognised(folder, source)
    )


def _recognised(folder: Path, _source: Source) -> str | None:
    try:
        return recognise_export(folder).name
    except (MappingError, SourceFileError):
        return None


def mapping_for(reader: Reader, found: Import, folder: Path) -> Mapping:
    """Return the mapping that was chosen for a file: a shipped one, or one made of a plan.

    A shipped mapping makes records of several types, owners among them, so that it is an administrator's.
    """
    plan: dict[str, Any] = found.plan or {}
    if _PRESET in plan:
        if reader.user.role != Role.ADMIN or plan[_PRESET] not in list_shipped():
            raise InvalidValueError("preset", plan[_PRESET], "a shipped mapping, chosen by an administrator")
        return load_mapping(str(plan[_PRESET]))
    return mapping_of(reader, Plan.from_json(plan), look_at_upload(folder).spec)


def begin(transaction: Transaction, found: Import, state: ImportState) -> None:
    """Have a file checked or imported."""
    found.state, found.failed, found.ended_at = state, None, None
    enqueue(transaction.session, IMPORT, {"import_id": found.id, "state": state}, now=transaction.now)
    transaction.session.flush()


# ---------------------------------------------------------------- the job


class Importing:
    """Checks or imports an uploaded file; run again, it comes to the same end, as any import does."""

    def __init__(self, settings: Settings) -> None:
        self._home = settings.home_folder

    def __call__(self, store: Store, job: Job) -> None:
        """Do the job."""
        with store.reading() as session:
            found = session.get(Import, job.payload["import_id"])
            if found is None or found.state != job.payload["state"]:
                return  # somebody else did it, or it was begun anew
            user = session.get_one(User, found.user_id)
            session.expunge_all()
        folder = folder_of(self._home, found)
        try:
            check_works_here(user)
            check_may_write(user)
            report = self._run(store, found, user, folder)
        except CRMError as error:
            self._end(store, found, ImportState.FAILED, failed=str(error)[:500])
            return
        write_json(folder / _REPORT, report.to_json())
        done = ImportState.CHECKED if report.dry_run else ImportState.DONE
        self._end(store, found, done, report=_counts(report))

    def _run(self, store: Store, found: Import, user: User, folder: Path) -> ImportReport:
        with store.reading() as session:
            mapping = mapping_for(Reader(session, user), found, folder)

        def tell(progress: ImportProgress) -> None:
            write_json(folder / _PROGRESS, {"done": progress.rows, "total": progress.rows_total})

        write_json(folder / _PROGRESS, {"done": 0, "total": 0})
        return run_import(
            store,
            mapping,
            folder,
            progress=tell,
            refusals_file=folder / _REFUSALS,
            dry_run=found.state == ImportState.CHECKING,
            actor_id=user.id,
        )

    def _end(
        self,
        store: Store,
        found: Import,
        state: ImportState,
        *,
        report: dict[str, Any] | None = None,
        failed: str | None = None,
    ) -> None:
        with store.transaction() as transaction:
            kept = transaction.session.get(Import, found.id, with_for_update=True)
            if kept is not None and kept.state == found.state:
                kept.state, kept.report, kept.failed = state, report, failed
                kept.ended_at = transaction.now
                text = {ImportState.DONE: "import_done", ImportState.CHECKED: "import_checked"}
                told = text.get(state, "import_failed")
                notify(transaction, [found.user_id], kind=Occasion.JOB, text=told, about=("import", found.id))


def _counts(report: ImportReport) -> dict[str, Any]:
    """Return how many rows became what; no value of the file."""
    names = ("rows_read", "records", "written", "updated", "unchanged", "refused")
    counts = {name: sum(getattr(step, name) for step in report.steps) for name in names}
    left_out = sum(sum(step.left_out.values()) for step in report.steps)
    return {**counts, "left_out": left_out, "seconds": round(report.seconds, 2)}


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write a file so that whoever reads it sees the old or the new one whole."""
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    beside.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
    beside.replace(path)


def read_json(path: Path) -> dict[str, Any]:
    """Return what such a file says; nothing where there is none yet."""
    with suppress(OSError, ValueError):
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return found
    return {}


def read_progress(folder: Path) -> tuple[int, int]:
    """Return how many rows have been dealt with, and of how many."""
    found = read_json(folder / _PROGRESS)
    return int(found.get("done", 0)), int(found.get("total", 0))


def read_report(folder: Path) -> dict[str, Any]:
    """Return the report of the last run."""
    return read_json(folder / _REPORT)


# ---------------------------------------------------------------- refused rows


def read_refusals(folder: Path) -> list[dict[str, Any]]:
    """Return why rows were refused, in the order of the file."""
    try:
        lines = (folder / _REFUSALS).read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    return [json.loads(line) for line in lines]


def refused_rows(folder: Path, say: Callable[[str], str] = str) -> Iterator[str]:
    """Yield a CSV file of the refused rows as they stood, with the line and the reason before them.

    Mended, without its first two columns or with them, it may be imported again. No cell is a formula.
    `say` puts a reason into the language of whoever asked.
    """
    reasons: dict[int, str] = {}
    for each in read_refusals(folder):
        why = why_refused(each["column"], each["value"], each["reason"])
        reasons.setdefault(int(each["line"]), say(why))
    source = look_at_upload(folder).source
    yield "\ufeff" + _line(["line", "refused because", *source.header])
    for row in read_rows(source):
        line = row.line if isinstance(row, Fault) else row[0]
        if line in reasons:
            cells = [row.value] if isinstance(row, Fault) else [_text(cell) for cell in row[1]]
            yield _line([str(line), reasons[line], *cells])


def _text(cell: object) -> str:
    return "" if cell is None else as_text(cell)


def _line(cells: list[str]) -> str:
    written = io.StringIO()
    csv.writer(written).writerow([guard(cell) for cell in cells])
    return written.getvalue()
