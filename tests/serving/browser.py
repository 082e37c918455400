"""A real browser on a real server, for tests and for screenshots."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from playwright.sync_api import Browser, sync_playwright
from waitress.server import create_server
from waitress.wasyncore import close_all

CHROMIUM = ("/usr/bin/chromium", "/usr/bin/chromium-browser")
WITHOUT = (
    # What waits behind the address bar of every window: making it takes longer than opening a page of ours.
    *("WebUIOmniboxPopup", "WebUIOmniboxAimPopup", "WebUIOmniboxFullPopup"),
    # What Playwright leaves out; a list of one's own takes the place of its list.
    *("AvoidUnnecessaryBeforeUnloadCheckSync", "DestroyProfileOnBrowserClose", "PaintHolding"),
    *("HttpsUpgrades", "HttpsFirstBalancedModeAutoEnable", "ThirdPartyStoragePartitioning"),
    *("AvoidCorsURLLoaderRestartOnRedirect", "LensOverlay", "MediaRouter", "OptimizationHints"),
    *("NetworkTimeServiceQuerying", "AimEnabled", "PreconnectToSearch"),
)
"""Parts of Chromium."""

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # nothing leaves the machine
    f"--disable-features={','.join(WITHOUT)}",
)

PATIENCE = 20_000
"""Milliseconds after which something did not happen: never waited for in full where all is well."""


def chromium() -> str:
    """Return the system's Chromium; the test is skipped where there is none, unless CI asked for it."""
    found = next((path for path in CHROMIUM if Path(path).exists()), None)
    if found is not None:
        return found
    if os.environ.get("CI") == "true":
        pytest.fail(f"Chromium is in none of {', '.join(CHROMIUM)}")
    pytest.skip(f"Chromium is in none of {', '.join(CHROMIUM)}: the pages are not tried in a browser")


@contextmanager
def launched() -> Iterator[Browser]:
    """Start Chromium: to be kept for as many tests as can be, each in a context of its own."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=list(FLAGS))
        yield browser
        browser.close()


@contextmanager
def serving(app: Flask) -> Iterator[str]:
    """Serve `app` on a free port with the real server; give its address."""
    server = create_server(app, host="127.0.0.1", port=0, threads=4)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.effective_port}"
    finally:
        server.task_dispatcher.shutdown()
        # Where it waits, with what a browser keeps open: it would go on for as long as there is any of it.
        server.trigger.pull_trigger(lambda: close_all(server._map, ignore_all=True))
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
