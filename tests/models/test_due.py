"""What is decided on a known day: it weighs in the interval that the day falls into, and nowhere else."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from crm_core.clock import DAY
from models.bundle import Calibration, ModelBundle, load_bundle
from models.encoding import ColumnKind, fit_encoder
from models.estimators import Due
from models.fitting import Columns, Fitted, Lesson, Recipe, Rung, fit_recipe
from models.hazard import Bools, Exposure, Floats, expit, fading_of, log_loss_of

ENDS = (30, 60, 90)
BY_THE_DAY = Due(column=0, ends_days=ENDS)


def _contracts(many: int = 4000, seed: int = 1) -> tuple[pd.DataFrame, Exposure, Floats]:
    """Contracts that end within a year; the less content a customer, the rarer a renewal."""
    random = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {"days_to_contract_end": random.uniform(0, 365, many), "tickets_count": random.normal(0, 1, many)}
    )
    falls = BY_THE_DAY.falls(frame.to_numpy())
    hazards = falls * expit(-1.0 + 1.5 * frame["tickets_count"].to_numpy())[:, None] + 0.002
    happens = random.random(hazards.shape) < hazards
    at_risk: Bools = np.cumsum(happens, axis=1) - happens == 0
    exposure = Exposure(
        at_risk=at_risk,
        event=happens & at_risk,
        closed_at=np.tile(np.array(ENDS, dtype=np.int64) * DAY, (many, 1)),
        weight=np.ones(many),
    )
    return frame, exposure, hazards


def _fit(due: Due | None, recipe: Recipe) -> Fitted:
    frame, exposure, _ = _contracts()
    columns = Columns(is_number=np.ones(2, dtype=bool), is_seasonal=np.zeros(2, dtype=bool), due=due)
    lesson = Lesson(
        matrix=frame.to_numpy(), exposure=exposure, columns=columns, fading=fading_of(ENDS), until=90 * DAY
    )
    return fit_recipe(recipe, lesson)


LOGISTIC = Recipe(rung=Rung.LOGISTIC, penalty=1.0)


def test_a_day_falls_into_one_interval_half_open_on_the_left() -> None:
    days = np.array([[0.0], [0.5], [30.0], [30.5], [90.0], [91.0], [np.nan]])
    assert BY_THE_DAY.falls(days).tolist() == [
        [0, 0, 0],
        [1, 0, 0],
        [1, 0, 0],
        [0, 1, 0],
        [0, 0, 1],
        [0, 0, 0],
        [0, 0, 0],
    ]


def test_hazards_are_high_where_the_day_falls_and_follow_what_matters_there() -> None:
    fitted = _fit(BY_THE_DAY, LOGISTIC)
    content, annoyed = fitted.log_odds(np.array([[45.0, -1.0], [45.0, 1.0]]))
    assert expit(content)[1] == pytest.approx(expit(np.array(-2.5)), abs=0.03)
    assert expit(annoyed)[1] == pytest.approx(expit(np.array(0.5)), abs=0.06)
    assert expit(annoyed)[[0, 2]].max() < 0.02


def test_new_questions_are_answered_nearly_as_well_as_by_the_truth_and_much_better_than_without() -> None:
    frame, exposure, hazards = _contracts(seed=2)
    truth = log_loss_of(np.log(hazards / (1 - hazards)), exposure).mean()
    with_day = log_loss_of(_fit(BY_THE_DAY, LOGISTIC).log_odds(frame.to_numpy()), exposure).mean()
    without = log_loss_of(_fit(None, LOGISTIC).log_odds(frame.to_numpy()), exposure).mean()
    assert with_day < 1.02 * truth
    assert without > 1.2 * truth


@pytest.mark.parametrize("recipe", [LOGISTIC, Recipe(rung=Rung.ADDITIVE_TREES, penalty=1.0, rounds=10)])
def test_contributions_add_up_and_the_model_survives_its_file(recipe: Recipe) -> None:
    frame, _, _ = _contracts(many=200, seed=3)
    fitted = _fit(BY_THE_DAY, recipe)
    encoder = fit_encoder(frame, np.arange(len(frame)))
    assert [column.kind for column in encoder.columns] == [ColumnKind.NUMBER] * 2
    bundle = ModelBundle(
        task="churn",
        variant="contracts",
        record_type="account",
        horizon_days=90,
        horizons_days=ENDS,
        intervals_days=ENDS,
        high_is_good=False,
        feature_set_fingerprint="f" * 64,
        features=tuple(frame.columns),
        encoder=encoder,
        estimator=fitted.estimator,
        levels=fitted.levels,
        fading=fitted.fading,
        calibration=Calibration(intercept=0.1, slope=0.9),
        percentiles=np.linspace(0.0, 0.6, 101),
        grade_from=(90, 70, 40),
        trained={"as_of": 90 * DAY, "says_probability": True, "questions": 200, "outcomes": 20},
    )
    found = bundle.explain(frame)
    said = bundle.predict(frame)
    np.testing.assert_allclose(found.base + found.parts.sum(axis=1), said.log_odds, atol=1e-9)
    by_day = found.parts[:, found.features.index("days_to_contract_end")]
    soon = frame["days_to_contract_end"].to_numpy() <= 90
    assert by_day[soon].min() > by_day[~soon].max()
    again = load_bundle(bundle.to_bytes(), bundle.sha256).predict(frame)
    assert (again.probability == said.probability).all()
