"""A service with webhooks that lead to a listener on this machine.

Import all of it: `from tests.serving.hooked import *`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from crm_core.clock import FixedClock, SystemClock
from crm_core.jobs import Job, list_jobs
from crm_core.store import Store
from crm_core.webhook_events import EventFollower
from crm_core.webhooks import WEBHOOK
from serving.app import create_app
from serving.job_handlers import FORGOTTEN, SCHEDULES, handlers
from serving.jobs import JobRunner
from serving.settings import Settings
from tests.factories import make_lead
from tests.serving.conftest import Cast
from tests.serving.listening import Listener, listening

__all__ = [
    "API",
    "app",
    "client",
    "clock",
    "created",
    "deliveries",
    "listener",
    "make",
    "run",
    "settings",
    "told",
    "types",
]

API = "/api/v1/webhooks"


@pytest.fixture
def clock() -> FixedClock:
    """The time of the machine, by which receivers check how old a message is."""
    return FixedClock(SystemClock().now())


@pytest.fixture
def listener() -> Iterator[Listener]:
    with listening() as made:
        yield made


@pytest.fixture
def settings(home: Any) -> Settings:
    return Settings(home=home, webhook_allow_http=True, webhook_allow_networks="127.0.0.0/8")


@pytest.fixture
def app(settings: Settings, store: Store) -> Flask:
    return create_app(settings, store)


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


@pytest.fixture
def make(client: FlaskClient, cast: Cast, listener: Listener) -> Callable[..., dict[str, Any]]:
    """Make a webhook that leads to the listener."""

    def make_webhook(*event_types: str, **given: Any) -> dict[str, Any]:
        body = {"name": "Warehouse", "url": listener.url, "event_types": event_types or ("*",), **given}
        made = client.post(API, json=body, headers=cast.header("Adam"))
        assert made.status_code == 201, made.get_json()
        return dict(made.get_json())

    return make_webhook


@pytest.fixture
def run(store: Store, settings: Settings) -> Callable[[], None]:
    """Find events and deliver what is due."""
    follower = EventFollower(store)
    runner = JobRunner(store, handlers(settings), schedules=SCHEDULES, forgotten=FORGOTTEN, at_once=20)

    def run_all() -> None:
        while follower.run_once():
            pass
        while runner.run_once():
            pass

    return run_all


def told(listener: Listener) -> list[tuple[str, dict[str, Any]]]:
    bodies = [json.loads(received.body) for received in listener.received]
    return [(body["type"], body["data"]) for body in bodies]


def types(listener: Listener) -> list[str]:
    return sorted(event_type for event_type, _ in told(listener))


def deliveries(store: Store) -> list[Job]:
    with store.reading() as session:
        return list(list_jobs(session, kind=WEBHOOK, limit=1000))


def created(store: Store) -> None:
    with store.transaction() as transaction:
        make_lead(transaction)
