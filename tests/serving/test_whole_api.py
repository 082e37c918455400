"""What programs may do that people do on pages: a customer at a glance, mail, settings, what one is told."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal

from flask.testing import FlaskClient

from crm_core.records import Activity, ActivityKind, Contract, Order
from crm_core.store import Store
from tests.factories import make_account
from tests.serving.api import Api
from tests.serving.conftest import Cast


def test_a_customer_is_told_at_a_glance(client: FlaskClient, store: Store, cast: Cast) -> None:
    today = store.clock.now().date()
    with store.transaction() as transaction:
        account = make_account(transaction, owner_id=cast["Ana"].id).id
        other = make_account(transaction, owner_id=cast["Ana"].id).id
        for each, amount in ((account, "250"), (account, "50"), (other, "10")):
            transaction.create(Order(account_id=each, amount=Decimal(amount), currency="EUR"))
        ends = {"starts_on": date(2025, 1, 1), "ends_on": today + timedelta(days=9)}
        transaction.create(Contract(account_id=account, number="C-1", value=Decimal(9), currency="EUR", **ends))
        transaction.create(Activity(account_id=account, kind=ActivityKind.TASK, subject="Call"))
    told = Api(client, cast, "Ana")("GET", f"accounts/{account}/profile").json
    assert told["worth"]["orders"] == {"value": 2.0, "better_than": 1.0}
    assert told["worth"]["ordered"] == [{"currency": "EUR", "amount": "300", "better_than": 1.0}]
    assert [each["title"] for each in told["contracts"]] == ["C-1"]
    assert [each["subject"] for each in told["next_steps"]] == ["Call"]
    assert Api(client, cast, "Otto")("GET", f"accounts/{account}/profile").status_code == 404
