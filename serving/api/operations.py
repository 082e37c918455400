"""Who came in and who read what about people, over HTTP: for administrators."""

from __future__ import annotations

from typing import Literal

from flask import Response
from flask_openapi.blueprint import APIBlueprint
from pydantic import Field

from crm_core.access import check_may_see_operations
from crm_core.errors import InvalidValueError
from crm_core.operations import Done, OperationRow, Via, Which, list_operations
from crm_core.tokens import Scope
from serving.api.blueprint import answer, caller, documented, new_blueprint, requires
from serving.payloads import Asked, Given, Id, Past, Utc
from serving.service import service

api: APIBlueprint = new_blueprint("operations", "Who came in, and who read what about people.")


class OperationsQuery(Asked):
    """Which operations."""

    done: Done | None = Field(default=None, description="Only what was done in this way.")
    user_id: Id | None = Field(default=None, description="Only what this user did.")
    record_type: Literal["lead", "contact"] | None = Field(
        default=None, description="Only what was done to a record, with record_id."
    )
    record_id: Id | None = Field(default=None, description="Which record of that type.")
    since: Past | None = Field(default=None, description="From this instant on.")
    until: Past | None = Field(default=None, description="Before this instant.")
    limit: int = Field(default=50, ge=1, le=200, description="Operations on a page.")
    cursor: Id | None = Field(default=None, description="`next_cursor` of the page before.")

    def which(self) -> Which:
        """Return what is asked for."""
        if (self.record_type is None) != (self.record_id is None):
            raise InvalidValueError("record_id", self.record_id, "record_type and record_id together")
        told = self.record_type is not None and self.record_id is not None
        record = (str(self.record_type), int(self.record_id or 0)) if told else None
        return Which(done=self.done, user_id=self.user_id, record=record, since=self.since, until=self.until)


class OperationOut(Given):
    """Something that somebody did."""

    id: int
    at: Utc
    done: Done
    via: Via
    user_id: int | None = Field(description="Null: an address that nobody has, or the command line.")
    token_id: int | None = Field(description="The API key it was done with, or to.")
    address: str | None = Field(description="The network address it came from.")
    record_type: str | None
    ids: list[int] = Field(description="The records that it was done to.")
    detail: str | None = Field(description="What was set, such as `rep: read own, write none`.")


class OperationsPage(Given):
    """Operations, newest first."""

    items: list[OperationOut]
    next_cursor: int | None = Field(description="Ask with it for the next page; null on the last.")


@api.get("/operations", operation_id="list_operations", responses={"200": OperationsPage, **documented()})
@requires(Scope.ADMIN)
def list_what_was_done(query: OperationsQuery) -> Response:
    """List logins, keys, and reads of leads and contacts, newest first; for administrators."""
    check_may_see_operations(caller())
    which = query.which()
    running = service()
    running.journal.flush()
    with running.store.reading() as session:
        found: list[OperationRow] = list(
            list_operations(session, which, before=query.cursor, limit=query.limit + 1)
        )
    items = [OperationOut.model_validate(row) for row in found[: query.limit]]
    more = len(found) > query.limit
    return answer(OperationsPage(items=items, next_cursor=items[-1].id if more else None))
