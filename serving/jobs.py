"""Does the jobs of `crm_core.jobs`: claims them, runs their handlers, and tries again what went wrong.

A handler gets the store and the job. If it returns, the job is done; if it raises, it is tried again after a
pause that doubles each time and varies at random, so that those who failed together do not come back
together. `HopelessJobError` ends a job at once, `JobError(retry_after=...)` names the pause. A job whose
attempts are used up is dead: it is kept, listed by `crm jobs`, and may be revived.

While a job is worked on its lease is renewed, however long that takes.
A process that is killed while it works leaves its jobs to whoever finds the lease run out; a job that kills
its process every time runs out of attempts as well.
"""

from __future__ import annotations

import os
import random
import socket
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy.exc import SQLAlchemyError

from crm_core.errors import HopelessJobError, JobError
from crm_core.jobs import Job, JobState, claim, fail, finish, purge_jobs, renew
from crm_core.store import Store
from serving.logs import get_log

Handler = Callable[[Store, Job], None]
"""Does a job, or raises for it to be tried again."""

LEASE = timedelta(minutes=5)
KEPT_DONE = timedelta(days=30)
KEPT_DEAD = timedelta(days=365)
PURGE_EVERY = timedelta(hours=1)

_log = get_log("serving.jobs")


def _nowhere(_name: str) -> None:
    """Do nothing at a checkpoint."""


def name_of_process() -> str:
    """Return what tells this process from others that claim jobs."""
    return f"{socket.gethostname()[:50]}:{os.getpid()}"


@dataclass(frozen=True, kw_only=True)
class Backoff:
    """How long to wait after each failed attempt, and after how many a job is dead."""

    first: timedelta = timedelta(seconds=5)
    longest: timedelta = timedelta(hours=1)
    attempts: int = 12

    def pause(self, attempts: int) -> timedelta | None:
        """Return the pause after so many attempts, up to the longest; None after the last."""
        if attempts >= self.attempts:
            return None
        doublings = min(max(attempts - 1, 0), 30)
        return min(self.first * (1 << doublings), self.longest)


@dataclass(frozen=True, kw_only=True)
class Steps:
    """Pauses written out one by one."""

    pauses: Sequence[timedelta]

    @property
    def attempts(self) -> int:
        """How often a job is tried."""
        return len(self.pauses) + 1

    def pause(self, attempts: int) -> timedelta | None:
        """Return the pause after so many attempts; None after the last."""
        return self.pauses[attempts - 1] if attempts <= len(self.pauses) else None


Schedule = Backoff | Steps


class JobRunner:
    """Does jobs of the kinds that it has handlers for.

    Of kinds in `forgotten` the payload is emptied when the job is done: it holds what nobody needs to keep.
    `checkpoint` is called with the name of every boundary between two steps; tests kill the process there.
    """

    def __init__(
        self,
        store: Store,
        handlers: Mapping[str, Handler],
        *,
        schedules: Mapping[str, Schedule] | None = None,
        name: str | None = None,
        lease: timedelta = LEASE,
        at_once: int = 1,
        forgotten: Collection[str] = (),
        checkpoint: Callable[[str], None] = _nowhere,
    ) -> None:
        self.store = store
        self.name = name or name_of_process()
        self._handlers = handlers
        self._schedules = schedules or {}
        self._lease = lease
        self._at_once = at_once
        self._forgotten = frozenset(forgotten)
        self._checkpoint = checkpoint
        self._random = random.Random()  # noqa: S311  spreads retries, hides nothing
        self._purged_at: datetime | None = None

    @property
    def kinds(self) -> Collection[str]:
        """What this runner can do."""
        return self._handlers.keys()

    def run_once(self) -> int:
        """Claim the jobs that are due, and do them; return how many there were."""
        self._purge_sometimes()
        jobs = claim(self.store, self.kinds, by=self.name, lease=self._lease, limit=self._at_once)
        self._checkpoint("claimed")
        if jobs:
            with self._held(list(jobs)) as held:
                while held:
                    self._do(held[0])
                    del held[0]
        return len(jobs)

    @contextmanager
    def _held(self, jobs: list[Job]) -> Iterator[list[Job]]:
        """Hold the leases of the jobs in a list for as long as they are in it and this process lives."""
        over = threading.Event()

        def hold() -> None:
            while not over.wait(self._lease.total_seconds() / 3):
                try:
                    for job in list(jobs):
                        renew(self.store, job, lease=self._lease)
                except SQLAlchemyError as error:
                    _log.warning("leases not renewed", error=type(error).__name__)

        thread = threading.Thread(target=hold, name=f"leases of {self.name}", daemon=True)
        thread.start()
        try:
            yield jobs
        finally:
            over.set()
            thread.join()  # a renewal under way would open a connection of a store that is closed

    def _do(self, job: Job) -> None:
        if job.attempts > self._schedule(job).attempts:
            # Every attempt so far ended without a word: the job takes the process down with it.
            fail(self.store, job, "the process ended while it worked on this", retry_at=None)
            return
        try:
            self._handlers[job.kind](self.store, job)
        except Exception as error:  # noqa: BLE001  one bad job must not hold up the others
            self._checkpoint("failing")
            self._failed(job, error)
            return
        self._checkpoint("done")
        finish(self.store, job, forget=job.kind in self._forgotten)
        self._checkpoint("finished")

    def _failed(self, job: Job, error: Exception) -> None:
        pause = self._pause(job, error)
        retry_at = None if pause is None else self.store.clock.now() + pause
        mine = fail(self.store, job, f"{type(error).__name__}: {error}", retry_at=retry_at)
        told = _log.warning if retry_at is not None else _log.error
        told(
            "job failed" if retry_at is not None else "job dead",
            job=job.id,
            kind=job.kind,
            attempts=job.attempts,
            error=type(error).__name__,
            retry_at=retry_at.isoformat() if retry_at else None,
            still_ours=mine,
            exc_info=None if isinstance(error, JobError) else error,
        )

    def _pause(self, job: Job, error: Exception) -> timedelta | None:
        """Return how long to wait before the next attempt; None if there is to be none."""
        if isinstance(error, HopelessJobError):
            return None
        pause = self._schedule(job).pause(job.attempts)
        if pause is None:
            return None
        asked = error.retry_after if isinstance(error, JobError) else None
        return max(pause * self._random.uniform(0.8, 1.2), asked or timedelta())

    def _schedule(self, job: Job) -> Schedule:
        return self._schedules.get(job.kind, _USUAL)

    def _purge_sometimes(self) -> None:
        now = self.store.clock.now()
        if self._purged_at is not None and now - self._purged_at < PURGE_EVERY:
            return
        self._purged_at = now
        for state, kept in ((JobState.DONE, KEPT_DONE), (JobState.DEAD, KEPT_DEAD)):
            purged = purge_jobs(self.store, state=state, ended_before=now - kept)
            if purged:
                _log.info("purged", state=state, jobs=purged)


_USUAL = Backoff()
