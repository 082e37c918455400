"""What all deals share: a good or bad quarter, learned from how past periods differed from what was expected.

In a period every cumulated hazard, and the rate of new deals, is multiplied by exp(z), with one z for all.
Deals drawn one by one would cancel out and make ranges far too narrow; z does not cancel out. z is normal
around a centre (what forecasts get wrong again and again) and a season, with a spread. All of these are
unknown: the periods seen so far give a posterior over them, which is near the prior while they are few, so
that a season that cannot be told yet widens the ranges and one that was seen twice moves them. z is held on
a grid, so that what is expected can be computed exactly and is what the simulation converges to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from crm_core.clock import instant
from models.hazard import Floats, Ints

NODES = np.linspace(-1.6, 1.6, 129)
"""The values that z may have."""

_SPREADS = np.array([0.03, 0.06, 0.09, 0.12, 0.16, 0.20, 0.25, 0.30, 0.36, 0.44, 0.54, 0.66, 0.80])

CENTRE_SPREAD = 0.12
"""Prior: by how much the level may be off in the long run (standard deviation, in log)."""

SEASON_SPREAD = 0.12
"""Prior: how large each of the two waves of a season may be (standard deviation, in log)."""

USUAL_SPREAD = 0.08
"""Prior: the middle of what the deals of a period share besides (in log) ..."""

SPREAD_FACTOR = 2.2
"""... and by which factor it may be larger or smaller (one standard deviation)."""

NO_CHANGE_WEIGHT = 8.0
"""Periods that were spread just as said, added to those seen."""

WIDEST, NARROWEST = 1.6, 0.8
"""Limits of the factor by which ranges are widened."""

HALF_LIFE_MONTHS = 18.0
"""After so many months a period counts half."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Evidence:
    """One period that is over: how likely its number of wins was for each value of z.

    `log_likelihood` float64[NODES]; `middle`: an instant (microseconds) that tells its season; `weight`: less
    than 1 for periods that overlap; `months_ago` since it ended.
    """

    log_likelihood: Floats
    middle: int
    weight: float
    months_ago: float

    @property
    def moments(self) -> tuple[float, float]:
        """Return the mean and the variance of z by this period alone."""
        chance = np.exp(self.log_likelihood - self.log_likelihood.max())
        chance /= chance.sum()
        mean = float(chance @ NODES)
        return mean, float(chance @ (NODES - mean) ** 2)


@dataclass(frozen=True, kw_only=True, eq=False)
class Shock:
    """What is believed of z: `weights` float64[NODES], adding up to 1; `periods` taught it."""

    weights: Floats
    periods: int

    @property
    def centre(self) -> float:
        """Return the mean of z."""
        return float(self.weights @ NODES)

    @property
    def spread(self) -> float:
        """Return the standard deviation of z, not knowing its centre and spread included."""
        return float(np.sqrt(self.weights @ (NODES - self.centre) ** 2))

    def draw(self, rng: np.random.Generator, draws: int) -> Ints:
        """Return positions in NODES, evenly spread over the distribution."""
        even = (np.arange(draws) + rng.random()) / draws
        found = np.searchsorted(np.cumsum(self.weights), even, side="right")
        return np.minimum(found, NODES.size - 1)


def learn_shock(evidence: Sequence[Evidence], middle: int) -> Shock:
    """Return what past periods say of z in a period with that middle (microseconds); with none, the prior.

    For each spread in turn, centre and season have a normal posterior; spreads are weighed by how well they
    foretell what was seen.
    """
    design = np.array([_season(one.middle) for one in evidence]).reshape(-1, 3)
    seen = np.array([one.moments for one in evidence]).reshape(-1, 2)
    weight = np.array([one.weight * 0.5 ** (one.months_ago / HALF_LIFE_MONTHS) for one in evidence])
    target = _season(middle)
    weights, scores = np.zeros((_SPREADS.size, NODES.size)), np.zeros(_SPREADS.size)
    for place, spread in enumerate(_SPREADS):
        noise = (spread**2 + seen[:, 1]) / np.maximum(weight, 1e-9)
        effects, covariance, score = _regress(design, seen[:, 0], noise)
        scores[place] = score - 0.5 * (np.log(spread / USUAL_SPREAD) / np.log(SPREAD_FACTOR)) ** 2
        variance = float(target @ covariance @ target) + spread**2
        density = np.exp(-0.5 * (NODES - float(target @ effects)) ** 2 / variance)
        weights[place] = density / density.sum()
    chance = np.exp(scores - scores.max())
    return Shock(weights=(chance / chance.sum()) @ weights, periods=len(evidence))


def _season(at: int) -> Floats:
    """Return what z is a sum of: the centre and two waves a year."""
    turn = 2 * np.pi * instant(at).timetuple().tm_yday / 365.25
    return np.array([1.0, np.sin(turn), np.cos(turn)])


def _regress(design: Floats, seen: Floats, noise: Floats) -> tuple[Floats, Floats, float]:
    """Return the posterior mean and covariance of centre and season, and the log-likelihood of all seen."""
    prior = np.array([CENTRE_SPREAD, SEASON_SPREAD, SEASON_SPREAD]) ** 2
    precision = np.diag(1 / prior) + (design.T / noise) @ design
    covariance = np.asarray(np.linalg.inv(precision), dtype=np.float64)
    effects: Floats = covariance @ (design.T @ (seen / noise))
    whole = np.diag(noise) + (design * prior) @ design.T
    _, size = np.linalg.slogdet(whole)
    score = -0.5 * float(size + seen @ np.linalg.solve(whole, seen)) if seen.size else 0.0
    return effects, covariance, score


def no_shock() -> Shock:
    """Return z = 0: deals that share nothing, for comparison."""
    return Shock(weights=np.asarray(NODES == 0.0, dtype=np.float64), periods=0)


def log_likelihood_of(wins: int, mean: Floats, variance: Floats) -> Floats:
    """Return the log-likelihood of a number of wins for each z, given its mean and variance: float64[NODES].

    The number is taken as normal, a half wider than it is on either side, so that no count is impossible.
    """
    wide = variance + 0.25
    return np.asarray(-0.5 * (np.log(wide) + (wins - mean) ** 2 / wide), dtype=np.float64)


def learn_widening(places: Sequence[float], weights: Sequence[float]) -> float:
    """Return the factor that widens ranges so that past periods lie in them as widely as they should.

    `places`: where each came true in what was said, in (0, 1).
    """
    normal = NormalDist()
    squares = [normal.inv_cdf(min(max(place, 0.002), 0.998)) ** 2 for place in places]
    total = sum(weight * square for weight, square in zip(weights, squares, strict=True))
    factor = ((NO_CHANGE_WEIGHT + total) / (NO_CHANGE_WEIGHT + sum(weights))) ** 0.5
    return float(min(max(factor, NARROWEST), WIDEST))


def widened(level: float, factor: float) -> float:
    """Return the quantile level that stands for `level` once a range is widened by a factor."""
    normal = NormalDist()
    return normal.cdf(factor * normal.inv_cdf(level))
