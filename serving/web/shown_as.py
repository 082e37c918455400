"""How numbers, money, instants and ages are shown, by the locale of the page."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, cast

import flask_babel

from crm_core.changes import Change
from crm_core.clock import day_of, instant, micros
from crm_core.columns import MONEY_SCALE
from crm_core.declared import plain_custom, plain_form
from crm_core.fields import CUSTOM, FieldKind
from crm_core.records import Account, Deal, Lead
from features.choices import choices_of, read_as
from serving.service import page_session, service
from serving.web.gate_words import gate_reason
from serving.web.language import choose_language, gettext
from serving.web.records import Row, Sheet
from serving.web.words import word

if TYPE_CHECKING:
    from models.what_if import Hint

NOTHING = "–"  # noqa: RUF001  a dash, as one sets it


def percent(value: float | None, digits: int | None = None) -> str:
    """Return a probability in percent; near the ends with a decimal, and never as certain when it is not."""
    if value is None:
        return NOTHING
    if digits is None and not 0.0005 <= value < 0.9995:
        sign, shown = ("<", 0.001) if value < 0.5 else (">", 0.999)
        return sign + percent(shown, 1)
    decimals = digits if digits is not None else (0 if 0.0995 <= value < 0.995 else 1)
    pattern = "#,##0." + "0" * decimals + "%" if decimals else "#,##0%"
    return cast("str", flask_babel.format_percent(value, pattern))


def points(value: float) -> str:
    """Return a difference of probabilities in percentage points, without its sign."""
    size = abs(value) * 100
    return cast("str", flask_babel.format_decimal(size, "#,##0" if size >= 1 else "0.0"))


def number(value: float | Decimal | None, digits: int | None = None) -> str:
    """Return a number."""
    if value is None:
        return NOTHING
    pattern = None if digits is None else "#,##0." + "0" * digits
    return cast("str", flask_babel.format_decimal(value, pattern))


def money(value: Decimal | None, currency: str | None) -> str:
    """Return an amount with its currency, without decimals that are zero."""
    if value is None:
        return NOTHING
    if currency is None:
        return number(float(value))
    pattern = None if value % 1 else "¤#,##0"
    return cast(
        "str", flask_babel.format_currency(value, currency, format=pattern, currency_digits=bool(value % 1))
    )


def moment(value: datetime | None) -> str:
    """Return day and time of an instant, in the reader's time zone."""
    if value is None:
        return NOTHING
    return f"{day_of_instant(value)} {flask_babel.format_time(value, 'short')}"


def day_of_instant(value: datetime) -> str:
    """Return the day an instant falls on in the reader's time zone."""
    return cast("str", flask_babel.format_date(value, "medium"))


def day(value: date | None) -> str:
    """Return a day."""
    return NOTHING if value is None else cast("str", flask_babel.format_date(value, "medium", rebase=False))


def age(value: datetime | None) -> str:
    """Return how long ago an instant was, in words."""
    if value is None:
        return NOTHING
    passed = service().store.clock.now() - value
    if passed < timedelta(minutes=1):
        return gettext("just now")
    # Up to two weeks a number of days says more than "1 week".
    threshold = 1.0 if passed < timedelta(days=7) else 2.0
    return cast("str", flask_babel.format_timedelta(-passed, threshold=threshold, add_direction=True))


def iso(value: datetime | None) -> str:
    """Return an instant for machines."""
    return "" if value is None else value.isoformat()


def said(reason: dict[str, Any]) -> str:
    """Return a reason in the page's language."""
    return str(reason.get(choose_language()) or reason.get("en") or "")


def done(hint: Hint) -> str:
    """Return what a hint is about, in the page's language."""
    return hint.done_zh if choose_language() == "zh" else hint.done_en


def caution(hint: Hint) -> str | None:
    """Return what a model has hardly seen of a hint, in the page's language."""
    return hint.caution_zh if choose_language() == "zh" else hint.caution_en


def changed(change: Change, status_words: str, people: Mapping[int | None, str]) -> str:
    """Return what a change did to its field; owners by their names."""
    old, new = (
        people[value]
        if change.field == "owner_id" and value in people
        else _value(change.field or "", value, status_words)
        for value in (change.old, change.new)
    )
    return new if change.old is None else f"{old} → {new}"


def facts(sheet: Sheet) -> list[tuple[str, str]]:
    """Return what is known of a record, as pairs of a name and a value; what is empty is left out."""
    record = sheet.record
    names = [name for name in _FACTS if getattr(record, name, None) is not None]
    found = [(word("field", name), _fact(record, name)) for name in names]
    found.append((word("field", "owner_id"), sheet.owner or gettext("nobody")))
    if sheet.account is not None:
        found.append((word("field", "account_id"), sheet.account.name))
    custom = sorted((record.custom or {}).items())
    return found + [
        (_label(sheet, name), _custom(sheet, name, value)) for name, value in custom if value is not None
    ]


def _custom(sheet: Sheet, name: str, value: Any) -> str:  # noqa: ANN401  any JSON value
    """Return the value of a custom field as its kind is read; a choice by its label."""
    declared = sheet.labels.get(f"custom.{name}")
    if declared is None or declared.kind is None:
        return str(value)
    if isinstance(value, bool):
        return _flag(value)
    chinese = choose_language() == "zh"
    labels = {
        each["value"]: each.get("label_zh" if chinese else "label_en") or each.get("label_en")
        for each in declared.choices or ()
    }
    return str(labels.get(value) or plain_form(FieldKind(declared.kind), value))


def _flag(value: bool) -> str:  # noqa: FBT001  it is what is shown
    yes, no = ("是", "否") if choose_language() == "zh" else ("yes", "no")
    return yes if value else no


def _label(sheet: Sheet, name: str) -> str:
    """Return what a custom field was declared to be called."""
    declared = sheet.labels.get(f"custom.{name}")
    if declared is None:
        return word("custom", name)
    label = declared.label_zh if choose_language() == "zh" else declared.label_en
    return label or declared.label_en or word("custom", name)


_FACTS = (
    "source",
    "campaign",
    "email",
    "phone",
    "website",
    "industry",
    "region",
    "employees",
    "expected_close_on",
    "rep_probability",
    "occurred_at",
    "converted_at",
    "closed_at",
    "lost_reason",
    "disqualified_reason",
)
"""Fields that a record's page shows, in this order; each where the record has it."""


def _fact(record: Lead | Deal | Account, name: str) -> str:
    value = getattr(record, name)
    match value:
        case datetime():
            return moment(value)
        case date():
            return day(value)
        case float():
            return percent(value)
        case int():
            return number(value)
    if name in {"industry", "region"}:
        return read_as(str(value), choices_of(name), choose_language())
    return word(name, value) if name in {"source", "campaign", "lost_reason"} else str(value)


def _value(field: str, stored: Any, status_words: str) -> str:  # noqa: ANN401  any stored value
    """Return a value in its stored form: instants are microseconds, days numbers, money ten-thousandths."""
    if isinstance(stored, bool):
        return _flag(stored)
    if stored is None:
        return NOTHING
    for ending, shown in _STORED.items():
        if field.endswith(ending):
            return shown(stored)
    kinds = {"status": status_words, "stage": "stage"}
    return word(kinds[field], stored) if field in kinds else str(stored)


_STORED: dict[str, Callable[[Any], str]] = {
    "_at": lambda stored: moment(instant(stored)),
    "_on": lambda stored: day(day_of(stored)),
    "amount": lambda stored: number(stored / MONEY_SCALE),
    "rep_probability": percent,
}
"""How stored values are shown, by the end of a field's name."""


def form(schema: dict[str, Any]) -> str:
    """Return a JSON schema in a few words, for the documentation page."""
    if "$ref" in schema:
        return str(schema["$ref"]).rsplit("/", 1)[-1]
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    if "anyOf" in schema:
        return " or ".join(form(one) for one in schema["anyOf"])
    return str(schema.get("format") or schema.get("const") or schema.get("type") or "any")


def model(reference: dict[str, Any], spec: dict[str, Any]) -> dict[str, Any]:
    """Return the schema that a reference of an OpenAPI document leads to."""
    found: dict[str, Any] = spec["components"]["schemas"][reference["$ref"].rsplit("/", 1)[-1]]
    return found


def plain(value: object) -> str:  # noqa: PLR0911  one return a type
    """Return a value of any field as people read it."""
    match value:
        case None:
            return "–"  # noqa: RUF001  a dash, as one sets it
        case bool():
            return _flag(value)
        case datetime():
            return moment(value)
        case date():
            return day(value)
        case Decimal() | float() | int():
            return number(float(value))
        case list():
            return ", ".join(map(str, value))
    return str(value)


def field(row: Row, name: str, status_words: str) -> str:  # noqa: PLR0911  one return a kind of field
    """Return a field of a row of a list as people read it."""
    record: Any = row.record
    if name.startswith(CUSTOM):
        held = plain_custom(page_session(), record.record_type, record.custom) or {}
        return plain(held.get(name.removeprefix(CUSTOM)))
    value = getattr(record, name, None)
    if value is None:
        return plain(None)
    if name == "account_id":
        return row.account or plain(value)
    if name == "amount":
        return money(value, getattr(record, "currency", None))
    if name == "rep_probability":
        return percent(value)
    words = {"status": status_words, "stage": "stage", "source": "source"}
    if name in {"industry", "region"}:
        return read_as(str(value), choices_of(name), choose_language())
    return word(words[name], value) if name in words else plain(value)


FILTERS: dict[str, Callable[..., Any]] = {
    "percent": percent,
    "points": points,
    "gate_reason": gate_reason,
    "number": number,
    "money": money,
    "whole": lambda value: Decimal(round(value)),
    "moment": moment,
    "day": day,
    "day_of": day_of_instant,
    "instant_day": lambda value: day_of_instant(instant(value)),
    "age": age,
    "iso": iso,
    "said": said,
    "done": done,
    "caution": caution,
    "micros": lambda value: "" if value is None else micros(value),
    "changed": changed,
    "facts": facts,
    "form": form,
    "model": model,
    "plain": plain,
    "field": field,
}
"""By the names that templates know them by."""
