"""What deals that ended so far tell: what they bring, how often they are won, how long they stay in a stage.

Time rule: that of `crm_core.history`; what was learned, or happened, after the instant asked about is not
there. Currencies are never added: no exchange rates are kept. To put amounts of several into one order, each
is counted in usual deals of its own currency: a deal twice as large as usual is twice as large as usual.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from statistics import fmean, median
from weakref import WeakKeyDictionary

import numpy as np
from sqlalchemy import BigInteger, Engine, select, type_coerce
from sqlalchemy.orm import Session

from crm_core.clock import DAY, micros
from crm_core.columns import MONEY_SCALE
from crm_core.history import read_histories, values_as_of
from crm_core.records import Account, Deal, DealStatus
from crm_core.store import Store

LIKE_ALL = 20
"""The mean of an industry counts as much as that of all once so many of its first deals were won."""
FEWEST_IN_INDUSTRY = 5
"""First deals below which an industry has no mean of its own: it would tell of single deals."""
FEWEST_WON = 10
"""Won deals below which a stage has no norm."""
NORM_PERCENTILE = 75

FRESH = timedelta(minutes=10)
"""For how long what was read is good enough: the past hardly changes."""


@dataclass(frozen=True, kw_only=True)
class Usual:
    """A mean amount in the main currency, and how many first deals it is of."""

    amount: float
    deals: int


@dataclass(frozen=True, kw_only=True)
class StageNorm:
    """How long three quarters of the won deals stayed in a stage at most: days, and how many deals."""

    days: float
    deals: int


@dataclass(frozen=True, kw_only=True)
class WonDeals:
    """What was known at `as_of`.

    `factors` turn an amount of a currency into the main one by their usual deals. `first` is the mean of the
    first deals that customers gave us, `by_industry` the same of an industry, drawn towards that of all.
    `share` is that of closed deals that were won; None where none is closed.
    """

    as_of: datetime
    currency: str | None = None
    factors: Mapping[str, float] = field(default_factory=dict)
    first: Usual | None = None
    by_industry: Mapping[str, Usual] = field(default_factory=dict)
    share: float | None = None
    closed: int = 0
    norms: Mapping[tuple[str, str], StageNorm] = field(default_factory=dict)

    def in_main(self, amount: float | None, currency: str | None) -> float | None:
        """Return an amount in the main currency; None where it, or its currency, is not known."""
        if amount is None:
            return None
        if not self.factors:
            return amount
        factor = self.factors.get(currency or "")
        return None if factor is None else amount * factor

    def usual_first(self, industry: str | None) -> Usual | None:
        """Return what a first deal in an industry is usually worth."""
        return self.by_industry.get(industry or "", self.first)


@dataclass(frozen=True, kw_only=True)
class _Deal:
    """A deal as known at an instant; instants in microseconds."""

    id: int
    account_id: int | None
    pipeline: str
    began: int
    status: str
    stage: str
    amount: float | None
    currency: str
    closed_at: int | None


def recent_won_deals(store: Store) -> WonDeals:
    """Return what is known now, or was known a few minutes ago."""
    now, kept = store.clock.now(), _KEPT.get(store.engine)
    if kept is not None and timedelta(0) <= now - kept.as_of < FRESH:
        return kept
    with store.reading() as session:
        found = read_won_deals(session, now)
    if found.closed:
        _KEPT[store.engine] = found
    return found


_KEPT: WeakKeyDictionary[Engine, WonDeals] = WeakKeyDictionary()


def read_won_deals(session: Session, as_of: datetime) -> WonDeals:
    """Return what deals that ended by an instant tell, as known then."""
    at = micros(as_of)
    deals = _read(session, at)
    won = [deal for deal in deals if deal.status == DealStatus.WON]
    closed = sum(deal.status != DealStatus.OPEN for deal in deals)
    factors = _factors(deals, won)
    firsts = _firsts(session, won, factors, at)
    every = [amount for amounts in firsts.values() for amount in amounts]
    first = Usual(amount=fmean(every), deals=len(every)) if every else None
    return WonDeals(
        as_of=as_of,
        currency=next(iter(factors), None),
        factors=factors,
        first=first,
        by_industry={} if first is None else _by_industry(firsts, first),
        share=len(won) / closed if closed else None,
        closed=closed,
        norms=_norms(session, won, at),
    )


def _read(session: Session, at: int) -> list[_Deal]:
    instants = (Deal.occurred_at, Deal.recorded_at, Deal.deleted_at)
    query = select(
        Deal.id, Deal.account_id, Deal.pipeline, *(type_coerce(one, BigInteger) for one in instants)
    )
    rows = [
        row
        for row in session.connection().execute(query.order_by(Deal.id))
        if max(row[3], row[4]) <= at < (row[5] or at + 1)
    ]
    ids = np.array([row[0] for row in rows], dtype=np.int64)
    asked = np.full(ids.size, at, dtype=np.int64)
    held = (
        values_as_of(session, Deal, name, ids, asked).tolist()
        for name in ("status", "stage", "amount", "currency", "closed_at")
    )
    return [
        _Deal(
            id=row[0],
            account_id=row[1],
            pipeline=row[2],
            began=row[3],
            status=status,
            stage=stage,
            amount=None if amount is None else amount / MONEY_SCALE,
            currency=currency or "",
            closed_at=closed_at,
        )
        for row, status, stage, amount, currency, closed_at in zip(rows, *held, strict=True)
    ]


def _factors(deals: Sequence[_Deal], won: Sequence[_Deal]) -> dict[str, float]:
    """Return by currency what turns an amount into the main one, which comes first and is that of most deals.

    A usual deal is the median of those that were won, of all where too few were.
    """
    usual: dict[str, tuple[int, float]] = {}
    for some, fewest in ((deals, 1), (won, FEWEST_IN_INDUSTRY)):
        amounts: defaultdict[str, list[float]] = defaultdict(list)
        for deal in some:
            if deal.amount:
                amounts[deal.currency].append(deal.amount)
        counted = {name: (len(each), median(each)) for name, each in amounts.items() if len(each) >= fewest}
        usual |= counted
    ordered = sorted(usual, key=lambda name: (-usual[name][0], name))
    return {name: usual[ordered[0]][1] / usual[name][1] for name in ordered}


def _firsts(
    session: Session, won: Sequence[_Deal], factors: Mapping[str, float], at: int
) -> dict[str, list[float]]:
    """Return by industry the amounts, in the main currency, of the first deal that each customer gave us."""
    first: dict[int, _Deal] = {}
    for deal in sorted(won, key=lambda deal: (deal.closed_at or 0, deal.id)):
        first.setdefault(deal.account_id or -deal.id, deal)
    accounts = np.array(sorted({key for key in first if key > 0}), dtype=np.int64)
    asked = np.full(accounts.size, at, dtype=np.int64)
    industries = values_as_of(session, Account, "industry", accounts, asked).tolist()
    industry_of = dict(zip(accounts.tolist(), industries, strict=True))
    found: defaultdict[str, list[float]] = defaultdict(list)
    for key, deal in first.items():
        if deal.amount:
            found[industry_of.get(key) or ""].append(deal.amount * factors[deal.currency])
    return found


def _by_industry(firsts: Mapping[str, Sequence[float]], all_of_them: Usual) -> dict[str, Usual]:
    return {
        industry: Usual(
            amount=(sum(amounts) + LIKE_ALL * all_of_them.amount) / (len(amounts) + LIKE_ALL),
            deals=len(amounts),
        )
        for industry, amounts in firsts.items()
        if industry and len(amounts) >= FEWEST_IN_INDUSTRY
    }


Moves = dict[int, list[tuple[int, str, str]]]
"""By deal, in order: when it moved, from which stage, to which."""


def _norms(session: Session, won: Sequence[_Deal], at: int) -> dict[tuple[str, str], StageNorm]:
    """Return how long won deals stayed in each stage; a stage entered twice is two stays."""
    moves = _moves(session, at, {deal.id for deal in won})
    stays: defaultdict[tuple[str, str], list[tuple[int, int]]] = defaultdict(list)
    for deal in won:
        entered = deal.began
        for moved_at, left, _ in moves.get(deal.id, ()):
            stays[deal.pipeline, left].append((deal.id, max(0, moved_at - entered)))
            entered = moved_at
    return {
        key: StageNorm(
            days=float(np.percentile([length for _, length in each], NORM_PERCENTILE)) / DAY,
            deals=len({deal for deal, _ in each}),
        )
        for key, each in stays.items()
        if len({deal for deal, _ in each}) >= FEWEST_WON
    }


def _moves(session: Session, at: int, deals: Iterable[int]) -> Moves:
    wanted, history = set(deals), read_histories(session, Deal, ["stage"])["stage"]
    known = np.maximum(history.occurred_at, history.recorded_at) <= at
    columns = (history.record_id, history.occurred_at, history.change_id, history.old, history.new)
    rows = zip(*(column[known].tolist() for column in columns), strict=True)
    found: Moves = defaultdict(list)
    for deal, moved_at, _, old, new in sorted(rows, key=lambda row: row[:3]):
        if deal in wanted:
            found[deal].append((moved_at, old, new))
    return found
