"""A real browser on a real server, for tests and for screenshots."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from waitress.server import create_server

CHROMIUM = ("/usr/bin/chromium", "/usr/bin/chromium-browser")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def chromium() -> str:
    """Return the system's Chromium; the test is skipped where there is none, unless CI asked for it."""
    found = next((path for path in CHROMIUM if Path(path).exists()), None)
    if found is not None:
        return found
    if os.environ.get("CI") == "true":
        pytest.fail(f"Chromium is in none of {', '.join(CHROMIUM)}")
    pytest.skip(f"Chromium is in none of {', '.join(CHROMIUM)}: the pages are not tried in a browser")


@contextmanager
def serving(app: Flask) -> Iterator[str]:
    """Serve `app` on a free port with the real server; give its address."""
    server = create_server(app, host="127.0.0.1", port=0, threads=4)

    def run() -> None:
        with suppress(OSError):  # it may be looking at a socket just when that is closed
            server.run()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.effective_port}"
    finally:
        server.close()
        thread.join(5)


@dataclass
class Watched:
    """What must not happen while pages are open: errors on the console, requests off the machine."""

    errors: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)

    def watch(self, page: Any, address: str) -> None:
        page.on("console", self._on_console)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", lambda sent: self._on_request(sent.url, address))

    def _on_console(self, message: Any) -> None:
        if message.type == "error":
            self.errors.append(message.text)

    def _on_request(self, url: str, address: str) -> None:
        if not url.startswith((address, "data:")):
            self.foreign.append(url)
