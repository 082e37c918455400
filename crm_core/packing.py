"""Reasons as they are stored: JSON, deflated with words that reasons are made of.

A packed value is a version and what raw deflate makes of the text, given the words of that version. Nothing
of it can be read without them: `reasons_1.txt` never changes. Other words are another version, beside it.
A value that begins as JSON does, text or bytes, is just that: a short one, and one from before there was
packing.
"""

from __future__ import annotations

import zlib
from functools import cache
from pathlib import Path
from typing import Any, Final

SHORT: Final = 1_000
"""Texts of fewer bytes are stored as they are: to pack one takes longer than to write what that saves."""

_VERSION: Final = b"\x01"
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
    packer = _packer().copy()
    return b"".join((_VERSION, packer.compress(data), packer.flush()))


def unpack_json(stored: bytes | memoryview | str) -> str:
    """Return the JSON text that a stored value stands for."""
    if isinstance(stored, str):
        return stored
    data = bytes(stored)
    if data[:1] != _VERSION:
        return data.decode()
    return zlib.decompressobj(_RAW, zdict=_words()).decompress(data[1:]).decode()


@cache
def _words() -> bytes:
    return _WORDS.read_bytes()


@cache
def _packer() -> Any:  # noqa: ANN401  zlib does not name its type
    return zlib.compressobj(_LEVEL, zlib.DEFLATED, _RAW, zlib.DEF_MEM_LEVEL, zdict=_words())
