"""A shrunken logistic hazard, fitted by Newton's method.

The intervals of a question share its features, so gradient and curvature are summed over the intervals
first: a fit costs little more than an ordinary logistic regression on the questions, not on their
intervals.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from models.hazard import Bools, Exposure, Floats, expit, log_loss_of

Coarse = npt.NDArray[np.float32]

LEVEL_PRIOR = 0.1
"""Weight, in questions, of the prior that holds a level near its centre where there are no events."""

LIKELY_SPREAD = 0.3
"""Standard deviation of the levels of segments (in log-odds) that is believed in before any was seen."""

LIKELY_STEP = 1.0
"""The same of the steps that a hazard takes as records grow older: the odds may fall to a third at any."""

_SPREADS = (0.01, 3.0)
_SPREAD_FOUND = 1e-6
_MOST_STEPS = 40
_CLOSE_ENOUGH = 1e-7
"""Relative gain of a step after which the next one, smaller by its square, would change nothing."""
_LONG_TAIL = 2.0
"""Skewness above which a number is read on a logarithmic scale."""

ROWS_AT_ONCE = 100_000
"""Rows up to which a sum over them is taken in one go; over more, part by part."""

ROWS_IN_CACHE = 8_192
"""Rows of a part, so few that what is needed beside them in between stays in the processor's cache.
Five times as fast as memory that is asked for and given back at each step."""


def parts_of_rows(count: int) -> Iterator[slice]:
    """Give the parts, in order, that so many rows are worked on in, where each row is on its own."""
    for start in range(0, max(count, 1), ROWS_IN_CACHE):
        yield slice(start, min(start + ROWS_IN_CACHE, count))


def fit_levels(exposure: Exposure, offset: Floats | None = None, centre: Floats | None = None) -> Floats:
    """Return the levels of the intervals: float64[K].

    `offset` (float64[n, K]) is what is known of the hazards beside the levels; `centre` (float64[K]) is
    where a level stays without events, their common level by default.
    """
    shape = exposure.at_risk.shape
    problem = _Problem(
        blocks=(),
        exposure=exposure,
        offset=np.zeros(shape) if offset is None else offset,
        prior=np.full(shape[1], LEVEL_PRIOR),
        centre=np.full(shape[1], _common_level(exposure)) if centre is None else centre,
    )
    return problem.solve()


def spread_of(member: Floats, exposure: Exposure, offset: Floats) -> float:
    """Return how far segments stand apart, as the standard deviation of their levels around the whole's.

    Empirical Bayes: the deviation under which what was seen of the segments is likeliest, by MacKay's fixed
    point, together with one segment more that stands LIKELY_SPREAD off. Segments that do not differ by more
    than chance end close to 0, which pools them; the more they differ, the more each speaks for itself.

    Parameters
    ----------
    member
        float64[n, J], 1 where a question belongs to a segment; to one at most.
    offset
        float64[n, K], log-odds of the hazards without the segments.
    """
    own = np.zeros(member.shape[1])
    precision = LIKELY_SPREAD**-2
    at_risk = np.where(exposure.at_risk, exposure.weight[:, None], 0.0)
    for _ in range(_MOST_STEPS):
        chance = expit(offset + (member @ own)[:, None])
        error = member.T @ (at_risk * (chance - exposure.event)).sum(axis=1)
        seen = member.T @ (at_risk * chance * (1 - chance)).sum(axis=1)
        own = own - np.clip((error + precision * own) / (seen + precision), -1.0, 1.0)
        well_known = float((seen / (seen + precision)).sum())
        before, precision = precision, (well_known + 1) / (float(own @ own) + LIKELY_SPREAD**2)
        if abs(np.log(precision / before)) < _SPREAD_FOUND:
            break
    return float(np.clip(precision**-0.5, *_SPREADS))


def spreads_of_steps(reached: Floats, at_risk: Floats, event: Floats) -> Floats:
    """Return how large each step of a hazard is, as the deviation of its weight from 0: float64[steps].

    Empirical Bayes, as in `spread_of`, for each step alone, beside levels and nothing else, and together
    with one step more of LIKELY_STEP: where a hazard ends at some age, that step may fall as deep as it does
    without the others growing with it.

    Parameters
    ----------
    reached
        float64[g, K, steps], how far groups of questions are beyond each step in each interval.
    at_risk, event
        float64[g, K], the weights of their questions that were at risk, and of those with the event.
    """
    groups, intervals, steps = reached.shape
    levels = np.broadcast_to(np.eye(intervals), (groups, intervals, intervals))
    rows = np.concatenate([levels, reached], axis=2).reshape(groups * intervals, -1)
    seen, happened = at_risk.ravel(), event.ravel()
    start = float(np.log((happened.sum() + 0.5) / max(seen.sum() - happened.sum(), 0.5)))
    centre = np.concatenate([np.full(intervals, start), np.zeros(steps)])
    point, precision = centre.copy(), np.full(steps, LIKELY_STEP**-2)
    for _ in range(_MOST_STEPS):
        chance = expit(rows @ point)
        prior = np.concatenate([np.full(intervals, LEVEL_PRIOR), precision])
        curvature = (rows.T * (seen * chance * (1 - chance))) @ rows + np.diag(prior)
        gradient = rows.T @ (seen * chance - happened) + prior * (point - centre)
        point = point - np.clip(np.linalg.solve(curvature, gradient), -1.0, 1.0)
        well_known = 1 - precision * np.diag(np.linalg.inv(curvature))[intervals:]
        before, precision = precision, (well_known + 1) / (point[intervals:] ** 2 + LIKELY_STEP**2)
        if np.abs(np.log(precision / before)).max() < _SPREAD_FOUND:
            break
    return np.clip(precision**-0.5, *_SPREADS)


@dataclass(frozen=True, kw_only=True)
class Block:
    """Columns with weights of their own: float64[n, p] without NaN, and how much each interval heeds them.

    `load` is float64[K], or float64[n, K] where that differs from question to question. Of rows that are not
    `is_open` (bool[n]; None: all are) nothing is heeded: blocks can share rows without a copy.
    `centre` (float64[p]) is what the weights are shrunk towards, by default 0; `strength` (float64[p]) how
    strongly beside the penalty, by default 1.
    """

    rows: Floats
    load: Floats
    is_open: Bools | None = None
    centre: Floats | None = None
    strength: Floats | None = None

    @cached_property
    def coarse(self) -> Coarse:
        """Return the rows in single precision: enough for curvature, which only guides, and twice as fast."""
        coarse = self.rows.astype(np.float32)
        return coarse if self.is_open is None else coarse * self.is_open[:, None]

    def said(self, weights: Floats) -> Floats:
        """Return what the weights say of each row: float64[n]."""
        return self.heeded(self.rows @ weights)

    def heeded(self, values: Floats) -> Floats:
        """Return values (float64[n] or float64[n, K]), 0 where a row is not open."""
        if self.is_open is None:
            return values
        return values * (self.is_open if values.ndim == 1 else self.is_open[:, None])

    def part(self, rows: slice) -> Block:
        """Return the block of some of the rows, which are not copied."""
        return replace(
            self,
            rows=self.rows[rows],
            load=self.load if self.load.ndim == 1 else self.load[rows],
            is_open=None if self.is_open is None else self.is_open[rows],
        )


def fit_weights(
    blocks: Sequence[Block], exposure: Exposure, *, penalty: float
) -> tuple[Floats, list[Floats]]:
    """Return the levels, float64[K], and the weights of each block, float64[p], of a logistic hazard.

    logit hazard_k = level_k + sum over blocks of load_k * (weights @ row). Minimises the weighted negative
    log-likelihood plus `penalty / 2` times the sum of squared distances from the blocks' centres: weights
    have a normal prior of variance 1 / penalty around them. Levels are not shrunk, but for a weak pull
    towards their common level.
    """
    intervals = exposure.at_risk.shape[1]
    widths = [block.rows.shape[1] for block in blocks]
    centres = [_or_full(block.centre, width, 0.0) for block, width in zip(blocks, widths, strict=True)]
    strengths = [_or_full(block.strength, width, 1.0) for block, width in zip(blocks, widths, strict=True)]
    problem = _Problem(
        blocks=tuple(blocks),
        exposure=exposure,
        offset=np.zeros(exposure.at_risk.shape),
        prior=np.concatenate([np.full(intervals, LEVEL_PRIOR), *(penalty * each for each in strengths)]),
        centre=np.concatenate([np.full(intervals, _common_level(exposure)), *centres]),
    )
    point = problem.solve()
    return point[:intervals], [point[place] for place in problem.places]


def _or_full(values: Floats | None, width: int, otherwise: float) -> Floats:
    return np.full(width, otherwise) if values is None else values


def _common_level(exposure: Exposure) -> float:
    weight = exposure.weight[:, None]
    events = float((exposure.event * weight).sum()) + 0.5
    others = float((exposure.at_risk * weight).sum()) - events + 1.0
    return float(np.log(events / max(others, 0.5)))


@dataclass(frozen=True, kw_only=True)
class _Problem:
    blocks: tuple[Block, ...]
    exposure: Exposure
    offset: Floats
    prior: Floats
    centre: Floats

    @cached_property
    def places(self) -> list[slice]:
        """Return where each block's weights stand among all parameters; levels come first."""
        stops = np.cumsum([self.exposure.at_risk.shape[1], *(block.rows.shape[1] for block in self.blocks)])
        return [slice(start, stop) for start, stop in pairwise(stops.tolist())]

    def solve(self) -> Floats:
        point = self.centre.copy()
        loss = self.loss(point)
        for _ in range(_MOST_STEPS):
            gradient, curvature = self.derivatives(point)
            step = np.asarray(np.linalg.solve(curvature, gradient), dtype=np.float64)
            point, loss, gained = self.descend(point, step, loss)
            if gained < _CLOSE_ENOUGH * max(1.0, abs(loss)):
                break
        return point

    def log_odds(self, point: Floats) -> Floats:
        said = self.offset + point[: self.exposure.at_risk.shape[1]]
        for block, place in zip(self.blocks, self.places, strict=True):
            said = said + block.said(point[place])[:, None] * block.load
        return said

    def loss(self, point: Floats) -> float:
        seen = self.exposure.weight @ log_loss_of(self.log_odds(point), self.exposure)
        away = point - self.centre
        return float(seen + 0.5 * (self.prior * away) @ away)

    def derivatives(self, point: Floats) -> tuple[Floats, Floats]:
        chance = expit(self.log_odds(point))
        weight = np.where(self.exposure.at_risk, self.exposure.weight[:, None], 0.0)
        error = weight * (chance - self.exposure.event)
        heeded = (block.heeded(_heeded(error, block.load)) @ block.rows for block in self.blocks)
        parts = [error.sum(axis=0), *heeded]
        gradient = np.concatenate(parts) + self.prior * (point - self.centre)
        return gradient, np.diag(self.prior) + self.curvature(weight * chance * (1.0 - chance))

    def curvature(self, curve: Floats) -> Floats:
        intervals = curve.shape[1]
        full = np.zeros((len(self.prior), len(self.prior)))
        full[:intervals, :intervals] = np.diag(curve.sum(axis=0))
        for block, place in zip(self.blocks, self.places, strict=True):
            full[:intervals, place] = block.heeded(curve * block.load).T @ block.rows
            full[place, :intervals] = full[:intervals, place].T
        if len(curve) <= ROWS_AT_ONCE:
            self.add_joint(full, self.blocks, curve)
        else:
            for rows in parts_of_rows(len(curve)):
                self.add_joint(full, [block.part(rows) for block in self.blocks], curve[rows])
        for index, place in enumerate(self.places):
            for beside in self.places[: index + 1]:
                full[beside, place] = full[place, beside].T
        return full

    def add_joint(self, full: Floats, blocks: Sequence[Block], curve: Floats) -> None:
        """Add how much the weights of each two blocks bend together, as some rows have it."""
        for index, (block, place) in enumerate(zip(blocks, self.places, strict=True)):
            for other, beside in zip(blocks[: index + 1], self.places, strict=False):
                joint = _heeded(curve, block.load * other.load).astype(np.float32)
                full[place, beside] += block.coarse.T @ (other.coarse * joint[:, None])

    def descend(self, point: Floats, step: Floats, loss: float) -> tuple[Floats, float, float]:
        """Return the next point, halving the step while it leads uphill."""
        size = 1.0
        while size > 1e-6:
            there = np.asarray(point - size * step, dtype=np.float64)
            reached = self.loss(there)
            if reached <= loss:
                return there, reached, loss - reached
            size /= 2
        return point, loss, 0.0


def _heeded(values: Floats, load: Floats) -> Floats:
    """Return the sums of values over the intervals, as much as each heeds them: float64[n]."""
    found = values @ load if load.ndim == 1 else np.einsum("nk,nk->n", values, load)
    return np.asarray(found, dtype=np.float64)


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How the columns of an encoded matrix are brought to one scale: each array has one entry a column.

    A number is taken on a signed logarithmic scale where `logarithmic`, held within [low, high] as seen in
    training, and standardised; a missing one is the mean, and `may_miss` columns have a 0/1 column of their
    own that says so. Levels (0/1) are only centred. Every resulting column has mean 0 over the training
    questions.
    """

    logarithmic: Bools
    low: Floats
    high: Floats
    mean: Floats
    size: Floats
    may_miss: Bools
    missing_share: Floats

    def apply(self, matrix: Floats) -> Floats:
        """Return the scaled columns, then those that tell of missing numbers: float64[n, p + those]."""
        width = matrix.shape[1]
        found = np.empty((len(matrix), width + int(self.may_miss.sum())))
        for rows in parts_of_rows(len(matrix)):
            part = matrix[rows]
            missing = np.isnan(part)
            held = np.clip(np.where(self.logarithmic, _signed_log(part), part), self.low, self.high)
            found[rows, :width] = np.where(missing, 0.0, (held - self.mean) / self.size)
            found[rows, width:] = missing[:, self.may_miss] - self.missing_share[self.may_miss]
        return found

    def to_json(self) -> dict[str, list[Any]]:
        """Return the arrays as plain lists."""
        return {name: getattr(self, name).tolist() for name in self.__dataclass_fields__}

    @classmethod
    def from_json(cls, data: dict[str, list[Any]]) -> Scale:
        """Return the scale that `to_json` described."""
        return cls(
            logarithmic=np.array(data["logarithmic"], dtype=np.bool_),
            low=np.array(data["low"], dtype=np.float64),
            high=np.array(data["high"], dtype=np.float64),
            mean=np.array(data["mean"], dtype=np.float64),
            size=np.array(data["size"], dtype=np.float64),
            may_miss=np.array(data["may_miss"], dtype=np.bool_),
            missing_share=np.array(data["missing_share"], dtype=np.float64),
        )


def fit_scale(matrix: Floats, weight: Floats, *, is_number: Bools) -> Scale:
    """Return the scale of a training matrix, float64[n, p] with NaN for missing numbers, under weights."""
    if len(matrix) <= ROWS_AT_ONCE:
        return _scale_of(matrix, weight, is_number)
    width = max(2, ROWS_AT_ONCE * matrix.shape[1] // len(matrix))
    groups = [slice(start, start + width) for start in range(0, matrix.shape[1], width)]
    return _side_by_side([_scale_of(matrix[:, group], weight, is_number[group]) for group in groups])


def _side_by_side(scales: Sequence[Scale]) -> Scale:
    names = Scale.__dataclass_fields__
    return Scale(**{name: np.concatenate([getattr(one, name) for one in scales]) for name in names})


def _scale_of(matrix: Floats, weight: Floats, is_number: Bools) -> Scale:
    missing = np.isnan(matrix)
    filled = np.where(missing, 0.0, matrix)
    known = ~missing * weight[:, None]
    logarithmic = is_number & (_skewness(filled, known) > _LONG_TAIL)
    values = np.where(logarithmic, _signed_log(filled), filled)
    low = np.where(missing, np.inf, values).min(axis=0)
    high = np.where(missing, -np.inf, values).max(axis=0)
    nothing = ~np.isfinite(low)
    total = np.maximum(known.sum(axis=0), 1e-12)
    mean = (known * values).sum(axis=0) / total
    spread = np.sqrt((known * (values - mean) ** 2).sum(axis=0) / total)
    share = (missing * weight[:, None]).sum(axis=0) / weight.sum()
    return Scale(
        logarithmic=logarithmic,
        low=np.where(nothing, 0.0, low),
        high=np.where(nothing, 0.0, high),
        mean=mean,
        size=np.where(is_number & (spread > 1e-9), spread, 1.0),
        may_miss=is_number & missing.any(axis=0),
        missing_share=share,
    )


def _signed_log(values: Floats) -> Floats:
    return np.asarray(np.sign(values) * np.log1p(np.abs(values)), dtype=np.float64)


def _skewness(values: Floats, weight: Floats) -> Floats:
    """Return the absolute skewness of each column."""
    total = np.maximum(weight.sum(axis=0), 1e-12)
    away = values - (weight * values).sum(axis=0) / total
    square = weight * away
    square *= away
    variance = square.sum(axis=0) / total
    square *= away
    return np.asarray(
        np.abs(square.sum(axis=0) / total) / np.maximum(variance, 1e-12) ** 1.5, dtype=np.float64
    )
