"""A worse model does not pass, wherever it is worse; noise keeps nobody out."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from features.feature_set import feature_set_for
from models.bundle import ModelBundle
from models.evaluation import Judged
from models.gate import FEWEST_OUTCOMES, GateResult, compare_answers, compare_models
from models.hazard import Floats, expit
from models.lead_scoring import TASK
from models.questions import ask
from tests.models.conftest import NOW, Business

MANY = 4_000
SOURCES = ("web", "fair", "list", "friend")


class Answers:
    """Questions about 1,000 customers, four of each, with known chances."""

    def __init__(self, seed: int = 1) -> None:
        random = np.random.default_rng(seed)
        self.random = random
        self.log_odds = random.normal(-1, 1, MANY)
        self.judged = Judged(
            happened=random.random(MANY) < expit(self.log_odds), entity=np.repeat(np.arange(MANY // 4), 4)
        )
        self.source = random.choice(np.array(SOURCES, dtype=object), MANY)

    def said(self, noise: float, shift: float = 0.0, where: str | None = None) -> Floats:
        """Return the chances, missed by so much, everywhere or at one source."""
        off = self.random.normal(0, noise, MANY) + shift
        return expit(self.log_odds + (off if where is None else np.where(self.source == where, off, 0.0)))

    def compare(self, champion: Floats, challenger: Floats) -> GateResult:
        return compare_answers(champion, challenger, self.judged, {"source": self.source.tolist()})


def test_a_model_that_is_better_passes_and_says_by_how_much() -> None:
    answers = Answers()
    found = answers.compare(answers.said(1.0), answers.said(0.0))
    assert (found.passed, found.reason) == (True, "no worse than the champion")
    assert found.gain is not None
    assert found.gain.low > 0.02
    assert found.to_json()["gain"]["low"] == round(found.gain.low, 6)
    assert {segment.level for segment in found.segments} == set(SOURCES)
    assert sum(segment.questions for segment in found.segments) == MANY


def test_a_model_that_is_worse_does_not_pass() -> None:
    answers = Answers()
    found = answers.compare(answers.said(0.0), answers.said(1.0))
    assert not found.passed
    assert found.reason.startswith("worse than the champion by more than noise")


def test_a_model_that_is_better_in_all_and_worse_in_one_segment_does_not_pass() -> None:
    answers = Answers()
    champion = answers.said(1.2)
    challenger = np.where(answers.source == "fair", answers.said(1.5), answers.said(0.0))
    found = answers.compare(np.where(answers.source == "fair", answers.said(0.0), champion), challenger)
    assert found.gain is not None
    assert found.gain.value > 0
    assert [segment.level for segment in found.segments if segment.worse] == ["fair"]
    assert "worse than the champion where source is fair, by more than noise" in found.reason
    assert not found.passed


def test_a_model_that_ranks_as_well_and_calls_everything_too_high_does_not_pass() -> None:
    answers = Answers()
    said = answers.said(0.0)
    found = answers.compare(said, expit(np.log(said / (1 - said)) + 0.6))
    assert not found.passed
    assert "calibrated worse than the champion, by 0.1" in found.reason
    assert found.calibration is not None
    assert found.calibration.high < 0


@pytest.mark.parametrize("seed", range(12))
def test_a_model_that_is_as_good_passes_whatever_noise_says(seed: int) -> None:
    answers = Answers(seed)
    assert answers.compare(answers.said(0.3), answers.said(0.3)).passed


def test_the_same_model_again_passes_with_a_gain_of_nothing() -> None:
    answers = Answers()
    said = answers.said(0.5)
    found = answers.compare(said, said)
    assert found.passed
    assert found.gain is not None
    assert (found.gain.value, found.gain.low, found.gain.high) == (0.0, 0.0, 0.0)
    assert {segment.p for segment in found.segments} == {1.0}


def test_too_few_outcomes_decide_nothing_and_too_small_segments_are_not_looked_at() -> None:
    answers = Answers()
    few = answers.judged.take(np.flatnonzero(answers.judged.happened)[: FEWEST_OUTCOMES - 1])
    said = np.full(len(few), 0.5)
    found = compare_answers(said, said, few, {})
    assert (found.passed, found.decided) == (False, False)
    assert "only 19 outcomes" in found.reason
    levels = [str(number // 8) for number in range(MANY)]
    assert compare_answers(answers.said(0), answers.said(0), answers.judged, {"x": levels}).segments == ()


def test_an_interval_counts_customers_and_not_questions() -> None:
    answers = Answers()
    copies = 25
    judged = Judged(
        happened=np.tile(answers.judged.happened, copies), entity=np.tile(answers.judged.entity, copies)
    )
    one, other = answers.said(0.3), answers.said(0.3)
    alone = compare_answers(one, other, answers.judged, {"all": ["x"] * MANY})
    repeated = compare_answers(
        np.tile(one, copies), np.tile(other, copies), judged, {"all": ["x"] * MANY * copies}
    )
    assert repeated.segments[0].p == pytest.approx(alone.segments[0].p, abs=1e-6)


def test_a_scorecard_gives_way_to_a_probability_and_never_takes_its_place(
    business: Business, bundle: ModelBundle
) -> None:
    store, features = business.store, feature_set_for(business.store, TASK.name)
    asked = ask(store, TASK, features, TASK.ask_to_judge, start=NOW - timedelta(days=200), until=NOW)
    opinion = replace(bundle, trained={**bundle.trained, "says_probability": False})
    told = [compare_models(store, *pair, asked) for pair in ((bundle, opinion), (opinion, bundle))]
    assert [(one.passed, one.decided) for one in told] == [(True, False), (False, False)]
    assert told[1].reason == "it says no probability, and the champion does"
