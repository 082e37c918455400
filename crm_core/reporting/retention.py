"""What became of customers, by the quarter in which they first bought or signed.

A customer is an account with an order or a contract. In a quarter it is still one if it ordered in it, or had
a contract in force on its last day. A quarter counts for a cohort only once all of it lies before the instant
of the report: what is not over yet is not there, and is not counted as lost.

Time rule: that of `crm_core.reporting`; an order that was learned of later does not make anybody a customer
earlier, and a contract is in force as it was known then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from crm_core.access import Reader
from crm_core.arrays import NO_INSTANT
from crm_core.clock import instant
from crm_core.errors import AccessDeniedError, InvalidValueError
from crm_core.phrases import Phrase
from crm_core.records import Account, Contract, Order
from crm_core.reporting.conditions import ALWAYS
from crm_core.reporting.counting import Figure
from crm_core.reporting.facts import Facts, View, read_facts, read_linked
from crm_core.reporting.intervals import of_share
from crm_core.reporting.periods import Parts, ends_of_days, first_day, next_first, starts_of_days

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

_NEEDS: Final[Mapping[str, tuple[str, ...]]] = {
    "order": ("order.account_id",),
    "contract": ("contract.account_id", "contract.starts_on", "contract.ends_on", "contract.ended_at"),
}
_NEVER: Final = np.iinfo(np.int64).max


@dataclass(frozen=True, kw_only=True)
class Cohort:
    """Customers who first bought in one quarter; `kept` has a share for each later quarter that is over.

    The first of `kept` is the quarter after the one of the first purchase. `customers` counts all of them.
    """

    key: str
    customers: int
    kept: Sequence[Figure]


@dataclass(frozen=True, kw_only=True)
class Retention:
    """The cohorts, the oldest first, and all of them together by quarters since the first purchase.

    `told` are the record types that say who is a customer, as far as the reader may see them.
    """

    as_of: datetime
    cohorts: Sequence[Cohort]
    whole: Sequence[Figure]
    told: Sequence[str]

    @property
    def longest(self) -> int:
        """Return after how many quarters the oldest cohort was last looked at."""
        return max((len(cohort.kept) for cohort in self.cohorts), default=0)


def retain(reader: Reader, as_of: datetime, now: datetime, zone: str) -> Retention:
    """Return what became of the customers that a reader may see, as known at an instant.

    Raises AccessDeniedError for a role that may see neither orders nor contracts.
    """
    if as_of > now:
        raise InvalidValueError("as_of", as_of.isoformat(), "an instant that is not in the future")
    told = [name for name, fields in _NEEDS.items() if reader.may_be_told_of(fields)]
    if not told:
        raise AccessDeniedError(
            Phrase("the role {role} may see neither orders nor contracts", role=reader.user.role)
        )
    view = View(reader=reader, as_of=as_of, past=as_of < now)
    orders = _Bought.orders(view) if "order" in told else _Bought.none()
    contracts = _Bought.contracts(view, ZoneInfo(zone)) if "contract" in told else _Bought.none()
    cohorts, whole = _cohorts(view, orders, contracts, ZoneInfo(zone))
    return Retention(as_of=as_of, cohorts=cohorts, whole=whole, told=told)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Bought:
    """Purchases: whose, since when, and until when they make somebody a customer."""

    account: Ints
    since: Ints
    until: Ints

    @classmethod
    def none(cls) -> _Bought:
        nothing = np.empty(0, dtype=np.int64)
        return cls(account=nothing, since=nothing, until=nothing)

    @classmethod
    def orders(cls, view: View) -> _Bought:
        facts = read_facts(view, Order, ["account_id"], ALWAYS)
        at = facts.columns["occurred_at"]
        return cls.of_known(view, facts, at, at)

    @classmethod
    def contracts(cls, view: View, zone: ZoneInfo) -> _Bought:
        facts = read_facts(view, Contract, ["account_id", "starts_on", "ends_on", "ended_at"], ALWAYS)
        columns = facts.columns
        ends = ends_of_days(columns["ends_on"], zone)
        ended = columns["ended_at"]
        until = np.where((ended != NO_INSTANT) & (ended < ends), ended, ends)
        return cls.of_known(view, facts, starts_of_days(columns["starts_on"], zone), until)

    @classmethod
    def of_known(cls, view: View, facts: Facts, since: Ints, until: Ints) -> _Bought:
        """Leave out what is of accounts that the reader may not see or that were not known."""
        account = facts.columns["account_id"]
        seen, _ = read_linked(view, Account, [], np.unique(account))
        kept = np.isin(account, seen) & (since <= view.at)
        return cls(account=account[kept], since=since[kept], until=until[kept])


def _cohorts(
    view: View, orders: _Bought, contracts: _Bought, zone: ZoneInfo
) -> tuple[list[Cohort], list[Figure]]:
    account = np.concatenate([orders.account, contracts.account])
    if not account.size:
        return [], []
    customers, which = np.unique(account, return_inverse=True)
    first = np.full(customers.size, _NEVER)
    np.minimum.at(first, which, np.concatenate([orders.since, contracts.since]))
    quarters = _quarters(int(first.min()), view.as_of, zone)
    starts = quarters.starts
    born = quarters.place(first)
    over = int(np.searchsorted(starts[1:], view.at + 1, side="right"))
    active = [
        _active(customers, orders, contracts, *starts[place : place + 2].tolist()) for place in range(over)
    ]
    cohorts = [
        Cohort(
            key=quarters.keys[place],
            customers=int((born == place).sum()),
            kept=[_share(active[later], born == place) for later in range(place + 1, over)],
        )
        for place in range(len(quarters.firsts))
        if (born == place).any()
    ]
    return cohorts, _together(born, active, over)


def _quarters(first: int, as_of: datetime, zone: ZoneInfo) -> Parts:
    """Return the quarters from the one of the first purchase to the end of the one at hand."""
    since = first_day("quarter", instant(first).astimezone(zone).date())
    after = next_first("quarter", first_day("quarter", as_of.astimezone(zone).date()))
    return Parts(span="quarter", since=since, until=after - timedelta(days=1), zone=zone)


def _active(customers: Ints, orders: _Bought, contracts: _Bought, start: int, end: int) -> Bools:
    """Return who was a customer in a quarter."""
    bought = orders.account[(orders.since >= start) & (orders.since < end)]
    bound = contracts.account[(contracts.since < end) & (contracts.until >= end)]
    return np.isin(customers, np.concatenate([bought, bound]))


def _share(active: Bools, members: Bools) -> Figure:
    count, of = int((active & members).sum()), int(members.sum())
    low, high = of_share(count, of)
    return Figure(value=count / of, count=of, low=low, high=high)


def _together(born: Ints, active: Sequence[Bools], over: int) -> list[Figure]:
    """Return by quarters since the first purchase the share of all cohorts that are so old."""
    found = []
    for later in range(1, over):
        kept = of = 0
        for place in range(over - later):
            members = born == place
            of += int(members.sum())
            kept += int((active[place + later] & members).sum())
        if of:
            low, high = of_share(kept, of)
            found.append(Figure(value=kept / of, count=of, low=low, high=high))
    return found
