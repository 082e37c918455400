"""Custom fields, when each field is known, and how far the store's knowledge of each record type reaches.

Whoever declares, changes, retires or restores a field leaves rows in the change log, of the record type
`field` and with the declaration's id: who did it, when, and what it was before.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, TypeVar

from sqlalchemy import String, UniqueConstraint, false, func, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from crm_core.changes import Action, Change, author_of
from crm_core.columns import Instant, Json, check_text
from crm_core.errors import (
    DeclarationError,
    FieldAlreadyDeclaredError,
    FieldRetiredError,
    UnknownFieldError,
    UnknownRecordTypeError,
)
from crm_core.members import is_present
from crm_core.phrases import Phrase
from crm_core.records import OUTCOME_FIELDS, RECORD_TYPES, Base, CustomRecord, CustomRecordType, Id, Record
from crm_core.validation import columns_of

T = TypeVar("T")

CUSTOM = "custom."
"""How the name of a custom field begins where built-in ones may stand too."""

DECLARED = "field"
"""The record type of declarations in the change log."""

_NAME = re.compile(r"[a-z][a-z0-9_]{0,100}")


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
    CHOICE = "choice"
    MONEY = "money"
    REFERENCE = "reference"


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One value of a choice, and what people read for it."""

    value: str
    label_en: str | None = None
    label_zh: str | None = None

    def to_json(self) -> dict[str, str | None]:
        """Return it as it is stored."""
        return dict(vars(self))


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
    choices: Mapped[list[dict[str, Any]] | None] = mapped_column(
        Json, comment="of a choice: its values in order, each with labels"
    )
    required: Mapped[bool] = mapped_column(
        default=False, server_default=false(), comment="whether every new record needs a value"
    )
    target: Mapped[str | None] = mapped_column(
        String(40), comment="of a reference: the record type that it names"
    )
    retired_at: Mapped[datetime | None] = mapped_column(Instant, comment="from when on it takes no values")

    __table_args__ = (UniqueConstraint("record_type", "name"),)


class Coverage(Base):
    """Until when the store has seen everything of a record type; without a row, until now.

    An imported extract ends somewhere. A label window that reaches past that end is not over, however late
    it is today.
    """

    __tablename__ = "coverage"

    record_type: Mapped[str] = mapped_column(String(40), primary_key=True)
    observed_until: Mapped[datetime] = mapped_column(Instant)


def model_of(session: Session, record_type: str) -> type[Record]:
    """Return the class of a record type, built in or declared; raise UnknownRecordTypeError."""
    if record_type in RECORD_TYPES:
        return RECORD_TYPES[record_type]
    if session.scalar(select(CustomRecordType.id).where(CustomRecordType.name == record_type)) is None:
        raise UnknownRecordTypeError(record_type)
    return CustomRecord


def declare_field(  # noqa: PLR0913  what is said of a field
    session: Session,
    *,
    record_type: str,
    name: str,
    known: Known,
    kind: FieldKind | None = None,
    label_en: str | None = None,
    label_zh: str | None = None,
    choices: Sequence[Choice] = (),
    required: bool = False,
    target: str | None = None,
    at: datetime | None = None,
) -> FieldDeclaration:
    """Declare a custom field (`custom.NAME`) or when a built-in one is known; twice changes nothing.

    The log tells of it at `at`, by default now.

    Declared again, a field takes new labels and further choices. Raises FieldAlreadyDeclaredError if it has
    another kind, target or time of being known, FieldRetiredError if it takes no values any more, and
    DeclarationError for what cannot be declared.
    """
    model = model_of(session, record_type)
    if not name.startswith(CUSTOM) and name not in columns_of(model):
        raise UnknownFieldError(record_type, name)
    found = find_field(session, record_type, name)
    if found is not None:
        _check_same(found, kind, known, target)
        return _change(
            session, found, label_en=label_en, label_zh=label_zh, choices=choices, required=required or None
        )
    _check_new(session, record_type, name, kind, choices, target)
    _check_labels(session, record_type, name, label_en, label_zh)
    made = FieldDeclaration(
        record_type=record_type,
        name=name,
        kind=kind,
        known=known,
        label_en=label_en,
        label_zh=label_zh,
        choices=[each.to_json() for each in choices] or None,
        required=required,
        target=target,
    )
    session.add(made)
    session.flush()
    author_of(session).log_declared(DECLARED, made.id, Action.CREATED, at=at)
    forget_declarations(session)
    return made


def change_field(
    session: Session,
    record_type: str,
    name: str,
    *,
    label_en: str | None = None,
    label_zh: str | None = None,
    choices: Sequence[Choice] = (),
    required: bool | None = None,
    kind: FieldKind | None = None,
) -> FieldDeclaration:
    """Give a field other labels, further choices (or other labels of those it has), or make it required.

    Another kind is refused with DeclarationError once there are values: what they meant would change.
    """
    found = get_field(session, record_type, name)
    if kind is not None and kind != found.kind:
        _check_kind_may_change(session, found, kind, choices)
        _set(session, found, "kind", kind)
        _set(session, found, "choices", None)  # what a choice offered is no condition on anything else
    return _change(session, found, label_en=label_en, label_zh=label_zh, choices=choices, required=required)


def retire_field(session: Session, record_type: str, name: str) -> FieldDeclaration:
    """Let a custom field take no more values; those that it has stay, and so does its history."""
    found = get_field(session, record_type, name)
    if not name.startswith(CUSTOM):
        raise DeclarationError(
            Phrase(
                "{record_type}.{field} is built in and cannot be retired", record_type=record_type, field=name
            )
        )
    if found.retired_at is None:
        _set(session, found, "retired_at", author_of(session).now)
    return found


def restore_field(session: Session, record_type: str, name: str) -> FieldDeclaration:
    """Let a retired field take values again."""
    found = get_field(session, record_type, name)
    if found.retired_at is not None:
        _check_labels(session, record_type, name, found.label_en, found.label_zh)
        _set(session, found, "retired_at", None)
    return found


def get_field(session: Session, record_type: str, name: str) -> FieldDeclaration:
    """Return the declaration of a field; raise UnknownFieldError without one."""
    found = find_field(session, record_type, name)
    if found is None:
        model_of(session, record_type)
        raise UnknownFieldError(record_type, name)
    return found


def find_field(session: Session, record_type: str, name: str) -> FieldDeclaration | None:
    """Return the declaration of a field, or None."""
    query = select(FieldDeclaration).where(
        FieldDeclaration.record_type == record_type, FieldDeclaration.name == name
    )
    return session.scalars(query).one_or_none()


def list_fields(session: Session, record_type: str) -> list[FieldDeclaration]:
    """Return the declarations of a record type's fields, retired ones too, by name."""
    query = (
        select(FieldDeclaration)
        .where(FieldDeclaration.record_type == record_type)
        .order_by(FieldDeclaration.name)
    )
    return list(session.scalars(query))


def list_all_fields(session: Session, record_type: str | None = None) -> list[FieldDeclaration]:
    """Return all declarations, or those of one record type, which must exist; by record type and name."""
    query = select(FieldDeclaration).order_by(FieldDeclaration.record_type, FieldDeclaration.name)
    if record_type is not None:
        model_of(session, record_type)
        query = query.where(FieldDeclaration.record_type == record_type)
    return list(session.scalars(query))


def has_values(session: Session, record_type: str, name: str) -> bool:
    """Return whether any record has, or ever had, a value of a custom field."""
    model = model_of(session, record_type)
    ours: Any = select(model.id)
    if model is CustomRecord:
        kind = select(CustomRecordType.id).where(CustomRecordType.name == record_type).scalar_subquery()
        ours = ours.where(CustomRecord.type_id == kind)
    held = is_present(session, columns_of(model)["custom"], name.removeprefix(CUSTOM))
    if session.scalar(ours.where(held).limit(1)) is not None:
        return True
    logged = select(Change.id).where(
        Change.record_type == model.record_type, Change.field == name, Change.record_id.in_(ours)
    )
    return session.scalar(logged.limit(1)) is not None


# ------------------------------------------------------------------------------------------------ changing

_CACHE = "declarations"


def cached_declarations(session: Session, read: Callable[[Session], T], *, afresh: bool = False) -> T:
    """Return what `read` made of all declarations when it was last asked for in this session."""
    if afresh or _CACHE not in session.info:
        session.info[_CACHE] = read(session)
    found: T = session.info[_CACHE]
    return found


def forget_declarations(session: Session) -> None:
    """Let the declarations be read again."""
    session.info.pop(_CACHE, None)


def _change(
    session: Session,
    found: FieldDeclaration,
    *,
    label_en: str | None,
    label_zh: str | None,
    choices: Sequence[Choice],
    required: bool | None,
) -> FieldDeclaration:
    if found.retired_at is not None:
        raise FieldRetiredError(found.record_type, found.name)
    if (label_en or found.label_en, label_zh or found.label_zh) != (found.label_en, found.label_zh):
        _check_labels(session, found.record_type, found.name, label_en, label_zh)
        _set(session, found, "label_en", label_en or found.label_en)
        _set(session, found, "label_zh", label_zh or found.label_zh)
    if choices:
        if found.kind != FieldKind.CHOICE:
            raise DeclarationError(
                Phrase(
                    "{record_type}.{field} is a {field_kind} and has no choices",
                    record_type=found.record_type,
                    field=found.name,
                    field_kind=found.kind,
                )
            )
        _set(session, found, "choices", _extended(found, choices))
    if required is not None:
        _set(session, found, "required", required)
    return found


def _set(session: Session, found: FieldDeclaration, column: str, value: Any) -> None:  # noqa: ANN401  of any column
    old = getattr(found, column)
    if old == value:
        return
    setattr(found, column, value)
    session.flush()
    author_of(session).log_declared(DECLARED, found.id, Action.UPDATED, field=column, old=old, new=value)
    forget_declarations(session)


def _extended(found: FieldDeclaration, choices: Sequence[Choice]) -> list[dict[str, Any]]:
    """Return the choices with labels as given now, new ones at the end; none is ever lost."""
    said = {each["value"]: each for each in found.choices or ()}
    for each in choices:
        before = said.get(each.value, {})
        said[each.value] = {
            "value": each.value,
            "label_en": each.label_en or before.get("label_en"),
            "label_zh": each.label_zh or before.get("label_zh"),
        }
    _check_choices(f"{found.record_type}.{found.name}", [Choice(**each) for each in said.values()])
    return list(said.values())


def _check_same(found: FieldDeclaration, kind: FieldKind | None, known: Known, target: str | None) -> None:
    if (found.kind, found.known) != (kind, known):
        msg = Phrase(
            "{record_type}.{field} is declared as {field_kind}, known at {found_known}; this asks"
            " for {field_kind_too}, known at {known}",
            record_type=found.record_type,
            field=found.name,
            field_kind=found.kind or "built-in",
            found_known=found.known,
            field_kind_too=kind or "built-in",
            known=known,
        )
        raise FieldAlreadyDeclaredError(msg)
    if found.target != target:
        raise FieldAlreadyDeclaredError(
            Phrase(
                "{record_type}.{field} names a {found_target}; this asks for a {target}",
                record_type=found.record_type,
                field=found.name,
                found_target=found.target,
                target=target,
            )
        )


def _check_new(
    session: Session,
    record_type: str,
    name: str,
    kind: FieldKind | None,
    choices: Sequence[Choice],
    target: str | None,
) -> None:
    place = f"{record_type}.{name}"
    if not name.startswith(CUSTOM):
        if kind is not None or choices or target:
            raise DeclarationError(
                Phrase("{place} is built in: only when it is known can be declared", place=place)
            )
        return
    if record_type == CustomRecord.record_type:
        raise DeclarationError(
            Phrase("{place}: declare it under the name of the record type that has it", place=place)
        )
    if not _NAME.fullmatch(name.removeprefix(CUSTOM)):
        raise DeclarationError(
            Phrase(
                "{place}: expected a name of small letters, digits and _ after {custom}, beginning"
                " with a letter",
                place=place,
                custom=CUSTOM,
            )
        )
    if kind is None:
        raise DeclarationError(
            Phrase(
                "{place}: expected one of the kinds {choices}, got none",
                place=place,
                choices=tuple(FieldKind),
            )
        )
    if (target is not None) != (kind is FieldKind.REFERENCE):
        raise DeclarationError(
            Phrase(
                "{place}: a reference, and only that, is declared with a target, got {target}",
                place=place,
                target=target,
            )
        )
    if target is not None:
        model_of(session, target)
    if bool(choices) != (kind is FieldKind.CHOICE):
        raise DeclarationError(
            Phrase("{place}: a choice, and only that, is declared with its values", place=place)
        )
    _check_choices(place, choices)


def _check_choices(place: str, choices: Sequence[Choice]) -> None:
    """Refuse a value or a label that stands for two choices."""
    for each in choices:
        if not each.value.strip() or len(each.value) > 200:
            raise DeclarationError(
                Phrase(
                    "{place}: expected a value of 1 to 200 characters, got {value!r}",
                    place=place,
                    value=each.value,
                )
            )
        for word in (each.value, each.label_en, each.label_zh):
            check_text(place, word or "", longest=200)
    for said in ("value", "label_en", "label_zh"):
        words = [word for each in choices if (word := getattr(each, said)) is not None]
        twice = {word for word in words if words.count(word) > 1}
        if twice:
            raise DeclarationError(
                Phrase(
                    "{place}: two choices have the {said} {twice!r}", place=place, said=said, twice=min(twice)
                )
            )


def _check_labels(
    session: Session, record_type: str, name: str, label_en: str | None, label_zh: str | None
) -> None:
    """Refuse a label that another field of the record type has: people could not tell them apart."""
    for said, label in (("label_en", label_en), ("label_zh", label_zh)):
        if label is None:
            continue
        check_text(f"{record_type}.{name}", label, longest=200)
        other = find_labelled(session, record_type, said, label)
        if other not in {None, name}:
            raise DeclarationError(
                Phrase(
                    "{record_type}.{field}: {other} is called {label!r} already",
                    record_type=record_type,
                    field=name,
                    other=other,
                    label=label,
                )
            )


def find_labelled(session: Session, record_type: str, said: str, label: str) -> str | None:
    """Return the field in use whose `label_en` or `label_zh` (`said`) is `label`, or None."""
    column = getattr(FieldDeclaration, said)
    query = select(FieldDeclaration.name).where(
        FieldDeclaration.record_type == record_type,
        FieldDeclaration.retired_at.is_(None),
        func.lower(column) == label.lower(),
    )
    return session.scalars(query.limit(1)).first()


def _check_kind_may_change(
    session: Session, found: FieldDeclaration, kind: FieldKind, choices: Sequence[Choice]
) -> None:
    place = f"{found.record_type}.{found.name}"
    if found.kind is None or FieldKind.REFERENCE in {found.kind, kind}:
        raise DeclarationError(
            Phrase(
                "{place} is a {field_kind} and cannot become a {field_kind_too}",
                place=place,
                field_kind=found.kind or "built-in field",
                field_kind_too=kind,
            )
        )
    if has_values(session, found.record_type, found.name):
        raise DeclarationError(
            Phrase(
                "{place} is a {found_field_kind} and has values; declare another field as a"
                " {field_kind} and retire this one",
                place=place,
                found_field_kind=found.kind,
                field_kind=kind,
            )
        )
    if kind is FieldKind.CHOICE and not choices:
        raise DeclarationError(Phrase("{place}: a choice is declared with its values", place=place))


def known_at(session: Session, record_type: str, name: str) -> Known:
    """Return when a field is known; raise UnknownFieldError for one that does not exist."""
    if name in OUTCOME_FIELDS.get(record_type, ()):
        return Known.OUTCOME
    declared = find_field(session, record_type, name)
    if declared is not None:
        return Known(declared.known)
    if name.startswith(CUSTOM) or name not in columns_of(model_of(session, record_type)):
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
