"""One rung of the ladder, fitted: a scorecard, the base rate, a shrunken logistic hazard, or trees."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import numpy as np

from crm_core.clock import DAY
from crm_core.errors import ScorecardError
from models.estimators import Ageing, Card, Due, Estimator, Gate, Linear, Steps, Weights
from models.hazard import Bools, Exposure, Floats, Ints
from models.logistic import Block, Scale, fit_levels, fit_scale, fit_weights, spread_of, spreads_of_steps
from models.trees import ADDITIVE, FULL, TreeRows, TreeShape, fit_trees


class Rung(StrEnum):
    """The ladder, from the bottom up: a scorecard needs no outcome, the base rate only counts them."""

    SCORECARD = "scorecard"
    BASE_RATE = "base_rate"
    LOGISTIC = "logistic"
    ADDITIVE_TREES = "additive_trees"
    FULL_TREES = "full_trees"


SHAPES: dict[Rung, TreeShape] = {Rung.ADDITIVE_TREES: ADDITIVE, Rung.FULL_TREES: FULL}

TWO_YEARS = 730 * DAY

_HARDLY = 0.1
"""Strength of shrinkage of what is a level."""

_AGED = "aged "
"""What the names of the blocks of steps of age begin with."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a model is fitted.

    `window_days`: how far back intervals teach what matters; `level_days`: how far back they teach how high
    the hazards are at present (None: all). `penalty` shrinks the linear part, with `expert` towards the
    scorecard; None leaves it out. `rounds` of trees.
    """

    rung: Rung
    window_days: int | None = None
    level_days: int | None = None
    penalty: float | None = None
    rounds: int | None = None
    expert: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return the recipe as plain data."""
        return {
            "estimator": str(self.rung),
            "window_days": self.window_days,
            "level_days": self.level_days,
            "penalty": self.penalty,
            "expert": self.expert,
            "rounds": self.rounds,
        }


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """An estimator with the levels of its intervals and how news fades over them: float64[K] each."""

    estimator: Estimator
    levels: Floats
    fading: Floats

    def log_odds(self, matrix: Floats) -> Floats:
        """Return the log-odds of the hazards: float64[n, K]."""
        return self.levels + self.estimator.effects(matrix).on_hazards(self.fading)

    def base(self, matrix: Floats) -> Floats | None:
        """Return what age and the levels alone make of the hazards: float64[n, K]; None without ageing."""
        ageing = self.estimator.ageing
        return None if ageing is None else self.levels + ageing.on_hazards(matrix)

    def stretched(self, slope: float) -> Fitted:
        """Return the model with its base divided by the slope of a line that is for such log-odds."""
        linear = self.estimator.linear
        if linear is None or linear.ageing is None:
            return self
        ageing = replace(linear.ageing, weight=linear.ageing.weight / slope)
        estimator = replace(self.estimator, linear=replace(linear, ageing=ageing))
        return replace(self, estimator=estimator, levels=self.levels / slope)


@dataclass(frozen=True, kw_only=True)
class Prior:
    """What people expect: a scorecard, and the levels (float64[K]) where nothing is known yet."""

    card: Card
    levels: Floats


@dataclass(frozen=True, kw_only=True)
class Columns:
    """What the columns of a matrix are, bool[p] each; which tell what is fresh, what ages, what is expected.

    `segments` has the columns of each category whose levels borrow strength from the whole.
    """

    is_number: Bools
    is_seasonal: Bools
    gate: Gate | None = None
    due: Due | None = None
    steps: Steps | None = None
    prior: Prior | None = None
    segments: tuple[Ints, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """Rows to learn from.

    `matrix` float64[n, p], what was seen of them up to `until` (microseconds), what the columns are, and
    how news fades over the intervals (float64[K]).
    """

    matrix: Floats
    exposure: Exposure
    columns: Columns
    fading: Floats
    until: int

    def recent(self, window_days: int | None) -> Lesson:
        """Return the rows whose intervals ended within the window; None takes all."""
        after = 0 if window_days is None else self.until - window_days * DAY
        exposure = self.exposure.closed_within(after, self.until)
        kept = exposure.counted
        if kept.all():
            return replace(self, exposure=exposure)
        return replace(self, matrix=self.matrix[kept], exposure=exposure.take(kept))

    def without_short_seasons(self) -> Lesson:
        """Return the rows, with seasons blanked if less than two years cannot tell them from a trend."""
        if self.exposure.span() >= TWO_YEARS or not self.columns.is_seasonal.any():
            return self
        return replace(self, matrix=np.where(self.columns.is_seasonal, 0.0, self.matrix))


def fit_recipe(recipe: Recipe, lesson: Lesson) -> Fitted:
    """Fit a model by a recipe, which picks the rows of its windows from the lesson."""
    return at_present_level(fit_shape(recipe, lesson), lesson, recipe.level_days)


def fit_shape(recipe: Recipe, lesson: Lesson) -> Fitted:
    """Fit what matters, to all of the recipe's window; the levels are those of that window."""
    if recipe.rung is Rung.SCORECARD:
        return _scorecard(lesson)
    taught = lesson.recent(recipe.window_days).without_short_seasons()
    fitted = Fitted(estimator=Estimator(), levels=fit_levels(taught.exposure), fading=lesson.fading)
    if recipe.penalty is not None:
        fitted = fit_logistic(taught, penalty=recipe.penalty, expert=recipe.expert)
    if recipe.rounds is not None:
        trees = fit_trees(tree_rows(fitted, taught), SHAPES[recipe.rung], rounds=recipe.rounds).trees
        fitted = replace(fitted, estimator=replace(fitted.estimator, trees=trees))
    return fitted


def _scorecard(lesson: Lesson) -> Fitted:
    """Return what people expect, of which outcomes teach no more than the level."""
    prior = _prior_of(lesson)
    card = prior.card.fitted_to(lesson.matrix, lesson.exposure.weight)
    return Fitted(estimator=Estimator(card=card), levels=prior.levels, fading=lesson.fading)


def _prior_of(lesson: Lesson) -> Prior:
    if lesson.columns.prior is None:
        raise ScorecardError("there is no scorecard for this task")
    return lesson.columns.prior


def fit_logistic(lesson: Lesson, *, penalty: float, expert: bool = False) -> Fitted:
    """Fit a shrunken logistic hazard to all rows of a lesson; with `expert`, shrunk towards the scorecard.

    How strongly the levels of a segment are shrunk towards the whole, the segments themselves say, given
    what is known of their records beside: see `spread_of`.
    """
    fitted = _fit_logistic(lesson, penalty, None, expert=expert)
    if not lesson.columns.segments:
        return fitted
    strengths = _strengths_of_segments(lesson, fitted, penalty)
    return _fit_logistic(lesson, penalty, strengths, expert=expert)


def _strengths_of_segments(lesson: Lesson, fitted: Fitted, penalty: float) -> Floats:
    """Return how strongly each column's weight is shrunk, as a multiple of the penalty: float64[p]."""
    said = fitted.log_odds(lesson.matrix)
    strengths = np.ones(lesson.matrix.shape[1])
    linear = fitted.estimator.linear
    for columns in lesson.columns.segments:
        own = lesson.matrix[:, columns]
        weights = np.zeros(len(columns)) if linear is None else linear.lasting.known[columns]
        strengths[columns] = spread_of(own, lesson.exposure, said - (own @ weights)[:, None]) ** -2 / penalty
    return strengths


def _fit_logistic(lesson: Lesson, penalty: float, strengths: Floats | None, *, expert: bool) -> Fitted:
    exposure, columns = lesson.exposure, lesson.columns
    scale = fit_scale(lesson.matrix, exposure.weight, is_number=columns.is_number)
    rows = scale.apply(lesson.matrix)
    always = np.ones(len(lesson.fading))
    blocks = {"lasting": Block(rows=rows, load=always, strength=_widened(strengths, rows.shape[1]))}
    news = rows
    if columns.segments:  # a segment has one level of its own, which lasts
        news = rows.copy()
        news[:, np.concatenate(columns.segments)] = 0.0
    if len(always) > 1:
        blocks["early"] = Block(rows=news, load=lesson.fading)
    if columns.gate is not None:
        blocks["fresh"] = Block(rows=news, load=always, is_open=columns.gate.is_open(lesson.matrix))
    if columns.due is not None:
        # The level of the interval that decides is nobody's guess to shrink.
        level = np.append(_HARDLY / penalty, np.ones(news.shape[1]))
        falls = columns.due.falls(lesson.matrix)
        blocks["due"] = Block(rows=np.column_stack([np.ones(len(news)), news]), load=falls, strength=level)
    begun = None if columns.steps is None else _begin_ageing(columns.steps, lesson)
    if begun is not None:
        blocks |= _blocks_of_ageing(begun, lesson, penalty)
    card = None
    if expert:
        card = _prior_of(lesson).card.fitted_to(lesson.matrix, exposure.weight)
        blocks["card"] = Block(rows=card.rows(lesson.matrix), load=always, centre=card.weight)
    levels, fitted = fit_weights(list(blocks.values()), exposure, penalty=penalty)
    found = dict(zip(blocks, fitted, strict=True))
    if card is not None:
        card = replace(card, weight=found.pop("card"))
    due_level = 0.0
    if "due" in found:
        due_level, found["due"] = float(found["due"][0]), found["due"][1:]
    ageing = None
    if begun is not None:
        parts = [name for name in found if name.startswith(_AGED)]
        ageing = replace(begun, weight=np.concatenate([found.pop(name) for name in parts]))
    weights = {name: _weights(values, scale) for name, values in found.items()}
    linear = Linear(
        scale=scale, gate=columns.gate, due_by=columns.due, due_level=due_level, ageing=ageing, **weights
    )
    return Fitted(estimator=Estimator(card=card, linear=linear), levels=levels, fading=lesson.fading)


def _begin_ageing(steps: Steps, lesson: Lesson) -> Ageing:
    """Return steps of no height, with how far the rows have got."""
    far = np.average(steps.reached(steps.age(lesson.matrix)), axis=0, weights=lesson.exposure.weight)
    return Ageing(steps=steps, weight=np.zeros(len(steps.limits_days)), mean=far)


def _blocks_of_ageing(begun: Ageing, lesson: Lesson, penalty: float) -> dict[str, Block]:
    """Return a block for each step, which itself says how strongly it is shrunk."""
    steps = begun.steps
    age = steps.age(lesson.matrix)
    away = steps.reached(age) - begun.mean
    strength = _spreads_of_steps(steps, age, lesson.exposure) ** -2 / penalty
    ones = np.ones((len(age), 1))
    return {
        f"{_AGED}{place}": Block(rows=ones, load=away[:, :, place], strength=strength[[place]])
        for place in range(away.shape[2])
    }


def _spreads_of_steps(steps: Steps, age: Floats, exposure: Exposure) -> Floats:
    """Return how large each step is, of questions put together by whole days of age."""
    days, place = np.unique(np.round(age), return_inverse=True)
    at_risk, event = (
        _sums_by(place, len(days), exposure.weight[:, None] * seen)
        for seen in (exposure.at_risk, exposure.event)
    )
    return spreads_of_steps(steps.reached(days), at_risk, event)


def _sums_by(place: Ints, groups: int, values: Floats) -> Floats:
    """Return the sums of rows by group: float64[groups, K]."""
    columns = [np.bincount(place, weights=column, minlength=groups) for column in values.T]
    return np.stack(columns, axis=1)


def _widened(strengths: Floats | None, width: int) -> Floats | None:
    """Return strengths for the columns that tell of missing numbers too."""
    return None if strengths is None else np.pad(strengths, (0, width - len(strengths)), constant_values=1.0)


def _weights(values: Floats, scale: Scale) -> Weights:
    missing = np.zeros(len(scale.may_miss))
    missing[scale.may_miss] = values[len(missing) :]
    return Weights(known=values[: len(missing)], missing=missing)


def tree_rows(start: Fitted, lesson: Lesson) -> TreeRows:
    """Return the rows of a lesson for trees that add to a fitted model."""
    return TreeRows(matrix=lesson.matrix, exposure=lesson.exposure, start=start.log_odds(lesson.matrix))


def at_present_level(fitted: Fitted, lesson: Lesson, level_days: int | None) -> Fitted:
    """Return the model with the levels that fit the newest intervals, given what it says of their records."""
    newest = lesson.recent(level_days)
    offset = fitted.estimator.effects(newest.matrix).on_hazards(fitted.fading)
    return replace(fitted, levels=fit_levels(newest.exposure, offset, fitted.levels))
