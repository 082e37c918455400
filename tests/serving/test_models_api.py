"""Models over HTTP: what serves, cards, promoting and rolling back; not for those who sell."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from crm_core.clock import micros
from crm_core.errors import DamagedModelError
from crm_core.promotions import Promotion
from crm_core.store import Store
from models.bundle import ModelBundle
from models.registry import Run
from serving.app import create_app
from serving.champions import Champions, Scorer
from serving.home import Home
from serving.modelling import open_registry, scorer_loader
from serving.reports import save_report
from serving.settings import Settings
from tests.features.worlds import fill_store
from tests.models.conftest import NOW, tracking_template
from tests.models.test_lineage import WORLD, make_model
from tests.serving.conftest import Cast, make_cast
from tests.serving.hand_made import HandMadeModel
from tests.serving.killed_decision import BODY, MOMENTS

__all__ = ["tracking_template"]

ROOT = Path(__file__).resolve().parents[2]
TASK = "lead_scoring"
AUC = {"auc": {"value": 0.74, "low": 0.69, "high": 0.79}}
REPORT = {
    "task": TASK,
    "outcome": "converted",
    "horizon_days": 90,
    "as_of": "2026-02-01T00:00:00+00:00",
    "estimator": "logistic",
    "says_probability": True,
    "training": {"questions": 1200, "outcomes": 300, "without_outcome": 900, "features": 30},
    "judged": {
        "horizons": [
            {
                "horizon_days": 90,
                "questions": 400,
                "outcomes": 90,
                "metrics": {"model": AUC, "source rate": AUC},
                "bins": [{"said": 0.1, "came": 0.12}],
                "parts": [],
            }
        ],
        "importances": [{"group": "source", "mean_abs_log_odds": 0.4}],
    },
    "gate": {"passed": True, "reason": "first model of the task"},
}


class Office:
    """A home with two models of leads in its registry."""

    def __init__(self, home: Home, store: Store, cast: Cast, models: list[ModelBundle]) -> None:
        self.cast = cast
        self.home = home
        registry = open_registry(home)
        self.versions = []
        for model in models:
            report = json.dumps(REPORT | {"sha256": model.sha256}).encode()
            run = Run(
                task=TASK,
                name="a run",
                parameters={},
                metrics={},
                tags={},
                files={"report.json": report},
                fixed_at=micros(NOW),
            )
            self.versions.append(registry.log_training(run, model).name)
        champions = Champions(store, scorer_loader(home, store), look_seconds=0)
        self.client = create_app(Settings(home=home.folder), store, champions).test_client()

    def get(self, path: str, who: str = "Dana") -> Any:
        return self.client.get(f"/api/v1/models{path}", headers=self.cast.header(who))

    def post(self, path: str, body: dict[str, Any], who: str = "Dana", key: str | None = None) -> Any:
        headers = self.cast.header(who) | ({"Idempotency-Key": key} if key else {})
        return self.client.post(f"/api/v1/models{path}", json=body, headers=headers)


@pytest.fixture(scope="module")
def office(
    tmp_path_factory: pytest.TempPathFactory,
    empty_database: Path,
    tracking_template: Path,
    password_hash: str,
) -> Iterator[Office]:
    home = Home.at(tmp_path_factory.mktemp("models_api") / "home")
    home.create()
    home.database.write_bytes(empty_database.read_bytes())
    (home.folder / "mlflow.db").write_bytes(tracking_template.read_bytes())
    store = fill_store(WORLD, home.database_url)
    model = make_model(store, TASK)
    other = replace(model, trained={**model.trained, "note": "another one"})
    yield Office(home, store, make_cast(store, password_hash), [model, other])
    store.close()


def test_a_model_is_promoted_refused_overruled_and_rolled_back(office: Office) -> None:
    first, second = office.versions
    tasks = office.get("").get_json()["items"]
    assert [task["task"] for task in tasks] == ["lead_scoring", "win_probability", "churn"]
    assert [task["serving"] for task in tasks] == [None, None, None]
    done = office.post(f"/{TASK}/promote", {"version": first, "reason": "the first"})
    assert done.status_code == 200, done.get_json()
    assert (done.get_json()["serving"], done.get_json()["trouble"]) == (first, None)
    refused = office.post(f"/{TASK}/promote", {"version": second, "reason": "newer"})
    assert (refused.status_code, refused.get_json()["type"]) == (409, "urn:crm:problem:gate-not-passed")
    body = {"version": second, "reason": "I know better", "overrule": True}
    done = office.post(f"/{TASK}/promote", body, key="once")
    assert done.get_json()["gate"]["overruled"] is True
    again = office.post(f"/{TASK}/promote", body, key="once")
    assert (again.get_json(), again.headers["Idempotency-Replayed"]) == (done.get_json(), "true")
    state = office.get("").get_json()["items"][0]
    assert (state["serving"], state["promoted"], state["trouble"]) == (second, second, None)
    listed = office.get(f"/{TASK}/versions").get_json()["items"]
    assert [(each["version"], each["state"]) for each in listed] == [(second, "champion"), (first, "served")]
    back = office.post(f"/{TASK}/rollback", {"reason": "worse"})
    assert (back.status_code, back.get_json()["serving"]) == (200, first)
    further = office.post(f"/{TASK}/rollback", {"reason": "worse still"})
    assert (further.status_code, further.get_json()["type"]) == (404, "urn:crm:problem:model-not-found")
    card = office.get(f"/{TASK}/versions/{second}").get_json()
    assert [(served["reason"], served["by"]) for served in card["served"]] == [
        ("I know better", "dana@example.com")
    ]
    assert card["metrics"][0]["figures"]["model"] == AUC


@pytest.mark.parametrize(("moment", "replayed"), [*zip(MOMENTS, (None, "true"), strict=True)], ids=[*MOMENTS])
def test_a_rollback_that_was_cut_short_is_done_once_when_sent_again(
    office: Office, moment: str, replayed: str | None
) -> None:
    """Without its key, it would go back one further: what served before the first has nothing before it."""
    first, second = office.versions
    if office.get("").get_json()["items"][0]["serving"] is None:
        office.post(f"/{TASK}/promote", {"version": first, "reason": "the first"})
    office.post(f"/{TASK}/promote", {"version": second, "reason": "newer", "overrule": True})
    before = office.get(f"/{TASK}/history").get_json()["served"]
    key, mine = f"cut-short-{len(before)}", office.cast.keys["Dana"]
    command = [
        sys.executable,
        "-m",
        "tests.serving.killed_decision",
        str(office.home.folder),
        mine,
        key,
        moment,
    ]
    ended = subprocess.run(command, cwd=ROOT, timeout=120, check=False)
    assert ended.returncode == -signal.SIGKILL
    again = office.post(f"/{TASK}/rollback", BODY, key=key)
    assert (again.status_code, again.headers.get("Idempotency-Replayed")) == (200, replayed)
    assert (again.get_json()["version"], again.get_json()["gate"]) == (first, None)
    served = office.get(f"/{TASK}/history").get_json()["served"]
    assert [each["version"] for each in served] == [first, *(each["version"] for each in before)]
    assert office.get("").get_json()["items"][0]["serving"] == first


@pytest.mark.parametrize("who", ["Ana", "Mara"])
def test_models_are_not_for_those_who_sell(office: Office, who: str) -> None:
    version = office.versions[0]
    for path in ("", f"/{TASK}/versions", f"/{TASK}/versions/{version}"):
        assert office.get(path, who).status_code == 403
    assert office.post(f"/{TASK}/promote", {"version": version, "reason": "mine"}, who).status_code == 403
    assert office.post(f"/{TASK}/rollback", {"reason": "mine"}, who).status_code == 403


def test_what_is_no_version_of_the_task_is_not_found(office: Office) -> None:
    version = office.versions[0]
    for name in ("lead_scoring-99-00000000", "nonsense", version.replace("lead_scoring", "churn")):
        assert office.get(f"/{TASK}/versions/{name}").status_code == 404, name
        assert office.post(f"/{TASK}/promote", {"version": name, "reason": "x"}).status_code == 404, name
    assert office.get(f"/churn/versions/{version}").status_code == 404
    assert office.get("/nonsense/versions").status_code == 422


# ------------------------------------------------------------------------- without MLflow, on small stores


def test_a_card_tells_what_was_learned_from_and_the_metrics_beside_the_baselines(
    client: FlaskClient, cast: Cast, settings: Settings
) -> None:
    save_report(settings.home_folder, "lead_scoring-4-0a1b2c3d", REPORT)
    path = "/api/v1/models/lead_scoring/versions/lead_scoring-4-0a1b2c3d"
    card = client.get(path, headers=cast.header("Dana")).get_json()
    assert (card["state"], card["served"]) == ("trained", [])
    assert card["learned_from"]["outcomes"] == 300
    (figures,) = card["metrics"]
    assert set(figures["figures"]) == {"model", "source rate"}
    assert figures["calibration_table"] == [{"said": 0.1, "came": 0.12}]
    assert card["gate"]["passed"] is True


def test_versions_come_in_pages_newest_first(client: FlaskClient, cast: Cast, settings: Settings) -> None:
    for number in range(1, 13):
        save_report(settings.home_folder, f"lead_scoring-{number}-0a1b2c3d", REPORT)
    path, found, cursor = "/api/v1/models/lead_scoring/versions?limit=5", [], ""
    for _ in range(3):
        page = client.get(path + cursor, headers=cast.header("Dana")).get_json()
        found += [each["number"] for each in page["items"]]
        cursor = f"&cursor={page['next_cursor']}"
    assert found == list(range(12, 0, -1))
    assert page["next_cursor"] is None


def test_a_model_that_cannot_be_loaded_is_told_while_the_one_before_serves(
    store: Store,
    settings: Settings,
    cast: Cast,
    models: dict[str, HandMadeModel],
    promote: Callable[..., HandMadeModel],
) -> None:
    def load(_task: str, promotion: Promotion) -> Scorer:
        if promotion.model_version == "lead_scoring-2":
            raise DamagedModelError("not its bytes")
        return models[promotion.model_version]

    client = create_app(settings, store, Champions(store, load, look_seconds=0)).test_client()
    promote()
    client.get("/api/v1/models", headers=cast.header("Dana"))
    promote(version="lead_scoring-2")
    state = client.get("/api/v1/models", headers=cast.header("Dana")).get_json()["items"][0]
    assert (state["serving"], state["promoted"]) == ("lead_scoring-1", "lead_scoring-2")
    assert state["trouble"]["error"] == "DamagedModelError"


PROGRAM = """
import sys
from pathlib import Path
from crm_core.store import Store
from serving.app import create_app
from serving.settings import Settings
client = create_app(Settings(home=Path(sys.argv[1])), Store(sys.argv[2])).test_client()
card = "/lead_scoring/versions/lead_scoring-4-0a1b2c3d"
for path in ("", "/lead_scoring/versions", card, "/churn/history"):
    given = client.get("/api/v1/models" + path, headers={"Authorization": sys.argv[3]})
    assert given.status_code == 200, given.get_json()
print([name for name in ("mlflow", "sklearn", "lightgbm", "pandas") if name in sys.modules])
"""


def test_reading_about_models_needs_no_mlflow(store: Store, cast: Cast, settings: Settings) -> None:
    save_report(settings.home_folder, "lead_scoring-4-0a1b2c3d", REPORT)
    arguments = [str(settings.home), store.url, cast.header("Dana")["Authorization"]]
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True, check=False
    )
    assert ran.stdout.splitlines()[-1:] == ["[]"], ran.stdout + ran.stderr
