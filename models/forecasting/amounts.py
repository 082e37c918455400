"""What a deal will be worth when it is won: its amount now and how amounts drift, or a guess."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from crm_core.errors import NotEnoughDataError
from crm_core.phrases import Phrase
from models.forecasting.book import Objects, Snapshot
from models.hazard import Bools, Floats, Ints

NO_DRIFT_WEIGHT = 10
"""Deals that kept their amount, which are added to those seen, so that a few cannot tell of a drift."""

POOLED_WEIGHT = 10.0
"""Deals by which the median of a pipeline is held near that of all pipelines."""

_MOST_RATIOS = 2_000
_LARGEST_LOG_RATIO = 3.0
_WIDEST = 1.5


@dataclass(frozen=True, kw_only=True, eq=False)
class Worth:
    """The worth of n open deals: what is expected of each (float64[n]) and how to draw it.

    A deal with an amount is worth `base` times one of `ratios`; one without is worth `base` times
    exp(spread * normal), where `spread` is not 0.
    """

    base: Floats
    spread: Floats
    ratios: Floats

    @property
    def expected(self) -> Floats:
        """Return the mean of what would be drawn, exactly: float64[n]."""
        guessed = self.spread > 0
        factor = np.where(guessed, np.exp(0.5 * self.spread**2), self.ratios.mean())
        return np.asarray(self.base * factor, dtype=np.float64)

    def draw(self, rng: np.random.Generator, rows: Ints) -> Floats:
        """Return one worth for each row asked for."""
        factor = self.ratios[rng.integers(0, self.ratios.size, rows.size)]
        spread = self.spread[rows]
        guessed = np.flatnonzero(spread > 0)
        factor[guessed] = np.exp(spread[guessed] * rng.standard_normal(guessed.size))
        return np.asarray(self.base[rows] * factor, dtype=np.float64)

    def take(self, rows: Bools) -> Worth:
        """Return that of some of the deals."""
        return Worth(base=self.base[rows], spread=self.spread[rows], ratios=self.ratios)


def learn_ratios(earlier: Sequence[Snapshot], now: Snapshot) -> Floats:
    """Return what amounts of deals that were won had become, over what they were while open: float64[m].

    Time rule: `earlier` are snapshots before `now`; all is known at `now`.
    """
    found = [np.zeros(NO_DRIFT_WEIGHT)]
    for before in earlier:
        position = now.rows_of(before.ids)
        kept = before.is_open & (position >= 0) & (before.amount > 0)
        kept[kept] &= now.is_won[position[kept]] & (now.amount[position[kept]] > 0)
        found.append(np.log(now.amount[position[kept]] / before.amount[kept]))
    ratios = np.concatenate(found)[-_MOST_RATIOS:]
    return np.exp(np.clip(ratios, -_LARGEST_LOG_RATIO, _LARGEST_LOG_RATIO))


def worth_of(deals: Snapshot, of_all: Snapshot, ratios: Floats) -> Worth:
    """Return the worth of open deals; one without an amount is guessed from its pipeline.

    The guess is the median of its pipeline and currency, held near the median of the currency, with the
    spread that amounts have. Raises NotEnoughDataError where no deal of a currency has an amount.
    """
    base, spread = deals.amount.copy(), np.zeros(len(deals))
    for row in np.flatnonzero(np.isnan(base)):
        base[row], spread[row] = _guess(of_all, deals.pipeline[row], deals.currency[row])
    return Worth(base=base, spread=spread, ratios=ratios)


def worthless(deals: int) -> Worth:
    """Return no worth, for where only wins are counted."""
    return Worth(base=np.zeros(deals), spread=np.zeros(deals), ratios=np.ones(1))


def _guess(known: Snapshot, pipeline: object, currency: object) -> tuple[float, float]:
    here = (known.amount > 0) & _equal(known.currency, currency)
    if not here.any():
        raise NotEnoughDataError(
            Phrase(
                "no deal in {currency} has an amount, so those without one cannot be guessed",
                currency=currency or "no currency",
            )
        )
    logs = np.log(known.amount[here])
    own = logs[_equal(known.pipeline[here], pipeline)]
    centre = float(np.median(logs))
    if own.size:
        weight = own.size / (own.size + POOLED_WEIGHT)
        centre = weight * float(np.median(own)) + (1 - weight) * centre
    spread = float(np.clip(logs.std(), 0.1, _WIDEST))
    return float(np.exp(centre)), spread


def _equal(values: Objects, value: object) -> Bools:
    return np.asarray(values == value, dtype=np.bool_)
