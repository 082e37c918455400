"""What comes with a request, read so that nothing odd in it goes further."""

from __future__ import annotations

from typing import Any, Final

from flask import Flask, Response
from werkzeug.routing import IntegerConverter
from werkzeug.routing.map import Map

LARGEST: Final = 2**63 - 1
"""The largest number that a database keeps."""


def whole(text: str) -> int:
    """Return a whole number that a database can be asked for; raise ValueError for any other text."""
    plain = text.strip()
    if not (plain.isascii() and plain.removeprefix("-").isdigit() and len(plain) < 20):
        raise ValueError(text[:80])
    number = int(plain)
    if abs(number) > LARGEST:
        raise ValueError(plain)
    return number


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
