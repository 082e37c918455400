"""What is done with many rows of a list at once, as jobs: given to somebody, tagged, deleted, or exported.

Whoever asks is told how many before, and what became of each after. The rows are those that fitted when they
said yes; the rights are those of when the work is done. Each row is written in a transaction of its own, so
that one that is refused leaves the others alone, and a job that is run again finds done what was done.
"""

from __future__ import annotations

import secrets
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from crm_core.access import Reader
from crm_core.changes import Source
from crm_core.errors import CRMError, InvalidValueError, RecordNotFoundError
from crm_core.exporting.files import write_csv, write_parquet, write_xlsx
from crm_core.exporting.tables import rows_of
from crm_core.jobs import Job, JobState, enqueue
from crm_core.notifications import Occasion, notify
from crm_core.phrases import Phrase, one_of
from crm_core.records import RECORD_TYPES, User
from crm_core.store import Store, Transaction
from crm_core.tokens import check_works_here
from serving.editing import Editor, Kind
from serving.home import Home
from serving.importing import read_json, write_json
from serving.owners import choose_owner
from serving.paging import Listing, conditions_of
from serving.settings import Settings
from serving.tags import put_tag, take_tag

LIST_WORK: Final = "list_work"
"""The kind of these jobs."""

MOST_CHANGED: Final = 2_000
MOST_EXPORTED: Final = 100_000
KEPT: Final = timedelta(days=1)
_TELL_EVERY: Final = 25

_STATE: Final = "state.json"


@dataclass(frozen=True, kw_only=True)
class Asking:
    """What is to be done with which rows: those with `ids`, or all that fit."""

    record_type: str
    action: str
    listing: Listing
    ids: tuple[int, ...] | None
    value: str = ""
    columns: tuple[str, ...] = ()


def ids_of(session: Session, user: User, asking: Asking) -> list[int]:
    """Return the rows that are meant and may be seen; raise InvalidValueError if they are too many."""
    reader, model = Reader(session, user), RECORD_TYPES[asking.record_type]
    most = MOST_EXPORTED if asking.action == "export" else MOST_CHANGED
    if asking.ids is not None and len(asking.ids) > MOST_CHANGED:  # a page has some dozens to choose from
        raise InvalidValueError(
            "rows",
            Phrase("{count:,}", count=len(asking.ids)),
            Phrase("up to {most:,} chosen one by one", most=MOST_CHANGED),
        )
    query = select(model.id).order_by(model.id).limit(most + 1)
    if asking.ids is None:
        query = query.where(*conditions_of(reader, model, asking.record_type, asking.listing))
    else:
        query = query.where(model.id.in_(asking.ids), model.deleted_at.is_(None), reader.readable(model))
    found = list(session.scalars(query))
    if len(found) > most:
        raise InvalidValueError(
            "rows",
            Phrase("more than {most:,}", most=most),
            Phrase("up to {most:,} at once; narrow the filter", most=most),
        )
    return found


def begin_work(transaction: Transaction, home: Home, user: User, asking: Asking, ids: Sequence[int]) -> int:
    """Have something done; return the job's id."""
    if asking.action == "assign":
        choose_owner(transaction.session, user, _whole(asking.value))
    if asking.action == "export" and asking.value not in _WRITERS:
        raise InvalidValueError("format", asking.value, one_of(_WRITERS))
    folder = secrets.token_hex(16)
    place = home.folder / "exports" / folder
    _forget_old(transaction, home)
    place.mkdir(mode=0o700, parents=True)
    write_json(place / "ids.json", {"ids": list(ids)})
    payload = {
        "user_id": user.id,
        "folder": folder,
        "record_type": asking.record_type,
        "action": asking.action,
        "value": asking.value,
        "count": len(ids),
    }
    job_id = enqueue(transaction.session, LIST_WORK, payload, now=transaction.now)
    if job_id is None:
        raise RecordNotFoundError("job", 0)
    return job_id


def _forget_old(transaction: Transaction, home: Home) -> None:
    """Delete what was made for a download more than a day ago, by what the jobs say."""
    old = select(Job.payload).where(Job.kind == LIST_WORK, Job.created_at < transaction.now - KEPT)
    for payload in transaction.session.scalars(old):
        shutil.rmtree(home.folder / "exports" / str(payload.get("folder", "")), ignore_errors=True)


@dataclass(frozen=True, kw_only=True)
class Work:
    """How far something is; `file` is there once it may be downloaded, `refused` are rows with the reason."""

    job_id: int
    action: str
    record_type: str
    value: str
    count: int
    over: bool
    failed: str | None
    done: int
    changed: int
    refused: Sequence[tuple[int, str, str]]
    file: Path | None


def get_work(session: Session, home: Home, user: User, job_id: int) -> Work:
    """Return one's own work; that of others does not exist."""
    job = session.get(Job, job_id)
    if job is None or job.kind != LIST_WORK or job.payload.get("user_id") != user.id:
        raise RecordNotFoundError("job", job_id)
    folder = home.folder / "exports" / job.payload["folder"]
    state = read_json(folder / _STATE)
    over = job.state in {JobState.DONE, JobState.DEAD}
    file = folder / state["file"] if over and "file" in state else None
    return Work(
        job_id=job.id,
        action=job.payload["action"],
        record_type=job.payload["record_type"],
        value=job.payload["value"],
        count=job.payload["count"],
        over=over,
        failed=state.get("failed") or (job.last_error if job.state == JobState.DEAD else None),
        done=int(state.get("done", 0)),
        changed=int(state.get("changed", 0)),
        refused=[(int(one), str(name), str(why)) for one, name, why in state.get("refused", ())],
        file=file if file is not None and file.is_file() else None,
    )


class ListWorker:
    """Does the jobs."""

    def __init__(self, settings: Settings) -> None:
        self._home = settings.home_folder

    def __call__(self, store: Store, job: Job) -> None:
        """Do one."""
        folder = self._home.folder / "exports" / job.payload["folder"]
        ids: list[int] = read_json(folder / "ids.json").get("ids", [])
        with store.reading() as session:
            user = session.get_one(User, job.payload["user_id"])
            session.expunge_all()
        try:
            check_works_here(user)
            if job.payload["action"] == "export":
                _export(store, user, job, folder, ids)
            else:
                _change(store, user, job, folder, ids)
        except CRMError as error:
            write_json(folder / _STATE, {"failed": str(error)})
        with store.transaction() as transaction:
            about = ("list_work", job.id)
            notify(transaction, [user.id], kind=Occasion.JOB, text="work_done", about=about)


def _change(store: Store, user: User, job: Job, folder: Path, ids: Sequence[int]) -> None:
    change = _CHANGES[job.payload["action"]]
    record_type, value = job.payload["record_type"], job.payload["value"]
    state: dict[str, Any] = {"done": 0, "changed": 0, "refused": []}
    for number, record_id in enumerate(ids, start=1):
        try:
            with store.transaction(source=Source.REP, actor_id=user.id) as transaction:
                state["changed"] += change(transaction, user, record_type, record_id, value)
        except CRMError as error:
            state["refused"].append([record_id, _name_of(store, user, record_type, record_id), str(error)])
        state["done"] = number
        if number % _TELL_EVERY == 0:
            write_json(folder / _STATE, state)
    write_json(folder / _STATE, state)


def _name_of(store: Store, user: User, record_type: str, record_id: int) -> str:
    from serving.finding import title_of

    with store.reading() as session:
        reader = Reader(session, user)
        try:
            return title_of(reader.masked(reader.get(RECORD_TYPES[record_type], record_id)))
        except CRMError:
            return f"{record_type} {record_id}"


def _assign(transaction: Transaction, user: User, record_type: str, record_id: int, value: str) -> bool:
    owner_id = choose_owner(transaction.session, user, _whole(value))
    editor, kind = Editor(transaction, user), _kind(record_type)
    record = editor.get_to_write(kind, record_id)
    if getattr(record, "owner_id", None) == owner_id:
        return False
    editor.update(kind, record_id, {"owner_id": owner_id})
    return True


def _delete(transaction: Transaction, user: User, record_type: str, record_id: int, _value: str) -> bool:
    Editor(transaction, user).delete(_kind(record_type), record_id)
    return True


_CHANGES: dict[str, Callable[[Transaction, User, str, int, str], bool]] = {
    "assign": _assign,
    "tag": put_tag,
    "untag": take_tag,
    "delete": _delete,
}


def _kind(record_type: str) -> Kind:
    return Kind(model=RECORD_TYPES[record_type], name=record_type)


def _whole(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 18):
        raise InvalidValueError("owner", text, "the number of somebody who works here")
    return int(text)


# ---------------------------------------------------------------- exporting

_WRITERS: dict[str, Callable[..., Counter[str]]] = {
    "csv": partial(write_csv, raw=False),
    "xlsx": write_xlsx,
    "parquet": write_parquet,
}


def _export(store: Store, user: User, job: Job, folder: Path, ids: Sequence[int]) -> None:
    record_type, ending = job.payload["record_type"], job.payload["value"]
    file, done = f"{record_type}s.{ending}", 0

    def told(rows: int) -> None:
        nonlocal done
        done += rows
        write_json(folder / _STATE, {"done": done})

    with store.reading() as session:
        reader, model = Reader(session, user), RECORD_TYPES[record_type]
        beside = folder / f".{file}"
        _WRITERS[ending](rows_of(reader, model, ids), beside, told)
        beside.replace(folder / file)
    write_json(folder / _STATE, {"done": done, "file": file})
