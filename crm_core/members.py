"""Members of JSON objects in SQL: the values of custom fields as columns that can be compared.

A member that holds another kind of value than asked for (an old store may) reads as NULL, never as an error.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
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
    value = _of_postgresql(column, name, kind) if _is_postgresql(session) else _of_sqlite(column, name)
    return case((_type(session, column, name).in_(_TYPES[type(kind)]), type_coerce(value, kind)))


def _of_postgresql(column: Column[Any], name: str, kind: TypeEngine[Any]) -> ColumnElement[Any]:
    text = cast(column, JSONB)[name].as_string()
    if isinstance(kind, Boolean):
        return cast(text, kind)
    return text if isinstance(kind, String) else cast(text, Numeric)  # exact for whole numbers too


def _of_sqlite(column: Column[Any], name: str) -> ColumnElement[Any]:
    return func.json_extract(type_coerce(column, String), _path(name))


def is_present(session: Session, column: Column[Any], name: str) -> ColumnElement[bool]:
    """Return the condition that a JSON column has a member `name` that is not null."""
    return and_(column.is_not(None), func.coalesce(_type(session, column, name), "null") != "null")


def _type(session: Session, column: Column[Any], name: str) -> ColumnElement[str]:
    if _is_postgresql(session):
        return func.jsonb_typeof(cast(column, JSONB)[name])
    return func.json_type(type_coerce(column, String), _path(name))


def _path(name: str) -> str:
    return f'$."{name}"'


def _is_postgresql(session: Session) -> bool:
    return session.get_bind().dialect.name == "postgresql"
