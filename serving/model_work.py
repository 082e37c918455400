"""Work on models that takes longer than a page may: asked for on a page, done as a job, told how far it is.

The job's payload holds what to do (`does`), of which `task`, for whom (`by`), what is known of its progress
(`progress`), and at the end what came of it (`result`, or `refused` with the reason). Nothing is tried twice
by itself: whoever asked looks at what came of it and decides.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from crm_core.access import check_may_promote
from crm_core.errors import (
    ChampionChangedError,
    CRMError,
    GateNotPassedError,
    HopelessJobError,
    RecordNotFoundError,
)
from crm_core.jobs import Job, JobState, ask_to_stop, enqueue, get_job, list_jobs, note_on
from crm_core.operations import Origin, Via
from crm_core.phrases import Phrase
from crm_core.records import User
from crm_core.store import Store, Transaction
from serving.champions import RECORD_TYPE_OF
from serving.home import Home
from serving.jobs import Steps
from serving.settings import Settings

MODEL = "model"
"""The kind of these jobs."""

SCHEDULE = Steps(pauses=())

DOES = ("train", "watch", "replay", "compare", "promote", "roll_back")

SAID_EVERY_SECONDS = 1.0
"""Between two notes of how far a job is: each is a write that others wait for."""

_OPEN = (JobState.WAITING, JobState.RUNNING)


@dataclass(frozen=True, kw_only=True)
class Work:
    """One piece of work, as a page shows it."""

    id: int
    does: str
    task: str
    state: str
    by: str | None
    asked: Mapping[str, Any]
    progress: Mapping[str, Any]
    result: Mapping[str, Any] | None
    refused: str | None
    quicker: Mapping[str, Any] | None
    stopped_by: str | None
    created_at: datetime
    ended_at: datetime | None

    @property
    def is_open(self) -> bool:
        """Whether it waits or runs."""
        return self.state in _OPEN


def ask_for(transaction: Transaction, user: User, task: str, does: str, **asked: Any) -> int | None:
    """Add a piece of work to the jobs; None where the same is being done, or was asked for just now."""
    session, topic = transaction.session, _topic(task)
    newest = session.scalar(select(func.max(Job.id)).where(Job.topic == topic)) or 0
    if any(_is_the_same(work, does, asked) for work in list_work(session, task) if work.is_open):
        return None
    payload = {"does": does, "task": task, "by": user.id, "asked": asked}
    # Two who ask at once have seen the same newest job: only one key is free.
    key = f"{MODEL}:{task}:{does}:after {newest}"
    return enqueue(session, MODEL, payload, now=transaction.now, key=key, topic=topic)


def _is_the_same(work: Work, does: str, asked: Mapping[str, Any]) -> bool:
    return work.does == does and (does != "compare" or work.asked == asked)


def stop(transaction: Transaction, user: User, task: str, job_id: int) -> None:
    """End a piece of work that waits, or have one that runs stop at its next step."""
    session = transaction.session
    if get_job(session, job_id).topic != _topic(task):
        raise RecordNotFoundError("job", job_id)
    ask_to_stop(session, job_id, now=transaction.now, who=user.name)


def list_work(session: Session, task: str, *, limit: int = 5) -> list[Work]:
    """Return the newest work on a task's models, the newest first."""
    return _told(session, list_jobs(session, kind=MODEL, topic=_topic(task), limit=limit))


def list_work_under_way(session: Session) -> list[Work]:
    """Return the work on any model that waits or runs, the oldest first."""
    open_jobs = select(Job).where(Job.kind == MODEL, Job.state.in_(_OPEN)).order_by(Job.id)
    return _told(session, session.scalars(open_jobs.limit(20)).all())


def _told(session: Session, jobs: Sequence[Job]) -> list[Work]:
    asking = {job.payload.get("by") for job in jobs}
    query = select(User.id, User.name).where(User.id.in_(asking))
    names: dict[int, str] = dict(session.execute(query).all()) if jobs else {}
    return [_work(job, names) for job in jobs]


def _work(job: Job, names: Mapping[int, str]) -> Work:
    held = job.payload
    refused = held.get("refused") or (job.last_error if job.state == JobState.DEAD else None)
    return Work(
        id=job.id,
        does=held.get("does", ""),
        task=held.get("task", ""),
        state=job.state,
        by=names.get(held.get("by", 0)),
        asked=held.get("asked") or {},
        progress=held.get("progress") or {},
        result=held.get("result"),
        refused=refused,
        quicker=held.get("quicker"),
        stopped_by=held.get("stop"),
        created_at=job.created_at,
        ended_at=job.ended_at,
    )


def _topic(task: str) -> str:
    return f"models:{task}"


class ModelWorker:
    """Does the work; everything heavy is imported when there is some."""

    def __init__(self, settings: Settings) -> None:
        self._home = settings.home_folder

    def __call__(self, store: Store, job: Job) -> None:
        """Do one piece of work; raises HopelessJobError with the reason where it cannot be done."""
        told = _Told(store, job)
        try:
            with store.reading() as session:
                user = _who(session, job)
                session.expunge_all()
            result = _do(self._home, store, user, job.payload, told)
        except HopelessJobError:
            raise
        except CRMError as error:
            note_on(store, job, **_refusal(error))
            raise HopelessJobError(
                Phrase("{name}: {error}", name=type(error).__name__, error=error)
            ) from error
        note_on(store, job, result=result)


def _refusal(error: CRMError) -> dict[str, Any]:
    """Return why something was refused, as a page tells it."""
    if isinstance(error, GateNotPassedError):
        return {"refused": error.reason}
    if isinstance(error, ChampionChangedError):
        return {"refused": str(error), "quicker": {"found": error.found, "by": error.by}}
    return {"refused": str(error)}


def _who(session: Session, job: Job) -> User:
    """Return who asked, if they may still do this."""
    user = session.get(User, job.payload["by"])
    if user is None or not user.active or user.deleted_at is not None:
        raise HopelessJobError("who asked for this works here no more")
    check_may_promote(user)
    return user


class _Told:
    """Takes what a job says of its progress, writes it down now and then, and ends a job that is to stop."""

    def __init__(self, store: Store, job: Job) -> None:
        self._store = store
        self._job = job
        self._said = 0.0
        self._steps = 0

    def __call__(self, what: str, done: int | None = None, total: int | None = None) -> None:
        self._steps += 1
        if time.monotonic() - self._said < SAID_EVERY_SECONDS and done is not None:
            return
        self._said = time.monotonic()
        progress = {"what": what, "done": done, "total": total, "step": self._steps}
        if not note_on(self._store, self._job, progress=progress):
            raise HopelessJobError("stopped before its end")


def _do(home: Home, store: Store, user: User, payload: Mapping[str, Any], told: _Told) -> dict[str, Any]:
    does, task, asked = payload["does"], payload["task"], payload.get("asked") or {}
    if task not in RECORD_TYPE_OF or does not in DOES:
        raise HopelessJobError(Phrase("nothing is known of {does!r} for {task!r}", does=does, task=task))
    told(does)
    if does in ("promote", "roll_back"):
        return _put_in_charge(home, store, user, payload)
    if does == "train":
        return _train(home, store, task, told)
    if does == "compare":
        return _compare(home, store, asked, told)
    return _look_back(home, store, task, does, told)


def _train(home: Home, store: Store, task: str, told: _Told) -> dict[str, Any]:
    from serving.training_runs import train_task

    report = train_task(home, store, task, told=told)
    kept = {name: report[name] for name in ("version", "promoted", "estimator")}
    return kept | {"gate": _in_short(report["gate"])}


def _look_back(home: Home, store: Store, task: str, does: str, told: _Told) -> dict[str, Any]:
    if does == "watch":
        from serving.watching import watch_task

        report = watch_task(home, store, task, told)
        return {"state": report["state"], "reasons_to_train": report["reasons_to_train"]}
    from serving.training_runs import backtest_task

    report = backtest_task(home, store, task, told=told)
    return {"cutoffs": len(report["cutoffs"]), "mondays": len(report["mondays"])}


def _compare(home: Home, store: Store, asked: Mapping[str, Any], told: _Told) -> dict[str, Any]:
    from models.comparing import compare_versions
    from serving.modelling import open_registry
    from serving.reports import save_comparison

    found = compare_versions(store, open_registry(home), asked["first"], asked["second"], progress=told)
    save_comparison(home, found)
    return {"first": found["first"], "second": found["second"], "compared": found["compared"] is not None}


def _put_in_charge(home: Home, store: Store, user: User, payload: Mapping[str, Any]) -> dict[str, Any]:
    from serving.model_versions import promote_version, roll_back

    asked, origin = payload["asked"], Origin(via=Via.PAGE, user_id=user.id)
    if payload["does"] == "roll_back":
        return roll_back(
            home,
            store,
            user,
            payload["task"],
            asked["reason"],
            instead_of=asked["instead_of"],
            origin=origin,
        )
    done = promote_version(
        home,
        store,
        user,
        asked["version"],
        asked["reason"],
        overrule=bool(asked.get("overrule")),
        instead_of=asked["instead_of"],
        origin=origin,
    )
    return done | {"gate": _in_short(done["gate"])}


_GATE = ("passed", "reason", "champion", "questions", "outcomes", "gain", "overruled")


def _in_short(gate: Mapping[str, Any]) -> dict[str, Any]:
    return {name: gate[name] for name in _GATE if name in gate}
