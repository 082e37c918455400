"""A small cast of records, each made with one call; anything may be overridden."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any, TypeVar

from crm_core.activities import log_activity
from crm_core.fields import FieldKind, Known, declare_field
from crm_core.records import (
    Account,
    Activity,
    Contact,
    Contract,
    Deal,
    Lead,
    Order,
    Record,
    Team,
    Ticket,
    User,
)
from crm_core.store import Transaction

R = TypeVar("R", bound=Record)


def _make(transaction: Transaction, model: type[R], defaults: dict[str, Any], given: dict[str, Any]) -> R:
    return transaction.create(model(**{**defaults, **given}))


def declare_custom(transaction: Transaction, record_type: str, **kinds: str) -> None:
    """Custom fields, known from the history of the store: `tier="text"`."""
    for name, kind in kinds.items():
        declare_field(
            transaction.session,
            record_type=record_type,
            name=f"custom.{name}",
            kind=FieldKind(kind),
            known=Known.HISTORY,
        )


def make_team(transaction: Transaction, **given: Any) -> Team:
    """A team called North."""
    return _make(transaction, Team, {"name": "North"}, given)


def make_user(transaction: Transaction, name: str = "Ana", **given: Any) -> User:
    """A rep called Ana."""
    email = f"{name.lower()}@example.com"
    return _make(transaction, User, {"name": name, "email": email, "role": "rep"}, given)


def make_account(transaction: Transaction, **given: Any) -> Account:
    """An account called Hill & Sons."""
    return _make(transaction, Account, {"name": "Hill & Sons"}, given)


def make_contact(transaction: Transaction, **given: Any) -> Contact:
    """A contact called Li Wei."""
    return _make(transaction, Contact, {"name": "Li Wei", "email": "li.wei@example.com"}, given)


def make_lead(transaction: Transaction, **given: Any) -> Lead:
    """A lead called Wang Fang, from a web form."""
    defaults = {"name": "Wang Fang", "company": "Fangda Valves", "source": "web_form"}
    return _make(transaction, Lead, defaults, given)


def make_deal(transaction: Transaction, **given: Any) -> Deal:
    """A deal over 12,000 in its first stage."""
    defaults = {
        "name": "Twenty pumps",
        "stage": "first_contact",
        "amount": Decimal(12_000),
        "currency": "EUR",
    }
    return _make(transaction, Deal, defaults, given)


def make_activity(transaction: Transaction, **given: Any) -> Activity:
    """An outbound call of two minutes on whatever record is named."""
    defaults = {"kind": "call", "direction": "outbound", "duration_seconds": 120}
    return log_activity(transaction, Activity(**{**defaults, **given}))


def make_order(transaction: Transaction, **given: Any) -> Order:
    """An order over 500; `account_id` must be given."""
    return _make(transaction, Order, {"amount": Decimal(500), "currency": "EUR"}, given)


def make_contract(transaction: Transaction, **given: Any) -> Contract:
    """A contract for 2026; `account_id` must be given."""
    defaults = {"starts_on": date(2026, 1, 1), "ends_on": date(2026, 12, 31), "value": Decimal(9_000)}
    return _make(transaction, Contract, defaults, given)


def make_ticket(transaction: Transaction, **given: Any) -> Ticket:
    """An open ticket; `account_id` must be given."""
    return _make(transaction, Ticket, {"subject": "Pump leaks", "priority": "normal"}, given)
