"""What can be done with a lead."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from crm_core.errors import InvalidValueError, LeadNotOpenError
from crm_core.records import Account, Contact, Deal, Lead, LeadStatus
from crm_core.store import Transaction
from crm_core.validation import columns_of

R = TypeVar("R", Account, Contact)


def disqualify_lead(
    transaction: Transaction, lead: Lead, *, reason: str, occurred_at: datetime | None = None
) -> None:
    """Close an open lead as one that will not buy."""
    _check_open(lead)
    transaction.update(
        lead,
        {"status": LeadStatus.DISQUALIFIED, "disqualified_reason": reason},
        occurred_at=occurred_at,
    )


def reopen_lead(transaction: Transaction, lead: Lead, *, occurred_at: datetime | None = None) -> None:
    """Open a disqualified lead again; an open one stays as it is, a converted one raises LeadNotOpenError."""
    if lead.status == LeadStatus.CONVERTED:
        raise LeadNotOpenError(lead.id, lead.status)
    values = {"status": LeadStatus.OPEN, "disqualified_reason": None}
    transaction.update(lead, values, occurred_at=occurred_at)


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """What became of a lead."""

    account: Account
    contact: Contact | None
    deal: Deal | None


def convert_lead(
    transaction: Transaction,
    lead: Lead,
    *,
    account: Account | None = None,
    contact: Contact | None = None,
    deal: Deal | None = None,
    occurred_at: datetime | None = None,
    recorded_at: datetime | None = None,
) -> Conversion:
    """Turn an open lead into a customer: its account, its contact if it names a person, and `deal` if given.

    An account or contact that is stored is taken as it is; a new one, or none, is filled from the lead where
    it says nothing. Converting again gives what the first time gave and writes nothing; a disqualified lead
    raises LeadNotOpenError.
    """
    if lead.status == LeadStatus.CONVERTED:
        return _earlier(transaction, lead)
    _check_open(lead)
    happened = occurred_at or transaction.now
    when = {"occurred_at": happened, "recorded_at": recorded_at}
    if account is None or account.id is None:
        account = transaction.create(_filled(account, _account_of(lead, when)))
    if contact is not None or lead.name:
        contact = _contact(transaction, lead, account, contact, when)
    if deal is not None:
        deal = transaction.create(_fit_deal(deal, lead, account, contact, when))
    values = {
        "status": LeadStatus.CONVERTED,
        "converted_at": happened,
        "account_id": account.id,
        "contact_id": contact.id if contact else None,
        "deal_id": deal.id if deal else None,
    }
    transaction.update(lead, values, occurred_at=happened, recorded_at=recorded_at)
    return Conversion(account=account, contact=contact, deal=deal)


def _contact(
    transaction: Transaction, lead: Lead, account: Account, given: Contact | None, when: Mapping[str, Any]
) -> Contact:
    if given is not None and given.id is not None:
        return given
    made = _filled(given, _contact_of(lead, account, when))
    if made.name is None:
        raise InvalidValueError("contact.name", None, "a name: the lead names nobody")
    return transaction.create(made)


def _filled(given: R | None, made: R) -> R:
    """Return a new record with what is said of it, and what the lead says where nothing is."""
    if given is None:
        return made
    for name in columns_of(type(made)):
        if getattr(given, name) is None:
            setattr(given, name, getattr(made, name))
    return given


def _earlier(transaction: Transaction, lead: Lead) -> Conversion:
    session = transaction.session
    return Conversion(
        account=session.get_one(Account, lead.account_id),
        contact=session.get(Contact, lead.contact_id) if lead.contact_id else None,
        deal=session.get(Deal, lead.deal_id) if lead.deal_id else None,
    )


def _check_open(lead: Lead) -> None:
    if lead.status != LeadStatus.OPEN:
        raise LeadNotOpenError(lead.id, lead.status)


def _account_of(lead: Lead, when: Mapping[str, Any]) -> Account:
    return Account(
        name=lead.company or lead.name or f"Lead {lead.id}",
        industry=lead.industry,
        region=lead.region,
        employees=lead.employees,
        phone=lead.phone,
        owner_id=lead.owner_id,
        **when,
    )


def _contact_of(lead: Lead, account: Account, when: Mapping[str, Any]) -> Contact:
    return Contact(
        account_id=account.id,
        name=lead.name,
        email=lead.email,
        phone=lead.phone,
        title=lead.title,
        owner_id=lead.owner_id,
        consent=lead.consent,
        consent_at=lead.consent_at,
        scoring_opt_out=lead.scoring_opt_out,
        **when,
    )


def _fit_deal(
    deal: Deal, lead: Lead, account: Account, contact: Contact | None, when: Mapping[str, Any]
) -> Deal:
    deal.account_id = account.id
    deal.contact_id = contact.id if contact else None
    deal.owner_id = deal.owner_id or lead.owner_id
    deal.source = deal.source or lead.source
    deal.campaign_id = deal.campaign_id or lead.campaign_id
    deal.occurred_at, deal.recorded_at = when["occurred_at"], when["recorded_at"]
    return deal
