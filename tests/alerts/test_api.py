"""Alerts over HTTP: who sees which, what may be told of them, and that the same sent twice is done once."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient

from crm_core.access import FieldRight, RoleRight
from crm_core.alerts import State
from crm_core.clock import FixedClock
from crm_core.store import Store
from serving.alerting import Alerting
from tests.alerts.world import DAY, alerts, say
from tests.factories import make_account, make_contract, make_deal
from tests.serving.conftest import *  # noqa: F403  its fixtures
from tests.serving.conftest import Cast

Call = Callable[..., tuple[int, Any]]


@pytest.fixture
def call(client: FlaskClient, cast: Cast) -> Call:
    """Ask as one of the cast; return the status and the body."""

    def ask(name: str, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        found = client.open("/api/v1" + path, method=method, json=body, headers=cast.header(name))
        return found.status_code, found.json

    return ask


@pytest.fixture
def told(store: Store, clock: FixedClock, cast: Cast) -> dict[str, int]:
    """Ana has a customer above the level and a deal that fell, Otto a customer whose contract ends."""
    ana, otto = cast["Ana"].id, cast["Otto"].id
    with store.transaction() as transaction:
        anas = make_account(transaction, owner_id=ana).id
        deal = make_deal(transaction, owner_id=ana).id
        ottos = make_account(transaction, name="South Mills", owner_id=otto).id
        make_contract(transaction, account_id=ottos, ends_on=date(2026, 4, 1))
    say(store, deal, 0.7, of="deal")
    clock.advance(DAY)
    say(store, deal, 0.2, of="deal")
    say(store, anas, 0.4)
    say(store, ottos, 0.25)
    Alerting(store).run_until_done()
    names = {("account", anas): "anas", ("deal", deal): "deal", ("account", ottos): "ottos"}
    return {names[alert.record_type, alert.record_id]: alert.id for alert in alerts(store)}


def listed(call: Call, name: str, query: str = "") -> list[int]:
    status, body = call(name, "GET", f"/alerts{query}")
    assert status == 200
    return [item["id"] for item in body["items"]]


@pytest.mark.parametrize(
    ("name", "seen"),
    [
        ("Ana", ["deal", "anas"]),
        ("Ben", []),
        ("Mara", ["deal", "anas"]),
        ("Dana", ["deal", "anas", "ottos"]),
        ("Adam", ["deal", "anas", "ottos"]),
        ("Otto", ["ottos"]),
    ],
)
def test_everybody_sees_the_alerts_of_records_that_they_see_most_money_first(
    call: Call, told: dict[str, int], name: str, seen: list[str]
) -> None:
    assert listed(call, name) == [told[each] for each in seen]
    for each, alert_id in told.items():
        assert call(name, "GET", f"/alerts/{alert_id}")[0] == (200 if each in seen else 404)


@pytest.mark.parametrize(
    ("name", "statuses"),
    [
        ("Ana", {"anas": 200, "deal": 200, "ottos": 404}),
        ("Ben", {"anas": 404, "deal": 404, "ottos": 404}),
        ("Mara", {"anas": 200, "deal": 200, "ottos": 404}),
        ("Dana", {"anas": 403, "deal": 403, "ottos": 403}),
        ("Adam", {"anas": 200, "deal": 200, "ottos": 200}),
        ("Otto", {"anas": 404, "deal": 404, "ottos": 200}),
    ],
)
def test_who_may_act_on_what(call: Call, told: dict[str, int], name: str, statuses: dict[str, int]) -> None:
    for verb in ("acknowledge", "reopen"):
        found = {each: call(name, "POST", f"/alerts/{key}/{verb}", {})[0] for each, key in told.items()}
        assert found == statuses


def test_an_alert_says_what_was_said_why_and_how_much_is_at_risk(call: Call, told: dict[str, int]) -> None:
    _, found = call("Ana", "GET", f"/alerts/{told['deal']}")
    expected = {
        "kind": "deal_fall",
        "record_type": "deal",
        "record_name": "Twenty pumps",
        "state": "open",
        "previous_probability": 0.7,
        "probability": 0.2,
        "probability_now": 0.2,
        "money_at_risk": [{"currency": "EUR", "of": "deal", "whole": "12000", "at_risk": "6000.00"}],
    }
    assert {name: found[name] for name in expected} == expected
    assert [action["action"] for action in found["actions"]] == ["raised"]


def test_the_end_of_the_contract_is_told(call: Call, told: dict[str, int]) -> None:
    _, found = call("Otto", "GET", f"/alerts/{told['ottos']}")
    assert (found["kind"], found["contract_ends_on"]) == ("contract_end", "2026-04-01")


def test_acknowledging_twice_is_done_once(call: Call, told: dict[str, int]) -> None:
    path = f"/alerts/{told['anas']}/acknowledge"
    first, second = (call("Ana", "POST", path, {"note": "called"}) for _ in range(2))
    assert first == second
    status, found = first
    assert (status, found["state"]) == (200, "acknowledged")
    assert [(each["action"], each["note"]) for each in found["actions"]] == [
        ("raised", None),
        ("acknowledged", "called"),
    ]
    assert listed(call, "Ana", "?state=open") == [told["deal"]]
    assert listed(call, "Ana", "?state=acknowledged") == [told["anas"]]


def test_an_alert_is_snoozed_assigned_and_opened_again(
    call: Call, told: dict[str, int], cast: Cast, clock: FixedClock
) -> None:
    path = f"/alerts/{told['anas']}"
    until = (clock.now() + DAY).isoformat()
    assert call("Ana", "POST", f"{path}/snooze", {"until": until})[1]["state"] == "snoozed"
    mara = cast["Mara"].id
    assert call("Ana", "POST", f"{path}/assign", {"assignee_id": mara})[1]["assignee_id"] == mara
    assert listed(call, "Mara", f"?assignee_id={mara}") == [told["anas"]]
    assert call("Mara", "POST", f"{path}/reopen", {})[1]["state"] == "open"
    actions = call("Ana", "GET", path)[1]["actions"]
    assert [each["action"] for each in actions] == ["raised", "snoozed", "assigned", "reopened"]


@pytest.mark.parametrize(
    ("verb", "body", "status"),
    [
        ("snooze", {"until": "2020-01-01T00:00:00Z"}, 422),
        ("snooze", {}, 422),
        ("snooze", {"until": "tomorrow"}, 422),
        ("assign", {"assignee_id": 999_999}, 404),
        ("assign", {"assignee_id": 0}, 422),
        ("acknowledge", {"note": "x" * 2_001}, 422),
        ("acknowledge", {"note": "nul \x00"}, 422),
        ("acknowledge", {"state": "closed"}, 422),
    ],
)
def test_what_makes_no_sense_is_refused(
    call: Call, told: dict[str, int], verb: str, body: dict[str, Any], status: int
) -> None:
    assert call("Ana", "POST", f"/alerts/{told['anas']}/{verb}", body)[0] == status


def test_nothing_is_assigned_to_who_does_not_see_it(call: Call, told: dict[str, int], cast: Cast) -> None:
    body = {"assignee_id": cast["Otto"].id}
    assert call("Mara", "POST", f"/alerts/{told['anas']}/assign", body)[0] == 422


def test_what_is_over_cannot_be_acted_on(
    call: Call, told: dict[str, int], store: Store, clock: FixedClock
) -> None:
    clock.advance(DAY)
    record_id = next(alert.record_id for alert in alerts(store) if alert.id == told["anas"])
    say(store, record_id, 0.01)
    Alerting(store).run_until_done()
    status, problem = call("Ana", "POST", f"/alerts/{told['anas']}/acknowledge", {})
    assert (status, problem["type"]) == (409, "urn:crm:problem:alert-closed")
    assert listed(call, "Ana", f"?state={State.CLOSED}") == [told["anas"]]


def test_pages_follow_one_another(call: Call, told: dict[str, int]) -> None:
    for order in ("-at_risk", "-raised_at", "-probability"):
        found: list[int] = []
        query = f"?limit=1&order={order}"
        for _ in told:
            _, body = call("Dana", "GET", f"/alerts{query}")
            found += [item["id"] for item in body["items"]]
            query = f"?limit=1&order={order}&cursor={body['next_cursor']}"
        assert body["next_cursor"] is None
        assert sorted(found) == sorted(told.values())


@pytest.mark.parametrize("cursor", ["x", "e30", "WyItYXRfcmlzayIsImEiLDFd", "WyItYXRfcmlzayIsMSwtMV0"])
def test_a_cursor_made_up_is_refused(call: Call, told: dict[str, int], cursor: str) -> None:
    assert call("Ana", "GET", f"/alerts?cursor={cursor}")[0] == 422


def test_filters(call: Call, told: dict[str, int], cast: Cast) -> None:
    assert listed(call, "Dana", "?kind=deal_fall") == [told["deal"]]
    assert listed(call, "Dana", "?record_type=account") == [told["anas"], told["ottos"]]
    assert listed(call, "Dana", f"?owner_id={cast['Otto'].id}") == [told["ottos"]]
    assert listed(call, "Dana", f"?owner_id={cast['Ben'].id}") == []


def hide(store: Store, role: str, record_type: str, field: str) -> None:
    with store.transaction() as transaction:
        transaction.session.add(
            FieldRight(role=role, record_type=record_type, field=field, read=False, write=False)
        )


def test_hidden_amounts_are_neither_told_nor_sorted_by(
    call: Call, told: dict[str, int], store: Store
) -> None:
    hide(store, "rep", "deal", "amount")
    _, found = call("Ana", "GET", f"/alerts/{told['deal']}")
    assert found["money_at_risk"] == []
    assert listed(call, "Ana") == sorted((told["deal"], told["anas"]), reverse=True)


def test_hidden_scores_hide_their_alerts(call: Call, told: dict[str, int], store: Store) -> None:
    hide(store, "rep", "account", "probability")
    assert listed(call, "Ana") == [told["deal"]]


def test_hidden_contracts_hide_that_one_ends(call: Call, told: dict[str, int], store: Store) -> None:
    with store.transaction() as transaction:
        transaction.session.add(RoleRight(role="rep", record_type="contract", read="none", write="none"))
    assert listed(call, "Otto") == []
    _, found = call("Ana", "GET", f"/alerts/{told['anas']}")
    assert found["money_at_risk"] == []


def test_who_asks_for_a_hidden_owner_is_told_so(call: Call, told: dict[str, int], store: Store) -> None:
    hide(store, "rep", "account", "owner_id")
    assert call("Ana", "GET", "/alerts?owner_id=1")[0] == 403


def test_an_idempotency_key_gives_the_same_answer(
    client: FlaskClient, told: dict[str, int], cast: Cast, clock: FixedClock
) -> None:
    path = f"/api/v1/alerts/{told['anas']}/snooze"
    headers = {**cast.header("Ana"), "Idempotency-Key": "one"}
    body = {"until": (clock.now() + timedelta(hours=2)).isoformat()}
    first, second = (client.post(path, json=body, headers=headers) for _ in range(2))
    assert (first.status_code, first.json) == (second.status_code, second.json)
