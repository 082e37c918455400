"""A discrete-time hazard: one engine for every question "will it happen within h days?".

The days after a question are cut into intervals. In each, the event happens with a hazard, given that it
has not happened before: logit hazard_k = level_k + lasting + fading_k * early, where `lasting` and `early`
are what the model says of the record: what it always is, and what is news at the moment and fades. The
chance that it happens within a horizon is one minus the product of (1 - hazard) over its intervals, so the
probabilities of two horizons never cross.

The rule of whole intervals: an interval of a question counts only if it is over, `as_of + end_k <=
known_until`, whether or not anything has happened in it. Counting what is resolved and leaving out what is
open would call events far too likely.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from crm_core.arrays import NO_INSTANT
from crm_core.clock import DAY

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

LOG_ODDS_LIMIT = 13.8
"""No probability nearer to 0 or 1 than one in a million is ever claimed."""

_SMALL = 1e-3
"""Cumulated rates below which a series is exact to 1e-12."""

FADING_DAYS = 20.0
"""After so many days a third of what is news is left (exp(-1))."""


@dataclass(frozen=True, kw_only=True)
class Exposure:
    """What has been seen of n questions in K intervals.

    `at_risk`: bool[n, K], the interval is over and the event had not happened before it.
    `event`: bool[n, K], the event happened in it; only where `at_risk`.
    `closed_at`: int64[n, K], when the interval ended, in microseconds.
    `weight`: float64[n], how much the question counts.
    """

    at_risk: Bools
    event: Bools
    closed_at: Ints
    weight: Floats

    def __len__(self) -> int:
        """Return how many questions there are."""
        return len(self.weight)

    def take(self, rows: Ints | Bools) -> Exposure:
        """Return some of the questions."""
        return Exposure(
            at_risk=self.at_risk[rows],
            event=self.event[rows],
            closed_at=self.closed_at[rows],
            weight=self.weight[rows],
        )

    def closed_within(self, after: int, until: int) -> Exposure:
        """Return the same questions with only the intervals that ended in `after < t <= until`."""
        inside = (self.closed_at > after) & (self.closed_at <= until)
        return Exposure(
            at_risk=self.at_risk & inside,
            event=self.event & inside,
            closed_at=self.closed_at,
            weight=self.weight,
        )

    def over_since(self, over_at: Ints) -> Exposure:
        """Return the same questions with `over_at` (int64[n], microseconds) as the end of every interval.

        For questions about the end of a record, which are over when it has ended and not after some days.
        """
        ends = np.repeat(over_at[:, None], self.at_risk.shape[1], axis=1)
        return Exposure(at_risk=self.at_risk, event=self.event, closed_at=ends, weight=self.weight)

    def span(self) -> int:
        """Return the time between the first and the last end of an interval that counts, in microseconds."""
        ends = self.closed_at[self.at_risk]
        return int(ends.max() - ends.min()) if ends.size else 0

    @property
    def counted(self) -> Bools:
        """Return which questions have any interval that counts: bool[n]."""
        return np.asarray(np.any(self.at_risk, axis=1), dtype=np.bool_)

    @property
    def happened(self) -> Bools:
        """Return which questions had the event in an interval that counts: bool[n]."""
        return np.asarray(np.any(self.event, axis=1), dtype=np.bool_)


def expose(
    *,
    as_of: Ints,
    event_at: Ints,
    known_until: Ints,
    weight: Floats,
    ends_days: Sequence[int],
    absence: bool = False,
    own_days: Ints | None = None,
) -> Exposure:
    """Cut what is known of each question into intervals.

    Parameters
    ----------
    as_of, event_at, known_until : int64[n]
        Microseconds since 1970. `event_at` is the first event after `as_of`, NO_INSTANT if none is known.
    weight : float64[n]
    ends_days : K increasing numbers of days, the ends of the intervals.
    absence
        The event is that nothing happened until the last end; there is one interval then.
    own_days : int64[n]
        Of an absence: the last end of each question, where it is not the same for all.

    Notes
    -----
    Time rule: interval k is `as_of + end_(k-1) < event_at <= as_of + end_k`, and counts once
    `as_of + end_k <= known_until`.
    """
    if absence:
        days = np.full(as_of.shape, ends_days[-1], dtype=np.int64) if own_days is None else own_days
        return _expose_absence(as_of, event_at, known_until, weight, days)
    ends = np.asarray(ends_days, dtype=np.int64) * DAY
    stop = as_of[:, None] + ends
    start = as_of[:, None] + np.concatenate([[0], ends[:-1]])
    known = (event_at != NO_INSTANT)[:, None]
    happened_before = known & (event_at[:, None] <= start)
    at_risk = (stop <= known_until[:, None]) & ~happened_before
    event = at_risk & known & (event_at[:, None] <= stop)
    return Exposure(at_risk=at_risk, event=event, closed_at=stop, weight=weight)


def _expose_absence(as_of: Ints, event_at: Ints, known_until: Ints, weight: Floats, days: Ints) -> Exposure:
    stop = as_of + days * DAY
    at_risk = stop <= known_until
    nothing = (event_at == NO_INSTANT) | (event_at > stop)
    return Exposure(
        at_risk=at_risk[:, None],
        event=(at_risk & nothing)[:, None],
        closed_at=stop[:, None],
        weight=weight,
    )


def share_of_intervals(ends_days: Sequence[int], horizon_days: int) -> Floats:
    """Return how much of each interval lies within the horizon: float64[K], in [0, 1].

    Raises ValueError for a horizon beyond the last interval, of which nothing was learned.
    """
    if not 0 < horizon_days <= ends_days[-1]:
        msg = f"expected a horizon of 1 to {ends_days[-1]} days, got {horizon_days}"
        raise ValueError(msg)
    ends = np.asarray(ends_days, dtype=np.float64)
    starts = np.concatenate([[0.0], ends[:-1]])
    return np.asarray(np.clip((horizon_days - starts) / (ends - starts), 0.0, 1.0), dtype=np.float64)


def fading_of(ends_days: Sequence[int]) -> Floats:
    """Return how much of what is news is left at the start of each interval: float64[K], 1 at first."""
    starts = np.concatenate([[0.0], np.asarray(ends_days[:-1], dtype=np.float64)])
    return np.asarray(np.exp(-starts / FADING_DAYS), dtype=np.float64)


def log_odds_within(hazards: Floats, share: Floats) -> Floats:
    """Return the log-odds that the event happens within a horizon: float64[n].

    `hazards` is float64[n, K], in log-odds; `share` float64[K], see `share_of_intervals`. Computed as
    log(exp(H) - 1) of the cumulated H = sum_k share_k log(1 + exp(hazard_k)), which loses nothing where the
    probability is close to 0 or 1; held within plus and minus LOG_ODDS_LIMIT.
    """
    total = _cumulated(hazards, share)
    return np.clip(total + np.log(-np.expm1(-total)), -LOG_ODDS_LIMIT, LOG_ODDS_LIMIT)


def slopes_within(hazards: Floats, share: Floats) -> Floats:
    """Return the derivatives of `log_odds_within`, before limits, by each hazard: float64[n, K]."""
    total = _cumulated(hazards, share)
    return expit(hazards) * share / -np.expm1(-total)[:, None]


def expected_days(hazards: Floats, ends_days: Sequence[int]) -> Floats:
    """Return the mean number of days until the event, given that it happens by the last end: float64[n].

    `hazards` is float64[n, K], in log-odds, of the intervals that end at `ends_days`. Within an interval the
    event comes at an even rate, as `share_of_intervals` has it. With S(t) the chance that nothing has
    happened by day t, the mean is the integral of S(t) - S(end) over (1 - S(end)), between 0 and the end;
    where hardly anything is expected, that is the mean of what little is. Hand check: one interval of 30 days
    and a hazard near 0 give 15 days.
    """
    ends = np.asarray(ends_days, dtype=np.float64)
    width = np.diff(np.concatenate([[0.0], ends]))
    total = np.logaddexp(0.0, np.maximum(hazards, -2 * LOG_ODDS_LIMIT))
    before = np.cumsum(total, axis=1) - total
    happens = np.exp(-before) * -np.expm1(-total)
    starts = np.concatenate([[0.0], ends[:-1]])
    when = starts + width * _mean_place(total)
    return np.asarray((happens * when).sum(axis=1) / happens.sum(axis=1), dtype=np.float64)


def _mean_place(total: Floats) -> Floats:
    """Return where in an interval, from 0 to 1, an event is on average that comes at an even rate.

    That is 1 / c - 1 / (exp(c) - 1) of the cumulated rate c; near 0 a series stands in for the difference of
    two large numbers.
    """
    safe = np.where(total < _SMALL, 1.0, total)
    return np.where(total < _SMALL, 0.5 - total / 12, 1.0 / safe - 1.0 / np.expm1(safe))


def _cumulated(hazards: Floats, share: Floats) -> Floats:
    """Return H of each row, added up in one order; that of a matrix product depends on its size."""
    return np.ascontiguousarray(np.cumsum(np.logaddexp(0.0, hazards) * share, axis=1)[:, -1])


def expit(log_odds: Floats) -> Floats:
    """Return the probability of log-odds."""
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * log_odds)), dtype=np.float64)


def log_loss_of(log_odds: Floats, exposure: Exposure) -> Floats:
    """Return the negative log-likelihood of each question, summed over its intervals: float64[n].

    `log_odds` is float64[n, K], of the hazards. This is a proper score of a censored answer: a question of
    which only the first intervals are over is judged on those.
    """
    loss = np.logaddexp(0.0, log_odds) - np.where(exposure.event, log_odds, 0.0)
    return np.asarray(np.where(exposure.at_risk, loss, 0.0).sum(axis=1), dtype=np.float64)
