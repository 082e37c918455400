"""How texts are compared: folded to one spelling, and cut into grams of two or three characters.

Folding takes away width, case and accents, makes one space of everything that is neither letter nor digit,
and joins digits that only such characters part: "Müller, (010) 6234-5678" is "muller 01062345678".

A gram of width 2 is a pair of neighbours, with a space around every word: "wang" has " w", "wa", "an", "ng"
and "g ". Chinese, Japanese and Korean characters stand in pairs without the space before: "方达" has "方达"
and "达 ". So a word of two characters is one gram, and every character begins exactly one. At width 3, meant
for long texts, all others stand in threes: " wa", "wan", "ang", "ng ".
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import cache
from typing import Final

import numpy as np
import numpy.typing as npt

Codes = npt.NDArray[np.int64]
Ints = npt.NDArray[np.int64]

_BITS: Final = 18
_CHARACTERS: Final = 1 << _BITS
"""Characters beyond these (private use, variation selectors) count as spaces."""

_TRIPLE: Final = 1 << 40
"""Added to a gram of three, whose three codes are mixed into the forty bits below it."""

_SPACE: Final = 32
_END: Final = 0
"""Stands around every text; no text holds it."""

SEPARATOR, LETTER, DIGIT, IDEOGRAPH, MARK, EDGE = range(6)
"""Kinds of characters."""

_IDEOGRAPHS: Final = (
    (0x1100, 0x1200),  # Hangul letters, which folding makes of syllables
    (0x2E80, 0x3000),
    (0x3041, 0xA4D0),  # kana, Bopomofo and Chinese characters up to Yi
    (0xF900, 0xFB00),
    (0x16FE0, 0x18D00),
    (0x1B000, 0x1B300),
    (0x20000, 0x32000),
)
"""Scripts that put no spaces between words."""


def fold_many(texts: Sequence[str]) -> list[str]:
    """Return the folded form of each text, without a space at either end."""
    if not texts:
        return []
    codes, _ = _folded(texts)
    folded = codes[1:-1].astype("<u4").tobytes().decode("utf-32-le")
    return [text.strip() for text in folded.split("\x00")]


def fold(text: str) -> str:
    """Return the folded form of one text."""
    return fold_many([text])[0]


def is_ideograph(character: str) -> bool:
    """Return whether a character is of a script that puts no spaces between words."""
    return bool(_kinds()[min(ord(character), _CHARACTERS - 1)] == IDEOGRAPH)


def grams_of(texts: Sequence[str], owners: Ints, width: int) -> tuple[Ints, Ints]:
    """Return all grams of all texts, each once for each owner.

    Parameters
    ----------
    texts
        Any texts, folded or not.
    owners : int64[len(texts)]
        Whose text it is: from 0 to 65,535. An owner may have several texts.
    width
        2 or 3.

    Returns
    -------
    grams, owners : int64[n]
        Pairs, ascending by gram and then by owner.
    """
    if not texts:
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    codes, kinds = _folded(texts)
    grams, at = _pairs(codes, kinds) if width == 2 else _triples(codes, kinds)
    number = np.cumsum(codes == _END) - 1
    # Not np.unique, which hashes and takes a hundred times as long.
    keys = np.sort((grams << 16) | owners[number[at]])
    keys = keys[np.concatenate([[True], keys[1:] != keys[:-1]])] if keys.size else keys
    return keys >> 16, keys & 0xFFFF


def gram_range(character: str) -> tuple[int, int]:
    """Return the first gram that begins with an ideograph, and the one after the last."""
    code = ord(fold(character)[0])
    return code << _BITS, (code + 1) << _BITS


def _folded(texts: Sequence[str]) -> tuple[Codes, npt.NDArray[np.uint8]]:
    """Return the characters of all texts, `_END` around each, and their kinds."""
    joined = "\x00".join(("", *(text.replace("\x00", " ") if "\x00" in text else text for text in texts), ""))
    joined = joined.lower() if joined.isascii() else unicodedata.normalize("NFKD", joined).casefold()
    codes = np.frombuffer(joined.encode("utf-32-le", "replace"), dtype="<u4").astype(np.int64)
    codes = np.where(codes < _CHARACTERS, codes, _SPACE)
    kinds = _kinds()[codes]
    codes, kinds = _without(kinds == MARK, codes, kinds)
    separator = kinds == SEPARATOR
    # Of several separators the last one stays, and none that touches an edge.
    spare = separator.copy()
    spare[:-1] &= (separator | (kinds == EDGE))[1:]
    codes, kinds = _without(spare, codes, kinds)
    separator, digit = kinds == SEPARATOR, kinds == DIGIT
    spare = separator.copy()
    spare[1:-1] &= (digit[:-2] & digit[2:]) | (kinds[:-2] == EDGE)
    codes, kinds = _without(spare, codes, kinds)
    return np.where(kinds == SEPARATOR, _SPACE, codes), kinds


def _without(
    spare: npt.NDArray[np.bool_], codes: Codes, kinds: npt.NDArray[np.uint8]
) -> tuple[Codes, npt.NDArray[np.uint8]]:
    return (codes[~spare], kinds[~spare]) if spare.any() else (codes, kinds)


def _pairs(codes: Codes, kinds: npt.NDArray[np.uint8]) -> tuple[Ints, Ints]:
    """Return the grams of width 2 and where each begins."""
    word = (kinds != SEPARATOR) & (kinds != EDGE)
    plain = np.where(word, codes, _SPACE)
    wanted = word[:-1] | (word[1:] & (kinds[1:] != IDEOGRAPH))
    at = np.flatnonzero(wanted)
    # A pair that begins at an edge belongs to the text after it, one that ends at an edge to that before.
    return (plain[at] << _BITS) | plain[at + 1], at


def _triples(codes: Codes, kinds: npt.NDArray[np.uint8]) -> tuple[Ints, Ints]:
    """Return pairs where ideographs are, triples everywhere else, and where each begins."""
    word = (kinds != SEPARATOR) & (kinds != EDGE)
    plain = np.where(word, codes, _SPACE)
    ideograph = kinds == IDEOGRAPH
    first = np.flatnonzero(ideograph[:-1])
    pairs = (plain[first] << _BITS) | plain[first + 1]
    letter = word & ~ideograph
    middle = np.flatnonzero(letter[1:-1]) + 1
    before, after = plain[middle - 1], plain[middle + 1]
    # Neighbours of another script are as good as a space.
    before = np.where(ideograph[middle - 1], _SPACE, before)
    after = np.where(ideograph[middle + 1], _SPACE, after)
    mixed = (before * 0x9E3779B1 + plain[middle]) * 0x85EBCA77 + after
    triples = _TRIPLE | ((mixed ^ (mixed >> 33)) & (_TRIPLE - 1))
    return np.concatenate([pairs, triples]), np.concatenate([first, middle])


@cache
def _kinds() -> npt.NDArray[np.uint8]:
    """Return the kind of every character."""
    kinds = np.full(_CHARACTERS, SEPARATOR, dtype=np.uint8)
    for code in range(_CHARACTERS):
        character = chr(code)
        if character.isdecimal():
            kinds[code] = DIGIT
        elif character.isalnum():
            kinds[code] = LETTER
        elif unicodedata.category(character) == "Mn":
            kinds[code] = MARK
    for start, stop in _IDEOGRAPHS:
        kinds[start:stop][kinds[start:stop] == LETTER] = IDEOGRAPH
    kinds[_END] = EDGE
    return kinds
