"""Taking a person out of texts: their names, mail addresses and telephone numbers, however they are spelt."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

from crm_core.addresses import mail_key, national_number
from crm_core.grams import fold, is_ideograph
from crm_core.personal.people import ERASED, Identifiers

_BETWEEN_DIGITS = r"[\s\-./()]{0,3}"
_BETWEEN_WORDS = r"[\s,.\-_·]{1,3}"
_FORMS_OF_ADDRESS = "总|董|工|经理|先生|女士|小姐|老师|主任|老板|博士|教授|律师|医生|院长|校长|局长|处长|科长"
_SHORTEST_NUMBER = 7
_SHORT = 200
_REMEMBERED = 10_000


@dataclass(frozen=True, kw_only=True)
class Scrubber:
    """Replaces what somebody is told by.

    `everywhere` is looked for in any text. What follows stands for them only in texts about their own
    company: names that somebody else has too, and single words of their names.
    """

    everywhere: Identifiers
    names_nearby: frozenset[str] = frozenset()
    words_nearby: frozenset[str] = frozenset()

    def scrub(self, text: str, *, near: bool = False) -> str:
        """Return a text without the person; `near` if it is about them or their company."""
        return self._remembered(text, near) if len(text) <= _SHORT else self._without(text, near)

    @cached_property
    def _remembered(self) -> Callable[[str, bool], str]:
        # The words of reasons and of kinds come again and again; they are forgotten with the scrubber.
        return lru_cache(maxsize=_REMEMBERED)(self._without)

    def _without(self, text: str, near: bool) -> str:  # noqa: FBT001  a cache takes it by place
        scrubbed = self._anywhere.sub(ERASED, text) if self._anywhere else text
        for pattern in (self._names_near, self._words_near) if near else ():
            scrubbed = pattern.sub(ERASED, scrubbed) if pattern else scrubbed
        return ERASED if self._still_tells(scrubbed) else scrubbed

    def scrub_value(self, value: Any, *, near: bool = False) -> Any:  # noqa: ANN401  any JSON
        """Return a JSON value whose texts are without the person."""
        match value:
            case str():
                return self.scrub(value, near=near)
            case list():
                return [self.scrub_value(inner, near=near) for inner in value]
            case dict():
                return {key: self.scrub_value(inner, near=near) for key, inner in value.items()}
        return value

    def _still_tells(self, text: str) -> bool:
        """Say whether a text, in its folded form, still holds what no pattern saw."""
        folded = f" {fold(text)} "
        if any(part in folded for part in self._folded):
            return True
        numbers = [word for word in folded.split() if word.isdecimal()]
        return any(_is_number(word, digits) for word in numbers for digits in self._numbers)

    @cached_property
    def _folded(self) -> list[str]:
        names = [name for name in self.everywhere.names if name_patterns(name)]
        parts = [edged(fold(text)) for text in (*names, *self.everywhere.mails)]
        return [part for part in parts if part.strip()]

    @cached_property
    def _numbers(self) -> list[str]:
        found = {national_number(phone) for phone in self.everywhere.phones}
        return sorted(digits for digits in found if digits and len(digits) >= _SHORTEST_NUMBER)

    @cached_property
    def _anywhere(self) -> re.Pattern[str] | None:
        return _any_of(
            [
                *(_mail_pattern(mail) for mail in self.everywhere.mails),
                *map(_phone_pattern, self._numbers),
                *(pattern for name in self.everywhere.names for pattern in name_patterns(name)),
            ]
        )

    @cached_property
    def _names_near(self) -> re.Pattern[str] | None:
        return _any_of(pattern for name in self.names_nearby for pattern in name_patterns(name))

    @cached_property
    def _words_near(self) -> re.Pattern[str] | None:
        # Case counts: "Will" is a name, "will" is not.
        words = (pattern for word in self.words_nearby for pattern in _word_patterns(word))
        return _any_of(words, re.NOFLAG)


def edged(folded: str) -> str:
    """Return a folded text with spaces around its words, so that they are not found inside others."""
    return folded if not folded or is_ideograph(folded[0]) or folded.isdecimal() else f" {folded} "


def _is_number(word: str, digits: str) -> bool:
    """Say whether digits are a telephone number, with or without a country in front."""
    return word.endswith(digits) and len(word) <= len(digits) + 5


def _any_of(patterns: Iterable[str], flags: re.RegexFlag = re.IGNORECASE) -> re.Pattern[str] | None:
    # The longest first: of two that begin alike, the shorter one would leave the rest standing.
    found = sorted(set(patterns), key=lambda pattern: (-len(pattern), pattern))
    return re.compile("|".join(found), flags) if found else None


def _mail_pattern(mail: str) -> str:
    key = mail_key(mail)
    spellings = {mail.strip(), key or mail.strip()}
    return "|".join(rf"(?<![\w.+-]){re.escape(each)}(?![\w-])" for each in sorted(spellings))


def _phone_pattern(digits: str) -> str:
    country = rf"(?:\(?(?:\+|00)\s?\d{{1,3}}\)?{_BETWEEN_DIGITS}|\d{{1,3}})?"
    trunk = rf"(?:\(?0\)?{_BETWEEN_DIGITS})?"
    return rf"(?<!\d){country}{trunk}\(?{_BETWEEN_DIGITS.join(digits)}(?!\d)"


def name_patterns(name: str) -> list[str]:
    """Return the patterns of a whole name, its words in either order."""
    words = [word for word in re.split(r"[\s,.\-_·]+", name) if word]
    if not words:
        return []
    if is_ideograph(words[0][0]):
        return [r"\s?".join(re.escape(each) for each in "".join(words))] if len("".join(words)) > 1 else []
    if len(words) == 1:
        return []
    orders = (words, words[::-1], [*words[1:], words[0]], [words[-1], *words[:-1]])
    return [rf"(?<!\w){_BETWEEN_WORDS.join(map(re.escape, order))}(?!\w)" for order in orders]


def words_of(name: str) -> Iterator[str]:
    """Yield the words of a name that may stand for the whole in a text about the person."""
    for word in re.split(r"[\s,.\-_·]+", name):
        if len(word) > 2 or (word and is_ideograph(word[0])):
            yield word


def _word_patterns(word: str) -> list[str]:
    if is_ideograph(word[0]):
        surname, given = re.escape(word[0]), word[1:]
        patterns = [rf"{surname}(?:{_FORMS_OF_ADDRESS})", rf"[小老]{surname}(?!\w)"]
        return [*patterns, re.escape(given)] if len(given) > 1 else patterns
    # As a name: "Will" and "WILL", but not the "will" of a sentence.
    return [rf"(?<!\w)(?:{re.escape(word.capitalize())}|{re.escape(word.upper())})(?!\w)"]
