"""Work to be done later: a table of jobs that any number of runners share.

The contract:

- A job is added in the caller's own transaction: it exists if and only if what led to it was committed. A
  `key` is unique for as long as the job is kept, so that asking twice for the same effect makes one job.
- A runner claims a job for a time, its lease. Whoever dies leaves a lease that runs out, and the job is
  claimed again. A job is therefore done **at least once**: its handler must come to the same end when it is
  run a second time. `attempts` counts the claims; a runner whose lease ran out while it worked can neither
  finish nor fail the job that another one has claimed since.
- A handler that only writes to this database does its work exactly once by calling `complete` in the
  transaction of its effect.
- `waiting` jobs are due at `run_at`; `running` ones are leased; `done` and `dead` ones have ended. Done ones
  are purged after some days, dead ones stay until somebody revives them or they are purged much later.
- The order of jobs is not promised: they are claimed by `run_at`, but finished by whoever is quicker.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    ColumnElement,
    CursorResult,
    Index,
    Integer,
    Select,
    String,
    and_,
    delete,
    func,
    or_,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Mapped, Session, mapped_column

from crm_core.columns import Instant, Json, check_json, check_text
from crm_core.errors import RecordNotFoundError
from crm_core.records import Base, Id
from crm_core.store import Store

LONGEST_ERROR = 500
LONGEST_KEY = 200
_PURGED_AT_ONCE = 1_000


class JobState(StrEnum):
    """How far a job has come."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    DEAD = "dead"


class Job(Base):
    """Something to be done once, by whichever runner takes it."""

    __tablename__ = "jobs"

    id: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=True)
    kind: Mapped[str] = mapped_column(String(40), comment="which handler does it")
    key: Mapped[str | None] = mapped_column(String(LONGEST_KEY), unique=True, comment="names the effect")
    topic: Mapped[str | None] = mapped_column(String(80), comment="what it is listed under")
    payload: Mapped[Any] = mapped_column(Json)
    state: Mapped[str] = mapped_column(String(10))
    run_at: Mapped[datetime] = mapped_column(Instant, comment="not to be claimed before")
    attempts: Mapped[int] = mapped_column(Integer, comment="how often it was claimed")
    leased_until: Mapped[datetime | None] = mapped_column(Instant)
    leased_by: Mapped[str | None] = mapped_column(String(80))
    last_error: Mapped[str | None] = mapped_column(String(LONGEST_ERROR))
    created_at: Mapped[datetime] = mapped_column(Instant)
    ended_at: Mapped[datetime | None] = mapped_column(Instant)

    __table_args__ = (
        Index("ix_jobs_state_run_at_id", "state", "run_at", "id"),
        Index("ix_jobs_state_ended_at", "state", "ended_at"),
        Index("ix_jobs_topic_id", "topic", "id"),
    )


@dataclass(frozen=True, kw_only=True)
class Depth:
    """How many jobs of a kind are in a state that is not the good end, and since when the oldest is due."""

    kind: str
    state: str
    count: int
    oldest_run_at: datetime


def enqueue(
    session: Session,
    kind: str,
    payload: object,
    *,
    now: datetime,
    key: str | None = None,
    run_at: datetime | None = None,
    topic: str | None = None,
) -> int | None:
    """Add a job in the session's transaction; return its id, or None where the key is taken."""
    check_json("payload", payload)
    if key is not None:
        check_text("key", key, longest=LONGEST_KEY)
    insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    values = {
        "kind": kind,
        "key": key,
        "topic": topic,
        "payload": payload,
        "state": JobState.WAITING,
        "run_at": run_at or now,
        "attempts": 0,
        "created_at": now,
    }
    return session.scalar(insert(Job).values(values).on_conflict_do_nothing().returning(Job.id))


def claim(store: Store, kinds: Collection[str], *, by: str, lease: timedelta, limit: int) -> list[Job]:
    """Lease up to `limit` jobs that are due, or whose lease ran out; the longest due ones first.

    On PostgreSQL runners pass over what another one is claiming; on SQLite they take turns. The jobs belong
    to no session any more.
    """
    now = store.clock.now()
    with store.reading() as session:
        if session.scalar(_claimable(kinds, now).with_only_columns(Job.id).limit(1)) is None:
            return []  # nobody has to wait for a write lock that changes nothing
    with store.transaction() as transaction:
        session, now = transaction.session, transaction.now
        # What a dead runner left first: it has waited longest.
        jobs = list(session.scalars(_locked(_left_behind(kinds, now), limit)))
        if len(jobs) < limit:
            jobs += session.scalars(_locked(_due(kinds, now), limit - len(jobs)))
        for job in jobs:
            job.state, job.attempts = JobState.RUNNING, job.attempts + 1
            job.leased_by, job.leased_until = by[:80], now + lease
    return jobs


def renew(store: Store, job: Job, *, lease: timedelta) -> bool:
    """Hold a claimed job for longer; False if the lease ran out and another runner has the job."""
    with store.transaction() as transaction:
        return _set(transaction.session, job, {"leased_until": transaction.now + lease})


def complete(session: Session, job: Job, *, now: datetime, forget: bool = False) -> bool:
    """End a claimed job well in the session's transaction; False if it is not the caller's any more.

    With `forget` its payload is emptied.
    A handler that calls this beside its effect undoes the effect (by raising) where it gets False.
    """
    forgotten: dict[str, Any] = {"payload": {}} if forget else {}
    return _set(session, job, {**_ended(JobState.DONE, now), **forgotten})


def finish(store: Store, job: Job, *, forget: bool = False) -> bool:
    """End a claimed job well; False if it has ended already, or another runner has it by now."""
    with store.transaction() as transaction:
        return complete(transaction.session, job, now=transaction.now, forget=forget)


def fail(store: Store, job: Job, error: str, *, retry_at: datetime | None) -> bool:
    """Put a claimed job back until `retry_at`, or among the dead with None; False as in `finish`."""
    with store.transaction() as transaction:
        values: dict[str, Any] = {"last_error": _kept(error)}
        if retry_at is None:
            values |= _ended(JobState.DEAD, transaction.now)
        else:
            values |= {"state": JobState.WAITING, "run_at": retry_at, "leased_by": None, "leased_until": None}
        return _set(transaction.session, job, values)


def note_on(store: Store, job: Job, **values: Any) -> bool:
    """Write values into the payload of a claimed job, how far it is for example.

    False where the claim does not hold any more, or somebody asked for the job to stop: then it should.
    """
    with store.transaction() as transaction:
        row = transaction.session.get(Job, job.id, with_for_update=True)
        if row is None or row.state != JobState.RUNNING or row.attempts != job.attempts:
            return False
        row.payload = {**row.payload, **values}
        return "stop" not in row.payload


def ask_to_stop(session: Session, job_id: int, *, now: datetime, who: str) -> Job:
    """End a job that waits, as dead; have one that runs told to stop when it next says how far it is.

    Raises RecordNotFoundError for a job that has ended or never was.
    """
    job = session.get(Job, job_id, with_for_update=True)
    if job is None or job.state not in (JobState.WAITING, JobState.RUNNING):
        raise RecordNotFoundError("open job", job_id)
    job.payload = {**job.payload, "stop": who}
    if job.state == JobState.WAITING:
        job.state, job.ended_at, job.last_error = JobState.DEAD, now, _kept(f"stopped by {who}")
    session.flush()
    return job


def revive(session: Session, job_id: int, *, now: datetime) -> Job:
    """Have a dead job tried again, as if for the first time."""
    job = session.get(Job, job_id, with_for_update=True)
    if job is None or job.state != JobState.DEAD:
        raise RecordNotFoundError("dead job", job_id)
    job.state, job.run_at, job.attempts, job.ended_at = JobState.WAITING, now, 0, None
    session.flush()
    return job


def get_job(session: Session, job_id: int) -> Job:
    """Return a job."""
    job = session.get(Job, job_id)
    if job is None:
        raise RecordNotFoundError("job", job_id)
    return job


def list_jobs(
    session: Session,
    *,
    kind: str | None = None,
    state: str | None = None,
    topic: str | None = None,
    before: int | None = None,
    limit: int = 50,
) -> Sequence[Job]:
    """Return jobs, the newest first; those with an id below `before`, where it is given."""
    query = select(Job).order_by(Job.id.desc()).limit(limit)
    if kind is not None:
        query = query.where(Job.kind == kind)
    if topic is not None:
        query = query.where(Job.topic == topic)
    if state is not None:
        query = query.where(Job.state == state)
    if before is not None:
        query = query.where(Job.id < before)
    return session.scalars(query).all()


def measure_queue(session: Session) -> list[Depth]:
    """Return how many jobs are waiting, running and dead, by kind; done ones are not counted."""
    open_states = (JobState.WAITING, JobState.RUNNING, JobState.DEAD)
    query = (
        select(Job.kind, Job.state, func.count(), func.min(Job.run_at))
        .where(Job.state.in_(open_states))
        .group_by(Job.kind, Job.state)
        .order_by(Job.kind, Job.state)
    )
    return [
        Depth(kind=kind, state=state, count=count, oldest_run_at=oldest)
        for kind, state, count, oldest in session.execute(query)
    ]


def purge_jobs(store: Store, *, state: JobState, ended_before: datetime) -> int:
    """Delete jobs that ended in `state` before an instant, some at a time; return how many."""
    old = (
        select(Job.id)
        .where(Job.state == state, Job.ended_at < ended_before)
        .order_by(Job.ended_at)
        .limit(_PURGED_AT_ONCE)
    )
    purged = 0
    while True:
        with store.reading() as session:
            ids = list(session.scalars(old))
        if not ids:
            return purged
        with store.transaction() as transaction:
            gone = transaction.session.execute(delete(Job).where(Job.id.in_(ids), Job.state == state))
            purged += _count(gone)


def _claimable(kinds: Collection[str], now: datetime) -> Select[Job]:
    return select(Job).where(or_(_due(kinds, now), _left_behind(kinds, now)))


def _due(kinds: Collection[str], now: datetime) -> ColumnElement[bool]:
    return and_(Job.state == JobState.WAITING, Job.run_at <= now, Job.kind.in_(list(kinds)))


def _left_behind(kinds: Collection[str], now: datetime) -> ColumnElement[bool]:
    return and_(Job.state == JobState.RUNNING, Job.leased_until <= now, Job.kind.in_(list(kinds)))


def _locked(condition: ColumnElement[bool], limit: int) -> Select[Job]:
    query = select(Job).where(condition).order_by(Job.run_at, Job.id).limit(limit)
    return query.with_for_update(skip_locked=True)


def _ended(state: JobState, now: datetime) -> dict[str, Any]:
    return {"state": state, "ended_at": now, "leased_by": None, "leased_until": None}


def _set(session: Session, job: Job, values: dict[str, Any]) -> bool:
    """Write to a job if the claim that it was read with still holds."""
    claimed = and_(Job.id == job.id, Job.state == JobState.RUNNING, Job.attempts == job.attempts)
    written = session.execute(
        update(Job).where(claimed).values(values).execution_options(synchronize_session=False)
    )
    return _count(written) == 1


def _count(result: object) -> int:
    return result.rowcount if isinstance(result, CursorResult) else 0


def _kept(error: str) -> str:
    # Errors quote what other programs said: it must not be able to break the database's text.
    plain = error.encode("utf-8", "replace").decode().replace("\x00", "")
    return plain[:LONGEST_ERROR]
