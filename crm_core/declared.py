"""What is declared in a store, read once a transaction, and values checked against it.

The stored form of a custom value is JSON: a text, a number or a flag as it is, an instant in microseconds
since 1970, a day in days since 1970, money in ten-thousandths, a choice as its value, and a reference as the
id of the record. Programs may give datetimes, dates and decimals instead.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from crm_core.clock import day_number, day_of, instant, micros
from crm_core.columns import MONEY_SCALE, check_text, money_units
from crm_core.errors import FieldRetiredError, InvalidValueError, UnknownFieldError, UnknownRecordTypeError
from crm_core.fields import CUSTOM, FieldDeclaration, FieldKind, cached_declarations
from crm_core.phrases import Phrase, one_of
from crm_core.recall import recalled_by_readers
from crm_core.records import LINKABLE, RECORD_TYPES, CustomRecord, CustomRecordType, Record

_INT64 = 2**63
_LARGEST = sys.float_info.max
_LISTED = 5_000
"""Ids in one query: no database takes any number of them."""


@dataclass(frozen=True, kw_only=True)
class CustomField:
    """A declared custom field; `choices` are the values of a choice in their order."""

    record_type: str
    name: str
    kind: FieldKind
    choices: tuple[str, ...] = ()
    required: bool = False
    target: str | None = None
    retired: bool = False

    @property
    def place(self) -> str:
        """Return how messages call the field."""
        return f"{self.record_type}.{CUSTOM}{self.name}"

    def stored(self, value: object) -> Any:  # noqa: ANN401  any JSON value
        """Return a value in its stored form; raise InvalidValueError for one that the field cannot hold."""
        if value is None:
            return None
        found = _STORED[self.kind](self, value)
        if found is None:
            raise InvalidValueError(self.place, value, self.expected)
        return found

    @property
    def expected(self) -> str:
        """Return what a value must be, in words."""
        match self.kind:
            case FieldKind.CHOICE:
                return one_of(self.choices)
            case FieldKind.REFERENCE:
                return Phrase("the id of a {target}", target=self.target)
        return _EXPECTED[self.kind]


_EXPECTED = {
    FieldKind.TEXT: "a text",
    FieldKind.NUMBER: "a finite number",
    FieldKind.FLAG: "true or false",
    FieldKind.INSTANT: "an instant in microseconds since 1970",
    FieldKind.DAY: "a day in days since 1970",
    FieldKind.MONEY: "an amount of money, or ten-thousandths of one",
}


def _text(field: CustomField, value: object) -> object:
    return check_text(field.place, value) if isinstance(value, str) else None


def _number(_field: CustomField, value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if -_LARGEST <= value <= _LARGEST else None


def _flag(_field: CustomField, value: object) -> object:
    return value if isinstance(value, bool) else None


def _whole(_field: CustomField, value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if -_INT64 <= value < _INT64 else None


def _instant(_field: CustomField, value: object) -> object:
    if isinstance(value, datetime):
        return micros(value) if value.tzinfo is not None else None
    return _written_out(value, instant)


def _day(_field: CustomField, value: object) -> object:
    if isinstance(value, date):
        return None if isinstance(value, datetime) else day_number(value)
    return _written_out(value, day_of)


def _written_out(value: object, read: Callable[[int], object]) -> object:
    """Return a number that stands for an instant or a day in a year that can be shown, else None."""
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    try:
        read(value)
    except (OverflowError, ValueError):
        return None
    return value


def _money(field: CustomField, value: object) -> object:
    return money_units(value, field.place) if isinstance(value, Decimal) else _whole(field, value)


def _choice(field: CustomField, value: object) -> object:
    return value if value in field.choices else None


def _reference(field: CustomField, value: object) -> object:
    found = _whole(field, value)
    return found if isinstance(found, int) and found > 0 else None


_STORED: dict[FieldKind, Callable[[CustomField, object], object]] = {
    FieldKind.TEXT: _text,
    FieldKind.NUMBER: _number,
    FieldKind.FLAG: _flag,
    FieldKind.INSTANT: _instant,
    FieldKind.DAY: _day,
    FieldKind.MONEY: _money,
    FieldKind.CHOICE: _choice,
    FieldKind.REFERENCE: _reference,
}


def plain_form(kind: FieldKind, value: Any) -> Any:  # noqa: ANN401  any JSON value
    """Return a stored value as people and the API write it: days, instants and amounts as texts."""
    if value is None or kind not in _PLAIN or isinstance(value, str | bool):
        return value
    return _PLAIN[kind](value)


_PLAIN: dict[FieldKind, Callable[[Any], str]] = {
    FieldKind.DAY: lambda value: day_of(value).isoformat(),
    FieldKind.INSTANT: lambda value: instant(value).isoformat().replace("+00:00", "Z"),
    FieldKind.MONEY: lambda value: format(Decimal(value) / MONEY_SCALE, "f"),
}


def plain_custom(
    session: Session, record_type: str, values: Mapping[str, Any] | None
) -> dict[str, Any] | None:
    """Return the custom values of a record in their plain form."""
    fields = declarations(session).fields(record_type)
    if values is None:
        return None
    return {
        name: plain_form(fields[name].kind, value) if name in fields else value
        for name, value in values.items()
    }


def read_plain(session: Session, record_type: str, values: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return custom values in their plain form as the store takes them; amounts may be numbers too."""
    fields = declarations(session).fields(record_type)
    if values is None:
        return None
    return {
        name: _read_plain(fields[name], value) if name in fields else value for name, value in values.items()
    }


def _read_plain(field: CustomField, value: Any) -> Any:  # noqa: ANN401  any JSON value
    if field.kind is FieldKind.MONEY and not isinstance(value, bool) and isinstance(value, int | float):
        return Decimal(str(value))
    if not isinstance(value, str) or field.kind not in _READ:
        return value
    read, expected = _READ[field.kind]
    try:
        return read(value)
    except (ValueError, InvalidOperation) as error:
        raise InvalidValueError(field.place, value, expected) from error


_READ: dict[FieldKind, tuple[Callable[[str], Any], str]] = {
    FieldKind.DAY: (date.fromisoformat, "a day such as 2026-03-02"),
    FieldKind.INSTANT: (datetime.fromisoformat, "an instant such as 2026-03-02T09:00:00Z"),
    FieldKind.MONEY: (Decimal, "an amount such as 99.50"),
}


@dataclass(frozen=True, kw_only=True)
class DeclaredType:
    """A declared record type and what its records may be linked to."""

    type_id: int
    name: str
    links: frozenset[str]
    retired: bool

    def check_links(self, values: Mapping[str, Any]) -> None:
        """Raise InvalidValueError for a link that the type was not declared with."""
        for record_type in LINKABLE:
            column = f"{record_type}_id"
            if values.get(column) is not None and record_type not in self.links:
                raise InvalidValueError(f"{self.name}.{column}", values[column], self._nothing())
        if values.get("parent_id") is not None and not self.parents:
            raise InvalidValueError(f"{self.name}.parent_id", values["parent_id"], self._nothing())

    @property
    def parents(self) -> frozenset[str]:
        """Return the declared record types that a record of this one may belong to."""
        return self.links - set(LINKABLE)

    def _nothing(self) -> str:
        if not self.links:
            return Phrase("nothing: a {record_type} is linked to no other record", record_type=self.name)
        links = tuple(sorted(self.links))
        return Phrase("nothing: a {record_type} is linked to {targets}", record_type=self.name, targets=links)


class Declarations:
    """The custom fields and record types of a store."""

    def __init__(self, fields: Iterable[CustomField], types: Iterable[DeclaredType]) -> None:
        self._fields: dict[str, dict[str, CustomField]] = defaultdict(dict)
        for field in fields:
            self._fields[field.record_type][field.name] = field
        self._required = {
            record_type: [field for field in some.values() if field.required and not field.retired]
            for record_type, some in self._fields.items()
        }
        self.types = {each.type_id: each for each in types}
        self.by_name = {each.name: each for each in self.types.values()}

    def fields(self, record_type: str) -> Mapping[str, CustomField]:
        """Return the custom fields of a record type by name, without `custom.`."""
        return self._fields.get(record_type, {})

    def get_field(self, record_type: str, name: str) -> CustomField:
        """Return a custom field that takes values; raise UnknownFieldError or FieldRetiredError."""
        field = self.fields(record_type).get(name)
        if field is None:
            raise UnknownFieldError(record_type, f"{CUSTOM}{name}")
        if field.retired:
            raise FieldRetiredError(record_type, f"{CUSTOM}{name}")
        return field

    def required(self, record_type: str) -> Sequence[CustomField]:
        """Return the fields that every new record of a type needs."""
        return self._required.get(record_type, ())

    def has_references(self, record_type: str) -> bool:
        """Return whether a record type has fields that name other records."""
        return any(field.kind is FieldKind.REFERENCE for field in self.fields(record_type).values())

    def takes(self, record_type: str, name: str) -> bool:
        """Return whether a custom field is declared and not retired."""
        field = self.fields(record_type).get(name)
        return field is not None and not field.retired

    def stored(
        self, record_type: str, values: Mapping[str, Any] | None, *, new: bool
    ) -> dict[str, Any] | None:
        """Return custom values in their stored form; those of a `new` record must hold every required one.

        Raises UnknownFieldError, FieldRetiredError or InvalidValueError for the first that is wrong.
        """
        ready = None if values is None else {n: self._stored(record_type, n, v) for n, v in values.items()}
        for field in self.required(record_type) if new else ():
            if ready is None or ready.get(field.name) is None:
                raise InvalidValueError(
                    field.place, None, Phrase("{expected}: the field is required", expected=field.expected)
                )
        return ready

    def _stored(self, record_type: str, name: str, value: object) -> Any:  # noqa: ANN401  any JSON value
        field = self.get_field(record_type, name)
        if value is None and field.required:
            raise InvalidValueError(
                field.place, None, Phrase("{expected}: the field is required", expected=field.expected)
            )
        return field.stored(value)


def declarations(session: Session) -> Declarations:
    """Return what is declared; read once a session, and again after a declaration in it."""
    return cached_declarations(session, _recall_or_read)


def _recall_or_read(session: Session) -> Declarations:
    # Who writes goes by what is declared at this very moment, whichever process declared it.
    return recalled_by_readers(session, "declarations", lambda: _read(session))


def _read(session: Session) -> Declarations:
    fields = session.execute(
        select(
            FieldDeclaration.record_type,
            FieldDeclaration.name,
            FieldDeclaration.kind,
            FieldDeclaration.choices,
            FieldDeclaration.required,
            FieldDeclaration.target,
            FieldDeclaration.retired_at,
        ).where(FieldDeclaration.kind.is_not(None))
    )
    kinds = session.execute(
        select(
            CustomRecordType.id, CustomRecordType.name, CustomRecordType.links, CustomRecordType.retired_at
        )
    )
    return Declarations(
        [
            CustomField(
                record_type=record_type,
                name=name.removeprefix(CUSTOM),
                kind=FieldKind(kind or ""),
                choices=tuple(each["value"] for each in choices or ()),
                required=required,
                target=target,
                retired=retired_at is not None,
            )
            for record_type, name, kind, choices, required, target, retired_at in fields
        ],
        [
            DeclaredType(type_id=key, name=name, links=frozenset(links), retired=retired_at is not None)
            for key, name, links, retired_at in kinds
        ],
    )


def check_custom(
    session: Session, record_type: str, values: Mapping[str, Any], *, new: bool = False
) -> dict[str, Any]:
    """Return custom values in their stored form; raise for one that its field cannot hold."""
    return declarations(session).stored(record_type, values, new=new) or {}


def type_of(session: Session, type_id: object) -> DeclaredType:
    """Return a declared record type by its id."""
    found = declarations(session).types.get(type_id) if isinstance(type_id, int) else None
    if found is None and isinstance(type_id, int):
        found = cached_declarations(session, _read, afresh=True).types.get(type_id)
    if found is None:
        raise UnknownRecordTypeError(Phrase("type {type_id}", type_id=type_id))
    return found


def logical_type(session: Session, record: Record) -> str:
    """Return the record type that a record's fields are declared under: its own, or the declared one."""
    if isinstance(record, CustomRecord):
        return type_of(session, record.type_id).name
    return record.record_type


# ------------------------------------------------------------------------------------------------ rows


@dataclass(frozen=True, kw_only=True)
class Written:
    """What is about to be written of one record: columns and `custom`, in stored form."""

    record_type: str
    values: Mapping[str, Any]
    custom: Mapping[str, Any]
    record_id: int | None = None


def check_written(session: Session, rows: Sequence[Written]) -> None:
    """Raise InvalidValueError for references and parents that are not there; a query a record type."""
    declared = declarations(session)
    wanted: dict[str, dict[int, str]] = defaultdict(dict)
    for row in rows:
        fields = declared.fields(row.record_type)
        for name, value in row.custom.items():
            field = fields[name]
            if field.kind is FieldKind.REFERENCE and value is not None:
                wanted[field.target or ""][value] = field.place
    for target, places in wanted.items():
        missing = places.keys() - _existing(session, target, places)
        if missing:
            record_id = min(missing)
            raise InvalidValueError(
                places[record_id], record_id, Phrase("the id of a {target} that exists", target=target)
            )
    _check_parents(session, [row for row in rows if row.values.get("parent_id") is not None])


def _existing(session: Session, target: str, ids: Iterable[int]) -> set[int]:
    model = RECORD_TYPES.get(target, CustomRecord)
    query = select(model.id).where(model.deleted_at.is_(None))
    if model is CustomRecord:
        kind = declarations(session).by_name.get(target)
        query = query.where(CustomRecord.type_id == (kind.type_id if kind else None))
    wanted, found = list(ids), set[int]()
    for start in range(0, len(wanted), _LISTED):
        found.update(session.scalars(query.where(model.id.in_(wanted[start : start + _LISTED]))))
    return found


def _check_parents(session: Session, rows: Sequence[Written]) -> None:
    """Raise InvalidValueError for a parent of a type that was not declared, or below the record itself."""
    custom = [row for row in rows if row.record_type not in RECORD_TYPES]
    if not custom:
        return
    declared = declarations(session)
    parents = {row.values["parent_id"] for row in custom}
    query = select(CustomRecord.id, CustomRecord.type_id).where(
        CustomRecord.id.in_(parents), CustomRecord.deleted_at.is_(None)
    )
    types = {key: type_of(session, type_id).name for key, type_id in session.execute(query)}
    for row in custom:
        parent, wanted = row.values["parent_id"], declared.by_name[row.record_type].parents
        if types.get(parent) not in wanted:
            raise InvalidValueError(f"{row.record_type}.parent_id", parent, _of_one(wanted))
        if row.record_id is not None and row.record_id in _above(session, parent):
            expected = Phrase(
                "a record that does not belong to {record_type} {record_id} itself",
                record_type=row.record_type,
                record_id=row.record_id,
            )
            raise InvalidValueError(f"{row.record_type}.parent_id", parent, expected)


def _of_one(types: Iterable[str]) -> Phrase:
    return Phrase("the id of a {or_targets}", or_targets=" or ".join(sorted(types)))


def _above(session: Session, record_id: int | None) -> set[int]:
    chain: set[int] = set()
    while record_id is not None and record_id not in chain:
        chain.add(record_id)
        record_id = session.scalar(select(CustomRecord.parent_id).where(CustomRecord.id == record_id))
    return chain
