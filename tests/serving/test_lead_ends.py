"""What becomes of a lead, on its page: converted, disqualified, opened again; what is refused, and why."""

from __future__ import annotations

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import func, select
from werkzeug.test import TestResponse

from crm_core.access import FieldRight
from crm_core.fields import FieldKind, Known, declare_field
from crm_core.pipelines import open_stages
from crm_core.records import Account, Contact, Deal, Lead
from crm_core.stage_settings import set_stage
from crm_core.store import Store
from tests.factories import make_account, make_lead
from tests.serving.conftest import Cast, csrf_of, logged_in

LogIn = Callable[[str], FlaskClient]
DEAL = {"with_deal": "yes", "deal_name": "Twenty valves", "deal.amount": "12,000", "deal.currency": "eur"}


@pytest.fixture
def log_in(app: Flask, cast: Cast) -> LogIn:
    return lambda name: logged_in(app, cast[name])


@pytest.fixture
def lead(store: Store, cast: Cast) -> int:
    with store.transaction() as transaction:
        return make_lead(transaction, owner_id=cast["Ana"].id, source="web_form", phone="+86 1").id


def send(client: FlaskClient, lead: int, verb: str, **data: str) -> TestResponse:
    page = client.get(f"/leads/{lead}").text
    return client.post(f"/leads/{lead}/{verb}", data={"csrf_token": csrf_of(page), **data})


def only(store: Store, model: Any) -> Any:
    with store.reading() as session:
        found = session.scalars(select(model)).one()
        session.expunge(found)
        return found


def count(store: Store, model: Any) -> int:
    with store.reading() as session:
        return session.scalar(select(func.count()).select_from(model)) or 0


def told(response: TestResponse) -> str:
    """Return why something was refused."""
    found = re.search(r'role="alert">([^<]*)<', response.text)
    assert found is not None, response.text
    return found[1]


def test_a_lead_becomes_a_customer_a_contact_and_a_deal(
    store: Store, log_in: LogIn, cast: Cast, lead: int
) -> None:
    ana = log_in("Ana")
    answer = send(ana, lead, "convert", **DEAL)
    deal, account, contact = (only(store, model) for model in (Deal, Account, Contact))
    assert (answer.status_code, answer.location) == (302, f"/deals/{deal.id}")
    assert (deal.name, deal.amount, deal.currency, deal.source) == (
        "Twenty valves", Decimal(12_000), "EUR", "web_form",
    )  # fmt: skip
    assert (account.name, contact.name, deal.account_id, deal.contact_id) == (
        "Fangda Valves", "Wang Fang", account.id, contact.id,
    )  # fmt: skip
    assert {deal.owner_id, account.owner_id, contact.owner_id} == {cast["Ana"].id}
    page = ana.get(f"/leads/{lead}").text
    for path in (f"/deals/{deal.id}", f"/customers/{account.id}", f"/contacts/{contact.id}"):
        assert f'href="{path}"' in page[page.index('id="end"') :], path
    assert f"/leads/{lead}/convert" not in page


def test_a_manager_who_converts_it_leaves_it_with_its_owner(
    store: Store, log_in: LogIn, cast: Cast, lead: int
) -> None:
    send(log_in("Mara"), lead, "convert", **DEAL)
    assert {only(store, model).owner_id for model in (Deal, Account, Contact)} == {cast["Ana"].id}


def test_it_joins_a_customer_that_there_is_and_needs_no_deal(
    store: Store, log_in: LogIn, cast: Cast, lead: int
) -> None:
    with store.transaction() as transaction:
        known = make_account(transaction, owner_id=cast["Ana"].id, name="Fangda").id
    answer = send(log_in("Ana"), lead, "convert", customer=f"Fangda #{known}")
    assert answer.location == f"/customers/{known}"
    assert (only(store, Contact).account_id, count(store, Deal)) == (known, 0)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"customer": "Nobody at all"}, "Customer"),
        ({"customer": "Foreign #1"}, "Customer"),
        ({**DEAL, "deal.amount": "NaN"}, "Amount"),
        ({**DEAL, "deal.currency": ""}, "Currency"),
        ({**DEAL, "deal.currency": "euros"}, "Currency"),
    ],
)
def test_what_cannot_be_is_refused_and_kept_as_typed(
    store: Store, log_in: LogIn, cast: Cast, lead: int, given: dict[str, str], why: str
) -> None:
    with store.transaction() as transaction:
        make_account(transaction, owner_id=cast["Otto"].id, name="Foreign")
    answer = send(log_in("Ana"), lead, "convert", **{"deal_name": "As typed", **given})
    assert (answer.status_code, told(answer).split(":")[0]) == (422, why)
    assert f'value="{given.get("deal_name", "As typed")}"' in answer.text
    assert (only(store, Lead).status, count(store, Contact)) == ("open", 0)


def test_what_the_first_stage_and_the_company_require_is_asked_for(
    store: Store, log_in: LogIn, cast: Cast, lead: int
) -> None:
    with store.transaction() as transaction:
        for record_type, name in (("account", "custom.sector"), ("deal", "custom.rival")):
            declare_field(
                transaction.session, record_type=record_type, name=name, kind=FieldKind.TEXT,
                known=Known.HISTORY, label_en=name[7:].title(), required=True,
            )  # fmt: skip
        first = replace(open_stages()[0], required=("expected_close_on",))
        set_stage(transaction, cast["Adam"], "default", first)
    ana = log_in("Ana")
    page = ana.get(f"/leads/{lead}").text
    needed = {
        "account.custom.sector": "pumps",
        "deal.custom.rival": "Acme",
        "deal.expected_close_on": "2026-09-01",
    }
    assert all(f'name="{name}"' in page for name in needed)
    assert told(send(ana, lead, "convert", **DEAL)) == "Please check: Sector"
    for left_out in ("deal.custom.rival", "deal.expected_close_on"):
        some = {name: value for name, value in needed.items() if name != left_out}
        assert send(ana, lead, "convert", **DEAL, **some).status_code == 422, left_out
    assert count(store, Account) == 0
    assert send(ana, lead, "convert", **DEAL, **needed).status_code == 302
    assert only(store, Account).custom == {"sector": "pumps"}
    assert (only(store, Deal).custom, str(only(store, Deal).expected_close_on)) == (
        {"rival": "Acme"}, "2026-09-01",
    )  # fmt: skip


def test_it_is_disqualified_with_a_reason_and_opened_again(store: Store, log_in: LogIn, lead: int) -> None:
    ana = log_in("Ana")
    assert "cannot be empty" in told(send(ana, lead, "disqualify", reason="  "))
    assert send(ana, lead, "disqualify", reason="no budget").status_code == 302
    assert (only(store, Lead).status, only(store, Lead).disqualified_reason) == ("disqualified", "no budget")
    assert "No budget" in ana.get(f"/leads/{lead}").text
    assert send(ana, lead, "convert", **DEAL).status_code == 409
    assert send(ana, lead, "reopen").status_code == 302
    assert (only(store, Lead).status, only(store, Lead).disqualified_reason) == ("open", None)


def test_who_comes_second_is_told_and_makes_nothing(store: Store, log_in: LogIn, lead: int) -> None:
    ana, mara = log_in("Ana"), log_in("Mara")
    opened = csrf_of(mara.get(f"/leads/{lead}").text)
    send(ana, lead, "convert", **DEAL)
    second = mara.post(f"/leads/{lead}/convert", data={**DEAL, "csrf_token": opened, "deal_name": "Another"})
    assert second.location == f"/deals/{only(store, Deal).id}"
    assert "It was converted already." in mara.get(second.location).text
    late = mara.post(f"/leads/{lead}/disqualify", data={"csrf_token": opened, "reason": "no need"})
    assert late.status_code == 409
    assert "Converted" in told(late)


def test_two_at_once_make_one_customer(store: Store, log_in: LogIn, lead: int) -> None:
    people = [log_in(name) for name in ("Ana", "Mara")]
    forms = [{**DEAL, "csrf_token": csrf_of(each.get(f"/leads/{lead}").text)} for each in people]
    with ThreadPoolExecutor(2) as pool:
        answers = list(
            pool.map(lambda who, form: who.post(f"/leads/{lead}/convert", data=form), people, forms)
        )
    assert {answer.location for answer in answers} == {f"/deals/{only(store, Deal).id}"}
    assert (count(store, Account), count(store, Contact)) == (1, 1)


def test_only_what_somebody_may_do_is_offered_and_done(store: Store, log_in: LogIn, lead: int) -> None:
    for name, status in (("Dana", 403), ("Otto", 404)):
        client = log_in(name)
        page = client.get(f"/leads/{lead}")
        assert 'id="end"' not in page.text, name
        token = csrf_of(client.get("/leads").text)
        for verb in ("convert", "disqualify", "reopen"):
            answer = client.post(f"/leads/{lead}/{verb}", data={"csrf_token": token, "reason": "x"})
            assert answer.status_code == status, (name, verb)
    with store.transaction() as transaction:
        transaction.session.add(
            FieldRight(role="rep", record_type="lead", field="disqualified_reason", read=True, write=False)
        )
    ana = log_in("Ana")
    assert f"/leads/{lead}/disqualify" not in ana.get(f"/leads/{lead}").text
    assert send(ana, lead, "disqualify", reason="no need").status_code == 403
    assert only(store, Lead).status == "open"
