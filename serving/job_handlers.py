"""Which handler does which job, and the threads that do them inside a process."""

from __future__ import annotations

import time
from collections.abc import Mapping

from sqlalchemy import func, select

from crm_core.incoming.mailboxes import find_mailbox
from crm_core.jobs import Job, JobState
from crm_core.outgoing import MAIL
from crm_core.store import Store
from crm_core.webhook_events import EventFollower
from crm_core.webhooks import EVENT, WEBHOOK, WebhookEndpoint
from serving.alert_mail import AlertMailer
from serving.alerting import ALERT_MAIL
from serving.connectors.scheduled import EXCHANGE, Exchanging
from serving.forecast_making import FORECAST, ForecastMaker
from serving.importing import IMPORT, Importing
from serving.jobs import Handler, JobRunner, Schedule, name_of_process
from serving.list_work import LIST_WORK, ListWorker
from serving.logs import get_log
from serving.looping import Loop
from serving.mail import Mailer, mail_is_on
from serving.mailbox import mailbox_loop, mailbox_name
from serving.model_work import MODEL, ModelWorker
from serving.model_work import SCHEDULE as MODEL_SCHEDULE
from serving.payloads import Part
from serving.report_mail import REPORT_MAIL, ReportClock, ReportMailer
from serving.selling_day import SELLING_DAY, SellingDay
from serving.sequencing import sequencing_loop
from serving.settings import Settings
from serving.webhooks import SCHEDULE, Deliverer, spread

SLOW = frozenset({WEBHOOK, EXCHANGE, FORECAST, IMPORT, LIST_WORK, MODEL, REPORT_MAIL})
"""Kinds that take long, or wait for others: one thread leaves them alone, so that not all can be held up."""

REPORT_SECONDS = 20.0
"""How often it is looked for reports that are to be sent."""

FORGOTTEN = frozenset({MAIL, EVENT})
"""Kinds of which only it is kept that they were done."""


def handlers(settings: Settings) -> dict[str, Handler]:
    """Return the handler of every kind of job."""
    return {
        MAIL: Mailer(settings),
        WEBHOOK: Deliverer(settings),
        EVENT: spread,
        ALERT_MAIL: AlertMailer(settings),
        EXCHANGE: Exchanging(settings),
        MODEL: ModelWorker(settings),
        FORECAST: ForecastMaker(settings),
        IMPORT: Importing(settings),
        LIST_WORK: ListWorker(settings),
        REPORT_MAIL: ReportMailer(settings),
        SELLING_DAY: SellingDay(settings),
    }


_log = get_log("serving.jobs")

SCHEDULES: Mapping[str, Schedule] = {WEBHOOK: SCHEDULE, MODEL: MODEL_SCHEDULE}
"""When the kinds that have a schedule of their own are tried again."""


class Jobs:
    """The threads of one process that do jobs, and the one that finds events to be told."""

    def __init__(self, settings: Settings, store: Store, *, poll_seconds: float = 1.0) -> None:
        done_by = handlers(settings)
        runners = [
            _runner(store, done_by, number, settings.job_threads) for number in range(settings.job_threads)
        ]
        self._loops = [
            Loop(f"jobs-{number}", runner.run_once, poll_seconds=poll_seconds)
            for number, runner in enumerate(runners)
        ]
        if self._loops:
            follower = EventFollower(store, left_out=_left_out)
            self._loops.append(Loop("events", follower.run_once, poll_seconds=poll_seconds))
            self._loops.append(sequencing_loop(settings, store))
            if (reading := mailbox_loop(settings, store)) is not None:
                self._loops.append(reading)
            self._loops.append(Loop("reports", ReportClock(store).run_once, poll_seconds=REPORT_SECONDS))

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
        """Finish the jobs at hand and end; one that takes longer is done again when its lease has run out.

        All of them together get `timeout` seconds.
        """
        until = time.monotonic() + timeout
        for loop in self._loops:
            loop.ask_to_stop()
        for loop in self._loops:
            loop.join(max(0.0, until - time.monotonic()))


def _runner(store: Store, done_by: Mapping[str, Handler], number: int, threads: int) -> JobRunner:
    quick = number == 0 and threads > 1
    mine = {kind: each for kind, each in done_by.items() if not (quick and kind in SLOW)}
    name = f"{name_of_process()}:{number}"
    return JobRunner(store, mine, schedules=SCHEDULES, name=name, forgotten=FORGOTTEN)


def _left_out(count: int) -> None:
    _log.warning("too many predictions to tell webhooks one by one", left_out=count)


def readiness(settings: Settings, store: Store, jobs: Jobs | None) -> list[Part]:
    """Tell how jobs and mail are doing."""
    return [
        _mail_part(settings),
        *_mailbox_part(settings, store),
        _jobs_part(store, jobs),
        *_webhooks_part(store),
    ]


def _mail_part(settings: Settings) -> Part:
    if not mail_is_on(settings):
        return Part(name="mail", ok=True, detail="off: CRM_SMTP_HOST is not set, no mail is sent")
    return Part(name="mail", ok=True, detail=f"on: through {settings.smtp_host}")


def _mailbox_part(settings: Settings, store: Store) -> list[Part]:
    if settings.imap_host is None:
        return []
    with store.reading() as session:
        box = find_mailbox(session, mailbox_name(settings))
    if box is None:
        return [Part(name="mailbox", ok=True, detail="not read yet")]
    read = f"read at {box.looked_at:%Y-%m-%d %H:%M} UTC" if box.looked_at is not None else "never read"
    return [Part(name="mailbox", ok=box.problem is None, detail=f"{read}; {box.problem or 'all is well'}")]


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


def _webhooks_part(store: Store) -> list[Part]:
    with store.reading() as session:
        endpoints = session.scalars(select(WebhookEndpoint)).all()
    if not endpoints:
        return []
    off = [each.name for each in endpoints if not each.active and each.disabled_reason]
    failing = sum(each.active and each.failing_since is not None for each in endpoints)
    detail = f"{sum(each.active for each in endpoints)} on, {failing} of them failing, {len(off)} turned off"
    return [Part(name="webhooks", ok=not off and not failing, detail=detail)]
