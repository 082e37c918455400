"""Money for each of so many: costs per lead and per customer, and what came back, with how sure that is.

How many leads or customers a campaign brings is a count, taken for a Poisson one; its 95 % interval is a
score interval. What came back is a sum over won deals, few of which are large: its interval comes from
drawing the deals again, each as often as chance has it (a Poisson bootstrap), always with the same seed.
Below `FEWEST` no ratio and no interval is given: a number from two customers is an anecdote.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

import numpy as np
import numpy.typing as npt

FEWEST: Final = 5
"""Of fewer leads, customers or deals, no ratio is given."""

DRAWS: Final = 400
_SEED: Final = 20_260_102
_Z: Final = 1.959964

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """A ratio with its 95 % interval; `value` is None of fewer than `FEWEST`, or of no cost."""

    value: float | None = None
    low: float | None = None
    high: float | None = None
    count: int = 0

    @property
    def is_few(self) -> bool:
        """Whether too few are there to give it."""
        return self.count < FEWEST


def each(cost: Decimal | None, count: int) -> Ratio:
    """Return what one of `count` cost; the interval is of the count, as the cost is known."""
    if cost is None or count < FEWEST:
        return Ratio(count=count)
    low, high = count_interval(count)
    spent = float(cost)
    return Ratio(value=spent / count, low=spent / high, high=spent / low, count=count)


def times(cost: Decimal | None, amounts: Sequence[float]) -> Ratio:
    """Return how many times the cost came back in amounts, with an interval by drawing these again."""
    if not cost or len(amounts) < FEWEST:
        return Ratio(count=len(amounts))
    drawn = drawn_counts(len(amounts)) @ np.asarray(amounts, dtype=np.float64) / float(cost)
    low, high = np.quantile(drawn, (0.025, 0.975))
    return Ratio(value=sum(amounts) / float(cost), low=float(low), high=float(high), count=len(amounts))


def count_interval(count: int) -> tuple[float, float]:
    """Return the 95 % score interval of a Poisson mean of which `count` was seen."""
    middle, half = count + _Z**2 / 2, _Z * math.sqrt(count + _Z**2 / 4)
    return middle - half, middle + half


def drawn_counts(size: int, draws: int = DRAWS) -> Floats:
    """Return how often each of `size` is drawn, in each of some draws: float64[draws, size]."""
    return np.random.default_rng(_SEED).poisson(1.0, (draws, size)).astype(np.float64)
