"""What the pages of quotes, orders and contracts show of selling: lines, totals, approvals, payments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any, Final

from sqlalchemy import select

from crm_core.access import Reader
from crm_core.approvals import Approval, find_newest, is_above_limit, limit_for, may_decide
from crm_core.contracts import find_renewal_deal, next_terms
from crm_core.errors import AccessDeniedError
from crm_core.offers import Offer, given_away, read_offer
from crm_core.payments import Plan, read_plan
from crm_core.records import (
    ApprovalState,
    Comment,
    Contract,
    ContractStatus,
    Line,
    Order,
    Product,
    Quote,
    QuoteStatus,
    Record,
)
from serving.editing import Kind
from serving.mail import mail_is_on
from serving.selling import check_sees_money, sees_prices, today_of
from serving.service import service
from serving.web.facts import may_write
from serving.web.places import Shown, shown_records

OFFERED: Final = 300
"""Products of the price list that the form of a line offers."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line as it is shown."""

    line: Line
    name: str
    total: Decimal


@dataclass(frozen=True, kw_only=True)
class QuoteSheet:
    """What the page of a quote, or of an order, shows beside its facts."""

    record: Quote | Order
    rows: Sequence[Row]
    offer: Offer
    off_list: Decimal
    may_write: bool
    may_price: bool
    products: Sequence[Product] = ()
    above_limit: bool = False
    limit: Decimal | None = None
    approval: Approval | None = None
    asked_note: str | None = None
    decided_note: str | None = None
    may_decide: bool = False
    revisions: Sequence[tuple[Quote, bool]] = ()
    mails: bool = False

    @property
    def is_draft(self) -> bool:
        """Whether its lines may be changed."""
        return isinstance(self.record, Quote) and self.record.status == QuoteStatus.DRAFT

    @property
    def amount(self) -> Decimal:
        """What is asked for: an order has an amount of its own, that of the quote it came from."""
        own = self.record.amount if isinstance(self.record, Order) else None
        return self.offer.totals.amount if own is None else own

    @property
    def taken_off(self) -> Decimal:
        """What is taken off the sum of the lines; 0 where as much is asked, or more."""
        return max(self.offer.totals.subtotal - self.amount, Decimal(0))

    @property
    def discount(self) -> float | None:
        """The share that a quote takes off the whole; of an order it is not known."""
        return self.record.discount if isinstance(self.record, Quote) else None

    @property
    def is_approved(self) -> bool:
        """Whether somebody approved it as it is."""
        return self.approval is not None and self.approval.state == ApprovalState.APPROVED

    @property
    def is_waiting(self) -> bool:
        """Whether it waits for an approval."""
        return self.approval is not None and self.approval.state == ApprovalState.WAITING


@dataclass(frozen=True, kw_only=True)
class MoneySheet:
    """What the page of a contract or an order shows of its payments."""

    record: Contract | Order
    plan: Plan
    today: date
    may_write: bool
    next_starts: date | None = None
    next_ends: date | None = None
    renewal_deal: Shown | None = None

    @property
    def runs(self) -> bool:
        """Whether it is a contract that may be renewed or ended."""
        return isinstance(self.record, Contract) and self.record.status == ContractStatus.ACTIVE


@dataclass(frozen=True, kw_only=True)
class Selling:
    """Both, as far as the record has them and the reader sees them."""

    sheet: QuoteSheet | None = None
    money: MoneySheet | None = None


def read_selling(reader: Reader, kind: Kind, record: Record) -> Selling:
    """Return what the page of a record shows of selling; nothing for most types."""
    writes = may_write(reader, kind, record) if isinstance(record, Quote | Order | Contract) else False
    sheet = _quote_sheet(reader, record, writes=writes) if isinstance(record, Quote | Order) else None
    money = _money_sheet(reader, record, writes=writes) if isinstance(record, Contract | Order) else None
    return Selling(sheet=sheet, money=money)


def _quote_sheet(reader: Reader, record: Quote | Order, *, writes: bool) -> QuoteSheet | None:
    if not sees_prices(reader, record):
        return None
    session = reader.session
    offer = read_offer(session, record)
    draft = writes and isinstance(record, Quote) and record.status == QuoteStatus.DRAFT
    products = _products(reader, record) if draft and isinstance(record, Quote) else ()
    rows = name_rows(reader, offer, products)
    common: dict[str, Any] = {
        "record": record,
        "rows": rows,
        "offer": offer,
        "may_write": writes,
        "may_price": writes and reader.may_write_field("line", "unit_price"),
    }
    if isinstance(record, Order):
        return QuoteSheet(**common, off_list=offer.totals.off_list) if rows else None
    approval = None if record.approval is None else find_newest(session, record.id)
    notes = _notes(reader, approval)
    return QuoteSheet(
        **common,
        off_list=given_away(record, offer),
        products=products,
        above_limit=is_above_limit(session, record, reader.user, offer),
        limit=limit_for(session, record, reader.user),
        approval=approval,
        asked_note=notes.get(approval.asked_in_id) if approval else None,
        decided_note=notes.get(approval.decided_in_id) if approval else None,
        may_decide=approval is not None
        and approval.state == ApprovalState.WAITING
        and may_decide(session, reader.user, approval, record),
        revisions=_revisions(reader, record),
        mails=mail_is_on(service().settings),
    )


def name_rows(reader: Reader, offer: Offer, known: Sequence[Product] = ()) -> list[Row]:
    """Return lines with what they are called and come to; products that are known are not read again."""
    held = {product.id: product.name for product in known}
    ids = {line.product_id for line in offer.lines if line.product_id is not None} - held.keys()
    query = select(Product.id, Product.name).where(Product.id.in_(ids), reader.readable(Product))
    names: dict[int, str] = {key: name for key, name in reader.session.execute(query)} if ids else {}  # noqa: C416  rows are no pairs to mypy
    names |= held
    return [
        Row(line=line, name=line.text or names.get(line.product_id or 0) or "–", total=total)  # noqa: RUF001  a dash
        for line, total in zip(offer.lines, offer.totals.lines, strict=True)
    ]


def _products(reader: Reader, quote: Quote) -> Sequence[Product]:
    """Return what is on the price list in the currency of a quote."""
    query = reader.select(Product).where(Product.active.is_(True))
    if quote.currency is not None:
        query = query.where((Product.currency == quote.currency) | Product.currency.is_(None))
    return reader.session.scalars(query.order_by(Product.name, Product.id).limit(OFFERED)).all()


def _notes(reader: Reader, approval: Approval | None) -> dict[int | None, str]:
    if approval is None:
        return {}
    ids = [each for each in (approval.asked_in_id, approval.decided_in_id) if each is not None]
    if not ids:
        return {}
    query = reader.select(Comment).where(Comment.id.in_(ids))
    return {one.id: one.body for one in reader.session.scalars(query)}


def _revisions(reader: Reader, quote: Quote) -> list[tuple[Quote, bool]]:
    """Return all revisions of a quote, and which of them this one is; a first draft is alone."""
    if quote.revision == 1 and quote.status == QuoteStatus.DRAFT:
        return []
    query = reader.select(Quote).where(
        Quote.number == quote.number,
        Quote.deal_id.is_not_distinct_from(quote.deal_id),
        Quote.account_id.is_not_distinct_from(quote.account_id),
    )
    found = reader.session.scalars(query.order_by(Quote.revision, Quote.id)).all()
    return [(one, one.id == quote.id) for one in found] if len(found) > 1 else []


def _money_sheet(reader: Reader, record: Contract | Order, *, writes: bool) -> MoneySheet | None:
    try:
        check_sees_money(reader, record)
    except AccessDeniedError:
        return None
    today = today_of(reader, service().store.clock.now())
    plan = read_plan(reader.session, record, today)
    common: dict[str, Any] = {"record": record, "plan": plan, "today": today, "may_write": writes}
    if not isinstance(record, Contract):
        return MoneySheet(**common)
    terms = next_terms(record)
    deal = find_renewal_deal(reader.session, record)
    shown = None if deal is None else shown_records(reader, [("deal", deal.id)]).get(("deal", deal.id))
    return MoneySheet(**common, next_starts=terms.starts_on, next_ends=terms.ends_on, renewal_deal=shown)
