"""What every answer carries, whatever it is the answer to, and whose word about addresses is taken."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from waitress.server import BaseWSGIServer

from crm_core.store import Store
from serving.app import HEADERS, create_app
from serving.champions import Champions
from serving.server import _listen
from serving.settings import Settings
from tests.serving.conftest import Cast
from tests.serving.http import Http

EVERYWHERE = ["/login", "/leads", "/nothing", "/api/v1/leads", "/api/v1/nothing", "/api/docs", "/healthz"]


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
@pytest.mark.parametrize("path", EVERYWHERE)
def test_every_answer_carries_them_and_is_not_kept(app: Flask, path: str, method: str) -> None:
    answer = app.test_client().open(path, method=method)
    assert {name: answer.headers[name] for name in HEADERS} == HEADERS
    assert answer.headers["Cache-Control"] == "no-store"
    assert "Strict-Transport-Security" not in answer.headers
    assert "Server" not in answer.headers


def test_an_error_of_ours_carries_them_too(app: Flask, monkeypatch: pytest.MonkeyPatch, cast: Cast) -> None:
    monkeypatch.setitem(app.view_functions, "leads.get_lead", lambda **_: 1 / 0)
    answer = app.test_client().get("/api/v1/leads/1", headers=cast.header("Ana"))
    assert answer.status_code == 500
    assert {name: answer.headers[name] for name in HEADERS} == HEADERS


def test_over_https_browsers_are_told_to_stay_there(
    home: Path, store: Store, champions: Champions, cast: Cast
) -> None:
    client = create_app(Settings(home=home, https=True), store, champions).test_client()
    for path in EVERYWHERE:
        answer = client.get(path, base_url="https://crm.example")
        assert answer.headers["Strict-Transport-Security"] == "max-age=31536000", path


@contextmanager
def listening(app: Flask, settings: Settings) -> Iterator[str]:
    """Serve for real, with what decides whose headers are believed."""
    sockets: dict[int, Any] = {}
    server = _listen(app, settings, sockets)
    port = next(each.effective_port for each in sockets.values() if isinstance(each, BaseWSGIServer))
    stopping = threading.Event()

    def serve() -> None:
        while not stopping.is_set():
            server.asyncore.loop(timeout=0.02, map=sockets, count=1)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        stopping.set()
        thread.join()
        server.task_dispatcher.shutdown()  # closing a server leaves its workers and its connections
        server.close()
        server.asyncore.close_all(sockets)


@pytest.mark.parametrize(("proxy", "second"), [(None, 429), ("192.0.2.1", 429), ("127.0.0.1", 401)])
def test_where_a_request_comes_from_is_believed_of_the_trusted_proxy_only(
    home: Path, store: Store, champions: Champions, proxy: str | None, second: int
) -> None:
    settings = Settings(home=home, port=0, threads=1, anonymous_rate=1, trusted_proxy=proxy)
    with listening(create_app(settings, store, champions), settings) as address:
        answers = [
            Http(address, headers={"X-Forwarded-For": f"198.51.100.{number}"}).get("/api/v1/leads")
            for number in (1, 2)
        ]
    assert [answer.status for answer in answers] == [401, second]
