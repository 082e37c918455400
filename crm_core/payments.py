"""Payment plans and the money that comes in.

A plan is the payments of a contract or an order: each is a claim with a day on which it is due, and `part`
counts them. They sum exactly to what the contract or order is worth. Money that comes in pays the open
claims in the order in which they are due; where it does not reach, the claim is divided: what came is a paid
payment of its own with the same part, and the rest stays open. So every payment is either open or paid as a
whole, and no sum is ever kept twice.

Nothing is added up across currencies.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from itertools import groupby
from typing import Any, Final

from sqlalchemy import ColumnElement, ForeignKey, Select, and_, func, literal, or_, select, union_all
from sqlalchemy.orm import Mapped, Session, mapped_column

from crm_core.access import Reader
from crm_core.alerting import managers_of
from crm_core.columns import Instant
from crm_core.errors import FutureEventError, InvalidValueError
from crm_core.notifications import Occasion, notify
from crm_core.phrases import Phrase
from crm_core.records import (
    Account,
    Base,
    Contract,
    ContractStatus,
    Deal,
    Order,
    Payment,
    Quote,
    QuoteStatus,
    Record,
    User,
)
from crm_core.sales_settings import sales_settings
from crm_core.store import Transaction
from crm_core.totals import parts_of, rounded
from crm_core.validation import columns_of

Worth = Contract | Order
"""What payments are due for."""

MOST_PARTS: Final = 120
HUNDRED: Final = Decimal(100)
_REMINDED_AT_ONCE: Final = 500

AGES: Final = ((1, 30), (31, 60), (61, 90), (91, None))
"""How many days late payments are, as lists put them together."""


class PaymentReminder(Base):
    """That people were told of a payment that is late: once a level."""

    __tablename__ = "payment_reminders"

    payment_id: Mapped[int] = mapped_column(ForeignKey("payments.id"), primary_key=True)
    days: Mapped[int] = mapped_column(primary_key=True, comment="the level: days late at which it is told")
    told_at: Mapped[datetime] = mapped_column(Instant)


@dataclass(frozen=True, kw_only=True)
class Planned:
    """One part of a plan as somebody says it: a percentage of what is planned, an amount, or the rest."""

    due_on: date
    percent: Decimal | None = None
    amount: Decimal | None = None


@dataclass(frozen=True, kw_only=True)
class Part:
    """One part of a plan as it stands: what of it came in, and what is open."""

    number: int | None
    due_on: date | None
    received: Decimal
    open: Decimal
    paid_at: datetime | None

    @property
    def amount(self) -> Decimal:
        """What it is in all."""
        return self.received + self.open

    def is_overdue(self, today: date) -> bool:
        """Say whether any of it should have come in by now."""
        return self.open > 0 and self.due_on is not None and self.due_on < today


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The payments of a contract or an order: what it is worth, what of it is planned, came in, is late."""

    value: Decimal | None
    currency: str | None
    parts: Sequence[Part]
    payments: Sequence[Payment]
    overdue: Decimal

    @property
    def received(self) -> Decimal:
        """What came in."""
        return sum((part.received for part in self.parts), Decimal(0))

    @property
    def open(self) -> Decimal:
        """What is still to come."""
        return sum((part.open for part in self.parts), Decimal(0))

    @property
    def unplanned(self) -> Decimal:
        """What the plan lacks to what it is worth; below zero where there is too much."""
        return (self.value or Decimal(0)) - self.received - self.open


def value_of(about: Worth) -> Decimal | None:
    """Return what a contract or an order is worth."""
    return about.value if isinstance(about, Contract) else about.amount


def payments_of(session: Session, about: Worth) -> Sequence[Payment]:
    """Return the payments of a contract or an order, by part, the paid ones of each first."""
    query = select(Payment).where(_about(about), Payment.deleted_at.is_(None))
    order = (Payment.part.is_(None), Payment.part, Payment.paid_at.is_(None), Payment.due_on, Payment.id)
    return session.scalars(query.order_by(*order)).all()


def read_plan(session: Session, about: Worth, today: date) -> Plan:
    """Return how the payments of a contract or an order stand on a day."""
    payments = payments_of(session, about)
    parts = [
        _part(number, list(some)) for number, some in groupby(payments, key=lambda one: one.part or -one.id)
    ]
    return Plan(
        value=value_of(about),
        currency=about.currency,
        parts=parts,
        payments=payments,
        overdue=sum((part.open for part in parts if part.is_overdue(today)), Decimal(0)),
    )


def _part(number: int, payments: Sequence[Payment]) -> Part:
    paid = [one for one in payments if one.paid_at is not None]
    still = [one for one in payments if one.paid_at is None]
    return Part(
        number=number if number > 0 else None,
        due_on=min((one.due_on for one in (still or paid) if one.due_on is not None), default=None),
        received=sum((one.amount for one in paid), Decimal(0)),
        open=sum((one.amount for one in still), Decimal(0)),
        paid_at=max((one.paid_at for one in paid if one.paid_at is not None), default=None),
    )


# --------------------------------------------------------------------------------------------- planning


def set_plan(transaction: Transaction, about: Worth, parts: Sequence[Planned]) -> list[Payment]:
    """Plan what has not come in yet anew; return the claims. An empty plan takes the open claims away.

    Percentages are of what has not come in. The parts must sum exactly to that: percentages alone to a
    hundred; at most one part may say neither a percentage nor an amount, and is the rest.

    Raises InvalidValueError for parts that do not sum to it, are out of order, or come to nothing.
    """
    session = transaction.session
    value = value_of(about)
    if value is None:
        raise InvalidValueError(f"{about.record_type}.value", None, "an amount that can be divided")
    held = payments_of(session, about)
    received = sum((one.amount for one in held if one.paid_at is not None), Decimal(0))
    amounts = amounts_of(value - received, parts, currency=about.currency) if parts else []
    for one in held:
        if one.paid_at is None:
            transaction.delete(one)
    first = max((one.part or 0 for one in held if one.paid_at is not None), default=0) + 1
    return [
        transaction.create(_claim(about, amount, part.due_on, number))
        for number, (part, amount) in enumerate(zip(parts, amounts, strict=True), start=first)
    ]


def _claim(about: Worth, amount: Decimal, due_on: date | None, number: int | None) -> Payment:
    link = {"contract_id": about.id} if isinstance(about, Contract) else {"order_id": about.id}
    return Payment(
        account_id=about.account_id,
        deal_id=about.deal_id,
        **link,
        amount=amount,
        currency=about.currency,
        part=number,
        due_on=due_on,
    )


def amounts_of(value: Decimal, parts: Sequence[Planned], *, currency: str | None) -> list[Decimal]:
    """Return the amounts of the parts of a plan, which sum exactly to `value`."""
    if len(parts) > MOST_PARTS:
        raise InvalidValueError("parts", len(parts), Phrase("at most {most} parts", most=MOST_PARTS))
    days = [part.due_on for part in parts]
    if days != sorted(days):
        raise InvalidValueError("due_on", [day.isoformat() for day in days], "days in their order")
    for part in parts:
        _check_part(part)
    amounts = _amounts(value, parts, currency)
    total = sum(amounts, Decimal(0))
    if total != value:
        raise InvalidValueError("parts", str(total), Phrase("parts that sum to {value}", value=value))
    if any(amount <= 0 for amount in amounts):
        raise InvalidValueError("parts", [str(amount) for amount in amounts], "amounts above zero")
    return amounts


def _check_part(part: Planned) -> None:
    if part.percent is not None and part.amount is not None:
        raise InvalidValueError("parts", str(part.amount), "a percentage or an amount, not both")
    if part.percent is not None and not 0 < part.percent <= HUNDRED:
        raise InvalidValueError("percent", str(part.percent), "a percentage above 0, up to 100")


def _amounts(value: Decimal, parts: Sequence[Planned], currency: str | None) -> list[Decimal]:
    percents = [part.percent for part in parts if part.percent is not None]
    if len(percents) == len(parts):
        if sum(percents) != HUNDRED:
            raise InvalidValueError("percent", str(sum(percents)), "percentages that sum to 100")
        return parts_of(value, [percent / HUNDRED for percent in percents], currency=currency)
    if sum(_is_rest(part) for part in parts) > 1:
        raise InvalidValueError("parts", None, "at most one part without a percentage or an amount")
    said = [
        rounded(value * part.percent / HUNDRED, currency) if part.percent is not None else part.amount
        for part in parts
    ]
    rest = value - sum((each for each in said if each is not None), Decimal(0))
    return [rest if each is None else each for each in said]


def _is_rest(part: Planned) -> bool:
    return part.percent is None and part.amount is None


# -------------------------------------------------------------------------------------------- receiving


def receive(
    transaction: Transaction,
    about: Worth,
    amount: Decimal,
    *,
    paid_at: datetime | None = None,
    reference: str | None = None,
) -> list[Payment]:
    """Note that money came in for a contract or an order; return what it paid, whole claims or parts of them.

    It pays what is due first. Raises InvalidValueError for nothing, and for more than is open.
    """
    session = transaction.session
    open_ones = [one for one in payments_of(session, about) if one.paid_at is None]
    open_ones.sort(key=lambda one: (one.due_on is None, one.due_on or date.min, one.part or 0, one.id))
    return _receive(transaction, open_ones, amount, paid_at=paid_at, reference=reference)


def receive_payment(
    transaction: Transaction,
    payment: Payment,
    amount: Decimal | None = None,
    *,
    paid_at: datetime | None = None,
    reference: str | None = None,
) -> list[Payment]:
    """Note that a claim was paid, or with `amount` a part of it."""
    if payment.paid_at is not None:
        raise InvalidValueError("payment.paid_at", payment.paid_at.isoformat(), "a payment that is open")
    amount = payment.amount if amount is None else amount
    return _receive(transaction, [payment], amount, paid_at=paid_at, reference=reference)


def _receive(
    transaction: Transaction,
    claims: Iterable[Payment],
    amount: Decimal,
    *,
    paid_at: datetime | None,
    reference: str | None,
) -> list[Payment]:
    if paid_at is not None and paid_at > transaction.now:
        raise FutureEventError(
            "paid_at", paid_at.isoformat(), Phrase("an instant up to {now}", now=transaction.now)
        )
    claims = [transaction.get(Payment, claim.id) for claim in claims]
    still_open = sum((claim.amount for claim in claims), Decimal(0))
    if not 0 < amount <= still_open:
        raise InvalidValueError(
            "amount",
            str(amount),
            Phrase("an amount above 0, up to the {still_open} that is open", still_open=still_open),
        )
    when = paid_at or transaction.now
    paid, left = [], amount
    for claim in claims:
        if left <= 0:
            break
        part = min(left, claim.amount)
        paid.append(_pay(transaction, claim, part, when, reference))
        left -= part
    return paid


def _pay(
    transaction: Transaction, claim: Payment, amount: Decimal, when: datetime, reference: str | None
) -> Payment:
    """Pay a claim, or divide it: what came in is a payment of its own, and the rest stays open."""
    if amount == claim.amount:
        transaction.update(claim, {"paid_at": when, "reference": reference}, occurred_at=when)
        return claim
    kept = ("account_id", "deal_id", "contract_id", "order_id", "currency", "part", "due_on")
    transaction.update(claim, {"amount": claim.amount - amount})
    return transaction.create(
        Payment(
            **{name: getattr(claim, name) for name in kept},
            amount=amount,
            paid_at=when,
            reference=reference,
            occurred_at=claim.occurred_at,
        )
    )


# ---------------------------------------------------------------------------------------------- reading


@dataclass(frozen=True, kw_only=True)
class Money:
    """What there is of one currency: quoted and not decided, ordered, under contract; came in, open, late."""

    currency: str
    quoted: Decimal = Decimal(0)
    ordered: Decimal = Decimal(0)
    contracted: Decimal = Decimal(0)
    received: Decimal = Decimal(0)
    open: Decimal = Decimal(0)
    overdue: Decimal = Decimal(0)


@dataclass(frozen=True, kw_only=True)
class Overdue:
    """A payment that is late, whose customer's or deal's owner it is, and for how many days."""

    payment: Payment
    owner_id: int | None
    account: str
    days: int


@dataclass(frozen=True, kw_only=True)
class OverdueSum:
    """What is late of one currency, owner and age; `age` is a place in AGES."""

    currency: str
    owner_id: int | None
    age: int
    amount: Decimal
    count: int


_OWNER = func.coalesce(Deal.owner_id, Account.owner_id)


def list_overdue(
    reader: Reader,
    today: date,
    *,
    limit: int,
    offset: int = 0,
    after: tuple[date, int] | None = None,
    owner_id: int | None = None,
) -> list[Overdue]:
    """Return the payments that a reader sees and that are late on a day, the latest first.

    They begin after so many, or after the one with a day and an id.
    """
    following = () if after is None else (_later(*after),)
    query = (
        select(Payment, _OWNER, Account.name)
        .join(Account, Account.id == Payment.account_id)
        .outerjoin(Deal, Deal.id == Payment.deal_id)
        .where(is_overdue(today), reader.readable(Payment), *_of_owner(owner_id), *following)
        .order_by(Payment.due_on, Payment.id)
        .limit(limit)
        .offset(offset)
    )
    named = reader.may_read_field("account", "name")
    return [
        Overdue(
            payment=payment,
            owner_id=owner,
            account=name if named else "",
            days=days_late(payment, today),
        )
        for payment, owner, name in reader.session.execute(query)
    ]


def _later(day: date, payment_id: int) -> ColumnElement[bool]:
    return or_(Payment.due_on > day, and_(Payment.due_on == day, Payment.id > payment_id))


def sum_overdue(reader: Reader, today: date, *, owner_id: int | None = None) -> list[OverdueSum]:
    """Return what is late by currency, owner and age, of what a reader sees."""
    query = (
        select(Payment.currency, _OWNER, Payment.due_on, func.sum(Payment.amount), func.count())
        .join(Account, Account.id == Payment.account_id)
        .outerjoin(Deal, Deal.id == Payment.deal_id)
        .where(is_overdue(today), reader.readable(Payment), *_of_owner(owner_id))
        .group_by(Payment.currency, _OWNER, Payment.due_on)
    )
    found: dict[tuple[str, int | None, int], tuple[Decimal, int]] = defaultdict(lambda: (Decimal(0), 0))
    for currency, owner, due_on, amount, count in reader.session.execute(query):
        key = (currency or "", owner, age_of((today - (due_on or today)).days))
        before, counted = found[key]
        found[key] = before + Decimal(amount), counted + count
    return [
        OverdueSum(currency=currency, owner_id=owner, age=age, amount=amount, count=count)
        for (currency, owner, age), (amount, count) in sorted(
            found.items(), key=lambda each: (each[0][0], each[0][1] or 0, each[0][2])
        )
    ]


def days_late(payment: Payment, today: date) -> int:
    """Return how many days ago a payment was due; 0 for one that is due whenever."""
    return 0 if payment.due_on is None else (today - payment.due_on).days


def age_of(days: int) -> int:
    """Return where in AGES so many days late belong."""
    return next(place for place, (_, last) in enumerate(AGES) if last is None or days <= last)


def is_overdue(today: date) -> ColumnElement[bool]:
    """Return the condition that a payment is open and was due before a day."""
    return and_(Payment.paid_at.is_(None), Payment.due_on < today, Payment.deleted_at.is_(None))


def _of_owner(owner_id: int | None) -> list[ColumnElement[bool]]:
    return [] if owner_id is None else [_OWNER.is_not_distinct_from(owner_id)]


def _about(about: Worth) -> ColumnElement[bool]:
    return (Payment.contract_id if isinstance(about, Contract) else Payment.order_id) == about.id


# -------------------------------------------------------------------------------------------- reminding


def remind_of_payments(transaction: Transaction, today: date) -> int:
    """Tell people of payments that have become late by one of the set numbers of days; return of how many.

    The owner of the deal or customer is told of each; from the second level on their manager, too. Each level
    of a payment is told of once, and of several that were missed only the highest.
    """
    session = transaction.session
    levels = sales_settings(session).reminder_days
    if not levels:
        return 0
    reminded = select(PaymentReminder.payment_id, func.max(PaymentReminder.days).label("days")).group_by(
        PaymentReminder.payment_id
    )
    told = reminded.subquery()
    query = (
        select(Payment, _OWNER)
        .join(Account, Account.id == Payment.account_id)
        .outerjoin(Deal, Deal.id == Payment.deal_id)
        .outerjoin(told, told.c.payment_id == Payment.id)
        .where(is_overdue(today), or_(*_reached(levels, told.c.days, today)))
        .order_by(Payment.id)
        .limit(_REMINDED_AT_ONCE)
        .with_for_update(of=Payment, skip_locked=True)
    )
    rows = session.execute(query).all()
    for payment, owner_id in rows:
        _remind(transaction, payment, owner_id, levels, days_late(payment, today))
    session.flush()
    return len(rows)


def _reached(levels: Sequence[int], told: Any, today: date) -> list[ColumnElement[bool]]:  # noqa: ANN401  a column
    """Return, of each level, the condition that a payment has reached it and nobody was told."""
    return [
        and_(Payment.due_on <= date.fromordinal(today.toordinal() - level), func.coalesce(told, 0) < level)
        for level in levels
    ]


def _remind(
    transaction: Transaction, payment: Payment, owner_id: int | None, levels: Sequence[int], late: int
) -> None:
    session = transaction.session
    place = max(number for number, level in enumerate(levels) if level <= late)
    session.add(PaymentReminder(payment_id=payment.id, days=levels[place], told_at=transaction.now))
    owner = None if owner_id is None else session.get(User, owner_id)
    if owner is None:
        return
    people = [owner, *(managers_of(session, owner) if place > 0 else [])]
    seen = [one.id for one in people if _sees(session, one, payment)]
    notify(
        transaction,
        seen,
        kind=Occasion.PAYMENT,
        text="payment_late",
        about=("payment", payment.id),
        params={"days": late, "level": levels[place]},
    )


def _sees(session: Session, user: User, payment: Payment) -> bool:
    query = Reader(session, user).select(Payment).where(Payment.id == payment.id)
    return session.scalars(query).first() is not None


# --------------------------------------------------------------------------------------------- totals


def money_about(reader: Reader, record: Account | Deal, today: date) -> list[Money]:
    """Return what there is of each currency about a customer or a deal, as far as a reader sees it.

    Counted are quotes that were sent and are not decided, all orders, contracts that run or were renewed, and
    payments by whether they came in.
    """
    reach = _sums(reader, record, today)
    if not reach:
        return []
    rows = reader.session.execute(union_all(*reach) if len(reach) > 1 else reach[0])
    found: dict[str, dict[str, Decimal]] = defaultdict(dict)
    for what, currency, amount in rows:
        if amount is not None:
            found[currency or ""][what] = Decimal(amount)
    return [Money(currency=currency, **sums) for currency, sums in sorted(found.items())]


def _sums(reader: Reader, record: Account | Deal, today: date) -> list[Select[Any]]:
    """Return the queries of what a reader may add up, each by currency."""
    running = Contract.status.in_([ContractStatus.ACTIVE, ContractStatus.RENEWED])
    is_open = Payment.paid_at.is_(None)
    wanted: tuple[tuple[str, type[Record], Any, tuple[ColumnElement[bool], ...]], ...] = (
        ("quoted", Quote, Quote.amount, (Quote.status == QuoteStatus.SENT,)),
        ("ordered", Order, Order.amount, ()),
        ("contracted", Contract, Contract.value, (running,)),
        ("received", Payment, Payment.amount, (Payment.paid_at.is_not(None),)),
        ("open", Payment, Payment.amount, (is_open,)),
        ("overdue", Payment, Payment.amount, (is_overdue(today),)),
    )
    return [
        _sum(reader, record, what, model, amount, conditions)
        for what, model, amount, conditions in wanted
        if all(reader.may_read_field(model.record_type, name) for name in (amount.key, "currency"))
    ]


def _sum(
    reader: Reader,
    record: Account | Deal,
    what: str,
    model: type[Record],
    amount: Any,  # noqa: ANN401  a column of money
    conditions: Sequence[ColumnElement[bool]],
) -> Select[Any]:
    columns = columns_of(model)
    about = columns[f"{record.record_type}_id"] == record.id
    query: Any = select(literal(what).label("what"), columns["currency"], func.sum(amount).label("amount"))
    found: Select[Any] = query.where(
        about, model.deleted_at.is_(None), reader.readable(model), *conditions
    ).group_by(columns["currency"])
    return found
