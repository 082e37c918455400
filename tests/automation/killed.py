"""Processes that have rules act until they are killed: run by test_killed, never by a person.

Reads one JSON object a line: the URL of a store and at which boundaries of a statement to kill, one for each
process; answers each with whether they were killed, once all have ended. They are forked from this one, so
that each costs little, and run at the same time.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from crm_core.automation import following
from crm_core.automation.following import Follower
from crm_core.store import Store
from tests.serving.crash import kill_at


def act(job: dict[str, Any], boundary: int | None) -> None:
    """Have rules act until nothing is left to do, unless killed."""
    following.LOOKED_EVERY = timedelta(0)  # type: ignore[misc]  # what time brings is looked for at once
    store = Store(job["url"])
    follower = Follower(store, at_once=job["at_once"], most_runs=job["most_runs"])
    kill_at(store, boundary)
    follower.run_until_done()


def fork(job: dict[str, Any], boundary: int | None) -> Callable[[], bool]:
    """Act in a process of its own; return what waits for its end and tells whether it was killed."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            act(job, boundary)
            status = 0
        finally:
            os._exit(status)

    def wait() -> bool:
        _, status = os.waitpid(pid, 0)
        if os.WIFEXITED(status) and os.WEXITSTATUS(status):
            raise RuntimeError("a process failed by itself")
        return os.WIFSIGNALED(status)

    return wait


def main() -> int:
    """Do one job after another until there are no more."""
    for line in sys.stdin:
        job = json.loads(line)
        waiting = [fork(job, boundary) for boundary in job["boundaries"]]
        sys.stdout.write(json.dumps([wait() for wait in waiting]) + "\n")
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
