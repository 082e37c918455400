"""Column types that mean the same on SQLite and PostgreSQL and read straight into integer arrays."""

from __future__ import annotations

import json
import math
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from sqlalchemy import BigInteger, Dialect, Integer, LargeBinary, Text
from sqlalchemy.types import TypeDecorator, TypeEngine

from crm_core.clock import day_number, day_of, instant, micros
from crm_core.errors import InvalidValueError, UnsafeTextError
from crm_core.packing import pack_json, unpack_json
from crm_core.phrases import Phrase

MONEY_SCALE = 10_000
"""Stored units in one unit of a currency: four decimals, so that sums are exact integers."""

_INT64 = 2**63


class Instant(TypeDecorator[datetime]):
    """An aware UTC datetime, stored as microseconds since 1970-01-01."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        """Return what is stored."""
        return None if value is None else micros(value)

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:
        """Return what was stored."""
        return None if value is None else instant(value)


class Day(TypeDecorator[date]):
    """A calendar day, stored as days since 1970-01-01."""

    impl = Integer
    cache_ok = True

    def process_bind_param(self, value: date | None, dialect: Dialect) -> int | None:
        """Return what is stored."""
        return None if value is None else day_number(value)

    def process_result_value(self, value: int | None, dialect: Dialect) -> date | None:
        """Return what was stored."""
        return None if value is None else day_of(value)


class Money(TypeDecorator[Decimal]):
    """An amount of money, stored as ten-thousandths of the currency's unit."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: Decimal | float | str | None, dialect: Dialect) -> int | None:
        """Return what is stored."""
        return None if value is None else money_units(value)

    def process_result_value(self, value: int | None, dialect: Dialect) -> Decimal | None:
        """Return what was stored."""
        return None if value is None else Decimal(value) / MONEY_SCALE


class Json(TypeDecorator[Any]):
    """A JSON value, stored as compact text with sorted keys; None is stored as NULL."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: object, dialect: Dialect) -> str | None:
        """Return what is stored."""
        return None if value is None else dump_json(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:  # noqa: ANN401  any JSON
        """Return what was stored."""
        return None if value is None else json.loads(value)


class _Bytes(LargeBinary):
    """Bytes as the driver gives them; text is left as it is."""

    def result_processor(self, dialect: Dialect, coltype: object) -> None:
        """Do nothing."""


class PackedJson(Json):
    """A JSON value whose text is packed, see `crm_core.packing`; what is not packed yet is read as well.

    SQLite has it in a column of texts, as it had before: there a value is of the type that was put in.
    """

    impl = _Bytes  # type: ignore[assignment]  # a Json for whoever asks, stored otherwise
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Return the type of the database."""
        return dialect.type_descriptor(Text() if dialect.name == "sqlite" else _Bytes())

    def process_bind_param(self, value: object, dialect: Dialect) -> Any:  # noqa: ANN401  bytes, where Json has text
        """Return what is stored."""
        return None if value is None else pack_json(dump_json(value))

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:  # noqa: ANN401  any JSON
        """Return what was stored."""
        return None if value is None else json.loads(unpack_json(value))


def dump_json(value: object) -> str:
    """Return the one text that stands for `value`; NaN and infinity are refused."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":"))


def money_units(value: Decimal | float | str, field: str = "amount") -> int:
    """Return `value` in ten-thousandths, rounded half to even; refuse what is no finite number."""
    try:
        number = Decimal(str(value))
        units = int((number * MONEY_SCALE).to_integral_value())
    except (InvalidOperation, ValueError, OverflowError) as error:
        raise InvalidValueError(field, value, "a finite amount of money") from error
    if abs(units) >= _INT64:
        raise InvalidValueError(field, value, Phrase("an amount below {int64}", int64=_INT64 // MONEY_SCALE))
    return units


def check_text(field: str, value: str, *, longest: int = 100_000) -> str:
    """Return `value` if every database and browser can hold it; raise UnsafeTextError if not."""
    if "\x00" in value:
        raise UnsafeTextError(field, value, "a text without NUL")
    if not value.isascii():
        _check_unicode(field, value)
    if len(value) > longest:
        raise InvalidValueError(
            field,
            Phrase("{count} characters", count=len(value)),
            Phrase("at most {longest} characters", longest=longest),
        )
    return value


def _check_unicode(field: str, value: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise UnsafeTextError(field, value, "a text of whole Unicode characters") from error


def check_json(field: str, value: object) -> None:
    """Refuse unsafe text and numbers that are not finite anywhere inside a JSON value."""
    match value:
        case str():
            check_text(field, value)
        case float() if not math.isfinite(value):
            raise InvalidValueError(field, value, "a finite number")
        case dict():
            for key, inner in value.items():
                check_text(field, str(key))
                check_json(f"{field}.{key}", inner)
        case list():
            for inner in value:
                check_json(field, inner)
