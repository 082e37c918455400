"""The correction of hazards by what came of them: Platt's line, or rising steps where a line is worse.

Both are held near what is simpler until the outcomes insist: the line near "no correction", the steps near
the line.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from models.bundle import Calibration
from models.evaluation import compare_losses
from models.hazard import Exposure, Floats, Ints, expit, log_loss_of

PRIOR_DEVIATION = 0.25
"""Standard deviation of the prior of the shift (in log-odds) and of the slope around none and one."""

FEWEST_FOR_STEPS = 1000
"""Questions below which only the line is tried."""

MOST_STEPS = 20
"""Steps tried at most, each with as many expected events as the others."""

_LIKE_THE_LINE = 10.0
"""Weight, in questions, with which each step is drawn to the line."""

_CERTAINTY = 0.8
"""Coverage of the interval of the gain of steps over the line that must lie above 0."""

_LEAST_SLOPE = 0.1
"""A correction never rises by less, and a base is never divided by less."""

_ITERATIONS = 30


def choose_calibration(
    log_odds: Floats, exposure: Exposure, account: Ints, base: Floats | None = None
) -> Calibration:
    """Return the correction that would have been right later: a line, or steps where they beat it.

    Parameters
    ----------
    log_odds
        float64[n, K], log-odds of the hazards, of a model that had not learned from these questions.
    exposure
        What came of them; the intervals that ended first teach both corrections, the later ones judge.
    account
        int64[n], what is drawn again to tell a gain from noise.
    base
        float64[n, K], what a line leaves as it is, see `fit_calibration`.
    """
    line = fit_calibration(log_odds, exposure, base)
    if int(exposure.counted.sum()) < FEWEST_FOR_STEPS or not exposure.event.any():
        return line
    middle = int(np.median(exposure.closed_at[exposure.event]))
    earlier = exposure.closed_within(0, middle)
    later = exposure.closed_within(middle, int(exposure.closed_at.max()))
    if not earlier.event.any() or not later.event.any():
        return line
    tried = [fit_calibration(log_odds, earlier, base), fit_isotonic(log_odds, earlier)]
    losses = [log_loss_of(one.apply(stretched(log_odds, one, base)), later) for one in tried]
    rows = later.counted
    gain = compare_losses(
        losses[0][rows], losses[1][rows], account[rows], weight=later.weight[rows], coverage=_CERTAINTY
    )
    return fit_isotonic(log_odds, exposure) if gain.low > 0 else line


def stretched(log_odds: Floats, correction: Calibration, base: Floats | None) -> Floats:
    """Return the log-odds that a correction is for: with their base divided by the slope of a line."""
    if base is None or correction.knots:
        return log_odds
    return log_odds + base * (1 / correction.slope - 1)


def fit_calibration(log_odds: Floats, exposure: Exposure, base: Floats | None = None) -> Calibration:
    """Return the line that fits hazards which the model said of intervals it had not seen.

    Parameters
    ----------
    log_odds
        float64[n, K], log-odds of the hazards, of a model that had not learned from these questions.
    exposure
        What came of them. Few outcomes leave the correction near none.
    base
        float64[n, K], the part of `log_odds` that many outcomes tell, as what the age adds: the slope acts on
        the rest alone, and the line is for log-odds as `stretched` returns them.

    Notes
    -----
    Shift and slope act around the base, or the mean log-odds of what is judged, where they can be told apart:
    a slope does not move the level. Where it would, a slope below 1, which features of few outcomes ask for,
    would call the records likelier again of which age has told that hardly any come.
    """
    weight = np.where(exposure.at_risk, exposure.weight[:, None], 0.0)
    if weight.sum() == 0:
        return Calibration()
    centre = float((weight * log_odds).sum() / weight.sum())
    start = np.full(log_odds.shape, centre) if base is None else base
    away = log_odds - start
    precision = np.full(2, PRIOR_DEVIATION**-2)
    point, prior = np.array([0.0, 1.0]), np.array([0.0, 1.0])
    for _ in range(_ITERATIONS):
        chance = expit(start + point[0] + point[1] * away)
        error = weight * (chance - exposure.event)
        curve = weight * chance * (1 - chance)
        gradient = np.array([error.sum(), (error * away).sum()]) + precision * (point - prior)
        cross = (curve * away).sum()
        curvature = np.array([[curve.sum(), cross], [cross, (curve * away**2).sum()]]) + np.diag(precision)
        point = point - np.clip(np.linalg.solve(curvature, gradient), -1, 1)
    shift, slope = float(point[0]), max(float(point[1]), _LEAST_SLOPE)
    if base is not None:
        return Calibration(intercept=shift, slope=slope)
    return Calibration(intercept=centre + shift - slope * centre, slope=slope)


def fit_isotonic(log_odds: Floats, exposure: Exposure) -> Calibration:
    """Return rising steps, joined by straight lines, that fit hazards as `fit_calibration` does.

    Hazards are put in order and cut into at most MOST_STEPS runs of equally many expected events; neighbours
    that fall are pooled (isotonic regression). A step stands at the mean of what was said in it.
    """
    line = fit_calibration(log_odds, exposure)
    said = log_odds[exposure.at_risk]
    order = np.argsort(said, kind="stable")
    said = said[order]
    weight = np.broadcast_to(exposure.weight[:, None], log_odds.shape)[exposure.at_risk][order]
    event = exposure.event[exposure.at_risk][order]
    expected = expit(line.apply(said)) * weight
    upto = np.cumsum(expected)
    run = np.minimum((upto / max(upto[-1], 1e-12) * MOST_STEPS).astype(np.int64), MOST_STEPS - 1)
    parts = np.stack([weight, weight * event, expected, weight * said])
    blocks = _pooled([parts[:, run == number].sum(axis=1) for number in np.unique(run)])
    knots = tuple((float(block[3] / block[0]), _log_odds_of(block)) for block in blocks)
    return Calibration(intercept=line.intercept, slope=line.slope, knots=knots)


def _pooled(blocks: Sequence[Floats]) -> list[Floats]:
    """Pool neighbours until what came rises from block to block; a block is made of sums."""
    pooled: list[Floats] = []
    for block in blocks:
        joined = block
        while pooled and _log_odds_of(pooled[-1]) >= _log_odds_of(joined):
            joined = joined + pooled.pop()
        pooled.append(joined)
    return pooled


def _log_odds_of(block: Floats) -> float:
    """Return the log-odds of what came in a block, drawn towards what the line expects there."""
    weight, events, expected, _ = block.tolist()
    share = (events + _LIKE_THE_LINE * expected / weight) / (weight + _LIKE_THE_LINE)
    return math.log(share / (1 - share))
