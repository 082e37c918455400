"""The correction of hazards."""

from __future__ import annotations

import numpy as np
import pytest

from models.calibration import fit_calibration
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
