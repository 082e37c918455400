"""What comes with a request, read so that nothing odd in it goes further."""

from __future__ import annotations

from datetime import date
from typing import Any, Final

from flask import Flask, Response, request
from werkzeug.routing import IntegerConverter
from werkzeug.routing.map import Map

from crm_core.errors import InvalidValueError
from crm_core.phrases import Phrase

LARGEST: Final = 2**63 - 1
"""The largest number that a database keeps."""


_YEARS: Final = range(1900, 2201)
"""Years of which days are asked for: beyond, computing with days and zones would fail."""


def whole(text: str) -> int:
    """Return a whole number that a database can be asked for; raise ValueError for any other text."""
    plain = text.strip()
    if not (plain.isascii() and plain.removeprefix("-").isdigit() and len(plain) < 20):
        raise ValueError(text[:80])
    number = int(plain)
    if abs(number) > LARGEST:
        raise ValueError(plain)
    return number


def whole_typed(name: str, text: str) -> int:
    """Return the whole number that was typed into a field; raise InvalidValueError for any other text."""
    try:
        return whole(text)
    except ValueError as error:
        raise InvalidValueError(name, text[:80], "a whole number") from error


def day_asked(name: str, usual: date) -> date:
    """Return the day that the address asks for, or the usual one; raise InvalidValueError for no day."""
    text = request.args.get(name, "")
    if not text:
        return usual
    try:
        day = date.fromisoformat(text)
    except ValueError as error:
        raise InvalidValueError(name, text, "a day such as 2026-01-31") from error
    if day.year not in _YEARS:
        raise InvalidValueError(
            name, text, Phrase("a day from {years} to {years_too}", years=_YEARS[0], years_too=_YEARS[-1])
        )
    return day


def currency_typed(text: str) -> str | None:
    """Return the currency that was typed, in capital letters; None for nothing."""
    plain = text.strip().upper()
    if plain and not (len(plain) == 3 and plain.isascii() and plain.isalpha()):
        raise InvalidValueError("currency", text[:80], "three letters, such as EUR")
    return plain or None


def is_own_path(target: str) -> bool:
    """Tell whether an address that came with a request is a path of our own, and never another site."""
    if not target.startswith("/") or target.startswith(("//", "/\\")):
        return False
    return "\\" not in target and target.isprintable()


def plain(why: str, status: int = 422) -> Response:
    """Return why something was refused, as text, for the script that asked."""
    return Response(why, status, content_type="text/plain; charset=utf-8")


class IdConverter(IntegerConverter):
    """A number in an address; one that no record can have leads nowhere."""

    regex = r"\d{1,19}"

    def __init__(self, map: Map, *args: Any, **named: Any) -> None:  # noqa: A002  as werkzeug calls it
        super().__init__(map, *args, **{"max": LARGEST, **named})


def use_ids(app: Flask) -> None:
    """Have addresses with a number that no record can have lead nowhere."""
    app.url_map.converters["int"] = IdConverter
