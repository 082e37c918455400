"""Metrics against scikit-learn, and intervals that cover."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn import metrics as peer
from sklearn.linear_model import LogisticRegression

from models.evaluation import (
    Judged,
    area_under_curve,
    calibration_bins,
    compare_losses,
    estimate_of,
    found_by_working_down,
    loss_of,
    measure,
    rank_correlation,
    resampled_sums,
)


def _answers(many: int = 2000, seed: int = 1) -> tuple[np.ndarray, Judged]:
    random = np.random.default_rng(seed)
    truth = random.beta(1.2, 5, many)
    said = np.clip(np.round(truth + random.normal(0, 0.05, many), 2), 0.01, 0.99)
    happened = random.random(many) < truth
    return said, Judged(happened=happened, entity=random.integers(0, many // 3, many))


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("auc", peer.roc_auc_score),
        ("average_precision", peer.average_precision_score),
        ("log_loss", peer.log_loss),
        ("brier", peer.brier_score_loss),
    ],
)
def test_a_metric_is_that_of_scikit_learn(name: str, reference: Callable[..., float]) -> None:
    said, judged = _answers()
    assert measure(said, judged)[name].value == pytest.approx(reference(judged.happened, said), abs=1e-12)


@pytest.mark.parametrize("extreme", [1.0, -1.0, 3.0])
def test_slope_and_intercept_are_those_of_a_logistic_regression(extreme: float) -> None:
    said, judged = _answers()
    said = 1 / (1 + ((1 - said) / said) ** extreme)
    log_odds = np.log(said / (1 - said))[:, None]
    fitted = LogisticRegression(C=1e12, tol=1e-12, max_iter=1000).fit(log_odds, judged.happened)
    found = measure(said, judged)
    assert found["calibration_slope"].value == pytest.approx(fitted.coef_[0, 0], abs=1e-4)
    assert found["calibration_intercept"].value == pytest.approx(fitted.intercept_[0], abs=1e-4)


def test_who_says_the_same_of_all_has_no_slope() -> None:
    _, judged = _answers(300)
    found = measure(np.full(300, 0.2), judged)["calibration_slope"]
    assert found.to_json() == {"value": None, "low": None, "high": None}


def test_an_auc_by_hand() -> None:
    # Pairs (yes, no): (0.9, 0.5) right, (0.9, 0.1) right, (0.5, 0.5) half, (0.5, 0.1) right: 3.5 of 4.
    happened = np.array([True, True, False, False])
    assert area_under_curve(np.array([0.9, 0.5, 0.5, 0.1]), happened) == pytest.approx(3.5 / 4)


def test_lift_by_hand() -> None:
    said = np.array([0.9] + [0.1] * 9)
    judged = Judged(happened=np.array([True] * 2 + [False] * 8), entity=np.arange(10))
    assert measure(said, judged)["lift_top_decile"].value == pytest.approx(5.0)


def test_calibration_error_by_hand() -> None:
    said = np.array([0.2] * 50 + [0.6] * 50)
    judged = Judged(
        happened=np.array([True] * 20 + [False] * 30 + [True] * 25 + [False] * 25), entity=np.arange(100)
    )
    # Ties share a bin: 0.4 came of 0.2 said, 0.5 of 0.6.
    assert measure(said, judged)["calibration_error"].value == pytest.approx((0.2 + 0.1) / 2)
    assert [(one.count, one.happened) for one in calibration_bins(said, judged)] == [(50, 0.4), (50, 0.5)]


def test_the_order_of_rows_does_not_matter_to_a_constant() -> None:
    happened = np.arange(100) < 20
    found = measure(np.full(100, 0.2), Judged(happened=happened, entity=np.arange(100)))
    assert found["calibration_error"].value == pytest.approx(0)
    assert found["brier_resolution"].value == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("digits", [1, 2, 9])
def test_the_parts_of_the_brier_score_add_up(digits: int) -> None:
    said, judged = _answers()
    found = measure(np.round(said + 0.01 * np.sin(np.arange(len(said))), digits).clip(0, 1), judged)
    parts = (found[f"brier_{part}"].value for part in ("reliability", "resolution", "uncertainty"))
    reliability, resolution, uncertainty = parts
    assert reliability - resolution + uncertainty == pytest.approx(found["brier"].value, abs=1e-12)
    assert uncertainty == pytest.approx(found["base_rate"].value * (1 - found["base_rate"].value))
    assert min(reliability, resolution) > 0


def test_the_parts_of_the_brier_score_by_hand() -> None:
    # Said 0.2 of which half came, and 0.6 of which all came; 0.75 came of all.
    found = measure(
        np.array([0.2, 0.2, 0.6, 0.6]),
        Judged(happened=np.array([True, False, True, True]), entity=np.arange(4)),
    )
    assert found["brier_reliability"].value == pytest.approx((0.3**2 + 0.4**2) / 2)
    assert found["brier_resolution"].value == pytest.approx(0.25**2)
    assert found["brier_uncertainty"].value == pytest.approx(0.75 * 0.25)


def test_sums_are_drawn_as_weights_are() -> None:
    said, judged = _answers(300)
    loss = loss_of(said, judged.happened)
    drawn = resampled_sums(np.stack([loss, np.ones(300)], axis=1), judged.entity)
    ours, theirs = estimate_of(drawn[:, 0] / drawn[:, 1]), measure(said, judged)["log_loss"]
    assert (ours.value, ours.low, ours.high) == pytest.approx((theirs.value, theirs.low, theirs.high))


def test_one_answer_only_has_no_auc_and_raises_nothing() -> None:
    found = measure(np.array([0.2, 0.3]), Judged(happened=np.array([False, False]), entity=np.array([1, 2])))
    assert np.isnan(found["auc"].value)
    assert found["auc"].to_json() == {"value": None, "low": None, "high": None}


def test_nothing_judged_is_not_a_number_throughout() -> None:
    nothing = Judged(happened=np.array([], dtype=bool), entity=np.array([], dtype=np.int64))
    assert all(np.isnan(found.value) for found in measure(np.array([]), nothing).values())


def test_intervals_resample_entities_and_so_are_wider_when_one_entity_answers_often() -> None:
    said, judged = _answers(400)
    alone = measure(said, Judged(happened=judged.happened, entity=np.arange(400)))["log_loss"]
    again = Judged(happened=np.repeat(judged.happened, 9), entity=np.repeat(np.arange(400), 9))
    together = measure(np.repeat(said, 9), again)["log_loss"]
    assert together.value == pytest.approx(alone.value)
    assert together.high - together.low == pytest.approx(alone.high - alone.low, rel=0.35)


def test_rank_correlation_with_ties_is_that_of_another_library() -> None:
    random = np.random.default_rng(3)
    first = random.integers(0, 6, 50).astype(np.float64)
    second = first + random.integers(0, 9, 50)
    assert rank_correlation(first, second) == pytest.approx(spearmanr(first, second).statistic)
    assert rank_correlation(first, np.ones(50)) is None


def test_an_interval_covers_the_truth_as_often_as_it_says() -> None:
    random = np.random.default_rng(8)
    covered = []
    for _ in range(120):
        truth = random.beta(2, 6, 300)
        happened = random.random(300) < truth
        found = measure(truth, Judged(happened=happened, entity=np.arange(300)))["base_rate"]
        covered.append(found.low <= 0.25 <= found.high)
    assert 0.88 <= np.mean(covered) <= 1.0


def test_a_better_model_is_better_beyond_noise_and_itself_is_not() -> None:
    random = np.random.default_rng(9)
    truth = random.beta(1, 4, 3000)
    happened = random.random(3000) < truth
    entity = np.arange(3000)
    constant, right = loss_of(np.full(3000, 0.2), happened), loss_of(truth, happened)
    assert compare_losses(constant, right, entity).low > 0
    same = compare_losses(right, right, entity)
    assert (same.value, same.low, same.high) == (0, 0, 0)


def test_working_down_a_perfect_list_finds_all_events_at_once() -> None:
    happened = np.array([True] * 10 + [False] * 90)
    found = found_by_working_down(happened.astype(float), Judged(happened=happened, entity=np.arange(100)))
    assert found[0] == 0
    assert found[2] == pytest.approx(1.0)
    assert found[-1] == 1
