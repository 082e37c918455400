"""Files on records over HTTP: put there, and saved."""

from __future__ import annotations

import base64
import io
from typing import Annotated, Any

from flask import Response, request
from flask_openapi.blueprint import APIBlueprint
from pydantic import Field

from crm_core.access import Reader, check_may_write
from crm_core.changes import Source
from crm_core.errors import AccessDeniedError, InvalidValueError
from crm_core.incoming.parsing import LARGEST
from serving.api.blueprint import caller, documented, new_blueprint
from serving.api.kept import TypeName
from serving.api.records import created_record
from serving.api.records_given import written_json
from serving.api.records_schemas import COLLECTIONS
from serving.editing import get_as, kind_of
from serving.files import UNKNOWN, Kept, find_file, take_in
from serving.files_kept import find_to_save, keep_file, to_be_saved
from serving.payloads import Id, RecordPath, Taken
from serving.service import service, writing

api: APIBlueprint = new_blueprint("files", "Files on records: put there, and saved.")

AttachmentOut: Any = COLLECTIONS["attachment"].given
_MIB = 2**20
_BINARY: Any = {"content": {UNKNOWN: {"schema": {"type": "string", "format": "binary"}}}}


class NewFile(Taken):
    """A file to be put on a record."""

    type: TypeName = Field(description="Of the record, such as deal.")
    id: Id = Field(description="The record's id.")
    name: Annotated[str, Field(min_length=1, max_length=300, examples=["contract.pdf"])]
    content: Annotated[str, Field(min_length=1)] = Field(
        description="The file in base64, up to `CRM_FILE_MIB` MiB of bytes.", examples=["JVBERi0xLjcK"]
    )


def make_room() -> None:
    """Let a request bring as much as a file or a mail may have in base64, if it is one that brings one."""
    most = {"files.put_file": service().settings.file_mib * _MIB, "intake.take_in_mail": LARGEST}
    if request.endpoint in most:
        request.max_content_length = (request.max_content_length or 0) + most[request.endpoint] * 4 // 3


@api.post("/files", responses={"201": AttachmentOut, **documented(400, 403, 404, 413, 415)})
def put_file(body: NewFile) -> Response:
    """Put a file on a record that you see; what it is, its bytes say. It is an attachment from then on."""
    user = caller()
    check_may_write(user)
    with service().store.reading() as session:
        get_as(Reader(session, user), kind_of(session, body.type), body.id)
    kept = _take_in(body.content)
    try:
        with writing(user, Source.API) as transaction:
            kind, folder = kind_of(transaction.session, body.type), service().settings.home_folder.files
            made = keep_file(transaction, user, kind, body.id, body.name, folder, kept)
            return created_record(written_json(Reader(transaction.session, user), made), made)
    finally:
        kept.path.unlink(missing_ok=True)


@api.get("/files/<int:id>", responses={"200": _BINARY, **documented(404)})
def get_file(path: RecordPath) -> Response:
    """Save the file of an attachment, by the attachment's id; one that is only a reference has none here."""
    with service().store.reading() as session:
        found = find_to_save(Reader(session, caller()), path.id)
        return to_be_saved(find_file(service().settings.home_folder.files, found), found.name, UNKNOWN)


def _take_in(content: str) -> Kept:
    most = service().settings.file_mib
    if not most:
        raise AccessDeniedError("files are put on no records here (CRM_FILE_MIB is 0)")
    try:
        raw = base64.b64decode(content, validate=True)
    except ValueError as error:
        raise InvalidValueError("content", content[:40], "a file in base64") from error
    return take_in(service().settings.home_folder.files, io.BytesIO(raw), most=most * _MIB)
