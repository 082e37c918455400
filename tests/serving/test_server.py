"""The serving process: it comes up, keeps scores fresh, logs without personal data, and stops gently."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from click.testing import CliRunner
from sqlalchemy import select

from crm_core.records import Activity
from crm_core.store import Store
from serving.cli import main
from tests.serving.http import Http

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-c", "from serving.cli import main; main()"]


class Served:
    """A running `crm serve`."""

    def __init__(self, home: Path, key: str) -> None:
        self.key = key
        command = [*COMMAND, "serve", "--port", "0"]
        self.process = subprocess.Popen(
            [*command, "--home", str(home)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+", line)
        assert found is not None, line
        self.address = found[0]

    def ask(self, path: str, body: dict[str, Any] | None = None) -> Any:
        http = Http(self.address, self.key)
        answer = http.get(path) if body is None else http.post(path, body)
        assert answer.status < 300, answer.text
        return answer.json

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        self.process.communicate(timeout=20)
        return self.process.returncode


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    runner = CliRunner()
    runner.invoke(main, ["init", "--home", str(tmp_path)])
    key = runner.invoke(main, ["token", "admin@example.com", "--home", str(tmp_path)]).stdout.strip()
    running = Served(tmp_path, key)
    yield running
    running.process.kill()
    running.process.communicate()


def test_it_serves_logs_and_stops(served: Served, tmp_path: Path) -> None:
    lead = served.ask("/api/v1/leads", {"name": "Wang Fang", "email": "wang.fang@example.com"})
    served.ask(f"/api/v1/leads/{lead['id']}/activities", {"kind": "call", "subject": "A private matter"})
    served.ask("/api/v1/leads?search=wang.fang")
    parts = {part["name"] for part in served.ask("/readyz")["parts"]}
    assert {"store", "rescoring", "records", "mail", "jobs"} <= parts
    assert served.stop() == 0
    log = (tmp_path / "logs" / "crm.log").read_text()
    lines = [json.loads(line) for line in log.splitlines()]
    assert {"serving", "request", "stopped"} <= {line["event"] for line in lines}
    assert [line["rule"] for line in lines if line["event"] == "request"][
        1
    ] == "/api/v1/leads/<int:id>/activities"
    assert all(line["request_id"] for line in lines if line["event"] == "request")
    for private in ("Wang", "wang.fang", "private matter", served.key, "crm_"):
        assert private not in log


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_whatever_was_written_was_answered_and_no_kept_connection_lost_a_request_when_it_stopped(
    served: Served, tmp_path: Path, number: int
) -> None:
    lead = served.ask("/api/v1/leads", {"name": "Wang Fang"})
    netloc, lost, closed = urlsplit(served.address).netloc, [], []
    answered: list[int] = []

    def keep_logging() -> None:
        with contextlib.suppress(OSError, HTTPException):  # nobody takes the next request
            while True:
                answered.append(served.ask(f"/api/v1/leads/{lead['id']}/activities", {"kind": "call"})["id"])

    def keep_asking() -> None:
        connection = HTTPConnection(netloc, timeout=20)
        while True:
            try:
                connection.request("GET", "/healthz")
                answer = connection.getresponse()
                answer.read()
            except (OSError, HTTPException) as error:
                lost.append(error)
                return
            if answer.getheader("Connection") == "close":
                closed.append(answer.status)
                return

    threads = [threading.Thread(target=each) for each in (keep_logging, keep_asking) for _ in range(4)]
    for thread in threads:
        thread.start()
    while len(answered) < 20:
        time.sleep(0.01)
    assert served.stop(number) == 0
    for thread in threads:
        thread.join(20)
    assert (lost, closed) == ([], [200] * 4)
    store = Store(f"sqlite:///{tmp_path / 'crm.db'}")
    with store.reading() as session:
        assert sorted(session.scalars(select(Activity.id))) == sorted(answered)
    store.close()


def test_a_port_that_is_taken_is_refused_in_one_line(tmp_path: Path) -> None:
    CliRunner().invoke(main, ["init", "--home", str(tmp_path)])
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        command = [*COMMAND, "serve", "--port", port, "--home", str(tmp_path)]
        refused = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert refused.returncode == 1
    assert "Address already in use" in refused.stderr
    assert refused.stderr.count("\n") == 1
