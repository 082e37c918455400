"""The ladder with few outcomes is never worse than the base rate by more than noise."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest

from models.evaluation import Estimate
from models.lead_scoring import TASK
from models.trials import CutTrial, Ground, cover_drawn, say_one_signal_thrice, told_of_cuts, try_outcomes
from tests.models.conftest import NOW, Business


@pytest.fixture(scope="module")
def ground(business: Business) -> Ground:
    """What the small business may learn from as of 120 days ago."""
    return Ground.of(business.store, TASK, NOW - timedelta(days=120))


def _outcomes(ground: Ground, rows: np.ndarray) -> int:
    return len(np.unique(ground.material.questions.cohort.ids[rows & ground.seen.happened]))


def test_so_many_outcomes_are_left_as_were_asked_for(ground: Ground) -> None:
    for outcomes in (0, 1, 20, 60):
        rows = ground.cut_to(outcomes, seed=1)
        assert rows is not None
        assert rows.any()
        assert _outcomes(ground, rows) == outcomes
    assert ground.cut_to(100_000, seed=1) is None


@pytest.mark.parametrize("seed", [1, 2])
def test_the_ladder_is_never_worse_than_the_base_rate_by_more_than_noise(ground: Ground, seed: int) -> None:
    trials = try_outcomes(ground, (0, 19, 20, 60), seed=seed)
    assert [trial.outcomes for trial in trials] == [0, 19, 20, 60]
    assert [trial.says_probability for trial in trials] == [False, False, True, True]
    assert [trial.step for trial in trials[:2]] == ["scorecard", "scorecard"]
    assert not any(trial.worse_than_noise for trial in trials)
    assert trials[-1].gain is not None
    assert trials[-1].gain.value > -0.005


def test_a_row_of_the_table_counts_how_often_it_was_worse() -> None:
    gains = [Estimate(value=-0.02, low=-0.03, high=-0.01), Estimate(value=0.04, low=0.01, high=0.07)]
    trials = [
        CutTrial(
            outcomes=20,
            step="base_rate",
            says_probability=True,
            auc=0.5,
            loss=0.3 - gain.value,
            base_loss=0.3,
            gain=gain,
        )
        for gain in gains
    ]
    assert told_of_cuts(trials) == (
        "| 20 | base rate | 0.500 | 0.2900 | 0.3000 | +0.0100 ± 0.0588 | 1 of 2 |"
    )
    silent = CutTrial(outcomes=0, step="scorecard", says_probability=False, auc=0.61)
    assert "not enough data" in told_of_cuts([silent])


def test_intervals_of_called_probabilities_cover_the_truth_as_often_as_they_say() -> None:
    random = np.random.default_rng(4)
    true = random.beta(1, 6, 800)
    said = np.clip(true * 1.3, 0, 1)
    found = cover_drawn(said, true, np.arange(800), draws=60)
    assert found.bins > 150
    assert 0.925 <= found.share <= 0.99


def test_one_signal_given_three_times_fools_a_naive_bayes_and_not_us() -> None:
    found = say_one_signal_thrice()
    assert found.came == pytest.approx(0.5, abs=0.02)
    assert found.naive_bayes == pytest.approx(0.84, abs=0.02)
    assert found.logistic == pytest.approx(found.came, abs=0.01)
