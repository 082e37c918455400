"""Up to 200 writes in one request, each with a result of its own.

They are one transaction with a savepoint for each: what is refused leaves nothing and the others stay, all of
them are seen by others at once, and if the answer cannot be given nothing was done. They are done in their
order, so a later one sees what an earlier one wrote.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Final, Literal

from flask import Response
from flask_openapi.blueprint import APIBlueprint
from pydantic import BaseModel, BeforeValidator, Field, ValidationError
from sqlalchemy import or_, select

from crm_core.access import check_may_write
from crm_core.changes import Source
from crm_core.errors import CRMError, InvalidValueError, UnknownRecordTypeError
from crm_core.external_ids import hold_keys, key_of
from crm_core.records import CustomRecord, Record
from serving import problems
from serving.api.blueprint import answer, caller, documented, new_blueprint
from serving.api.records import sent
from serving.api.records_given import records_out
from serving.api.records_schemas import COLLECTIONS, Collection
from serving.editing import Editor, Kind, declared_kind, kind_of
from serving.payloads import Given, Id, Problem, Taken, as_whole
from serving.service import writing

api: APIBlueprint = new_blueprint("batch", "Many writes in one request.")

MOST: Final = 200

_CUSTOM = "custom/"
_BY_PATH = {each.path: each for each in COLLECTIONS.values() if each.model is not CustomRecord}


class BatchOperation(Taken):
    """One write."""

    op: Literal["create", "update", "delete", "upsert"]
    type: Annotated[str, Field(min_length=1, max_length=60)] = Field(
        description="As in paths: `leads`, `campaign-members`, or `custom/NAME` for a declared type.",
        examples=["leads"],
    )
    id: Id | None = Field(default=None, description="Of the record to update or delete.")
    external_id: Annotated[str, Field(min_length=1, max_length=200)] | None = Field(
        default=None, description="Of the record to upsert."
    )
    version: Annotated[int, Field(ge=1, le=2**31 - 1), BeforeValidator(as_whole)] | None = Field(
        default=None, description="The version that the edit was made on; 412 if it is at another one."
    )
    record: dict[str, Any] | None = Field(
        default=None,
        description="What `POST` takes of a record to create or upsert, and `PATCH` of one to update.",
    )


class BatchIn(Taken):
    """Writes, done in their order."""

    operations: Annotated[list[BatchOperation], Field(min_length=1, max_length=MOST)]


class BatchResult(Given):
    """What came of one write: the record as it is after all of them, or why it was refused."""

    status: int = Field(description="What the operation alone would have been answered with.")
    id: int | None = None
    record: dict[str, Any] | None = Field(default=None, description="Null if it was refused or is deleted.")
    problem: Problem | None = None


class BatchOut(Given):
    """What came of each write, in their order."""

    results: list[BatchResult]


@dataclass(frozen=True, kw_only=True)
class _Done:
    """What came of one write, before the record is read again."""

    status: int
    record: Record | None = None
    record_id: int | None = None
    problem: dict[str, Any] | None = None


@api.post("/batch", operation_id="write_batch", responses={"200": BatchOut, **documented(400, 403, 413, 415)})
def write_batch(body: BatchIn) -> Response:
    """Do up to 200 writes, each with a result of its own: one that is refused keeps no other back."""
    check_may_write(caller())
    with writing(caller(), Source.API) as transaction:
        editor = Editor(transaction, caller())
        _lock(editor, body.operations)
        done = [_try(editor, operation) for operation in body.operations]
        return answer(BatchOut(results=_results(editor, done)))


def _try(editor: Editor, operation: BatchOperation) -> _Done:
    """Do one write, or leave nothing of it."""
    try:
        with editor.transaction.session.begin_nested():
            return _do(editor, operation)
    except ValidationError as error:
        return _refused(problems.of_validation(error))
    except CRMError as error:
        if problems.kind_of(error).status >= 500:
            raise
        return replace(_refused(problems.of_error(error)), record_id=operation.id)


def _refused(response: Response) -> _Done:
    return _Done(status=response.status_code, problem=json.loads(response.get_data()))


def _do(editor: Editor, operation: BatchOperation) -> _Done:
    kind = _kind(editor, operation.type)
    collection = COLLECTIONS[kind.model.record_type]
    versions = None if operation.version is None else frozenset({operation.version})
    match operation.op:
        case "create":
            made = editor.create(kind, _values(operation, collection.taken))
            return _Done(status=201, record=made, record_id=made.id)
        case "update":
            record_id = _needed(operation, "id", operation.id)
            values = _values(operation, collection.patched)
            return _Done(
                status=200,
                record=editor.update(kind, record_id, values, versions=versions),
                record_id=record_id,
            )
        case "delete":
            record_id = _needed(operation, "id", operation.id)
            editor.delete(kind, record_id, versions=versions)
            return _Done(status=204, record_id=record_id)
    external_id = _needed(operation, "external_id", operation.external_id)
    values = _values(operation, collection.taken)
    record, is_new = editor.upsert(kind, external_id, values, versions=versions)
    return _Done(status=201 if is_new else 200, record=record, record_id=record.id)


def _kind(editor: Editor, name: str) -> Kind:
    session = editor.transaction.session
    if name.startswith(_CUSTOM):
        return declared_kind(session, name.removeprefix(_CUSTOM))
    if name not in _BY_PATH:
        raise UnknownRecordTypeError(name)
    return kind_of(session, _BY_PATH[name].record_type)


def _needed(operation: BatchOperation, name: str, value: Any) -> Any:  # noqa: ANN401  an id of either kind
    if value is None:
        raise InvalidValueError(name, None, f"the {name} of the record to {operation.op}")
    return value


def _values(operation: BatchOperation, schema: type[BaseModel]) -> dict[str, Any]:
    """Return the fields that an operation names, checked as those of a request of its own."""
    return sent(schema.model_validate_json(json.dumps(operation.record or {})))


def _lock(editor: Editor, operations: Sequence[BatchOperation]) -> None:
    """Lock all that is written, in one order for all batches, so that no two wait for each other."""
    session = editor.transaction.session
    if session.get_bind().dialect.name != "postgresql":
        return
    wanted: dict[type[Record], tuple[set[int], set[str]]] = defaultdict(lambda: (set(), set()))
    keys = set()
    for operation in operations:
        try:
            kind = _kind(editor, operation.type)
        except CRMError:
            continue
        external_id = operation.external_id or (operation.record or {}).get("external_id")
        if isinstance(external_id, str):
            keys.add(key_of(kind.name, external_id))
            wanted[kind.model][1].add(external_id.replace("\x00", ""))
        if operation.id is not None:
            wanted[kind.model][0].add(operation.id)
    hold_keys(session, (key.replace("\x00", "") for key in keys))
    for model in sorted(wanted, key=lambda each: each.record_type):
        ids, external_ids = wanted[model]
        these = or_(model.id.in_(ids), model.external_id.in_(external_ids))
        session.execute(select(model.id).where(these).order_by(model.id).with_for_update())


def _results(editor: Editor, done: Sequence[_Done]) -> list[BatchResult]:
    given = _records(editor, [each.record for each in done if each.record is not None])
    return [
        BatchResult(
            status=each.status,
            id=each.record_id,
            record=None if each.record is None else given.get((each.record.record_type, each.record.id)),
            problem=None if each.problem is None else Problem(**each.problem),
        )
        for each in done
    ]


def _records(editor: Editor, written: Sequence[Record]) -> dict[tuple[str, int], dict[str, Any]]:
    """Return what is given of records as they are now, by type and id: a few queries for each type."""
    session = editor.transaction.session
    session.flush()
    ids: dict[type[Record], set[int]] = defaultdict(set)
    for record in written:
        ids[type(record)].add(record.id)
    found: dict[tuple[str, int], dict[str, Any]] = {}
    for model, some in ids.items():
        query = editor.reader.select(model).where(model.id.in_(some))
        records = session.scalars(query.execution_options(populate_existing=True)).all()
        found |= _by_id(editor, COLLECTIONS[model.record_type], records)
    return found


def _by_id(
    editor: Editor, collection: Collection, records: Sequence[Record]
) -> dict[tuple[str, int], dict[str, Any]]:
    given = records_out(editor.reader, collection, records)
    return {
        (collection.record_type, record.id): each.model_dump(mode="json")
        for record, each in zip(records, given, strict=True)
    }
