"""How soon an activity that is logged through the API is on the record, as a new score with its reasons.

A service of its own is asked fifty times a second, reading and writing in turns, whether or not it has
answered before. Four times a second an activity is logged on a lead that nobody else touches, and the
database is looked at until the lead shows an answer that was asked for after the activity was recorded. The
time begins when the request is sent. Any answer that is no success breaks the benchmark.
"""

from __future__ import annotations

import json
import queue
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from itertools import cycle
from pathlib import Path

import numpy as np
import psycopg
from sqlalchemy import select

from crm_core.records import Lead
from crm_core.store import Store
from tests import postgres
from tests.bench.company import make_company, served
from tests.bench.harness import Aspect, Benchmark, Contest
from tests.bench.lines import Line, request_of

SECONDS = 60.0
A_SECOND = 50
PROBES_A_SECOND = 4
LINES = 16
PATIENCE = 15.0
MEDIAN_MS, P99_MS = 500.0, 2000.0
_JSON = {"Content-Type": "application/json"}


@dataclass
class Watched:
    """What came of the requests so far."""

    answered: list[float] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    fresh: list[float] = field(default_factory=list)

    def note(self, status: int, body: bytes, began: float) -> None:
        """Note an answer."""
        self.answered.append(time.perf_counter() - began)
        if status >= 300:
            self.broken.append(f"{status}: {body[:200]!r}")


class Freshness:
    """A served company, the leads that requests go to, and those that only probes touch."""

    def __init__(self, folder: Path, database: str) -> None:
        self._stack = ExitStack()
        url = self._stack.enter_context(database_in(folder)) if database == "postgresql" else None
        self.company = make_company(folder, url)
        self.address = self._stack.enter_context(served(self.company))
        self.store = Store(self.company.home.database_url)
        self._stack.callback(self.store.close)
        half = len(self.company.leads) // 2
        self.busy, self.probed = self.company.leads[:half], self.company.leads[half:]

    def close(self) -> None:
        """Stop the service and the database."""
        self._stack.close()

    def run(self, seconds: float) -> tuple[float, float, float]:
        """Return the median and the 99th percentile in ms, and the seconds that A_SECOND requests took."""
        watched, due, ended = Watched(), queue.SimpleQueue[bytes | None](), threading.Event()
        callers = [threading.Thread(target=self._call, args=(due, watched)) for _ in range(LINES)]
        probing = threading.Thread(target=self._probe, args=(ended, watched))
        for thread in (*callers, probing):
            thread.start()
        began = time.perf_counter()
        self._send(due, began, seconds)
        ended.set()
        for _ in callers:
            due.put(None)
        for thread in (*callers, probing):
            thread.join()
        return self._told(watched, time.perf_counter() - began)

    def _told(self, watched: Watched, took: float) -> tuple[float, float, float]:
        if watched.broken:
            raise AssertionError(f"{len(watched.broken)} answers that were no success: {watched.broken[:3]}")
        fresh = [1000 * seconds for seconds in watched.fresh]
        each = took * A_SECOND / len(watched.answered)
        return statistics.median(fresh), float(np.quantile(fresh, 0.99)), each

    def _send(self, due: queue.SimpleQueue[bytes | None], began: float, seconds: float) -> None:
        """Hand out requests at their time, whether or not those before were answered."""
        ahead = self._mixed()
        for number in range(int(seconds * (A_SECOND - PROBES_A_SECOND))):
            time.sleep(max(0.0, began + number / (A_SECOND - PROBES_A_SECOND) - time.perf_counter()))
            due.put(next(ahead))

    def _mixed(self) -> Iterator[bytes]:
        """Yield requests, every other one a write."""
        leads = cycle(self.busy)
        while True:
            yield self._request("GET", f"/leads/{next(leads)}")
            yield self._log_on(next(leads))
            yield self._request("GET", "/leads?limit=20")
            yield self._request("POST", f"/leads/{next(leads)}/score")
            yield self._request("GET", f"/leads/{next(leads)}/activities")
            yield self._request("POST", "/leads", {"company": "Fangda Valves", "source": "web_form"})

    def _request(self, method: str, path: str, body: dict[str, object] | None = None) -> bytes:
        headers = {**self.company.headers, **(_JSON if body else {})}
        return request_of(method, f"/api/v1{path}", headers, json.dumps(body) if body else "")

    def _log_on(self, lead: int) -> bytes:
        return self._request("POST", f"/leads/{lead}/activities", {"kind": "call", "direction": "outbound"})

    def _call(self, due: queue.SimpleQueue[bytes | None], watched: Watched) -> None:
        line = Line(self.address)
        while (request := due.get()) is not None:
            began = time.perf_counter()
            watched.note(*line.ask(request), began)
        line.close()

    def _probe(self, ended: threading.Event, watched: Watched) -> None:
        line, leads = Line(self.address), cycle(self.probed)
        while not ended.is_set():
            began = time.perf_counter()
            lead = next(leads)
            status, body = line.ask(self._log_on(lead))
            watched.note(status, body, began)
            if status < 300:
                self._wait_for(lead, json.loads(body)["recorded_at"])
                watched.fresh.append(time.perf_counter() - began)
            ended.wait(max(0.0, began + 1 / PROBES_A_SECOND - time.perf_counter()))
        line.close()

    def _wait_for(self, lead: int, recorded_at: str) -> None:
        """Wait until a lead shows an answer, with reasons, that knows what was recorded then."""
        query = select(Lead.scored_at, Lead.reasons).where(Lead.id == lead)
        until = time.perf_counter() + PATIENCE
        while time.perf_counter() < until:
            with self.store.reading() as session:
                scored_at, reasons = session.execute(query).one()
            if reasons and scored_at is not None and scored_at >= datetime.fromisoformat(recorded_at):
                return
            time.sleep(0.005)
        raise TimeoutError(f"lead {lead} was not scored within {PATIENCE:g} s")


@contextmanager
def database_in(folder: Path) -> Iterator[str]:
    """Start a PostgreSQL server and make a database in it; give its URL."""
    with (
        tempfile.TemporaryDirectory(prefix="crm-bench-", dir=folder.parent) as place,
        postgres.server(Path(place)) as url,
    ):
        with psycopg.connect(url.replace("+psycopg", "") + "/postgres", autocommit=True) as connection:
            connection.execute("CREATE DATABASE fresh")
        yield f"{url}/fresh"


def freshness(folder: Path, *, database: str, seconds: float = SECONDS) -> Contest:
    """Return a contest with what is asked: median and 99th percentile in ms, and the rate kept up."""
    found = Freshness(folder, database)
    return Contest(ours=lambda: found.run(seconds), peer=lambda: (MEDIAN_MS, P99_MS, 1.0), close=found.close)


BENCHMARKS = tuple(
    Benchmark(
        name=f"freshness_{database}",
        peer_name="half a second",
        prepare=partial(freshness, database=database),
        unit="ms",
        asked=1,
        also=(
            Aspect(name="p99", peer_name="two seconds", unit="ms", asked=1),
            Aspect(name="fifty_requests", peer_name="a second", unit="s", asked=0.98),
        ),
        rounds=1,
        warm=False,
    )
    for database in ("sqlite", "postgresql")
)
