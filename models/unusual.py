"""What is unusual against its own past: a week's count, a sum, a mean or a share beside those before it.

Counts are compared on the scale of their square root, on which chance moves all of them alike: by one, or by
more where the weeks before moved by more. Single odd weeks of the past hardly count. Of all that is looked at
in one go, only so much is called unusual that with chance alone nineteen looks in twenty name nothing (Holm).
Sources: Anscombe, The transformation of Poisson, binomial and negative-binomial data, 1948; Holm, A simple
sequentially rejective multiple test procedure, 1979.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import lgamma, log1p, sqrt
from statistics import NormalDist
from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

LEVEL: Final = 0.05
"""How often a look may name something where there is chance alone."""

FEWEST_WEEKS: Final = 8
"""Weeks before, of fewer nothing says what is usual."""

FEWEST_NOW: Final = 12
FEWEST_BEFORE: Final = 30
"""Records of which a mean or a share is compared, now and before."""

_NORMAL: Final = NormalDist()
_USUAL: Final = _NORMAL.inv_cdf(0.9)
"""What is usual: eight weeks in ten."""

_MAD: Final = 1.4826
_CLIPPED_AT: Final = 2.0
_CLIPPED: Final = 1.13
"""By how much clipping there makes the spread of normal values too small."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A value now, what was usual before with the range of eight in ten, and how unlikely chance alone is.

    `chance` is the probability that chance alone moves it so far to either side, in [0, 1], before it is
    known how much else was looked at.
    """

    now: float
    usual: float
    low: float
    high: float
    chance: float

    @property
    def is_more(self) -> bool:
        """Tell whether it is more than usual."""
        return self.now > self.usual


def compare_weeks(
    now: float, before: Floats, *, unit: float = 1.0, clumping: float = 1.0
) -> Comparison | None:
    """Compare a week with the weeks before it; None where these are too few, or nothing ever happened.

    Parameters
    ----------
    now : float
        What was counted this week, or summed.
    before : float64[k]
        The same of each week before, none of them missing.
    unit, clumping : float
        Of sums: the mean amount, and its mean square over the square of its mean. A sum moves by as much as
        `clumping` makes a count of units move.
    """
    if before.size < FEWEST_WEEKS or (now == 0 and not before.any()):
        return None
    scale = unit * clumping
    past = _root(before / scale)
    middle = float(np.median(past))
    reach = _CLIPPED_AT * max(1.0, _MAD * float(np.median(np.abs(past - middle))))
    clipped = np.clip(past, middle - reach, middle + reach)
    spread = max(1.0, _CLIPPED * float(clipped.std(ddof=1)))
    error = spread * sqrt(1 + np.pi / 2 / past.size)
    if spread > 1:  # it moves by more than chance: beyond that nothing is known of its tails
        chance = _chance((_root_of(now / scale) - middle) / error, 0.75 * (past.size - 1))
    else:
        rate = float(_squared(clipped).mean()) + 0.25 / past.size
        chance = 2 * _NORMAL.cdf(-abs(_deviance(now / scale, rate)) / error)
    low, high = (_squared(np.array([middle - _USUAL * spread, middle + _USUAL * spread])) * scale).tolist()
    return Comparison(
        now=now,
        usual=float(np.median(before)),
        low=low,
        high=high,
        chance=chance,
    )


def clumping_of(weeks: Sequence[Floats]) -> float:
    """Return by how much more than by chance counts move, over many people's weeks: at least one.

    The variance over the mean, within each person's weeks; what one person's few weeks do not show, those of
    all do.
    """
    told = [each for each in weeks if each.size >= FEWEST_WEEKS and each.any()]
    if not told:
        return 1.0
    off = sum(float(((each - each.mean()) ** 2).sum() / each.mean()) for each in told)
    return max(1.0, off / sum(each.size - 1 for each in told))


def _root(values: Floats) -> Floats:
    return 2 * np.sqrt(values + 0.375)


def _root_of(value: float) -> float:
    return float(_root(np.array([value]))[0])


def _squared(roots: Floats) -> Floats:
    return np.maximum(0.0, np.maximum(roots, 0.0) ** 2 / 4 - 0.375)


def _deviance(count: float, rate: float) -> float:
    """Return by how much a count deviates from a rate, in standard deviations, by the Poisson deviance."""
    off = count * np.log(count / rate) - (count - rate) if count else rate
    return float(np.sign(count - rate) * np.sqrt(max(0.0, 2 * off)))


def compare_means(now: Floats, before: Floats) -> Comparison | None:
    """Compare the mean of some probabilities with that of those before; None of too few.

    Both are float64 in [0, 1]. Means are compared of log-odds, by Welch's test, and told as probabilities.
    """
    if now.size < FEWEST_NOW or before.size < FEWEST_BEFORE:
        return None
    here, past = _log_odds(now), _log_odds(before)
    parts = here.var(ddof=1) / here.size, past.var(ddof=1) / past.size
    error = sqrt(max(sum(parts), 1e-12))
    freedom = sum(parts) ** 2 / (parts[0] ** 2 / (here.size - 1) + parts[1] ** 2 / (past.size - 1) + 1e-24)
    reach = _USUAL * sqrt(past.var(ddof=1) / here.size)
    low, high = (1 / (1 + np.exp(-(past.mean() + side * reach))) for side in (-1, 1))
    return Comparison(
        now=float(now.mean()),
        usual=float(before.mean()),
        low=float(min(low, before.mean())),
        high=float(max(high, before.mean())),
        chance=_chance((here.mean() - past.mean()) / error, max(freedom, 1.0)),
    )


def _log_odds(probability: Floats) -> Floats:
    bounded = np.clip(probability, 1e-4, 1 - 1e-4)
    return np.asarray(np.log(bounded / (1 - bounded)), dtype=np.float64)


def compare_shares(hits: int, of: int, hits_before: int, of_before: int) -> Comparison | None:
    """Compare a share with the one before; None of too few, or where it never happened."""
    if of < FEWEST_NOW or of_before < FEWEST_BEFORE or not 0 < hits + hits_before < of + of_before:
        return None
    together = (hits + hits_before) / (of + of_before)
    usual = hits_before / of_before
    reach = _USUAL * sqrt(together * (1 - together) / of)
    return Comparison(
        now=hits / of,
        usual=usual,
        low=max(0.0, usual - reach),
        high=min(1.0, usual + reach),
        chance=_drawn(hits, of, hits + hits_before, of + of_before),
    )


def _drawn(hits: int, of: int, all_hits: int, all_of: int) -> float:
    """Return how likely it is to draw so many hits, or a number as far off, among so many (Fisher's test)."""
    first, last = max(0, of - (all_of - all_hits)), min(of, all_hits)
    ways = np.array(
        [_ways(all_hits, each) + _ways(all_of - all_hits, of - each) for each in range(first, last + 1)]
    )
    parts = np.exp(ways - _ways(all_of, of))
    at = hits - first
    return float(min(1.0, 2 * min(parts[: at + 1].sum(), parts[at:].sum())))


def _ways(of: int, many: int) -> float:
    return lgamma(of + 1) - lgamma(many + 1) - lgamma(of - many + 1)


def _chance(t: float, freedom: float) -> float:
    """Return how likely chance goes so far, by Wallace's formula for Student's t."""
    z = sqrt(freedom * log1p(t * t / freedom)) * (8 * freedom + 1) / (8 * freedom + 3)
    return 2 * _NORMAL.cdf(-z)


def unusual(chances: Sequence[float], level: float = LEVEL) -> list[bool]:
    """Tell of each of all that was looked at whether it is unusual, so that all are right at once."""
    order = np.argsort(chances, kind="stable")
    found = [False] * len(chances)
    for place, at in enumerate(order.tolist()):
        if chances[at] * (len(chances) - place) > level:
            break
        found[at] = True
    return found
