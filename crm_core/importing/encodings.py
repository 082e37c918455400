"""Finding out how a text file is encoded, where a mapping asks for it."""

from __future__ import annotations

import codecs
from pathlib import Path

from crm_core.errors import SourceFileError
from crm_core.phrases import Phrase

DETECT = "detect"
"""What a mapping writes in place of an encoding that it does not know."""

_CANDIDATES = ("gb18030", "big5", "shift_jis", "euc_kr", "cp1252", "cp1251", "cp1250")
"""What exports come in besides Unicode; of two that read a file alike, the earlier one is named."""

_MARKS = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
_SAMPLE = 256 * 1024
_BLOCK = 1024 * 1024


def detect_encoding(path: Path) -> str:
    """Return the encoding of a file: UTF-8 if all of it is, else the one that its letters speak for.

    Raises SourceFileError where none of those that exports use reads the whole file.
    """
    with path.open("rb") as file:
        sample = file.read(_SAMPLE)
    marked = next((name for mark, name in _MARKS.items() if sample.startswith(mark)), None)
    if marked is not None:
        return marked
    if _reads("utf-8", path):
        return "utf-8"
    # Some encodings read any bytes at all; but no text of theirs holds NUL.
    likely = [] if _holds_nul(path) else _likely(path)
    found = next((name for name in likely if _reads(name, path)), None)
    if found is None:
        raise SourceFileError(
            Phrase("{name}: its encoding cannot be told; say which it has: encoding = ...", name=path.name)
        )
    return found


def _likely(path: Path) -> list[str]:
    """Return the encodings that may be meant, the likeliest first."""
    from charset_normalizer import from_bytes

    sample = _foreign_lines(path)
    matches = list(from_bytes(sample, cp_isolation=list(_CANDIDATES)))
    matches.sort(key=lambda match: (match.chaos, -match.coherence, _CANDIDATES.index(match.encoding)))
    # The library names one of several that read the sample alike.
    alike = [[name for name in _CANDIDATES if _decoded(name, sample) == str(match)] for match in matches]
    return [name for names in alike for name in names]


def _foreign_lines(path: Path) -> bytes:
    """Return lines that are not plain ASCII: the others speak for no encoding."""
    kept = bytearray()
    with path.open("rb") as file:
        for line in file:
            if not line.isascii():
                kept += line
            if len(kept) > _SAMPLE:
                break
    return bytes(kept)


def _decoded(encoding: str, sample: bytes) -> str | None:
    try:
        return sample.decode(encoding)
    except UnicodeError:
        return None


def _holds_nul(path: Path) -> bool:
    with path.open("rb") as file:
        return any(b"\0" in block for block in iter(lambda: file.read(_BLOCK), b""))


def _reads(encoding: str, path: Path) -> bool:
    decoder = codecs.getincrementaldecoder(encoding)()
    try:
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                decoder.decode(block)
        decoder.decode(b"", final=True)
    except UnicodeError:
        return False
    return True
