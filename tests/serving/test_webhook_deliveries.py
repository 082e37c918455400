"""Deliveries are signed, and tried until they are taken or given up."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import select
from standardwebhooks.webhooks import Webhook

from crm_core.clock import FixedClock
from crm_core.jobs import JobState, list_jobs
from crm_core.store import Store
from crm_core.webhook_events import EventFollower
from crm_core.webhooks import WEBHOOK, WebhookEndpoint, get_endpoint
from serving.job_handlers import SCHEDULES
from serving.jobs import JobRunner
from serving.outbound import OutboundClient
from serving.settings import Settings
from serving.webhooks import Deliverer, read_retry_after
from tests.serving.conftest import Cast
from tests.serving.hooked import *  # noqa: F403  the fixtures, and what was told
from tests.serving.hooked import API, created, deliveries
from tests.serving.listening import Listener


def test_a_delivery_is_tried_by_the_schedule_with_the_same_id_and_body(
    store: Store,
    make: Callable[..., dict[str, Any]],
    clock: FixedClock,
    listener: Listener,
    run: Callable[[], None],
) -> None:
    make("lead.created")
    created(store)
    listener.status = 500
    run()
    pauses = []
    while deliveries(store)[0].state == JobState.WAITING:
        pauses.append((deliveries(store)[0].run_at - clock.now()).total_seconds())
        clock.set(deliveries(store)[0].run_at)
        run()
    minutes = [1 / 12, 5, 30, 120, 300, 600, 840, 1200, 1440]
    assert len(pauses) == len(minutes)
    assert all(0.8 * m * 60 <= pause <= 1.2 * m * 60 for m, pause in zip(minutes, pauses, strict=True))
    assert {(each.headers["webhook-id"], each.body) for each in listener.received} == {
        (listener.received[0].headers["webhook-id"], listener.received[0].body)
    }
    assert len({each.headers["webhook-timestamp"] for each in listener.received}) == 10
    (job,) = deliveries(store)
    assert (job.state, job.attempts, job.last_error) == ("dead", 10, "JobError: answered 500")


def test_a_receiver_that_recovers_gets_what_it_missed(
    store: Store,
    make: Callable[..., dict[str, Any]],
    clock: FixedClock,
    listener: Listener,
    run: Callable[[], None],
) -> None:
    webhook = make("lead.created")
    created(store)
    listener.status = 503
    run()
    with store.reading() as session:
        assert get_endpoint(session, webhook["id"]).failing_since == clock.now()
    listener.status = 204
    clock.advance(timedelta(seconds=10))
    run()
    with store.reading() as session:
        assert get_endpoint(session, webhook["id"]).failing_since is None
    assert deliveries(store)[0].state == "done"
    body = Webhook(webhook["secret"]).verify(listener.received[1].body, listener.received[1].headers)
    assert body["type"] == "lead.created"


@pytest.mark.parametrize("status", [300, 301, 302, 307, 308, 400, 401, 404, 429, 500, 503])
def test_only_2xx_is_a_success_and_nothing_is_followed(
    store: Store,
    make: Callable[..., dict[str, Any]],
    listener: Listener,
    run: Callable[[], None],
    status: int,
) -> None:
    make("lead.created")
    created(store)
    listener.status, listener.headers = status, {"Location": listener.url + "/elsewhere"}
    run()
    assert (len(listener.received), deliveries(store)[0].state) == (1, "waiting")


def test_a_receiver_may_ask_to_be_left_alone(
    store: Store,
    make: Callable[..., dict[str, Any]],
    clock: FixedClock,
    listener: Listener,
    run: Callable[[], None],
) -> None:
    make("lead.created")
    created(store)
    listener.status, listener.headers = 429, {"Retry-After": "3600"}
    run()
    assert deliveries(store)[0].run_at == clock.now() + timedelta(hours=1)


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        (None, None),
        ("60", 60),
        ("99999999999999", 86_400),
        ("-5", None),
        ("soon", None),
        ("Mon, 01 Jan 1990 00:00:00 GMT", 0),
        ("Mon, 01 Jan 2525 00:00:00 GMT", 86_400),
        ("Mon, 01 Jan 2525 00:00:00", None),
        ("٦٠", None),
    ],
)
def test_what_an_answer_asks_for_is_believed_within_reason(
    clock: FixedClock, said: str | None, seconds: int | None
) -> None:
    found = read_retry_after(said, clock.now())
    assert found == (None if seconds is None else timedelta(seconds=seconds))


def test_a_receiver_that_takes_too_long_is_tried_again(
    store: Store, settings: Settings, make: Callable[..., dict[str, Any]], listener: Listener
) -> None:
    make("lead.created")
    created(store)
    EventFollower(store).run_once()
    listener.status, listener.body, listener.drip_seconds = 200, b"x" * 1000, 0.02
    JobRunner(store, {WEBHOOK: Deliverer(settings, timeout_seconds=0.2)}).run_once()
    (job,) = deliveries(store)
    assert (job.state, "in time" in (job.last_error or "")) == ("waiting", True)


def test_an_endless_answer_of_success_is_a_success_and_is_not_read_to_its_end(
    store: Store, make: Callable[..., dict[str, Any]], listener: Listener, run: Callable[[], None]
) -> None:
    make("lead.created")
    created(store)
    listener.status, listener.body = 200, b"x" * 10_000_000
    run()
    assert deliveries(store)[0].state == "done"


def test_410_turns_the_webhook_off(
    store: Store,
    client: FlaskClient,
    cast: Cast,
    make: Callable[..., dict[str, Any]],
    listener: Listener,
    run: Callable[[], None],
) -> None:
    webhook = make("lead.created")
    created(store)
    listener.status = 410
    run()
    shown = client.get(f"{API}/{webhook['id']}", headers=cast.header("Adam")).get_json()
    assert (shown["active"], "410" in shown["disabled_reason"]) == (False, True)
    created(store)
    run()
    assert len(listener.received) == 1
    parts = {part["name"]: part for part in client.get("/readyz").get_json()["parts"]}
    assert parts["webhooks"]["ok"] is False


def test_a_webhook_that_took_nothing_for_days_is_turned_off_and_its_owner_told(
    store: Store,
    settings: Settings,
    make: Callable[..., dict[str, Any]],
    clock: FixedClock,
    listener: Listener,
) -> None:
    webhook = make("lead.created")
    mailing = settings.model_copy(update={"smtp_host": "mail.example", "mail_from": "crm@example.com"})
    runner = JobRunner(store, {WEBHOOK: Deliverer(mailing)}, schedules=SCHEDULES, at_once=10)
    listener.status = 500
    for _ in range(7):
        created(store)
        EventFollower(store).run_once()
        runner.run_once()
        clock.advance(timedelta(days=1))
    with store.reading() as session:
        endpoint = get_endpoint(session, webhook["id"])
        (mail,) = list_jobs(session, kind="mail")
    assert (endpoint.active, "5 days" in (endpoint.disabled_reason or "")) == (False, True)
    assert (mail.payload["to"], "Warehouse" in mail.payload["subject"]) == ("adam@example.com", True)


def test_an_address_that_leads_to_us_by_now_is_not_sent_to(
    store: Store, settings: Settings, make: Callable[..., dict[str, Any]], listener: Listener
) -> None:
    make("lead.created")
    created(store)
    EventFollower(store).run_once()
    client = OutboundClient(allow_http=True)
    JobRunner(store, {WEBHOOK: Deliverer(settings, client=client)}).run_once()
    assert listener.received == []
    assert "not public" in (deliveries(store)[0].last_error or "")


# ---------------------------------------------------------------------------------- secrets


def test_for_a_day_both_secrets_fit_and_then_only_the_new_one(
    store: Store,
    client: FlaskClient,
    cast: Cast,
    make: Callable[..., dict[str, Any]],
    clock: FixedClock,
    listener: Listener,
    run: Callable[[], None],
) -> None:
    webhook = make("lead.created")
    rotated = client.post(f"{API}/{webhook['id']}/rotate-secret", headers=cast.header("Adam")).get_json()
    old, new = Webhook(webhook["secret"]), Webhook(rotated["secret"])
    created(store)
    run()
    (first,) = listener.received
    assert old.verify(first.body, first.headers) == new.verify(first.body, first.headers)
    assert len(first.headers["webhook-signature"].split()) == 2
    clock.advance(timedelta(hours=25))
    created(store)
    run()
    second = listener.received[-1]
    assert len(second.headers["webhook-signature"].split()) == 1
    headers = {**second.headers, "webhook-timestamp": second.headers["webhook-timestamp"]}
    signed = new.sign(headers["webhook-id"], clock.now(), second.body.decode())
    assert headers["webhook-signature"] == signed


def test_a_secret_is_neither_in_the_database_nor_told_again(
    store: Store, client: FlaskClient, cast: Cast, make: Callable[..., dict[str, Any]]
) -> None:
    webhook = make()
    assert webhook["secret"].startswith("whsec_")
    with store.reading() as session:
        row = session.scalars(select(WebhookEndpoint)).one()
        held = [str(getattr(row, column.key)) for column in WebhookEndpoint.__table__.columns]
    assert not any(webhook["secret"].removeprefix("whsec_") in value for value in held)
    for path in (API, f"{API}/{webhook['id']}"):
        assert "secret" not in client.get(path, headers=cast.header("Adam")).get_data(as_text=True)


def test_with_another_installations_secrets_nothing_is_sent_that_would_not_fit(
    store: Store, home: Any, make: Callable[..., dict[str, Any]], listener: Listener, run: Callable[[], None]
) -> None:
    make("lead.created")
    created(store)
    EventFollower(store).run_once()
    (home / "secrets.json").write_text(json.dumps({"session": "another"}))
    settings = Settings(home=home, webhook_allow_http=True, webhook_allow_networks="127.0.0.0/8")
    JobRunner(store, {WEBHOOK: Deliverer(settings)}).run_once()
    assert listener.received == []
    assert "secrets.json" in (deliveries(store)[0].last_error or "")
