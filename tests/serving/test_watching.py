"""The watch over models, as the command line and the page show it."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from html import unescape
from typing import Any

import pytest
from flask import Flask

from crm_core.store import Store
from serving import watching
from serving.home import Home
from serving.settings import Settings
from tests.serving.conftest import Cast, logged_in


def report(**changed: Any) -> dict[str, Any]:
    """Return a report in which calibration is off and one input has moved."""
    nothing = {"value": None, "low": None, "high": None}
    finding: dict[str, Any] = {
        "watch_from": None,
        "act_from": None,
        "why": None,
        "money": None,
        "evidence": {},
    }
    moved = {
        "feature": "source",
        "share": 0.3,
        "index": 0.9,
        "by_chance": 0.1,
        "bins": ["web", "fair", "other"],
        "before": [0.7, 0.2, 0.1],
        "after": [0.1, 0.5, 0.4],
    }
    found: list[dict[str, Any]] = [
        {
            "kind": "inputs",
            "state": "watch",
            "value": nothing | {"value": 0.05},
            "evidence": {"features": [moved]},
        },
        {"kind": "outcomes", "state": "ok", "value": {"value": 1.02, "low": 0.9, "high": 1.1}},
        {
            "kind": "calibration",
            "state": "act",
            "value": {"value": 0.6, "low": 0.5, "high": 0.7},
            "watch_from": 1.1,
            "act_from": 1.25,
            "money": {"EUR": 240_000.0},
        },
        {"kind": "performance", "state": "unknown", "value": None, "why": "0 outcomes"},
    ]
    return {
        "task": "lead_scoring",
        "model_version": "lead_scoring-1",
        "made_as_of": "2026-01-01T00:00:00+00:00",
        "asked_at": "2026-03-01T00:00:00+00:00",
        "state": "act",
        "new_outcomes": 41,
        "taught_outcomes": 400,
        "findings": [finding | one for one in found],
        "reasons_to_train": ["calibration: the event came 0.60 times as often as the model says"],
    } | changed


def keep(home: Home, told: dict[str, Any]) -> None:
    home.models.mkdir(parents=True, exist_ok=True)
    (home.models / f"{told['task']}.watch.json").write_text(json.dumps(told), encoding="utf-8")


@pytest.mark.parametrize(
    ("language", "said"),
    [
        ("en", ["€240,000 too high", "from 70% to 10%", "Train again.", "worth a look"]),
        ("zh", ["€240,000", "70%", "请重新训练", "值得留意"]),
    ],
)
def test_the_page_of_models_says_what_has_moved_and_what_it_comes_to(
    app: Flask, cast: Cast, settings: Settings, promote: Callable[..., Any], language: str, said: list[str]
) -> None:
    promote("lead_scoring")
    keep(settings.home_folder, report())
    page = logged_in(app, cast["Dana"], language).get("/models/lead_scoring").get_data(as_text=True)
    for each in said:
        assert each in page


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("up to 3.5", "≤ 3.5"),
        ("-2 to 1e+04", "-2 – 1e+04"),
        ("above 7", "> 7"),
        ("missing", "未填写"),
        ("other", "其他"),
        ("above all", "above all"),
    ],
)
def test_bins_are_read_in_both_languages(
    app: Flask, cast: Cast, settings: Settings, promote: Callable[..., Any], name: str, shown: str
) -> None:
    promote("lead_scoring")
    told = report()
    (moved,) = told["findings"][0]["evidence"]["features"]
    moved["bins"] = [name, "fair", "web"]
    keep(settings.home_folder, told)
    page = unescape(logged_in(app, cast["Dana"], "zh").get("/models/lead_scoring").get_data(as_text=True))
    assert f"来源，{shown}：占比由 70% 变为 10%" in page


def test_a_report_on_an_earlier_version_is_not_shown(
    app: Flask, cast: Cast, settings: Settings, promote: Callable[..., Any]
) -> None:
    promote("lead_scoring")
    keep(settings.home_folder, report(model_version="lead_scoring-0"))
    page = logged_in(app, cast["Dana"]).get("/models/lead_scoring").get_data(as_text=True)
    assert "240,000" not in page
    assert "Not yet checked" in page


class Recorded:
    """Stands for what takes long: the watching, the training, and the registry."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, reasons: list[str]) -> None:
        self.trained: list[str] = []
        monkeypatch.setattr(watching, "watch_task", lambda *_: report(reasons_to_train=reasons))
        monkeypatch.setattr("serving.training_runs.train_task", self.train)
        monkeypatch.setattr(watching, "open_registry", lambda _home: self)
        self.versions: list[Any] = []

    def train(self, _home: Home, _store: Store, task: str) -> dict[str, Any]:
        self.trained.append(task)
        return {"task": task}

    def list_versions(self, _task: str) -> list[Any]:
        return self.versions


class Newest:
    """A version that was trained, and perhaps came to nothing."""

    def __init__(self, store: Store, *, days_ago: int) -> None:
        self.name, self.run_id = "lead_scoring-2", "another"
        self.created_at = store.clock.now() - timedelta(days=days_ago)


def test_nothing_is_trained_while_nothing_asks_for_it(
    store: Store, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded = Recorded(monkeypatch, [])
    done = watching.train_if_needed(settings.home_folder, store, "lead_scoring")
    assert not done["trained"]
    assert recorded.trained == []


def test_a_model_that_is_off_is_trained_again(
    store: Store, settings: Settings, monkeypatch: pytest.MonkeyPatch, promote: Callable[..., Any]
) -> None:
    promote("lead_scoring")
    recorded = Recorded(monkeypatch, ["calibration: off"])
    done = watching.train_if_needed(settings.home_folder, store, "lead_scoring")
    assert done["trained"]
    assert recorded.trained == ["lead_scoring"]


@pytest.mark.parametrize(("days_ago", "trained"), [(1, False), (8, True)])
def test_a_training_that_came_to_nothing_is_not_repeated_every_night(
    store: Store,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    promote: Callable[..., Any],
    days_ago: int,
    trained: bool,
) -> None:
    promote("lead_scoring")
    recorded = Recorded(monkeypatch, ["calibration: off"])
    recorded.versions = [Newest(store, days_ago=days_ago)]
    done = watching.train_if_needed(settings.home_folder, store, "lead_scoring")
    assert done["trained"] is trained
    assert (done["held_back"] is None) is trained


def test_where_no_model_serves_one_is_trained(
    store: Store, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch_task = watching.watch_task
    recorded = Recorded(monkeypatch, [])
    monkeypatch.setattr(watching, "watch_task", watch_task)
    done = watching.train_if_needed(settings.home_folder, store, "lead_scoring")
    assert done["reasons"] == ["no model serves"]
    assert recorded.trained == ["lead_scoring"]
