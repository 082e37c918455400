"""Custom fields, when each field is known, and how far the store's knowledge of each record type reaches."""

from __future__ import annotations

import math
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import String, UniqueConstraint, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from crm_core.columns import Instant
from crm_core.errors import FieldAlreadyDeclaredError, InvalidValueError, UnknownFieldError
from crm_core.records import OUTCOME_FIELDS, RECORD_TYPES, Base, Id
from crm_core.validation import columns_of


class Known(StrEnum):
    """When the value of a field is known, which decides whether a model may see it."""

    CREATION = "creation"
    HISTORY = "history"
    OUTCOME = "outcome"
    UNKNOWN = "unknown"


class FieldKind(StrEnum):
    """What a custom field holds."""

    TEXT = "text"
    NUMBER = "number"
    FLAG = "flag"
    INSTANT = "instant"
    DAY = "day"


class FieldDeclaration(Base):
    """A custom field, or what an import said of a built-in one.

    `known`: `creation` (filled when the record is created, from then on as the log says), `history` (every
    change is in the log), `outcome` (written at or after the outcome: never an input), `unknown` (a flat
    import without history: its value at an earlier instant cannot be told, so never an input).
    """

    __tablename__ = "fields"

    id: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=True)
    record_type: Mapped[str] = mapped_column(String(40))
    name: Mapped[str] = mapped_column(String(120), comment="custom.NAME, or the name of a column")
    kind: Mapped[str | None] = mapped_column(String(10), comment="of a custom field")
    known: Mapped[str] = mapped_column(String(10))
    label_en: Mapped[str | None] = mapped_column(String(200))
    label_zh: Mapped[str | None] = mapped_column(String(200))

    __table_args__ = (UniqueConstraint("record_type", "name"),)


class Coverage(Base):
    """Until when the store has seen everything of a record type; without a row, until now.

    An imported extract ends somewhere. A label window that reaches past that end is not over, however late
    it is today.
    """

    __tablename__ = "coverage"

    record_type: Mapped[str] = mapped_column(String(40), primary_key=True)
    observed_until: Mapped[datetime] = mapped_column(Instant)


def declare_field(
    session: Session,
    *,
    record_type: str,
    name: str,
    known: Known,
    kind: FieldKind | None = None,
    label_en: str | None = None,
    label_zh: str | None = None,
) -> FieldDeclaration:
    """Declare a custom field (`custom.NAME`) or when a built-in one is known; twice changes nothing."""
    if not name.startswith("custom.") and name not in columns_of(RECORD_TYPES[record_type]):
        raise UnknownFieldError(record_type, name)
    found = find_field(session, record_type, name)
    if found is None:
        found = FieldDeclaration(record_type=record_type, name=name, kind=kind, known=known)
        session.add(found)
    if (found.kind, found.known) != (kind, known):
        msg = (
            f"{record_type}.{name} is declared as {found.kind or 'built-in'}, known at {found.known}; "
            f"this asks for {kind or 'built-in'}, known at {known}"
        )
        raise FieldAlreadyDeclaredError(msg)
    found.label_en = label_en or found.label_en
    found.label_zh = label_zh or found.label_zh
    session.flush()
    return found


def find_field(session: Session, record_type: str, name: str) -> FieldDeclaration | None:
    """Return the declaration of a field, or None."""
    query = select(FieldDeclaration).where(
        FieldDeclaration.record_type == record_type, FieldDeclaration.name == name
    )
    return session.scalars(query).one_or_none()


def list_fields(session: Session, record_type: str) -> list[FieldDeclaration]:
    """Return the declarations of a record type's fields, by name."""
    query = (
        select(FieldDeclaration)
        .where(FieldDeclaration.record_type == record_type)
        .order_by(FieldDeclaration.name)
    )
    return list(session.scalars(query))


def known_at(session: Session, record_type: str, name: str) -> Known:
    """Return when a field is known; raise UnknownFieldError for one that does not exist."""
    if name in OUTCOME_FIELDS.get(record_type, ()):
        return Known.OUTCOME
    declared = find_field(session, record_type, name)
    if declared is not None:
        return Known(declared.known)
    if name.startswith("custom.") or name not in columns_of(RECORD_TYPES[record_type]):
        raise UnknownFieldError(record_type, name)
    return Known.HISTORY


def set_observed_until(session: Session, record_type: str, until: datetime) -> None:
    """Say until when everything of `record_type` has been seen."""
    session.merge(Coverage(record_type=record_type, observed_until=until))
    session.flush()


def observed_until(session: Session, record_type: str, *, now: datetime) -> datetime:
    """Return until when everything of `record_type` has been seen: `now` unless an import said otherwise."""
    found = session.get(Coverage, record_type)
    return now if found is None else min(found.observed_until, now)


_KINDS: dict[str, tuple[type | tuple[type, ...], str]] = {
    FieldKind.TEXT: (str, "a text"),
    FieldKind.NUMBER: ((int, float), "a finite number"),
    FieldKind.FLAG: (bool, "true or false"),
    FieldKind.INSTANT: (int, "an instant in microseconds since 1970"),
    FieldKind.DAY: (int, "a day in days since 1970"),
}


def check_custom(session: Session, record_type: str, values: dict[str, Any]) -> None:
    """Raise UnknownFieldError or InvalidValueError for a custom value that its field cannot hold."""
    declared = {field.name: field for field in list_fields(session, record_type)}
    for name, value in values.items():
        field = declared.get(f"custom.{name}")
        if field is None or field.kind is None:
            raise UnknownFieldError(record_type, f"custom.{name}")
        types, expected = _KINDS[field.kind]
        wrong = isinstance(value, bool) and field.kind != FieldKind.FLAG
        if value is not None and (wrong or not isinstance(value, types) or _infinite(value)):
            raise InvalidValueError(f"{record_type}.custom.{name}", value, expected)


def _infinite(value: object) -> bool:
    return isinstance(value, float) and not math.isfinite(value)
