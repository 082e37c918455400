"""The figures asked for on a real funnel: only what was known then is known, and what came later judges."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import text

from crm_core.clock import FixedClock
from crm_core.errors import LeakageError
from crm_core.importing import ImportReport, load_mapping, run_import
from crm_core.store import Store
from models.registry import Registry
from models.report import TrainingReport
from models.tasks import get_task
from models.training import train
from tests.models.conftest import copy_store, open_registry

LATER = FixedClock(datetime(2019, 1, 1, tzinfo=UTC))
APRIL = datetime(2018, 4, 1, tzinfo=UTC)
END_OF_MAY = datetime(2018, 5, 31, tzinfo=UTC)


def _import(real_data: Path, empty: Path, folder: Path, *, without: str) -> Store:
    shutil.copy(empty, folder / "crm.db")
    store = Store(f"sqlite:///{folder / 'crm.db'}", clock=LATER)
    mapping = load_mapping("olist")
    steps = tuple(step for step in mapping.steps if step.name != without)
    run_import(store, replace(mapping, steps=steps), real_data / "olist")
    return store


@pytest.fixture(scope="module")
def leads(real_data: Path, empty_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """Leads and conversions, without orders, which leads do not need and which take long."""
    store = _import(real_data, empty_database, tmp_path_factory.mktemp("leads"), without="orders")
    yield store
    store.close()


@pytest.fixture(scope="module")
def lead_report(
    leads: Store, tmp_path_factory: pytest.TempPathFactory, tracking_template: Path
) -> TrainingReport:
    registry = open_registry(tmp_path_factory.mktemp("home"), tracking_template)
    return train(leads, get_task("lead_scoring"), as_of=APRIL, registry=registry)


def test_leads_of_april_and_may_are_judged_as_asked(lead_report: TrainingReport) -> None:
    main = lead_report.judged.main
    assert (main.questions, main.outcomes) == (2_655, 280)
    model = main.metrics["model"]
    assert model["auc"].value >= 0.69
    assert model["auc"].low < model["auc"].value < model["auc"].high
    assert model["log_loss"].value <= 0.32
    assert model["mean_probability"].value == pytest.approx(model["base_rate"].value, rel=0.25)
    assert model["base_rate"].value == pytest.approx(0.105, abs=0.001)
    assert 0.8 < model["calibration_slope"].value < 1.3


def test_leads_beat_every_baseline(lead_report: TrainingReport) -> None:
    metrics = lead_report.judged.main.metrics
    for name in ("base_rate", "source_rate", "naive_bayes"):
        assert metrics["model"]["log_loss"].value < metrics[name]["log_loss"].value
        assert metrics["model"]["auc"].value > metrics[name]["auc"].value


def test_the_report_says_which_estimator_won_and_that_recent_history_weighs_more(
    lead_report: TrainingReport,
) -> None:
    told = json.loads(json.dumps(lead_report.to_json(), allow_nan=False))
    assert told["estimator"] in {"logistic", "additive_trees", "full_trees"}
    assert told["selection"]["chosen"]["level_days"] <= 120
    assert told["judged"]["first_asked"] >= "2018-04-01"
    assert told["judged"]["last_asked"] < "2018-06-01"
    assert told["guard"]["suspicions"] == []


@pytest.mark.parametrize("column", ["business_segment", "lead_behaviour_profile", "declared_monthly_revenue"])
def test_a_column_of_closed_deals_declared_as_known_at_creation_is_refused_by_name(
    leads: Store, tmp_path: Path, registry: Registry, column: str
) -> None:
    """What a mapping does that says `known = "creation"`: the value stands there from the beginning."""
    store = copy_store(leads, tmp_path / "planted.db")
    store.clock = LATER
    field = {"field": f"custom.{column}"}
    with store.engine.begin() as connection:
        declared = connection.execute(text("UPDATE fields SET known = 'creation' WHERE name = :field"), field)
        connection.execute(text("DELETE FROM changes WHERE field = :field"), field)
    assert declared.rowcount == 1
    with pytest.raises(LeakageError, match=rf"lead\.custom\.{column}") as raised:
        train(store, get_task("lead_scoring"), as_of=APRIL, registry=registry)
    assert "landing_page" not in str(raised.value)
    assert registry.list_versions("lead_scoring") == []
    store.close()


def test_sellers_who_stop_selling(
    olist_imported: tuple[Path, ImportReport],
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    tracking_template: Path,
) -> None:
    store = Store(f"sqlite:///{shutil.copy(olist_imported[0], tmp_path / 'crm.db')}", clock=LATER)
    registry = open_registry(tmp_path_factory.mktemp("home"), tracking_template)
    report = train(store, get_task("churn").of_variant("orders"), as_of=END_OF_MAY, registry=registry)
    store.close()
    told = report.to_json()
    assert (told["variant"], told["horizon_days"]) == ("orders", 60)
    assert told["judged"]["first_asked"].startswith("2018-05-31")
    assert told["judged"]["last_asked"].startswith("2018-06-30")
    metrics = report.judged.main.metrics
    assert metrics["model"]["auc"].value >= 0.819
    assert metrics["model"]["auc"].value > metrics["recency"]["auc"].value + 0.02
    assert metrics["model"]["log_loss"].value < metrics["recency"]["log_loss"].value
    assert metrics["model"]["mean_probability"].value == pytest.approx(0.286, abs=0.03)
    assert 0.8 < metrics["model"]["calibration_slope"].value < 1.2
    assert told["guard"]["suspicions"] == []
