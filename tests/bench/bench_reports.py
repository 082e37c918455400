"""Every page of reports of a company with a million activities, beside the second that it may take.

The company is a simulated one whose activities are written again until there are so many. Each ready report,
retention and a pivot of two years by week are asked as of now and as of half a year ago, as somebody who sees
everything. Beside the slowest, what a page takes of a processor (others may keep the machine busy) and the
share of the time that the database took are told. `BENCH_HOME` names the home of a demonstration to be
copied; without it a medium company is made, which takes minutes.
"""

from __future__ import annotations

import os
import shutil
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import event, func, select, text

from crm_core import migrations
from crm_core.records import Activity, Role, User
from crm_core.store import Store
from serving.app import create_app
from serving.champions import Champions
from serving.demo import make_demo
from serving.logs import start_logging
from serving.modelling import scorer_loader
from serving.report_words import READY
from serving.settings import Settings
from tests.bench.harness import Aspect, Benchmark, Contest, Figures
from tests.serving.screenshots import cookie_of

ACTIVITIES = 1_000_000
PEER = "what is asked"
LONGEST = 1.0
PIVOT = "measure=follow_ups&rows=week&columns=team&period=dates&since={since}&until={until}"


class Reports:
    """The pages, asked in one process so that the database's part can be told apart."""

    def __init__(self, folder: Path) -> None:
        settings = Settings(home=_home(folder), login_rate=0)
        start_logging(settings.home_folder.logs, level="error")
        migrations.upgrade(settings.home_folder.database_url)
        self._store = Store(settings.home_folder.database_url)
        count = _fill(self._store)
        app: Flask = create_app(
            settings, self._store, Champions(self._store, scorer_loader(settings.home_folder, self._store))
        )
        with self._store.reading() as session:
            user = session.scalars(select(User).where(User.role == Role.ADMIN).limit(1)).one()
            session.expunge_all()
        self._client: FlaskClient = app.test_client()
        self._client.set_cookie("crm", cookie_of(app, user))
        self._paths = _paths(self._store)
        print(f"{count:,} activities, {len(self._paths)} pages", file=sys.stderr)

    def close(self) -> None:
        """End."""
        self._store.close()

    def ask(self) -> Figures:
        """Ask every page once; return the slowest, the median, the most work, and the database's share."""
        taken, worked, in_database = [], [], 0.0
        for path in self._paths:
            with _timed(self._store) as spent:
                began, busy = time.perf_counter(), time.process_time()
                answer = self._client.get(path)
                assert answer.status_code == 200, (path, answer.status_code)
                taken.append((time.perf_counter() - began, path))
                worked.append(time.process_time() - busy)
            in_database += spent[0]
        slowest, which = max(taken)
        print(f"slowest: {which}", file=sys.stderr)
        times = [one for one, _ in taken]
        return (slowest, statistics.median(times), max(worked), in_database / sum(times))


@contextmanager
def _timed(store: Store) -> Iterator[list[float]]:
    """Add up how long statements took; SQLite finds all but the first rows while they are fetched."""
    spent, began = [0.0], [0.0]

    def before(*_: Any) -> None:
        began[0] = time.perf_counter()

    def after(*_: Any) -> None:
        spent[0] += time.perf_counter() - began[0]

    event.listen(store.engine, "before_cursor_execute", before)
    event.listen(store.engine, "after_cursor_execute", after)
    try:
        yield spent
    finally:
        event.remove(store.engine, "before_cursor_execute", before)
        event.remove(store.engine, "after_cursor_execute", after)


def _paths(store: Store) -> list[str]:
    today = store.clock.now().date()
    past = (today - timedelta(days=180)).isoformat()
    pivot = PIVOT.format(since=today - timedelta(days=730), until=today)
    now = [f"/reports/show?ready={one.key}" for one in READY] + [
        f"/reports/show?{pivot}",
        "/reports/retention?",
    ]
    return [*now, *(f"{path}&as_of={past}" for path in now)]


def _home(folder: Path) -> Path:
    made = os.environ.get("BENCH_HOME")
    if made is not None:
        return Path(shutil.copytree(made, folder / "home"))
    make_demo(Settings(home=folder / "home"), size="medium", seed=1)
    return folder / "home"


def _fill(store: Store) -> int:
    """Write the company's activities again, an hour earlier, until there are enough."""
    names = [column.name for column in Activity.__table__.columns if column.name not in {"id", "external_id"}]
    again = ", ".join("occurred_at - 3600000000" if name == "occurred_at" else name for name in names)
    with store.engine.begin() as connection:
        while (count := connection.scalar(select(func.count(Activity.id))) or 0) < ACTIVITIES:
            more = ACTIVITIES - count
            copied = f"SELECT {again} FROM activities ORDER BY id LIMIT {more}"
            connection.execute(text(f"INSERT INTO activities ({', '.join(names)}) {copied}"))
        connection.execute(text("ANALYZE"))
    return count


def prepare(folder: Path) -> Contest:
    """Make the company."""
    reports = Reports(folder)
    return Contest(ours=reports.ask, peer=lambda: (LONGEST, LONGEST, LONGEST, 1.0), close=reports.close)


BENCHMARKS = [
    Benchmark(
        name="reports",
        peer_name=PEER,
        prepare=prepare,
        asked=1.0,
        also=(
            Aspect(name="the median page", peer_name=PEER, unit="s", asked=1.0),
            Aspect(name="the most processor time a page takes", peer_name=PEER, unit="s", asked=1.0),
            Aspect(name="the share of time in the database", peer_name="all of it", unit="share"),
        ),
        rounds=3,
    ),
]
