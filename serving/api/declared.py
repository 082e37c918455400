"""Record types and custom fields over HTTP: what there is; declared, changed, retired by administrators."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Final

from flask import Response
from flask_openapi.blueprint import APIBlueprint
from pydantic import Field
from sqlalchemy.orm import Session

from crm_core.access import Reader, check_may_administer
from crm_core.access import Scope as Reach
from crm_core.changes import Source
from crm_core.errors import UnknownFieldError, UnknownRecordTypeError
from crm_core.fields import (
    CUSTOM,
    Choice,
    FieldDeclaration,
    FieldKind,
    Known,
    change_field,
    declare_field,
    get_field,
    list_all_fields,
    model_of,
    restore_field,
    retire_field,
)
from crm_core.record_types import (
    change_record_type,
    declare_record_type,
    find_record_type,
    get_record_type,
    list_record_types,
    restore_record_type,
    retire_record_type,
)
from crm_core.records import RECORD_TYPES, CustomRecord, CustomRecordType, Role
from crm_core.tokens import Scope
from serving.api.blueprint import PREFIX, answer, caller, documented, new_blueprint, requires
from serving.api.conditional import ReadHeaders, WriteHeaders, created, mark_of, tagged
from serving.api.pages import Key, PageQuery
from serving.api.records_schemas import COLLECTIONS
from serving.payloads import Asked, Given, Taken, Utc
from serving.service import service, writing

api: APIBlueprint = new_blueprint(
    "record-types", "Record types and custom fields: what there is; declared by administrators."
)

_MOST_CHOICES: Final = 500
_WRITTEN = documented(400, 403, 409, 413, 415)
_Type = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=40, examples=["machine"])]
_Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,100}$", max_length=101, examples=["grade"])]
_Label = Annotated[str, Field(min_length=1, max_length=200, examples=["Grade"])]


class TypePath(Asked):
    """Which record type."""

    type: _Type


class CustomFieldPath(TypePath):
    """Which custom field of which record type."""

    name: Annotated[str, Field(min_length=1, max_length=101)] = Field(
        description="Without `custom.`.", examples=["grade"]
    )


class ChoiceBody(Taken):
    """One value of a choice, and what people read for it."""

    value: Annotated[str, Field(min_length=1, max_length=200, examples=["a"])]
    label_en: _Label | None = None
    label_zh: _Label | None = None


class ChoiceOut(Given):
    """One value of a choice, and what people read for it."""

    value: str
    label_en: str | None
    label_zh: str | None


class NewCustomField(Taken):
    """A custom field; declared again, it takes new labels and further choices."""

    name: _Name = Field(description="Without `custom.`.")
    kind: FieldKind = Field(strict=False, description="What it holds.")
    known: Known = Field(
        strict=False,
        description=(
            "When its value is known, which decides whether a model may learn from it: `creation` (filled "
            "when a record is created), `history` (every change is in the log), `outcome` (written at or "
            "after the outcome) or `unknown`; of the last two no model learns."
        ),
    )
    label_en: _Label | None = None
    label_zh: _Label | None = None
    choices: list[ChoiceBody] = Field(
        default=[], max_length=_MOST_CHOICES, description="Of a `choice`, and only of that: its values."
    )
    required: bool = Field(default=False, description="Whether every new record needs a value.")
    target: _Type | None = Field(
        default=None, description="Of a `reference`, and only of that: the record type that it names."
    )


class CustomFieldChange(Taken):
    """What is to be another about a custom field; what is left out stays."""

    label_en: _Label | None = None
    label_zh: _Label | None = None
    choices: list[ChoiceBody] = Field(
        default=[],
        max_length=_MOST_CHOICES,
        description="Further values, or other labels of those it has; none is ever lost.",
    )
    required: bool | None = None


class CustomFieldOut(Given):
    """A custom field."""

    name: str = Field(description="As records hold it in `custom`; filters say `custom.NAME`.")
    kind: FieldKind
    known: Known
    label_en: str | None
    label_zh: str | None
    choices: list[ChoiceOut]
    required: bool
    target: str | None = Field(description="Of a reference: the record type that it names.")
    retired_at: Utc | None = Field(description="Since when it takes no more values.")


class CustomFieldsPage(Given):
    """The custom fields of a record type, by name."""

    items: list[CustomFieldOut]
    next_cursor: str | None = Field(description="Ask with it for the next page; null on the last.")


class NewRecordType(Taken):
    """A record type; declared again, it takes new labels and further links."""

    name: _Type
    label_en: _Label
    label_zh: _Label
    links: list[_Type] = Field(
        default=[],
        max_length=50,
        description="What its records may belong to: lead, deal, account, contact, or a declared type.",
        examples=[["account"]],
    )


class RecordTypeChange(Taken):
    """What is to be another about a record type; what is left out stays, and no link is lost."""

    label_en: _Label | None = None
    label_zh: _Label | None = None
    links: list[_Type] = Field(default=[], max_length=50, description="Further ones.")


class RecordTypeOut(Given):
    """A record type."""

    name: str
    path: str = Field(description="Where its records are.", examples=["/api/v1/leads"])
    built_in: bool
    label_en: str | None = Field(description="Null: built in.")
    label_zh: str | None
    links: list[str] = Field(description="Of a declared one: what its records may belong to.")
    retired_at: Utc | None = Field(description="Since when it takes no more records.")


class RecordTypesPage(Given):
    """The record types of which you may see records; built-in ones first, then by name."""

    items: list[RecordTypeOut]
    next_cursor: str | None = Field(description="Ask with it for the next page; null on the last.")


@api.get(
    "/record-types", operation_id="list_record_types", responses={"200": RecordTypesPage, **documented()}
)
def list_types(query: PageQuery) -> Response:
    """List the record types of which you may see records, and where those are."""
    with service().store.reading() as session:
        reader = Reader(session, caller())
        built_in = [_built_in(name) for name in RECORD_TYPES if name != CustomRecord.record_type]
        every = [*built_in, *(_declared(each) for each in list_record_types(session))]
        known = [each for each in every if _may_know(reader, each.name)]
    items, more = query.part(known, _built_in_first)
    return answer(RecordTypesPage(items=items, next_cursor=more))


def _built_in_first(each: RecordTypeOut) -> Key:
    return (0, list(RECORD_TYPES).index(each.name), "") if each.built_in else (1, 0, each.name)


@api.post("/record-types", operation_id="declare_record_type", responses={"201": RecordTypeOut, **_WRITTEN})
@requires(Scope.ADMIN)
def declare_type(body: NewRecordType) -> Response:
    """Declare a record type; for administrators."""
    check_may_administer(caller())
    with writing(caller(), Source.API) as transaction:
        made = _declared(declare_record_type(transaction.session, **body.model_dump()))
        return created(made, f"record-types/{made.name}", mark_of(made))


@api.get(
    "/record-types/<string:type>",
    operation_id="get_record_type",
    responses={"200": RecordTypeOut, **documented()},
)
def read_type(path: TypePath, header: ReadHeaders) -> Response:
    """Read a record type of which you may see records."""
    with service().store.reading() as session:
        model_of(session, path.type)
        if not _may_know(Reader(session, caller()), path.type):
            raise UnknownRecordTypeError(path.type)
        declared = find_record_type(session, path.type)
        found = _built_in(path.type) if declared is None else _declared(declared)
    return header.answer(found, mark_of(found))


@api.patch(
    "/record-types/<string:type>",
    operation_id="change_record_type",
    responses={"200": RecordTypeOut, **_WRITTEN},
)
@requires(Scope.ADMIN)
def change_type(path: TypePath, header: WriteHeaders, body: RecordTypeChange) -> Response:
    """Give a declared record type other labels and further links; for administrators."""
    return _on_type(path, lambda session: change_record_type(session, path.type, **body.model_dump()), header)


@api.post(
    "/record-types/<string:type>/retire",
    operation_id="retire_record_type",
    responses={"200": RecordTypeOut, **documented(403)},
)
@requires(Scope.ADMIN)
def retire_type(path: TypePath) -> Response:
    """Let a declared record type take no more records; those that there are stay. For administrators."""
    return _on_type(path, lambda session: retire_record_type(session, path.type))


@api.post(
    "/record-types/<string:type>/restore",
    operation_id="restore_record_type",
    responses={"200": RecordTypeOut, **documented(403)},
)
@requires(Scope.ADMIN)
def restore_type(path: TypePath) -> Response:
    """Let a retired record type take records again; for administrators."""
    return _on_type(path, lambda session: restore_record_type(session, path.type))


@api.get("/record-types/<string:type>/fields", responses={"200": CustomFieldsPage, **documented(403)})
def list_custom_fields(path: TypePath, query: PageQuery) -> Response:
    """List the custom fields of a record type that you may see, retired ones too."""
    with service().store.reading() as session:
        reader = Reader(session, caller())
        found = list_all_fields(session, path.type)
        known = [
            _field(each)
            for each in found
            if each.name.startswith(CUSTOM) and _may_know(reader, path.type, each.name)
        ]
    items, more = query.part(known, lambda each: (each.name,))
    return answer(CustomFieldsPage(items=items, next_cursor=more))


@api.post("/record-types/<string:type>/fields", responses={"201": CustomFieldOut, **_WRITTEN})
@requires(Scope.ADMIN)
def declare_custom_field(path: TypePath, body: NewCustomField) -> Response:
    """Declare a custom field; for administrators."""
    check_may_administer(caller())
    with writing(caller(), Source.API) as transaction:
        made = declare_field(
            transaction.session,
            record_type=path.type,
            name=f"{CUSTOM}{body.name}",
            kind=body.kind,
            known=body.known,
            label_en=body.label_en,
            label_zh=body.label_zh,
            choices=_choices(body.choices),
            required=body.required,
            target=body.target,
        )
        told = _field(made)
        return created(told, f"record-types/{path.type}/fields/{told.name}", mark_of(told))


@api.get(
    "/record-types/<string:type>/fields/<string:name>", responses={"200": CustomFieldOut, **documented()}
)
def get_custom_field(path: CustomFieldPath, header: ReadHeaders) -> Response:
    """Read a custom field that you may see, retired or not."""
    with service().store.reading() as session:
        found = get_field(session, path.type, f"{CUSTOM}{path.name}")
        if not _may_know(Reader(session, caller()), path.type, found.name):
            raise UnknownFieldError(path.type, found.name)
        told = _field(found)
    return header.answer(told, mark_of(told))


@api.patch("/record-types/<string:type>/fields/<string:name>", responses={"200": CustomFieldOut, **_WRITTEN})
@requires(Scope.ADMIN)
def change_custom_field(path: CustomFieldPath, header: WriteHeaders, body: CustomFieldChange) -> Response:
    """Give a custom field other labels or further choices, or make it required; for administrators."""
    return _on_field(
        path,
        lambda session, name: change_field(
            session,
            path.type,
            name,
            label_en=body.label_en,
            label_zh=body.label_zh,
            choices=_choices(body.choices),
            required=body.required,
        ),
        header,
    )


@api.post(
    "/record-types/<string:type>/fields/<string:name>/retire",
    responses={"200": CustomFieldOut, **documented(403)},
)
@requires(Scope.ADMIN)
def retire_custom_field(path: CustomFieldPath) -> Response:
    """Let a custom field take no more values; those that it has stay. For administrators."""
    return _on_field(path, lambda session, name: retire_field(session, path.type, name))


@api.post(
    "/record-types/<string:type>/fields/<string:name>/restore",
    responses={"200": CustomFieldOut, **documented(403)},
)
@requires(Scope.ADMIN)
def restore_custom_field(path: CustomFieldPath) -> Response:
    """Let a retired custom field take values again; for administrators."""
    return _on_field(path, lambda session, name: restore_field(session, path.type, name))


def _on_type(
    path: TypePath, verb: Callable[[Session], CustomRecordType], header: WriteHeaders | None = None
) -> Response:
    check_may_administer(caller())
    with writing(caller(), Source.API) as transaction:
        session = transaction.session
        model_of(session, path.type)
        found = get_record_type(session, path.type)
        session.refresh(found, with_for_update=True)
        if header is not None:
            header.check(f"record type {path.type}", found.id, mark_of(_declared(found)))
        told = _declared(verb(session))
        return tagged(told.model_dump_json(), mark_of(told))


def _on_field(
    path: CustomFieldPath,
    verb: Callable[[Session, str], FieldDeclaration],
    header: WriteHeaders | None = None,
) -> Response:
    check_may_administer(caller())
    with writing(caller(), Source.API) as transaction:
        session, name = transaction.session, f"{CUSTOM}{path.name}"
        found = get_field(session, path.type, name)
        session.refresh(found, with_for_update=True)
        if header is not None:
            header.check(f"field {path.type}.{name}", found.id, mark_of(_field(found)))
        told = _field(verb(session, name))
        return tagged(told.model_dump_json(), mark_of(told))


def _may_know(reader: Reader, record_type: str, field: str | None = None) -> bool:
    """Tell whether somebody may know of a type or field: administrators, and who may see what it holds."""
    if reader.user.role == Role.ADMIN:
        return True
    seen = reader.right(record_type).read is not Reach.NONE
    return seen and (field is None or reader.may_read_field(record_type, field))


def _choices(said: list[ChoiceBody]) -> list[Choice]:
    return [Choice(**each.model_dump()) for each in said]


def _built_in(name: str) -> RecordTypeOut:
    where = f"{PREFIX}/{COLLECTIONS[name].path}"
    return RecordTypeOut(
        name=name, path=where, built_in=True, label_en=None, label_zh=None, links=[], retired_at=None
    )


def _declared(found: CustomRecordType) -> RecordTypeOut:
    plain: dict[str, Any] = {
        name: getattr(found, name) for name in ("name", "label_en", "label_zh", "links", "retired_at")
    }
    return RecordTypeOut(**plain, path=f"{PREFIX}/custom/{found.name}", built_in=False)


def _field(found: FieldDeclaration) -> CustomFieldOut:
    plain = {name: getattr(found, name) for name in CustomFieldOut.model_fields}
    name = found.name.removeprefix(CUSTOM)
    return CustomFieldOut.model_validate({**plain, "name": name, "choices": found.choices or []})
