"""What can be done with a lead."""

from __future__ import annotations

from datetime import datetime

from crm_core.errors import LeadNotOpenError
from crm_core.records import Account, Contact, Lead, LeadStatus
from crm_core.store import Transaction


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


def convert_lead(
    transaction: Transaction,
    lead: Lead,
    *,
    occurred_at: datetime | None = None,
    recorded_at: datetime | None = None,
    account: Account | None = None,
) -> Account:
    """Turn an open lead into a customer; return its account, made from the lead unless given.

    A lead that names a person also becomes a contact of the account.
    """
    _check_open(lead)
    happened = occurred_at or transaction.now
    if account is None:
        account = transaction.create(_account_of(lead, happened, recorded_at))
    contact = None
    if lead.name:
        contact = transaction.create(_contact_of(lead, account, happened, recorded_at))
    values = {
        "status": LeadStatus.CONVERTED,
        "converted_at": happened,
        "account_id": account.id,
        "contact_id": contact.id if contact else None,
    }
    transaction.update(lead, values, occurred_at=happened, recorded_at=recorded_at)
    return account


def _check_open(lead: Lead) -> None:
    if lead.status != LeadStatus.OPEN:
        raise LeadNotOpenError(lead.id, lead.status)


def _account_of(lead: Lead, occurred_at: datetime, recorded_at: datetime | None) -> Account:
    return Account(
        name=lead.company or lead.name or f"Lead {lead.id}",
        industry=lead.industry,
        region=lead.region,
        employees=lead.employees,
        phone=lead.phone,
        owner_id=lead.owner_id,
        occurred_at=occurred_at,
        recorded_at=recorded_at,
    )


def _contact_of(lead: Lead, account: Account, occurred_at: datetime, recorded_at: datetime | None) -> Contact:
    return Contact(
        account_id=account.id,
        name=lead.name,
        email=lead.email,
        phone=lead.phone,
        title=lead.title,
        owner_id=lead.owner_id,
        occurred_at=occurred_at,
        recorded_at=recorded_at,
    )
