"""Deals and contracts of a simulated company, next to the true probabilities."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from math import fsum, log
from pathlib import Path

import pytest
from sqlalchemy import select

from crm_core.clock import FixedClock, micros
from crm_core.predictions import Prediction
from crm_core.records import Account, Team
from crm_core.store import Store
from features.feature_set import feature_set_for
from models.building import columns_of, gather
from models.encoding import fit_encoder
from models.questions import ask
from models.report import TrainingReport
from models.scoring import score_all, score_records
from models.simulation import Truth, simulate_company
from models.tasks import TASKS, get_task
from models.training import train
from tests.models.conftest import NOW, choose_nothing, open_registry

AS_OF = {"win_probability": NOW - timedelta(days=270), "churn": NOW - timedelta(days=300)}


@dataclass(frozen=True, kw_only=True)
class Company:
    """A small simulated company."""

    store: Store
    truth: Truth


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Iterator[Company]:
    """The company, to be scored once."""
    path = tmp_path_factory.mktemp("company") / "crm.db"
    shutil.copy(empty_database, path)
    store = Store(f"sqlite:///{path}", clock=FixedClock(NOW))
    yield Company(store=store, truth=simulate_company(store, size="small", seed=1))
    store.close()


@pytest.fixture(scope="module", params=AS_OF)
def trained(
    request: pytest.FixtureRequest,
    company: Company,
    tmp_path_factory: pytest.TempPathFactory,
    tracking_template: Path,
) -> TrainingReport:
    """A model of deals, by one recipe, as choosing takes long, and one of contracts, by the best recipe."""
    registry = open_registry(tmp_path_factory.mktemp("home"), tracking_template)
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "win_probability":
            choose_nothing(patch)
        return train(
            company.store,
            get_task(request.param),
            as_of=AS_OF[request.param],
            registry=registry,
            truth=company.truth,
        )


def test_honest_features_of_a_company_are_no_leak(trained: TrainingReport) -> None:
    assert trained.suspicions == ()


def test_the_model_beats_the_base_rate_and_the_truth_beats_the_model(trained: TrainingReport) -> None:
    metrics = trained.judged.main.metrics
    assert metrics["model"]["log_loss"].value < metrics["base_rate"]["log_loss"].value
    assert metrics["truth"]["log_loss"].value < metrics["model"]["log_loss"].value
    assert 0.6 < metrics["model"]["auc"].value < metrics["truth"]["auc"].value + 0.02


def test_the_mean_probability_is_near_what_came(trained: TrainingReport) -> None:
    found = trained.judged.main.metrics["model"]
    assert found["mean_probability"].value == pytest.approx(found["base_rate"].value, rel=0.35)


def test_the_truth_is_reported_at_every_horizon(trained: TrainingReport) -> None:
    for horizon in trained.judged.horizons:
        assert 0.95 * horizon.questions <= horizon.answered["truth"] <= horizon.questions


def test_accounts_seen_in_training_are_told_from_new_ones(trained: TrainingReport) -> None:
    for horizon in trained.judged.horizons:
        assert 0 <= horizon.unseen_questions < horizon.questions


def test_a_company_with_contracts_loses_customers_by_contract(company: Company) -> None:
    assert get_task("churn").in_store(company.store).variant == "contracts"


def test_open_records_are_scored_with_reasons_that_add_up(company: Company, trained: TrainingReport) -> None:
    bundle = replace(trained.bundle, version=f"{trained.task.name}-1-00000000")
    assert score_all(company.store, bundle, NOW) > 10
    with company.store.reading() as session:
        rows = session.scalars(select(Prediction).where(Prediction.model_version == bundle.version)).all()
    for row in rows:
        assert row.probability is not None
        total = fsum(reason["log_odds"] for reason in row.reasons or [])
        assert total == pytest.approx(log(row.probability / (1 - row.probability)), abs=1e-9)


def test_customers_who_are_gone_are_not_asked_about(company: Company, trained: TrainingReport) -> None:
    if trained.task.name != "churn":
        return
    with company.store.reading() as session:
        everybody = list(session.scalars(select(Account.id).where(Account.recorded_at <= NOW)))
    scored = score_records(company.store, trained.bundle, everybody, NOW)
    assert 0 < len(scored) < len(everybody)


def test_the_teams_of_a_company_are_segments_that_borrow_strength(company: Company) -> None:
    task, store = get_task("win_probability"), company.store
    features = feature_set_for(store, task.name).select(["owner_team", "age_days"])
    questions = ask(store, task, features, task.ask, start=NOW - timedelta(days=120), until=NOW)
    encoder = fit_encoder(questions.frame, questions.cohort.ids, segments=task.segments)
    (teams,) = columns_of(encoder, gather(questions, store, features, micros(NOW))).segments
    with store.reading() as session:
        names = set(session.scalars(select(Team.name)))
    levels = {encoder.columns[at].level for at in teams.tolist()}
    assert len(levels) > 1
    assert levels <= names


def test_every_task_is_there_by_name() -> None:
    assert set(TASKS) == {"lead_scoring", "win_probability", "churn"}
    assert all(get_task(name).name == name for name in TASKS)
