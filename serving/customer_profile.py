"""A customer at a glance: worth, tickets, what is open, what was done of late, and what comes next.

All of it is of records that the reader may see, and of fields that they may see; the rest is left out. Worth
is that of the last 365 days: how long ago the last order was, how many there were, and what they came to, by
currency; each with its place among the customers that the reader sees and that ordered in that time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Integer,
    Select,
    String,
    case,
    cast,
    func,
    literal,
    null,
    select,
    type_coerce,
    union_all,
)

from crm_core.access import Reader, Scope
from crm_core.arrays import NO_INSTANT, read_arrays
from crm_core.clock import DAY, day_of, instant, micros
from crm_core.columns import MONEY_SCALE
from crm_core.records import (
    Account,
    Activity,
    Contract,
    ContractStatus,
    Order,
    Payment,
    Quote,
    QuoteStatus,
    Record,
    Ticket,
    TicketStatus,
)
from crm_core.validation import columns_of

YEAR: Final = timedelta(days=365)
RECENT: Final = timedelta(days=90)
SHOWN: Final = 6

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Ranked:
    """A number, and the share in [0, 1] of the customers compared with that have less; None of no others."""

    value: float | Decimal
    better_than: float | None


@dataclass(frozen=True, kw_only=True)
class Worth:
    """Recency (days since the last order), frequency (orders in a year), money (by currency, in a year).

    `among`: how many customers it was compared with.
    """

    days: Ranked | None
    orders: Ranked | None
    money: Sequence[tuple[str, Ranked]]
    among: int


@dataclass(frozen=True, kw_only=True)
class Held:
    """A ticket, quote, contract or payment of the customer; what the reader may not see of it is None.

    `until`: when a quote's offer or a contract ends, or a payment is due.
    """

    record_type: str
    id: int
    title: str | None
    status: str | None
    amount: Decimal | None
    currency: str | None
    at: datetime
    until: date | None
    satisfaction: int | None


@dataclass(frozen=True, kw_only=True)
class Service:
    """Tickets of a customer: how many are open and were solved, and the mean satisfaction of how many."""

    open: int
    solved: int
    satisfaction: float | None
    answers: int
    newest: Sequence[Held]


@dataclass(frozen=True, kw_only=True)
class Done:
    """What was done with a customer of late: how often each kind of activity, and when last."""

    kind: str
    recent: int
    year: int
    last: datetime


@dataclass(frozen=True, kw_only=True)
class Profile:
    """Everything; None stands for what the reader may not see."""

    worth: Worth | None
    service: Service | None
    quotes: Sequence[Held] | None
    contracts: Sequence[Held] | None
    payments: Sequence[Held] | None
    done: Sequence[Done] | None

    @property
    def next_end(self) -> Held | None:
        """Return the contract in force that ends next."""
        return self.contracts[0] if self.contracts else None


def read_profile(reader: Reader, account: Account, now: datetime) -> Profile:
    """Return the profile of a customer that the reader sees."""
    held = _held(reader, account, now)
    return Profile(
        worth=_worth(reader, account.id, now) if _sees(reader, "order", "account_id") else None,
        service=None if "ticket" not in held else _service(held["ticket"]),
        quotes=held.get("quote"),
        contracts=held.get("contract"),
        payments=held.get("payment"),
        done=_done(reader, account, now) if _sees(reader, "activity", "kind") else None,
    )


def _sees(reader: Reader, record_type: str, *fields: str) -> bool:
    seen = reader.right(record_type).read is not Scope.NONE
    return seen and reader.may_be_told_of([f"{record_type}.{field}" for field in fields])


# ---------------------------------------------------------------- worth


def _worth(reader: Reader, account_id: int, now: datetime) -> Worth:
    told = reader.may_be_told_of(["order.amount", "order.currency"])
    amount: Any = func.sum(type_coerce(Order.amount, BigInteger)) if told else func.count()
    currency: Any = func.coalesce(Order.currency, "") if told else func.min("")
    query = (
        select(
            Order.account_id,
            currency.label("currency"),
            type_coerce(func.max(Order.occurred_at), BigInteger).label("last"),
            type_coerce(func.count(), BigInteger).label("orders"),
            type_coerce(amount, BigInteger).label("amount"),
        )
        .where(
            Order.deleted_at.is_(None),
            Order.occurred_at > now - YEAR,
            Order.occurred_at <= now,
            reader.readable(Order),
        )
        .group_by(Order.account_id, *([currency] if told else []))
    )
    rows = read_arrays(reader.session, query)
    return _ranked(rows, account_id, micros(now), with_money=told)


def _ranked(rows: Mapping[str, npt.NDArray[Any]], account_id: int, now: int, *, with_money: bool) -> Worth:
    accounts, which = np.unique(rows["account_id"], return_inverse=True)
    last = np.zeros(accounts.size, dtype=np.int64)
    orders = np.zeros(accounts.size, dtype=np.int64)
    np.maximum.at(last, which, rows["last"])
    np.add.at(orders, which, rows["orders"])
    mine = np.flatnonzero(accounts == account_id)
    if not mine.size:
        return Worth(days=None, orders=None, money=[], among=int(accounts.size))
    place = int(mine[0])
    money = []
    for row in np.flatnonzero(rows["account_id"] == account_id) if with_money else ():
        alike = rows["amount"][(rows["currency"] == rows["currency"][row]) & (rows["amount"] != NO_INSTANT)]
        if rows["amount"][row] != NO_INSTANT:
            value = Decimal(int(rows["amount"][row])) / MONEY_SCALE
            better = _share_below(alike, rows["amount"][row])
            money.append((str(rows["currency"][row]), Ranked(value=value, better_than=better)))
    return Worth(
        days=Ranked(value=(now - int(last[place])) / DAY, better_than=_share_below(last, last[place])),
        orders=Ranked(value=float(orders[place]), better_than=_share_below(orders, orders[place])),
        money=money,
        among=int(accounts.size),
    )


def _share_below(values: Ints, mine: int) -> float | None:
    """Return the share of the others that have less."""
    return None if values.size < 2 else float((values < mine).sum() / (values.size - 1))


# ---------------------------------------------------------------- the rest


_NEEDED: Final[Mapping[str, tuple[type[Record], tuple[str, ...]]]] = {
    "ticket": (Ticket, ("status",)),
    "quote": (Quote, ("status",)),
    "contract": (Contract, ("status", "ends_on")),
    "payment": (Payment, ("paid_at",)),
}
"""Without what of it none of a type is told."""

_FIELDS: Final[Mapping[str, Mapping[str, str]]] = {
    "ticket": {"title": "subject", "satisfaction": "satisfaction"},
    "quote": {"title": "number", "amount": "amount", "until": "valid_until"},
    "contract": {"title": "number", "amount": "value", "until": "ends_on"},
    "payment": {"title": "reference", "amount": "amount", "until": "due_on"},
}


def _held(reader: Reader, account: Account, now: datetime) -> dict[str, list[Held]]:
    """Return by type the tickets, and what is open of the rest, of those types that the reader sees."""
    seen = [name for name, (_, fields) in _NEEDED.items() if _sees(reader, name, *fields)]
    found: dict[str, list[Held]] = {name: [] for name in seen}
    if seen:
        parts = [_part(reader, account, name, now) for name in seen]
        for row in reader.session.execute(union_all(*parts)):
            found[row.record_type].append(_row(row))
    for name, rows in found.items():
        rows.sort(key=lambda one: (one.until or date.max, one.id))
        if name == "ticket":
            rows.sort(key=lambda one: (one.at, one.id), reverse=True)
    return found


def _part(reader: Reader, account: Account, name: str, now: datetime) -> Select[*tuple[Any, ...]]:
    model = _NEEDED[name][0]
    columns = columns_of(model)

    def told(part: str, kind: Any) -> Any:  # noqa: ANN401  columns of any type
        field = _FIELDS[name].get(part, part)
        shown = field in columns and reader.may_read_field(name, field)
        return (type_coerce(columns[field], kind) if shown else cast(null(), kind)).label(part)

    about = reader.select_about(model, account).where(*_still_open(name, now))
    return about.with_only_columns(
        literal(name).label("record_type"),
        model.id,
        told("title", String),
        told("status", String),
        told("amount", BigInteger),
        told("currency", String),
        type_coerce(model.occurred_at, BigInteger).label("at"),
        told("until", Integer),
        told("satisfaction", Integer),
    )


def _still_open(name: str, now: datetime) -> list[ColumnElement[bool]]:
    match name:
        case "quote":
            return [Quote.status.in_((QuoteStatus.DRAFT, QuoteStatus.SENT))]
        case "contract":
            return [Contract.status == ContractStatus.ACTIVE, Contract.ends_on >= now.date()]
        case "payment":
            return [Payment.paid_at.is_(None)]
    return []


def _row(row: Any) -> Held:  # noqa: ANN401  a row of the query above
    return Held(
        record_type=row.record_type,
        id=row.id,
        title=row.title,
        status=row.status,
        amount=None if row.amount is None else Decimal(row.amount) / MONEY_SCALE,
        currency=row.currency,
        at=instant(row.at),
        until=None if row.until is None else day_of(row.until),
        satisfaction=row.satisfaction,
    )


def _service(tickets: Sequence[Held]) -> Service:
    done = (TicketStatus.SOLVED, TicketStatus.CLOSED)
    answers = [each.satisfaction for each in tickets if each.satisfaction is not None]
    return Service(
        open=sum(each.status not in done for each in tickets),
        solved=sum(each.status in done for each in tickets),
        satisfaction=sum(answers) / len(answers) if answers else None,
        answers=len(answers),
        newest=tickets[:SHOWN],
    )


def _done(reader: Reader, account: Account, now: datetime) -> list[Done]:
    about = reader.select_about(Activity, account).where(
        Activity.occurred_at > now - YEAR, Activity.occurred_at <= now
    )
    recent = func.sum(case((Activity.occurred_at > now - RECENT, 1), else_=0))
    counts = (Activity.kind, recent, func.count(), func.max(Activity.occurred_at))
    query = about.with_only_columns(*counts).group_by(Activity.kind)
    found = [
        Done(kind=kind, recent=int(some), year=int(every), last=last)
        for kind, some, every, last in reader.session.execute(query)
    ]
    return sorted(found, key=lambda each: (-each.year, each.kind))
