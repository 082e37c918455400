"""Whether the service is alive, and whether every part of it is ready."""

from __future__ import annotations

from flask import Response
from flask_openapi.models.tag import Tag
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from crm_core.errors import AccessDeniedError
from crm_core.records import Role
from crm_core.tokens import Scope
from serving import metrics, problems
from serving.api.blueprint import Operations, answer, documented, named
from serving.auth import find_caller
from serving.job_handlers import readiness
from serving.payloads import Health, Part, Readiness
from serving.rescoring_state import read_state, sweep_in_words
from serving.service import service

api = Operations(
    "health",
    __name__,
    abp_tags=[Tag(name="health", description="Is it alive, is it ready.")],
    operation_id_callback=named,
)

LATE_SECONDS = 60.0
"""A change that no score takes into account for longer asks for a person: scores follow within seconds."""


@api.get("/healthz", responses={"200": Health})
def get_health() -> Response:
    """Tell that the process answers."""
    return answer(Health(status="ok"))


@api.get("/readyz", responses={"200": Readiness, "503": Readiness})
def get_readiness() -> Response:
    """Tell of each part whether it is ready; 503 if records cannot be read."""
    store = _store()
    parts = [store, *_around(), *_models(look=store.ok)]
    if store.ok:
        parts += [*_rescoring(), *_jobs()]
    if not store.ok:
        return answer(Readiness(status="not_ready", parts=parts), 503)
    ready = all(part.ok for part in parts)
    return answer(Readiness(status="ready" if ready else "degraded", parts=parts))


@api.get(
    "/metrics",
    responses={
        "200": {"content": {metrics.MEDIA_TYPE: {"schema": {"type": "string"}}}},
        **documented(403),
    },
    security=[{"key": []}],
)
def get_metrics() -> Response:
    """Measure the service, in Prometheus's form; for administrators and analysts, or all if so set."""
    running = service()
    refused = None if running.settings.metrics_open else _refuse_metrics()
    if refused is not None:
        return refused
    text = metrics.render(running.store, running.champions, running.settings.home_folder)
    return Response(text, content_type=metrics.MEDIA_TYPE)


def _refuse_metrics() -> Response | None:
    """Return why the caller may not read metrics; None if they may."""
    holder = find_caller(service().store)
    if holder is None:
        return problems.not_authenticated("expected the header Authorization: Bearer KEY")
    if Scope.READ not in holder.scopes:
        return problems.insufficient_scope(Scope.READ)
    if holder.user.role not in {Role.ADMIN, Role.ANALYST}:
        raise AccessDeniedError(f"the role {holder.user.role} may not read metrics")
    return None


def _store() -> Part:
    try:
        with service().store.reading() as session:
            session.execute(select(1))
    except SQLAlchemyError as error:
        return Part(name="store", ok=False, detail=type(error).__name__)
    return Part(name="store", ok=True)


def _around() -> list[Part]:
    return [Part(name=ping.name, ok=ping.ok, detail=ping.detail) for ping in service().pings.ask()]


def _models(*, look: bool) -> list[Part]:
    champions = service().champions
    if look:  # what others promoted is told, too, where nobody has asked for a score since
        champions.look()
    parts = [
        Part(name=task, ok=task not in champions.troubles, detail=champion.scorer.model_version)
        for task, champion in champions.serving.items()
    ]
    for task, trouble in champions.troubles.items():
        parts.append(Part(name=f"{task}.next", ok=False, detail=f"{trouble.model_version}: {trouble.error}"))
    return parts


def _jobs() -> list[Part]:
    running = service()
    return readiness(running.settings, running.store, running.jobs)


def _rescoring() -> list[Part]:
    running = service()
    thread = running.rescoring
    if thread is None and running.settings.rescoring:
        return []  # an application without the process around it
    state = read_state(running.store)
    alive = [worker for worker in state.workers if worker.alive]
    error = (
        thread.last_error if thread is not None else next((each.error for each in alive if each.error), None)
    )
    detail = f"{state.changes_waiting} changes and {state.waiting} records waiting"
    detail += f", {len(alive)} at work"
    if state.lag_seconds is not None:
        detail += f", last lag {state.lag_seconds:.2f} s"
    late = state.oldest_seconds is not None and state.oldest_seconds > LATE_SECONDS
    if late:
        detail += f", the oldest for {state.oldest_seconds:.0f} s"
    if error:
        detail += f", last error {error}"
    is_there = thread.is_alive() if thread is not None else bool(alive)
    return [
        Part(name="rescoring", ok=is_there and error is None and not late, detail=detail),
        Part(name="records", ok=not state.failed, detail=f"{state.failed} could not be scored"),
        *(
            Part(name=f"{sweep.task}.sweep", ok=True, detail=sweep_in_words(sweep))
            for sweep in state.sweeps
            if sweep.ended_at is None
        ),
    ]
