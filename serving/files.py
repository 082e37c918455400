"""Files that people put on records, kept in the home folder by their SHA-256.

What a file is, its first bytes say; what a browser or a name says is not trusted. A file is given to whoever
sees the record it is on, to be saved and never to be shown in place. The same bytes are kept once, until
nothing names them any more; an attachment whose `uri` leads elsewhere is only a reference.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from crm_core.errors import InvalidValueError, RecordNotFoundError
from crm_core.external_ids import hold_keys
from crm_core.phrases import Phrase
from crm_core.records import Attachment
from crm_core.store import Store, Transaction

OURS: Final = "crm:files/"
"""How the `uri` of a file that is kept here begins; nobody else may give one."""

_BLOCK: Final = 2**16
_HEAD: Final = 4096
_ODD: Final = re.compile(r"[\x00-\x1f\x7f/\\]+")
_LONGEST_NAME: Final = 200

_SIGNS: Final[tuple[tuple[bytes, str], ...]] = (
    (b"%PDF-", "application/pdf"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"\x1f\x8b", "application/gzip"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "application/x-ole-storage"),
)
_OFFICE: Final = {
    "word/": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "xl/": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "ppt/": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
}
UNKNOWN: Final = "application/octet-stream"


@dataclass(frozen=True, kw_only=True)
class Kept:
    """A file that was taken in: `path` is where it waits until it is put in its place."""

    path: Path
    sha256: str
    size: int
    media_type: str


def is_ours(uri: str | None) -> bool:
    """Return whether an attachment's file is kept here."""
    return uri is not None and uri.startswith(OURS)


def place_of(folder: Path, sha256: str) -> Path:
    """Return where a file is kept."""
    return folder / sha256[:2] / sha256


def take_in(folder: Path, source: IO[bytes], *, most: int) -> Kept:
    """Write what comes to the disk, and look at what it is; raise InvalidValueError beyond `most` bytes."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=".new-", dir=folder)
    path = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            sha256, size = _copy(source, file, most)
            file.flush()
            os.fsync(file.fileno())
        return Kept(path=path, sha256=sha256, size=size, media_type=media_type_of(path))
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _copy(source: IO[bytes], target: IO[bytes], most: int) -> tuple[str, int]:
    """Copy what comes; return its SHA-256 and its size."""
    digest, size = hashlib.sha256(), 0
    while block := source.read(_BLOCK):
        size += len(block)
        if size > most:
            break
        digest.update(block)
        target.write(block)
    if not 0 < size <= most:
        raise InvalidValueError(
            "file",
            Phrase("{size} bytes or more", size=size),
            Phrase("a file of 1 to {most} bytes", most=most),
        )
    return digest.hexdigest(), size


def put_in_place(transaction: Transaction, folder: Path, kept: Kept) -> str:
    """Keep a file under its SHA-256, in the transaction that writes what names it; return its `uri`."""
    hold_keys(transaction.session, [f"file:{kept.sha256}"])
    place = place_of(folder, kept.sha256)
    place.parent.mkdir(mode=0o700, exist_ok=True)
    kept.path.replace(place)
    return f"{OURS}{kept.sha256}"


def find_file(folder: Path, attachment: Attachment) -> Path:
    """Return where the file of an attachment is; raise RecordNotFoundError if it is not here."""
    sha256 = (attachment.uri or "").removeprefix(OURS)
    if not is_ours(attachment.uri) or not re.fullmatch(r"[0-9a-f]{64}", sha256):
        raise RecordNotFoundError("file", attachment.id)
    place = place_of(folder, sha256)
    if not place.is_file():
        raise RecordNotFoundError("file", attachment.id)
    return place


def forget_unused(store: Store, folder: Path) -> int:
    """Delete every kept file that no attachment names any more; return how many.

    Inside of a transaction that writes: who puts a file in its place does so in one, too.
    """
    if not folder.is_dir():
        return 0
    with store.transaction() as transaction:
        kept = list(_kept(folder))
        hold_keys(transaction.session, [f"file:{path.name}" for path in kept])
        used = _used(transaction.session)
        unused = [path for path in kept if path.name not in used]
        for path in unused:
            path.unlink(missing_ok=True)
    return len(unused)


def _kept(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.glob("??/*")) if path.is_file())


def _used(session: Session) -> set[str]:
    query = select(Attachment.uri).where(Attachment.deleted_at.is_(None), Attachment.uri.startswith(OURS))
    return {uri.removeprefix(OURS) for uri in session.scalars(query)}


def safe_name(name: str | None) -> str:
    """Return a file's name without folders and what no system can keep; never empty."""
    last = (name or "").replace("\\", "/").rsplit("/", 1)[-1]
    plain = _ODD.sub("", last).strip(". ")
    if len(plain) > _LONGEST_NAME:
        stem, dot, ending = plain.rpartition(".")
        plain = f"{stem[: _LONGEST_NAME - 12]}{dot}{ending[:10]}" if dot else plain[:_LONGEST_NAME]
    return plain or "file"


def media_type_of(path: Path) -> str:
    """Return what the bytes of a file say that it is."""
    with path.open("rb") as file:
        head = file.read(_HEAD)
    for sign, media_type in _SIGNS:
        if head.startswith(sign):
            return media_type
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image/webp"
    if head.startswith(b"PK\x03\x04"):
        return _zipped(path)
    return "text/plain" if _is_text(head) else UNKNOWN


def _zipped(path: Path) -> str:
    with suppress(zipfile.BadZipFile, OSError), zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        for beginning, media_type in _OFFICE.items():
            if "[Content_Types].xml" in names and any(name.startswith(beginning) for name in names):
                return media_type
    return "application/zip"


def _is_text(head: bytes) -> bool:
    if b"\x00" in head:
        return False
    try:
        head.decode()
    except UnicodeDecodeError as error:
        return len(head) == _HEAD and error.start > _HEAD - 4  # a character that the end cut in two
    return True
