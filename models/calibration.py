"""Platt's correction of hazards, held near "no correction" until the outcomes insist."""

from __future__ import annotations

import numpy as np

from models.bundle import Calibration
from models.hazard import Exposure, Floats, expit

PRIOR_DEVIATION = 0.25
"""Standard deviation of the prior of the shift (in log-odds) and of the slope around none and one."""

_STEPS = 30


def fit_calibration(log_odds: Floats, exposure: Exposure) -> Calibration:
    """Return the correction that fits hazards which the model said of intervals it had not seen.

    Parameters
    ----------
    log_odds
        float64[n, K], log-odds of the hazards, of a model trained on nothing later than the questions.
    exposure
        What came of them. Few outcomes leave the correction near none.

    Notes
    -----
    Shift and slope act around the mean log-odds of what is judged, where they can be told apart: a slope
    does not move the level.
    """
    weight = np.where(exposure.at_risk, exposure.weight[:, None], 0.0)
    if weight.sum() == 0:
        return Calibration()
    centre = float((weight * log_odds).sum() / weight.sum())
    away = log_odds - centre
    precision = np.full(2, PRIOR_DEVIATION**-2)
    point, prior = np.array([0.0, 1.0]), np.array([0.0, 1.0])
    for _ in range(_STEPS):
        chance = expit(centre + point[0] + point[1] * away)
        error = weight * (chance - exposure.event)
        curve = weight * chance * (1 - chance)
        gradient = np.array([error.sum(), (error * away).sum()]) + precision * (point - prior)
        cross = (curve * away).sum()
        curvature = np.array([[curve.sum(), cross], [cross, (curve * away**2).sum()]]) + np.diag(precision)
        point = point - np.clip(np.linalg.solve(curvature, gradient), -1, 1)
    shift, slope = float(point[0]), float(point[1])
    return Calibration(intercept=centre + shift - slope * centre, slope=slope)
