"""Which handler does which job, and the threads that do them inside a process."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import func, select

from crm_core.jobs import Job, JobState
from crm_core.store import Store
from serving.connectors.scheduled import EXCHANGE, Exchanging
from serving.jobs import Handler, JobRunner, Schedule, name_of_process
from serving.looping import Loop
from serving.mail import MAIL, Mailer, mail_is_on
from serving.payloads import Part
from serving.settings import Settings

FORGOTTEN = frozenset({MAIL})
"""Kinds of which only it is kept that they were done."""


def handlers(settings: Settings) -> dict[str, Handler]:
    """Return the handler of every kind of job."""
    return {MAIL: Mailer(settings), EXCHANGE: Exchanging(settings)}


SCHEDULES: Mapping[str, Schedule] = {}
"""When the kinds that have a schedule of their own are tried again."""


class Jobs:
    """The threads of one process that do jobs."""

    def __init__(self, settings: Settings, store: Store, *, poll_seconds: float = 1.0) -> None:
        self._loops = [
            Loop(f"jobs-{number}", self._runner(settings, store, number).run_once, poll_seconds=poll_seconds)
            for number in range(settings.job_threads)
        ]

    @staticmethod
    def _runner(settings: Settings, store: Store, number: int) -> JobRunner:
        name = f"{name_of_process()}:{number}"
        return JobRunner(store, handlers(settings), schedules=SCHEDULES, name=name, forgotten=FORGOTTEN)

    @property
    def last_error(self) -> str | None:
        """What a thread could not do the last time; None if all is well."""
        return next((loop.last_error for loop in self._loops if loop.last_error), None)

    @property
    def is_alive(self) -> bool:
        """Whether every thread runs."""
        return all(loop.is_alive() for loop in self._loops)

    def start(self) -> None:
        """Begin to work."""
        for loop in self._loops:
            loop.start()

    def wake(self) -> None:
        """Look for jobs now."""
        for loop in self._loops:
            loop.wake()

    def stop(self, timeout: float = 10.0) -> None:
        """Finish the jobs at hand and end; one that takes longer is done again when its lease has run out."""
        for loop in self._loops:
            loop.ask_to_stop()
        for loop in self._loops:
            loop.join(timeout)


def readiness(settings: Settings, store: Store, jobs: Jobs | None) -> list[Part]:
    """Tell how jobs and mail are doing."""
    return [_mail_part(settings), _jobs_part(store, jobs)]


def _mail_part(settings: Settings) -> Part:
    if not mail_is_on(settings):
        return Part(name="mail", ok=True, detail="off: CRM_SMTP_HOST is not set, no mail is sent")
    return Part(name="mail", ok=True, detail=f"on: through {settings.smtp_host}")


def _jobs_part(store: Store, jobs: Jobs | None) -> Part:
    now = store.clock.now()
    with store.reading() as session:
        late = select(func.count(), func.min(Job.run_at)).where(
            Job.state == JobState.WAITING, Job.run_at <= now
        )
        waiting, oldest = session.execute(late).one()
        dead = session.scalar(select(func.count()).where(Job.state == JobState.DEAD)) or 0
    detail = f"{waiting} due, {dead} dead"
    if oldest is not None:
        detail += f", the oldest due for {(now - oldest).total_seconds():.0f} s"
    if jobs is not None and jobs.last_error:
        detail += f", last error {jobs.last_error}"
    return Part(name="jobs", ok=jobs is None or (jobs.is_alive and jobs.last_error is None), detail=detail)
