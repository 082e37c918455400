"""What can be done with a contract: sign it, renew it, end it.

A contract is there once it is signed: `occurred_at` is when. What is not signed yet is a quote, or the deal
that a renewal is worked on in.
"""

from __future__ import annotations

from calendar import monthrange
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal

from sqlalchemy.orm import Session

from crm_core.approvals import check_value_approved
from crm_core.errors import InvalidValueError
from crm_core.external_ids import find_by_external_id, hold_keys, key_of
from crm_core.numbering import next_number
from crm_core.phrases import Phrase
from crm_core.pipelines import open_stages
from crm_core.records import Account, Contract, ContractStatus, Deal, Order, Quote, QuoteStatus, User
from crm_core.store import Transaction

_DAY = timedelta(days=1)


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What a contract says beside whom it is with; what is None is taken from where it comes from."""

    starts_on: date
    ends_on: date
    value: Decimal | None = None
    signed_at: datetime | None = None
    number: str | None = None


def sign_contract(transaction: Transaction, source: Quote | Order, user: User, terms: Terms) -> Contract:
    """Make the contract of an accepted quote or of an order, for its amount or another value.

    Raises InvalidValueError for a quote that is not accepted or names no customer, and ApprovalNeededError
    where the value lies too far below the list price.
    """
    session = transaction.session
    quote = _quote_of(session, source)
    if isinstance(source, Quote) and source.status != QuoteStatus.ACCEPTED:
        raise InvalidValueError("quote.status", source.status, "an accepted quote")
    value = source.amount if terms.value is None else terms.value
    if quote is not None and value is not None:
        check_value_approved(session, quote, user, value)
    return transaction.create(
        Contract(
            account_id=account_of(session, source),
            deal_id=source.deal_id,
            quote_id=None if quote is None else quote.id,
            number=terms.number or next_number(transaction, Contract),
            starts_on=terms.starts_on,
            ends_on=terms.ends_on,
            value=value,
            currency=source.currency,
            status=ContractStatus.ACTIVE,
            occurred_at=terms.signed_at or transaction.now,
        )
    )


def account_of(session: Session, source: Quote | Order) -> int:
    """Return the customer of a quote or an order, or of its deal."""
    found = source.account_id
    if found is None and source.deal_id is not None:
        found = session.get_one(Deal, source.deal_id).account_id
    if found is None:
        raise InvalidValueError(f"{source.record_type}.account_id", None, "a customer that it is for")
    return found


def _quote_of(session: Session, source: Quote | Order) -> Quote | None:
    if isinstance(source, Quote):
        return source
    return None if source.quote_id is None else session.get(Quote, source.quote_id)


# --------------------------------------------------------------------------------------------- renewing


def renew_contract(transaction: Transaction, contract: Contract, terms: Terms | None = None) -> Contract:
    """Sign the next contract after one that runs, for as long and as much unless `terms` say otherwise.

    The one before is renewed by it. It hangs on the renewal's deal, if there is one. Renewing again gives the
    contract that there is; one that has ended raises InvalidValueError.
    """
    session = transaction.session
    if contract.renewed_by_id is not None:
        return session.get_one(Contract, contract.renewed_by_id)
    if contract.status != ContractStatus.ACTIVE:
        raise InvalidValueError("contract.status", contract.status, "a contract that runs")
    terms = terms or next_terms(contract)
    if terms.starts_on <= contract.starts_on:
        expected = Phrase("a day after {starts_on}", starts_on=contract.starts_on)
        raise InvalidValueError("contract.starts_on", terms.starts_on.isoformat(), expected)
    deal = find_renewal_deal(session, contract)
    renewed = transaction.create(
        Contract(
            account_id=contract.account_id,
            deal_id=None if deal is None else deal.id,
            number=terms.number or next_number(transaction, Contract),
            starts_on=terms.starts_on,
            ends_on=terms.ends_on,
            value=contract.value if terms.value is None else terms.value,
            currency=contract.currency,
            status=ContractStatus.ACTIVE,
            occurred_at=terms.signed_at or transaction.now,
        )
    )
    transaction.update(contract, {"status": ContractStatus.RENEWED, "renewed_by_id": renewed.id})
    return renewed


def next_terms(contract: Contract) -> Terms:
    """Return the terms of a contract that follows another without a gap and lasts as long.

    Where the one before lasted whole months, so does the next; else as many days.
    """
    starts_on = contract.ends_on + _DAY
    months = (starts_on.year - contract.starts_on.year) * 12 + starts_on.month - contract.starts_on.month
    if months > 0 and months_later(contract.starts_on, months) == starts_on:
        return Terms(starts_on=starts_on, ends_on=months_later(starts_on, months) - _DAY)
    return Terms(starts_on=starts_on, ends_on=starts_on + (contract.ends_on - contract.starts_on))


def months_later(day: date, months: int) -> date:
    """Return the same day of a later month, or its last one."""
    month = day.year * 12 + day.month - 1 + months
    year, month = month // 12, month % 12 + 1
    return date(year, month, min(day.day, monthrange(year, month)[1]))


def start_renewal(
    transaction: Transaction, contract: Contract, *, name: str | None = None, owner_id: int | None = None
) -> Deal:
    """Open the deal in which a contract's renewal is worked on; asked again, it is the one that there is.

    Unless said otherwise it belongs to the owner of the contract's deal or customer, and is called like the
    customer and the contract. It is worth what the contract is, and is expected to close on the day on which
    that ends.
    """
    session = transaction.session
    hold_keys(session, [key_of("deal", _renewal_key(contract))])
    found = find_renewal_deal(session, contract)
    if found is not None:
        return found
    account = session.get_one(Account, contract.account_id)
    before = None if contract.deal_id is None else session.get(Deal, contract.deal_id)
    usual = account.owner_id if before is None else before.owner_id or account.owner_id
    return transaction.create(
        Deal(
            external_id=_renewal_key(contract),
            name=(name or f"{account.name} · {contract.number or contract.id}")[:300],
            account_id=account.id,
            stage=open_stages()[0].key,
            amount=contract.value,
            currency=contract.currency,
            owner_id=owner_id or usual,
            source="renewal",
            expected_close_on=contract.ends_on,
        )
    )


def find_renewal_deal(session: Session, contract: Contract) -> Deal | None:
    """Return the deal in which a contract's renewal is worked on."""
    return find_by_external_id(session, Deal, _renewal_key(contract))


def _renewal_key(contract: Contract) -> str:
    return f"renewal:contract:{contract.id}"


# ----------------------------------------------------------------------------------------------- ending


def end_contract(
    transaction: Transaction,
    contract: Contract,
    *,
    cancelled: bool = False,
    ended_at: datetime | None = None,
) -> None:
    """Note that a contract that ran has ended without renewal, or was cancelled."""
    if contract.status != ContractStatus.ACTIVE:
        raise InvalidValueError("contract.status", contract.status, "a contract that runs")
    status = ContractStatus.CANCELLED if cancelled else ContractStatus.ENDED
    ended_at = ended_at or transaction.now
    transaction.update(contract, {"status": status, "ended_at": ended_at}, occurred_at=ended_at)
