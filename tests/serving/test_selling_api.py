"""A quote to its last payment over HTTP, with everything that is refused on the way."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from flask.testing import FlaskClient

from crm_core.records import Product
from crm_core.store import Store
from tests.factories import make_account, make_deal
from tests.serving.api import Api, turn
from tests.serving.conftest import Cast


def test_a_quote_is_sold_over_http(client: FlaskClient, store: Store, cast: Cast) -> None:
    with store.transaction() as transaction:
        account = make_account(transaction, owner_id=cast["Ana"].id).id
        deal = make_deal(transaction, owner_id=cast["Ana"].id, account_id=account, currency="EUR").id
        pump = transaction.create(Product(name="Pump", price=Decimal(100), currency="EUR")).id
    ana, mara = Api(client, cast, "Ana"), Api(client, cast, "Mara")

    def problem(answer: Any) -> tuple[int, str]:
        return answer.status_code, answer.json["type"].removeprefix("urn:crm:problem:")

    quote = ana("POST", "/api/v1/quotes", {"deal_id": deal}).json
    assert (quote["number"], quote["currency"], quote["status"]) == ("Q-2026-0001", "EUR", "draft")
    at = f"/api/v1/quotes/{quote['id']}"
    line = ana("POST", "/api/v1/lines", {"quote_id": quote["id"], "product_id": pump, "quantity": 3}).json
    assert (line["list_price"], line["unit_price"]) == ("100", "100")
    ana("PATCH", f"/api/v1/lines/{line['id']}", {"unit_price": "85.555", "discount": 0.05})
    totals = ana("GET", f"{at}/totals").json
    assert totals["amount"] == "243.83"  # 243.83175, once rounded
    assert totals["off_list"] == 0.1872275
    assert problem(ana("PATCH", at, {"amount": "1"})) == (422, "invalid-value")
    assert problem(ana("PATCH", at, {"status": "sent"})) == (409, "approval-needed")
    assert problem(ana("POST", f"{at}/send", {})) == (409, "approval-needed")
    asked = ana("POST", f"{at}/approval", {"note": "a big one"})
    assert (asked.status_code, asked.json["approver_id"]) == (201, cast["Mara"].id)
    decide = f"/api/v1/approvals/{asked.json['id']}/decide"
    assert problem(ana("POST", decide, {"approve": True})) == (403, "access-denied")
    assert mara("GET", "/api/v1/approvals").json["items"][0]["id"] == asked.json["id"]
    assert [each["id"] for each in turn(ana, "approvals?which=asked&limit=1")] == [asked.json["id"]]
    assert mara("GET", asked.headers["Location"]).json == asked.json
    assert mara("POST", decide, {"approve": True}).json["state"] == "approved"
    assert problem(mara("POST", decide, {"approve": True})) == (409, "approval-decided")
    assert ana("POST", f"{at}/send", {}).json["status"] == "sent"
    assert problem(ana("DELETE", f"/api/v1/lines/{line['id']}")) == (409, "quote-state")
    terms = {"starts_on": "2026-04-01", "ends_on": "2027-03-31"}
    assert ana("POST", f"{at}/accept", {"contract": terms}).json["status"] == "accepted"
    contract = ana("GET", f"/api/v1/contracts?filter=quote_id:eq:{quote['id']}").json["items"][0]
    assert (contract["value"], contract["number"]) == ("243.83", "C-2026-0001")
    plan = f"/api/v1/contracts/{contract['id']}/payment-plan"
    thirds = [
        {"due_on": f"2026-0{month}-01", "percent": share}
        for month, share in ((2, "33.3"), (3, "33.3"), (5, "33.4"))
    ]
    assert problem(ana("PUT", plan, {"parts": thirds[:2]})) == (422, "invalid-value")
    planned = ana("PUT", plan, {"parts": thirds}).json
    assert sum(Decimal(part["amount"]) for part in planned["parts"]) == Decimal("243.83")
    assert planned["overdue"] == "162.39"  # due in February and on the first of March, and it is the second
    left = ana(
        "POST", f"/api/v1/contracts/{contract['id']}/receive", {"amount": "100", "reference": "TT-1"}
    ).json
    assert [Decimal(left[name]) for name in ("received", "open", "overdue")] == [
        Decimal(100),
        Decimal("143.83"),
        Decimal("62.39"),
    ]
    late = mara("GET", "/api/v1/payments/overdue").json
    assert [(each["amount"], each["days_late"], each["owner_id"]) for each in late["items"]] == [
        ("62.39", 1, cast["Ana"].id)
    ]
    money = ana("GET", f"/api/v1/deals/{deal}/money").json["items"]
    sums = [[Decimal(each[name]) for name in ("contracted", "received", "overdue")] for each in money]
    assert sums == [[Decimal("243.83"), Decimal(100), Decimal("62.39")]]
    kinds = [each["kind"] for each in ana("GET", f"/api/v1/deals/{deal}/timeline?limit=50").json["items"]]
    assert kinds.count("sale") == 4  # waits, approved, sent, accepted
    assert kinds.count("received") == 2
