"""What can be done with a quote: write its lines, send it, and note what the customer said.

    draft ── send ──> sent ── accept ──> accepted ──> an order, and a contract
                       ├── reject ──> rejected
                       ├── its last day is over ──> expired
                       └── revise ──> superseded, and the next revision is a draft

The amount follows the lines (`crm_core.totals`) and is written with every change of them. Only a draft can be
changed; to change what was sent, it is revised: the next revision has the same number. A quote that gives too
much away needs an approval before it is sent, and loses it with any change (`crm_core.approvals`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any, Final

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from crm_core.access import Reader
from crm_core.approvals import check_approved, lapse_approval
from crm_core.bulk import Update
from crm_core.contracts import Terms, account_of, sign_contract
from crm_core.errors import AccessDeniedError, InvalidValueError, QuoteStateError, RecordNotFoundError
from crm_core.external_ids import hold_keys
from crm_core.numbering import next_number
from crm_core.offers import lines_of, read_offer
from crm_core.phrases import Phrase
from crm_core.records import Contract, Deal, DealStatus, Line, Order, Product, Quote, QuoteStatus, User
from crm_core.store import Transaction
from crm_core.working_time import working_time

COPIED: Final = ("product_id", "text", "quantity", "unit_price", "list_price", "discount")
"""What a line takes along to the next revision and to the order."""

_READ: Final = frozenset({"account_id", "currency", "discount", "terms", "valid_until"})
"""What a customer reads on a quote, beside its lines."""

_BY_VERBS: Final = frozenset({"number", "revision", "sent_at", "decided_at", "approval", "rejected_reason"})


# --------------------------------------------------------------------------------------------- drafting


def write_quote(transaction: Transaction, quote: Quote) -> Quote:
    """Store a new quote: with the next number where it has none, and with what its deal says."""
    if quote.deal_id is not None:
        deal = transaction.session.get_one(Deal, quote.deal_id)
        quote.account_id = quote.account_id or deal.account_id
        quote.currency = quote.currency or deal.currency
    number: str | None = quote.number
    if number is None:
        quote.number = next_number(transaction, Quote)
    return transaction.create(quote)


def edit_quote(transaction: Transaction, quote: Quote, values: Mapping[str, Any], user: User) -> None:
    """Set fields of a quote; a status by what leads to it.

    Raises QuoteStateError for what a customer reads of a quote that is no draft, and InvalidValueError for an
    amount that follows the lines, or a currency that is not theirs.
    """
    rest = {name: value for name, value in values.items() if name != "status"}
    _check_fields(rest)
    if rest.keys() & {*_READ, "amount"}:
        _check_draft(quote)
    if rest.keys() & {"amount", "currency"} and lines_of(transaction.session, quote):
        name = "amount" if "amount" in rest else "currency"
        raise InvalidValueError(f"quote.{name}", str(rest[name]), "nothing: it is that of the lines")
    if rest:
        transaction.update(quote, rest)
    if rest.keys() & {*_READ, "amount"}:
        _follow_lines(transaction, quote)
    if "status" in values:
        _set_status(transaction, quote, values["status"], user)


def _check_fields(values: Mapping[str, Any]) -> None:
    for name in values.keys() & _BY_VERBS:
        raise InvalidValueError(f"quote.{name}", str(values[name]), "nothing: it follows from what is done")


def _set_status(transaction: Transaction, quote: Quote, status: str, user: User) -> None:
    match status:
        case QuoteStatus.SENT:
            send_quote(transaction, quote, user)
        case QuoteStatus.ACCEPTED:
            _accept(transaction, quote, user)
        case QuoteStatus.REJECTED:
            reject_quote(transaction, quote)
        case _:
            expected = "sent, accepted or rejected: the others follow from what is done"
            raise InvalidValueError("quote.status", status, expected)


def add_line(transaction: Transaction, line: Line) -> Line:
    """Store a new line of a quote or an order, a product at its list price unless the line says another."""
    quote = _draft_of(transaction, line)
    _fill(transaction.session, line, quote)
    written = transaction.create(line)
    if quote is not None:
        _follow_lines(transaction, quote)
    return written


def change_line(transaction: Transaction, line: Line, values: Mapping[str, Any]) -> None:
    """Set fields of a line; the amount of its quote follows."""
    quote = _draft_of(transaction, line)
    for name in values.keys() & {"quote_id", "order_id", "list_price"}:
        raise InvalidValueError(f"line.{name}", values[name], "nothing: it stays as it was written")
    if quote is None:
        transaction.update(line, values)
        return
    said = {**{name: getattr(line, name) for name in COPIED}, **values}
    if "product_id" in values:
        said["list_price"] = None
        said["unit_price"] = values.get("unit_price")
    wanted = Line(quote_id=quote.id, **{name: said[name] for name in COPIED})
    _fill(transaction.session, wanted, quote)
    custom = {name: value for name, value in values.items() if name not in COPIED}
    transaction.update(line, {**{name: getattr(wanted, name) for name in COPIED}, **custom})
    _follow_lines(transaction, quote)


def remove_line(transaction: Transaction, line: Line) -> None:
    """Delete a line; the amount of its quote follows."""
    quote = _draft_of(transaction, line)
    transaction.delete(line)
    if quote is not None:
        _follow_lines(transaction, quote)


def _draft_of(transaction: Transaction, line: Line) -> Quote | None:
    """Return the quote of a line, locked, which must be a draft; None for a line of an order."""
    if line.quote_id is None:
        return None
    if line.order_id is not None:
        raise InvalidValueError("line.order_id", line.order_id, "nothing beside a quote_id")
    quote = transaction.get(Quote, line.quote_id)
    _check_draft(quote)
    return quote


def _fill(session: Session, line: Line, quote: Quote | None) -> None:
    """Take from the price list what a line does not say; a line of a quote must come to something."""
    if line.product_id is not None:
        product = session.get(Product, line.product_id)
        if product is None or product.deleted_at is not None:
            raise RecordNotFoundError("product", line.product_id)
        if quote is not None:
            _take_price(line, product, quote)
    if quote is None:
        return
    if line.product_id is None and not (line.text or "").strip():
        raise InvalidValueError("line.text", line.text, "a product, or what it is about")
    if line.unit_price is None:
        raise InvalidValueError("line.unit_price", None, "a price: the price list has none")


def _take_price(line: Line, product: Product, quote: Quote) -> None:
    if line.list_price is None and _is_other(product.currency, quote.currency):
        if line.unit_price is None:
            expected = Phrase("a product priced in {currency}, or a price", currency=quote.currency)
            raise InvalidValueError("line.product_id", product.currency, expected)
        return  # its list price says nothing in another currency
    if line.list_price is None:
        line.list_price = product.price
    if line.unit_price is None:
        line.unit_price = line.list_price


def _is_other(one: str | None, other: str | None) -> bool:
    return one is not None and other is not None and one != other


def _follow_lines(transaction: Transaction, quote: Quote) -> None:
    """Write what the lines come to, and take back an approval of what the quote was before."""
    transaction.session.flush()
    offer = read_offer(transaction.session, quote)
    if offer.lines:
        transaction.update(quote, {"amount": offer.totals.amount})
    elif _had_lines(transaction.session, quote):
        transaction.update(quote, {"amount": None})
    lapse_approval(transaction, quote)


def _had_lines(session: Session, quote: Quote) -> bool:
    return session.scalar(select(Line.id).where(Line.quote_id == quote.id).limit(1)) is not None


def _check_draft(quote: Quote) -> None:
    if quote.status != QuoteStatus.DRAFT:
        raise QuoteStateError(quote.id, quote.status, "a draft; revise it to change what was sent")


# ---------------------------------------------------------------------------------------------- sending


def send_quote(transaction: Transaction, quote: Quote, user: User) -> None:
    """Note that a draft goes to the customer now.

    Raises InvalidValueError for a quote that says nothing or is over already, ApprovalNeededError for one
    that gives too much away.
    """
    _check_draft(quote)
    session = transaction.session
    offer = read_offer(session, quote)
    if not offer.lines and quote.amount is None:
        raise InvalidValueError("quote.lines", 0, "at least one line")
    if offer.lines and quote.currency is None:
        raise InvalidValueError("quote.currency", None, "a currency")
    if quote.valid_until is not None and quote.valid_until < today(transaction):
        raise InvalidValueError("quote.valid_until", quote.valid_until.isoformat(), "a day to come")
    check_approved(session, quote, user, offer)
    transaction.update(quote, {"status": QuoteStatus.SENT, "sent_at": transaction.now})


def revise_quote(transaction: Transaction, quote: Quote) -> Quote:
    """Return the next revision of a quote that went out, a draft with the same number and lines.

    What was sent is superseded by it; what was rejected or has expired stays so. Raises QuoteStateError for a
    draft, for what was accepted, and where there is a later revision already.
    """
    session = transaction.session
    hold_keys(session, [f"quote.number:{quote.number}"])
    wanted = {QuoteStatus.SENT, QuoteStatus.REJECTED, QuoteStatus.EXPIRED}
    last = session.scalar(
        select(func.max(Quote.revision)).where(
            Quote.number == quote.number,
            Quote.account_id.is_not_distinct_from(quote.account_id),
            Quote.deal_id.is_not_distinct_from(quote.deal_id),
            Quote.deleted_at.is_(None),
        )
    )
    if quote.status not in wanted or quote.revision != last:
        expected = "the newest revision of one that was sent, rejected or has expired"
        raise QuoteStateError(
            quote.id,
            Phrase("{quote_status}, revision {revision}", quote_status=quote.status, revision=quote.revision),
            expected,
        )
    kept = ("account_id", "deal_id", "owner_id", "number", "currency", "discount", "terms", "amount")
    made = transaction.create(
        Quote(
            **{name: getattr(quote, name) for name in kept},
            revision=quote.revision + 1,
            valid_until=_still(quote.valid_until, today(transaction)),
            status=QuoteStatus.DRAFT,
            custom=dict(quote.custom) if quote.custom else None,
        )
    )
    _copy_lines(transaction, lines_of(session, quote), quote_id=made.id)
    if quote.status == QuoteStatus.SENT:
        transaction.update(quote, {"status": QuoteStatus.SUPERSEDED})
    return made


def _still(day: date | None, now: date) -> date | None:
    return day if day is not None and day >= now else None


def _copy_lines(transaction: Transaction, lines: Iterable[Line], **about: int) -> None:
    rows = [{**{name: getattr(line, name) for name in COPIED}, **about} for line in lines]
    transaction.create_many(Line, [{"occurred_at": transaction.now, **row} for row in rows])


# --------------------------------------------------------------------------------------------- deciding


@dataclass(frozen=True, kw_only=True)
class Accepted:
    """What came of a quote that was accepted."""

    order: Order | None
    contract: Contract | None


def accept_quote(
    transaction: Transaction, quote: Quote, user: User, *, order: bool = True, contract: Terms | None = None
) -> Accepted:
    """Note that the customer accepted; make the order, with the lines, and the contract that `contract` says.

    A quote without any customer can become neither. Accepted again, it gives what there is. An open
    deal comes to what was accepted.
    """
    session = transaction.session
    if quote.status == QuoteStatus.ACCEPTED:
        return _found(session, quote)
    _accept(transaction, quote, user)
    made = _make_order(transaction, quote) if order else None
    signed = None if contract is None else sign_contract(transaction, quote, user, contract)
    return Accepted(order=made, contract=signed)


def _accept(transaction: Transaction, quote: Quote, user: User) -> None:
    """Note that a quote was accepted; its open deal comes to that, where `user` may say so."""
    _decide(transaction, quote, QuoteStatus.ACCEPTED)
    deal = _open_deal(transaction, quote, user)
    if deal is None:
        return
    transaction.session.flush()
    accepted = transaction.session.execute(
        select(Quote.amount, Quote.currency).where(
            Quote.deal_id == deal.id, Quote.status == QuoteStatus.ACCEPTED, Quote.deleted_at.is_(None)
        )
    ).all()
    amounts = [amount for amount, currency in accepted if currency == quote.currency and amount is not None]
    if quote.amount is None or len(amounts) < len(accepted):
        return  # what is in two currencies, or has no amount, has no sum
    said = {"amount": sum(amounts, Decimal(0)), "currency": quote.currency or deal.currency}
    changed = {name: value for name, value in said.items() if getattr(deal, name) != value}
    reader = Reader(transaction.session, user)
    if all(reader.may_write_field("deal", name) for name in changed):
        transaction.update(deal, changed)


def _open_deal(transaction: Transaction, quote: Quote, user: User) -> Deal | None:
    """Return the deal of a quote, locked, if it is open and the user may change it."""
    if quote.deal_id is None:
        return None
    try:
        Reader(transaction.session, user).get_to_write(Deal, quote.deal_id)
    except (AccessDeniedError, RecordNotFoundError):
        return None
    deal = transaction.get(Deal, quote.deal_id)
    return deal if deal.status == DealStatus.OPEN else None


def _found(session: Session, quote: Quote) -> Accepted:
    orders = select(Order).where(Order.quote_id == quote.id, Order.deleted_at.is_(None))
    contracts = select(Contract).where(Contract.quote_id == quote.id, Contract.deleted_at.is_(None))
    return Accepted(
        order=session.scalars(orders.order_by(Order.id).limit(1)).first(),
        contract=session.scalars(contracts.order_by(Contract.id).limit(1)).first(),
    )


def _make_order(transaction: Transaction, quote: Quote) -> Order:
    made = transaction.create(
        Order(
            account_id=account_of(transaction.session, quote),
            deal_id=quote.deal_id,
            quote_id=quote.id,
            number=next_number(transaction, Order),
            amount=quote.amount,
            currency=quote.currency,
        )
    )
    _copy_lines(transaction, lines_of(transaction.session, quote), order_id=made.id)
    return made


def reject_quote(transaction: Transaction, quote: Quote, reason: str | None = None) -> None:
    """Note that the customer did not want it, and why."""
    _decide(transaction, quote, QuoteStatus.REJECTED, rejected_reason=reason)


def _decide(transaction: Transaction, quote: Quote, status: QuoteStatus, **more: object) -> None:
    if quote.status != QuoteStatus.SENT:
        raise QuoteStateError(quote.id, quote.status, "one that was sent and is not decided")
    transaction.update(quote, {"status": status, "decided_at": transaction.now, **more})


def expire_quotes(transaction: Transaction) -> int:
    """Let every quote expire whose last day is over where we work; return how many there were."""
    over = select(Quote.id).where(
        Quote.status == QuoteStatus.SENT,
        Quote.valid_until < today(transaction),
        Quote.deleted_at.is_(None),
    )
    ids = transaction.session.scalars(over.order_by(Quote.id).with_for_update(skip_locked=True)).all()
    values = {"status": QuoteStatus.EXPIRED}
    transaction.update_many(Quote, [Update(record_id=each, values=values) for each in ids])
    return len(ids)


def today(transaction: Transaction) -> date:
    """Return the day that it is where we work."""
    return working_time(transaction.session, transaction.zone).local_day(transaction.now)
