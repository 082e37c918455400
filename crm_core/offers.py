"""What a quote or an order says: its lines in order, and what they come to."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from sqlalchemy import select
from sqlalchemy.orm import Session

from crm_core.columns import dump_json
from crm_core.records import Line, Order, Quote
from crm_core.totals import Priced, Totals, exact, share_off, totals_of


@dataclass(frozen=True, kw_only=True)
class Offer:
    """The lines of a quote or an order, and what they come to."""

    lines: Sequence[Line]
    totals: Totals

    def off_list(self, amount: Decimal) -> Decimal:
        """Return the share of the list price that is given away where `amount` is all that is asked."""
        return share_off(amount, sum((_listed(line) for line in self.lines), Decimal(0)))


def lines_of(session: Session, about: Quote | Order) -> Sequence[Line]:
    """Return the lines of a quote or an order, in the order in which they were written."""
    link = Line.quote_id if isinstance(about, Quote) else Line.order_id
    return session.scalars(
        select(Line).where(link == about.id, Line.deleted_at.is_(None)).order_by(Line.id)
    ).all()


def read_offer(session: Session, about: Quote | Order) -> Offer:
    """Return the lines of a quote or an order with what they come to."""
    return offer_of(about, lines_of(session, about))


def offer_of(about: Quote | Order, lines: Sequence[Line]) -> Offer:
    """Return what lines that were read already come to."""
    discount = exact(about.discount) if isinstance(about, Quote) else Decimal(0)
    totals = totals_of(map(priced, lines), discount=discount, currency=about.currency)
    return Offer(lines=lines, totals=totals)


def priced(line: Line) -> Priced:
    """Return what is counted of a line; one without a price comes to nothing."""
    return Priced(
        quantity=exact(line.quantity),
        unit_price=exact(line.unit_price),
        discount=exact(line.discount),
        list_price=line.list_price,
    )


def given_away(quote: Quote, offer: Offer) -> Decimal:
    """Return the share of the list price that a quote gives away; without lines, what it says of itself."""
    return offer.totals.off_list if offer.lines else exact(quote.discount)


def fingerprint_of(quote: Quote, offer: Offer, *more: object) -> str:
    """Return a text that is another one once anything is that a customer reads on a quote."""
    said = [
        [quote.account_id, quote.currency, quote.discount, quote.terms, str(quote.valid_until)],
        [_said(line) for line in offer.lines],
        None if offer.lines or quote.amount is None else str(quote.amount.normalize()),
        [str(each) for each in more],
    ]
    return hashlib.sha256(dump_json(said).encode()).hexdigest()


def _said(line: Line) -> list[object]:
    prices = (
        None if price is None else str(price.normalize()) for price in (line.unit_price, line.list_price)
    )
    return [line.product_id, line.text, line.quantity, *prices, line.discount]


def _listed(line: Line) -> Decimal:
    return exact(line.quantity) * priced(line).listed
