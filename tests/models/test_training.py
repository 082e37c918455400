"""Training on a business whose chances are known."""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import text

from crm_core.changes import Source
from crm_core.clock import micros
from crm_core.errors import LeakageError, NotEnoughDataError
from crm_core.fields import FieldKind, Known, declare_field
from crm_core.records import Lead
from crm_core.store import Store
from features.feature_set import feature_set_for
from models.building import FEWEST_FOLLOWED, build_bundle, gather
from models.lead_scoring import TASK, ask_new_leads
from models.questions import ask, first_instant
from models.registry import Registry
from models.report import TrainingReport
from models.training import train
from tests.models.conftest import (
    CHANCES,
    NOW,
    PLAIN,
    Business,
    choose_nothing,
    open_registry,
    start_business,
)

Registered = tuple[Registry, TrainingReport]

AS_OF = NOW - timedelta(days=150)


@pytest.fixture(scope="module")
def registered(
    tmp_path_factory: pytest.TempPathFactory, tracking_template: Path, business: Business
) -> Registered:
    """A model as of 150 days ago, with the report of its training."""
    registry = open_registry(tmp_path_factory.mktemp("home"), tracking_template)
    return registry, train(business.store, TASK, as_of=AS_OF, registry=registry)


def _bundle_as_of(store: Store, as_of: datetime) -> bytes:
    features = feature_set_for(store, TASK.name)
    questions = ask(store, TASK, features, TASK.ask, start=first_instant(store, TASK), until=as_of)
    return build_bundle(gather(questions, store, features, micros(as_of))).bundle.to_bytes()


def test_probabilities_mean_what_they_say(registered: Registered, business: Business) -> None:
    _, report = registered
    features = feature_set_for(business.store, TASK.name)
    asked = ask(business.store, TASK, features, ask_new_leads, start=AS_OF, until=NOW)
    said = report.bundle.predict(asked.frame).probability
    source = asked.frame["source"].to_numpy()
    for name, chance in CHANCES.items():
        assert said[source == name].mean() == pytest.approx(chance, abs=0.07)


def test_the_judged_questions_were_asked_later_and_are_over(
    registered: Registered,
) -> None:
    _, report = registered
    judged = report.to_json()["judged"]
    assert judged["model_as_of"] == AS_OF.isoformat()
    assert judged["first_asked"] > AS_OF.isoformat()
    assert judged["last_asked"] <= (NOW - timedelta(days=90)).isoformat()
    assert [horizon["horizon_days"] for horizon in judged["horizons"]] == [30, 60, 90]


def test_the_model_is_put_beside_its_baselines_and_beats_the_base_rate(
    registered: Registered,
) -> None:
    _, report = registered
    main = report.judged.main
    assert set(main.metrics) == {"model", "base_rate", "source_rate", "naive_bayes"}
    assert main.metrics["model"]["log_loss"].value < main.metrics["base_rate"]["log_loss"].value - 0.02
    assert main.metrics["model"]["auc"].low > 0.65


def test_the_report_says_what_was_tried_and_which_won(registered: Registered) -> None:
    _, report = registered
    told = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert told["estimator"] == "logistic"
    assert {tried["estimator"] for tried in told["selection"]["tried"]} >= {"base_rate", "logistic"}
    (step,) = [each for each in told["selection"]["steps"] if each["above"] == "logistic"]
    assert step["taken"]
    assert told["training"]["outcomes"] > 100
    assert told["not_judged"] is None


def test_the_run_is_in_mlflow_with_its_files(registered: Registered) -> None:
    registry, report = registered
    (version,) = registry.list_versions("lead_scoring")
    assert version.name == report.registered["version"]
    assert version.sha256 == report.bundle.sha256
    assert registry.fetch(version.run_id) == report.bundle.to_bytes()
    assert registry.metrics_of(version)["auc_90d"] == pytest.approx(
        report.judged.main.metrics["model"]["auc"].value
    )
    assert json.loads(registry.read_file(version.run_id, "report.json"))["estimator"] == "logistic"
    for chart in ("calibration.svg", "lift.svg", "importances.svg", "drift.svg"):
        assert b"<text" in registry.read_file(version.run_id, chart)
    assert {"data_sha256", "code_sha256", "feature_set"} <= set(version.tags)


def test_two_trainings_of_one_snapshot_are_the_same_bytes(registered: Registered, business: Business) -> None:
    _, report = registered
    assert _bundle_as_of(business.store, AS_OF) == report.bundle.to_bytes()


def test_what_was_learned_later_changes_nothing(registered: Registered, copied: Store) -> None:
    """All that was recorded after the cut-off is made absurd; the model must be the same to the byte."""
    _, report = registered
    after = micros(AS_OF)
    later = "SELECT record_id FROM changes WHERE field = 'status' AND recorded_at > :t"
    poison = (
        "UPDATE leads SET source = 'poison', region = NULL, status = 'converted' WHERE recorded_at > :t",
        f"UPDATE leads SET status = 'disqualified' WHERE recorded_at <= :t AND id IN ({later})",
        "UPDATE changes SET new = '\"disqualified\"' WHERE recorded_at > :t AND field = 'status'",
    )
    with copied.engine.begin() as connection:
        assert [connection.execute(text(one), {"t": after}).rowcount > 5 for one in poison] == [True] * 3
    assert _bundle_as_of(copied, AS_OF) == report.bundle.to_bytes()


def test_a_conversion_known_at_the_cut_off_does_count(registered: Registered, copied: Store) -> None:
    _, report = registered
    with copied.engine.begin() as connection:
        known = connection.execute(
            text("SELECT id FROM changes WHERE field = 'status' AND recorded_at <= :t LIMIT 40"),
            {"t": micros(AS_OF)},
        )
        ids = [row.id for row in known]
        connection.execute(text(f"DELETE FROM changes WHERE id IN ({', '.join(map(str, ids))})"))
    assert _bundle_as_of(copied, AS_OF) != report.bundle.to_bytes()


def test_too_few_outcomes_are_counted_and_leave_a_scorecard(store: Store, registry: Registry) -> None:
    start_business(store, leads=60)
    told = train(store, TASK, registry=registry).to_json()
    assert (told["estimator"], told["says_probability"]) == ("scorecard", False)
    assert told["judged"] is None
    chosen = told["selection"]
    assert re.match(
        r"lead_scoring: \d+ leads are known to be converted .* at least 20 of each", chosen["reason"]
    )
    assert chosen["next_step"]["estimator"] == "base_rate"
    assert chosen["next_step"]["more_outcomes"] == 20 - told["training"]["outcomes"]
    assert len(registry.list_versions("lead_scoring")) == 1


def test_an_empty_store_has_not_enough_data(store: Store, registry: Registry) -> None:
    with pytest.raises(NotEnoughDataError, match="0 leads are known"):
        train(store, TASK, registry=registry)


def test_a_column_that_only_winners_have_stops_the_training_by_name(
    store: Store, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    choose_nothing(monkeypatch)
    with store.transaction(source=Source.IMPORT) as transaction:
        declare_field(
            transaction.session,
            record_type="lead",
            name="custom.segment",
            known=Known.CREATION,
            kind=FieldKind.TEXT,
        )
        declare_field(
            transaction.session,
            record_type="lead",
            name="custom.shirt",
            known=Known.CREATION,
            kind=FieldKind.TEXT,
        )
    start_business(
        store,
        leads=700,
        segment=lambda random, won: str(random.choice(["pets", "tools"])) if won else None,
        shirt=lambda random, won: str(random.choice(["red", "blue"])),
    )
    with pytest.raises(LeakageError, match=r"lead\.custom\.segment") as raised:
        train(store, TASK, registry=registry)
    assert "shirt" not in str(raised.value)
    assert registry.list_versions("lead_scoring") == []

    suspected = str(raised.value).split("outcome: ")[1].split(" ")[0]
    report = train(store, TASK, registry=registry, overruled=[suspected])
    assert report.to_json()["guard"]["overruled"] == [suspected]
    assert registry.list_versions("lead_scoring")[0].tags["overruled"] == suspected


def test_now_a_model_of_some_months_ago_is_judged_and_one_of_today_registered(
    business: Business, home: Path, tracking_template: Path
) -> None:
    registry = open_registry(home, tracking_template)
    report = train(business.store, TASK, registry=registry)
    told = report.to_json()
    assert told["as_of"] == NOW.isoformat()
    assert told["judged"]["model_as_of"] < (NOW - timedelta(days=150)).isoformat()
    assert told["judged"]["first_asked"] > told["judged"]["model_as_of"]
    assert told["training"]["outcomes"] > 250


def test_the_first_model_is_promoted_and_the_next_only_if_something_tells_them_apart(
    copied: Store, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    choose_nothing(monkeypatch)
    first = train(copied, TASK, as_of=AS_OF, registry=registry, promote=True)
    assert (first.promoted, first.gate.reason) == (True, "first model of the task")
    kept = registry.models_folder / f"{first.bundle.sha256}.json"
    assert kept.read_bytes() == first.bundle.to_bytes()

    again = train(copied, TASK, as_of=AS_OF, registry=registry, promote=True)
    assert again.promoted
    assert again.gate.reason == "no worse than the champion"
    assert again.gate.gain is not None
    assert again.gate.gain.value == 0

    # As of now, all answers to be judged by were known to the champion of now already.
    newest = train(copied, TASK, registry=registry, promote=True)
    assert newest.promoted, newest.gate
    refused = train(copied, TASK, registry=registry, promote=True)
    assert not refused.promoted
    assert "0 outcomes that neither model knew" in refused.gate.reason


def test_a_deleted_lead_teaches_only_until_it_was_deleted(copied: Store, registered: Registered) -> None:
    _, report = registered
    with copied.transaction() as transaction:
        for lead_id in range(1, 20):
            transaction.delete(transaction.get(Lead, lead_id))
    assert _bundle_as_of(copied, AS_OF) == report.bundle.to_bytes()


def _horizons_as_of(store: Store, days: int) -> tuple[int, tuple[int, ...], dict[int, int]]:
    """Return what is shown, what is reported and what is not by a model made so many days after the first."""
    features = feature_set_for(store, TASK.name)
    until = NOW - timedelta(days=400 - days)
    questions = ask(store, TASK, features, TASK.ask, start=first_instant(store, TASK), until=until)
    made = build_bundle(gather(questions, store, features, micros(until)), recipe=PLAIN).bundle
    assert set(made.horizons_days) | set(made.not_reported) == {30, 60, 90, 180}
    return made.horizon_days, made.horizons_days, made.not_reported


def test_a_horizon_that_nobody_was_followed_to_is_not_reported(business: Business) -> None:
    shown, reported, missing = _horizons_as_of(business.store, 260)
    assert (shown, reported, missing) == (90, (30, 60, 90, 180), {})
    shown, reported, missing = _horizons_as_of(business.store, 150)
    assert (shown, reported, missing) == (90, (30, 60, 90), {180: 0})


def test_with_a_short_history_the_longest_horizon_known_is_shown(business: Business) -> None:
    shown, reported, missing = _horizons_as_of(business.store, 88)
    assert (shown, reported) == (60, (30, 60))
    assert missing[180] == 0
    assert missing[90] < FEWEST_FOLLOWED


def test_with_too_few_followed_to_the_first_horizon_nothing_is_trained(
    business: Business, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.building.FEWEST_FOLLOWED", 10_000)
    with pytest.raises(NotEnoughDataError, match="followed for 30 days; at least 10000 are needed"):
        _horizons_as_of(business.store, 150)
