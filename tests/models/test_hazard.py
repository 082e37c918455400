"""The engine: intervals, the rule of whole intervals, probabilities that never cross."""

from __future__ import annotations

import numpy as np
import pytest

from crm_core.arrays import NO_INSTANT
from crm_core.clock import DAY
from models.hazard import (
    expit,
    expose,
    fading_of,
    log_odds_within,
    share_of_intervals,
    slopes_within,
)
from models.logistic import fit_levels

ENDS = (7, 14, 30, 60, 90)


def _seen(event_day: float | None, known_days: float, *, absence: bool = False) -> list[tuple[bool, bool]]:
    event = NO_INSTANT if event_day is None else int(event_day * DAY)
    exposure = expose(
        as_of=np.array([0]),
        event_at=np.array([event]),
        known_until=np.array([int(known_days * DAY)]),
        weight=np.ones(1),
        ends_days=ENDS,
        absence=absence,
    )
    return list(zip(exposure.at_risk[0].tolist(), exposure.event[0].tolist(), strict=True))


YES, NO, OUT = (True, True), (True, False), (False, False)


def test_an_event_ends_the_questions_after_it() -> None:
    assert _seen(20, 400) == [NO, NO, YES, OUT, OUT]


def test_without_an_event_all_intervals_count() -> None:
    assert _seen(None, 400) == [NO] * 5


def test_an_interval_that_is_not_over_does_not_count_even_if_the_event_happened_in_it() -> None:
    assert _seen(20, 29) == [NO, NO, OUT, OUT, OUT]


def test_the_end_of_an_interval_belongs_to_it() -> None:
    assert _seen(7, 400)[0] == YES
    assert _seen(7.000001, 400)[:2] == [NO, YES]


def test_an_event_at_the_question_itself_is_none() -> None:
    assert _seen(0, 400) == [OUT] * 5


def test_absence_is_seen_only_when_the_horizon_is_over() -> None:
    assert _seen(None, 89, absence=True) == [OUT]
    assert _seen(None, 90, absence=True) == [YES]
    assert _seen(90, 90, absence=True) == [NO]
    assert _seen(91, 120, absence=True) == [YES]


def test_a_window_keeps_what_closed_in_it() -> None:
    exposure = expose(
        as_of=np.array([0]),
        event_at=np.array([NO_INSTANT]),
        known_until=np.array([400 * DAY]),
        weight=np.ones(1),
        ends_days=ENDS,
    )
    assert exposure.closed_within(7 * DAY, 60 * DAY).at_risk[0].tolist() == [False, True, True, True, False]


def test_shares_of_intervals_within_a_horizon() -> None:
    assert share_of_intervals(ENDS, 45).tolist() == [1, 1, 1, 0.5, 0]
    with pytest.raises(ValueError, match="1 to 90 days, got 91"):
        share_of_intervals(ENDS, 91)


def test_the_probability_is_one_minus_the_product() -> None:
    hazards = np.log(np.array([[0.1, 0.2, 0.3, 0.05, 0.5]]) / (1 - np.array([[0.1, 0.2, 0.3, 0.05, 0.5]])))
    within_60 = expit(log_odds_within(hazards, share_of_intervals(ENDS, 60)))
    assert within_60[0] == pytest.approx(1 - 0.9 * 0.8 * 0.7 * 0.95, abs=1e-12)


def test_probabilities_of_longer_horizons_are_never_lower() -> None:
    hazards = np.random.default_rng(1).normal(-2, 4, (500, 5))
    within = [expit(log_odds_within(hazards, share_of_intervals(ENDS, days))) for days in (10, 30, 60, 90)]
    assert (np.diff(within, axis=0) >= 0).all()


def test_slopes_are_the_derivative() -> None:
    hazards, share = np.random.default_rng(2).normal(-2, 1, (20, 5)), share_of_intervals(ENDS, 45)
    step = 1e-6
    for k in range(5):
        moved = hazards.copy()
        moved[:, k] += step
        expected = (log_odds_within(moved, share) - log_odds_within(hazards, share)) / step
        np.testing.assert_allclose(slopes_within(hazards, share)[:, k], expected, atol=1e-5)


def test_extreme_hazards_claim_no_certainty() -> None:
    share = share_of_intervals(ENDS, 90)
    assert expit(log_odds_within(np.full((1, 5), 80.0), share))[0] <= 1 - 1e-6
    assert expit(log_odds_within(np.full((1, 5), -80.0), share))[0] >= 1e-7


def test_news_fades() -> None:
    assert fading_of(ENDS)[0] == 1
    assert (np.diff(fading_of(ENDS)) < 0).all()
    assert fading_of((60,)).tolist() == [1]


def test_leaving_out_what_is_open_shows_far_too_many_wins() -> None:
    """Of all deals 20 % are won, after about 30 days; the others are lost after about 120."""
    random = np.random.default_rng(5)
    many, days_seen = 40_000, 90
    born = random.uniform(-days_seen, 0, many)
    won = random.random(many) < 0.2
    ends = born + np.where(won, random.exponential(30, many), random.exponential(120, many))
    closed = ends <= 0
    assert won[closed].mean() > 0.35

    event_at = np.where(won & closed, ends * DAY, float(NO_INSTANT)).astype(np.int64)
    exposure = expose(
        as_of=(born * DAY).astype(np.int64),
        event_at=event_at,
        known_until=np.zeros(many, dtype=np.int64),
        weight=np.ones(many),
        ends_days=ENDS,
    )
    levels = np.tile(fit_levels(exposure), (1, 1))
    truth = 0.2 * (1 - np.exp(-60 / 30))
    said = expit(log_odds_within(levels, share_of_intervals(ENDS, 60)))[0]
    assert said == pytest.approx(truth, abs=0.01)
