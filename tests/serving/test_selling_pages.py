"""The pages of selling: from the first line of a quote to the last payment, and what they refuse."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
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
from crm_core.deals import close_deal
from crm_core.errors import AccessDeniedError, InvalidValueError
from crm_core.jobs import Job
from crm_core.notifications import list_notifications
from crm_core.records import Activity, Contract, Deal, Line, Order, Payment, Product, Quote, User
from crm_core.sales_settings import sales_settings
from crm_core.store import Store
from serving.job_handlers import handlers
from serving.jobs import JobRunner
from serving.quote_mail import letter_of, mail_quote
from serving.selling import Seller
from serving.selling_day import do_day, schedule_day
from serving.settings import Settings
from tests.factories import make_account, make_contract, make_deal
from tests.serving.conftest import Cast, csrf_of, logged_in
from tests.serving.test_today import counted

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
    assert "Overdue amount €500" in sums
    assert "Received €300" in sums
    for page_of in (f"/deals/{deal}", f"/customers/{contract.account_id}"):
        happened = plain(log_in("Ana").get(f"{page_of}?kinds=sales"))
        for told in ("Waits for approval", "Approved", "Sent", "Accepted"):
            assert f"Quote Q-2026-0001: {told}" in happened
        for told in ("Contract: C-2026-0001", "Payment received: €240", "Payment received: €60"):
            assert told in happened
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


# ------------------------------------------------------------------------------------------------- process


def test_a_checklist_holds_a_deal_back_until_it_is_ticked(store: Store, log_in: LogIn, deal: int) -> None:
    adam, ana = log_in("Adam"), log_in("Ana")
    said = {
        "version": "0",
        "name_en": "First contact",
        "name_zh": "初步接触",
        "rotting_days": "14",
        "checklist": "! Budget asked\nRivals named",
    }
    assert send(adam, "/admin/pipelines", "/admin/pipelines/default/first_contact", **said).status_code == 302
    needs = {
        **said,
        "name_en": "Needs",
        "name_zh": "需求",
        "checklist": "",
        "playbook": "3: Send the brochure",
    }
    assert send(adam, "/admin/pipelines", "/admin/pipelines/default/needs", **needs).status_code == 302
    assert "3: Send the brochure" in adam.get("/admin/pipelines").text
    page = f"/deals/{deal}"
    held = send(ana, page, f"{page}/stage", stage="needs")
    assert "Before the deal moves on: Budget asked" in plain(ana.get(held.location))
    key = re.findall(r'name="key" value="(\w+)"', ana.get(f"{page}/checklist").text)[0]
    assert send(ana, page, f"{page}/checklist", key=key, done="yes").status_code == 302
    assert "Checklist : Budget asked" in plain(ana.get(page)).replace("Checklist:", "Checklist :")
    assert send(ana, page, f"{page}/stage", stage="needs").status_code == 302
    shown = plain(ana.get(page))
    assert newest(store, Deal).stage == "needs"
    assert "Send the brochure" in shown
    assert send(ana, page, f"{page}/checklist", key=key).status_code == 404  # it is in another stage


def test_a_meeting_is_logged_with_its_next_steps_in_one_form(store: Store, log_in: LogIn, deal: int) -> None:
    ana, page = log_in("Ana"), f"/records/deal/{deal}/meeting"
    said = {"subject": "Kick-off", "body": "They want two.", "minutes": "30"}
    steps = {
        "step": ["Offer two", "", "Ask for drawings"],
        "step_owner": ["", "", ""],
        "step_due": ["2026-03-09T10:00", "", ""],
    }
    done = send(ana, page, page, **said, **steps)
    shown = plain(ana.get(done.location))
    assert "Logged, with 2 next steps." in shown
    for text in ("Kick-off", "They want two.", "Offer two", "Ask for drawings"):
        assert text in shown
    bad = send(ana, page, page, occurred_at="yesterday", body="kept")
    assert bad.status_code == 422
    assert "kept" in bad.text
    assert log_in("Dana").get(page).status_code == 403


def test_the_day_lets_quotes_expire_reminds_and_makes_the_next_day(
    store: Store, cast: Cast, clock: FixedClock, settings: Settings
) -> None:
    with store.transaction() as transaction:
        account = make_account(transaction, owner_id=cast["Ana"].id).id
        transaction.create(
            Payment(account_id=account, amount=Decimal(5), currency="EUR", due_on=date(2026, 3, 2))
        )
        offer = {"number": "Q9", "status": "sent", "valid_until": date(2026, 3, 2)}
        transaction.create(Quote(**offer, owner_id=cast["Ana"].id))
    schedule_day(settings, store)
    schedule_day(settings, store)
    clock.advance(timedelta(days=1))
    runner = JobRunner(store, handlers(settings))
    while runner.run_once():
        pass
    assert newest(store, Quote).status == "expired"
    with store.reading() as session:
        told = list_notifications(session, cast["Ana"].id, limit=9)
        assert [(each.text, each.params) for each in told] == [("payment_late", {"days": 1, "level": 1})]
        jobs = session.scalars(select(Job).where(Job.kind == "selling_day").order_by(Job.run_at)).all()
        assert [(job.state, job.run_at.day) for job in jobs] == [("done", 2), ("waiting", 4)]
    assert do_day(store) == {"expired": 0, "reminded": 0}


def test_a_day_is_over_where_we_work(store: Store, cast: Cast, clock: FixedClock) -> None:
    with store.transaction() as transaction:
        last = date(2026, 3, 2)
        transaction.create(Quote(number="Q9", status="sent", valid_until=last, owner_id=cast["Ana"].id))
        account = make_account(transaction, owner_id=cast["Ana"].id).id
        transaction.create(Payment(account_id=account, amount=Decimal(5), currency="EUR", due_on=last))
    clock.set(datetime(2026, 3, 2, 22, 30, tzinfo=UTC))
    assert do_day(store) == {"expired": 0, "reminded": 0}
    store.zone = "Asia/Shanghai"  # as the settings say, where no week was set
    assert do_day(store) == {"expired": 1, "reminded": 1}


def test_a_quote_that_is_sent_by_mail_says_what_it_is_once(
    store: Store, log_in: LogIn, deal: int, cast: Cast
) -> None:
    number = quote_with_pumps(store, log_in("Ana"), deal, "5")
    with store.transaction(actor_id=cast["Ana"].id) as transaction:
        seller = Seller(transaction=transaction, user=cast["Ana"])
        seller.send(int(number), mail_to="wang@fangda.example")
        quote = transaction.get(Quote, int(number))
        subject, text = letter_of(transaction, cast["Ana"], quote, "en")
        assert not mail_quote(transaction, cast["Ana"], quote, "wang@fangda.example").fresh
        line = transaction.session.scalars(select(Line).where(Line.quote_id == quote.id)).one()
        line.unit_price = Decimal("0.0125")
        fine = letter_of(transaction, cast["Ana"], quote, "en")[1]
        transaction.session.refresh(line)
    assert "10 x Pump: 0.0125 EUR" in fine
    assert subject == "Quote Q-2026-0001"
    assert "10 x Pump: 100.00 EUR (-5 %) = 950.00 EUR" in text
    assert "Amount: 950.00 EUR" in text
    with store.reading() as session:
        jobs = session.scalars(select(Job).where(Job.kind == "mail")).all()
        assert [(job.payload["to"], job.payload["subject"]) for job in jobs] == [
            ("wang@fangda.example", "Quote Q-2026-0001")
        ]
        logged = session.scalars(select(Activity).where(Activity.kind == "mail")).one()
        assert (logged.deal_id, logged.subject) == (deal, "Quote Q-2026-0001")
        (page,) = jobs[0].payload["attachments"]
    assert (page["name"], page["subtype"]) == ("Q-2026-0001.html", "html")
    said = re.sub(r"\s+", " ", re.sub(r"<style>.*?</style>|<[^>]+>", " ", page["text"], flags=re.DOTALL))
    assert "Quote Q-2026-0001 To Fangda Date 2026-03-02" in said
    assert "1 Pump 10 100.00 EUR 5 % 950.00 EUR Amount 950.00 EUR" in said
    assert not re.search(r"https?:|src=|<link|<script", page["text"]), "it needs no network"
    with store.transaction() as transaction:
        other = transaction.create(Quote(number="X", owner_id=cast["Ana"].id, amount=Decimal(5)))
        with pytest.raises(InvalidValueError, match="a deal or a customer"):
            mail_quote(transaction, cast["Ana"], other, "wang@fangda.example")


def test_nobody_mails_prices_that_they_may_not_see(
    store: Store, log_in: LogIn, deal: int, cast: Cast
) -> None:
    number = quote_with_pumps(store, log_in("Ana"), deal, "5")
    with store.transaction() as transaction:
        hidden = FieldRight(role="rep", record_type="line", field="unit_price", read=False, write=False)
        transaction.session.add(hidden)
    with store.transaction(actor_id=cast["Ana"].id) as transaction:
        seller = Seller(transaction=transaction, user=cast["Ana"])
        with pytest.raises(AccessDeniedError, match="what it would mail"):
            seller.send(int(number), mail_to="ana@example.com")


def test_who_approves_is_told_and_sees_on_today_what_waits(store: Store, log_in: LogIn, deal: int) -> None:
    ana, mara = log_in("Ana"), log_in("Mara")
    with store.transaction() as transaction:
        close_deal(transaction, make_deal(transaction), won=True, as_it_was=True)
    asked = []
    for _ in range(4):
        number = quote_with_pumps(store, ana, deal, "50")
        send(ana, f"/records/quote/{number}", f"/quotes/{number}/act", action="ask", note="Big")
        asked.append(number)
    mara.get("/today")
    with counted(store) as sent:
        page = mara.get("/today").text
    reads = [each for each in sent if each.lstrip().upper().startswith(("SELECT", "WITH"))]
    assert len(reads) <= 12, "\n".join(re.sub(r"\s+", " ", each)[:160] for each in reads)
    waiting = page[page.index("waiting-title") : page.index("</section>")]
    assert re.findall(r'href="/records/quote/(\d+)"', waiting) == asked[:3]
    assert "Decide these and more" in waiting
    assert 'href="/approvals"' in waiting
    with store.reading() as session:
        who = session.scalars(select(User.id).where(User.name == "Mara")).one()
        told = list_notifications(session, who, limit=9)
        assert [each.text for each in told] == ["approval_asked"] * 4
    assert all("waiting-title" not in log_in(name).get("/today").text for name in ("Ana", "Otto", "Adam"))
    for number in asked:
        send(mara, "/approvals", f"/approvals/{number}/decide", decision="approve")
    assert "waiting-title" not in mara.get("/today").text


def test_payments_and_lines_are_called_by_what_they_are_of(
    store: Store, app: Flask, log_in: LogIn, deal: int, cast: Cast
) -> None:
    with store.transaction() as transaction:
        sold = transaction.get(Deal, deal)
        about: dict[str, Any] = {"account_id": sold.account_id, "deal_id": deal}
        order = transaction.create(Order(**about, number="O1", currency="EUR"))
        due = {"due_on": date(2026, 5, 1), "currency": "EUR", "order_id": order.id}
        part = transaction.create(Payment(**about, **due, amount=Decimal(320), part=2))
        transaction.create(Payment(**about, amount=Decimal(7), currency="EUR", reference="TT-7"))
        product = newest(store, Product).id
        for text in (None, "Pump, installed"):
            transaction.create(Line(order_id=order.id, product_id=product, quantity=3, text=text))
    ana, chinese = log_in("Ana"), logged_in(app, cast["Ana"], "zh")
    for client, said in (
        (ana, ("Part 2 · €320 · due on May 1, 2026", "Pump × 3", "Pump, installed × 3", "Part 2 · €320")),
        (
            chinese,
            ("第 2 期 · €320 · 2026年5月1日 到期", "Pump × 3", "Pump, installed × 3", "第 2 期 · €320"),
        ),
    ):
        page = plain(client.get(f"/records/order/{order.id}"))
        assert [each for each in said if each not in page] == []
        assert (
            said[0]
            in re.findall(r"<h1[^>]*>(.*?)</h1>", client.get(f"/records/payment/{part.id}").text, re.DOTALL)[
                0
            ]
        )
        assert said[3] in plain(client.get(f"/deals/{deal}")), "on the timeline"
        assert "TT-7 · €7" in plain(client.get(f"/deals/{deal}"))
        assert said[2] in plain(client.get("/search?q=installed"))
    with store.transaction() as transaction:
        for kind, field in (("payment", "amount"), ("line", "product_id")):
            transaction.session.add(
                FieldRight(role="rep", record_type=kind, field=field, read=False, write=False)
            )
    page = plain(ana.get(f"/records/order/{order.id}"))
    assert "Part 2 · due on May 1, 2026" in page
    assert ("320" in page, "Pump × 3" in page, "Pump, installed × 3" in page) == (False, False, True)
