"""What serves, over HTTP: for data scientists and administrators."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from flask import Response
from flask_openapi.blueprint import APIBlueprint
from pydantic import AwareDatetime, Field

from crm_core.access import check_may_promote
from crm_core.tokens import Scope
from serving.api.blueprint import answer, caller, documented, new_blueprint, requires
from serving.model_versions import read_history, read_shadow
from serving.payloads import Asked, Given
from serving.service import service

api: APIBlueprint = new_blueprint("models", "Which models serve, served, and may serve next.")


class TaskPath(Asked):
    """Which task."""

    task: Literal["lead_scoring", "win_probability", "churn"]


class AtQuery(Asked):
    """At which instant."""

    at: Annotated[AwareDatetime, Field(description="Only what served then.")] | None = None


class ServedOut(Given):
    """A version, from when until when it was in charge, and who put it there."""

    version: str
    sha256: str
    run_id: str
    since: datetime
    until: datetime | None = Field(description="Null: it still is.")
    by: str | None = Field(description="Null: the program, after a training.")
    reason: str
    rollback_of: str | None
    gate: dict[str, Any] | None = Field(description="What was compared, and the result.")


class HistoryOut(Given):
    """What served a task, newest first."""

    task: str
    at: datetime | None
    served: list[ServedOut]


class ShadowOut(Given):
    """How the challenger does beside the champion, on the same records, unseen."""

    task: str
    challenger: str
    champion: str
    questions: int
    records: int
    first: datetime | None
    last: datetime | None
    rank_correlation: float | None
    mean_difference: float | None
    mean_distance: float | None
    grades_changed: float | None
    matured: int
    outcomes: int
    gain: dict[str, float | None] | None = Field(description="Log loss saved, with its 95 % interval.")


@api.get("/models/<string:task>/history", responses={"200": HistoryOut, **documented(403, 404)})
@requires(Scope.MODELS)
def get_model_history(path: TaskPath, query: AtQuery) -> Response:
    """Tell what served a task when, who put it in charge, and why."""
    check_may_promote(caller())
    return answer(HistoryOut.model_validate(read_history(service().store, path.task, query.at)))


@api.get("/models/<string:task>/shadow", responses={"200": ShadowOut, **documented(403, 404)})
@requires(Scope.MODELS)
def get_model_shadow(path: TaskPath) -> Response:
    """Compare a task's challenger with its champion on the records that both have scored."""
    check_may_promote(caller())
    return answer(ShadowOut.model_validate(read_shadow(service().store, path.task)))
