"""What the change log says, as somebody may see it: values in plain form, hidden fields left out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import ColumnElement, and_, literal, or_, select
from sqlalchemy.orm import Session

from crm_core.access import Reader
from crm_core.bulk import loaded_form
from crm_core.changes import Action, Change
from crm_core.declared import declarations, plain_form, type_of
from crm_core.fields import CUSTOM
from crm_core.records import RECORD_TYPES, CustomRecord, Role
from crm_core.validation import columns_of


def plain_value(session: Session, record_type: str, field: str | None, stored: Any) -> Any:  # noqa: ANN401  any JSON value
    """Return a value of the log as the API writes it: instants, days and amounts as texts.

    `record_type` is the declared one for a record of a declared type.
    """
    if field is None or stored is None:
        return stored
    if field.startswith(CUSTOM):
        declared = declarations(session).fields(record_type).get(field.removeprefix(CUSTOM))
        return stored if declared is None else plain_form(declared.kind, stored)
    model = RECORD_TYPES.get(record_type, CustomRecord)
    return _written(loaded_form(model, field, stored)) if field in columns_of(model) else stored


def _written(value: object) -> object:
    match value:
        case datetime():
            return value.isoformat().replace("+00:00", "Z")
        case date():
            return value.isoformat()
        case Decimal():
            return format(value, "f")
    return value


def told_fields(reader: Reader, record_type: str) -> ColumnElement[bool]:
    """Return the condition that a change of a record of a type is of a field that may be seen."""
    model = RECORD_TYPES.get(record_type, CustomRecord)
    custom = (f"{CUSTOM}{name}" for name in declarations(reader.session).fields(record_type))
    hidden = [name for name in (*columns_of(model), *custom) if not reader.may_read_field(record_type, name)]
    seen: ColumnElement[bool] = Change.field.not_in(hidden)
    if "custom" in hidden:
        seen = and_(seen, Change.field.not_like(f"{CUSTOM}%"))
    return or_(Change.field.is_(None), seen)


def list_told(reader: Reader, changes: Sequence[Change]) -> list[tuple[str, Change]]:
    """Return those changes that the reader may know of, each with its record type, which may be declared.

    A record is told of to those who may see it, and to nobody else when it is deleted. That somebody's data
    was handed out is told to administrators only.
    """
    types = _types(reader, changes)
    return [
        (types[key], change)
        for change in changes
        if (key := (change.record_type, change.record_id)) in types and _may_know(reader, types[key], change)
    ]


def _may_know(reader: Reader, record_type: str, change: Change) -> bool:
    if change.action == Action.EXPORTED:
        return reader.user.role == Role.ADMIN
    return change.field is None or reader.may_read_field(record_type, change.field)


def _types(reader: Reader, changes: Iterable[Change]) -> dict[tuple[str, int], str]:
    """Return the records of changes that may be seen, deleted ones too, with their declared type if any."""
    wanted: dict[str, set[int]] = defaultdict(set)
    for change in changes:
        if change.record_type in RECORD_TYPES:
            wanted[change.record_type].add(change.record_id)
    seen: dict[tuple[str, int], str] = {}
    for record_type, ids in wanted.items():
        model = RECORD_TYPES[record_type]
        declared = columns_of(model).get("type_id", literal(None))
        query = select(model.id, declared).where(model.id.in_(ids), reader.readable(model))
        for record_id, type_id in reader.session.execute(query):
            name = record_type if type_id is None else type_of(reader.session, type_id).name
            seen[record_type, record_id] = name
    return seen
