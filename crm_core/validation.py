"""What the fields of records may hold, checked at the edge of the store for every writer alike."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from functools import cache
from typing import Any, cast

from sqlalchemy import Column, String, Text, inspect
from sqlalchemy.types import TypeEngine

from crm_core.columns import Day, Instant, Json, Money, check_json, check_text
from crm_core.errors import InvalidValueError, UnknownFieldError
from crm_core.phrases import Phrase, one_of
from crm_core.pipelines import get_stage
from crm_core.records import (
    RECORD_TYPES,
    ActivityKind,
    ApprovalState,
    ArticleState,
    Consent,
    ContractStatus,
    DealStatus,
    Direction,
    LeadStatus,
    QuoteStatus,
    Record,
    Role,
    TicketPriority,
    TicketStatus,
)

CHOICES: dict[tuple[str, str], type[StrEnum]] = {
    ("user", "role"): Role,
    ("lead", "status"): LeadStatus,
    ("deal", "status"): DealStatus,
    ("activity", "kind"): ActivityKind,
    ("activity", "direction"): Direction,
    ("contract", "status"): ContractStatus,
    ("ticket", "status"): TicketStatus,
    ("ticket", "priority"): TicketPriority,
    ("article", "state"): ArticleState,
    ("quote", "status"): QuoteStatus,
    ("quote", "approval"): ApprovalState,
    ("lead", "consent"): Consent,
    ("contact", "consent"): Consent,
}
"""Fields that hold one of a few words."""

RANGES: dict[tuple[str, str], tuple[float, float]] = {
    ("account", "employees"): (0, 1e8),
    ("lead", "employees"): (0, 1e8),
    ("activity", "duration_seconds"): (0, 30 * 86_400),
    ("deal", "rep_probability"): (0, 1),
    ("ticket", "satisfaction"): (1, 5),
    ("quote", "discount"): (0, 1),
    ("line", "discount"): (0, 1),
    ("line", "quantity"): (0, 1e9),
    ("payment", "part"): (1, 1000),
    ("attachment", "size"): (0, 2**53),
}
"""Fields that hold a number between two others, both included."""

ORDERED: dict[str, tuple[tuple[str, str], ...]] = {
    "campaign": (("starts_on", "ends_on"),),
    "campaign_member": (("occurred_at", "responded_at"),),
    "lead": (("occurred_at", "converted_at"),),
    "deal": (("occurred_at", "closed_at"),),
    "quote": (
        ("occurred_at", "sent_at"),
        ("sent_at", "decided_at"),
        ("occurred_at", "decided_at"),
        ("occurred_at", "valid_until"),
    ),
    "contract": (("starts_on", "ends_on"), ("occurred_at", "ended_at")),
    "ticket": (("occurred_at", "closed_at"),),
}
"""Fields of which the second cannot come before the first. A payment may come before it is due, an order's
only date is when it was placed, and who enters a deal late may expect it to close on a day that is over."""


@cache
def columns_of(model: type[Record]) -> dict[str, Column[Any]]:
    """Return the columns of a record type by name."""
    return {
        attribute.key: cast("Column[Any]", attribute.columns[0]) for attribute in inspect(model).column_attrs
    }


def check_values(model: type[Record], values: Mapping[str, object]) -> None:
    """Raise UnknownFieldError or InvalidValueError for the first value that does not fit its field."""
    checks = _checks_of(model)
    for field, value in values.items():
        if field not in checks:
            raise UnknownFieldError(model.record_type, field)
        if value is not None:
            checks[field](value)
    check_order(model, values)
    if model.record_type == "deal" and values.get("stage") is not None:
        get_stage(str(values.get("pipeline") or "default"), str(values["stage"]))


def ordered_with(model: type[Record], fields: Iterable[str]) -> set[str]:
    """Return the fields that must be looked at together with these: what must come before or after them."""
    named = set(fields)
    return {name for pair in ORDERED.get(model.record_type, ()) if named & set(pair) for name in pair}


def check_order(model: type[Record], values: Mapping[str, object], *, changed: Collection[str] = ()) -> None:
    """Raise InvalidValueError, with both values, where something ends before it began.

    `values` are those of the record as it would be, `changed` the fields that somebody sets; pairs of which
    nothing is set are let be. Without `changed`, all are looked at.
    """
    for first, second in ORDERED.get(model.record_type, ()):
        start, end = values.get(first), values.get(second)
        if start is None or end is None or (changed and not {first, second} & set(changed)):
            continue
        if _ends_before(end, start):
            # The field that was set is the one to put right.
            wrong = second if not changed or second in changed else first
            expected = (
                Phrase("nothing before {other_field} ({start})", other_field=first, start=start)
                if wrong == second
                else Phrase("nothing after {other_field} ({end})", other_field=second, end=end)
            )
            shown = end if wrong == second else start
            raise InvalidValueError(f"{model.record_type}.{wrong}", _shown(shown), expected)


_DAY_ENDS = timedelta(days=1, hours=12)
"""A day is over everywhere on Earth so long after its midnight in UTC."""


def _ends_before(end: object, start: object) -> bool:
    """Say whether `end` is before `start`: instants, days, or a day and an instant in whatever time zone."""
    if isinstance(end, date) and not isinstance(end, datetime) and isinstance(start, datetime):
        end = datetime.combine(end, time.min, tzinfo=UTC) + _DAY_ENDS
    return bool(end < start)  # type: ignore[operator]  # the pairs hold two of a kind


def _shown(value: object) -> str:
    return value.isoformat() if isinstance(value, date) else str(value)


@cache
def _checks_of(model: type[Record]) -> dict[str, Callable[[Any], None]]:
    return {field: _check_of(model.record_type, field, column) for field, column in columns_of(model).items()}


def _check_of(record_type: str, field: str, column: Column[Any]) -> Callable[[Any], None]:
    name = f"{record_type}.{field}"
    key = (record_type, field)
    if field == "subject_type":
        return _one_of(name, frozenset(RECORD_TYPES))
    if key in CHOICES:
        return _choice(name, CHOICES[key])
    if key in RANGES:
        return _range(name, *RANGES[key])
    return _plain(name, column.type)


def _choice(name: str, choices: type[StrEnum]) -> Callable[[Any], None]:
    return _one_of(name, frozenset(choice.value for choice in choices))


def _one_of(name: str, words: frozenset[str]) -> Callable[[Any], None]:
    def check(value: Any) -> None:  # noqa: ANN401  whatever came
        if not isinstance(value, str) or value not in words:
            raise InvalidValueError(name, value, one_of(sorted(words)))

    return check


def _range(name: str, low: float, high: float) -> Callable[[Any], None]:
    def check(value: Any) -> None:  # noqa: ANN401  whatever came
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise InvalidValueError(
                name, value, Phrase("a number from {low:g} to {high:g}", low=low, high=high)
            )

    return check


def _plain(name: str, kind: TypeEngine[Any]) -> Callable[[Any], None]:
    if isinstance(kind, Json):
        return lambda value: check_json(name, value)
    if isinstance(kind, Instant | Day | Money):
        return lambda value: _storable(name, kind, value)
    if isinstance(kind, String | Text):
        longest = kind.length or 100_000
        return lambda value: _text(name, value, longest)
    expected = kind.python_type
    return lambda value: _typed(name, value, expected)


def _storable(name: str, kind: Instant | Day | Money, value: Any) -> None:  # noqa: ANN401  whatever came
    try:
        kind.process_bind_param(value, None)  # type: ignore[arg-type]  # no dialect matters here
    except (TypeError, ValueError, AttributeError, OverflowError) as error:
        words = {Instant: "an aware datetime", Day: "a date", Money: "an amount of money"}
        raise InvalidValueError(name, value, words[type(kind)]) from error
    except InvalidValueError as error:
        raise InvalidValueError(name, value, error.expected) from error


def _text(name: str, value: Any, longest: int) -> None:  # noqa: ANN401  whatever came
    if not isinstance(value, str):
        raise InvalidValueError(name, value, "a text")
    check_text(name, value, longest=longest)


def _typed(name: str, value: Any, expected: type) -> None:  # noqa: ANN401  whatever came
    allowed = (int, float) if expected is float else expected
    if not isinstance(value, allowed) or (expected is not bool and isinstance(value, bool)):
        raise InvalidValueError(name, value, Phrase("a value of type {name}", name=expected.__name__))
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise InvalidValueError(name, value, "an integer of 64 bits")
