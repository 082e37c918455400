"""How re-scoring is doing, over HTTP: for data scientists and administrators."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime

from flask import Response
from flask_openapi.blueprint import APIBlueprint
from pydantic import Field

from crm_core.access import check_may_promote
from serving.api.blueprint import answer, caller, documented, new_blueprint
from serving.payloads import Given
from serving.rescoring_state import read_state
from serving.service import service

api: APIBlueprint = new_blueprint("rescoring", "How fresh scores are, and who keeps them so.")


class SweepOut(Given):
    """A pass over all open records: the one under way, or the last."""

    task: str
    model_version: str | None
    as_of: datetime = Field(description="The instant that it asks from.")
    done: int
    total: int
    ended_at: datetime | None = Field(description="Null: it is under way.")
    per_second: float | None
    seconds_left: float | None


class WorkerOut(Given):
    """A process that scores."""

    name: str
    started_at: datetime
    seen_at: datetime
    alive: bool = Field(description="Whether it has said so within half a minute.")
    scored: int = Field(description="Records answered since it started.")
    lag_seconds: float | None
    error: str | None = Field(description="What stopped its last step.")


class RescoringOut(Given):
    """What waits to be scored again, who is at it, and how far passes over all records are."""

    changes_waiting: int = Field(description="Changes that nobody has looked at yet, up to 100,000.")
    waiting: int = Field(description="Records to be scored again.")
    at_work: int = Field(description="Those of them that a worker has claimed.")
    failed: int = Field(description="Those of them that could not be scored and are tried again later.")
    oldest_seconds: float | None = Field(description="How long the first of the others has waited.")
    lag_seconds: float | None = Field(description="From the last change to its score, of the slowest worker.")
    workers: list[WorkerOut]
    sweeps: list[SweepOut]


@api.get("/rescoring", responses={"200": RescoringOut, **documented(403)})
def get_rescoring() -> Response:
    """Tell how re-scoring is doing."""
    check_may_promote(caller())
    return answer(RescoringOut.model_validate(asdict(read_state(service().store))))
