"""Jobs over HTTP: what is waiting and what is dead, for administrators."""

from __future__ import annotations

from typing import Literal

from flask import Response
from flask_openapi.blueprint import APIBlueprint
from pydantic import Field

from crm_core.access import check_may_operate
from crm_core.changes import Source
from crm_core.columns import check_text
from crm_core.jobs import get_job, list_jobs, measure_queue, revive
from crm_core.tokens import Scope
from serving.api.blueprint import answer, caller, documented, new_blueprint, requires
from serving.payloads import Asked, Given, Id, Utc
from serving.service import service, writing

api: APIBlueprint = new_blueprint("jobs", "Work done later: mails, webhooks and others.")


class JobsQuery(Asked):
    """Which jobs."""

    kind: str | None = Field(default=None, max_length=40, description="Only jobs of this kind.")
    state: Literal["waiting", "running", "done", "dead"] | None = Field(
        default=None, description="Only jobs in this state."
    )
    limit: int = Field(default=50, ge=1, le=200, description="Jobs on a page.")
    cursor: Id | None = Field(default=None, description="`next_cursor` of the page before.")


class JobPath(Asked):
    """Which job."""

    id: Id = Field(description="The job's id.")


class JobOut(Given):
    """A job; what it holds is not told, as that may be about people."""

    id: int
    kind: str
    key: str | None = Field(description="Names the effect: a second job with it is not made.")
    state: Literal["waiting", "running", "done", "dead"]
    attempts: int
    run_at: Utc
    created_at: Utc
    ended_at: Utc | None
    last_error: str | None


class DepthOut(Given):
    """How many jobs of a kind are in a state."""

    kind: str
    state: Literal["waiting", "running", "dead"]
    count: int
    oldest_run_at: Utc


class JobsPage(Given):
    """Jobs, newest first, and how long the queues are."""

    items: list[JobOut]
    queue: list[DepthOut]
    next_cursor: int | None = Field(description="Ask with it for the next page; null on the last.")


@api.get("/jobs", operation_id="list_jobs", responses={"200": JobsPage, **documented(403)})
@requires(Scope.ADMIN)
def list_all_jobs(query: JobsQuery) -> Response:
    """List jobs, newest first, and how long the queues are; for administrators."""
    check_may_operate(caller())
    check_text("kind", query.kind or "")
    with service().store.reading() as session:
        found = list_jobs(
            session, kind=query.kind, state=query.state, before=query.cursor, limit=query.limit + 1
        )
        queue = [DepthOut.model_validate(each) for each in measure_queue(session)]
    items = [JobOut.model_validate(job) for job in found[: query.limit]]
    more = len(found) > query.limit
    return answer(JobsPage(items=items, queue=queue, next_cursor=items[-1].id if more else None))


@api.get("/jobs/<int:id>", operation_id="get_job", responses={"200": JobOut, **documented(403, 404)})
@requires(Scope.ADMIN)
def get_one_job(path: JobPath) -> Response:
    """Read one job; for administrators."""
    check_may_operate(caller())
    with service().store.reading() as session:
        return answer(JobOut.model_validate(get_job(session, path.id)))


@api.post(
    "/jobs/<int:id>/revive", operation_id="revive_job", responses={"200": JobOut, **documented(403, 404)}
)
@requires(Scope.ADMIN)
def revive_one_job(path: JobPath) -> Response:
    """Have a dead job tried again; for administrators."""
    check_may_operate(caller())
    with writing(caller(), Source.API) as transaction:
        made = JobOut.model_validate(revive(transaction.session, path.id, now=transaction.now))
    return answer(made)
