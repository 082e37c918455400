"""Looking after jobs: what the command line and the API tell of them, and reviving dead ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select

from crm_core.changes import Source
from crm_core.jobs import Depth, Job, JobState, list_jobs, measure_queue, revive
from crm_core.store import Store


def tell_jobs(
    store: Store, *, kind: str | None, state: str | None, limit: int, before: int | None = None
) -> dict[str, Any]:
    """Return the queue's depth, and jobs, newest first; what they hold is not told."""
    with store.reading() as session:
        found = list_jobs(session, kind=kind, state=state, limit=limit, before=before)
        return {
            "queue": [tell_depth(each) for each in measure_queue(session)],
            "jobs": [tell_job(job) for job in found],
        }


def tell_depth(depth: Depth) -> dict[str, Any]:
    """Return a depth as plain values."""
    return {
        "kind": depth.kind,
        "state": depth.state,
        "count": depth.count,
        "oldest_run_at": depth.oldest_run_at.isoformat(),
    }


def tell_job(job: Job) -> dict[str, Any]:
    """Return a job as plain values, without what it holds: that may be about people."""
    return {
        "id": job.id,
        "kind": job.kind,
        "key": job.key,
        "state": job.state,
        "attempts": job.attempts,
        "run_at": job.run_at.isoformat(),
        "created_at": job.created_at.isoformat(),
        "ended_at": None if job.ended_at is None else job.ended_at.isoformat(),
        "leased_by": job.leased_by,
        "last_error": job.last_error,
    }


def revive_jobs(store: Store, *, ids: Sequence[int], kind: str | None = None) -> list[int]:
    """Have dead jobs tried again: those with these ids, or all of a kind; return their ids."""
    with store.transaction(source=Source.API) as transaction:
        session = transaction.session
        chosen = list(ids)
        if kind is not None:
            dead = select(Job.id).where(Job.kind == kind, Job.state == JobState.DEAD)
            chosen = list(session.scalars(dead.order_by(Job.id)))
        return [revive(session, job_id, now=transaction.now).id for job_id in chosen]
