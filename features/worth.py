"""What customers bring in a year, as it was known: what is lost when they leave.

- With contracts that run at the instant: the sum of value x 365 / days of the contract.
- Otherwise, by orders: the sum of the orders of the last 365 days; of a customer who first ordered later,
  that sum x 365 / days since then, but never over fewer than 90 days, so that one order is not a habit.

Currencies are kept apart. Whoever has both has contracts: orders may be billed under them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal

import numpy as np
from sqlalchemy.orm import Session

from crm_core.arrays import NO_INSTANT
from crm_core.clock import DAY, micros
from crm_core.columns import MONEY_SCALE
from crm_core.records import Contract, Order
from crm_core.store import Store
from crm_core.worth import NO_CURRENCY
from features.contracts import RUNNING_FIELDS, running
from features.events import Versions
from features.reading import EventAhead, event_ahead, read_versions
from features.supposed import Supposed

YEAR_DAYS = 365

SHORTEST_DAYS = 90
"""A customer who began to order later than this is taken to have begun then."""

Worth = list[dict[str, str]]
"""{"currency", "amount" (a decimal number), "of" ("contract" or "order")} by currency."""

_CENT = Decimal("0.01")

_CONTRACT_FIELDS = (*RUNNING_FIELDS, "value", "currency")
_ORDER_FIELDS = ("amount", "currency")


def yearly_values_ahead() -> list[EventAhead]:
    """Return what `yearly_values` reads of a customer, to be read ahead."""
    return [
        event_ahead(Contract.record_type, _CONTRACT_FIELDS, "account_id"),
        event_ahead(Order.record_type, _ORDER_FIELDS, "account_id"),
    ]


def yearly_values(
    store: Store, ids: Sequence[int], as_of: datetime, supposed: Supposed | None = None
) -> dict[int, Worth]:
    """Return what each customer brings in a year, as known at `as_of`; nobody without any amount."""
    accounts, at = np.asarray(ids, dtype=np.int64), micros(as_of)
    if not accounts.size:
        return {}
    with store.reading() as session:
        found = {
            key: _told(sums, "contract") for key, sums in _contracts(session, accounts, at, supposed).items()
        }
        others = np.setdiff1d(accounts, np.array(list(found), dtype=np.int64))
        orders = _orders(session, others, at, supposed) if others.size else {}
    return found | {key: _told(sums, "order") for key, sums in orders.items()}


Sums = dict[str, Decimal]


def _contracts(session: Session, accounts: np.ndarray, at: int, supposed: Supposed | None) -> dict[int, Sums]:
    found = running(read_versions(session, Contract, "account_id", accounts, _CONTRACT_FIELDS, supposed))
    found = found.take((found.start <= at) & (at < found.stop))
    sums: dict[int, Sums] = defaultdict(lambda: defaultdict(Decimal))
    days = (found.columns["ends_on"] - found.columns["starts_on"]) // DAY
    for key, value, currency, length in _rows(found, "value", days):
        sums[key][currency] += value * YEAR_DAYS / max(length, 1)
    return sums


def _orders(session: Session, accounts: np.ndarray, at: int, supposed: Supposed | None) -> dict[int, Sums]:
    found = read_versions(session, Order, "account_id", accounts, _ORDER_FIELDS, supposed)
    found = found.take((found.start <= at) & (at < found.stop))
    ago = (at - found.occurred_at) // DAY
    since = {int(key): int(ago[found.key == key].max()) for key in np.unique(found.key)}
    sums: dict[int, Sums] = defaultdict(lambda: defaultdict(Decimal))
    for key, value, currency, days in _rows(found, "amount", ago):
        if days < YEAR_DAYS:
            over = min(max(since[key], SHORTEST_DAYS), YEAR_DAYS)
            sums[key][currency] += value * YEAR_DAYS / over
    return sums


def _rows(found: Versions, field: str, days: np.ndarray) -> list[tuple[int, Decimal, str, int]]:
    values = found.columns[field].tolist()
    currencies = found.columns["currency"].tolist()
    return [
        (key, Decimal(value) / MONEY_SCALE, currency or NO_CURRENCY, length)
        for key, value, currency, length in zip(
            found.key.tolist(), values, currencies, days.tolist(), strict=True
        )
        if value != NO_INSTANT
    ]


def _told(sums: Sums, of: str) -> Worth:
    return [
        {"currency": currency, "amount": str(amount.quantize(_CENT)), "of": of}
        for currency, amount in sorted(sums.items())
        if amount > 0
    ]
