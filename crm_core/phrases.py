"""Sentences that know their parts, so that pages can say them in another language than the program does."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date
from string import Formatter
from typing import Any, Self


class Phrase(str):
    """A sentence in English that keeps the pattern that it was made of and what was put in.

    It is a text like any other: messages, logs and answers of the API hold it as it stands. Lists have commas
    between, days and instants are in ISO form.

    >>> Phrase("at most {most} of {what}", most=3, what=("a", "b"))
    'at most 3 of a, b'
    """

    __slots__ = ("parts", "pattern")
    pattern: str
    parts: Mapping[str, object]

    def __new__(cls, pattern: str, /, **parts: object) -> Self:
        """Fill in the places of a pattern, which are named as in `str.format`."""
        return cls.made(_ENGLISH.vformat(pattern, (), parts), pattern, parts)

    @classmethod
    def made(cls, text: str, pattern: str, parts: Mapping[str, object]) -> Self:
        """Return a text that was made of a pattern and parts, which are known again."""
        made = super().__new__(cls, text)
        made.pattern, made.parts = pattern, parts
        return made

    def __getnewargs_ex__(self) -> tuple[tuple[str], Mapping[str, object]]:
        """Return what a copy in another process is made of."""
        return (self.pattern,), self.parts


def one_of(choices: Iterable[object]) -> Phrase:
    """Return what is expected where one of some words is."""
    return Phrase("one of {choices}", choices=tuple(choices))


class _English(Formatter):
    def format_field(self, value: Any, format_spec: str) -> str:  # noqa: ANN401  any part
        if isinstance(value, tuple):
            return ", ".join(map(str, value))
        if isinstance(value, date) and not format_spec:
            return value.isoformat()
        return format(value, format_spec)


_ENGLISH = _English()
