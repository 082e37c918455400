"""What is sold: deals, quotes, orders, contracts, and the money that comes in."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal

from sqlalchemy import ForeignKey, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from crm_core.columns import Day, Instant, Json, Money
from crm_core.records.base import Owned, Record, Scored, index_of_steps
from crm_core.records.words import ContractStatus, DealStatus, QuoteStatus


class Deal(Owned, Scored, Record):
    """Something that may be sold to an account."""

    __tablename__ = "deals"
    record_type = "deal"

    name: Mapped[str] = mapped_column(String(300))
    account_id: Mapped[int | None] = mapped_column(ForeignKey("accounts.id"), index=True)
    pipeline: Mapped[str] = mapped_column(String(80), default="default")
    stage: Mapped[str] = mapped_column(String(80))
    status: Mapped[str] = mapped_column(String(20), default=DealStatus.OPEN)
    amount: Mapped[Decimal | None] = mapped_column(Money)
    currency: Mapped[str | None] = mapped_column(String(3))
    source: Mapped[str | None] = mapped_column(String(120))
    campaign_id: Mapped[int | None] = mapped_column(ForeignKey("campaigns.id"), index=True)
    contact_id: Mapped[int | None] = mapped_column(ForeignKey("contacts.id"), index=True)
    competitors: Mapped[list[str] | None] = mapped_column(Json, comment="names, as far as known")
    expected_close_on: Mapped[date | None] = mapped_column(Day, comment="the rep's forecast")
    closed_at: Mapped[datetime | None] = mapped_column(Instant, comment="the fact")
    lost_reason: Mapped[str | None] = mapped_column(String(200))
    rep_probability: Mapped[float | None] = mapped_column(comment="what the rep believes, in [0, 1]")

    __table_args__ = (index_of_steps("deals"),)


class Order(Record):
    """Something an account bought; `occurred_at` is when it was placed."""

    __tablename__ = "orders"
    record_type = "order"

    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"), index=True)
    deal_id: Mapped[int | None] = mapped_column(ForeignKey("deals.id"), index=True)
    quote_id: Mapped[int | None] = mapped_column(ForeignKey("quotes.id"), index=True)
    number: Mapped[str | None] = mapped_column(String(120))
    amount: Mapped[Decimal | None] = mapped_column(Money)
    currency: Mapped[str | None] = mapped_column(String(3))


class Contract(Record):
    """An agreement with an account; `occurred_at` is when it was signed."""

    __tablename__ = "contracts"
    record_type = "contract"

    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"), index=True)
    deal_id: Mapped[int | None] = mapped_column(ForeignKey("deals.id"), index=True)
    quote_id: Mapped[int | None] = mapped_column(ForeignKey("quotes.id"), index=True)
    number: Mapped[str | None] = mapped_column(String(120))
    starts_on: Mapped[date] = mapped_column(Day)
    ends_on: Mapped[date] = mapped_column(Day)
    value: Mapped[Decimal | None] = mapped_column(Money)
    currency: Mapped[str | None] = mapped_column(String(3))
    status: Mapped[str] = mapped_column(String(20), default=ContractStatus.ACTIVE)
    ended_at: Mapped[datetime | None] = mapped_column(Instant, comment="when it ended without renewal")
    renewed_by_id: Mapped[int | None] = mapped_column(ForeignKey("contracts.id"))


class Product(Record):
    """Something on the price list."""

    __tablename__ = "products"
    record_type = "product"

    name: Mapped[str] = mapped_column(String(300))
    code: Mapped[str | None] = mapped_column(String(120), index=True)
    family: Mapped[str | None] = mapped_column(String(120))
    price: Mapped[Decimal | None] = mapped_column(Money, comment="list price of one")
    cost: Mapped[Decimal | None] = mapped_column(Money, comment="what one costs us")
    currency: Mapped[str | None] = mapped_column(String(3))
    active: Mapped[bool] = mapped_column(default=True)


class Quote(Owned, Record):
    """An offer to an account; a new version is a new record with the same number."""

    __tablename__ = "quotes"
    record_type = "quote"

    account_id: Mapped[int | None] = mapped_column(ForeignKey("accounts.id"), index=True)
    deal_id: Mapped[int | None] = mapped_column(ForeignKey("deals.id"), index=True)
    number: Mapped[str] = mapped_column(String(120))
    revision: Mapped[int] = mapped_column(default=1)
    status: Mapped[str] = mapped_column(String(20), default=QuoteStatus.DRAFT)
    amount: Mapped[Decimal | None] = mapped_column(Money, comment="after discounts")
    currency: Mapped[str | None] = mapped_column(String(3))
    discount: Mapped[float | None] = mapped_column(comment="share of the list price, in [0, 1]")
    terms: Mapped[str | None] = mapped_column(Text, comment="printed below the lines")
    valid_until: Mapped[date | None] = mapped_column(Day)
    approval: Mapped[str | None] = mapped_column(String(10), comment="NULL: never asked for, or not needed")
    sent_at: Mapped[datetime | None] = mapped_column(Instant)
    decided_at: Mapped[datetime | None] = mapped_column(Instant)
    rejected_reason: Mapped[str | None] = mapped_column(String(200))


class Line(Record):
    """One product on a quote or an order."""

    __tablename__ = "lines"
    record_type = "line"

    quote_id: Mapped[int | None] = mapped_column(ForeignKey("quotes.id"), index=True)
    order_id: Mapped[int | None] = mapped_column(ForeignKey("orders.id"), index=True)
    product_id: Mapped[int | None] = mapped_column(ForeignKey("products.id"), index=True)
    text: Mapped[str | None] = mapped_column(String(300), comment="where it differs from the product's name")
    quantity: Mapped[float] = mapped_column(default=1.0)
    unit_price: Mapped[Decimal | None] = mapped_column(Money)
    list_price: Mapped[Decimal | None] = mapped_column(
        Money, comment="of the product when the line was written; NULL: not on the price list"
    )
    discount: Mapped[float | None] = mapped_column(comment="share of the unit price, in [0, 1]")


class Payment(Record):
    """Money that is due or came in; `occurred_at` is when the claim arose."""

    __tablename__ = "payments"
    record_type = "payment"

    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"), index=True)
    deal_id: Mapped[int | None] = mapped_column(ForeignKey("deals.id"), index=True)
    contract_id: Mapped[int | None] = mapped_column(ForeignKey("contracts.id"), index=True)
    order_id: Mapped[int | None] = mapped_column(ForeignKey("orders.id"), index=True)
    amount: Mapped[Decimal] = mapped_column(Money)
    currency: Mapped[str | None] = mapped_column(String(3))
    part: Mapped[int | None] = mapped_column(comment="which part of the payment plan it is, or a share of it")
    due_on: Mapped[date | None] = mapped_column(Day)
    paid_at: Mapped[datetime | None] = mapped_column(Instant, comment="NULL while it is open")
    reference: Mapped[str | None] = mapped_column(String(120), comment="of the transfer that it came with")
