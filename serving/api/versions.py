"""What serves, over HTTP: for data scientists and administrators."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from typing import Annotated, Any, Literal

from flask import Response
from flask_openapi.blueprint import APIBlueprint
from pydantic import Field

from crm_core.access import check_may_promote
from crm_core.changes import Source
from crm_core.promotions import find_champion
from crm_core.store import Transaction
from crm_core.tokens import Scope
from serving.api.blueprint import answer, caller, documented, new_blueprint, requires
from serving.api.pages import PageQuery
from serving.journal import origin_of_request
from serving.model_list import check_of_task, list_task_versions, list_tasks, read_card
from serving.model_versions import promote_version, read_history, read_shadow, roll_back
from serving.payloads import Asked, Given, Past, Taken, Utc
from serving.service import current_once, service, writing

api: APIBlueprint = new_blueprint("models", "Which models serve, served, and may serve next.")


class TaskPath(Asked):
    """Which task."""

    task: Literal["lead_scoring", "win_probability", "churn"]


class AtQuery(PageQuery):
    """At which instant."""

    at: Past | None = Field(default=None, description="Only what served then.")


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
    next_cursor: str | None = Field(description="Ask with it for the next page; null on the last.")


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


class TroubleOut(Given):
    """Why the newest promotion of a task does not serve."""

    model_version: str
    error: str = Field(description="What kind of error; the log has the rest.")
    since: Utc


class TaskOut(Given):
    """What serves a task, what is to serve it, and what may serve it next."""

    task: str
    record_type: str
    serving: str | None = Field(description="The version that answers in this process; null: none does.")
    since: Utc | None = Field(description="When it was promoted.")
    promoted: str | None = Field(description="The version promoted last; another than `serving` in trouble.")
    challenger: str | None
    trouble: TroubleOut | None = Field(
        description="Why the version promoted last does not serve; null: it does."
    )


class TasksOut(Given):
    """The tasks."""

    items: list[TaskOut]


class VersionsQuery(Asked):
    """Which page of versions."""

    limit: int = Field(default=50, ge=1, le=200, description="Versions on a page.")
    cursor: int | None = Field(default=None, ge=0, le=10**9, description="`next_cursor` of the page before.")
    registry: bool = Field(default=False, description="Ask MLflow as well; takes seconds the first time.")


class CardQuery(Asked):
    """Where a card may come from."""

    registry: bool = Field(default=False, description="Ask MLflow where no report is kept here.")


State = Literal["champion", "challenger", "served", "named", "trained"]


class VersionOut(Given):
    """A version in few words; what no report tells is null."""

    version: str
    number: int
    state: State = Field(description="`named` was a challenger; `trained` neither served nor was to serve.")
    trained_as_of: datetime | None
    estimator: str | None
    says_probability: bool | None


class VersionsOut(Given):
    """Versions of a task, newest first."""

    items: list[VersionOut]
    next_cursor: int | None = Field(description="Ask with it for the next page; null on the last.")


class VersionPath(TaskPath):
    """Which version of a task."""

    version: Annotated[str, Field(max_length=80, description="Its name, as `lead_scoring-3-0a1b2c3d`.")]


class HorizonFigures(Given):
    """How right a version was within one horizon, on questions asked after it was made."""

    horizon_days: int
    questions: int
    outcomes: int
    figures: dict[str, Any] = Field(
        description="By who spoke (`model`, then its baselines) the metrics, each with a 95 % interval."
    )
    calibration_table: list[Any] = Field(description="By what was said, what came true.")
    segments: list[Any] = Field(description="The same by segment.")


class FeedbackCounts(Given):
    """How often people said that scores of a version were right or wrong; never an input of a model."""

    right: int
    wrong: int
    by_reason: dict[str, int] = Field(description="Of those that were called wrong; `none` without a reason.")


class CardOut(Given):
    """What a version learned from, how right it was, what the gate said, and when it served."""

    task: str
    version: str
    state: State
    outcome: str | None
    horizon_days: int | None
    horizons_days: list[int] | None
    as_of: datetime | None = Field(description="It learned from what was known then.")
    estimator: str | None
    says_probability: bool | None
    sha256: str | None
    run_id: str | None
    learned_from: dict[str, Any] | None = Field(
        description="Questions, outcomes, features, and their hashes."
    )
    metrics: list[HorizonFigures]
    not_judged: str | None = Field(description="Why there are no metrics.")
    importances: list[Any] = Field(description="Groups of features by their mean weight.")
    calibration: dict[str, Any] | None
    guard: dict[str, Any] | None = Field(description="What the leakage guard found, and who let it through.")
    gate: dict[str, Any] | None = Field(description="What was compared at its training, and the result.")
    selection: Any = Field(description="Which estimators were tried, and why this one was chosen.")
    served: list[ServedOut]
    feedback: FeedbackCounts


class Promote(Taken):
    """Which version is to serve, and why."""

    version: Annotated[str, Field(min_length=1, max_length=80)]
    reason: Annotated[str, Field(min_length=1, max_length=400)]
    overrule: bool = Field(default=False, description="Promote it although the gate does not let it pass.")


class RollBack(Taken):
    """Why the version before is to serve again."""

    reason: Annotated[str, Field(min_length=1, max_length=400)]


class PutInChargeOut(Given):
    """What was put in charge, and whether this process serves it already."""

    task: str
    version: str
    reason: str
    gate: dict[str, Any] | None
    serving: str | None = Field(description="The version that answers here now.")
    trouble: TroubleOut | None


@api.get("/models", responses={"200": TasksOut, **documented(403)})
def list_models() -> Response:
    """List the tasks with the model that serves each, its challenger, and what keeps a newer one out."""
    check_may_promote(caller())
    running = service()
    return answer(TasksOut.model_validate({"items": list_tasks(running.store, running.champions)}))


@api.get("/models/<string:task>/versions", responses={"200": VersionsOut, **documented(403)})
def list_model_versions(path: TaskPath, query: VersionsQuery) -> Response:
    """List the versions of a task, newest first."""
    check_may_promote(caller())
    running = service()
    found, following = list_task_versions(
        running.settings.home_folder,
        running.store,
        path.task,
        limit=query.limit,
        before=query.cursor,
        registry=query.registry,
    )
    return answer(VersionsOut.model_validate({"items": found, "next_cursor": following}))


@api.get(
    "/models/<string:task>/versions/<string:version>", responses={"200": CardOut, **documented(403, 404)}
)
def get_model_card(path: VersionPath, query: CardQuery) -> Response:
    """Read the card of a version: what it learned from, its metrics beside its baselines, and its gate."""
    check_may_promote(caller())
    running = service()
    home = running.settings.home_folder
    card = read_card(home, running.store, path.task, path.version, registry=query.registry)
    return answer(CardOut.model_validate(card))


@api.post(
    "/models/<string:task>/promote",
    responses={"200": PutInChargeOut, **documented(400, 403, 404, 409, 413, 415, 503)},
)
@requires(Scope.MODELS)
def promote_model(path: TaskPath, body: Promote) -> Response:
    """Put a version in charge of its task, if the gate lets it pass or is overruled by name."""
    check_may_promote(caller())
    check_of_task(body.version, path.task)
    running = service()
    home = running.settings.home_folder
    done = promote_version(
        home,
        running.store,
        caller(),
        body.version,
        body.reason,
        overrule=body.overrule,
        origin=origin_of_request(caller()),
        writing=partial(_deciding, path.task),
    )
    return _put_in_charge(done)


@api.post(
    "/models/<string:task>/rollback",
    responses={"200": PutInChargeOut, **documented(400, 403, 404, 409, 413, 415, 503)},
)
@requires(Scope.MODELS)
def roll_model_back(path: TaskPath, body: RollBack) -> Response:
    """Put the version that served before in charge again; asked again, one further back."""
    check_may_promote(caller())
    running = service()
    origin = origin_of_request(caller())
    home = running.settings.home_folder
    done = roll_back(
        home,
        running.store,
        caller(),
        path.task,
        body.reason,
        origin=origin,
        writing=partial(_deciding, path.task),
    )
    return _put_in_charge(done)


@contextmanager
def _deciding(task: str) -> Iterator[Transaction]:
    """Give the transaction in which a model is put in charge, with the Idempotency-Key if there is one.

    Only then can it be taken up, and told. Should this process die on the way, whoever sends the same again
    is told what was done.
    """
    with writing(caller(), Source.API) as transaction:
        yield transaction
        row = find_champion(transaction.session, task)
    once = current_once()
    if once is not None and row is not None:
        gate = None if "rollback_of" in (row.gate or {}) else row.gate
        done = {"task": task, "version": row.model_version, "reason": row.reason, "gate": gate}
        once.settle(_told(done))


def _put_in_charge(done: dict[str, Any]) -> Response:
    """Return what was done, and what serves now; take it up in this process at once."""
    service().champions.refresh()
    return _told({"gate": None, **done})


def _told(done: dict[str, Any]) -> Response:
    champions = service().champions
    serving = champions.find(done["task"])
    told = {
        **done,
        "serving": None if serving is None else serving.scorer.model_version,
        "trouble": champions.troubles.get(done["task"]),
    }
    return answer(PutInChargeOut.model_validate(told))


@api.get("/models/<string:task>/history", responses={"200": HistoryOut, **documented(403, 404)})
@requires(Scope.MODELS)
def get_model_history(path: TaskPath, query: AtQuery) -> Response:
    """Tell what served a task when, who put it in charge, and why."""
    check_may_promote(caller())
    found = read_history(service().store, path.task, query.at)
    numbered = list(enumerate(reversed(found["served"]), 1))
    served, more = query.part(numbered, lambda each: (each[0],), falling=True)
    told = {**found, "served": [each for _, each in served], "next_cursor": more}
    return answer(HistoryOut.model_validate(told))


@api.get("/models/<string:task>/shadow", responses={"200": ShadowOut, **documented(403, 404)})
@requires(Scope.MODELS)
def get_model_shadow(path: TaskPath) -> Response:
    """Compare a task's challenger with its champion on the records that both have scored."""
    check_may_promote(caller())
    return answer(ShadowOut.model_validate(read_shadow(service().store, path.task)))
