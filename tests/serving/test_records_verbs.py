"""Converting, disqualifying, closing, opening again and batches, over HTTP."""

from __future__ import annotations

from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import select

from crm_core.changes import Change
from crm_core.fields import FieldKind, Known, declare_field
from crm_core.records import Account, Lead
from crm_core.store import Store
from tests.factories import make_account, make_contact, make_deal, make_lead
from tests.serving.api import Api
from tests.serving.conftest import Cast


@pytest.fixture
def ana(client: FlaskClient, cast: Cast) -> Api:
    return Api(client, cast, "Ana")


@pytest.fixture
def lead(store: Store, cast: Cast) -> int:
    with store.transaction() as transaction:
        return make_lead(transaction, owner_id=cast["Ana"].id).id


def refused(answer: Any, status: int, slug: str, field: str | None = None) -> None:
    assert (answer.status_code, answer.content_type) == (status, "application/problem+json"), answer.text
    assert answer.json["type"] == f"urn:crm:problem:{slug}", answer.text
    assert field is None or answer.json["field"] == field


def test_a_lead_becomes_an_account_a_contact_and_a_deal(ana: Api, lead: int, cast: Cast) -> None:
    body = {"deal": {"name": "Pumps", "amount": "10"}, "account": {"region": "South"}}
    made = ana("POST", f"leads/{lead}/convert", body)
    assert made.status_code == 200, made.text
    assert made.json["lead"]["status"] == "converted"
    assert {each: made.json["lead"][f"{each}_id"] for each in ("account", "contact", "deal")} == {
        each: made.json[each]["id"] for each in ("account", "contact", "deal")
    }
    assert (made.json["account"]["name"], made.json["account"]["region"]) == ("Fangda Valves", "South")
    assert made.json["deal"]["owner_id"] == cast["Ana"].id
    again = ana("POST", f"leads/{lead}/convert", body)
    assert (again.status_code, again.json) == (200, made.json)


def test_required_custom_fields_can_be_given_to_what_a_lead_becomes(
    ana: Api, store: Store, lead: int
) -> None:
    with store.transaction() as transaction:
        for record_type in ("account", "deal"):
            declare_field(
                transaction.session,
                record_type=record_type,
                name="custom.sector",
                known=Known.HISTORY,
                kind=FieldKind.TEXT,
                required=True,
            )
    refused(ana("POST", f"leads/{lead}/convert", {}), 422, "invalid-value", "account.custom.sector")
    custom = {"custom": {"sector": "pumps"}}
    made = ana("POST", f"leads/{lead}/convert", {"account": custom, "deal": {"name": "D", **custom}})
    assert made.status_code == 200, made.text
    assert made.json["account"]["custom"] == made.json["deal"]["custom"] == {"sector": "pumps"}


def test_a_lead_joins_a_customer_that_there_is(ana: Api, store: Store, cast: Cast, lead: int) -> None:
    with store.transaction() as transaction:
        account = make_account(transaction, owner_id=cast["Ana"].id).id
        contact = make_contact(transaction, owner_id=cast["Ana"].id, account_id=account).id
        other = make_account(transaction, owner_id=cast["Otto"].id).id
    hidden = ana("POST", f"leads/{lead}/convert", {"account_id": other})
    refused(hidden, 422, "invalid-value", "account_id")
    twice = ana("POST", f"leads/{lead}/convert", {"account_id": account, "account": {"name": "x"}})
    refused(twice, 422, "invalid-request")
    made = ana("POST", f"leads/{lead}/convert", {"contact_id": contact})
    assert (made.json["account"]["id"], made.json["contact"]["id"]) == (account, contact)
    assert made.json["deal"] is None


def test_a_disqualified_lead_can_be_opened_again_and_not_be_converted(ana: Api, lead: int) -> None:
    gone = ana("POST", f"leads/{lead}/disqualify", {"reason": "no budget"})
    assert (gone.json["status"], gone.json["disqualified_reason"]) == ("disqualified", "no budget")
    refused(ana("POST", f"leads/{lead}/convert", {}), 409, "lead-not-open")
    back = ana("POST", f"leads/{lead}/reopen", {})
    assert (back.json["status"], back.json["disqualified_reason"]) == ("open", None)
    assert ana("POST", f"leads/{lead}/convert", {}).status_code == 200
    refused(ana("POST", f"leads/{lead}/reopen", {}), 409, "lead-not-open")


def test_a_deal_is_lost_opened_again_and_won(ana: Api, store: Store, cast: Cast) -> None:
    with store.transaction() as transaction:
        account = make_account(transaction, owner_id=cast["Ana"].id).id
        deal = make_deal(transaction, owner_id=cast["Ana"].id, account_id=account).id
    lost = ana("POST", f"deals/{deal}/close", {"outcome": "lost", "reason": "price"})
    assert (lost.json["status"], lost.json["lost_reason"]) == ("lost", "price")
    assert lost.json["closed_at"] is not None
    refused(ana("POST", f"deals/{deal}/close", {"outcome": "won"}), 409, "deal-not-open")
    refused(ana("PATCH", f"deals/{deal}", {"stage": "needs"}), 409, "deal-not-open")
    back = ana("POST", f"deals/{deal}/reopen", {})
    assert [back.json[name] for name in ("status", "lost_reason", "closed_at")] == ["open", None, None]
    refused(ana("POST", f"deals/{deal}/close", {"outcome": "won", "reason": "x"}), 422, "invalid-value")
    won = ana("POST", f"deals/{deal}/close", {"outcome": "won"})
    assert (won.json["status"], won.json["stage"]) == ("won", "contract")
    assert ana("POST", f"deals/{deal}/reopen", {}).json["stage"] == "negotiation"


def test_what_is_not_theirs_nobody_converts_or_closes(
    client: FlaskClient, store: Store, cast: Cast, lead: int
) -> None:
    with store.transaction() as transaction:
        deal = make_deal(transaction, owner_id=cast["Ana"].id).id
    calls: dict[str, dict[str, Any]] = {
        f"leads/{lead}/convert": {},
        f"leads/{lead}/disqualify": {"reason": "x"},
        f"leads/{lead}/reopen": {},
        f"deals/{deal}/close": {"outcome": "lost"},
        f"deals/{deal}/reopen": {},
    }
    for path, body in calls.items():
        assert Api(client, cast, "Otto")("POST", path, body).status_code == 404, path
        assert Api(client, cast, "Dana")("POST", path, body).status_code == 403, path
        assert client.post(f"/api/v1/{path}", json=body).status_code == 401, path


def test_a_batch_does_what_it_can_and_says_what_not(ana: Api, store: Store, cast: Cast, lead: int) -> None:
    with store.transaction() as transaction:
        foreign = make_lead(transaction, owner_id=cast["Otto"].id).id
        doomed = make_lead(transaction, owner_id=cast["Ana"].id).id
        before = transaction.session.scalars(select(Change.id)).all()
    operations: list[tuple[dict[str, Any], int]] = [
        ({"op": "create", "type": "accounts", "record": {"name": "Hill", "external_id": "a1"}}, 201),
        ({"op": "create", "type": "accounts", "record": {"name": "Hill", "external_id": "a1"}}, 409),
        ({"op": "create", "type": "accounts", "record": {}}, 422),
        ({"op": "create", "type": "orders", "record": {"account_id": 999}}, 422),
        ({"op": "create", "type": "lines", "record": {"quantity": 2}}, 403),
        ({"op": "update", "type": "leads", "id": lead, "record": {"phone": "1"}}, 200),
        ({"op": "update", "type": "leads", "id": lead, "version": 1, "record": {"phone": "2"}}, 412),
        ({"op": "update", "type": "leads", "id": foreign, "record": {"phone": "1"}}, 404),
        ({"op": "update", "type": "leads", "record": {"phone": "1"}}, 422),
        ({"op": "upsert", "type": "accounts", "external_id": "a1", "record": {"name": "Hill & Co"}}, 200),
        ({"op": "upsert", "type": "accounts", "external_id": "a2", "record": {"name": "Dale"}}, 201),
        ({"op": "delete", "type": "leads", "id": doomed}, 204),
        ({"op": "delete", "type": "leads", "id": doomed}, 404),
        ({"op": "create", "type": "castles", "record": {}}, 422),
        ({"op": "create", "type": "users", "record": {"name": "x", "email": "x@y", "role": "admin"}}, 403),
    ]
    answer = ana("POST", "batch", {"operations": [operation for operation, _ in operations]})
    assert answer.status_code == 200, answer.text
    results = answer.json["results"]
    assert [each["status"] for each in results] == [status for _, status in operations]
    for each in results:
        assert (each["problem"] is None) == (each["status"] < 300)
        assert (each["record"] is None) == (each["status"] >= 300 or each["status"] == 204)
        assert each["problem"] is None or each["problem"]["status"] == each["status"]
    assert results[0]["record"]["name"] == "Hill & Co", "the record as it is in the end"
    with store.reading() as session:
        changes = session.scalars(select(Change).where(Change.id > max(before))).all()
    assert len({change.sequence for change in changes}) == 1, "one transaction"
    assert sorted((c.record_type, c.action, c.field) for c in changes) == [
        ("account", "created", None),
        ("account", "created", None),
        ("account", "updated", "name"),
        ("lead", "deleted", None),
        ("lead", "updated", "phone"),
    ]


def test_a_batch_has_its_limits(ana: Api, store: Store) -> None:
    one = {"op": "create", "type": "leads", "record": {"name": "Li"}}
    refused(ana("POST", "batch", {"operations": []}), 422, "invalid-request")
    refused(ana("POST", "batch", {"operations": [one] * 201}), 422, "invalid-request")
    made = ana("POST", "batch", {"operations": [one] * 200})
    assert [each["status"] for each in made.json["results"]] == [201] * 200
    with store.reading() as session:
        assert len(session.scalars(select(Lead.id)).all()) == 200
        assert session.scalars(select(Account.id)).all() == []
