"""Re-scoring processes that are killed at a given statement: run by test_crash, never by a person.

Reads one JSON object a line: the URL of a store, the instant it is, and at which boundaries of a statement to
kill, one for each process; answers each with how the processes ended. They are forked from this one, so that
each costs little, and run at the same time.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import event, func, select

from crm_core.clock import Clock, FixedClock, SystemClock
from crm_core.predictions import NewPrediction
from crm_core.records import Activity
from crm_core.store import Store
from serving.champions import Champions
from serving.rescoring import Rescorer
from tests.serving.hand_made import HandMadeModel, prediction

RECORDS_AT_ONCE = 2
EVERY_BOUNDARY = "EVERY_BOUNDARY" in os.environ
"""Whether to try all there is instead of what fits into the time of a test run."""


@dataclass
class CountingModel(HandMadeModel):
    """A model that says how many activities it knows of, so that a stale answer shows."""

    def score(self, store: Store, ids: Sequence[int], as_of: datetime) -> list[NewPrediction]:
        known = select(Activity.lead_id, func.count()).where(
            Activity.lead_id.in_(ids), Activity.recorded_at <= as_of
        )
        with store.reading() as session:
            counts = {row[0]: row[1] for row in session.execute(known.group_by(Activity.lead_id))}
        return [prediction(record_id, said_of(counts.get(record_id, 0))) for record_id in ids]


def said_of(count: int) -> float:
    """What the model says of a lead with so many activities."""
    return (count + 1) / (count + 100)


def counting(store: Store) -> Rescorer:
    """Return a rescorer with such a model for every promotion."""
    champions = Champions(store, lambda task, promotion: CountingModel(model_version=promotion.model_version))
    return Rescorer(store, champions, records_at_once=RECORDS_AT_ONCE, swept_at_once=RECORDS_AT_ONCE)


def killer(checkpoint: str, occurrence: int) -> Callable[[str], None]:
    """Return what kills this process when `checkpoint` is passed for the given time."""
    passed = 0

    def at(name: str) -> None:
        nonlocal passed
        passed += name == checkpoint
        if passed == occurrence and name == checkpoint:
            os.kill(os.getpid(), signal.SIGKILL)

    return at


def kill_at(store: Store, boundary: int | None) -> Callable[[], int]:
    """Kill this process before or after a statement, or before a commit; count the boundaries passed."""
    passed = 0

    def boundary_reached(*_: Any) -> None:
        nonlocal passed
        passed += 1
        if passed == boundary:
            os.kill(os.getpid(), signal.SIGKILL)

    for name in ("before_cursor_execute", "after_cursor_execute", "commit"):
        event.listen(store.engine, name, boundary_reached)
    return lambda: passed


def run_until_killed(job: dict[str, Any], boundary: int | None, answer: int) -> None:
    """Score all there is to score, unless killed; say how many boundaries were passed."""
    clock: Clock = FixedClock(datetime.fromisoformat(job["now"])) if job["now"] else SystemClock()
    store = Store(job["url"], clock=clock)
    rescorer = counting(store)
    passed = kill_at(store, boundary)
    rescorer.beat()
    while rescorer.run_once():
        pass
    os.write(answer, str(passed()).encode())


def fork(job: dict[str, Any], boundary: int | None) -> Callable[[], dict[str, Any]]:
    """Run a job in a process of its own; return what waits for its end and tells how it ended."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # logs
        try:
            run_until_killed(job, boundary, writing)
            status = 0
        finally:
            os._exit(status)
    os.close(writing)

    def wait() -> dict[str, Any]:
        said = os.read(reading, 100)
        os.close(reading)
        _, status = os.waitpid(pid, 0)
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        return {"killed": killed, "status": status, "passed": int(said) if said else None}

    return wait


def main() -> int:
    """Do one job after another until there are no more."""
    for line in sys.stdin:
        job = json.loads(line)
        running = [fork(job, boundary) for boundary in job["boundaries"]]
        sys.stdout.write(json.dumps([wait() for wait in running]) + "\n")
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
