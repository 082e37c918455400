"""What somebody with few rights may not do is refused by every way that leads there."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from flask.testing import FlaskClient

from crm_core.access import Right, Scope
from crm_core.records import Product
from crm_core.rights import set_right
from crm_core.store import Store
from tests.factories import make_account, make_contact, make_deal, make_lead
from tests.serving.api import Api
from tests.serving.conftest import *  # noqa: F403  its fixtures
from tests.serving.conftest import Cast


def problem(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json["type"].removeprefix("urn:crm:problem:")


@pytest.mark.parametrize("status", ["sent", "accepted"])
def test_a_quote_that_is_written_as_sent_needs_the_approval_of_one_that_is_sent(
    client: FlaskClient, store: Store, cast: Cast, status: str
) -> None:
    with store.transaction() as transaction:
        account = make_account(transaction, owner_id=cast["Ana"].id).id
    ana, adam = Api(client, cast, "Ana"), Api(client, cast, "Adam")
    quote = {"account_id": account, "owner_id": cast["Ana"].id, "amount": "1", "discount": 0.9}
    said = {**quote, "status": status}
    assert problem(ana("POST", "/api/v1/quotes", said)) == (409, "approval-needed")
    assert problem(ana("PUT", "/api/v1/quotes/by-external-id/x", said)) == (409, "approval-needed")
    batch = {"operations": [{"op": "create", "type": "quotes", "record": said}]}
    assert "needs an approval" in ana("POST", "/api/v1/batch", batch).text
    assert ana("GET", "/api/v1/quotes").json["items"] == []
    assert ana("POST", "/api/v1/quotes", {**said, "discount": 0.05}).status_code == 201
    adams = {**said, "owner_id": None}  # who may give anything away brings along what was sold before
    assert adam("POST", "/api/v1/quotes", adams).status_code == 201


def test_a_contract_is_worth_what_its_quote_says_however_it_is_written(
    client: FlaskClient, store: Store, cast: Cast
) -> None:
    with store.transaction() as transaction:
        account = make_account(transaction, owner_id=cast["Ana"].id).id
        deal = make_deal(transaction, owner_id=cast["Ana"].id, account_id=account, currency="EUR").id
        pump = transaction.create(Product(name="Pump", price=Decimal(100), currency="EUR")).id
    ana = Api(client, cast, "Ana")
    quote = ana("POST", "/api/v1/quotes", {"deal_id": deal}).json["id"]
    ana("POST", "/api/v1/lines", {"quote_id": quote, "product_id": pump})
    ana("POST", f"/api/v1/quotes/{quote}/send", {})
    ana("POST", f"/api/v1/quotes/{quote}/accept", {})
    terms = {"account_id": account, "starts_on": "2026-04-01", "ends_on": "2027-03-31", "quote_id": quote}
    assert problem(ana("POST", "/api/v1/contracts", {**terms, "value": "1"})) == (409, "approval-needed")
    made = ana("POST", "/api/v1/contracts", {**terms, "value": "100"})
    assert made.status_code == 201
    at = f"/api/v1/contracts/{made.json['id']}"
    for less in ({"value": "1"}, {"value": "1", "quote_id": None}):
        assert problem(ana("PATCH", at, less)) == (409, "approval-needed")
    assert ana("PATCH", at, {"value": "95"}).json["value"] == "95"


@pytest.mark.parametrize(
    "uri", ["java\tscript:alert(1)", "\x01javascript:alert(1)", "https://x.example/\r\nSet-Cookie: a=b"]
)
def test_the_address_of_a_file_holds_nothing_that_a_browser_reads_over(
    client: FlaskClient, store: Store, cast: Cast, uri: str
) -> None:
    with store.transaction() as transaction:
        deal = make_deal(transaction, owner_id=cast["Ana"].id).id
    body = {"subject_type": "deal", "subject_id": deal, "name": "x", "uri": uri}
    assert Api(client, cast, "Ana")("POST", "/api/v1/attachments", body).status_code == 422


def test_no_activity_beside_ones_own_record_is_evidence_on_one_that_one_only_sees(
    client: FlaskClient, store: Store, cast: Cast
) -> None:
    with store.transaction() as transaction:
        for name in ("lead", "deal", "account", "contact", "activity"):
            set_right(transaction.session, "rep", name, Right(read=Scope.ALL, write=Scope.OWN))
        bens = cast["Ben"].id
        account = make_account(transaction, owner_id=bens).id
        contact = make_contact(transaction, account_id=account, owner_id=bens).id
        theirs = make_deal(transaction, owner_id=bens, account_id=account).id
        mine = make_deal(transaction, owner_id=cast["Ana"].id, account_id=account, contact_id=contact).id
        lead = make_lead(transaction, owner_id=cast["Ana"].id).id
    ana = Api(client, cast, "Ana")

    def log(**links: int) -> int:
        return int(ana("POST", "/api/v1/activities", {"kind": "call", **links}).status_code)

    assert log(deal_id=theirs) == 403
    assert log(lead_id=lead, deal_id=theirs) == 403
    assert log(lead_id=lead, contact_id=contact) == 403
    assert log(deal_id=mine, account_id=account, contact_id=contact) == 201  # they are her deal's
    assert log(lead_id=lead, deal_id=mine) == 201


def test_nobody_puts_words_into_anothers_mouth(client: FlaskClient, store: Store, cast: Cast) -> None:
    with store.transaction() as transaction:
        lead = make_lead(transaction, owner_id=cast["Ana"].id).id
    ana, mara, adam = (Api(client, cast, name) for name in ("Ana", "Mara", "Adam"))
    about = {"subject_type": "lead", "subject_id": lead}
    forged = {**about, "body": "Give it away.", "owner_id": cast["Ana"].id}
    assert problem(mara("POST", "/api/v1/comments", forged)) == (403, "access-denied")
    assert adam("POST", "/api/v1/comments", forged).status_code == 201  # from another system, say
    said = mara("POST", "/api/v1/comments", {**about, "body": "Not below ten."}).json
    at = f"/api/v1/comments/{said['id']}"
    assert problem(ana("PATCH", at, {"body": "Give it away."})) == (403, "access-denied")
    assert problem(ana("DELETE", at)) == (403, "access-denied")
    assert mara("PATCH", at, {"body": "Not below nine."}).json["body"] == "Not below nine."
    own = ana("POST", "/api/v1/comments", {**about, "body": "Why?"}).json
    assert ana("PATCH", f"/api/v1/comments/{own['id']}", {"body": "Oh."}).status_code == 200
    assert mara("DELETE", f"/api/v1/comments/{own['id']}").status_code == 204  # who leads keeps order
