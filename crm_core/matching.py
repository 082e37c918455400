"""How well a text says what somebody asks for: whole words, parts of words, and slips of the hand."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from rapidfuzz import fuzz, process
from rapidfuzz.distance import OSA

from crm_core.grams import fold, is_ideograph

LONGEST_QUERY: Final = 200
"""Characters of a query that are looked at."""

_LONGEST_SWAPPED: Final = 10
"""Letters of a word up to which neighbours are tried the other way round."""


_SHORTEST_NUMBER: Final = 7
"""Digits of a telephone number."""


class Word(NamedTuple):
    """A word of the query: letters, digits, or characters of a script without spaces (ideographs)."""

    text: str
    kind: str


@dataclass(frozen=True, kw_only=True)
class Query:
    """What somebody asks for, folded."""

    text: str
    words: tuple[Word, ...]

    @classmethod
    def of(cls, text: str) -> Query:
        """Return the query for what was typed."""
        folded = fold(text[:LONGEST_QUERY])
        return cls(text=folded, words=tuple(_words(folded)))

    def spellings(self) -> list[str]:
        """Return the query as typed, and with each two neighbouring letters the other way round.

        That slip of the hand leaves a short word hardly a gram of its own.
        """
        return [self.text, *(swapped for word in self.words for swapped in self._swaps(word))]

    def characters(self) -> tuple[str, ...]:
        """Return single characters that must all occur, for queries too short to share a gram with a slip.

        A lone character is no gram; a name of three whose middle is wrong has none that is right.
        """
        texts = [word.text for word in self.words if word.kind == "ideographs"]
        if len(texts) < len(self.words):
            return ()
        if len(texts) == 1 and len(texts[0]) == 3:
            return (texts[0][0], texts[0][-1])
        return tuple(texts) if all(len(text) == 1 for text in texts) else ()

    def _swaps(self, word: Word) -> Iterator[str]:
        if word.kind == "letters" and len(word.text) <= _LONGEST_SWAPPED:
            start = self.text.index(word.text)
            for at in range(start, start + len(word.text) - 1):
                one, two = self.text[at], self.text[at + 1]
                if one != two:
                    yield self.text[:at] + two + one + self.text[at + 2 :]


def _words(folded: str) -> Iterator[Word]:
    for part in folded.split():
        start = 0
        for at in range(1, len(part) + 1):
            if at == len(part) or is_ideograph(part[at]) != is_ideograph(part[start]):
                yield _word(part[start:at])
                start = at


def _word(text: str) -> Word:
    if is_ideograph(text[0]):
        return Word(text, "ideographs")
    # A telephone number may begin with noughts here and with a country in the store.
    return Word(text.lstrip("0") or text, "digits") if text.isdecimal() else Word(text, "letters")


def whole_likeness(query: Query, text: str) -> float:
    """Return how well a folded text holds the whole query, from 0 (not) to 1 (it says nothing else)."""
    if text == query.text:
        return 1.0
    first = query.words[0]
    return _held(query.text, text, anywhere=first.kind == "ideographs" or _is_number(first))


def words_likeness(query: Query, texts: Sequence[str], weights: Sequence[float]) -> tuple[float, int]:
    """Return how well the words of the query are found in some folded texts, and in which one best.

    A word of three may be missing, because people add a title or a legal form; fewer give 0.
    """
    found = [
        max(
            (likeness(word, text) * weight, -at)
            for at, (text, weight) in enumerate(zip(texts, weights, strict=True))
        )
        for word in query.words
    ]
    lengths = [len(word.text) for word in query.words]
    matched = sum(length for (score, _), length in zip(found, lengths, strict=True) if score > 0)
    if matched < sum(lengths) * 2 / 3:
        return 0.0, 0
    score = sum(score * length for (score, _), length in zip(found, lengths, strict=True))
    return score / sum(lengths), -max(found)[1]


def likeness(word: Word, text: str) -> float:
    """Return how well a folded text holds one word, slips of the hand allowed, from 0 to 1."""
    held = _held(word.text, text, anywhere=word.kind == "ideographs" or _is_number(word))
    if held:
        return held
    if word.kind == "letters":
        return _misspelt(word.text, text.split())
    if _is_number(word) and any(_ends_with(word.text, other) for other in text.split()):
        return 0.93
    return _misread(word, text)


def _ends_with(number: str, other: str) -> bool:
    """Say whether a number is another one, with a country in front of it."""
    return other.isdecimal() and len(other) >= _SHORTEST_NUMBER and number.endswith(other.lstrip("0"))


def _held(part: str, text: str, *, anywhere: bool) -> float:
    """Return what it is worth that a text holds a part: as words, as the beginning of one, or inside."""
    if part not in text:
        return 0.0
    if anywhere or f" {part} " in f" {text} ":
        return 0.95
    if f" {part}" in f" {text}":
        return 0.92
    return 0.85 if len(part) > 2 else 0.0


def _is_number(word: Word) -> bool:
    """Say whether a word is digits enough to be a telephone number, which may begin with a country."""
    return word.kind == "digits" and len(word.text) >= _SHORTEST_NUMBER


def _misspelt(word: str, others: Sequence[str]) -> float:
    slips = _slips(len(word)) if len(word) > 3 else 0
    found = process.extractOne(word, others, scorer=OSA.distance, score_cutoff=slips) if slips else None
    return 0.0 if found is None else 0.9 * (1 - found[1] / len(word))


def _slips(length: int) -> int:
    """Return how many characters of a word may be wrong."""
    return 0 if length < 3 else 1 if length < 6 else 2


def _misread(word: Word, text: str) -> float:
    """Return how well digits or ideographs fit a part of a text, one in a few being wrong."""
    length = len(word.text)
    if length < (_SHORTEST_NUMBER if word.kind == "digits" else 3) or len(text) < length - 1:
        return 0.0
    slips = 1 if word.kind == "digits" else _slips(length)
    least = 100 * (1 - slips / length) - 1e-6
    ratio = fuzz.partial_ratio(word.text, text, score_cutoff=least) / 100
    # A wrong character is likelier than one too many next to one too few.
    return (0.9 if ratio and _differs_by(word.text, text, slips) else 0.85) * ratio


def _differs_by(word: str, text: str, slips: int) -> bool:
    """Say whether a stretch of a text is the word but for some characters."""
    stretches = zip(*(text[at:] for at in range(len(word))), strict=False)
    return any(sum(map(operator.ne, word, stretch)) <= slips for stretch in stretches)
