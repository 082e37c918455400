"""Deals that nobody has written down yet: how many will come, how soon they are won, and for how much."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crm_core.clock import DAY, instant
from models.forecasting.book import Snapshot
from models.forecasting.periods import Period, month_starts
from models.hazard import Bools, Floats, Ints

BACKFILLED_AFTER_DAYS = 45
"""A deal written down so long after it began was imported as history: it is no sign of how many come."""

LEARN_DAYS = 730
"""How far back arrivals and delays teach."""

HALF_LIFE_DAYS = 540
"""After so many days a month's arrivals count half."""

SEASON_FROM_DAYS = 540
"""Below so much history, a season cannot be told from a trend."""

_DELAY_STEP = 7
_LONGEST_DELAY = 210
_TREND_SPREAD = 0.25
_SEASON_SPREAD = 0.20
_FEWEST_AMOUNTS = 15
_SHARES_DAYS = 180
_QUICK_DAYS = 120
_MILD_OVERDISPERSION = 1.2
_YEAR = 365.25 * DAY


@dataclass(frozen=True, kw_only=True, eq=False)
class NewWins:
    """Wins of a period among deals that were not known at `as_of`.

    `count`: how many are expected. `variance`: that of the gamma factor by which their rate may be off.
    `amounts` float64[m]: what such deals were won for, each as likely. `owners` int64[k] with `shares`
    float64[k], adding up to 1. `currencies`: shares of the wins, by name, with the amounts of each.
    """

    count: float
    variance: float
    amounts: dict[str, Floats]
    currency_shares: dict[str, float]
    owners: Ints
    shares: Floats


@dataclass(frozen=True, kw_only=True, eq=False)
class Arrivals:
    """How deals come and what becomes of them, learned at `as_of` from what was known then."""

    as_of: int
    coefficients: Floats
    covariance: Floats
    overdispersion: float
    delay_hazard: Floats
    first: int

    def rate(self, at: Floats) -> Floats:
        """Return deals a day at instants (microseconds)."""
        return np.asarray(np.exp(_design(at, self.as_of, self.first) @ self.coefficients), dtype=np.float64)

    def won_by(self, days: Floats) -> Floats:
        """Return the share of new deals that is won within so many days; 0 for negative ones."""
        steps = np.concatenate([[0.0], np.cumsum(self.delay_hazard)])
        at = np.arange(steps.size) * float(_DELAY_STEP)
        return np.asarray(-np.expm1(-np.interp(np.maximum(days, 0.0), at, steps)), dtype=np.float64)

    def wins_in(self, period: Period) -> float:
        """Return how many deals are expected to be written down after `as_of` and won in a period."""
        first, last = self.as_of, period.end
        if last <= first:
            return 0.0
        steps = max(int(np.ceil((last - first) / DAY)), 1)
        width = (last - first) / steps
        middle: Floats = first + (np.arange(steps, dtype=np.float64) + 0.5) * width
        won = self.won_by((period.end - middle) / DAY) - self.won_by((period.start - middle) / DAY)
        return float((self.rate(middle) * won).sum() * width / DAY)

    def spread_of_rate(self, period: Period) -> float:
        """Return the variance of the factor by which the rate may be off: chance and not knowing it well."""
        middle = np.array([(self.as_of + period.end) / 2.0])
        design = _design(middle, self.as_of, self.first)
        unknown = float((design @ self.covariance @ design.T)[0, 0]) * self.overdispersion
        if not _knows_season(self.as_of, self.first):
            unknown += _SEASON_SPREAD**2
        coming = float(self.rate(middle)[0]) * max((period.end - self.as_of) / DAY, 1.0)
        return unknown + (self.overdispersion - 1.0) / max(coming, 1e-9)


def learn_arrivals(now: Snapshot) -> Arrivals:
    """Return how deals come, from whole months before `now.as_of` and the begun one."""
    came = now.known_from - now.born <= BACKFILLED_AFTER_DAYS * DAY
    when = now.known_from[came]
    first = int(when.min()) if when.size else now.as_of - 30 * DAY
    since = max(first, now.as_of - LEARN_DAYS * DAY)
    edges = np.array([since, *month_starts(since, now.as_of - 1), now.as_of], dtype=np.int64)
    edges = _without_ramp(edges)
    counts, _ = np.histogram(when, bins=edges)
    fitted = _fit_rate(edges, counts.astype(np.float64), now.as_of, first)
    return Arrivals(
        as_of=now.as_of,
        coefficients=fitted[0],
        covariance=fitted[1],
        overdispersion=fitted[2],
        delay_hazard=_delays(now.take(came)),
        first=first,
    )


def new_wins(arrivals: Arrivals, now: Snapshot, period: Period) -> NewWins:
    """Return what is expected of deals not known yet in a period."""
    amounts, shares = _amounts(now)
    owners, owner_shares = _owner_shares(now)
    return NewWins(
        count=arrivals.wins_in(period),
        variance=arrivals.spread_of_rate(period),
        amounts=amounts,
        currency_shares=shares,
        owners=owners,
        shares=owner_shares,
    )


def _without_ramp(edges: Ints) -> Ints:
    """Leave out the time in which the store was begun, where there is enough besides."""
    return edges[2:] if edges.size > 8 else edges


def _design(at: Floats, as_of: int, first: int) -> Floats:
    """Return level, trend in years, and the season where there is enough history to tell it.

    The trend says where the level is at `as_of` and is not carried on: stores grow fastest when begun.
    """
    day = np.array([instant(int(one)).timetuple().tm_yday for one in at]) * (2 * np.pi / 365.25)
    known = float(_knows_season(as_of, first))
    years = np.minimum((at - as_of) / _YEAR, 0.0)
    return np.stack([np.ones(at.size), years, np.sin(day) * known, np.cos(day) * known], axis=1)


def _knows_season(as_of: int, first: int) -> bool:
    return as_of - first >= SEASON_FROM_DAYS * DAY


def _fit_rate(edges: Ints, counts: Floats, as_of: int, first: int) -> tuple[Floats, Floats, float]:
    """Return weights, their covariance and the overdispersion of a shrunken Poisson regression."""
    days = np.diff(edges) / DAY
    middle = (edges[:-1] + edges[1:]) / 2.0
    design = _design(middle, as_of, first)
    weight = 0.5 ** ((as_of - middle) / (HALF_LIFE_DAYS * DAY))
    prior = np.array([1e-3, _TREND_SPREAD**-2, _SEASON_SPREAD**-2, _SEASON_SPREAD**-2])
    start = np.log((counts.sum() + 0.5) / max(days.sum(), 1.0))
    centre = np.array([start, 0.0, 0.0, 0.0])
    point = centre.copy()
    for _ in range(30):
        mean = days * np.exp(design @ point)
        gradient = design.T @ (weight * (mean - counts)) + prior * (point - centre)
        curvature = (design.T * (weight * mean)) @ design + np.diag(prior)
        step = np.linalg.solve(curvature, gradient)
        point = point - np.clip(step, -1.0, 1.0)
        if np.abs(step).max() < 1e-10:
            break
    mean = days * np.exp(design @ point)
    pearson = float((weight * (counts - mean) ** 2 / np.maximum(mean, 1e-9)).sum())
    seen = float(weight.sum())
    overdispersion = max((pearson + 5 * _MILD_OVERDISPERSION) / (seen + 5), 1.0)
    return point, np.linalg.inv(curvature), overdispersion


def _delays(came: Snapshot) -> Floats:
    """Return the hazard of being won, by weeks since a deal became known; whole weeks of each deal only."""
    recent = came.known_from > came.as_of - LEARN_DAYS * DAY
    age = (came.as_of - came.known_from[recent]) / DAY
    won_at = came.won_at[recent]
    delay = np.where(came.is_won[recent], np.maximum((won_at - came.known_from[recent]) / DAY, 0.0), np.inf)
    steps = np.arange(0, _LONGEST_DELAY, _DELAY_STEP)
    over = age[:, None] >= steps + _DELAY_STEP
    at_risk = (over & (delay[:, None] >= steps)).sum(axis=0)
    events = (over & (delay[:, None] >= steps) & (delay[:, None] < steps + _DELAY_STEP)).sum(axis=0)
    overall = (events.sum() + 0.1) / (at_risk.sum() + 10.0)
    chance = (events + 20.0 * overall) / (at_risk + 20.0)
    return np.asarray(-np.log1p(-np.minimum(chance, 0.99)), dtype=np.float64)


def _amounts(now: Snapshot) -> tuple[dict[str, Floats], dict[str, float]]:
    """Return what was paid for deals won soon after they came, by currency, and each currency's share."""
    worth = now.amount > 0
    quick = now.is_won & (now.won_at - now.known_from <= _QUICK_DAYS * DAY)
    recent = now.known_from > now.as_of - LEARN_DAYS * DAY
    amounts: dict[str, Floats] = {}
    counts: dict[str, float] = {}
    for currency in sorted({str(one) for one in now.currency[worth]}):
        here = worth & np.asarray(now.currency == currency, dtype=np.bool_)
        amounts[currency] = _first_large(
            now.amount[here & quick & recent], now.amount[here & now.is_won], now.amount[here]
        )
        counts[currency] = float((here & now.is_won).sum()) + 0.5 * float(here.mean())
    total = sum(counts.values())
    return amounts, {currency: count / total for currency, count in counts.items()}


def _first_large(*pools: Floats) -> Floats:
    for pool in pools:
        if pool.size >= _FEWEST_AMOUNTS:
            return pool
    return pools[-1]


def _owner_shares(now: Snapshot) -> tuple[Ints, Floats]:
    """Return who has the deals that came of late, and what share of them."""
    rows: Bools = now.known_from > now.as_of - _SHARES_DAYS * DAY
    if not rows.any():
        rows = np.ones(len(now), dtype=np.bool_)
    owners, count = np.unique(now.owner[rows], return_counts=True)
    return owners, np.asarray(count / max(count.sum(), 1), dtype=np.float64)
