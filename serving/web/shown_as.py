"""How numbers, money, instants and ages are shown, by the locale of the page."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, cast

import flask_babel

from crm_core.clock import day_of, instant, micros
from crm_core.columns import MONEY_SCALE
from crm_core.declared import plain_custom
from crm_core.fields import CUSTOM
from features.choices import choices_of, read_as
from serving.service import page_session, service
from serving.web.gate_words import gate_reason
from serving.web.language import choose_language, gettext
from serving.web.places import path_of
from serving.web.words import word

if TYPE_CHECKING:
    from models.what_if import Hint
    from serving.web.records import Row

NOTHING = "–"  # noqa: RUF001  a dash, as one sets it


def percent(value: float | None, digits: int | None = None) -> str:
    """Return a probability in percent; near the ends with a decimal, and never as certain when it is not."""
    if value is None:
        return NOTHING
    if digits is None and not 0.0005 <= value < 0.9995:
        sign, shown = ("<", 0.001) if value < 0.5 else (">", 0.999)
        return sign + percent(shown, 1)
    if digits == 0 and (0 < value < 0.005 or 0.995 <= value < 1):  # some are not none, nor nearly all all
        return "<" + percent(0.01, 0) if value < 0.5 else ">" + percent(0.99, 0)
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


def exact_money(value: Decimal | None, currency: str | None) -> str:
    """Return an amount with its currency and all decimals of it."""
    if value is None:
        return NOTHING
    if currency is None:
        return number(value, 2)
    if value * 100 % 1:
        pattern = {"format": "¤#,##0.00##", "currency_digits": False}
        return cast("str", flask_babel.format_currency(value, currency, **pattern))
    return cast("str", flask_babel.format_currency(value, currency))


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


def weekday(value: date) -> str:
    """Return the name of the day of the week."""
    return cast("str", flask_babel.format_date(value, "EEEE", rebase=False))


def country(code: str) -> str:
    """Return what a country is called, with its code where the page's language has no name for it."""
    from babel import Locale

    return str(Locale.parse(choose_language()).territories.get(code) or code)


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


def _flag(value: bool) -> str:  # noqa: FBT001  it is what is shown
    yes, no = ("是", "否") if choose_language() == "zh" else ("yes", "no")
    return yes if value else no


def stored_text(field: str, stored: Any, status_words: str) -> str:  # noqa: ANN401  any stored value
    """Return a stored value of the log: instants are microseconds, days numbers, money ten-thousandths."""
    if isinstance(stored, bool):
        return _flag(stored)
    if stored is None:
        return NOTHING
    for ending, shown in _STORED.items():
        if field.endswith(ending):
            return shown(stored)
    kinds = {"status": status_words, **{name: name for name in _WORDED}}
    if isinstance(stored, list):
        return ", ".join(map(str, stored))
    return word(kinds[field], stored) if field in kinds else str(stored)


_WORDED = ("stage", "approval", "disqualified_reason", "lost_reason")
"""Fields that hold words of the program, by which they are shown."""

_AMOUNTS = ("amount", "value", "price", "cost", "budget")

_STORED: dict[str, Callable[[Any], str]] = {
    "_at": lambda stored: moment(instant(stored)),
    "_on": lambda stored: day(day_of(stored)),
    "valid_until": lambda stored: day(day_of(stored)),
    **dict.fromkeys(_AMOUNTS, lambda stored: number(stored / MONEY_SCALE)),
    "rep_probability": percent,
    "discount": percent,
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


def fact_word(named: str) -> str:
    """Return what a fact, named as `deal.amount`, is called; of another record with that record's name."""
    record_type, field = named.split(".", 1)
    return word("compared", named) if record_type == "account" else word("field", field)


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
        return str(choice(str(value), name))
    return word(words[name], value) if name in words else plain(value)


def choice(value: str | None, field: str) -> str | None:
    """Return a word that records hold, such as a region, in the page's language; another as it was typed."""
    return value and read_as(value, choices_of(field), choose_language())


FILTERS: dict[str, Callable[..., Any]] = {
    "choice": choice,
    "percent": percent,
    "points": points,
    "gate_reason": gate_reason,
    "number": number,
    "money": money,
    "exact_money": exact_money,
    "quote_path": lambda quote_id: path_of("quote", quote_id),
    "whole": lambda value: Decimal(round(value)),
    "moment": moment,
    "day": day,
    "weekday": weekday,
    "country": country,
    "day_of": day_of_instant,
    "instant_day": lambda value: day_of_instant(instant(value)),
    "age": age,
    "iso": iso,
    "said": said,
    "done": done,
    "caution": caution,
    "micros": lambda value: "" if value is None else micros(value),
    "form": form,
    "fact_word": fact_word,
    "record_path": path_of,
    "model": model,
    "plain": plain,
    "field": field,
}
"""By the names that templates know them by."""
