"""The pages of selling: from the first line of a quote to the last payment, and what they refuse."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select
from werkzeug.test import TestResponse

from crm_core.access import FieldRight
from crm_core.approvals import Approval
from crm_core.clock import FixedClock
from crm_core.notifications import list_notifications
from crm_core.records import Contract, Deal, Line, Order, Payment, Product, Quote
from crm_core.sales_settings import sales_settings
from crm_core.store import Store
from tests.factories import make_account, make_contract, make_deal
from tests.serving.conftest import Cast, csrf_of, logged_in

LogIn = Callable[[str], FlaskClient]


@pytest.fixture
def log_in(app: Flask, cast: Cast) -> LogIn:
    return lambda name: logged_in(app, cast[name])


@pytest.fixture
def deal(store: Store, cast: Cast) -> int:
    """Ana's deal, and a pump on the price list."""
    with store.transaction() as transaction:
        account = make_account(transaction, name="Fangda", owner_id=cast["Ana"].id).id
        transaction.create(Product(name="Pump", price=Decimal(100), currency="EUR"))
        return make_deal(transaction, owner_id=cast["Ana"].id, account_id=account, currency="EUR").id


def send(client: FlaskClient, page: str, path: str, **data: Any) -> TestResponse:
    """Send a form that stands on a page."""
    return client.post(path, data={"csrf_token": csrf_of(client.get(page).text), **data})


def plain(response: TestResponse) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", response.text)).replace("\u00a0", " ")


def newest(store: Store, model: Any) -> Any:
    with store.reading() as session:
        return session.scalars(select(model).order_by(model.id.desc()).limit(1)).one()


def quote_with_pumps(store: Store, client: FlaskClient, deal: int, discount: str = "") -> str:
    begun = send(client, f"/deals/{deal}", f"/records/deal/{deal}/quotes")
    product = newest(store, Product).id
    number = begun.location.rsplit("/", 1)[1]
    line = {"product_id": str(product), "quantity": "10", "discount": discount}
    assert send(client, begun.location, f"/quotes/{number}/lines", **line).status_code == 302
    return number


def test_a_quote_goes_from_its_first_line_to_the_last_payment(
    store: Store, log_in: LogIn, deal: int, clock: FixedClock
) -> None:
    ana, mara = log_in("Ana"), log_in("Mara")
    number = quote_with_pumps(store, ana, deal, "20")
    page = f"/records/quote/{number}"
    shown = plain(ana.get(page))
    assert "Pump" in shown
    assert "€800.00" in shown
    assert "20.0% below the price list." in shown
    act = f"/quotes/{number}/act"
    assert send(ana, page, act, action="send").status_code == 409
    assert send(ana, page, act, action="ask", note="third order").status_code == 302
    assert "Waits for approval" in plain(ana.get(page))
    tray = mara.get("/approvals")
    assert "third order" in tray.text
    approval = newest(store, Approval).id
    decided = send(mara, "/approvals", f"/approvals/{approval}/decide", decision="refuse")
    assert decided.status_code == 422
    assert send(mara, page, f"/approvals/{approval}/decide", decision="approve").status_code == 302
    assert "approved it" in plain(ana.get("/notifications"))
    assert send(ana, page, act, action="send").status_code == 302
    printed = ana.get(f"/quotes/{number}/print").text
    assert "Q-2026-0001" in printed
    assert "€800.00" in printed
    terms = {"with_contract": "yes", "starts_on": "2026-04-01", "ends_on": "2027-03-31"}
    assert send(ana, page, act, action="accept", **terms).status_code == 302
    contract, order = newest(store, Contract), newest(store, Order)
    assert (contract.value, order.amount, order.quote_id) == (Decimal(800), Decimal(800), int(number))
    about = f"/records/contract/{contract.id}"
    plan = {"due_on": ["2026-03-10", "2026-04-10", ""], "share": ["30%", "", ""]}
    assert send(ana, about, f"{about}/plan", **plan).status_code == 302
    assert send(ana, about, f"{about}/receive", amount="300").status_code == 302
    with store.reading() as session:
        paid = session.execute(select(Payment.amount, Payment.part, Payment.paid_at.is_not(None))).all()
    assert sorted(map(tuple, paid)) == [(60, 2, True), (240, 1, True), (500, 2, False)]
    shown = plain(ana.get(about))
    assert "paid in part" in shown
    assert send(ana, about, f"{about}/receive", amount="501").status_code == 422
    clock.advance(timedelta(days=60))
    late = plain(log_in("Mara").get("/payments/overdue"))
    assert "€500" in late
    assert "21 days late" in late
    sums = plain(log_in("Ana").get(f"/records/deal/{deal}/money"))
    assert "Overdue €500" in sums
    assert "Received €300" in sums
    renewed = send(
        log_in("Ana"),
        about,
        f"/contracts/{contract.id}/act",
        action="renew",
        **{**terms, "starts_on": "2027-04-01", "ends_on": "2028-03-31"},
    )
    assert renewed.status_code == 302
    assert newest(store, Contract).starts_on == date(2027, 4, 1)


def test_a_revision_keeps_number_and_lines(store: Store, log_in: LogIn, deal: int) -> None:
    ana = log_in("Ana")
    number = quote_with_pumps(store, ana, deal)
    page, act = f"/records/quote/{number}", f"/quotes/{number}/act"
    send(ana, page, act, action="send")
    line = newest(store, Line).id
    assert send(ana, page, f"/quotes/{number}/lines/{line}", quantity="1").status_code == 409
    revised = send(ana, page, act, action="revise")
    assert "Q-2026-0001 · Revision 2" in plain(ana.get(revised.location))
    assert newest(store, Quote).amount == Decimal(1000)
    new_line = newest(store, Line).id
    path = f"{revised.location.replace('/records/quote', '/quotes')}/lines/{new_line}"
    assert send(ana, revised.location, path, quantity="2", unit_price="100").status_code == 302
    assert newest(store, Quote).amount == Decimal(200)
    assert send(ana, revised.location, path, action="remove").status_code == 302
    assert newest(store, Quote).amount is None
    assert ana.post(path, data={"quantity": "1"}).status_code == 400  # without its token


@pytest.mark.parametrize(
    "line",
    [
        {"text": "Oil", "unit_price": "many"},
        {"text": "", "unit_price": "3"},
        {"text": "Oil", "unit_price": ""},
        {"text": "Oil", "unit_price": "3", "discount": "120"},
        {"product_id": "999"},
    ],
)
def test_a_line_that_says_nothing_is_refused_beside_the_form(
    store: Store, log_in: LogIn, deal: int, line: dict[str, str]
) -> None:
    ana = log_in("Ana")
    begun = send(ana, f"/deals/{deal}", f"/records/deal/{deal}/quotes").location
    refused = send(ana, begun, f"{begun.replace('/records/quote', '/quotes')}/lines", **line)
    assert refused.status_code in {404, 422}
    with store.reading() as session:
        assert session.scalars(select(Line)).all() == []


def test_who_may_not_see_prices_sees_none_on_any_page(store: Store, log_in: LogIn, deal: int) -> None:
    ana = log_in("Ana")
    number = quote_with_pumps(store, ana, deal)
    with store.transaction() as transaction:
        transaction.session.add_all(
            FieldRight(role="analyst", record_type=kind, field=field, read=False, write=False)
            for kind, field in (("line", "unit_price"), ("payment", "amount"), ("quote", "amount"))
        )
    dana = log_in("Dana")
    assert "1,000" not in plain(dana.get(f"/records/quote/{number}"))
    assert dana.get(f"/quotes/{number}/print").status_code == 403
    assert dana.get("/payments/overdue").status_code == 403
    assert "1,000" not in plain(dana.get(f"/records/deal/{deal}/money"))


def test_otto_finds_nothing_of_anas(store: Store, log_in: LogIn, deal: int) -> None:
    number = quote_with_pumps(store, log_in("Ana"), deal, "50")
    otto = log_in("Otto")
    for path in (f"/records/quote/{number}", f"/quotes/{number}/print", f"/records/deal/{deal}/money"):
        assert otto.get(path).status_code == 404
    assert send(otto, "/approvals", f"/quotes/{number}/act", action="ask").status_code == 404


def test_a_contract_is_ended_or_its_renewal_worked_on(store: Store, log_in: LogIn, cast: Cast) -> None:
    with store.transaction() as transaction:
        account = make_account(transaction, owner_id=cast["Ana"].id).id
        contract = make_contract(transaction, account_id=account, value=Decimal(90), currency="EUR").id
    ana, page = log_in("Ana"), f"/records/contract/{contract}"
    begun = send(ana, page, f"/contracts/{contract}/act", action="start_renewal")
    assert begun.location == f"/deals/{newest(store, Deal).id}"
    assert "Deal of the renewal" in plain(ana.get(page))
    assert send(ana, page, f"/contracts/{contract}/act", action="cancel").status_code == 302
    assert newest(store, Contract).status == "cancelled"
    assert send(ana, page, f"/contracts/{contract}/act", action="end").status_code == 422


def test_an_administrator_sets_name_limits_and_reminders(store: Store, log_in: LogIn, cast: Cast) -> None:
    adam = log_in("Adam")
    said = {"company": "Hill", "limit_rep": "5", "limit_manager": "", "reminder_days": "7，3", "version": "0"}
    assert send(adam, "/admin/sales", "/admin/sales", **said).status_code == 302
    with store.reading() as session:
        held = sales_settings(session)
    assert (held.company, held.limits, held.reminder_days) == ("Hill", {"rep": Decimal("0.05")}, (3, 7))
    assert send(adam, "/admin/sales", "/admin/sales", **said).status_code == 422  # an old version
    refused = send(adam, "/admin/sales", "/admin/sales", **{**said, "limit_rep": "200", "version": "1"})
    assert "percentage from 0 to 100" in refused.text
    assert log_in("Mara").get("/admin/sales").status_code == 403
    with store.reading() as session:
        assert list_notifications(session, cast["Ana"].id, limit=1) == []
