"""What people forecast by: stages times amounts, the reps' own numbers, and what came the last time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from crm_core.arrays import NO_INSTANT
from models.forecasting.book import DealBook, Snapshot
from models.forecasting.periods import Period
from models.hazard import Bools, Floats, Ints

SIMPLE_RULES = ("stages", "reps", "last_period", "last_year")

_EVEN_WEIGHT = 4.0
"""Deals at the overall rate that are added to those of a stage."""


@dataclass(frozen=True, kw_only=True)
class Simple:
    """Other people's figures for a period; None where they have none.

    `stages`: won already, plus the stage's past share of wins times the amount of deals that are expected to
    close in the period. `reps`: the same with what the reps believe. `last_period`, `last_year`: what came in
    the period before the one at hand, and in the same one a year ago.
    """

    stages: float
    reps: float
    last_period: float | None
    last_year: float | None

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {name: None if value is None else round(value, 2) for name, value in vars(self).items()}


def stage_rates(book: DealBook, now: Snapshot) -> dict[str, float]:
    """Return, by stage, the share that was won of the closed deals that had been in it; lost are the others.

    As CRMs do it: deals still open are left out, which makes it too high.
    """
    closed = ~now.is_open
    ids, won = now.ids[closed], now.is_won[closed]
    visits = _visits(book, now, ids)
    overall = float((won.sum() + 1) / (won.size + 2))
    rates = {}
    for stage, deals in visits.items():
        wins = won[np.isin(ids, deals)]
        rates[stage] = float((wins.sum() + _EVEN_WEIGHT * overall) / (wins.size + _EVEN_WEIGHT))
    return rates | {"": overall}


def simple_rules(
    book: DealBook,
    now: Snapshot,
    period: Period,
    currency: str,
    rates: dict[str, float],
    owners: Ints | None = None,
) -> Simple:
    """Return what simple rules say of a period, as known at `now.as_of`; for the deals of some owners."""
    here = _in(now, currency, owners)
    due = here & now.is_open & (now.expected_close_at != NO_INSTANT)
    due &= (now.expected_close_at >= period.start) & (now.expected_close_at < period.end)
    amount = np.nan_to_num(now.amount)
    already = float(amount[here & now.won_within(period.start, period.end)].sum())
    rate = np.array([rates.get(str(stage), rates[""]) for stage in now.stage], dtype=np.float64)
    belief: Floats = np.where(np.isnan(now.rep_probability), rate, now.rep_probability)
    back = 1
    while period.moved(-back).end > now.as_of:
        back += 1
    return Simple(
        stages=already + float((rate * amount)[due].sum()),
        reps=already + float((belief * amount)[due].sum()),
        last_period=_came(book, now, period.moved(-back), here),
        last_year=_came(book, now, period.moved(-12 // period.span.months), here),
    )


def revenue_of(now: Snapshot, period: Period, currency: str) -> float:
    """Return what was won in a period, as known at `now.as_of`."""
    rows = _in(now, currency, None) & now.won_within(period.start, period.end)
    return float(np.nansum(now.amount[rows]))


def _in(now: Snapshot, currency: str, owners: Ints | None) -> Bools:
    here = np.asarray(now.currency == currency, dtype=np.bool_)
    return here if owners is None else here & np.isin(now.owner, owners)


def _came(book: DealBook, now: Snapshot, period: Period, here: Bools) -> float | None:
    """Return what came in a period that is over; None where the store does not reach back so far."""
    first = book.first_known
    if first is None or period.start < first or period.end > now.as_of:
        return None
    return float(np.nansum(now.amount[here & now.won_within(period.start, period.end)]))


def _visits(book: DealBook, now: Snapshot, ids: Ints) -> dict[str, Ints]:
    """Return by stage the deals that are known to have been in it."""
    history = book.histories["stage"]
    known = (history.recorded_at <= now.as_of) & (history.occurred_at <= now.as_of)
    known &= np.isin(history.record_id, ids)
    rows = now.rows_of(ids)
    deals = np.concatenate([history.record_id[known], history.record_id[known], ids])
    stages = np.concatenate([history.old[known], history.new[known], now.stage[rows]])
    return {str(stage): np.unique(deals[stages == stage]) for stage in {one for one in stages if one}}
