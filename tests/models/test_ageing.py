"""A hazard by the age that records reach: old ones are not called as likely as new ones."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from crm_core.clock import micros
from features.cohort import mondays, open_records_at
from features.feature_set import feature_set_for
from models.ages import judge_ages
from models.building import build_bundle, gather
from models.bundle import ModelBundle, load_bundle
from models.estimators import Ageing, Estimator, Steps
from models.fitting import Recipe, Rung
from models.lead_scoring import TASK
from models.logistic import LIKELY_STEP, spreads_of_steps
from models.questions import Questions, answers, ask, first_instant, questions_of
from tests.models.conftest import NOW, Business

STEPS = Steps(column=0, limits_days=(7.0, 60.0), ends_days=(7, 30, 90))
MADE = NOW - timedelta(days=150)


def test_what_counts_is_the_age_reached_in_an_interval() -> None:
    reached = STEPS.reached(STEPS.age(np.array([[0.0], [20.0], [np.nan]])))
    assert reached[0].tolist() == [[0.0, 0.0], [1.0, 0.0], [1.0, 0.5]]
    assert reached[1, :, 1] == pytest.approx([0.0, 0.0, 50 / 60])
    assert (reached[2] == reached[0]).all()


def test_the_average_row_has_no_effect_of_age() -> None:
    rows = np.array([[0.0], [10.0], [100.0]])
    ageing = Ageing(steps=STEPS, weight=np.array([-1.0, 2.0]), mean=STEPS.reached(rows[:, 0]).mean(axis=0))
    added = ageing.on_hazards(rows)
    assert added.mean(axis=0) == pytest.approx(0.0, abs=1e-12)
    assert np.ptp(added) > 1
    assert (added[1] == ageing.on_hazards(rows[1:2])[0]).all()


def test_a_step_at_which_everything_ends_is_believed_and_the_others_are_not_for_its_sake() -> None:
    reached = np.zeros((3, 1, 2))
    reached[1:, 0, 0], reached[2, 0, 1] = 1, 1
    at_risk = np.full((3, 1), 1000.0)
    spreads = spreads_of_steps(reached, at_risk, np.array([[300.0], [300.0], [0.0]]))
    assert spreads[0] < LIKELY_STEP < spreads[1]


@pytest.fixture(scope="module")
def earlier(business: Business) -> ModelBundle:
    """A logistic model of the business as of some months ago."""
    store = business.store
    features = feature_set_for(store, TASK.name)
    asked = ask(store, TASK, features, TASK.ask, start=first_instant(store, TASK), until=MADE)
    recipe = Recipe(rung=Rung.LOGISTIC, penalty=10.0)
    return build_bundle(gather(asked, store, features, micros(MADE)), recipe=recipe).bundle


@pytest.fixture(scope="module")
def open_later(business: Business) -> Questions:
    """All leads open on the Mondays since."""
    store = business.store
    days = mondays(micros(MADE), micros(NOW))
    features = feature_set_for(store, TASK.name)
    return questions_of(store, TASK, features, open_records_at(store, "lead", days))


def test_of_old_leads_hardly_any_are_said_where_none_come(
    business: Business, earlier: ModelBundle, open_later: Questions
) -> None:
    answer = answers(business.store, open_later, 90)
    said = earlier.predict(open_later.frame).probability
    old = answer.over & (open_later.frame["age_days"].to_numpy() >= 60)
    assert old.sum() > 3000
    assert answer.happened[old].sum() == 0
    assert said[old].mean() < 0.02
    young = answer.over & (open_later.frame["age_days"].to_numpy() < 30)
    assert 0.8 < answer.happened[young].sum() / said[young].sum() < 1.2


def test_reasons_add_up_with_what_age_adds_in_them(earlier: ModelBundle, open_later: Questions) -> None:
    frame = open_later.frame.iloc[::50].reset_index(drop=True)
    found = earlier.explain(frame)
    assert found.base + found.parts.sum(axis=1) == pytest.approx(found.log_odds, abs=1e-9)
    age = found.parts[:, found.features.index("age_days")]
    old = frame["age_days"].to_numpy() >= 60
    assert age[old].max() < -1 < age[~old].max()


def test_a_model_read_from_its_file_ages_its_records_to_the_bit(
    earlier: ModelBundle, open_later: Questions
) -> None:
    again = load_bundle(earlier.to_bytes(), earlier.sha256)
    rows = open_later.frame.iloc[::50].reset_index(drop=True)
    assert (again.predict(rows).log_odds == earlier.predict(rows).log_odds).all()


def test_reports_judge_open_leads_of_all_ages(business: Business, earlier: ModelBundle) -> None:
    """So that what is said of old ones cannot hide behind what is said of new ones."""
    found = judge_ages(business.store, TASK, earlier, after=micros(MADE), until=micros(NOW))
    assert [(band.from_days, band.to_days) for band in found] == [
        (0, 7), (7, 30), (30, 60), (60, 90), (90, 180), (180, None)
    ]  # fmt: skip
    for band in found:
        assert abs(band.said - band.came) < 2 * band.give_or_take + 0.02 * band.questions
    assert sum(band.came for band in found[3:]) == 0
    assert min(band.records for band in found) > 20


def test_old_leads_called_as_likely_as_new_ones_are_seen_in_the_report(
    business: Business, earlier: ModelBundle
) -> None:
    linear = earlier.estimator.linear
    assert linear is not None
    blind = replace(earlier, estimator=Estimator(linear=replace(linear, ageing=None)))
    found = judge_ages(business.store, TASK, blind, after=micros(MADE), until=micros(NOW))
    old = [band for band in found if band.from_days >= 60]
    assert all(band.said > band.came + 3 * band.give_or_take for band in old)


def test_records_that_do_not_age_are_not_judged_by_age(business: Business, earlier: ModelBundle) -> None:
    never = replace(TASK, ages=None)
    assert judge_ages(business.store, never, earlier, after=micros(MADE), until=micros(NOW)) == ()
    nothing = judge_ages(business.store, TASK, earlier, after=micros(NOW), until=micros(NOW))
    assert nothing == ()
