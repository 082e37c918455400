"""Stored predictions over HTTP: where each comes from, and the same asked again."""

from __future__ import annotations

from typing import Any

from flask import Response
from flask_openapi.blueprint import APIBlueprint
from pydantic import Field

from crm_core.tokens import Scope
from serving.api.blueprint import answer, caller, documented, new_blueprint, requires
from serving.explaining import explain_prediction, recompute_prediction
from serving.payloads import Given, RecordPath
from serving.service import service

api: APIBlueprint = new_blueprint("predictions", "What models said, and how it came about.")


class ExplainedOut(Given):
    """A stored prediction with its model and its cause."""

    id: int
    task: str
    record_type: str
    record_id: int
    as_of: str = Field(description="The instant it was asked from.")
    recorded_at: str
    model_version: str
    sha256: str | None = Field(description="Of the model's file; null where it never served here.")
    horizon_days: int
    probability: float | None
    score: int | None
    grade: str | None
    reasons: list[dict[str, Any]] | None
    cause: dict[str, Any] | None = Field(description="The change that led to it; null: time or a new model.")


class DifferenceOut(Given):
    """Something that came out otherwise."""

    what: str
    stored: Any
    recomputed: Any


class RecomputedOut(Given):
    """Whether a prediction comes out the same, to the bit."""

    prediction_id: int
    model_version: str
    sha256: str
    features: int
    same: bool
    differences: list[DifferenceOut]
    since: list[str] = Field(description="What has happened since that may be why.")


@api.get("/predictions/<int:id>", responses={"200": ExplainedOut, **documented(403, 404, 409)})
def get_explained_prediction(path: RecordPath) -> Response:
    """Read a stored prediction: which model said it, as of when, why, and what led to it."""
    told = explain_prediction(service().store, caller(), path.id)
    return answer(ExplainedOut.model_validate(told))


@api.post(
    "/predictions/<int:id>/recompute", responses={"200": RecomputedOut, **documented(403, 404, 409, 503)}
)
@requires(Scope.SCORE)
def recompute_stored_prediction(path: RecordPath) -> Response:
    """Ask the model of a prediction the same again, and tell whether every bit is the same."""
    running = service()
    told = recompute_prediction(running.settings.home_folder, running.store, caller(), path.id)
    return answer(RecomputedOut.model_validate(told))
