"""How likely each open deal is won by an instant: a model's hazards, cut at the end of a period."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from crm_core.clock import DAY
from models.forecasting.book import Snapshot
from models.hazard import Floats, Ints, share_of_intervals

TAIL_DAYS = 92
"""How far behind the last interval of a model the rate of winning is learned."""

TAIL_GUESS = 0.7
"""The rate behind the last interval over the rate in it, where nothing has been seen."""

_TAIL_WEIGHT = 10.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Chances:
    """Cumulated hazards of n open deals: P(won within t days) = 1 - exp(-cumulated(t)).

    `ids` int64[n]; `hazards` float64[n, K], log-odds of each interval; `ends_days`: the K ends; `tail`: the
    daily rate behind the last end, over that in the last interval.
    """

    ids: Ints
    hazards: Floats
    ends_days: tuple[int, ...]
    tail: float

    def cumulated(self, days: float) -> Floats:
        """Return -log P(not won within so many days): float64[n]; 0 for none."""
        inside = min(days, float(self.ends_days[-1]))
        if inside <= 0:
            return np.zeros(len(self.ids))
        steps = np.logaddexp(0.0, self.hazards)
        total = steps @ share_of_days(self.ends_days, inside)
        last = self.ends_days[-1] - (self.ends_days[-2] if len(self.ends_days) > 1 else 0)
        beyond = max(days - self.ends_days[-1], 0.0)
        return np.asarray(total + steps[:, -1] * (self.tail * beyond / last), dtype=np.float64)

    def for_deals(self, ids: Ints, days: float) -> Floats:
        """Return the same for deals by id; one that was not scored counts as the mean of the others."""
        if not len(self.ids):
            return np.zeros(ids.size)
        found = self.cumulated(days)
        order = np.argsort(self.ids)
        position = np.minimum(np.searchsorted(self.ids, ids, sorter=order), len(self.ids) - 1)
        row = order[position]
        mean = -np.log(np.mean(np.exp(-found)))
        return np.where(self.ids[row] == ids, found[row], mean)


def share_of_days(ends_days: Sequence[int], days: float) -> Floats:
    """Return how much of each interval lies within `days`, which may be broken: float64[K]."""
    whole = int(days)
    low = share_of_intervals(ends_days, whole) if whole else np.zeros(len(ends_days))
    if whole == days:
        return low
    return low + (days - whole) * (share_of_intervals(ends_days, whole + 1) - low)


def learn_tail(earlier: Sequence[Snapshot], now: Snapshot, ends_days: Sequence[int]) -> float:
    """Return how the daily rate of winning behind the last interval stands to that in it.

    Time rule: a time after a snapshot counts only if it was over at `now`; a lost deal stays in the count.
    """
    start, end = ends_days[-2] if len(ends_days) > 1 else 0, ends_days[-1]
    in_last, at_risk_last = _wins_between(earlier, now, start, end)
    behind, at_risk_behind = _wins_between(earlier, now, end, end + TAIL_DAYS)
    daily = (in_last + 0.5) / max(at_risk_last * (end - start), 1.0)
    expected = daily * at_risk_behind * TAIL_DAYS
    return float((behind + _TAIL_WEIGHT * TAIL_GUESS) / (expected + _TAIL_WEIGHT))


def _wins_between(earlier: Sequence[Snapshot], now: Snapshot, start: int, end: int) -> tuple[float, float]:
    events = at_risk = 0.0
    for before in earlier:
        if before.as_of + end * DAY > now.as_of:
            continue
        position = now.rows_of(before.ids[before.is_open])
        won_at = now.won_at[position[position >= 0]].astype(np.float64)
        days = np.where(won_at > 0, (won_at - before.as_of) / DAY, np.inf)
        days[days <= 0] = -np.inf
        at_risk += float((days > start).sum())
        events += float(((days > start) & (days <= end)).sum())
    return events, at_risk
