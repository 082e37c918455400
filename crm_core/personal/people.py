"""Who a person is in the store: the records that stand for them, and what they are told by."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from crm_core.addresses import is_shared_mailbox, mail_key
from crm_core.changes import Change
from crm_core.errors import InvalidValueError, RecordNotFoundError
from crm_core.likeness import compared_people, likeness_of_people
from crm_core.phrases import one_of
from crm_core.records import Contact, Lead
from crm_core.search import nearest
from crm_core.validation import columns_of

PERSON_TYPES: dict[str, type[Lead | Contact]] = {"lead": Lead, "contact": Contact}
"""The record types that stand for a person."""

ERASED = "[erased]"
"""Stands where something personal was."""

_NEAREST = 200
"""How many records with a mail address alike are looked at."""


@dataclass(frozen=True, kw_only=True)
class Identifiers:
    """What a person is told by, as it was written down."""

    names: frozenset[str] = frozenset()
    mails: frozenset[str] = frozenset()
    phones: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        """Say whether there is anything to look for."""
        return bool(self.names or self.mails or self.phones)

    def all(self) -> list[str]:
        """Return all of them, in a fixed order."""
        return sorted(self.names | self.mails | self.phones)


@dataclass(frozen=True, kw_only=True)
class Person:
    """A person: their leads and contacts, merged and deleted ones too, and what they are told by."""

    leads: tuple[int, ...] = ()
    contacts: tuple[int, ...] = ()
    identifiers: Identifiers = field(default_factory=Identifiers)

    def ids(self, record_type: str) -> tuple[int, ...]:
        """Return the ids of the records of one type that stand for them."""
        return {"lead": self.leads, "contact": self.contacts}.get(record_type, ())

    def records(self) -> list[tuple[str, int]]:
        """Return the records that stand for them."""
        return [(record_type, each) for record_type in PERSON_TYPES for each in self.ids(record_type)]


def find_person(
    session: Session, *, record: tuple[str, int] | None = None, mail: str | None = None
) -> Person:
    """Return a person, by a record that stands for them or by their mail address.

    A record also brings those that it was converted to or from, merged with, and those with the same mail
    address that look like the same person's. By a mail address that no record has, a person without
    records comes: it may still be named in texts. Raises RecordNotFoundError for a record that does not
    exist, InvalidValueError for a mail address that is none.
    """
    found: set[tuple[str, int]] = set()
    waiting = [_checked(session, record)] if record else []
    if mail is not None:
        key = mail_key(mail)
        if key is None:
            raise InvalidValueError("mail", mail, "a mail address")
        waiting += _with_mail(session, key)
    while waiting:
        each = waiting.pop()
        if each not in found:
            found.add(each)
            waiting += _neighbours(session, each)
    identifiers = _identifiers(session, found)
    if mail is not None:
        identifiers = Identifiers(
            names=identifiers.names, mails=identifiers.mails | {mail.strip()}, phones=identifiers.phones
        )
    return Person(
        leads=tuple(sorted(record_id for kind, record_id in found if kind == "lead")),
        contacts=tuple(sorted(record_id for kind, record_id in found if kind == "contact")),
        identifiers=identifiers,
    )


def get_record(session: Session, record_type: str, record_id: int) -> Lead | Contact:
    """Return a record that stands for a person, deleted or not."""
    if record_type == "lead":
        return session.get_one(Lead, record_id)
    return session.get_one(Contact, record_id)


def _checked(session: Session, record: tuple[str, int]) -> tuple[str, int]:
    record_type, record_id = record
    if record_type not in PERSON_TYPES:
        raise InvalidValueError("record_type", record_type, one_of(PERSON_TYPES))
    if session.get(PERSON_TYPES[record_type], record_id) is None:
        raise RecordNotFoundError(record_type, record_id)
    return record


def _neighbours(session: Session, record: tuple[str, int]) -> Iterator[tuple[str, int]]:
    """Yield the records that stand for the same person as one does."""
    record_type, record_id = record
    model = PERSON_TYPES[record_type]
    held = get_record(session, record_type, record_id)
    if held.merged_into_id is not None:
        yield record_type, held.merged_into_id
    merged = columns_of(model)["merged_into_id"] == record_id
    for other in session.scalars(select(model.id).where(merged)):
        yield record_type, other
    if isinstance(held, Lead) and held.contact_id is not None:
        yield "contact", held.contact_id
    if isinstance(held, Contact):
        for other in session.scalars(select(Lead.id).where(Lead.contact_id == record_id)):
            yield "lead", other
    yield from _same_mail(session, held)


def _same_mail(session: Session, held: Lead | Contact) -> Iterator[tuple[str, int]]:
    """Yield the records with the same mail address, unless others read it or the names differ."""
    key = mail_key(held.email)
    if key is None or is_shared_mailbox(key):
        return
    for record_type, record_id in _with_mail(session, key):
        other = get_record(session, record_type, record_id)
        if _looks_the_same(held, other):
            yield record_type, record_id


def _looks_the_same(one: Lead | Contact, two: Lead | Contact) -> bool:
    columns = {name: [getattr(one, name), getattr(two, name)] for name in ("name", "email", "phone")}
    zero = np.zeros(1, dtype=np.int64)
    return float(likeness_of_people(compared_people(columns), zero, zero + 1).likelihood[0]) >= 0.5


def _with_mail(session: Session, key: str) -> list[tuple[str, int]]:
    """Return the records with a mail address, however it is spelt."""
    found = []
    near = nearest(session, key, PERSON_TYPES, limit=_NEAREST)
    for record_type, model in PERSON_TYPES.items():
        alike = near[record_type].tolist() if near else []
        email = columns_of(model)["email"]
        condition = or_(func.lower(func.trim(email)) == key, model.id.in_(alike))
        rows = session.execute(select(model.id, email).where(condition)).all()
        found += [(record_type, record_id) for record_id, email in rows if mail_key(email) == key]
    return found


def _identifiers(session: Session, records: Iterable[tuple[str, int]]) -> Identifiers:
    """Return what the records of a person say or ever said they are told by."""
    values: dict[str, set[str]] = {"name": set(), "email": set(), "phone": set()}
    for record_type, record_id in records:
        held = get_record(session, record_type, record_id)
        for name, said in values.items():
            said.update(_told(getattr(held, name), *_logged(session, record_type, record_id, name)))
    return Identifiers(
        names=frozenset(values["name"]), mails=frozenset(values["email"]), phones=frozenset(values["phone"])
    )


def _told(*texts: object) -> Iterator[str]:
    for text in texts:
        if isinstance(text, str) and text.strip() and text != ERASED:
            yield text.strip()


def _logged(session: Session, record_type: str, record_id: int, name: str) -> Iterator[object]:
    query = select(Change.old, Change.new).where(
        Change.record_type == record_type, Change.record_id == record_id, Change.field == name
    )
    for row in session.execute(query):
        yield from row
