"""Scores of records that do not exist, over HTTP: taken as creating takes them, and nothing is stored."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from flask.testing import FlaskClient
from sqlalchemy import func, select

from crm_core.access import FieldRight
from crm_core.clock import FixedClock
from crm_core.opting_out import set_scoring_opt_out
from crm_core.predictions import NewPrediction
from crm_core.records import Account, Activity, Base, Contract, Deal, Lead, Order
from crm_core.store import Store
from features.supposed import FIRST_ID, Supposed
from tests.factories import declare_custom, make_account, make_contract, make_lead, make_order
from tests.serving.conftest import Cast
from tests.serving.hand_made import HandMadeModel

Promote = Callable[..., HandMadeModel]

LEAD = {"company": "Neu GmbH", "source": "referral", "employees": 40}
DEAL = {"stage": "proposal", "amount": "25000.50", "currency": "EUR", "name": "Neu"}
BODIES: dict[str, dict[str, Any]] = {"leads": LEAD, "deals": DEAL, "customers": {"name": "Neu AG"}}
TASKS = {"leads": "lead_scoring", "deals": "win_probability", "customers": "churn"}


def ask(client: FlaskClient, cast: Cast, kind: str, body: Mapping[str, Any], who: str = "Ana") -> Any:
    return client.post(f"/api/v1/{kind}/score-hypothetical", json=dict(body), headers=cast.header(who))


def all_counts(store: Store) -> dict[str, int]:
    with store.reading() as session:
        tables = Base.metadata.sorted_tables
        return {table.name: session.scalar(select(func.count()).select_from(table)) or 0 for table in tables}


def cells(supposed: Supposed) -> list[tuple[str, dict[str, Any]]]:
    """The cells without ids: the same for what is supposed and what is created."""
    found = []
    for record_type, row in supposed.rows:
        plain = {
            name: value.item() if isinstance(value, np.generic) else value for name, value in row.items()
        }
        links = {name for name in ("lead_id", "deal_id", "account_id") if plain.get(name, 0) >= FIRST_ID}
        found.append((record_type, {n: v for n, v in plain.items() if n not in {"id", *links}}))
    return found


@pytest.mark.parametrize("kind", BODIES)
def test_each_type_is_scored_and_nothing_is_stored(
    client: FlaskClient, store: Store, cast: Cast, promote: Promote, clock: FixedClock, kind: str
) -> None:
    promote(TASKS[kind], probability=lambda record_id: 0.3)
    before = all_counts(store)
    answer = ask(client, cast, kind, BODIES[kind])
    given = answer.get_json()
    assert answer.status_code == 200, given
    assert (given["probability"], given["score"], given["state"]) == (0.3, 30, "scored")
    assert (given["task"], given["model_version"], given["horizon_days"]) == (
        TASKS[kind],
        f"{TASKS[kind]}-1",
        90,
    )
    assert given["as_of"] == clock.now().isoformat().replace("+00:00", "Z")
    assert [reason["log_odds"] for reason in given["reasons"]] == [-2.0, 1.5]
    assert "id" not in given
    assert all_counts(store) == before


def test_a_supposed_lead_is_the_lead_that_the_api_creates(
    client: FlaskClient, store: Store, cast: Cast, promote: Promote, clock: FixedClock
) -> None:
    model = promote()
    with store.transaction() as transaction:
        declare_custom(transaction, "lead", tier="text", due="day", budget="money")
    call = {
        "kind": "call",
        "direction": "outbound",
        "duration_seconds": 60,
        "occurred_at": (clock.now() - timedelta(days=3)).isoformat(),
    }
    lead = {**LEAD, "custom": {"tier": "gold", "due": "2026-05-01", "budget": "99.50"}}
    assert ask(client, cast, "leads", {**lead, "activities": [call, {"kind": "note"}]}).status_code == 200
    created = client.post("/api/v1/leads", json=lead, headers=cast.header("Ana")).get_json()
    path = f"/api/v1/leads/{created['id']}/activities"
    for activity in (call, {"kind": "note"}):
        assert client.post(path, json=activity, headers=cast.header("Ana")).status_code == 201
    with store.reading() as session:
        activities = session.scalars(select(Activity).order_by(Activity.id)).all()
        for logged in activities:
            logged.lead_id = FIRST_ID
        real = Supposed.of(session.get_one(Lead, created["id"]), activities)
    assert cells(model.supposed[0]) == cells(real)
    assert cells(real)[0][1]["custom.due"] == 20_574


def test_what_a_supposed_deal_names_is_linked_as_a_real_ones(
    client: FlaskClient, store: Store, cast: Cast, promote: Promote
) -> None:
    model = promote("win_probability")
    with store.transaction() as transaction:
        account = make_account(transaction, owner_id=cast["Ana"].id)
    body = {**DEAL, "account_id": account.id, "activities": [{"kind": "meeting"}]}
    assert ask(client, cast, "deals", body).status_code == 200
    (_, deal), (_, meeting) = model.supposed[0].rows
    assert (deal["id"], deal["account_id"], deal["owner_id"]) == (FIRST_ID, account.id, cast["Ana"].id)
    assert (deal["amount"], deal["status"], deal["pipeline"]) == (250_005_000, "open", "default")
    assert (meeting["deal_id"], meeting["account_id"], meeting["id"]) == (FIRST_ID, account.id, FIRST_ID + 1)


def test_a_supposed_customer_has_orders_and_contracts(
    client: FlaskClient, store: Store, cast: Cast, promote: Promote, clock: FixedClock
) -> None:
    model = promote("churn")
    order = {"amount": "500", "currency": "EUR", "occurred_at": (clock.now() - timedelta(days=9)).isoformat()}
    contract = {"starts_on": "2026-01-01", "ends_on": "2026-12-31", "value": "9000"}
    body = {"name": "Hill & Sons", "orders": [order], "contracts": [contract]}
    assert ask(client, cast, "customers", body).status_code == 200
    with store.transaction() as transaction:
        account = make_account(transaction, owner_id=cast["Ana"].id)
        make_order(transaction, account_id=account.id, occurred_at=clock.now() - timedelta(days=9))
        make_contract(transaction, account_id=account.id)
    with store.reading() as session:
        order_made, contract_made = (
            session.scalars(select(Order)).one(),
            session.scalars(select(Contract)).one(),
        )
        order_made.account_id = contract_made.account_id = FIRST_ID
        real = Supposed.of(session.get_one(Account, account.id), [order_made, contract_made])
    assert cells(model.supposed[0]) == cells(real)


def test_money_at_risk_is_that_of_the_supposed_customer(
    client: FlaskClient, cast: Cast, promote: Promote, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = promote("churn")
    worth = [{"currency": "EUR", "amount": "1000.00", "of": "order"}]

    def score(*_asked: Any) -> NewPrediction:
        return NewPrediction(
            record_id=FIRST_ID,
            probability=0.25,
            score=25,
            grade="D",
            reasons=[],
            within={90: 0.25},
            yearly_value=worth,
        )

    monkeypatch.setattr(model, "score_supposed", score)
    given = ask(client, cast, "customers", {}).get_json()
    (risk,) = given["money_at_risk"]
    assert Decimal(risk["at_risk"]) == Decimal(250)
    assert given["within"] == [{"days": 90, "probability": 0.25, "why": None}]


def test_only_who_may_create_such_a_record_and_see_its_score_may_ask(
    client: FlaskClient, store: Store, cast: Cast, promote: Promote
) -> None:
    promote(), promote("win_probability")
    assert ask(client, cast, "leads", LEAD, "Dana").status_code == 403
    with store.transaction() as transaction:
        bens = make_account(transaction, owner_id=cast["Ben"].id)
    assert ask(client, cast, "deals", {**DEAL, "account_id": bens.id}).status_code == 404
    assert ask(client, cast, "deals", {**DEAL, "account_id": bens.id}, "Mara").status_code == 200
    assert ask(client, cast, "leads", {**LEAD, "owner_id": cast["Ben"].id}).status_code == 403
    hide(store, "lead", "source")
    assert ask(client, cast, "leads", LEAD).status_code == 403
    assert ask(client, cast, "leads", {"company": "Neu GmbH"}).status_code == 200
    hide(store, "lead", "probability")
    assert ask(client, cast, "leads", {"company": "Neu GmbH"}).status_code == 403


def hide(store: Store, record_type: str, field: str) -> None:
    with store.transaction() as transaction:
        transaction.session.add(
            FieldRight(role="rep", record_type=record_type, field=field, read=False, write=False)
        )


def test_a_reason_from_a_hidden_field_keeps_its_weight_and_loses_its_words(
    client: FlaskClient, store: Store, cast: Cast, promote: Promote
) -> None:
    promote()
    hide(store, "activity", "duration_seconds")  # whoever has something hidden is told of no unnamed inputs
    reasons = ask(client, cast, "leads", LEAD).get_json()["reasons"]
    assert [(reason["group"], reason["log_odds"]) for reason in reasons] == [("base", -2.0), ("hidden", 1.5)]


def test_who_asked_not_to_be_scored_is_not_scored_by_way_of_a_supposition(
    client: FlaskClient, store: Store, cast: Cast, promote: Promote
) -> None:
    model = promote("win_probability")
    with store.transaction() as transaction:
        account = make_account(transaction, owner_id=cast["Ana"].id)
        set_scoring_opt_out(transaction, account, opted_out=True)
    refused = ask(client, cast, "deals", {**DEAL, "account_id": account.id})
    assert (refused.status_code, refused.get_json()["type"]) == (409, "urn:crm:problem:scoring-opt-out")
    assert model.asked == []


@pytest.mark.parametrize(
    ("kind", "more", "problem"),
    [
        ("leads", {"colour": "red"}, "invalid-request"),
        ("leads", {"custom": {"colour": "red"}}, "unknown-field"),
        ("leads", {"occurred_at": "2099-01-01T00:00:00Z"}, "future-event"),
        ("leads", {"activities": [{"kind": "call", "occurred_at": "2099-01-01T00:00:00Z"}]}, "future-event"),
        ("leads", {"external_id": "taken"}, "duplicate-external-id"),
        ("deals", {"stage": "nowhere"}, "stage-not-in-pipeline"),
        ("deals", {"account_id": 9_999}, "record-not-found"),
        ("deals", {"amount": "1e40"}, "invalid-request"),
        ("customers", {"contracts": [{"starts_on": "2026-02-01", "ends_on": "2026-01-01"}]}, "invalid-value"),
    ],
)
def test_what_could_not_be_created_cannot_be_supposed(
    client: FlaskClient,
    store: Store,
    cast: Cast,
    promote: Promote,
    kind: str,
    more: dict[str, Any],
    problem: str,
) -> None:
    model = promote(TASKS[kind])
    with store.transaction() as transaction:
        make_lead(transaction, external_id="taken")
    refused = ask(client, cast, kind, {**BODIES[kind], **more})
    assert refused.get_json()["type"] == f"urn:crm:problem:{problem}"
    assert model.asked == []


def test_without_a_model_or_an_answer_it_is_said(
    client: FlaskClient, cast: Cast, promote: Promote, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ask(client, cast, "leads", LEAD).get_json()["type"] == "urn:crm:problem:no-champion"
    model = promote(probability=lambda record_id: None)
    given = ask(client, cast, "leads", LEAD).get_json()
    assert (given["state"], given["probability"], given["reasons"]) == ("not_enough_data", None, [])
    monkeypatch.setattr(model, "score_supposed", lambda *_asked: None)
    assert ask(client, cast, "leads", LEAD).get_json()["type"] == "urn:crm:problem:not-enough-data"


def test_sqlite_lets_somebody_write_while_it_is_asked(
    client: FlaskClient, store: Store, cast: Cast, promote: Promote
) -> None:
    promote("win_probability")
    assert ask(client, cast, "deals", DEAL).status_code == 200  # notes that the key was used, for a while
    with store.transaction():
        assert ask(client, cast, "deals", DEAL).status_code == 200
    with store.reading() as session:
        assert session.scalar(select(func.count()).select_from(Deal)) == 0
