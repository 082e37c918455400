"""A small company that works with trained models, for the story that is driven through all of its pages."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import select, update

from crm_core.clock import SystemClock
from crm_core.records import User
from crm_core.store import Store
from serving.alerting import Alerting, raise_alerts, thresholds
from serving.app import create_app
from serving.champions import Champions
from serving.forecast_making import ask_for, scope_of
from serving.forecasts import Part
from serving.home import Home
from serving.job_handlers import Jobs, handlers
from serving.jobs import JobRunner
from serving.looping import Loop
from serving.modelling import scorer_loader
from serving.rescoring import RescoringThread
from serving.server import WARM_SECONDS
from serving.settings import Settings
from serving.training_runs import score_as_of, score_task, train_task
from serving.worker import make_rescorer
from tests.serving.browser import serving

MORNING = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
"""A Monday: the company's last day was the Sunday before."""

COMPARED = "lead_scoring"
EARLIER_DAYS = (200, 150)
"""How long ago the two versions of a model of leads were made that are compared: outcomes came since."""


class RunningClock:
    """A clock that was set to `start` and goes on from there."""

    def __init__(self, start: datetime) -> None:
        self._ahead = start - SystemClock().now()

    def now(self) -> datetime:
        """Return what it shows."""
        return SystemClock().now() + self._ahead


@dataclass(frozen=True, kw_only=True)
class Office:
    """A served home and where it is."""

    address: str
    store: Store


def settings_of(folder: Path) -> Settings:
    """Return the settings of a home in which nobody has to wait between two logins."""
    return Settings(home=folder, api_rate=0, anonymous_rate=0, login_rate=0, job_threads=1)


def make_company(folder: Path, empty_database: Path, tracking: Path, password_hash: str) -> None:
    """Fill `folder` with a simulated company whose models, scores, warnings and forecasts were made."""
    from models.simulation import simulate_company

    home = settings_of(folder).home_folder
    home.create()
    shutil.copy(empty_database, home.database)
    shutil.copy(tracking, folder / "mlflow.db")
    store = Store(home.database_url, clock=RunningClock(MORNING))
    simulate_company(store, size="tiny", seed=5, end=MORNING).save(home.truth)
    _train(home, store)
    with store.transaction() as transaction:
        transaction.session.execute(update(User).values(password_hash=password_hash))
    raise_alerts(settings_of(folder), store)
    _make_forecasts(settings_of(folder), store)
    store.close()


def _train(home: Home, store: Store) -> None:
    for days in EARLIER_DAYS:
        train_task(home, store, COMPARED, as_of=MORNING - timedelta(days=days))
    for task in ("win_probability", "churn"):
        train_task(home, store, task)
    for task in (COMPARED, "win_probability", "churn"):
        score_as_of(home, store, task, MORNING - timedelta(days=7), lambda *_: None)
        score_task(home, store, task)


def _make_forecasts(settings: Settings, store: Store) -> None:
    with store.reading() as session:
        mara = session.scalars(select(User).where(User.email == "mara@example.com")).one()
        scope = scope_of(session, mara, Part())
        session.expunge_all()
    ask_for(store, mara, Part(), scope)
    runner = JobRunner(store, handlers(settings))
    while runner.run_once():
        pass


@contextmanager
def open_office(folder: Path) -> Iterator[Office]:
    """Serve a home with all that runs beside the pages: scores, jobs and warnings."""
    settings = settings_of(folder)
    store = Store(settings.home_folder.database_url, clock=RunningClock(MORNING + timedelta(hours=1)))
    champions = Champions(store, scorer_loader(settings.home_folder, store), look_seconds=0.1)
    rescoring = RescoringThread(make_rescorer(settings, store, champions))
    jobs = Jobs(settings, store, poll_seconds=0.1)
    alerting = Loop("alerting", Alerting(store, thresholds(settings), by_mail=False).run_once)
    app = create_app(settings, store, champions, rescoring, jobs)
    for each in (rescoring, jobs, alerting):
        each.start()
    rescoring.looked.wait(WARM_SECONDS)
    try:
        with serving(app) as address:
            yield Office(address=address, store=store)
    finally:
        for each in (rescoring, alerting, jobs):
            each.stop()
        store.close()
