"""Whether people are waiting for answers of this process."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


class Traffic:
    """Counts the requests that come to an application and those that are under way."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._under_way = 0
        self._came = False

    def watching(self, app: WSGIApplication) -> WSGIApplication:
        """Return the application, watched."""

        def watched(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
            with self._lock:
                self._under_way += 1
                self._came = True
            try:
                return app(environ, start_response)
            finally:
                with self._lock:
                    self._under_way -= 1

        return watched

    def is_busy(self) -> bool:
        """Tell whether a request is under way."""
        return self._under_way > 0

    def was_busy(self) -> bool:
        """Tell whether a request is under way, or one came since this was last asked."""
        with self._lock:
            busy, self._came = self._came or self._under_way > 0, False
            return busy
