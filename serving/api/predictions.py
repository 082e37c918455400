"""Stored predictions over HTTP: where each comes from, and the same asked again."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from flask import Response
from flask_openapi.blueprint import APIBlueprint
from pydantic import Field

from crm_core.access import Reader
from crm_core.changes import Source
from crm_core.errors import InvalidValueError
from crm_core.feedback import (
    LONGEST_TEXT,
    ScoreFeedback,
    Verdict,
    WhyWrong,
    give_feedback,
    list_feedback,
)
from crm_core.tokens import Scope
from serving.api.blueprint import answer, caller, documented, new_blueprint, requires
from serving.api.conditional import created
from serving.explaining import explain_prediction, feedback_seen, get_prediction, recompute_prediction
from serving.payloads import Asked, Given, Id, RecordPath, Taken, Utc
from serving.service import service, writing

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
    feedback: list[FeedbackOut] = Field(description="What people say of it, the last words of each.")


class FeedbackOut(Given):
    """What somebody says of a prediction."""

    id: int
    prediction_id: int
    task: str
    model_version: str
    record_type: str
    record_id: int
    verdict: Literal["right", "wrong"]
    reason: str | None = Field(description="What is wrong, in a word.")
    text: str | None
    user_id: int
    given_at: Utc


class FeedbackPage(Given):
    """What people say of scores, newest first."""

    items: list[FeedbackOut]
    next_cursor: int | None = Field(description="Ask with it for the next page; null on the last.")


WhyWrongWord = Literal["too_high", "too_low", "wrong_reason", "old_data", "missing_data", "other"]


class NewFeedback(Taken):
    """Whether a score is right; with a reason, and a text, where it is not."""

    verdict: Literal["right", "wrong"]
    reason: WhyWrongWord | None = Field(default=None, description="What is wrong; only with `wrong`.")
    text: Annotated[str, Field(min_length=1, max_length=LONGEST_TEXT)] | None = None


class FeedbackQuery(Asked):
    """Which feedback."""

    task: Literal["lead_scoring", "win_probability", "churn"] | None = Field(
        default=None, description="Only about answers of this task."
    )
    model_version: Annotated[str, Field(min_length=1, max_length=80)] | None = Field(
        default=None, description="Only about answers of this model."
    )
    verdict: Literal["right", "wrong"] | None = Field(default=None, description="Only with this verdict.")
    reason: WhyWrongWord | None = Field(default=None, description="Only what is wrong in this way.")
    user_id: Id | None = Field(default=None, description="Only that of this person.")
    prediction_id: Id | None = Field(default=None, description="Only about this answer.")
    limit: int = Field(default=50, ge=1, le=200, description="Entries on a page.")
    cursor: Id | None = Field(default=None, description="`next_cursor` of the page before.")


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
    with service().store.reading() as session:
        said = list_feedback(session, ScoreFeedback.prediction_id == path.id, limit=200)
        feedback = [FeedbackOut.model_validate(each) for each in said]
    return answer(ExplainedOut.model_validate({**told, "feedback": feedback}))


@api.post(
    "/predictions/<int:id>/feedback",
    responses={"201": FeedbackOut, **documented(400, 403, 404, 409, 413, 415)},
)
def give_score_feedback(path: RecordPath, body: NewFeedback) -> Response:
    """Say whether a score is right; the last words of each person on a prediction count."""
    user = caller()
    if body.reason is not None and body.verdict == "right":
        raise InvalidValueError("reason", body.reason, "nothing where the verdict is right")
    with writing(user, Source.API) as transaction:
        prediction = get_prediction(transaction.session, user, path.id)
        given = give_feedback(
            transaction,
            prediction,
            user_id=user.id,
            verdict=Verdict(body.verdict),
            reason=None if body.reason is None else WhyWrong(body.reason),
            text=body.text,
        )
        return created(FeedbackOut.model_validate(given), f"predictions/{path.id}")


@api.get("/feedback", responses={"200": FeedbackPage, **documented()})
def list_score_feedback(query: FeedbackQuery) -> Response:
    """List what people say of the scores that you may see, newest first."""
    asked = query.model_dump(exclude_none=True, exclude={"limit", "cursor"})
    with service().store.reading() as session:
        conditions = [getattr(ScoreFeedback, name) == value for name, value in asked.items()]
        seen = feedback_seen(Reader(session, caller()))
        found = list_feedback(session, seen, *conditions, limit=query.limit + 1, before=query.cursor)
        items = [FeedbackOut.model_validate(each) for each in found[: query.limit]]
    more = len(found) > query.limit
    return answer(FeedbackPage(items=items, next_cursor=items[-1].id if more else None))


@api.post(
    "/predictions/<int:id>/recompute", responses={"200": RecomputedOut, **documented(403, 404, 409, 503)}
)
@requires(Scope.SCORE)
def recompute_stored_prediction(path: RecordPath) -> Response:
    """Ask the model of a prediction the same again, and tell whether every bit is the same."""
    running = service()
    told = recompute_prediction(running.settings.home_folder, running.store, caller(), path.id)
    return answer(RecomputedOut.model_validate(told))
