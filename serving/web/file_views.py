"""Putting files on records, and saving them: whoever sees the record sees its files."""

from __future__ import annotations

from contextlib import suppress

from flask import Blueprint, flash, make_response, redirect, request
from flask.typing import ResponseReturnValue
from flask_login import current_user

from crm_core.access import Reader, check_may_write
from crm_core.changes import Source
from crm_core.errors import InvalidValueError
from serving.editing import get_as, kind_of
from serving.files import find_file, media_type_of, take_in
from serving.files_kept import find_to_save, keep_file, to_be_saved
from serving.service import SentAlreadyError, page_session, service, writing
from serving.web.any_record import _around, by_script
from serving.web.language import gettext

pages = Blueprint("file_pages", __name__)

_MIB = 2**20


def make_room() -> None:
    """Let a request bring as much as a file may have, if it is one that brings a file."""
    if request.endpoint == "file_pages.put_file":
        most = request.max_content_length or 0
        request.max_content_length = most + service().settings.file_mib * _MIB


@pages.post("/records/<string:record_type>/<int:record_id>/files")
def put_file(record_type: str, record_id: int) -> ResponseReturnValue:
    """Put a file on a record that somebody sees."""
    user = current_user.user
    check_may_write(user)
    kind = kind_of(page_session(), record_type)
    get_as(Reader(page_session(), user), kind, record_id)
    most = service().settings.file_mib
    sent = request.files.get("file")
    if sent is None or not sent.filename or not most:
        return _around(record_type, record_id, refused=gettext("Choose a file first."), status=422)
    folder = service().settings.home_folder.files
    try:
        kept = take_in(folder, sent.stream, most=most * _MIB)
    except InvalidValueError:
        why = gettext("A file holds something, and at most %(most)s MiB.", most=most)
        return _around(record_type, record_id, refused=why, status=422)
    try:
        with suppress(SentAlreadyError), writing(user, Source.REP) as transaction:
            kind = kind_of(transaction.session, record_type)
            keep_file(transaction, user, kind, record_id, sent.filename, folder, kept)
    finally:
        kept.path.unlink(missing_ok=True)
    if by_script():
        return make_response("", 201)
    flash(gettext("The file is kept."))
    return redirect(f"/records/{record_type}/{record_id}/around")


@pages.get("/files/<int:attachment_id>")
def save_file(attachment_id: int) -> ResponseReturnValue:
    """Give a file to be saved; of a reference, go to where it leads if that is a page."""
    found = find_to_save(Reader(page_session(), current_user.user), attachment_id)
    path = find_file(service().settings.home_folder.files, found)
    return to_be_saved(path, found.name, media_type_of(path))
