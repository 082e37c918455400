"""For every record type, a body that creates one and a change to it: made by hand, as programs send them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from crm_core.record_types import declare_record_type
from crm_core.records import Campaign, Product
from crm_core.store import Store
from serving.api.records_schemas import COLLECTIONS
from tests.factories import (
    declare_custom,
    make_account,
    make_contact,
    make_deal,
    make_lead,
    make_order,
)


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A body that creates a record, and one that changes it."""

    body: dict[str, Any]
    change: dict[str, Any]


def make_samples(store: Store, owner_id: int | None) -> dict[str, Sample]:
    """Make what records point at, all of one owner, and return a sample of every record type."""
    with store.transaction() as transaction:
        session = transaction.session
        declare_record_type(session, name="machine", label_en="Machine", label_zh="机器", links=("account",))
        for record_type in (*(name for name in COLLECTIONS if name != "custom_record"), "machine"):
            declare_custom(transaction, record_type, note="text", size="money")
        account = make_account(transaction, owner_id=owner_id).id
        contact = make_contact(transaction, owner_id=owner_id, account_id=account).id
        lead = make_lead(transaction, owner_id=owner_id).id
        deal = make_deal(transaction, owner_id=owner_id, account_id=account).id
        order = make_order(transaction, account_id=account).id
        campaign = transaction.create(Campaign(name="Fair")).id
        product = transaction.create(Product(name="Pump")).id
    money = {"amount": "1200.5", "currency": "EUR"}
    about = {"subject_type": "account", "subject_id": account}
    return {
        "team": Sample(body={"name": "West"}, change={"name": "Far West"}),
        "user": Sample(
            body={"name": "Eve", "email": "eve@example.com", "role": "rep"}, change={"language": "zh"}
        ),
        "campaign": Sample(body={"name": "Mail", "budget": "100"}, change={"cost": "99.5"}),
        "account": Sample(body={"name": "Hill"}, change={"employees": 40}),
        "contact": Sample(body={"name": "Li", "account_id": account}, change={"title": "Buyer"}),
        "product": Sample(body={"name": "Valve", "price": "9.99"}, change={"active": False}),
        "deal": Sample(
            body={"name": "Pumps", **money, "account_id": account, "expected_close_on": "2026-05-01"},
            change={"stage": "needs", "rep_probability": 0.5},
        ),
        "lead": Sample(body={"company": "Fangda"}, change={"phone": "+49 30 1"}),
        "campaign_member": Sample(
            body={"campaign_id": campaign, "lead_id": lead}, change={"response": "clicked"}
        ),
        "quote": Sample(
            body={"number": "Q1", "deal_id": deal, **money}, change={"status": "sent", "discount": 0.1}
        ),
        "order": Sample(body={"account_id": account, **money}, change={"number": "O1"}),
        "line": Sample(body={"order_id": order, "product_id": product}, change={"quantity": 3}),
        "contract": Sample(
            body={"account_id": account, "starts_on": "2026-01-01", "ends_on": "2026-12-31"},
            change={"value": "9000"},
        ),
        "payment": Sample(body={"account_id": account, **money}, change={"due_on": "2026-04-01"}),
        "ticket": Sample(
            body={"account_id": account, "subject": "Leaks", "contact_id": contact},
            change={"priority": "high"},
        ),
        "article": Sample(
            body={"title": "Leaks", "body": "Tighten *all* screws.", "language": "en"},
            change={"state": "published"},
        ),
        "activity": Sample(body={"kind": "call", "lead_id": lead}, change={"outcome": "reached"}),
        "comment": Sample(body={"body": "Nice", **about}, change={"body": "Very nice"}),
        "attachment": Sample(
            body={"name": "offer.pdf", "uri": "https://files.example/1", **about}, change={"size": 7}
        ),
        "tag": Sample(body={"word": "vip", **about}, change={"word": "VIP"}),
        "custom_record": Sample(body={"name": "Press 4", "account_id": account}, change={"name": "Press 5"}),
    }


def path_of(record_type: str) -> str:
    """Return where the records of a type are; of a declared one, a machine."""
    return "/api/v1/" + COLLECTIONS[record_type].path.replace("<string:type>", "machine")
