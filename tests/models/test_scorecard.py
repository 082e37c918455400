"""Points by opinion: they rank before there is any outcome, claim nothing, and give way to what comes."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import select

from crm_core.clock import micros
from crm_core.errors import NotEnoughDataError, ScorecardError
from crm_core.predictions import Prediction
from crm_core.records import Lead
from crm_core.store import Store
from features.feature_set import FEATURE_SETS, feature_set_for
from models.building import Built, build_bundle, gather
from models.churn import CONTRACTS, ORDERS
from models.encoding import fit_encoder
from models.fitting import Recipe, Rung
from models.hazard import expit
from models.lead_scoring import TASK
from models.questions import ask, first_instant
from models.registry import Registry
from models.scorecard import load_scorecards, scorecard_for, section_of, shipped_scorecards
from models.scoring import score_all
from models.task import Task
from models.training import train
from models.win_probability import TASK as DEALS
from tests.factories import make_activity, make_lead
from tests.models.conftest import NOW, Business

OWN = """
[lead_scoring]
chance = 0.2
points_to_double = 10

[[lead_scoring.points]]
feature = "source"
levels = ["fair"]
points = 20

[[lead_scoring.points]]
feature = "activities_count_30d"
at_least = 1
points = 10

[[lead_scoring.points]]
feature = "employees"
missing = true
points = -5
"""

WRONG = OWN.replace('"fair"', '"list"').replace("chance = 0.2", "chance = 0.6")
"""Sends people after the leads that hardly ever buy."""


def with_scorecard(path: Path, text: str, task: Task = TASK) -> Task:
    path.write_text(text, encoding="utf-8")
    return replace(task, scorecards=load_scorecards(path))


def build(store: Store, task: Task, as_of: datetime, recipe: Recipe | None = None) -> Built:
    features = feature_set_for(store, task.name)
    questions = ask(store, task, features, task.ask, start=first_instant(store, task), until=as_of)
    return build_bundle(gather(questions, store, features, micros(as_of)), recipe=recipe)


@pytest.fixture
def three_leads(store: Store) -> list[int]:
    """A lead from a fair that somebody called, one from a fair, and one from elsewhere; nothing came yet."""
    with store.transaction() as transaction:
        ids = [make_lead(transaction, source=source).id for source in ("fair", "fair", "web")]
        make_activity(transaction, lead_id=ids[0])
    return ids


def test_without_an_outcome_the_scorecard_ranks_and_says_no_probability(
    store: Store, registry: Registry, tmp_path: Path, three_leads: list[int]
) -> None:
    task = with_scorecard(tmp_path / "scorecard.toml", OWN)
    store.clock.advance(timedelta(days=3))  # type: ignore[attr-defined]  # the clock of tests
    report = train(store, task, registry=registry, promote=True)
    bundle = replace(report.bundle, version="lead_scoring-1-00000000")
    assert (bundle.step, bundle.says_probability, bundle.minimum) == ("scorecard", False, 20)
    assert report.to_json()["scorecard"] == "scorecard.toml"
    assert report.promoted
    assert score_all(store, bundle, store.clock.now()) == 3
    with store.reading() as session:
        rows = session.scalars(select(Prediction).order_by(Prediction.record_id)).all()
        shown = session.get(Lead, three_leads[0])
    assert [row.probability for row in rows] == [None, None, None]
    assert [row.score is not None and row.grade is not None for row in rows] == [True, True, True]
    scores = [row.score or 0 for row in rows]
    assert scores[0] > scores[1] > scores[2]
    assert shown is not None
    assert (shown.probability, shown.score) == (None, scores[0])


def test_reasons_of_a_scorecard_are_its_points_and_claim_nothing(
    store: Store, tmp_path: Path, three_leads: list[int]
) -> None:
    task = with_scorecard(tmp_path / "scorecard.toml", OWN)
    bundle = build(store, task, store.clock.now()).bundle
    features = feature_set_for(store, task.name)
    asked = ask(store, task, features, task.ask, start=first_instant(store, task), until=store.clock.now())
    found = bundle.explain(asked.frame)
    place = {name: at for at, name in enumerate(found.features)}
    called, fair, web = (asked.cohort.ids.tolist().index(record) for record in three_leads)
    source = found.parts[:, place["source"]]
    assert source[called] - source[web] == pytest.approx(2 * math.log(2), abs=0.15)
    assert source[called] == pytest.approx(source[fair], abs=0.1)
    said = bundle.predict(asked.frame).log_odds
    np.testing.assert_allclose(found.base + found.parts.sum(axis=1), said, atol=1e-9)


def test_before_any_outcome_the_average_record_has_the_chance_that_people_expect(
    store: Store, tmp_path: Path, three_leads: list[int]
) -> None:
    task = with_scorecard(tmp_path / "scorecard.toml", OWN)
    bundle = build(store, task, store.clock.now()).bundle
    features = feature_set_for(store, task.name)
    asked = ask(store, task, features, task.ask, start=first_instant(store, task), until=store.clock.now())
    assert expit(np.array(bundle.explain(asked.frame).base)) == pytest.approx(0.2, abs=1e-6)


def test_outcomes_update_the_points(business: Business, tmp_path: Path) -> None:
    task = with_scorecard(tmp_path / "scorecard.toml", WRONG)
    recipe = Recipe(rung=Rung.LOGISTIC, penalty=10.0, expert=True)
    few = build(business.store, task, NOW - timedelta(days=330), recipe).bundle
    many = build(business.store, task, NOW, recipe).bundle
    features = feature_set_for(business.store, task.name)
    asked = ask(business.store, task, features, task.ask_to_judge, start=NOW - timedelta(days=90), until=NOW)
    source = asked.frame["source"].to_numpy()
    said = [bundle.predict(asked.frame).log_odds for bundle in (few, many)]
    apart = [float(one[source == "list"].mean() - one[source == "referral"].mean()) for one in said]
    assert apart[1] < apart[0] - 0.5
    assert apart[1] < -1.5


def test_an_opinion_that_is_wrong_is_not_followed_once_outcomes_can_tell(
    business: Business, tmp_path: Path
) -> None:
    task = with_scorecard(tmp_path / "scorecard.toml", WRONG)
    choice = build(business.store, task, NOW - timedelta(days=240)).choice
    assert not choice.recipe.expert
    (step,) = [each for each in choice.steps if each.above is Rung.BASE_RATE]
    assert step.taken
    assert step.gain.value > 0


def test_nothing_to_ask_about_is_not_enough_even_for_an_opinion(store: Store, registry: Registry) -> None:
    with pytest.raises(NotEnoughDataError, match="nothing to ask about"):
        train(store, TASK, registry=registry)


@pytest.mark.parametrize("task", [TASK, DEALS, ORDERS, CONTRACTS], ids=section_of)
def test_every_task_has_a_scorecard_that_reads_what_there_is(task: Task) -> None:
    kinds = {one.name: one.dtype != "category" for one in FEATURE_SETS[task.name].features}
    found = scorecard_for(task, kinds)
    assert found is not None
    assert len(found.points) == len(shipped_scorecards()[section_of(task)].points) >= 5


def test_a_line_of_the_shipped_scorecard_without_its_feature_is_left_out() -> None:
    kinds = {one.name: one.dtype != "category" for one in FEATURE_SETS[TASK.name].features}
    del kinds["source"]
    found = scorecard_for(TASK, kinds)
    assert found is not None
    assert "source" not in {line.feature for line in found.points}


def _line(**changed: str) -> str:
    written = {"feature": '"source"', "levels": '["web"]', "points": "5"} | changed
    lines = "\n".join(f"{key} = {value}" for key, value in written.items() if value)
    return f"[lead_scoring]\nchance = 0.1\n[[lead_scoring.points]]\n{lines}\n"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[lead_scoring", "scorecard.toml: "),
        ("lead_scoring = 3", r"expected a section \[lead_scoring\], got 3"),
        ("[lead_scoring]\nchance = 1.2", "expected chance as a number from 0.0001 to 0.9999, got 1.2"),
        ("[lead_scoring]\n", "expected chance"),
        ("[lead_scoring]\nchance = 0.1\nodds = 3", "unknown odds; expected chance, points, points_to_double"),
        ("[lead_scoring]\nchance = 0.1\npoints = 3", r"expected lines \[\[lead_scoring.points\]\], got 3"),
        (_line(points='"x"'), "line 1: expected points as a number from -1000 to 1000, got 'x'"),
        (_line(points="inf"), "expected points as a number"),
        (_line(levels=""), "expected one of levels, at_least or below, and missing = true"),
        (_line(at_least="3"), "expected one of levels"),
        (_line(levels="", at_least="3", below="2"), "expected at_least less than below, got 3 and 2"),
        (_line(levels="[3]"), "expected levels as a list of texts"),
        (_line(levels="", missing="1"), "expected missing = true or false, got 1"),
        (_line(feature="7"), "expected the name of a feature, got 7"),
        (
            _line(feature='"shoe_size"'),
            "line 1: no feature 'shoe_size'; expected one of activities_count_30d",
        ),
        (_line(feature='"age_days"'), "age_days is a number: give at_least or below"),
        (_line(levels="", below="3"), "source is a word: give levels"),
    ],
)
def test_a_scorecard_that_cannot_be_used_is_refused_by_line(tmp_path: Path, text: str, told: str) -> None:
    kinds = {one.name: one.dtype != "category" for one in FEATURE_SETS[TASK.name].features}
    with pytest.raises(ScorecardError, match=told):
        scorecard_for(with_scorecard(tmp_path / "scorecard.toml", text), kinds)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ScorecardError, match=r"scorecard\.toml"):
        load_scorecards(tmp_path / "scorecard.toml")


def test_what_a_scorecard_reads_gets_columns_although_it_is_rare(business: Business) -> None:
    frame = build_frame_of(business)
    encoder = fit_encoder(
        frame, np.arange(len(frame)), forced={"source": frozenset({"fair", None}), "employees": frozenset()}
    )
    names = {column.name for column in encoder.columns}
    assert {"source=fair", "source~missing", "source=web", "employees"} <= names
    matrix = encoder.encode(frame)
    fair = [column.name for column in encoder.columns].index("source=fair")
    assert not matrix[:, fair].any()


def build_frame_of(business: Business):  # type: ignore[no-untyped-def]  # noqa: ANN201  a DataFrame
    features = feature_set_for(business.store, TASK.name)
    return ask(
        business.store, TASK, features, TASK.ask_to_judge, start=NOW - timedelta(days=60), until=NOW
    ).frame
