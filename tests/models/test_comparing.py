"""Two versions are compared on questions that neither can have learned from, or not at all."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np
import pytest

from crm_core.clock import instant, micros
from features.feature_set import feature_set_for
from models.building import build_bundle, gather
from models.bundle import ModelBundle
from models.comparing import compare_bundles
from models.evaluation import Judged, auc, compare_metric, measure
from models.lead_scoring import TASK
from models.questions import answers, ask, first_instant
from tests.models.conftest import NOW, Business

MADE = NOW - timedelta(days=200)


def build(business: Business, as_of: datetime, number: int) -> ModelBundle:
    store = business.store
    features = feature_set_for(store, TASK.name)
    questions = ask(store, TASK, features, TASK.ask, start=first_instant(store, TASK), until=as_of)
    made = build_bundle(gather(questions, store, features, micros(as_of))).bundle
    return replace(made, version=f"lead_scoring-{number}-{made.sha256[:8]}")


@pytest.fixture(scope="module")
def earlier(business: Business) -> ModelBundle:
    return build(business, MADE - timedelta(days=60), 1)


@pytest.fixture(scope="module")
def later(business: Business) -> ModelBundle:
    return build(business, MADE, 2)


def test_two_versions_are_compared_on_what_was_asked_after_both(
    business: Business, earlier: ModelBundle, later: ModelBundle
) -> None:
    found = compare_bundles(business.store, earlier, later)
    assert found["why"] is None
    compared = found["compared"]
    assert datetime.fromisoformat(compared["first_asked"]) > MADE
    features = feature_set_for(business.store, TASK.name)
    asked = ask(business.store, TASK, features, TASK.ask_to_judge, start=MADE, until=NOW)
    answer = answers(business.store, asked, compared["horizon_days"])
    over = answer.over
    assert (compared["questions"], compared["outcomes"]) == (over.sum(), answer.happened[over].sum())
    for bundle, metrics in zip((earlier, later), compared["metrics"], strict=True):
        said = bundle.predict(asked.frame).within[compared["horizon_days"]][over]
        judged = Judged(happened=answer.happened[over], entity=asked.account[over])
        assert metrics["auc"]["value"] == round(measure(said, judged, resamples=1)["auc"].value, 6)
    gap = compared["difference"]["auc"]
    assert gap["value"] == pytest.approx(
        compared["metrics"][1]["auc"]["value"] - compared["metrics"][0]["auc"]["value"], abs=2e-6
    )
    assert gap["low"] <= gap["value"] <= gap["high"]
    assert found["features"] == {"gained": [], "lost": [], "kept": len(later.features)}


def test_a_version_beside_itself_differs_in_nothing(business: Business, later: ModelBundle) -> None:
    compared = compare_bundles(business.store, later, later)["compared"]
    for estimate in compared["difference"].values():
        assert estimate == {"value": 0.0, "low": 0.0, "high": 0.0}
    assert compared["importances"][0] == compared["importances"][1]


def test_what_was_asked_before_the_newer_one_was_made_is_no_fair_question(
    business: Business, later: ModelBundle, bundle: ModelBundle
) -> None:
    assert instant(bundle.trained["as_of"]) == NOW
    found = compare_bundles(business.store, later, bundle)
    assert found["compared"] is None
    assert found["why"] == {"kind": "too_few", "questions": 0, "outcomes": 0, "needed": 20}


def test_the_interval_of_a_difference_is_paired() -> None:
    random = np.random.default_rng(5)
    said = random.random(800)
    judged = Judged(happened=random.random(800) < said, entity=np.arange(800))
    near = compare_metric(auc, said + random.normal(0, 0.001, 800), said, judged)
    alone = measure(said, judged)["auc"]
    assert near.high - near.low < (alone.high - alone.low) / 10
