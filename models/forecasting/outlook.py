"""One period seen from one instant: what is won, what is open, what is to come; its mean and its draws."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from crm_core.clock import DAY
from models.forecasting.amounts import Worth, worth_of, worthless
from models.forecasting.arrivals import Arrivals, NewWins, new_wins
from models.forecasting.book import Snapshot
from models.forecasting.chances import Chances
from models.forecasting.periods import Period
from models.forecasting.shock import NODES, Shock
from models.hazard import Bools, Floats, Ints

DRAWS = 4000
"""Futures that are drawn."""

_AT_ONCE = 250
"""Deals drawn together, which keeps the work in little memory."""

_SEED = 20_260
"""Draws are the same each time."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Outlook:
    """What can be said of a period in one currency.

    `won`: the deals won in it already. `open`: those that are open, with `before` and `until` float64[n],
    their cumulated hazards up to the period's start (0 once it has begun) and end. `new`: wins among deals
    not written down yet; `new_share`: the share of them that counts here, and `amounts` float64[m] what they
    are won for.
    """

    as_of: int
    period: Period
    currency: str
    won: Snapshot
    open: Snapshot
    before: Floats
    until: Floats
    worth: Worth
    new: NewWins
    new_share: float
    amounts: Floats

    @property
    def already(self) -> float:
        """Return the revenue won already."""
        return float(np.nansum(self.won.amount))

    def probabilities(self, shock: Shock) -> Floats:
        """Return the chance that each open deal is won in the period, over all that z may be: float64[n]."""
        found = np.zeros(len(self.open))
        for weight, z in zip(shock.weights, NODES, strict=True):
            if weight > 0:
                found += weight * self.chances_at(float(z))
        return found

    def chances_at(self, z: float) -> Floats:
        """Return the chance that each open deal is won in the period, given z: float64[n]."""
        factor = np.exp(z)
        return np.asarray(np.exp(-factor * self.before) - np.exp(-factor * self.until), dtype=np.float64)

    def new_count(self, shock: Shock) -> float:
        """Return the wins expected of deals not written down yet."""
        return float(self.new.count * self.new_share * (shock.weights @ np.exp(NODES)))

    def new_amount(self, shock: Shock) -> float:
        """Return the revenue expected of deals not written down yet."""
        mean = float(self.amounts.mean()) if self.amounts.size else 0.0
        return self.new_count(shock) * mean

    def counts_by_z(self) -> tuple[Floats, Floats]:
        """Return the mean and the variance of further wins for each value of z: float64[NODES] each."""
        mean, variance = np.zeros(NODES.size), np.zeros(NODES.size)
        coming = self.new.count * self.new_share
        for place, z in enumerate(NODES):
            chance = self.chances_at(float(z))
            new = coming * np.exp(z)
            mean[place] = chance.sum() + new
            variance[place] = (chance * (1 - chance)).sum() + new + new**2 * self.new.variance
        return mean, variance

    def owned_by(self, owners: Ints | None) -> Outlook:
        """Return the part of some owners (None: of all); of new deals, their usual share."""
        if owners is None:
            return self
        here = np.isin(self.new.owners, owners)
        share = float(self.new.shares[here].sum())
        kept = self.new.shares[here] / share if share else self.new.shares[here]
        return replace(
            self.only(np.isin(self.won.owner, owners), np.isin(self.open.owner, owners)),
            new=replace(self.new, owners=self.new.owners[here], shares=kept),
            new_share=self.new_share * share,
        )

    def only(self, won: Bools, is_open: Bools) -> Outlook:
        """Return the outlook with some of its deals."""
        return replace(
            self,
            won=self.won.take(won),
            open=self.open.take(is_open),
            before=self.before[is_open],
            until=self.until[is_open],
            worth=self.worth.take(is_open),
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Draws:
    """Futures: `by_owner` float64[draws, owners] is the revenue of each, `owners` int64[k] whose it is."""

    owners: Ints
    by_owner: Floats

    @property
    def total(self) -> Floats:
        """Return the revenue of all: float64[draws]."""
        return np.asarray(self.by_owner.sum(axis=1), dtype=np.float64)

    def of(self, owners: Ints) -> Floats:
        """Return the revenue of some: float64[draws]."""
        return np.asarray(self.by_owner[:, np.isin(self.owners, owners)].sum(axis=1), dtype=np.float64)


@dataclass(frozen=True, kw_only=True, eq=False)
class Scene:
    """All that was known at an instant and is needed for any period: read once."""

    now: Snapshot
    chances: Chances
    arrivals: Arrivals
    ratios: Floats

    def currencies(self) -> list[str]:
        """Return the currencies that deals are in, the one with most wins first."""
        won = self.now.currency[self.now.is_won]
        names = sorted({str(one) for one in self.now.currency})
        return sorted(names, key=lambda name: (-int(np.sum(won == name)), name))

    def can_say(self, currency: str) -> bool:
        """Say whether any deal in a currency has an amount, by which the others could be guessed."""
        here = np.asarray(self.now.currency == currency, dtype=np.bool_)
        return bool((here & (self.now.amount > 0)).any())

    def outlook(self, period: Period, currency: str | None = None) -> Outlook:
        """Return the outlook on a period, in one currency; None counts all wins together."""
        now = self.now
        new = new_wins(self.arrivals, now, period)
        if currency is None:
            here, share = np.ones(len(now), dtype=np.bool_), 1.0
            amounts = np.concatenate([np.zeros(0), *new.amounts.values()])
        else:
            here = np.asarray(now.currency == currency, dtype=np.bool_)
            share = new.currency_shares.get(currency, 0.0)
            amounts = new.amounts.get(currency, np.zeros(0))
        open_now = now.take(here & now.is_open)
        days = [(at - now.as_of) / DAY for at in (max(period.start, now.as_of), period.end)]
        before, until = (self.chances.for_deals(open_now.ids, max(one, 0.0)) for one in days)
        return Outlook(
            as_of=now.as_of,
            period=period,
            currency=currency or "",
            won=now.take(here & now.won_within(period.start, period.end)),
            open=open_now,
            before=before,
            until=until,
            worth=worthless(len(open_now)) if currency is None else worth_of(open_now, now, self.ratios),
            new=new,
            new_share=share,
            amounts=amounts,
        )


def draw_futures(outlook: Outlook, shock: Shock, *, draws: int = DRAWS) -> Draws:
    """Return what may come, the same each time: one z a future for all deals, then each deal by itself."""
    rng = np.random.default_rng([_SEED, outlook.as_of // DAY, outlook.period.start // DAY, draws])
    z = shock.draw(rng, draws)
    owners = np.unique(np.concatenate([outlook.won.owner, outlook.open.owner, outlook.new.owners]))
    revenue = np.zeros((draws, owners.size))
    won = np.bincount(
        np.searchsorted(owners, outlook.won.owner),
        weights=np.nan_to_num(outlook.won.amount),
        minlength=owners.size,
    )
    revenue += won[: owners.size]
    _draw_open(rng, outlook, z, owners, revenue)
    _draw_new(rng, outlook, z, owners, revenue)
    return Draws(owners=owners, by_owner=revenue)


def _draw_open(rng: np.random.Generator, outlook: Outlook, z: Ints, owners: Ints, revenue: Floats) -> None:
    column = np.searchsorted(owners, outlook.open.owner)
    factor = np.exp(NODES)[:, None]
    for start in range(0, len(outlook.open), _AT_ONCE):
        rows = slice(start, start + _AT_ONCE)
        chance = np.exp(-factor * outlook.before[rows]) - np.exp(-factor * outlook.until[rows])
        future, deal = np.nonzero(rng.random((z.size, chance.shape[1])) < chance[z])
        worth = outlook.worth.draw(rng, deal + start)
        np.add.at(revenue, (future, column[deal + start]), worth)


def _draw_new(rng: np.random.Generator, outlook: Outlook, z: Ints, owners: Ints, revenue: Floats) -> None:
    count = outlook.new.count * outlook.new_share
    if not count or not outlook.amounts.size:
        return
    rate = count * np.exp(NODES)[z]
    if outlook.new.variance > 0:
        rate = rate * rng.gamma(1 / outlook.new.variance, outlook.new.variance, z.size)
    future = np.repeat(np.arange(z.size), rng.poisson(rate))
    owner = outlook.new.owners[rng.choice(outlook.new.owners.size, future.size, p=outlook.new.shares)]
    worth = outlook.amounts[rng.integers(0, outlook.amounts.size, future.size)]
    np.add.at(revenue, (future, np.searchsorted(owners, owner)), worth)


def place_of(value: float, futures: Floats) -> float:
    """Return the share of futures below a value; those equal to it count half."""
    return float(((futures < value).mean() + (futures <= value).mean()) / 2)
