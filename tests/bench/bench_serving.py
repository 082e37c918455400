"""Scoring over HTTP: our whole call beside the bare prediction of `mlflow models serve`.

Both hold the same model and are asked over connections that stay open. The peer is given the features ready
made. Ours lets the caller in, reads what is known of the lead, makes the features, scores, explains, and
commits the score to the record and its history with SQLite's synchronous=FULL.
"""

from __future__ import annotations

import json
import os
import socket
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import psycopg

from crm_core.store import Store
from features.cohort import Cohort
from features.frame import build_rows
from models.bundle import ModelBundle
from models.scoring import features_of
from models.served import probability_name
from tests.bench.bench_freshness import database_in
from tests.bench.company import Company, champion_of, make_company, running, served
from tests.bench.harness import Aspect, Benchmark, Contest, SidesDisagreeError
from tests.bench.lines import Line, answers_a_second, request_of, seconds_each, wait_until

PEER = "mlflow models serve, features ready made"
BLOCK = 250
"""Requests of a side in a round."""
LINES = 8
SECONDS = 6.0
_SAME = 1e-9


class Sides:
    """Both services, and what each is asked."""

    def __init__(self, folder: Path) -> None:
        self._stack = ExitStack()
        self.company = make_company(folder)
        self.bundle, model = champion_of(self.company)
        self.ours = self._stack.enter_context(served(self.company))
        self.peer = self._stack.enter_context(served_by_mlflow(model, folder))
        self.ready = self._check()
        self.asked = list(self.ready.values())
        self.stored = [self._about(lead, "POST", "score") for lead in self.ready]
        self.told = [self._about(lead, "GET", "score-now") for lead in self.ready]

    def close(self) -> None:
        """Stop both."""
        self._stack.close()

    def _about(self, lead: int, method: str, what: str) -> bytes:
        return request_of(method, f"/api/v1/leads/{lead}/{what}", self.company.headers)

    def _check(self) -> dict[int, bytes]:
        """Ask both about the same leads as of the same instants; return what the peer is asked of each.

        A lead unlike any that was learned from, of which ours gives no probability, is left out.
        """
        ours, peer = Line(self.ours), Line(self.peer)
        store = Store(self.company.home.database_url)
        asked: dict[int, bytes] = {}
        for lead in self.company.leads:
            said = json.loads(ours.ask_well(self._about(lead, "POST", "score")))
            if said["probability"] is None:
                continue
            asked[lead] = ready_made(store, self.bundle, lead, datetime.fromisoformat(said["as_of"]))
            found = json.loads(peer.ask_well(asked[lead]))["predictions"][0]
            answer = found[probability_name(self.bundle.horizon_days)]
            if abs(answer - said["probability"]) > _SAME:
                raise SidesDisagreeError(f"lead {lead}: ours {said['probability']}, the peer {answer}")
        store.close()
        return asked


def ready_made(store: Store, bundle: ModelBundle, lead: int, as_of: datetime) -> bytes:
    """Return what the peer is asked about a lead: its features, as the model reads them."""
    feature_set = features_of(store, bundle)
    with store.reading() as session:
        rows = build_rows(session, Cohort.single(bundle.record_type, lead, as_of), feature_set)
    row = [None if np.isnan(cell) else cell for cell in bundle.encoder.encode(rows)[0].tolist()]
    names = [column.name for column in bundle.encoder.columns]
    body = json.dumps({"dataframe_split": {"columns": names, "data": [row]}})
    return request_of("POST", "/invocations", {"Content-Type": "application/json"}, body)


@contextmanager
def served_by_mlflow(model: Path, folder: Path) -> Iterator[str]:
    """Serve a model as `mlflow models serve` does; give the address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    binaries = str(Path(sys.executable).parent)
    environment = {
        **os.environ,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "PATH": os.pathsep.join((binaries, os.environ["PATH"])),
    }
    mlflow = [sys.executable, "-m", "mlflow", "models", "serve", "--model-uri", str(model)]
    command = [*mlflow, "--port", str(port), "--env-manager", "local"]
    with running(command, folder / "peer.txt", environment):
        wait_until(lambda: is_up(port), seconds=120, what="the peer did not serve")
        yield f"http://127.0.0.1:{port}"


def is_up(port: int) -> bool:
    """Tell whether the peer answers."""
    try:
        line = Line(f"http://127.0.0.1:{port}")
    except OSError:
        return False
    try:
        return line.ask(request_of("GET", "/ping", {}))[0] == 200
    finally:
        line.close()


def stored_score(folder: Path) -> Contest:
    """Return a contest of latency, in milliseconds: the median of a block, and its 99th percentile."""
    sides = Sides(folder)
    return Contest(
        ours=block(sides.ours, sides.stored),
        peer=block(sides.peer, sides.asked),
        close=sides.close,
    )


def block(address: str, requests: Sequence[bytes]) -> Any:
    """Return what sends the next requests, one by one, and tells how long they took."""
    ahead = cycle(requests)

    def ask() -> tuple[float, float]:
        line = Line(address)  # a new one: the peer hangs up on who is silent for five seconds
        line.ask_well(next(ahead))
        taken = seconds_each(line, list(islice(ahead, BLOCK)))
        line.close()
        return 1000 * statistics.median(taken), 1000 * float(np.quantile(taken, 0.99))

    return ask


def told_score(folder: Path) -> Contest:
    """Return a contest of throughput, in answers a second, where nothing is written."""
    sides = Sides(folder)
    return Contest(
        ours=lambda: answers_a_second(sides.ours, sides.told, lines=LINES, seconds=SECONDS),
        peer=lambda: answers_a_second(sides.peer, sides.asked, lines=LINES, seconds=SECONDS),
        less_is_better=False,
        close=sides.close,
    )


def stored_on_postgresql(folder: Path) -> Contest:
    """Return a contest of latency with what is asked of PostgreSQL, in milliseconds, and bare round trips.

    Each block tells the median of the call, and how many times that of `SELECT 1` on the same server it is.
    """
    stack = ExitStack()
    company = make_company(folder, stack.enter_context(database_in(folder)))
    return on_postgresql(company, stack.enter_context(served(company)), stack.close)


def on_postgresql(company: Company, address: str, close: Callable[[], None]) -> Contest:
    """Return the contest of a company that is served."""
    ask = block(
        address,
        [request_of("POST", f"/api/v1/leads/{lead}/score", company.headers) for lead in company.leads],
    )
    bare = psycopg.connect(company.home.database_url.replace("+psycopg", ""), autocommit=True)

    def round_trip() -> float:
        began = time.perf_counter()
        bare.execute("SELECT 1").fetchone()
        return 1000 * (time.perf_counter() - began)

    def ours() -> tuple[float, float]:
        median, _ = ask()
        return median, median / statistics.median(round_trip() for _ in range(BLOCK))

    def end() -> None:
        bare.close()
        close()

    return Contest(ours=ours, peer=lambda: (ASKED_MS, 1.0), close=end)


ASKED_MS = 2.5
"""What the call may take on PostgreSQL, where round trips decide: it costs two."""

BENCHMARKS = (
    Benchmark(
        name="score_stored",
        peer_name=PEER,
        prepare=stored_score,
        unit="ms",
        asked=2,
        also=(Aspect(name="p99", peer_name=PEER, unit="ms"),),
        rounds=10,
    ),
    Benchmark(
        name="score_stored_postgresql",
        peer_name="two and a half milliseconds",
        prepare=stored_on_postgresql,
        unit="ms",
        asked=1,
        also=(Aspect(name="bare", peer_name="SELECT 1", unit="round trips"),),
        rounds=10,
    ),
    Benchmark(name="score_told", peer_name=PEER, prepare=told_score, unit="a second", asked=4, rounds=5),
)
