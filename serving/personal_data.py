"""What people may ask of us, done for a user: to find, export, erase and leave unscored one person."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from crm_core.access import check_may_handle_people
from crm_core.changes import Source
from crm_core.errors import InvalidValueError, StoreBusyError
from crm_core.operations import Done, Operation, Origin, Via, write_operations
from crm_core.personal import (
    Erasure,
    erase_person_as,
    find_person,
    hand_out_person,
    purge,
    set_scoring_opt_out_as,
)
from crm_core.records import User
from crm_core.store import Store, Transaction
from serving.files import forget_unused

_RECORD = re.compile(r"(lead|contact):([1-9]\d{0,17})")


@dataclass(frozen=True, kw_only=True)
class Who:
    """How a person is told: by a record that stands for them, or by a mail address."""

    record: tuple[str, int] | None = None
    mail: str | None = None

    @classmethod
    def of(cls, text: str) -> Who:
        """Return who `lead:42`, `contact:7` or a mail address means."""
        if found := _RECORD.fullmatch(text.strip()):
            return cls(record=(found[1], int(found[2])))
        if "@" in text:
            return cls(mail=text.strip())
        raise InvalidValueError("who", text, "a mail address, lead:ID or contact:ID")


def find_for(store: Store, user: User, who: Who, *, origin: Origin | None = None) -> dict[str, Any]:
    """Return which records stand for a person and what they are told by; for an administrator."""
    check_may_handle_people(user)
    with store.transaction() as transaction:
        person = find_person(transaction.session, record=who.record, mail=who.mail)
        _note(transaction, user, origin, Done.PERSON_FOUND, person.records())
    told = person.identifiers
    return {
        "records": [{"record_type": kind, "id": each} for kind, each in person.records()],
        "names": sorted(told.names),
        "mails": sorted(told.mails),
        "phones": sorted(told.phones),
    }


def export_for(
    store: Store, user: User, who: Who, *, source: Source = Source.API, origin: Origin | None = None
) -> dict[str, Any]:
    """Return all that is held about a person, and note in the log who asked; for an administrator."""
    check_may_handle_people(user)
    with store.transaction(source=source, actor_id=user.id) as transaction:
        told = hand_out_person(transaction, user, record=who.record, mail=who.mail)
        records = [(each["record_type"], each["id"]) for each in told["records"]]
        _note(transaction, user, origin, Done.PERSON_EXPORTED, records)
    return told


def erase_for(
    store: Store,
    user: User,
    who: Who,
    *,
    source: Source = Source.API,
    origin: Origin | None = None,
    wait_seconds: float = 30,
    files: Path | None = None,
) -> dict[str, Any]:
    """Erase a person and have the database forget the old bytes; for an administrator.

    With `files`, the folder where files are kept, theirs are deleted from it.
    `purged` is false if the database was in use for so long that its files still hold old bytes.
    """
    check_may_handle_people(user)
    with store.transaction(source=source, actor_id=user.id) as transaction:
        erased = erase_person_as(transaction, user, record=who.record, mail=who.mail)
        _note(transaction, user, origin, Done.PERSON_ERASED, erased.records)
    if files is not None:
        forget_unused(store, files)
    return {**_told(erased), "purged": purge_if_idle(store, wait_seconds=wait_seconds)}


def purge_if_idle(store: Store, *, wait_seconds: float) -> bool:
    """Have the database write its files anew; return whether it could."""
    try:
        purge(store, wait_seconds=wait_seconds)
    except StoreBusyError:
        return False
    return True


def opt_out_for(
    store: Store, user: User, record: tuple[str, int], *, opted_out: bool, source: Source = Source.API
) -> list[dict[str, Any]]:
    """Write down whether somebody asks not to be scored; return the records on which it stands now."""
    with store.transaction(source=source, actor_id=user.id) as transaction:
        noted = set_scoring_opt_out_as(transaction, user, *record, opted_out=opted_out)
    return [{"record_type": kind, "id": each} for kind, each in noted]


def opt_out_of_person(store: Store, user: User, who: Who, *, opted_out: bool) -> list[dict[str, Any]]:
    """Write it down for all records of a person, told in whatever way; for an administrator."""
    found = find_for(store, user, who)["records"]
    noted: list[dict[str, Any]] = []
    for each in found:
        if each not in noted and _is_there(store, each["record_type"], each["id"]):
            record = (each["record_type"], each["id"])
            new = opt_out_for(store, user, record, opted_out=opted_out, source=Source.REP)
            noted += [one for one in new if one not in noted]
    return noted


def _note(
    transaction: Transaction,
    user: User,
    origin: Origin | None,
    done: Done,
    records: Iterable[tuple[str, int]],
) -> None:
    """Write down that somebody handled a person's data; without an origin, at the command line."""
    origin = origin or Origin(via=Via.COMMAND, user_id=user.id)
    by_type: dict[str | None, list[int]] = {}
    for kind, record_id in records:
        by_type.setdefault(kind, []).append(record_id)
    noted = [
        Operation(at=transaction.now, done=done, origin=origin, record_type=kind, ids=tuple(ids))
        for kind, ids in (by_type or {None: []}).items()
    ]
    write_operations(transaction.session, noted)


def _is_there(store: Store, record_type: str, record_id: int) -> bool:
    from crm_core.personal.people import get_record

    with store.reading() as session:
        return get_record(session, record_type, record_id).deleted_at is None


def _told(erased: Erasure) -> dict[str, Any]:
    """Return an erasure as JSON."""
    told = asdict(erased)
    told["records"] = [{"record_type": kind, "id": each} for kind, each in erased.records]
    told["kept"] = [asdict(each) for each in erased.kept]
    return told
