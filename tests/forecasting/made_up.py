"""Outlooks and companies made up in memory, whose truth is known."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from crm_core.arrays import NO_INSTANT
from crm_core.clock import DAY, micros
from models.forecasting.amounts import Worth
from models.forecasting.arrivals import NewWins
from models.forecasting.book import NOBODY, Snapshot
from models.forecasting.outlook import Outlook
from models.forecasting.periods import Span, period_at
from models.hazard import Floats

AS_OF = micros(datetime(2026, 1, 1, tzinfo=UTC))
QUARTER = period_at(Span.QUARTER, AS_OF)


def snapshot(count: int, as_of: int = AS_OF, **given: Any) -> Snapshot:
    """So many open deals over 100 in EUR, of nobody."""
    columns = {
        "ids": np.arange(1, count + 1),
        "born": np.full(count, as_of - 10 * DAY),
        "known_from": np.full(count, as_of - 10 * DAY),
        "is_open": np.ones(count, dtype=bool),
        "won_at": np.full(count, NO_INSTANT),
        "amount": np.full(count, 100.0),
        "currency": np.array(["EUR"] * count, dtype=object),
        "pipeline": np.array(["default"] * count, dtype=object),
        "stage": np.array(["needs"] * count, dtype=object),
        "owner": np.full(count, NOBODY),
        "rep_probability": np.full(count, np.nan),
        "expected_close_at": np.full(count, NO_INSTANT),
    }
    return Snapshot(as_of=as_of, **(columns | given))


def new_wins(count: float = 0.0, *, variance: float = 0.0, amounts: Floats | None = None) -> NewWins:
    """Wins of deals not created yet, in EUR, of nobody."""
    paid = np.array([100.0]) if amounts is None else amounts
    return NewWins(
        count=count,
        variance=variance,
        amounts={"EUR": paid},
        currency_shares={"EUR": 1.0},
        owners=np.array([NOBODY]),
        shares=np.array([1.0]),
    )


def outlook(
    until: Floats,
    *,
    amounts: Floats | None = None,
    owner: Any = None,
    new: NewWins | None = None,
    ratios: Floats | None = None,
    won: Snapshot | None = None,
) -> Outlook:
    """A quarter with open deals of these cumulated hazards."""
    count = until.size
    base = np.full(count, 100.0) if amounts is None else amounts
    owners = np.full(count, NOBODY) if owner is None else owner
    coming = new or new_wins()
    return Outlook(
        as_of=AS_OF,
        period=QUARTER,
        currency="EUR",
        won=won or snapshot(0),
        open=snapshot(count, amount=base, owner=owners),
        before=np.zeros(count),
        until=until,
        worth=Worth(base=base, spread=np.zeros(count), ratios=np.ones(1) if ratios is None else ratios),
        new=coming,
        new_share=1.0,
        amounts=coming.amounts["EUR"],
    )


@dataclass(frozen=True, kw_only=True)
class Quarter:
    """What could be said of a quarter, and what came."""

    outlook: Outlook
    wins: int
    revenue: float


def make_quarter(rng: np.random.Generator, spread: float, *, deals: int = 80, new: float = 8.0) -> Quarter:
    """A quarter whose deals share a shock of a known spread."""
    until, amounts = rng.gamma(1.0, 0.3, deals), np.exp(rng.normal(4.6, 0.7, deals))
    paid = np.exp(rng.normal(4.6, 0.7, 60))
    factor = np.exp(rng.normal(0.0, spread))
    won = rng.random(deals) < -np.expm1(-until * factor)
    came = rng.choice(paid, rng.poisson(new * factor))
    said = outlook(until, amounts=amounts, new=new_wins(new, variance=0.01, amounts=paid))
    revenue = float(amounts[won].sum() + came.sum())
    return Quarter(outlook=said, wins=int(won.sum()) + came.size, revenue=revenue)
