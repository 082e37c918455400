"""Pages of a list that stay in place: the next page begins after the last record shown, whatever was added.

A cursor holds the sort values and the id of the last record of its page, in the form in which they are
stored. Records with equal values are told apart by id; those without a value come last. Nothing is skipped or
shown twice while values stay as they are; a record whose score changes between two pages may move across the
border, as on any list that is alive.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final, Generic, TypeVar

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Float,
    Integer,
    Select,
    String,
    Text,
    and_,
    false,
    or_,
    select,
    type_coerce,
)
from sqlalchemy.orm import Session

from crm_core.access import Reader
from crm_core.bulk import stored_form
from crm_core.columns import Day, Instant, Json, Money, check_text
from crm_core.declared import CustomField, declarations
from crm_core.errors import AccessDeniedError, InvalidValueError, UnknownFieldError
from crm_core.fields import CUSTOM, FieldKind
from crm_core.filters import compile_filter
from crm_core.members import member
from crm_core.phrases import Phrase
from crm_core.records import Record, Scored, User, likeliest_first
from crm_core.search_index import SEARCHED
from crm_core.validation import columns_of

R = TypeVar("R", bound=Record)

MOST_KEYS: Final = 3
"""Fields that a list may be sorted by at once."""

_BY_DATE: Final = "-occurred_at"


@dataclass(frozen=True, kw_only=True)
class Listing:
    """What a list is asked for; without an order, the likeliest or else the newest come first."""

    order: str | None = None
    status: str | None = None
    owner_id: int | None = None
    search: str | None = None
    filter: Sequence[str] = ()
    limit: int = 50
    cursor: str | None = None


@dataclass(frozen=True, kw_only=True)
class Page(Generic[R]):
    """One page, and where the next one begins."""

    items: Sequence[R]
    next_cursor: str | None


@dataclass(frozen=True, kw_only=True)
class _Key:
    """A field to sort by: its SQL in stored form, and how a bound value is read from a cursor."""

    field: str
    falling: bool
    column: ColumnElement[Any]
    holds: type
    may_be_empty: bool

    def value_of(self, record: Record) -> Any:  # noqa: ANN401  of the column's type
        """Return a record's value, in stored form."""
        if self.field.startswith(CUSTOM):
            held = (record.custom or {}).get(self.field.removeprefix(CUSTOM))
            fits = type(held) in ((int, float) if self.holds is float else (self.holds,))
            return held if fits else None  # as SQL reads a value of another kind
        return stored_form(type(record), self.field, getattr(record, self.field))

    def sorted(self) -> tuple[ColumnElement[Any], ...]:
        """Return how SQL sorts by it."""
        if self.falling and self.field == "probability":
            return likeliest_first(self.column)
        ordered = self.column.desc() if self.falling else self.column.asc()
        return (ordered.nulls_last() if self.may_be_empty else ordered,)

    def same(self, value: Any) -> ColumnElement[bool]:  # noqa: ANN401  as above
        """Return the condition that a record has just this value."""
        return self.column.is_(None) if value is None else self.column == value

    def beyond(self, value: Any) -> ColumnElement[bool]:  # noqa: ANN401  as above
        """Return the condition that a record comes after those with this value."""
        if value is None:
            return false()
        after = self.column < value if self.falling else self.column > value
        return or_(after, self.column.is_(None)) if self.may_be_empty else after


def list_page(
    session: Session, user: User, model: type[R], asked: Listing, *, record_type: str | None = None
) -> Page[R]:
    """Return a page of the records of a type, built in or declared, that `user` may see.

    Neither the search nor the order tells what is in a field that they may not see.
    """
    reader, kind = Reader(session, user), record_type or model.record_type
    order = asked.order or _usual_order(reader, model, kind)
    keys = _keys(reader, model, kind, order)
    query = select(model).where(*conditions_of(reader, model, kind, asked))
    return _page(session, model, query, order, keys, asked)


def newest_page(
    session: Session, model: type[R], query: Select[R], *, limit: int, cursor: str | None
) -> Page[R]:
    """Return a page of what a query finds, newest first."""
    key = _plain_key(columns_of(model)["occurred_at"], "occurred_at", falling=True)
    asked = Listing(limit=limit, cursor=cursor)
    return _page(session, model, query.order_by(None), _BY_DATE, [key], asked)


def _page(
    session: Session, model: type[R], query: Select[R], order: str, keys: Sequence[_Key], asked: Listing
) -> Page[R]:
    if asked.cursor is not None:
        query = query.where(_after(model, keys, order, asked.cursor))
    query = query.order_by(*chain.from_iterable(key.sorted() for key in keys), model.id)
    found: Sequence[R] = session.scalars(query.limit(asked.limit + 1)).all()
    items = found[: asked.limit]
    more = len(found) > asked.limit
    return Page(items=items, next_cursor=_cursor_of(order, keys, items[-1]) if more else None)


def _usual_order(reader: Reader, model: type[Record], kind: str) -> str:
    scored = issubclass(model, Scored) and reader.may_read_field(kind, "probability")
    return "-probability" if scored else _BY_DATE


def conditions_of(reader: Reader, model: type[R], kind: str, asked: Listing) -> list[ColumnElement[bool]]:
    """Return the conditions that a record is one of those that are asked for and may be seen."""
    columns = columns_of(model)
    conditions = [model.deleted_at.is_(None), reader.readable(model)]
    # The open ones are what everybody gets who says nothing: whoever may not see which are gets all.
    if asked.status is not None and "status" in columns and reader.may_read_field(kind, "status"):
        conditions.append(columns["status"] == asked.status)
    if asked.owner_id is not None:
        if not reader.may_read_field(kind, "owner_id"):
            raise AccessDeniedError(
                Phrase(
                    "the role {role} may not ask for the owner_id of a {record_type}",
                    role=reader.user.role,
                    record_type=kind,
                )
            )
        conditions.append(columns["owner_id"] == asked.owner_id)
    if asked.search:
        conditions.append(_contains(reader, model, kind, check_text("search", asked.search)))
    if asked.filter or kind != model.record_type:
        conditions.append(compile_filter(reader, kind, asked.filter))
    return conditions


def _contains(reader: Reader, model: type[R], kind: str, text: str) -> ColumnElement[bool]:
    columns = columns_of(model)
    names = [name for name in SEARCHED[model.record_type] if reader.may_read_field(kind, name)]
    texts = [columns[name] for name in names if isinstance(columns[name].type, String)]
    return or_(false(), *(column.icontains(text.strip(), autoescape=True) for column in texts))


# ------------------------------------------------------------------------------------------------ order


def _keys(reader: Reader, model: type[Record], kind: str, order: str) -> list[_Key]:
    """Return what an order sorts by; refuse fields that there are not, may not be seen, or have no order."""
    fields = order.split(",")
    names = [field.removeprefix("-") for field in fields]
    if len(fields) > MOST_KEYS or len(set(names)) < len(names):
        raise InvalidValueError(
            "order", order, Phrase("up to {most} different fields with commas between", most=MOST_KEYS)
        )
    return [
        _key(reader, model, kind, name, falling=field.startswith("-"))
        for field, name in zip(fields, names, strict=True)
    ]


def _key(reader: Reader, model: type[Record], kind: str, name: str, *, falling: bool) -> _Key:
    check_text("order", name)
    columns = columns_of(model)
    custom = declarations(reader.session).fields(kind).get(name.removeprefix(CUSTOM))
    is_custom = name.startswith(CUSTOM)
    if (custom is None) if is_custom else (name not in columns):
        raise UnknownFieldError(kind, name)
    if not reader.may_read_field(kind, name):
        raise AccessDeniedError(
            Phrase(
                "the role {role} may not sort by {record_type}.{field}",
                role=reader.user.role,
                record_type=kind,
                field=name,
            )
        )
    if is_custom and custom is not None:
        return _custom_key(reader.session, columns["custom"], custom, falling=falling)
    return _plain_key(columns[name], name, falling=falling)


def _plain_key(column: Column[Any], name: str, *, falling: bool) -> _Key:
    kind = column.type
    if isinstance(kind, Json | Text):
        raise InvalidValueError(
            "order", name, "a field with an order: a text, number, amount, day, instant or flag"
        )
    whole = isinstance(kind, Instant | Day | Money | Integer)
    held = int if whole else bool if isinstance(kind, Boolean) else float if isinstance(kind, Float) else str
    return _Key(
        field=name,
        falling=falling,
        # Instants, days and amounts are stored as whole numbers, and so are they in a cursor.
        column=type_coerce(column, BigInteger()) if whole else column,
        holds=held,
        may_be_empty=bool(column.nullable),
    )


_CUSTOM: dict[FieldKind, tuple[type, Any]] = {
    FieldKind.TEXT: (str, String()),
    FieldKind.CHOICE: (str, String()),
    FieldKind.NUMBER: (float, Float()),
    FieldKind.FLAG: (bool, Boolean()),
    FieldKind.INSTANT: (int, BigInteger()),
    FieldKind.DAY: (int, BigInteger()),
    FieldKind.MONEY: (int, BigInteger()),
    FieldKind.REFERENCE: (int, BigInteger()),
}


def _custom_key(session: Session, column: Column[Any], field: CustomField, *, falling: bool) -> _Key:
    held, stored = _CUSTOM[field.kind]
    return _Key(
        field=f"{CUSTOM}{field.name}",
        falling=falling,
        column=member(session, column, field.name, stored),
        holds=held,
        may_be_empty=True,
    )


# ------------------------------------------------------------------------------------------------ cursors


def _after(model: type[Record], keys: Sequence[_Key], order: str, cursor: str) -> ColumnElement[bool]:
    """Return the condition that a record comes after the last one of the page before."""
    values, last_id = _read_cursor(keys, order, cursor)
    paired = list(zip(keys, values, strict=True))
    ways = [
        and_(*(key.same(value) for key, value in paired[:place]), keys[place].beyond(values[place]))
        for place in range(len(keys))
    ]
    return or_(*ways, and_(*(key.same(value) for key, value in paired), model.id > last_id))


def _cursor_of(order: str, keys: Sequence[_Key], record: Record) -> str:
    values = [key.value_of(record) for key in keys]
    text = json.dumps([order, values, record.id], separators=(",", ":"), ensure_ascii=False)
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _read_cursor(keys: Sequence[_Key], order: str, cursor: str) -> tuple[list[Any], int]:
    expected = Phrase("a cursor that a page in the order {order} gave", order=order)
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        made_for, values, last_id = json.loads(text)
        bound = [_bound(key, value) for key, value in zip(keys, values, strict=True)]
    except (binascii.Error, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise InvalidValueError("cursor", cursor, expected) from error
    if made_for != order or type(last_id) is not int or not 0 < last_id < 2**63:
        raise InvalidValueError("cursor", cursor, expected)
    return bound, last_id


def _bound(key: _Key, value: Any) -> Any:  # noqa: ANN401  of any sortable type
    """Return a value of a cursor, refused unless it is one that the field can hold."""
    if value is None:
        return None
    if key.holds is float and type(value) in {int, float} and math.isfinite(value):
        return float(value)
    fits = type(value) is key.holds
    if not fits or (key.holds is int and not -(2**63) <= value < 2**63):
        raise ValueError(value)
    # A NUL or half a character is a ValueError's business here: nobody wrote it by hand.
    return _safe(value) if key.holds is str else value


def _safe(value: str) -> str:
    value.encode()
    if "\x00" in value:
        raise ValueError(value)
    return value
