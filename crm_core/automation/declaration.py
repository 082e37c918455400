"""Reading what somebody declared as JSON: every part by name, and nothing that nobody asked for."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, TypeVar

from crm_core.columns import check_text
from crm_core.errors import InvalidValueError
from crm_core.phrases import Phrase, one_of

E = TypeVar("E", bound=StrEnum)

Scalar = str | int | float | bool | None

LONGEST_WORDS: Final = 200
_NAME = re.compile(r"[a-z][a-z0-9_]{0,59}(\.[a-z][a-z0-9_]{0,59})?", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Words:
    """What people are told, in both languages; whoever writes one gives it for both."""

    en: str
    zh: str

    def in_language(self, language: str | None) -> str:
        """Return the words for somebody who reads a language."""
        return self.zh if language == "zh" else self.en

    def as_json(self) -> str | dict[str, str]:
        """Return them as they are declared."""
        return self.en if self.en == self.zh else {"en": self.en, "zh": self.zh}


class Given:
    """One mapping of a declaration; `end` refuses what was not read."""

    def __init__(self, place: str, given: object) -> None:
        if not isinstance(given, Mapping):
            raise InvalidValueError(place, _shown(given), "a mapping")
        self.place = place
        self._given = dict(given)

    def has(self, name: str) -> bool:
        """Tell whether something is said under a name."""
        return name in self._given

    def take(self, name: str, default: Any = None) -> Any:  # noqa: ANN401  whatever was declared
        """Return what is said under a name, as it is."""
        return self._given.pop(name, default)

    def text(self, name: str, *, longest: int = LONGEST_WORDS) -> str:
        """Return a text that must be there."""
        value = self.take(name)
        if not isinstance(value, str) or not value.strip():
            raise self.refused(name, value, "a text")
        return check_text(self._at(name), value.strip(), longest=longest)

    def name_of(self, name: str, default: str | None = None) -> str:
        """Return the name of a field or type."""
        value = self.take(name, default)
        if not isinstance(value, str) or not _NAME.fullmatch(value):
            raise self.refused(name, value, "a name")
        return value

    def words(self, name: str) -> Words:
        """Return a text in both languages, given as one text or as a mapping of `en` and `zh`."""
        value = self._given.get(name)
        if not isinstance(value, Mapping):
            said = self.text(name)
            return Words(en=said, zh=said)
        both = Given(self._at(name), self.take(name))
        found = Words(en=both.text("en"), zh=both.text("zh"))
        both.end()
        return found

    def number(self, name: str, *, least: float, most: float) -> float:
        """Return a number that must be there."""
        value = self.take(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise self.refused(name, value, "a number")
        if not least <= value <= most:
            raise self.refused(
                name, value, Phrase("a number from {least:g} to {most:g}", least=least, most=most)
            )
        return float(value)

    def whole(self, name: str, *, least: int, most: int = 2**53) -> int:
        """Return a whole number that must be there."""
        value = self.take(name)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise self.refused(
                name, value, Phrase("a whole number from {least} to {most}", least=least, most=most)
            )
        return value

    def flag(self, name: str) -> bool:
        """Return yes or no; no where nothing is said."""
        value = self.take(name, default=False)
        if not isinstance(value, bool):
            raise self.refused(name, value, "true or false")
        return value

    def choice(self, name: str, kind: type[E], default: E | None = None) -> E:
        """Return one of some words."""
        value = self.take(name, default)
        if value not in list(kind):
            raise self.refused(name, value, one_of(kind))
        return kind(value)

    def choices(self, name: str, kind: type[E], default: Collection[E] = ()) -> tuple[E, ...]:
        """Return some of some words, each once."""
        return tuple(dict.fromkeys(self._choice(name, kind, each) for each in self.some(name, list(default))))

    def some(self, name: str, default: Sequence[Any] = ()) -> list[Any]:
        """Return a list; one value stands for a list of it."""
        value = self.take(name, default)
        return list(value) if isinstance(value, list | tuple) else [value]

    def scalars(self, name: str) -> tuple[Scalar, ...]:
        """Return plain values, null among them; nothing where the name is absent."""
        values = self.some(name) if self.has(name) else []
        for value in values:
            if isinstance(value, str):
                check_text(self._at(name), value, longest=LONGEST_WORDS)
            elif value is not None and not isinstance(value, int | float):
                raise self.refused(name, value, "texts, numbers, true, false or null")
        return tuple(values)

    def end(self) -> None:
        """Refuse what was said and not asked for."""
        for name, value in self._given.items():
            raise self.refused(name, value, "nothing: there is no such part")

    def refused(self, name: str, value: object, expected: str) -> InvalidValueError:
        """Return the error that names a part."""
        return InvalidValueError(self._at(name), _shown(value), expected)

    def _choice(self, name: str, kind: type[E], value: object) -> E:
        if value not in list(kind):
            raise self.refused(name, value, Phrase("some of {choices}", choices=tuple(kind)))
        return kind(str(value))

    def _at(self, name: str) -> str:
        return f"{self.place}.{name}"


def _shown(value: object) -> str:
    return repr(value)[:80]
