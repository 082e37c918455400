"""The shrunken logistic hazard against scikit-learn on the same rows, one a question and interval."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from crm_core.clock import DAY
from models.hazard import Exposure, expit, fading_of
from models.logistic import Block, Scale, fit_levels, fit_scale, fit_weights

ENDS = (7, 30, 90)


def _world(many: int = 3000, seed: int = 1) -> tuple[np.ndarray, Exposure]:
    random = np.random.default_rng(seed)
    matrix = random.normal(size=(many, 4))
    hazards = expit(np.array([-2.0, -1.5, -1.0]) + (matrix @ [0.8, -0.5, 0.0, 0.3])[:, None])
    happens = random.random((many, 3)) < hazards
    before: np.ndarray = np.cumsum(happens, axis=1) - happens
    at_risk: np.ndarray = before == 0
    exposure = Exposure(
        at_risk=at_risk,
        event=happens & at_risk,
        closed_at=np.tile(np.array(ENDS, dtype=np.int64) * DAY, (many, 1)),
        weight=random.uniform(0.2, 1.0, many),
    )
    return matrix, exposure


def test_weights_are_those_of_scikit_learn() -> None:
    matrix, exposure = _world()
    levels, (weights,) = fit_weights([Block(rows=matrix, load=np.ones(3))], exposure, penalty=5.0)
    question, interval = np.nonzero(exposure.at_risk)
    # A level is one column of 100s, which leaves it hardly shrunk.
    rows = np.hstack([np.eye(3)[interval] * 100, matrix[question]])
    peer = LogisticRegression(C=1 / 5.0, fit_intercept=False, max_iter=5000, tol=1e-10)
    peer.fit(rows, exposure.event[question, interval], sample_weight=exposure.weight[question])
    np.testing.assert_allclose(weights, peer.coef_[0, 3:], atol=2e-4)
    np.testing.assert_allclose(levels, peer.coef_[0, :3] * 100, atol=2e-2)


def test_what_is_news_and_what_lasts_are_told_apart() -> None:
    random = np.random.default_rng(4)
    matrix = random.normal(size=(20_000, 2))
    fading = fading_of(ENDS)
    hazards = expit(-1.5 + matrix[:, :1] * 0.7 + matrix[:, 1:] * 1.2 * fading)
    exposure = Exposure(
        at_risk=np.ones((20_000, 3), dtype=bool),
        event=random.random((20_000, 3)) < hazards,
        closed_at=np.zeros((20_000, 3), dtype=np.int64),
        weight=np.ones(20_000),
    )
    blocks = [Block(rows=matrix, load=np.ones(3)), Block(rows=matrix, load=fading)]
    _, (lasting, early) = fit_weights(blocks, exposure, penalty=1.0)
    np.testing.assert_allclose(lasting, [0.7, 0.0], atol=0.06)
    np.testing.assert_allclose(early, [0.0, 1.2], atol=0.09)


def test_levels_without_weights_are_the_shares() -> None:
    _, exposure = _world()
    weight = exposure.weight[:, None]
    shares = (exposure.event * weight).sum(axis=0) / (exposure.at_risk * weight).sum(axis=0)
    np.testing.assert_allclose(expit(fit_levels(exposure)), shares, atol=1e-3)


def test_an_interval_without_events_stays_near_the_common_level() -> None:
    _, exposure = _world()
    nothing = Exposure(
        at_risk=exposure.at_risk & [True, True, False],
        event=exposure.event & [True, True, False],
        closed_at=exposure.closed_at,
        weight=exposure.weight,
    )
    levels = fit_levels(nothing)
    assert np.isfinite(levels).all()
    assert levels[:2].min() <= levels[2] <= levels[:2].max()


def test_more_penalty_means_smaller_weights() -> None:
    matrix, exposure = _world()
    sizes = [
        np.abs(fit_weights([Block(rows=matrix, load=np.ones(3))], exposure, penalty=penalty)[1][0]).sum()
        for penalty in (1.0, 10.0, 100.0, 1000.0)
    ]
    assert sizes == sorted(sizes, reverse=True)


def test_scaled_columns_have_mean_zero_and_missing_numbers_say_so() -> None:
    random = np.random.default_rng(6)
    matrix = np.column_stack(
        [random.exponential(50, 400) ** 2, random.normal(3, 2, 400), random.integers(0, 2, 400)]
    )
    matrix[:40, 1] = np.nan
    weight = random.uniform(0.5, 1.5, 400)
    scale = fit_scale(matrix, weight, is_number=np.array([True, True, False]))
    scaled = scale.apply(matrix)
    assert scaled.shape == (400, 4)
    np.testing.assert_allclose(weight @ scaled, 0, atol=1e-9)
    assert scale.logarithmic.tolist() == [True, False, False]
    assert (scaled[:40, 1] == 0).all()
    assert (scaled[:40, 3] > 0).all()


def test_a_number_beyond_all_seen_counts_as_the_farthest_seen() -> None:
    matrix = np.linspace(0, 10, 50)[:, None]
    scale = fit_scale(matrix, np.ones(50), is_number=np.array([True]))
    assert scale.apply(np.array([[1e9]]))[0, 0] == pytest.approx(scale.apply(np.array([[10.0]]))[0, 0])


def test_a_scale_survives_json() -> None:
    matrix = np.array([[1.0, np.nan], [2.0, 5.0], [4.0, 1.0]])
    scale = fit_scale(matrix, np.ones(3), is_number=np.array([True, True]))
    again = Scale.from_json(scale.to_json())
    np.testing.assert_array_equal(again.apply(matrix), scale.apply(matrix))
