"""What is usual among the questions of a training, and reasons told beside it."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from sqlalchemy import select

from crm_core.predictions import Prediction
from crm_core.store import Store
from features.feature_set import FEATURE_SETS
from models.bundle import ModelBundle, load_bundle
from models.encoding import fit_encoder
from models.explain import _strongest, explain_rows
from models.scoring import score_all
from models.usual import Usual, find_usual
from tests.models.conftest import NOW, Business
from tests.models.test_scoring import _open_ids


def deals(many: int = 400) -> pd.DataFrame:
    """Deals in two stages; in the later one meetings are twice as many, and a tenth have no amount."""
    random = np.random.default_rng(4)
    late = random.random(many) < 0.5
    amount = np.exp(random.normal(9, 1.5, many))
    amount[::10] = np.nan
    return pd.DataFrame(
        {
            "stage": pd.Series(np.where(late, "negotiation", "needs"), dtype=object),
            "meetings_count": random.poisson(np.where(late, 6.0, 3.0)).astype(float),
            "amount": amount,
        }
    )


def usual_of(frame: pd.DataFrame, record_type: str = "deal") -> Usual:
    ids = np.arange(len(frame)) // 2
    return find_usual(frame, fit_encoder(frame, ids), ids, np.ones(len(frame)), record_type)


def test_usual_is_the_mean_and_of_a_long_tail_the_mean_of_the_logarithm() -> None:
    frame = deals()
    usual = usual_of(frame)
    assert usual.middle["meetings_count"] == pytest.approx(frame["meetings_count"].mean(), rel=1e-5)
    assert usual.middle["amount"] == pytest.approx(np.expm1(np.log1p(frame["amount"]).mean()), rel=1e-5)
    assert set(usual.middle) == {"meetings_count", "amount"}


def test_what_often_misses_is_told_alone() -> None:
    frame = deals()
    frame.loc[::3, "amount"] = np.nan
    usual = usual_of(frame)
    assert set(usual.middle) == {"meetings_count"}
    assert "amount" in usual.reach[""]


def test_the_reach_of_a_stage_is_that_of_its_own_deals() -> None:
    frame = deals()
    usual = usual_of(frame)
    early = frame["stage"] == "needs"
    low, high = usual.reach["needs"]["meetings_count"]
    assert (low, high) == tuple(np.quantile(frame["meetings_count"][early], (0.01, 0.99)))
    assert high < usual.reach["negotiation"]["meetings_count"][1]
    assert usual.records["needs"] == len(np.unique(np.flatnonzero(early) // 2))


@pytest.mark.parametrize(
    ("age", "situation"), [(0.0, "0"), (6.9, "0"), (7.0, "1"), (29.0, "1"), (30.0, "2"), (400.0, "3")]
)
def test_leads_of_an_age_are_in_a_situation_of_their_own(age: float, situation: str) -> None:
    frame = pd.DataFrame({"age_days": np.linspace(0, 300, 300), "calls_count_7d": np.arange(300.0) % 4})
    usual = usual_of(frame, "lead")
    assert usual.situation({"age_days": age}) == situation
    assert set(usual.reach) == {"", "0", "1", "2", "3"}


def test_customers_are_all_in_one_situation() -> None:
    usual = usual_of(deals(), "account")
    assert usual.situation({"stage": "needs"}) == ""
    assert set(usual.reach) == {""}


def test_many_rows_are_looked_at_in_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.usual.MOST_ROWS", 100)
    frame = deals()
    usual = usual_of(frame)
    assert usual.middle["meetings_count"] == pytest.approx(frame["meetings_count"][::4].mean(), rel=1e-5)


def test_it_is_part_of_the_file(bundle: ModelBundle) -> None:
    assert bundle.usual.middle
    again = load_bundle(bundle.to_bytes(), bundle.sha256)
    assert again.usual == bundle.usual


def test_a_reason_is_told_by_what_goes_the_way_of_all_together() -> None:
    assert _strongest([0.9, -0.6, -0.5], -0.2) == 1
    assert _strongest([0.9, -0.6, 0.1], 0.4) == 0
    assert _strongest([-0.1, -0.7], -0.8) == 1


def test_reasons_as_they_are_stored_still_add_up(copied: Store, bundle: ModelBundle) -> None:
    score_all(copied, bundle, NOW)
    with copied.reading() as session:
        stored = session.scalars(select(Prediction)).all()
    assert len(stored) == len(_open_ids(copied))
    for prediction in stored:
        assert prediction.probability is not None
        assert prediction.reasons is not None
        total = math.fsum(reason["log_odds"] for reason in prediction.reasons)
        shown = math.log(prediction.probability / (1 - prediction.probability))
        assert total == pytest.approx(shown, abs=1e-9)


def test_the_sign_of_a_reason_is_that_of_the_feature_which_tells_it(
    business: Business, bundle: ModelBundle
) -> None:
    from features.cohort import Cohort
    from features.frame import build_frame

    feature_set = FEATURE_SETS["lead_scoring"].select(bundle.features)
    cohort = Cohort.at("lead", _open_ids(business.store), NOW)
    frame = build_frame(business.store, cohort, feature_set)
    explanation = bundle.explain(frame)
    place = {name: position for position, name in enumerate(explanation.features)}
    for row, reasons in enumerate(explain_rows(bundle, feature_set, frame)):
        for why in reasons:
            if why["feature"] in place:
                assert why["log_odds"] * explanation.parts[row, place[why["feature"]]] > 0
