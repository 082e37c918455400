"""A stored prediction is explained and recomputed, what served when is told, to whom it concerns."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import select, update

from crm_core.access import NEVER_HIDDEN, FieldRight, RoleRight
from crm_core.clock import FixedClock
from crm_core.personal import set_scoring_opt_out
from crm_core.predictions import Prediction
from crm_core.promotions import Challenger, Promotion
from crm_core.records import Activity, Lead
from crm_core.shadows import Match, Shadow, write_shadows
from crm_core.store import Store
from models.bundle import ModelBundle
from models.kept import keep_bytes
from serving.app import create_app
from serving.champions import Champions
from serving.cli import main
from serving.home import Home
from serving.modelling import scorer_loader
from serving.rescoring import Rescorer
from serving.settings import Settings
from tests.factories import make_activity, make_lead
from tests.features.worlds import fill_store
from tests.models.test_lineage import WORLD, make_model
from tests.serving.conftest import Cast, logged_in, make_cast

TASK = "lead_scoring"
GATE = {
    "passed": True,
    "reason": "no worse than the champion",
    "champion": "lead_scoring-0",
    "questions": 1200,
    "outcomes": 300,
    "gain": {"value": 0.0123, "low": 0.004, "high": 0.02},
    "calibration": {"value": 0.0, "low": -0.01, "high": 0.01},
    "segments": [],
}


class Office:
    """A home with a real model that serves, a lead of Ana's, and its prediction after a call."""

    def __init__(self, home: Home, store: Store, cast: Cast, model: ModelBundle) -> None:
        self.home, self.store, self.cast, self.model = home, store, cast, model
        with store.transaction() as transaction:
            self.lead = make_lead(transaction, owner_id=cast["Ana"].id).id
            transaction.session.add(
                Promotion(
                    task=TASK,
                    model_version=model.version,
                    sha256=model.sha256,
                    run_id="nowhere",
                    promoted_at=transaction.now,
                    actor_id=cast["Dana"].id,
                    reason="it was better",
                    gate=GATE,
                )
            )
        keep_bytes(home.models, model.to_bytes(), model.sha256)
        self.champions = Champions(store, scorer_loader(home, store))
        self.follow()
        self.advance(1)
        with store.transaction() as transaction:
            make_activity(transaction, lead_id=self.lead)
        self.follow()
        self.client = create_app(Settings(home=home.folder), store, self.champions).test_client()

    def advance(self, hours: float) -> None:
        assert isinstance(self.store.clock, FixedClock)
        self.store.clock.advance(timedelta(hours=hours))

    def follow(self) -> None:
        rescorer = Rescorer(self.store, self.champions)
        while rescorer.run_once():
            pass

    @property
    def newest(self) -> Prediction:
        with self.store.reading() as session:
            query = select(Prediction).where(
                Prediction.record_type == "lead", Prediction.record_id == self.lead
            )
            return session.scalars(query.order_by(Prediction.id.desc()).limit(1)).one()

    def run(self, *arguments: str | int, who: str = "dana@example.com") -> Result:
        home = str(self.home.folder)
        given = [*map(str, arguments), "--home", home]
        return CliRunner().invoke(main, [*given, "--as", who] if who else given)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> ModelBundle:
    """A model that reads every feature."""
    path = tmp_path_factory.mktemp("model") / "crm.db"
    path.write_bytes(empty_database.read_bytes())
    store = fill_store(WORLD, f"sqlite:///{path}")
    made = make_model(store, TASK)
    store.close()
    return made


@pytest.fixture
def office(tmp_path: Path, empty_database: Path, password_hash: str, model: ModelBundle) -> Iterator[Office]:
    home = Home.at(tmp_path / "home")
    home.create()
    home.database.write_bytes(empty_database.read_bytes())
    store = fill_store(WORLD, home.database_url)
    yield Office(home, store, make_cast(store, password_hash), model)
    store.close()


def test_it_is_told_with_its_model_its_instant_its_cause_and_comes_out_the_same(office: Office) -> None:
    newest = office.newest
    told = office.run("explain", newest.id, "--recompute", "--json")
    assert told.exit_code == 0, told.output
    found = json.loads(told.stdout)
    assert (found["model_version"], found["sha256"]) == (office.model.version, office.model.sha256)
    assert (found["as_of"], found["probability"]) == (newest.as_of.isoformat(), newest.probability)
    assert (found["cause"]["record_type"], found["cause"]["action"]) == ("activity", "created")
    assert found["recomputed"]["same"] is True
    assert found["recomputed"]["features"] == len(office.model.features)
    by_record = office.run("explain", f"lead:{office.lead}", "--recompute")
    assert by_record.exit_code == 0
    assert "the same to the bit" in by_record.stdout


def test_what_does_not_come_out_the_same_is_shown_and_ends_with_1(office: Office) -> None:
    with office.store.transaction() as transaction:
        tampered = update(Prediction).where(Prediction.id == office.newest.id).values(grade="Z")
        transaction.session.execute(tampered)
    told = office.run("explain", office.newest.id, "--recompute")
    assert told.exit_code == 1
    assert "not the same" in told.stdout
    assert "'Z'" in told.stdout
    assert office.run("explain", office.newest.id).exit_code == 0, "telling is not comparing"


@pytest.mark.parametrize("which", ["999999", "lead:999999", "ticket:1", "lead:", "x", "-1", "1e3", "9" * 30])
def test_a_prediction_that_is_not_there_is_not_found(office: Office, which: str) -> None:
    told = office.run("explain", "--", which) if which.startswith("-") else office.run("explain", which)
    assert told.exit_code != 0
    assert told.stdout == ""


def test_a_rep_reads_own_predictions_and_recomputes_none(office: Office) -> None:
    path = f"/api/v1/predictions/{office.newest.id}"
    statuses = {
        name: (
            office.client.get(path, headers=office.cast.header(name)).status_code,
            office.client.post(f"{path}/recompute", headers=office.cast.header(name)).status_code,
        )
        for name in ("Ana", "Ben", "Mara", "Dana", "Adam")
    }
    assert statuses == {
        "Ana": (200, 403),
        "Ben": (404, 403),
        "Mara": (200, 403),
        "Dana": (200, 200),
        "Adam": (200, 200),
    }
    assert office.client.get(path).status_code == 401
    same = office.client.post(f"{path}/recompute", headers=office.cast.header("Dana")).get_json()
    assert (same["same"], same["differences"]) == (True, [])


def test_hidden_fields_are_in_no_reason_and_no_cause(office: Office) -> None:
    office.advance(1)
    with office.store.transaction() as transaction:
        transaction.update(transaction.get(Lead, office.lead), {"region": "secret valley"})
        transaction.session.add(
            FieldRight(role="rep", record_type="lead", field="region", read=False, write=False)
        )
    office.follow()
    path = f"/api/v1/predictions/{office.newest.id}"
    hers = office.client.get(path, headers=office.cast.header("Ana"))
    assert hers.status_code == 200
    assert "secret valley" not in hers.text
    assert hers.get_json()["cause"]["field"] is None
    assert "secret valley" in office.client.get(path, headers=office.cast.header("Dana")).text


def test_what_was_said_of_a_deleted_record_is_explained_to_who_answers_for_models(office: Office) -> None:
    which = office.newest.id
    office.advance(1)
    with office.store.transaction() as transaction:
        transaction.delete(transaction.get(Lead, office.lead))
    assert office.run("explain", which, "--recompute").exit_code == 0
    assert office.run("explain", which, who="ana@example.com").exit_code == 1


def test_what_was_said_of_who_opted_out_is_told_to_nobody(office: Office) -> None:
    which = office.newest.id
    with office.store.transaction() as transaction:
        set_scoring_opt_out(transaction, transaction.get(Lead, office.lead), opted_out=True)
    path = f"/api/v1/predictions/{which}"
    for name in ("Ana", "Dana", "Adam"):
        assert office.client.get(path, headers=office.cast.header(name)).status_code == 409
    again = office.client.post(f"{path}/recompute", headers=office.cast.header("Dana"))
    assert again.status_code == 409
    assert office.run("explain", which).exit_code == 1


def test_a_cause_of_a_type_out_of_sight_is_told_without_its_values(office: Office) -> None:
    office.advance(1)
    with office.store.transaction() as transaction:
        call = transaction.session.scalars(select(Activity).where(Activity.lead_id == office.lead)).first()
        assert call is not None
        transaction.update(call, {"duration_seconds": 4321})
    office.follow()
    path = f"/api/v1/predictions/{office.newest.id}"
    seen = office.client.get(path, headers=office.cast.header("Ana")).get_json()["cause"]
    assert (seen["record_type"], seen["new"]) == ("activity", 4321)
    with office.store.transaction() as transaction:
        transaction.session.add(RoleRight(role="rep", record_type="activity", read="none", write="none"))
    told = office.client.get(path, headers=office.cast.header("Ana")).get_json()["cause"]
    assert (told["record_type"], told["field"], told["new"]) == ("activity", None, None)


def test_a_recomputation_tells_no_reason_from_a_field_out_of_sight(office: Office) -> None:
    newest = office.newest
    path = f"/api/v1/predictions/{newest.id}/recompute"
    fields = sorted({field for reason in newest.reasons or () for field in reason["fields"]})
    with office.store.transaction() as transaction:
        tampered = [{**reason, "value": "secret", "en": "secret"} for reason in newest.reasons or ()]
        transaction.session.execute(
            update(Prediction).where(Prediction.id == newest.id).values(reasons=tampered)
        )
    told = office.client.post(path, headers=office.cast.header("Dana"))
    assert "secret" in told.text
    with office.store.transaction() as transaction:
        for record_type, name in (field.split(".", 1) for field in fields):
            right = {"role": "analyst", "record_type": record_type, "field": name}
            transaction.session.add(FieldRight(**right, read=False, write=False))
    hidden = office.client.post(path, headers=office.cast.header("Dana"))
    assert hidden.status_code == 200
    told_of = [one["stored"] for one in hidden.get_json()["differences"] if one["what"].startswith("reason")]
    assert any(reason["group"] == "hidden" for reason in told_of)
    left = {field.split(".", 1)[1] for reason in told_of for field in reason["fields"]}
    assert left <= NEVER_HIDDEN


def test_who_may_not_choose_models_rolls_none_back(office: Office) -> None:
    refused = office.run("models", "rollback", TASK, who="ana@example.com")
    assert refused.exit_code == 1
    assert "may not" in refused.stderr


def test_the_history_names_who_and_why_and_what_served_at_an_instant(office: Office) -> None:
    (served,) = json.loads(office.run("models", "history", TASK, "--json", who="").stdout)["served"]
    assert (served["version"], served["by"]) == (office.model.version, "dana@example.com")
    assert (served["reason"], served["until"]) == ("it was better", None)
    before = json.loads(office.run("models", "history", TASK, "--at", "2020-01-01", "--json", who="").stdout)
    assert before["served"] == []
    path = f"/api/v1/models/{TASK}/history"
    assert office.client.get(path, headers=office.cast.header("Ana")).status_code == 403
    assert office.client.get(path, headers=office.cast.header("Dana")).get_json()["served"][0]["gate"][
        "passed"
    ]
    at = office.client.get(f"{path}?at=2020-01-01T00:00:00Z", headers=office.cast.header("Dana"))
    assert at.get_json()["served"] == []
    unknown = office.client.get("/api/v1/models/fortune/history", headers=office.cast.header("Dana"))
    assert unknown.status_code == 422


def test_the_comparison_in_the_shadow_is_told_to_who_may_promote(office: Office) -> None:
    path = f"/api/v1/models/{TASK}/shadow"
    assert office.client.get(path, headers=office.cast.header("Dana")).status_code == 404
    name_a_challenger(office)
    told = json.loads(office.run("models", "shadow", TASK, "--json", who="").stdout)
    assert (told["challenger"], told["champion"], told["questions"]) == ("next", office.model.version, 1)
    assert told["mean_difference"] == pytest.approx(0.4)
    assert "beside the champion, unseen" in office.run("models", "shadow", TASK, who="").stdout
    assert office.client.get(path, headers=office.cast.header("Dana")).get_json()["questions"] == 1
    assert office.client.get(path, headers=office.cast.header("Mara")).status_code == 403


def name_a_challenger(office: Office) -> None:
    match = Match(
        task=TASK,
        record_type="lead",
        as_of=office.store.clock.now(),
        horizon_days=90,
        challenger="next",
        champion=office.model.version,
    )
    both = Shadow(
        record_id=office.lead, probability=0.9, champion_probability=0.5, grade="A", champion_grade="B"
    )
    with office.store.transaction() as transaction:
        row = {"task": TASK, "model_version": "next", "sha256": "1" * 64, "run_id": "r"}
        transaction.session.add(Challenger(**row, named_at=transaction.now))
        assert write_shadows(transaction, match, [both]) == 1


def test_what_was_seen_in_the_shadow_is_in_no_answer_about_the_lead(office: Office) -> None:
    name_a_challenger(office)
    for path in (f"/api/v1/leads/{office.lead}", f"/api/v1/leads/{office.lead}/predictions", "/api/v1/leads"):
        answer = office.client.get(path, headers=office.cast.header("Ana"))
        assert answer.status_code == 200
        assert '"next"' not in answer.text


def test_the_page_of_models_tells_what_the_gate_found(office: Office) -> None:
    client = logged_in(office.client.application, office.cast["Dana"])
    shown = client.get("/models/lead_scoring").get_data(as_text=True)
    assert "against lead_scoring-0, on 1,200 questions" in shown
    assert "log loss lower by 0.0123 (0.0040 to 0.0200)" in shown
    chinese = logged_in(office.client.application, office.cast["Adam"], language="zh")
    assert "上线检验" in chinese.get("/models/lead_scoring").get_data(as_text=True)
