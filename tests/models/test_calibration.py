"""The correction of hazards."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from crm_core.clock import DAY
from models.bundle import Calibration
from models.calibration import choose_calibration, fit_calibration, fit_isotonic
from models.hazard import Exposure, expit


def _seen(truth: np.ndarray, seed: int = 1) -> Exposure:
    happened = np.random.default_rng(seed).random(truth.shape) < truth
    return Exposure(
        at_risk=np.ones(truth.shape, dtype=bool),
        event=happened,
        closed_at=np.zeros(truth.shape, dtype=np.int64),
        weight=np.ones(len(truth)),
    )


def test_too_extreme_and_too_high_is_put_right() -> None:
    right = np.random.default_rng(2).normal(-2, 1, (20_000, 2))
    said = 0.6 + 1.6 * right
    found = fit_calibration(said, _seen(expit(right)))
    np.testing.assert_allclose(found.intercept + found.slope * said, right, atol=0.15)


def test_what_is_right_stays() -> None:
    right = np.random.default_rng(3).normal(-2, 1, (20_000, 2))
    found = fit_calibration(right, _seen(expit(right)))
    assert found.slope == pytest.approx(1, abs=0.05)
    assert found.intercept == pytest.approx(0, abs=0.1)


def test_few_outcomes_hardly_correct() -> None:
    right = np.random.default_rng(4).normal(-2, 1, (30, 1))
    found = fit_calibration(right + 3, _seen(expit(right)))
    full = fit_calibration(np.tile(right + 3, (500, 1)), _seen(expit(np.tile(right, (500, 1)))))
    assert abs(full.intercept) > 2
    moved = np.mean(found.intercept + found.slope * (right + 3)) - np.mean(right + 3)
    assert -0.9 < moved < 0


def test_a_correction_rises_even_where_hazards_were_turned_around() -> None:
    right = np.random.default_rng(6).normal(-2, 1, (20_000, 1))
    found = fit_calibration(-right, _seen(expit(right)))
    assert found.slope > 0
    with pytest.raises(ValueError, match="rises, got a slope of -1"):
        replace(found, slope=-1.0).check()


def test_nothing_seen_corrects_nothing() -> None:
    said = np.zeros((5, 2))
    nothing = Exposure(
        at_risk=np.zeros((5, 2), dtype=bool),
        event=np.zeros((5, 2), dtype=bool),
        closed_at=np.zeros((5, 2), dtype=np.int64),
        weight=np.ones(5),
    )
    found = fit_calibration(said, nothing)
    assert (found.intercept, found.slope) == (0, 1)


def _bent(many: int, seed: int = 5) -> tuple[np.ndarray, Exposure, np.ndarray]:
    """Return what was said of hazards that no line puts right, what came, and the accounts."""
    random = np.random.default_rng(seed)
    said = random.normal(-1, 1.5, (many, 2))
    right = np.where(said < -1, said, -1 + 0.1 * (said + 1)) - 0.5
    seen = _seen(expit(right), seed)
    ends = np.sort(random.integers(0, 400 * DAY, many))
    seen = replace(seen, closed_at=np.column_stack([ends, ends]))
    return said, seen, np.arange(many)


def test_steps_are_taken_where_no_line_fits() -> None:
    said, seen, account = _bent(20_000)
    found = choose_calibration(said, seen, account)
    assert found.method == "isotonic"
    line = fit_calibration(said, seen)
    right = np.where(said < -1, said, -1 + 0.1 * (said + 1)) - 0.5
    errors = [np.abs(expit(each.apply(said)) - expit(right)).mean() for each in (found, line)]
    assert errors[0] < 0.5 * errors[1]


def test_a_line_is_kept_where_it_fits_and_where_there_are_few_questions() -> None:
    random = np.random.default_rng(3)
    right = random.normal(-2, 1, (20_000, 2))
    seen = replace(_seen(expit(right)), closed_at=np.sort(random.integers(0, 400 * DAY, (20_000, 2)), axis=0))
    assert choose_calibration(0.3 + 1.2 * right, seen, np.arange(20_000)).method == "platt"
    said, seen, account = _bent(900)
    assert choose_calibration(said, seen, account).method == "platt"


def test_steps_rise_everywhere_so_that_nobody_changes_places() -> None:
    said, seen, _ = _bent(3000)
    found = fit_isotonic(said, seen)
    grid = np.linspace(-12, 12, 4001)
    assert (np.diff(found.apply(grid)) > 0).all()
    middles = (grid[:-1] + grid[1:]) / 2
    slopes = np.diff(found.apply(grid)) / np.diff(grid)
    at_corner = np.isclose(slopes, found.rates(middles), rtol=1e-6)
    assert at_corner.mean() > 0.98
    found.check()


def test_a_correction_survives_json_and_one_that_falls_is_refused() -> None:
    said, seen, _ = _bent(3000)
    found = fit_isotonic(said, seen)
    assert Calibration.from_json(json.loads(json.dumps(found.to_json()))) == found
    with pytest.raises(ValueError, match="rises"):
        Calibration(knots=((0.0, 1.0), (1.0, 0.5))).check()
