"""Record types that are declared at run time: a project, a shop, a machine.

Their records are `CustomRecord`s, written through the store like any other. In the change log they are of
the type `custom_record`; their fields, rights, imports and exports go by the declared name.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from crm_core.changes import Action, author_of
from crm_core.columns import check_text
from crm_core.errors import DeclarationError, UnknownRecordTypeError
from crm_core.fields import forget_declarations
from crm_core.phrases import Phrase
from crm_core.records import LINKABLE, RECORD_TYPES, CustomRecordType

DECLARED = "record_type"
"""The record type of declarations in the change log."""

# Without double underscores, so that a feature's name says where the type ends and the field begins.
_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
_TAKEN = frozenset({*RECORD_TYPES, "change", "prediction", "field", DECLARED, "export", "import"})


def declare_record_type(
    session: Session,
    *,
    name: str,
    label_en: str,
    label_zh: str,
    links: Sequence[str] = (),
) -> CustomRecordType:
    """Declare a record type; declared again it takes new labels and further links, and loses none.

    `links` are what its records may belong to: lead, deal, account, contact, or a declared record type (also
    itself). Its fields are declared with `crm_core.fields.declare_field(record_type=name, ...)`.
    """
    _check_links(session, name, links)
    found = find_record_type(session, name)
    if found is not None:
        return change_record_type(session, name, label_en=label_en, label_zh=label_zh, links=links)
    _check_name(name)
    _check_labels(session, name, label_en, label_zh)
    made = CustomRecordType(name=name, label_en=label_en, label_zh=label_zh, links=sorted(set(links)))
    session.add(made)
    session.flush()
    author_of(session).log_declared(DECLARED, made.id, Action.CREATED)
    forget_declarations(session)
    return made


def change_record_type(
    session: Session,
    name: str,
    *,
    label_en: str | None = None,
    label_zh: str | None = None,
    links: Sequence[str] = (),
) -> CustomRecordType:
    """Give a record type other labels and further links."""
    found = get_record_type(session, name)
    if found.retired_at is not None:
        raise DeclarationError(
            Phrase("the record type {name} is retired; restore it to change it", name=name)
        )
    _check_links(session, name, links)
    _check_labels(session, name, label_en or found.label_en, label_zh or found.label_zh)
    _set(session, found, "label_en", label_en or found.label_en)
    _set(session, found, "label_zh", label_zh or found.label_zh)
    _set(session, found, "links", sorted({*found.links, *links}))
    return found


def retire_record_type(session: Session, name: str) -> CustomRecordType:
    """Let no more records of a type be written; those that there are stay, and so does their history."""
    found = get_record_type(session, name)
    if found.retired_at is None:
        _set(session, found, "retired_at", author_of(session).now)
    return found


def restore_record_type(session: Session, name: str) -> CustomRecordType:
    """Let records of a retired type be written again."""
    found = get_record_type(session, name)
    _set(session, found, "retired_at", None)
    return found


def get_record_type(session: Session, name: str) -> CustomRecordType:
    """Return a declared record type; raise UnknownRecordTypeError without one."""
    found = find_record_type(session, name)
    if found is None:
        raise UnknownRecordTypeError(name)
    return found


def find_record_type(session: Session, name: str) -> CustomRecordType | None:
    """Return a declared record type, or None."""
    return session.scalars(select(CustomRecordType).where(CustomRecordType.name == name)).one_or_none()


def list_record_types(session: Session) -> list[CustomRecordType]:
    """Return the declared record types, retired ones too, by name."""
    return list(session.scalars(select(CustomRecordType).order_by(CustomRecordType.name)))


def _set(session: Session, found: CustomRecordType, column: str, value: Any) -> None:  # noqa: ANN401  any column
    old = getattr(found, column)
    if old == value:
        return
    setattr(found, column, value)
    session.flush()
    author_of(session).log_declared(DECLARED, found.id, Action.UPDATED, field=column, old=old, new=value)
    forget_declarations(session)


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name) or len(name) > 40:
        raise DeclarationError(
            Phrase(
                "record type {name!r}: expected up to 40 small letters and digits, with single _"
                " between them",
                name=name,
            )
        )
    if name in _TAKEN:
        raise DeclarationError(
            Phrase("record type {name!r}: the name is taken by the program itself", name=name)
        )


def _check_labels(session: Session, name: str, label_en: str, label_zh: str) -> None:
    for said, label in (("label_en", label_en), ("label_zh", label_zh)):
        if not label.strip():
            raise DeclarationError(
                Phrase(
                    "record type {name}: expected a {said}, got {label!r}", name=name, said=said, label=label
                )
            )
        check_text(f"{name}.{said}", label, longest=200)
        column = getattr(CustomRecordType, said)
        query = select(CustomRecordType.name).where(
            func.lower(column) == label.lower(), CustomRecordType.name != name
        )
        other = session.scalars(query.limit(1)).first()
        if other is not None:
            raise DeclarationError(
                Phrase(
                    "record type {name}: {other} is called {label!r} already",
                    name=name,
                    other=other,
                    label=label,
                )
            )


def _check_links(session: Session, name: str, links: Sequence[str]) -> None:
    for link in links:
        if link not in LINKABLE and link != name and find_record_type(session, link) is None:
            known = [*LINKABLE, *(each.name for each in list_record_types(session))]
            raise DeclarationError(
                Phrase(
                    "record type {name}: expected links to {targets}, got {link!r}",
                    name=name,
                    targets=tuple(known),
                    link=link,
                )
            )
