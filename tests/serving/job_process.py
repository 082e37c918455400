"""A runner that is killed now and then: run by test_jobs, never by a person.

python -m tests.serving.job_process DATABASE NAME SEED

Its handler writes down the effect in a file of its own, fails at random, and dies at random.
"""

from __future__ import annotations

import os
import random
import signal
import sys
from datetime import timedelta
from pathlib import Path

from crm_core.errors import JobError
from crm_core.jobs import Job, JobState, measure_queue
from crm_core.store import Store
from serving.jobs import Backoff, JobRunner

LEASE = timedelta(seconds=1)
QUICK = Backoff(first=timedelta(milliseconds=5), longest=timedelta(milliseconds=50), attempts=60)


class Unreliable:
    """Does jobs badly."""

    def __init__(self, effects: Path, chance: random.Random) -> None:
        self._file = effects.open("a", encoding="utf-8")
        self._chance = chance

    def __call__(self, _store: Store, job: Job) -> None:
        """Fail before the effect, or after it, or not at all."""
        self._maybe_fail()
        self._file.write(f"{job.payload['number']}\n")
        self._file.flush()
        self._maybe_fail()

    def die(self, _checkpoint: str) -> None:
        """Die without a word, once in a while."""
        if self._chance.random() < 0.002:
            os.kill(os.getpid(), signal.SIGKILL)

    def _maybe_fail(self) -> None:
        if self._chance.random() < 0.1:
            raise JobError("on purpose")


def main() -> int:
    """Work until nothing is left."""
    database, effects, seed = sys.argv[1:]
    store = Store(database)
    bad = Unreliable(Path(effects), random.Random(seed))
    runner = JobRunner(
        store,
        {"unreliable": bad},
        schedules={"unreliable": QUICK},
        name=effects,
        lease=LEASE,
        at_once=20,
        checkpoint=bad.die,
    )
    while True:
        runner.run_once()
        with store.reading() as session:
            left = [depth for depth in measure_queue(session) if depth.state != JobState.DEAD]
        if not left:
            return 0


if __name__ == "__main__":
    sys.exit(main())
