"""What all deals share: a good or bad quarter, learned from how past periods differed from what was expected.

In a period every cumulated hazard, and the rate of new deals, is multiplied by exp(z), with one z for all.
Deals drawn one by one would cancel out and make ranges far too narrow; z does not cancel out. z is normal
with a centre (what forecasts get wrong again and again) and a spread, both unknown: the periods seen so far
give a posterior over them, which is near the prior while they are few. All is on grids, so that what is
expected can be computed exactly and is what the simulation converges to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from statistics import NormalDist

import numpy as np

from models.hazard import Floats, Ints

NODES = np.linspace(-1.6, 1.6, 129)
"""The values that z may have."""

_CENTRES = np.linspace(-0.6, 0.6, 49)
_SPREADS = np.array([0.03, 0.06, 0.09, 0.12, 0.16, 0.20, 0.25, 0.30, 0.36, 0.44, 0.54, 0.66, 0.80])

CENTRE_SPREAD = 0.12
"""Prior: by how much the level may be off in the long run (standard deviation, in log)."""

USUAL_SPREAD = 0.10
"""Prior: the middle of what periods may share (in log) where seasons are known ..."""

UNKNOWN_SEASON_SPREAD = 0.20
"""... and where there is too little history to tell them: then a season is a shock as well ..."""

SPREAD_FACTOR = 2.0
"""... and by which factor it may be larger or smaller (one standard deviation)."""

NO_CHANGE_WEIGHT = 12.0
"""Periods that were spread just as said, added to those seen."""

WIDEST, NARROWEST = 1.6, 0.8
"""Limits of the factor by which ranges are widened."""

HALF_LIFE_MONTHS = 18.0
"""After so many months a period counts half."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Evidence:
    """One period that is over: how likely its number of wins was for each value of z.

    `log_likelihood` float64[NODES]; `weight`: less than 1 for periods that overlap; `months_ago` since it
    ended.
    """

    log_likelihood: Floats
    weight: float
    months_ago: float


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


def learn_shock(evidence: Sequence[Evidence], *, knows_season: bool = True) -> Shock:
    """Return what past periods say of z; with none, the prior."""
    normals, log_prior = _grid(USUAL_SPREAD if knows_season else UNKNOWN_SEASON_SPREAD)
    log_posterior = log_prior.copy()
    for one in evidence:
        scaled = one.log_likelihood - one.log_likelihood.max()
        recent = one.weight * 0.5 ** (one.months_ago / HALF_LIFE_MONTHS)
        log_posterior += recent * np.log(np.maximum(normals @ np.exp(scaled), 1e-300))
    posterior = np.exp(log_posterior - log_posterior.max())
    weights = (posterior / posterior.sum()) @ normals
    return Shock(weights=weights / weights.sum(), periods=len(evidence))


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


@cache
def _grid(usual: float) -> tuple[Floats, Floats]:
    """Return the distribution of z for each centre and spread, and the log-prior of these."""
    centre, spread = (one.ravel() for one in np.meshgrid(_CENTRES, _SPREADS, indexing="ij"))
    density = np.exp(-0.5 * ((NODES - centre[:, None]) / spread[:, None]) ** 2)
    log_prior = -0.5 * (centre / CENTRE_SPREAD) ** 2
    log_prior -= 0.5 * (np.log(spread / usual) / np.log(SPREAD_FACTOR)) ** 2
    return density / density.sum(axis=1, keepdims=True), log_prior
