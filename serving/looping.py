"""A thread that does one thing again and again until it is told to stop."""

from __future__ import annotations

import threading
from collections.abc import Callable

from serving.logs import get_log

LONGEST_PAUSE_SECONDS = 30.0

_log = get_log("serving.looping")


class Loop(threading.Thread):
    """Calls `run_once` while that finds something to do, then waits; `wake` makes it look at once."""

    def __init__(self, name: str, run_once: Callable[[], int], *, poll_seconds: float = 1.0) -> None:
        super().__init__(name=name, daemon=True)
        self.poll_seconds = poll_seconds
        self.last_error: str | None = None
        self._run_once = run_once
        self._wake = threading.Event()
        self._stopping = threading.Event()

    def run(self) -> None:
        """Work while there is work, then wait; after an error wait longer each time."""
        failed = 0
        while not self._stopping.is_set():
            try:
                done = self._run_once()
            except Exception as error:  # noqa: BLE001  the edge of the thread: it must not die of one bad day
                failed += 1
                self.last_error = type(error).__name__
                _log.error("failed", loop=self.name, error=self.last_error, failed=failed, exc_info=error)
                self._stopping.wait(min(self.poll_seconds * 2 ** min(failed, 10), LONGEST_PAUSE_SECONDS))
                continue
            failed, self.last_error = 0, None
            if not done:
                self._wake.wait(self.poll_seconds)
                self._wake.clear()

    def wake(self) -> None:
        """Look for work now."""
        self._wake.set()

    def ask_to_stop(self) -> None:
        """Begin to end: the step at hand is finished."""
        self._stopping.set()
        self._wake.set()

    def stop(self, timeout: float = 10.0) -> None:
        """Finish the step at hand and end."""
        self.ask_to_stop()
        self.join(timeout)
