"""Half an hour of a working day in a real process: requests at a rate, with everything else going on beside.

    python -m tests.bench.soak --minutes 30 --rate 100

A small simulated company is made, unless `--home` names one that was made by `crm demo --no-serve` (it is
copied). `crm serve` runs it in a process of its own. Requests come at instants that do not wait for answers,
as people do not; beside them a model is trained, everything is scored anew, a backup is taken, and promotions
go back and forth. One JSON object in the end: answers by status, latencies by call, how soon scores followed,
and how much memory the process held.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import urlsplit

import psutil

COMMAND = [sys.executable, "-c", "from serving.cli import main; main()"]
WARM_UP_SECONDS = 120.0
SAMPLE_SECONDS = 2.0
CLIENTS = 24
FOLLOWED_EVERY = 20
"""Of so many activities that are logged, one is followed until its score is there."""


@dataclass
class Seen:
    """What came back."""

    statuses: Counter[str] = field(default_factory=Counter)
    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    fresh_after: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    memory: list[tuple[float, float]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    began: float = field(default_factory=time.perf_counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def fail(self, what: str) -> None:
        """Keep what went wrong, and when."""
        self.failures.append(f"at {time.perf_counter() - self.began:.0f} s: {what}")

    def note(self, call: str, status: int, seconds: float) -> None:
        """Keep what one request came to."""
        with self.lock:
            self.statuses[str(status)] += 1
            self.seconds[call].append(seconds)
            if status >= 500 or status == 0:
                self.fail(f"{call}: {status} after {seconds:.1f} s")


class Client:
    """Keeps a connection open, one a thread, as programs that call often do."""

    def __init__(self, address: str, key: str) -> None:
        self._netloc = urlsplit(address).netloc
        self._key = key
        self._local = threading.local()

    def send(self, method: str, path: str, body: object = None) -> tuple[int, bytes]:
        """Return status and body; status 0 where no answer came."""
        headers = {"Authorization": f"Bearer {self._key}"}
        sent = None
        if body is not None:
            headers["Content-Type"], sent = "application/json", json.dumps(body).encode()
        for attempt in (1, 2):
            connection = getattr(self._local, "connection", None)
            fresh = connection is None
            if connection is None:
                connection = self._local.connection = HTTPConnection(self._netloc, timeout=30)
            try:
                connection.request(method, path, sent, headers)
                answer = connection.getresponse()
                return answer.status, answer.read()
            except (OSError, HTTPException):
                connection.close()
                self._local.connection = None
                # A connection that the server closed while nothing was under way says nothing.
                if fresh or attempt == 2:
                    return 0, b""
        return 0, b""


class Day:
    """The calls of a working day, in their usual shares."""

    def __init__(self, client: Client, seen: Seen) -> None:
        self._client = client
        self._seen = seen
        self._random = random.Random(1)
        self._ids: dict[str, list[int]] = {}
        self._logged = 0

    def prepare(self) -> None:
        """Look up which records there are."""
        for kind in ("leads", "deals"):
            _, body = self._client.send("GET", f"/api/v1/{kind}?limit=200")
            self._ids[kind] = [item["id"] for item in json.loads(body)["items"]]

    def one(self) -> None:
        """Make one request, drawn by its share."""
        kind = self._random.choice(("leads", "deals"))
        record = self._random.choice(self._ids[kind])
        calls: list[tuple[int, str, Callable[[], object]]] = [
            (30, "read", lambda: self._call("read", "GET", f"/api/v1/{kind}/{record}")),
            (20, "list", lambda: self._call("list", "GET", f"/api/v1/{kind}?limit=50")),
            (20, "log", lambda: self._log(kind, record)),
            (10, "score", lambda: self._call("score", "POST", f"/api/v1/{kind}/{record}/score")),
            (5, "create", self._create),
            (10, "history", lambda: self._call("history", "GET", f"/api/v1/{kind}/{record}/predictions")),
            (4, "search", lambda: self._call("search", "GET", "/api/v1/search?q=Li")),
            (1, "ready", lambda: self._call("ready", "GET", "/readyz")),
        ]
        (chosen,) = self._random.choices([call for _, _, call in calls], [share for share, _, _ in calls])
        chosen()

    def _call(self, name: str, method: str, path: str, body: object = None) -> bytes:
        began = time.perf_counter()
        status, answer = self._client.send(method, path, body)
        self._seen.note(name, status, time.perf_counter() - began)
        return answer

    def _create(self) -> None:
        self._call("create", "POST", "/api/v1/leads", {"name": "Wang Fang", "source": "web_form"})

    def _log(self, kind: str, record: int) -> None:
        self._logged += 1
        before = self._scored_at(kind, record) if self._logged % FOLLOWED_EVERY == 0 else None
        body = {"kind": "call", "direction": "outbound", "duration_seconds": 60}
        self._call("log", "POST", f"/api/v1/{kind}/{record}/activities", body)
        if self._logged % FOLLOWED_EVERY == 0:
            self._follow(kind, record, before, time.perf_counter())

    def _scored_at(self, kind: str, record: int) -> str | None:
        status, body = self._client.send("GET", f"/api/v1/{kind}/{record}")
        prediction = json.loads(body).get("prediction") if status == 200 else None
        return prediction["scored_at"] if prediction else None

    def _follow(self, kind: str, record: int, before: str | None, began: float) -> None:
        while time.perf_counter() - began < 30:
            if self._scored_at(kind, record) != before:
                self._seen.fresh_after.append(time.perf_counter() - began)
                return
            time.sleep(0.02)
        self._seen.fail(f"{kind} {record} was not scored within 30 s")


def run_command(home: Path, *words: str) -> tuple[int, str]:
    """Run one of our commands beside the service."""
    done = subprocess.run(
        [*COMMAND, *words, "--home", str(home)], capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


def go_on_beside(home: Path, minutes: float, seen: Seen, stop: threading.Event) -> None:
    """Train, score everything, back up and promote, spread over the time."""
    began = time.perf_counter()
    first = run_command(home, "models", "list", "lead_scoring", "--json")[1]
    versions = [version["version"] for version in json.loads(first[first.index("{") :])["versions"]][:1]
    plan: list[tuple[float, tuple[str, ...]]] = [
        (0.10, ("train", "lead_scoring")),
        (0.35, ("score", "all")),
        (0.45, ("backup", "--to", str(home.parent))),
        *((0.5 + 0.045 * number, ("promote",)) for number in range(10)),
    ]
    for at, words in plan:
        if stop.wait(max(0.0, began + at * minutes * 60 - time.perf_counter())):
            return
        started = time.perf_counter()
        if words == ("promote",):
            told = run_command(home, "models", "list", "lead_scoring", "--json")[1]
            found = [each["version"] for each in json.loads(told[told.index("{") :])["versions"]]
            versions.append(next((each for each in found if each != versions[-1]), versions[-1]))
            words = ("models", "promote", versions[-1], "--overrule", "--reason", "soak")  # noqa: PLW2901  its words are known now
        code, told = run_command(home, *words)
        seen.events.append(
            {
                "command": " ".join(words[:3]),
                "exit": code,
                "began": round(started - seen.began),
                "seconds": round(time.perf_counter() - started, 1),
            }
        )
        if code:
            seen.fail(f"{' '.join(words)}: {told[-300:]}")


def sample_memory(process: psutil.Process, seen: Seen, stop: threading.Event) -> None:
    """Note how much memory the service holds, again and again."""
    began = time.perf_counter()
    while not stop.wait(SAMPLE_SECONDS):
        with suppress(psutil.Error):
            seen.memory.append((time.perf_counter() - began, process.memory_info().rss / 1e6))


def send_at_rate(day: Day, rate: float, seconds: float) -> None:
    """Begin requests at instants of a Poisson process, whether or not those before have been answered."""
    drawn = random.Random(2)
    with ThreadPoolExecutor(CLIENTS) as pool:
        due = time.perf_counter()
        until = due + seconds
        while due < until:
            due += drawn.expovariate(rate)
            time.sleep(max(0.0, due - time.perf_counter()))
            pool.submit(day.one)


def soak(home: Path, *, minutes: float, rate: float) -> dict[str, Any]:
    """Serve `home` under load; return what was seen."""
    key = json.loads(run_command(home, "token", _admin_of(home), "--json")[1])["token"]
    seen, stop = Seen(), threading.Event()
    with subprocess.Popen(
        [*COMMAND, "serve", "--port", "0", "--home", str(home)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        found = re.search(r"http://\S+", process.stdout.readline())
        assert found is not None
        day = Day(Client(found[0], key), seen)
        day.prepare()
        threads = [
            threading.Thread(target=sample_memory, args=(psutil.Process(process.pid), seen, stop)),
            threading.Thread(target=go_on_beside, args=(home, minutes, seen, stop)),
        ]
        for thread in threads:
            thread.start()
        send_at_rate(day, rate, minutes * 60)
        stop.set()
        for thread in threads:
            thread.join()
        process.terminate()
        stopped = process.wait(30)
    return summary(seen, minutes) | {"exit": stopped}


def _admin_of(home: Path) -> str:
    from sqlalchemy import select

    from crm_core.records import Role, User
    from crm_core.store import Store

    store = Store(f"sqlite:///{home / 'crm.db'}")
    with store.reading() as session:
        found = session.scalars(select(User.email).where(User.role == Role.ADMIN)).first()
    store.close()
    assert found is not None
    return found


def summary(seen: Seen, minutes: float) -> dict[str, Any]:
    """Return the figures that count."""
    warm = [size for at, size in seen.memory if at >= min(WARM_UP_SECONDS, minutes * 15)]
    tenth = max(1, len(warm) // 10)
    answers = sum(seen.statuses.values())
    return {
        "minutes": minutes,
        "requests": answers,
        "requests_a_second": round(answers / minutes / 60, 1),
        "statuses": dict(seen.statuses),
        "milliseconds": {call: _spread(times) for call, times in sorted(seen.seconds.items())},
        "fresh_after_milliseconds": _spread(seen.fresh_after),
        "memory_mb": {"first_tenth": median(warm[:tenth]), "last_tenth": median(warm[-tenth:])}
        if warm
        else {},
        "memory_grew": round(median(warm[-tenth:]) / median(warm[:tenth]) - 1, 4) if warm else None,
        "events": seen.events,
        "failed": len(seen.failures),
        "failures": seen.failures[:20],
    }


def _spread(times: Sequence[float]) -> dict[str, float] | None:
    if not times:
        return None
    ordered = sorted(times)
    at = {"median": 0.5, "p99": 0.99, "max": 1.0}
    return {
        "count": len(ordered),
        **{
            name: round(ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000, 1)
            for name, share in at.items()
        },
    }


def main() -> int:
    """Run it and print what was seen; 0 if nothing failed."""
    parser = argparse.ArgumentParser(description="A working day against a real process.")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--rate", type=float, default=100, help="requests a second")
    parser.add_argument("--home", type=Path, help="made by `crm demo --no-serve`; it is copied")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        home = Path(folder) / "home"
        if given.home is None:
            code, told = run_command(home, "demo", "--no-serve")
            if code:
                sys.exit(told)
        else:
            shutil.copytree(given.home, home)
            run_command(home, "init")  # brings an older one up to date
        seen = soak(home, minutes=given.minutes, rate=given.rate)
    print(json.dumps(seen, indent=1))
    return 1 if seen["failures"] else 0


if __name__ == "__main__":
    sys.exit(main())
