"""Texts that nobody types by accident, and which parameters a page reads: to throw the ones at the others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from flask import Flask
from werkzeug.datastructures import ImmutableMultiDict

VALUES: Final[tuple[str, ...]] = (
    *("", " ", "0", "-1", "1", "2147483648", "-2147483649", "9223372036854775807", "9223372036854775808"),
    *("18446744073709551616", "1" * 18, "1" * 30, "1" * 5_000, "1e308", "1e999", "-1e999", "NaN", "Infinity"),
    *("0.1", "1_000", "٣", "²", "①", "0x10", "true", "null", "None", "[]", "{}", '{"a":1}'),
    *(
        "a\x00b",
        "\x00",
        "\ud800",
        "a\udfffb",
        "\u202egnp.exe",
        "\ufeff",
        "\r\nX-Evil: 1",
        "\n",
        "\t",
        "\x1b[31m",
    ),
    *("<script>alert(1)</script>", '"onmouseover="alert(1)', "'--", "' OR 1=1 --", "%", "_", "\\", "%00"),
    *(
        "%s%s%n",
        "{0.__class__}",
        "{{7*7}}",
        "${7*7}",
        "%(name)s",
        "../../etc/passwd",
        "..\\..\\x",
        "/",
        "//evil",
    ),
    *("https://evil.example/", "javascript:alert(1)", "2026-13-45", "0000-00-00", "0001-01-01", "9999-12-31"),
    *("9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59", "2026-Q1", "2026-Q9", "2026-02-30T25:61"),
    *("amount:ge:1", "amount:ge:1e999", "id:in:" + "1," * 300, "segment:1", "segment:99999999999999999999"),
    *("tag:eq:x", "custom.x:eq:1", "name:contains:%", "name:between:a", ":::", "x" * 20_000, "字" * 3_000),
    *(
        "eyJvIjoiLWlkIn0=",
        "e30=",
        "W10=",
        "bnVsbA==",
        "-probability",
        "-occurred_at,name,id,x",
        "password_hash",
    ),
    *(
        "lead",
        "deal",
        "account",
        "user",
        "csv",
        "open",
        "won",
        "lost",
        "all",
        "yes",
        "no",
        "on",
        "task",
        "call",
    ),
)
"""Numbers beyond every type, instants beyond every clock, what breaks out of HTML, SQL, headers and paths."""


class _Noting(ImmutableMultiDict[str, Any]):
    """What came with a request, which notes what is asked of it."""

    asked: set[str] | None = None

    def get(self, key: Any, *more: Any, **named: Any) -> Any:
        if _Noting.asked is not None:
            _Noting.asked.add(key)
        return super().get(key, *more, **named)

    def getlist(self, key: Any, *more: Any, **named: Any) -> Any:
        if _Noting.asked is not None:
            _Noting.asked.add(key)
        return super().getlist(key, *more, **named)

    def __contains__(self, key: object) -> bool:
        if _Noting.asked is not None and isinstance(key, str):
            _Noting.asked.add(key)
        return super().__contains__(key)


def note_what_is_asked(app: Flask) -> None:
    """Have an application note which parameters its pages read."""
    app.request_class = type("Request", (app.request_class,), {"parameter_storage_class": _Noting})


@contextmanager
def asked() -> Iterator[set[str]]:
    """Collect the names of the parameters that are read meanwhile."""
    _Noting.asked = found = set[str]()
    try:
        yield found
    finally:
        _Noting.asked = None
