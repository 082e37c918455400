"""What changed, for programs that keep a copy: all of it in order, from a cursor on.

Every change that the caller may see is given at least once to whoever goes on from `next_cursor` and keeps it
only after having dealt with the page. The cursor moves on over what may not be seen, too. A record that
leaves the caller's sight (it gets another owner) is not told of any more.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from flask import Response
from flask_openapi.blueprint import APIBlueprint
from pydantic import Field
from sqlalchemy.orm import Session

from crm_core.access import Reader
from crm_core.changes import Change, Position, newest_sequence, read_changes
from crm_core.errors import InvalidValueError
from serving.api.blueprint import PREFIX, answer, caller, documented, new_blueprint
from serving.api.records_schemas import COLLECTIONS
from serving.changed import list_told, plain_value
from serving.journal import PEOPLE, note_people
from serving.payloads import Asked, Given, Utc
from serving.service import service

api: APIBlueprint = new_blueprint("changes", "What changed, in order, for programs that keep a copy.")

LATEST = "latest"


class ChangesQuery(Asked):
    """From where on, and how much."""

    after: str = Field(
        default="0",
        pattern=r"^(latest|[0-9]{1,19}(-[0-9]{1,19})?)$",
        description="`next_cursor` of the page before; `0`: from the beginning; `latest`: from now on.",
    )
    limit: int = Field(default=200, ge=1, le=1_000, description="Changes to look at, seen or not.")


class ChangeOut(Given):
    """One change of one field, or the creation, deletion or erasure of one record."""

    id: int
    transaction: int = Field(description="Changes with the same number were written at once.")
    record_type: str = Field(description="The record type, which may be a declared one.")
    record_id: int
    url: str = Field(description="Where the record is read.")
    action: Literal["created", "updated", "deleted", "erased", "exported"]
    field: str | None = Field(description="What got a new value; null but for `updated`.")
    old: Any = Field(description="In the form in which the record's field is given.")
    new: Any = Field(description="In the form in which the record's field is given.")
    occurred_at: Utc
    recorded_at: Utc
    source: str
    actor_id: int | None = Field(description="Whose key or login wrote it.")


class ChangesOut(Given):
    """Changes in the order in which they were written: whole transactions, as far as one fits on a page."""

    asked_with: ClassVar[str] = "after"
    items: list[ChangeOut]
    next_cursor: str = Field(description="Ask with it for what comes after, now or later; never null.")
    more: bool = Field(description="Whether there is more to be had at once.")


@api.get("/changes", operation_id="list_changes", responses={"200": ChangesOut, **documented()})
def list_changed(query: ChangesQuery) -> Response:
    """List what changed after a cursor, in order, as far as you may see it; each change at least once."""
    with service().store.reading() as session:
        reader = Reader(session, caller())
        page = read_changes(session, _position(session, query.after), limit=query.limit)
        items = [change_out(reader, name, change) for name, change in list_told(reader, page.changes)]
    return answer(ChangesOut(items=items, next_cursor=_cursor(page.position), more=page.more))


def change_out(reader: Reader, record_type: str, change: Change) -> ChangeOut:
    """Return what is told of a change to somebody who may know of it."""
    if change.record_type in PEOPLE:
        note_people(change.record_type, [change.record_id])
    collection = COLLECTIONS[change.record_type]
    folder = collection.path.replace("<string:type>", record_type)
    return ChangeOut(
        id=change.id,
        transaction=change.sequence,
        record_type=record_type,
        record_id=change.record_id,
        url=f"{PREFIX}/{folder}/{change.record_id}",
        action=change.action,  # type: ignore[arg-type]  # one of these words
        field=change.field,
        old=plain_value(reader.session, record_type, change.field, change.old),
        new=plain_value(reader.session, record_type, change.field, change.new),
        occurred_at=change.occurred_at,
        recorded_at=change.recorded_at,
        source=change.source,
        actor_id=change.actor_id,
    )


def _position(session: Session, after: str) -> Position:
    if after == LATEST:
        return Position(sequence=newest_sequence(session))
    sequence, _, change_id = after.partition("-")
    if max(int(sequence), int(change_id or 0)) >= 2**63:
        raise InvalidValueError("after", after, "a cursor that a page of changes gave")
    return Position(sequence=int(sequence), change_id=int(change_id) if change_id else None)


def _cursor(position: Position) -> str:
    if position.change_id is None:
        return str(position.sequence)
    return f"{position.sequence}-{position.change_id}"
