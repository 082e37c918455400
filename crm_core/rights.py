"""Setting what roles may do: in place of the defaults of `crm_core.access`, seen at once by this process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from crm_core.access import (
    CREDENTIALS,
    DEFAULT_RIGHTS,
    HIDDEN_FIELDS,
    NEVER_HIDDEN,
    FieldRight,
    Right,
    RoleRight,
    Scope,
)
from crm_core.declared import declarations
from crm_core.errors import InvalidValueError
from crm_core.external_ids import hold_keys
from crm_core.phrases import Phrase, one_of
from crm_core.records import RECORD_TYPES, CustomRecord, Role
from crm_core.validation import columns_of

SETTABLE = tuple(role for role in Role if role is not Role.ADMIN)
"""Roles whose rights can be set; an administrator who lost theirs could not get them back."""


@dataclass(frozen=True, kw_only=True)
class TypeRight:
    """What a role may do with a record type, and whether an administrator said so."""

    record_type: str
    right: Right
    is_set: bool


def list_rights(session: Session, role: Role) -> list[TypeRight]:
    """Return a role's right to every record type, declared ones too."""
    rows = session.scalars(select(RoleRight).where(RoleRight.role == role))
    known = {row.record_type: Right(read=Scope(row.read), write=Scope(row.write)) for row in rows}
    names = [*sorted(RECORD_TYPES), *sorted(declarations(session).by_name)]
    default = DEFAULT_RIGHTS.get((role, CustomRecord.record_type), Right())
    return [
        TypeRight(
            record_type=name,
            right=known.get(name)
            or DEFAULT_RIGHTS.get(
                (role, name),
                Right() if name in RECORD_TYPES else known.get(CustomRecord.record_type, default),
            ),
            is_set=name in known,
        )
        for name in names
    ]


def set_right(session: Session, role: str, record_type: str, right: Right) -> None:
    """Set what a role may do with a record type; the default takes the setting away again.

    Raises
    ------
    InvalidValueError
        For a role that has all rights, an unknown record type, or a right to change more than is seen.
    """
    checked = _checked_role(role)
    _check_type(session, record_type)
    if not right.read.reaches(right.write):
        raise InvalidValueError(
            "write", right.write, Phrase("no more than what is read ({read})", read=right.read)
        )
    _hold(session, checked)
    session.execute(delete(RoleRight).where(RoleRight.role == checked, RoleRight.record_type == record_type))
    if right != DEFAULT_RIGHTS.get((checked, record_type)):
        session.add(RoleRight(role=checked, record_type=record_type, read=right.read, write=right.write))
    session.flush()


def list_field_rights(session: Session, role: Role) -> Sequence[FieldRight]:
    """Return what was set on fields for a role, by record type and field."""
    order = (FieldRight.record_type, FieldRight.field)
    return session.scalars(select(FieldRight).where(FieldRight.role == role).order_by(*order)).all()


def hidden_by_default(role: Role) -> list[tuple[str, str]]:
    """Return record type and name of the fields that a role does not see unless it is let."""
    return sorted(key for key, roles in HIDDEN_FIELDS.items() if role in roles and key[1] not in CREDENTIALS)


def fields_of(session: Session) -> Mapping[str, Sequence[str]]:
    """Return, for each record type, the fields on which a right can be set."""
    declared = declarations(session)
    names = [*sorted(RECORD_TYPES), *sorted(declared.by_name)]
    return {name: _fields(session, name) for name in names}


def set_field_right(
    session: Session, role: str, record_type: str, field: str, *, read: bool, write: bool
) -> None:
    """Set whether a role sees and changes a field, in place of what it may do with the record.

    Raises
    ------
    InvalidValueError
        For a role that has all rights, a field that is not there or cannot be hidden, or one to be changed
        without being seen.
    """
    checked = _checked_role(role)
    _check_type(session, record_type)
    if field not in _fields(session, record_type):
        raise InvalidValueError(
            "field", field, Phrase("a field of {record_type} that can be hidden", record_type=record_type)
        )
    if write and not read:
        raise InvalidValueError("write", "changed", "nothing: what is not seen cannot be changed")
    _hold(session, checked)
    reset_field_right(session, checked, record_type, field)
    session.add(FieldRight(role=checked, record_type=record_type, field=field, read=read, write=write))
    session.flush()


def reset_field_right(session: Session, role: str, record_type: str, field: str) -> bool:
    """Take away what was set on a field; return whether anything was."""
    found = session.scalars(
        select(FieldRight).where(
            FieldRight.role == role, FieldRight.record_type == record_type, FieldRight.field == field
        )
    ).one_or_none()
    if found is not None:
        session.delete(found)
        session.flush()
    return found is not None


def _fields(session: Session, record_type: str) -> list[str]:
    model = RECORD_TYPES.get(record_type, CustomRecord)
    never = NEVER_HIDDEN | CREDENTIALS | {"custom"}
    custom = declarations(session).fields(record_type)
    return [
        *(name for name in columns_of(model) if name not in never),
        *(f"custom.{name}" for name in custom),
    ]


def _checked_role(role: str) -> Role:
    if role not in SETTABLE:
        raise InvalidValueError("role", role, one_of(SETTABLE))
    return Role(role)


def _check_type(session: Session, record_type: str) -> None:
    if record_type not in RECORD_TYPES and record_type not in declarations(session).by_name:
        raise InvalidValueError("record_type", record_type, "a record type that there is")


def _hold(session: Session, role: Role) -> None:
    """Let whoever sets a right of the same role wait until this is done."""
    hold_keys(session, [f"rights:{role}"])
