"""Members of JSON objects in SQL: the values of custom fields as columns that can be compared.

A member that holds another kind of value than asked for (an old store may) reads as NULL, never as an error.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    ColumnElement,
    Float,
    Numeric,
    and_,
    case,
    cast,
    func,
    type_coerce,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Session
from sqlalchemy.types import BigInteger, String, TypeEngine

_TYPES: dict[type[TypeEngine[Any]], tuple[str, ...]] = {
    String: ("string", "text"),
    Float: ("number", "integer", "real"),
    BigInteger: ("number", "integer"),
    Boolean: ("boolean", "true", "false"),
}
"""What PostgreSQL and SQLite call the JSON types of values of each kind."""


def member(session: Session, column: Column[Any], name: str, kind: TypeEngine[Any]) -> ColumnElement[Any]:
    """Return the member `name` of a JSON column as a String, Float, BigInteger or Boolean."""
    element = _element(session, column, name)
    text = element.as_string()
    value: ColumnElement[Any] = type_coerce(text, kind)
    if _is_postgresql(session) and not isinstance(kind, String):
        # Numbers stay exact; an id or an instant is compared as the whole number that it is.
        value = cast(text, kind) if isinstance(kind, Boolean) else type_coerce(cast(text, Numeric), kind)
    return case((_type(session, column, name).in_(_TYPES[type(kind)]), value))


def is_present(session: Session, column: Column[Any], name: str) -> ColumnElement[bool]:
    """Return the condition that a JSON column has a member `name` that is not null."""
    return and_(column.is_not(None), func.coalesce(_type(session, column, name), "null") != "null")


def _element(session: Session, column: Column[Any], name: str) -> Any:  # noqa: ANN401  a JSON expression
    return cast(column, JSONB)[name] if _is_postgresql(session) else type_coerce(column, JSON)[name]


def _type(session: Session, column: Column[Any], name: str) -> ColumnElement[str]:
    if _is_postgresql(session):
        return func.jsonb_typeof(_element(session, column, name))
    return func.json_type(type_coerce(column, String), f'$."{name}"')


def _is_postgresql(session: Session) -> bool:
    return session.get_bind().dialect.name == "postgresql"
