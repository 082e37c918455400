"""How re-scoring is doing, whichever processes do it: what waits, who is at it, how far the sweeps are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ScalarSelect, func, select
from sqlalchemy.orm import Session

from crm_core.changes import Change, Cursor, Source
from crm_core.rescoring import CURSOR, LEASE, Sweep, Work, Worker, list_workers
from crm_core.store import Store

COUNTED = 100_000
"""Changes that are counted at most."""


@dataclass(frozen=True, kw_only=True)
class SweepState:
    """How far a task's pass over its open records has come; the last one, if none is under way."""

    task: str
    model_version: str | None
    as_of: datetime
    done: int
    total: int
    ended_at: datetime | None
    per_second: float | None
    seconds_left: float | None


@dataclass(frozen=True, kw_only=True)
class WorkerState:
    """A process that scores."""

    name: str
    started_at: datetime
    seen_at: datetime
    alive: bool
    scored: int
    lag_seconds: float | None
    error: str | None


@dataclass(frozen=True, kw_only=True)
class RescoringState:
    """All of it. `waiting` counts records that changed, `at_work` those that a worker has claimed.

    `oldest_seconds` is how long the oldest change waits of all that no score takes into account, failures
    left out.
    """

    changes_waiting: int
    waiting: int
    at_work: int
    failed: int
    oldest_seconds: float | None
    lag_seconds: float | None
    workers: Sequence[WorkerState]
    sweeps: Sequence[SweepState]


def read_state(store: Store) -> RescoringState:
    """Return how re-scoring is doing at this moment."""
    now = store.clock.now()
    with store.reading() as session:
        workers = [_worker(worker, now) for worker in list_workers(session)]
        sweeps = session.scalars(select(Sweep).where(Sweep.total > 0).order_by(Sweep.task))
        counted = select(func.count(), func.count(Work.leased_by), func.count(Work.error), _oldest())
        waiting, at_work, failed, oldest = session.execute(counted).one()
        return RescoringState(
            changes_waiting=count_changes_waiting(session),
            waiting=waiting,
            at_work=at_work,
            failed=failed,
            oldest_seconds=_seconds_since(_earliest(oldest, _oldest_change(session)), now),
            lag_seconds=max(
                (w.lag_seconds for w in workers if w.alive and w.lag_seconds is not None), default=None
            ),
            workers=workers,
            sweeps=[_sweep(sweep, now) for sweep in sweeps],
        )


def _seconds_since(at: datetime | None, now: datetime) -> float | None:
    return None if at is None else (now - at).total_seconds()


def _earliest(*instants: datetime | None) -> datetime | None:
    return min((at for at in instants if at is not None), default=None)


def _oldest() -> ScalarSelect[datetime]:
    return select(func.min(Work.since)).where(Work.error.is_(None)).scalar_subquery()


def _oldest_change(session: Session) -> datetime | None:
    """Return when the first change was recorded that has not become work, unless only an import knows."""
    cursor = session.get(Cursor, CURSOR)
    if cursor is None:
        return None
    waiting = select(Change.recorded_at, Change.source).where(Change.sequence > cursor.position)
    first = session.execute(waiting.order_by(Change.sequence, Change.id).limit(1)).one_or_none()
    return None if first is None or first.source == Source.IMPORT else first.recorded_at


def count_changes_waiting(session: Session) -> int:
    """Return how many changes have not become work, COUNTED for more; those before the first look are not."""
    cursor = session.get(Cursor, CURSOR)
    if cursor is None:
        return 0
    waiting = select(Change.id).where(Change.sequence > cursor.position).limit(COUNTED)
    return session.scalar(select(func.count()).select_from(waiting.subquery())) or 0


def _worker(worker: Worker, now: datetime) -> WorkerState:
    return WorkerState(
        name=worker.name,
        started_at=worker.started_at,
        seen_at=worker.seen_at,
        alive=worker.seen_at >= now - LEASE,
        scored=worker.scored,
        lag_seconds=worker.lag_seconds,
        error=worker.error,
    )


def _sweep(sweep: Sweep, now: datetime) -> SweepState:
    seconds = ((sweep.ended_at or now) - sweep.as_of).total_seconds()
    per_second = sweep.done / seconds if seconds > 0 and sweep.done else None
    left = None if sweep.ended_at or not per_second else max(sweep.total - sweep.done, 0) / per_second
    return SweepState(
        task=sweep.task,
        model_version=sweep.model_version,
        as_of=sweep.as_of,
        done=sweep.done,
        total=sweep.total,
        ended_at=sweep.ended_at,
        per_second=per_second,
        seconds_left=left,
    )


def sweep_in_words(sweep: SweepState) -> str:
    """Return how far a sweep is, on one line."""
    text = f"{sweep.done:,} of {sweep.total:,}"
    if sweep.per_second is not None:
        text += f", {sweep.per_second:,.0f} a second"
    if sweep.ended_at is not None:
        return f"{text}, ended {sweep.ended_at:%Y-%m-%d %H:%M} UTC"
    return text if sweep.seconds_left is None else f"{text}, {sweep.seconds_left:,.0f} s left"
