"""Reasons as they are stored: JSON, deflated with words that reasons are made of.

A packed value begins with its form. The first is what raw deflate makes of the text, given the words in
`reasons_1.txt`. The second is made reason by reason, for many records: what a reason says around its two
numbers is deflated once, wherever it is said again, and the numbers stand beside it, so that a row costs a
tenth of the first form's time. Nothing of either can be read without the words: their file never changes, and
other words are other forms, beside these. A value that begins as JSON does, text or bytes, is just that: a
short one, and one from before there was packing.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from functools import cache, lru_cache
from pathlib import Path
from struct import Struct
from typing import Any, Final

SHORT: Final = 1_000
"""Texts of fewer bytes are stored as they are: to pack one takes longer than to write what that saves."""

_WHOLE: Final = b"\x01"
_BY_REASON: Final = b"\x02"
_SIZE: Final = Struct("<H")
_NUMBERS: Final = Struct("<dH")
"""What a reason weighs, and how long the JSON of its value is."""

_WORDS: Final = Path(__file__).with_name("reasons_1.txt")
_RAW: Final = -zlib.MAX_WBITS
_LEVEL: Final = 3
"""Higher ones take up to twice as long for a tenth less."""


def pack_json(text: str) -> bytes:
    """Return a JSON text in the form in which it is stored."""
    data = text.encode()
    if len(data) < SHORT:
        return data
    # One that knows the words already, copied: to teach them anew would take as long as the rest.
    packer = _packer(_LEVEL).copy()
    return b"".join((_WHOLE, packer.compress(data), packer.flush()))


def unpack_json(stored: bytes | memoryview | str) -> str:
    """Return the JSON text that a stored value stands for."""
    if isinstance(stored, str):
        return stored
    data = bytes(stored)
    if data[:1] == _WHOLE:
        return _inflate(data[1:])
    if data[:1] == _BY_REASON:
        return f"[{','.join(_reasons_of(data))}]"
    return data.decode()


def pack_words(before: str, middle: str, after: str) -> bytes:
    """Return, packed, what the JSON of a reason says around its log-odds and its value."""
    packer = _packer(zlib.Z_BEST_COMPRESSION).copy()
    said = f"{before}\0{middle}\0{after}".encode()
    data = b"".join((packer.compress(said), packer.flush()))
    return _SIZE.pack(len(data)) + data


def pack_reason(words: bytes, log_odds: float, value: bytes) -> bytes:
    """Return a reason, packed, of which the words are; `value` is JSON."""
    return words + _NUMBERS.pack(log_odds, len(value)) + value


def pack_reasons(reasons: Iterable[bytes]) -> bytes:
    """Return reasons that are packed each in the form in which they are stored."""
    return b"".join((_BY_REASON, *reasons))


def _reasons_of(data: bytes) -> Iterator[str]:
    """Yield the JSON of each reason."""
    at = 1
    while at < len(data):
        (size,) = _SIZE.unpack_from(data, at)
        at += _SIZE.size + size
        before, middle, after = _said(data[at - size : at])
        log_odds, size = _NUMBERS.unpack_from(data, at)
        at += _NUMBERS.size + size
        yield f"{before}{log_odds!r}{middle}{data[at - size : at].decode()}{after}"


@lru_cache(maxsize=20_000)
def _said(packed: bytes) -> tuple[str, str, str]:
    before, middle, after = _inflate(packed).split("\0")
    return before, middle, after


def _inflate(data: bytes) -> str:
    return zlib.decompressobj(_RAW, zdict=_words()).decompress(data).decode()


@cache
def _words() -> bytes:
    return _WORDS.read_bytes()


@cache
def _packer(level: int) -> Any:  # noqa: ANN401  zlib does not name its type
    return zlib.compressobj(level, zlib.DEFLATED, _RAW, zlib.DEF_MEM_LEVEL, zdict=_words())
