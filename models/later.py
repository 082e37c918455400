"""What comes after the intervals that teach: one more, told from the last of them by a line of its own.

Few questions are old enough to have been followed for half a year, and those are of another time. If they had
a say in what matters, or in how high the hazards are within the horizon shown, that would be no better known
and less true. So the longer horizon adds one interval after the others and changes nothing before it:

    logit hazard = level + slope * logit(what the last hazard comes to if it goes on for as long)

Both numbers are fitted to questions followed to the end of the interval, with hazards that models of other
accounts said.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from models.hazard import LOG_ODDS_LIMIT, Exposure, Floats, expit

SLOPE_DEVIATION = 0.25
"""Standard deviation of the prior of the slope around one."""

LEVEL_DEVIATION = 3.0
"""Standard deviation of the prior of the level around none: hardly held."""

_STEPS = 50


@dataclass(frozen=True, kw_only=True)
class Later:
    """An interval from `start_days` to `end_days` after the question.

    `last_days` is how long the last interval before it was, from which it is told.
    """

    start_days: int
    end_days: int
    last_days: int
    level: float
    slope: float

    def hazard(self, last: Floats) -> Floats:
        """Return the log-odds of its hazard from those of the last interval before it: float64[n]."""
        gone_on = going_on(last, (self.end_days - self.start_days) / self.last_days)
        return np.clip(self.level + self.slope * gone_on, -LOG_ODDS_LIMIT, LOG_ODDS_LIMIT)

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return dict(vars(self))

    @classmethod
    def from_json(cls, data: dict[str, Any] | None) -> Later | None:
        """Return what `to_json` described."""
        return None if data is None else cls(**data)


def going_on(log_odds: Floats, times: float) -> Floats:
    """Return the log-odds of a hazard that goes on `times` as long as the given one: float64[n]."""
    total = times * np.logaddexp(0.0, log_odds)
    return np.clip(total + np.log(-np.expm1(-total)), -LOG_ODDS_LIMIT, LOG_ODDS_LIMIT)


def fit_later(last: Floats, exposure: Exposure, *, start_days: int, end_days: int, last_days: int) -> Later:
    """Return the interval that fits what came of questions followed to its end.

    Parameters
    ----------
    last
        float64[n], log-odds of the last hazard before it, of models of other accounts.
    exposure
        What was seen in the interval: one column. Without events the prior speaks: a level well below.
    """
    gone_on = going_on(last, (end_days - start_days) / last_days)
    weight = np.where(exposure.at_risk[:, 0], exposure.weight, 0.0)
    event = exposure.event[:, 0]
    precision = np.array([LEVEL_DEVIATION, SLOPE_DEVIATION]) ** -2.0
    prior = np.array([0.0, 1.0])
    point = prior.copy()
    centre = float(weight @ gone_on / weight.sum()) if weight.sum() else 0.0
    inputs = np.column_stack([np.ones_like(gone_on), gone_on - centre])
    for _ in range(_STEPS):
        chance = expit(centre + inputs @ point)
        gradient = inputs.T @ (weight * (chance - event)) + precision * (point - prior)
        curvature = (inputs * (weight * chance * (1 - chance))[:, None]).T @ inputs + np.diag(precision)
        point = point - np.clip(np.linalg.solve(curvature, gradient), -1.0, 1.0)
    level, slope = float(point[0]), max(float(point[1]), 0.0)
    return Later(
        start_days=start_days,
        end_days=end_days,
        last_days=last_days,
        level=centre + level - slope * centre,
        slope=slope,
    )
