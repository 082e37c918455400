"""Segments borrow strength from the whole: a small one is drawn to it, a large one speaks for itself."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from models.fitting import Columns, Fitted, Lesson, fit_logistic
from models.hazard import Exposure, Floats, expit, fading_of
from models.logistic import LIKELY_SPREAD, spread_of

SIZES = (5, 5, 8, 15, 30, 60, 120, 250, 500, 1000, 2500, 5000)
"""Records of each segment."""

ENDS = (30, 90)


@dataclass(frozen=True, kw_only=True)
class World:
    """Segments with true levels of their own around -1.5, and a number that matters in all alike."""

    lesson: Lesson
    level: Floats
    segment: np.ndarray

    @property
    def rates(self) -> Floats:
        """Return the share of events among the intervals of each segment, with half an event added."""
        seen = self.lesson.exposure
        events = np.bincount(self.segment, weights=seen.event.sum(axis=1))
        asked = np.bincount(self.segment, weights=seen.at_risk.sum(axis=1))
        return (events + 0.5) / (asked + 1)


def make_world(spread: float, seed: int, sizes: tuple[int, ...] = SIZES) -> World:
    random = np.random.default_rng(seed)
    level = random.normal(0, spread, len(sizes))
    segment = np.repeat(np.arange(len(sizes)), sizes)
    matrix = np.column_stack([random.normal(size=len(segment)), np.eye(len(sizes))[segment]])
    hazards = expit(-1.5 + level[segment][:, None] + 0.5 * matrix[:, :1] + np.zeros((1, 2)))
    happens = random.random(hazards.shape) < hazards
    at_risk = np.column_stack([np.ones(len(segment), dtype=bool), ~happens[:, 0]])
    exposure = Exposure(
        at_risk=at_risk,
        event=happens & at_risk,
        closed_at=np.zeros(hazards.shape, dtype=np.int64),
        weight=np.ones(len(segment)),
    )
    places = np.arange(1, len(sizes) + 1)
    is_number = np.arange(len(sizes) + 1) == 0
    columns = Columns(is_number=is_number, is_seasonal=np.zeros_like(is_number), segments=(places,))
    lesson = Lesson(matrix=matrix, exposure=exposure, columns=columns, fading=fading_of(ENDS), until=0)
    return World(lesson=lesson, level=level, segment=segment)


def said_of_each(fitted: Fitted, segments: int) -> Floats:
    """Return the hazard of an average record of each segment, and of one of a segment never seen."""
    rows = np.column_stack([np.zeros(segments + 1), np.eye(segments + 1, segments)])
    return expit(fitted.log_odds(rows)[:, 0])


def expected_loss(said: Floats, truth: Floats) -> float:
    """Return the mean log loss of what is said where the true chances are known, each segment alike."""
    return float(-(truth * np.log(said) + (1 - truth) * np.log(1 - said)).mean())


def test_on_log_loss_partial_pooling_beats_none_and_complete() -> None:
    gains = []
    for seed in range(8):
        world = make_world(0.6, seed)
        truth = expit(-1.5 + world.level)
        fitted = fit_logistic(world.lesson, penalty=10.0)
        ours = expected_loss(said_of_each(fitted, len(SIZES))[:-1], truth)
        alone = expected_loss(world.rates, truth)
        whole = world.lesson.exposure
        together = expected_loss(np.full(len(SIZES), whole.event.sum() / whole.at_risk.sum()), truth)
        gains.append((alone - ours, together - ours))
    assert (np.mean(gains, axis=0) > 0.003).all()


def log_odds_of(chance: Floats) -> Floats:
    return np.asarray(np.log(chance / (1 - chance)))


def test_a_segment_of_five_is_drawn_to_the_whole_and_one_of_five_thousand_speaks_for_itself() -> None:
    small, large, raw = [], [], []
    for seed in range(8):
        world = make_world(0.6, seed)
        said = log_odds_of(said_of_each(fit_logistic(world.lesson, penalty=10.0), len(SIZES)))
        small += (said[:2] - said[-1]).tolist()
        raw += (log_odds_of(world.rates)[:2] - said[-1]).tolist()
        large.append(float(said[-2] - (world.level[-1] - 1.5)))
    assert np.abs(small).mean() < 0.5 * np.abs(raw).mean()
    assert np.abs(large).mean() < 0.08


def test_a_segment_never_seen_gets_the_level_of_the_whole() -> None:
    world = make_world(0.6, 5, (400,) * 30)
    said = said_of_each(fit_logistic(world.lesson, penalty=10.0), 30)
    log_odds = np.log(said / (1 - said))
    assert log_odds[-1] == pytest.approx(log_odds[:-1].mean(), abs=1e-6)
    assert log_odds[-1] == pytest.approx(-1.5, abs=0.25)


@pytest.mark.parametrize("truth", [0.0, 0.3, 0.8])
def test_how_far_segments_stand_apart_is_found_from_what_came(truth: float) -> None:
    found = []
    for seed in range(5):
        world = make_world(truth, 10 + seed, (300,) * 40)
        offset = -1.5 + 0.5 * world.lesson.matrix[:, :1] + np.zeros((1, 2))
        found.append(spread_of(world.lesson.matrix[:, 1:], world.lesson.exposure, offset))
    assert np.mean(found) == pytest.approx(truth, abs=0.12)


def test_without_anything_seen_the_spread_is_the_one_believed_in() -> None:
    world = make_world(0.5, 1)
    none = Exposure(
        at_risk=np.zeros_like(world.lesson.exposure.at_risk),
        event=np.zeros_like(world.lesson.exposure.event),
        closed_at=world.lesson.exposure.closed_at,
        weight=world.lesson.exposure.weight,
    )
    assert spread_of(world.lesson.matrix[:, 1:], none, np.zeros((len(none), 2))) == pytest.approx(
        LIKELY_SPREAD
    )


def test_segments_that_are_alike_say_nothing_that_the_whole_does_not() -> None:
    world = make_world(0.0, 2, (2000,) * 6)
    said = said_of_each(fit_logistic(world.lesson, penalty=10.0), 6)
    assert np.ptp(np.log(said / (1 - said))) < 0.12
