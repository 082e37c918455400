"""`crm watch` at the command line: what it prints, and the exit code that a scheduler goes by."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from crm_core.errors import NoChampionError
from crm_core.promotions import Promotion
from serving import watching
from serving.cli import main
from serving.home import Home
from serving.reports import read_watch
from tests.features.worlds import fill_store
from tests.models.test_lineage import WORLD, make_model
from tests.serving.test_corruption import named
from tests.serving.test_watching import report

TASK = "lead_scoring"


def run(home: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["watch", *arguments, "--home", str(home)])


@pytest.fixture
def folder(tmp_path: Path, empty_database: Path) -> Path:
    """A home with records, and no model that serves."""
    home = Home.at(tmp_path / "home")
    home.create()
    home.database.write_bytes(empty_database.read_bytes())
    return tmp_path / "home"


def find(monkeypatch: pytest.MonkeyPatch, **states: str) -> None:
    """Let the watch find a state for each task named; no model serves the others."""

    def watch_task(_home: Home, _store: object, task: str) -> dict[str, Any]:
        if task not in states:
            raise NoChampionError(task)
        return report(task=task, state=states[task])

    monkeypatch.setattr(watching, "watch_task", watch_task)


def test_a_model_that_asks_to_be_trained_ends_with_3_and_says_why(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find(monkeypatch, lead_scoring="act")
    shown = run(folder, TASK)
    assert shown.exit_code == 3
    assert "lead_scoring: act; lead_scoring-1 as of 2026-01-01" in shown.stdout
    assert "crm train lead_scoring" in shown.stdout
    assert "41 outcomes since; it learned from 400" in shown.stdout


@pytest.mark.parametrize("state", ["ok", "watch", "unknown"])
def test_anything_less_ends_with_0(folder: Path, monkeypatch: pytest.MonkeyPatch, state: str) -> None:
    find(monkeypatch, lead_scoring=state)
    assert run(folder, TASK).exit_code == 0


def test_as_json_a_task_is_its_report_and_nothing_else_is_printed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find(monkeypatch, lead_scoring="act")
    shown = run(folder, TASK, "--json")
    assert shown.exit_code == 3
    assert json.loads(shown.stdout) == json.loads(json.dumps(report()))


def test_of_all_tasks_one_that_acts_decides_and_those_without_a_model_are_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find(monkeypatch, lead_scoring="ok", churn="act")
    shown = run(folder, "--json")
    assert shown.exit_code == 3
    told = json.loads(shown.stdout)["reports"]
    assert [(one["task"], one["state"]) for one in told] == [("lead_scoring", "ok"), ("churn", "act")]
    assert "win_probability left out" in shown.stderr


@pytest.mark.parametrize("arguments", [(), (TASK,), (TASK, "--json")])
def test_where_no_model_serves_it_is_refused_with_1(folder: Path, arguments: tuple[str, ...]) -> None:
    shown = run(folder, *arguments)
    assert shown.exit_code == 1
    assert shown.stdout == ""
    assert "crm train" in shown.stderr


def test_a_task_that_does_not_exist_is_wrong_usage(folder: Path) -> None:
    assert run(folder, "fortune_telling").exit_code == 2


def test_a_real_model_is_watched_and_the_report_kept_for_the_page(folder: Path) -> None:
    home = Home.at(folder)
    store = fill_store(WORLD, home.database_url)
    good = make_model(store, TASK)
    data = good.to_bytes()
    home.models.mkdir(parents=True, exist_ok=True)
    (home.models / f"{good.sha256}.json").write_bytes(data)
    with store.transaction() as transaction:
        transaction.session.add(
            Promotion(
                task=TASK,
                model_version=named(data),
                sha256=good.sha256,
                run_id="nowhere",
                promoted_at=transaction.now,
                reason="a test",
            )
        )
    store.close()
    shown = run(folder, TASK, "--json")
    assert shown.exit_code in (0, 3), shown.stderr
    told = json.loads(shown.stdout)
    assert shown.exit_code == (3 if told["state"] == "act" else 0)
    assert told["model_version"] == named(data)
    assert {finding["kind"] for finding in told["findings"]} == set(watching.WHAT)
    assert read_watch(home, TASK) == told
