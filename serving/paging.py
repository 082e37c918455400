"""Pages of a list that stay in place: the next page begins after the last record shown, whatever was added.

A cursor holds the sort value and the id of the last record of its page. Records with equal values are told
apart by id; those without a value come last. Nothing is skipped or shown twice while values stay as they are;
a record whose score changes between two pages may move across the border, as on any list that is alive.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from sqlalchemy import ColumnElement, Select, and_, false, or_, select
from sqlalchemy.orm import Session

from crm_core.access import Reader
from crm_core.clock import instant, micros
from crm_core.columns import check_text
from crm_core.errors import AccessDeniedError, InvalidValueError
from crm_core.filters import compile_filter
from crm_core.records import Account, Deal, Lead, User

R = TypeVar("R", bound=Lead | Deal | Account)

_SEARCHED: dict[str, tuple[str, ...]] = {
    "lead": ("name", "company", "email"),
    "deal": ("name",),
    "account": ("name",),
}


@dataclass(frozen=True, kw_only=True)
class Listing:
    """What a list is asked for."""

    order: str = "-probability"
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


def list_page(session: Session, user: User, model: type[R], asked: Listing) -> Page[R]:
    """Return a page of the records that `user` may see.

    Neither the search nor the order tells what is in a field that they may not see.
    """
    reader = Reader(session, user)
    if not reader.may_read_field(model.record_type, asked.order.removeprefix("-")):
        asked = replace(asked, order="-occurred_at")
    query = select(model).where(*_conditions(reader, model, asked))
    if asked.cursor is not None:
        query = query.where(_after(model, asked.order, asked.cursor))
    found: Sequence[R] = session.scalars(_sorted(query, model, asked.order).limit(asked.limit + 1)).all()
    items = found[: asked.limit]
    more = len(found) > asked.limit
    return Page(items=items, next_cursor=_cursor_of(asked.order, items[-1]) if more else None)


def _conditions(reader: Reader, model: type[R], asked: Listing) -> list[ColumnElement[bool]]:
    conditions = [model.deleted_at.is_(None), reader.readable(model)]
    # The open ones are what everybody gets who says nothing: whoever may not see which are gets all.
    may_ask = reader.may_read_field(model.record_type, "status")
    if asked.status is not None and may_ask and not issubclass(model, Account):
        conditions.append(model.status == asked.status)
    if asked.owner_id is not None:
        if not reader.may_read_field(model.record_type, "owner_id"):
            role = reader.user.role
            raise AccessDeniedError(f"the role {role} may not ask for the owner_id of a {model.record_type}")
        conditions.append(model.owner_id == asked.owner_id)
    if asked.search:
        conditions.append(_contains(reader, model, check_text("search", asked.search)))
    if asked.filter:
        conditions.append(compile_filter(reader, model.record_type, asked.filter))
    return conditions


def _contains(reader: Reader, model: type[R], text: str) -> ColumnElement[bool]:
    names = [name for name in _SEARCHED[model.record_type] if reader.may_read_field(model.record_type, name)]
    columns = [getattr(model, name) for name in names]
    return or_(false(), *(column.icontains(text.strip(), autoescape=True) for column in columns))


def _sorted(query: Select[Any], model: type[R], order: str) -> Select[Any]:
    column = _column(model, order)
    direction = column.desc() if order.startswith("-") else column.asc()
    return query.order_by(direction.nulls_last(), model.id)


def _column(model: type[R], order: str) -> Any:  # noqa: ANN401  of any sortable type
    return getattr(model, order.removeprefix("-"))


def _after(model: type[R], order: str, cursor: str) -> ColumnElement[bool]:
    value, last_id = _read_cursor(order, cursor)
    column = _column(model, order)
    if value is None:
        return and_(column.is_(None), model.id > last_id)
    beyond = column < value if order.startswith("-") else column > value
    return or_(beyond, and_(column == value, model.id > last_id), column.is_(None))


def _cursor_of(order: str, record: Lead | Deal | Account) -> str:
    value = getattr(record, order.removeprefix("-"))
    if order.endswith("occurred_at"):
        value = micros(value)
    text = json.dumps([order, value, record.id], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _read_cursor(order: str, cursor: str) -> tuple[Any, int]:
    expected = f"a cursor that a page in the order {order} gave"
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        made_for, value, last_id = json.loads(text)
        bound = _bound(order, value)
    except (binascii.Error, ValueError, TypeError, OverflowError) as error:
        raise InvalidValueError("cursor", cursor, expected) from error
    if made_for != order or type(last_id) is not int or not 0 < last_id < 2**63:
        raise InvalidValueError("cursor", cursor, expected)
    return bound, last_id


def _bound(order: str, value: float | None) -> Any:  # noqa: ANN401  of any sortable type
    if value is None:
        return None
    if not math.isfinite(value):
        raise ValueError(value)
    return instant(int(value)) if order.endswith("occurred_at") else float(value)
