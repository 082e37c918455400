"""Every record type over HTTP: listed, read, created, changed, deleted, upserted, in one shape.

The operations are made from the table of collections, so that a record type that comes later has them all.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Annotated, Any, Final

from flask import Response
from flask_openapi.blueprint import APIBlueprint
from flask_openapi.models.data_type import DataType
from flask_openapi.models.header import Header
from flask_openapi.models.schema import Schema
from flask_openapi.types import ResponseDict
from pydantic import BaseModel, Field
from sqlalchemy.orm import Session

from crm_core.access import Reader, check_may_write
from crm_core.changes import Source
from crm_core.records import Activity, CustomRecord, Record
from serving.activity_log import log_on, select_activities
from serving.api.blueprint import PREFIX, answer, caller, documented, link_next, new_blueprint, plain_answer
from serving.api.conditional import ReadHeaders, WriteHeaders, tagged, versions_asked
from serving.api.records_given import Selection, plain_records, record_json, written_json
from serving.api.records_schemas import (
    COLLECTIONS,
    Collection,
    FieldsQuery,
    RecordsQuery,
    article,
    plural_of,
)
from serving.api.records_timeline import TimelinePage, TimelineQuery, timeline_out
from serving.editing import Editor, Kind, declared_kind, get_as, kind_of
from serving.paging import Listing, list_page, newest_page
from serving.payloads import Asked, Id, NewActivity, RecordPath
from serving.service import service, writing
from serving.timeline import read_timeline

_BODY: Final = (400, 413, 415)
"""What may be wrong with a body before it is read."""

DeclaredType = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=40)]
ExternalId = Annotated[
    str, Field(min_length=1, max_length=200, description="Key in the system it comes from.")
]


class TypePath(Asked):
    """Which declared record type."""

    type: DeclaredType = Field(description="The name of a declared record type.")


class TypedRecordPath(TypePath):
    """Which record of a declared type."""

    id: Id = Field(description="The record's id.")


class ExternalPath(Asked):
    """Which record, by its key elsewhere."""

    external_id: ExternalId


class TypedExternalPath(TypePath):
    """Which record of a declared type, by its key elsewhere."""

    external_id: ExternalId


class LogQuery(Asked):
    """Which page of a history."""

    limit: int = Field(default=50, ge=1, le=200, description="Entries on a page, newest first.")
    cursor: str | None = Field(default=None, max_length=400, description="`next_cursor` of the page before.")


def kind_at(session: Session, collection: Collection, path: BaseModel | None) -> Kind:
    """Return which record type a request is about: a declared one stands in its path."""
    if collection.model is CustomRecord:
        return declared_kind(session, str(getattr(path, "type", "")))
    return kind_of(session, collection.record_type)


def sent(body: BaseModel) -> dict[str, Any]:
    """Return the fields that a body names; those that it does not name are not there."""
    return {name: getattr(body, name) for name in sorted(body.model_fields_set)}


def location_of(record: Record, declared: str | None = None) -> str:
    """Return the address of a record."""
    collection = COLLECTIONS[record.record_type]
    folder = f"custom/{declared}" if isinstance(record, CustomRecord) else collection.path
    return f"{PREFIX}/{folder}/{record.id}"


# ------------------------------------------------------------------------------------------------ views


def _list(collection: Collection, path: BaseModel | None, query: RecordsQuery) -> Response:
    with service().store.reading() as session:
        reader, kind = Reader(session, caller()), kind_at(session, collection, path)
        selection = Selection(reader, collection, kind.name, query.fields)
        asked = query.model_dump(exclude={"fields"})
        if asked.get("status") == "any":
            asked["status"] = None
        page = list_page(session, caller(), collection.model, Listing(**asked), record_type=kind.name)
        items = plain_records(reader, collection, page.items, selection)
    return link_next(plain_answer({"items": items, "next_cursor": page.next_cursor}), page.next_cursor)


def _get(collection: Collection, path: Any, query: FieldsQuery) -> Response:  # noqa: ANN401  a path with an id
    with service().store.reading() as session:
        reader, kind = Reader(session, caller()), kind_at(session, collection, path)
        selection = Selection(reader, collection, kind.name, query.fields)
        record = get_as(reader, kind, path.id)
        body = record_json(reader, record, selection)
    return tagged(body, record.version)


def _create(collection: Collection, path: BaseModel | None, body: BaseModel) -> Response:
    with writing(caller(), Source.API) as transaction:
        kind = kind_at(transaction.session, collection, path)
        editor = Editor(transaction, caller())
        record = editor.create(kind, sent(body))
        made = written_json(editor.reader, record)
    return _created(made, record, kind)


def _created(body: str, record: Record, kind: Kind) -> Response:
    response = tagged(body, record.version, 201)
    response.headers["Location"] = location_of(record, kind.name)
    return response


def _update(collection: Collection, path: Any, body: BaseModel) -> Response:  # noqa: ANN401  as above
    with writing(caller(), Source.API) as transaction:
        kind = kind_at(transaction.session, collection, path)
        editor = Editor(transaction, caller())
        record = editor.update(kind, path.id, sent(body), versions=versions_asked())
        made = written_json(editor.reader, record)
    return tagged(made, record.version)


def _delete(collection: Collection, path: Any) -> Response:  # noqa: ANN401  as above
    with writing(caller(), Source.API) as transaction:
        kind = kind_at(transaction.session, collection, path)
        Editor(transaction, caller()).delete(kind, path.id, versions=versions_asked())
    return Response(status=204)


def _upsert(collection: Collection, path: Any, body: BaseModel) -> Response:  # noqa: ANN401  as above
    with writing(caller(), Source.API) as transaction:
        kind = kind_at(transaction.session, collection, path)
        editor = Editor(transaction, caller())
        record, is_new = editor.upsert(kind, path.external_id, sent(body), versions=versions_asked())
        made = written_json(editor.reader, record)
    return _created(made, record, kind) if is_new else tagged(made, record.version)


def _log(collection: Collection, path: Any, body: NewActivity) -> Response:  # noqa: ANN401  as above
    with writing(caller(), Source.API) as transaction:
        kind = kind_at(transaction.session, collection, path)
        editor = Editor(transaction, caller())
        check_may_write(caller())
        if collection.model is CustomRecord:  # of which there are several kinds
            get_as(editor.reader, kind, path.id)
        values = body.model_dump(exclude_none=True)
        logged = log_on(transaction, caller(), collection.model, path.id, Activity(**values))
        made = written_json(editor.reader, logged)
    return _created(made, logged, Kind(model=Activity, name="activity"))


def _list_activities(collection: Collection, path: Any, query: LogQuery) -> Response:  # noqa: ANN401  as above
    with service().store.reading() as session:
        reader, kind = Reader(session, caller()), kind_at(session, collection, path)
        record = get_as(reader, kind, path.id)
        found = select_activities(reader, record)
        page = newest_page(session, Activity, found, limit=query.limit, cursor=query.cursor)
        items = plain_records(reader, COLLECTIONS["activity"], page.items)
    return link_next(plain_answer({"items": items, "next_cursor": page.next_cursor}), page.next_cursor)


def _timeline(collection: Collection, path: Any, query: TimelineQuery) -> Response:  # noqa: ANN401  as above
    with service().store.reading() as session:
        reader, kind = Reader(session, caller()), kind_at(session, collection, path)
        record = get_as(reader, kind, path.id)
        kinds = query.kinds.split(",") if query.kinds else ()
        found = read_timeline(reader, record, limit=query.limit, cursor=query.cursor, kinds=kinds)
        given = timeline_out(reader, record, found)
    return answer(given)


# ------------------------------------------------------------------------------------------------ operations

LOGGED_ON: Final = frozenset(
    {"lead", "account", "contact", "ticket", "quote", "contract", "order", "payment", "product", "campaign"}
    | {"custom_record"}
)
"""Record types on which activities are logged, besides deals, which a call may move."""

_ETAG = (
    'What the record is at: `"VERSION-DIGEST"`. Another score makes another one; edits compare the version.'
)
_HEADERS: dict[str, str] = {
    "ETag": _ETAG,
    "Location": "Where the new record is.",
}


def _makes(name: str, about: str, view: Callable[..., Response], **takes: type[BaseModel] | None) -> Any:  # noqa: ANN401  a view
    """Return a view whose name, summary and parameters the framework reads as if they were written out."""

    def made(**given: Any) -> Response:
        return view(**given)

    made.__name__ = made.__qualname__ = name
    made.__doc__ = about
    made.__annotations__ = {each: kind for each, kind in takes.items() if kind is not None}
    return made


class _Maker:
    """Adds the operations of one collection to its blueprint."""

    def __init__(self, collection: Collection) -> None:
        self.collection = collection
        self.noun = collection.noun
        self.name = collection.record_type
        is_custom = collection.model is CustomRecord
        self.all_path = TypePath if is_custom else None
        self.one_path = TypedRecordPath if is_custom else RecordPath
        self.external_path = TypedExternalPath if is_custom else ExternalPath
        self.rule = f"/{collection.path}"
        self.one_rule = f"{self.rule}/<int:id>"
        about = (collection.model.__doc__ or "").strip().split("\n")[0]
        self.api = new_blueprint(collection.name, about)

    def add_all(self) -> APIBlueprint:
        """Add every operation."""
        given, page = self.collection.given, self.collection.page
        a, several = article(self.noun), self.collection.plural
        self.add(
            "get",
            self.rule,
            f"list_{plural_of(self.name)}",
            f"List the {several} you may see{self._order()}.",
            _list,
            {"200": page, **documented(403)},
            path=self.all_path,
            query=self.collection.query,
        )
        self.add(
            "post",
            self.rule,
            f"create_{self.name}",
            f"Create {a}.",
            _create,
            {"201": given, **documented(*_BODY, 403, 409)},
            path=self.all_path,
            body=self.collection.taken,
        )
        self.add(
            "get",
            self.one_rule,
            f"get_{self.name}",
            f"Read {a}.",
            _get,
            {"200": given, "304": None, **documented(403, 404)},
            path=self.one_path,
            query=FieldsQuery,
            header=ReadHeaders,
        )
        self.add(
            "patch",
            self.one_rule,
            f"update_{self.name}",
            f"Change fields of {a}: null empties one.",
            _update,
            {"200": given, **documented(*_BODY, 403, 404, 409, 412)},
            path=self.one_path,
            body=self.collection.patched,
            header=WriteHeaders,
        )
        self.add(
            "delete",
            self.one_rule,
            f"delete_{self.name}",
            f"Delete {a}; its history stays.",
            _delete,
            {"204": None, **documented(403, 404, 412)},
            path=self.one_path,
            header=WriteHeaders,
        )
        self.add(
            "put",
            f"{self.rule}/by-external-id/<path:external_id>",
            f"upsert_{self.name}",
            f"Create {a} with a key from elsewhere, or set the fields named of the one that has it.",
            _upsert,
            {"200": given, "201": given, **documented(*_BODY, 403, 404, 409, 412)},
            path=self.external_path,
            body=self.collection.taken,
            header=WriteHeaders,
        )
        self.add(
            "get",
            f"{self.one_rule}/timeline",
            f"list_{self.name}_timeline",
            f"List what happened with {a}, newest first.",
            _timeline,
            {"200": TimelinePage, **documented(404)},
            path=self.one_path,
            query=TimelineQuery,
        )
        self._add_activities()
        return self.api

    def _add_activities(self) -> None:
        if self.name not in LOGGED_ON | {"deal"}:
            return
        activities, a = COLLECTIONS["activity"], article(self.noun)
        rule = f"{self.one_rule}/activities"
        self.add(
            "get",
            rule,
            f"list_{self.name}_activities",
            f"List what was done with {a}, newest first.",
            _list_activities,
            {"200": activities.page, **documented(404)},
            path=self.one_path,
            query=LogQuery,
        )
        if self.name in LOGGED_ON:
            self.add(
                "post",
                rule,
                f"log_{self.name}_activity",
                f"Log what was done with {a}{self._follows()}.",
                _log,
                {"201": activities.given, **documented(*_BODY, 403, 404)},
                path=self.one_path,
                body=NewActivity,
            )

    def _follows(self) -> str:
        return "; its score follows within seconds" if self.collection.is_scored else ""

    def _order(self) -> str:
        return ", the likeliest first" if self.collection.is_scored else ", newest first"

    def add(
        self,
        method: str,
        rule: str,
        name: str,
        about: str,
        view: Callable[..., Response],
        responses: ResponseDict,
        **takes: type[BaseModel] | None,
    ) -> None:
        """Add one operation: what it is called and does, what it takes and answers."""
        collection, has_path, has_header = self.collection, takes.get("path") is not None, "header" in takes

        def run(**given: Any) -> Response:
            if has_header:
                given.pop("header")
            path = given.pop("path") if has_path else None
            return view(collection, path, *given.values())

        made = _makes(name, about, run, **takes)
        getattr(self.api, method)(rule, responses=responses, operation_id=name)(made)
        self.api.document_later(partial(self._document_headers, method, rule))

    def _document_headers(self, method: str, rule: str) -> None:
        uri = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", f"{PREFIX}{rule}")
        responses = getattr(self.api.paths[uri], method).responses
        for status, response in responses.items():
            names = {"200": ["ETag"], "304": ["ETag"], "201": ["ETag", "Location"]}.get(status, [])
            if method == "get" and "{id}" not in uri.rsplit("/", 1)[-1]:
                continue
            if names:
                response.headers = {
                    name: Header(description=_HEADERS[name], schema=Schema(type=DataType.STRING))
                    for name in names
                }


@cache
def blueprint_of(record_type: str) -> APIBlueprint:
    """Return the blueprint with a record type's operations; verbs of its own are added to it."""
    return _Maker(COLLECTIONS[record_type]).add_all()


def blueprints() -> Mapping[str, APIBlueprint]:
    """Return the blueprints of all record types."""
    return {record_type: blueprint_of(record_type) for record_type in COLLECTIONS}
