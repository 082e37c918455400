"""Programs are told of alerts: once, of what their owners may see."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import select

from crm_core.access import FieldRight
from crm_core.clock import FixedClock
from crm_core.jobs import Job
from crm_core.records import User
from crm_core.store import Store
from crm_core.webhooks import EVENT, WEBHOOK, WebhookEndpoint, body_of
from serving.jobs import JobRunner
from serving.webhooks import spread
from tests.alerts.world import DAY, act, alerts, look, say


def listen(store: Store, owner: User) -> None:
    """Have a program of `owner` told of all alerts."""
    with store.transaction() as transaction:
        transaction.session.add(
            WebhookEndpoint(
                name="Pager",
                url="https://pager.example.com",
                event_types=["alert.*"],
                owner_id=owner.id,
                least_change=0.0,
                secret_salt="",
                secret_mark="",
                active=True,
                created_at=transaction.now,
                since_sequence=0,
                since_prediction=0,
                since_promotion=0,
            )
        )


def told(store: Store) -> list[dict[str, Any]]:
    runner = JobRunner(store, {EVENT: spread})
    while runner.run_once():
        pass
    with store.reading() as session:
        jobs = session.scalars(select(Job).where(Job.kind == WEBHOOK).order_by(Job.id))
        return [json.loads(body_of(job)) for job in jobs]


def test_what_is_raised_and_acknowledged_is_told_once(
    store: Store, people: dict[str, User], customer: int
) -> None:
    listen(store, people["Mara"])
    say(store, customer, 0.4)
    look(store, customer)
    look(store, customer)
    alert_id = alerts(store)[0].id
    for _ in range(2):
        act(store, people["Ana"], "acknowledge", alert_id)
    raised, acknowledged = told(store)
    assert (raised["type"], acknowledged["type"]) == ("alert.raised", "alert.acknowledged")
    expected = {
        "alert_id": alert_id,
        "kind": "churn_level",
        "record_type": "account",
        "record_id": customer,
        "values": {"probability": 0.4, "previous_probability": None},
        "reasons": [],
    }
    assert {name: raised["data"][name] for name in expected} == expected
    assert acknowledged["data"]["actor_id"] == people["Ana"].id


def test_who_does_not_see_the_record_or_its_scores_is_told_nothing(
    store: Store, people: dict[str, User], customer: int
) -> None:
    with store.transaction() as transaction:
        hidden = FieldRight(role="rep", record_type="account", field="probability", read=False, write=False)
        transaction.session.add(hidden)
    for name in ("Ana", "Otto"):
        listen(store, people[name])
    say(store, customer, 0.4)
    look(store, customer)
    assert told(store) == []


def test_acknowledging_again_after_opening_is_told_again(
    store: Store, clock: FixedClock, people: dict[str, User], alert: int
) -> None:
    listen(store, people["Mara"])
    act(store, people["Ana"], "acknowledge", alert)
    clock.advance(DAY)
    act(store, people["Ana"], "reopen", alert)
    act(store, people["Ana"], "acknowledge", alert)
    assert [event["type"] for event in told(store)] == ["alert.acknowledged"] * 2
