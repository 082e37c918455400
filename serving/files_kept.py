"""Files of records as people and programs bring and take them: kept as attachments, given to be saved."""

from __future__ import annotations

from pathlib import Path
from typing import cast
from urllib.parse import quote

from flask import Response, send_file

from crm_core.access import Reader
from crm_core.errors import InvalidValueError, RecordNotFoundError
from crm_core.records import Attachment, User
from crm_core.store import Transaction
from serving.editing import Editor, Kind, kind_of
from serving.files import Kept, is_ours, put_in_place, safe_name

SAVED_ONLY = "sandbox; default-src 'none'"
"""What a file may do if a browser shows it after all: nothing."""


def keep_file(
    transaction: Transaction, user: User, kind: Kind, record_id: int, name: str, folder: Path, kept: Kept
) -> Attachment:
    """Put a file that was taken in on a record, as a user who may."""
    values = {
        "subject_type": kind.model.record_type,
        "subject_id": record_id,
        "name": safe_name(name),
        "uri": put_in_place(transaction, folder, kept),
        "media_type": kept.media_type,
        "size": kept.size,
        "sha256": kept.sha256,
        "owner_id": user.id,
    }
    editor = Editor(transaction, user)
    return cast("Attachment", editor.create(kind_of(transaction.session, "attachment"), values))


def find_to_save(reader: Reader, attachment_id: int) -> Attachment:
    """Return an attachment whose file the reader may save; raise InvalidValueError for a reference."""
    found = reader.get(Attachment, attachment_id)
    if not reader.may_read_field("attachment", "uri"):
        raise RecordNotFoundError("file", attachment_id)
    if not is_ours(found.uri):
        raise InvalidValueError("attachment.uri", found.uri, "a file that is kept here")
    return found


def to_be_saved(path: Path, name: str | None, media_type: str) -> Response:
    """Return a file, to be saved and never shown in place."""
    answer = send_file(path, mimetype=media_type, conditional=False)
    name = safe_name(name)
    plain = "".join(letter if letter.isascii() and letter not in '"%;' else "_" for letter in name)
    answer.headers["Content-Disposition"] = (
        f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name)}"
    )
    answer.headers["Content-Security-Policy"] = SAVED_ONLY
    answer.headers["X-Content-Type-Options"] = "nosniff"
    answer.headers["Cache-Control"] = "private, no-store"
    return answer
