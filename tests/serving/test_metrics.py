"""What the service measures of itself, who may read it, and what its parts answer."""

from __future__ import annotations

import shutil
import threading
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from flask import Flask
from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families

from crm_core.alerts import Alert, State
from crm_core.changes import Cursor, Source, newest_sequence
from crm_core.clock import FixedClock
from crm_core.errors import SettingsError
from crm_core.rescoring import CURSOR, Asked, Worker, ask_for
from crm_core.store import Store
from serving import metrics
from serving.app import create_app
from serving.champions import Champions
from serving.home import Home
from serving.pings import LEAST_FREE_BYTES, ping_disk, ping_tracking
from serving.reports import save_watch
from serving.rescoring import Rescorer
from serving.settings import Settings
from tests.factories import make_lead
from tests.serving.conftest import Cast


def samples(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def read(client: FlaskClient, cast: Cast) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    answer = client.get("/metrics", headers=cast.header("Dana"))
    assert answer.status_code == 200
    return samples(answer.text)


def test_only_some_may_read_them(client: FlaskClient, cast: Cast) -> None:
    assert client.get("/metrics").status_code == 401
    assert client.get("/metrics", headers=cast.header("Ana")).status_code == 403
    assert client.get("/metrics", headers=cast.header("Adam")).status_code == 200


def test_all_may_where_it_is_so_set(home: Path, store: Store, champions: Champions) -> None:
    app = create_app(Settings(home=home, metrics_open=True), store, champions)

    assert app.test_client().get("/metrics").status_code == 200


def test_requests_are_counted_by_rule_and_never_by_path(client: FlaskClient, cast: Cast) -> None:
    key = (
        "crm_http_request_seconds_count",
        (("method", "GET"), ("rule", "/api/v1/leads/<int:id>"), ("status", "404")),
    )
    before = read(client, cast).get(key, 0)
    client.get("/api/v1/leads/7", headers=cast.header("Ana"))
    client.get("/api/v1/leads/8", headers=cast.header("Ana"))
    client.get("/nowhere/4711")
    found = read(client, cast)

    assert found[key] == before + 2
    assert not any("4711" in value for _, labels in found for _, value in labels)


def test_scores_and_freshness_are_counted(client: FlaskClient, cast: Cast) -> None:
    metrics.note_scores("churn", "churn-9", 3)
    metrics.note_freshness(0.3)
    found = read(client, cast)

    assert found["crm_scores_total", (("model_version", "churn-9"), ("task", "churn"))] >= 3
    assert found["crm_score_freshness_seconds_count", ()] >= 1


def test_they_tell_what_waits_and_what_watching_found(
    client: FlaskClient, cast: Cast, store: Store, settings: Settings
) -> None:
    with store.transaction(source=Source.MODEL) as transaction:
        transaction.session.add(Cursor(name=CURSOR, position=newest_sequence(transaction.session)))
    with store.transaction() as transaction:
        make_lead(transaction)
    findings = [
        {"kind": "inputs", "state": "watch", "value": {"value": 0.12}},
        {"kind": "performance", "state": "unknown", "value": None},
    ]
    now = store.clock.now().isoformat()
    report = {"asked_at": now, "model_version": "churn-1", "state": "watch", "findings": findings}
    save_watch(settings.home_folder, "churn", report)
    found = read(client, cast)

    assert found["crm_store_up", ()] == 1
    assert found["crm_changes_waiting", ()] == 1
    assert found["crm_model_watch_state", (("kind", "inputs"), ("task", "churn"))] == 2
    assert found["crm_model_watch_value", (("kind", "inputs"), ("task", "churn"))] == 0.12
    assert ("crm_model_watch_value", (("kind", "performance"), ("task", "churn"))) not in found


def test_they_tell_of_work_workers_and_alerts(client: FlaskClient, cast: Cast, store: Store) -> None:
    with store.transaction(source=Source.MODEL) as transaction:
        session, now = transaction.session, transaction.now
        ask_for(session, [Asked(task="churn", record_id=7, cause_change_id=None, changed_at=now)])
        session.add(
            Worker(name="here:1", host="here", pid=1, started_at=now, seen_at=now, scored=3, lag_seconds=0.25)
        )
        for number, state in enumerate((State.OPEN, State.ACKNOWLEDGED, State.CLOSED)):
            session.add(
                Alert(
                    kind="churn_level",
                    record_type="account",
                    record_id=7,
                    cause=f"{number}",
                    prediction_id=1,
                    probability=0.5,
                    raised_at=now,
                    state=state,
                )
            )
    found = read(client, cast)

    assert found["crm_rescoring_records", (("state", "all"),)] == 1
    assert found["crm_rescoring_records", (("state", "at_work"),)] == 0
    assert found["crm_worker_seen_timestamp_seconds", (("worker", "here:1"),)] == now.timestamp()
    assert found["crm_worker_lag_seconds", (("worker", "here:1"),)] == 0.25
    assert found["crm_worker_scored", (("worker", "here:1"),)] == 3
    states = {dict(labels)["state"]: value for (name, labels), value in found.items() if name == "crm_alerts"}
    assert states == {"open": 1, "acknowledged": 1}


def test_a_clock_that_was_put_back_makes_no_freshness_below_nothing(client: FlaskClient, cast: Cast) -> None:
    before = read(client, cast)["crm_score_freshness_seconds_sum", ()]
    metrics.note_freshness(-3600.0)
    assert read(client, cast)["crm_score_freshness_seconds_sum", ()] == before


def test_without_its_database_they_say_so(home: Path, store: Store, champions: Champions) -> None:
    with store.transaction() as transaction:
        transaction.session.connection().exec_driver_sql("DROP TABLE cursors")

    assert samples(metrics.render(store, champions, Home.at(home)).decode())["crm_store_up", ()] == 0


def test_readiness_tells_of_tracking_and_disk(app: Flask, client: FlaskClient) -> None:
    parts = {part["name"]: part for part in client.get("/readyz").get_json()["parts"]}

    assert parts["tracking"]["ok"]
    assert parts["disk"]["ok"]
    assert "GB free" in parts["disk"]["detail"]


def test_readiness_tells_of_any_worker_that_fails(
    home: Path, store: Store, champions: Champions, clock: FixedClock
) -> None:
    app = create_app(Settings(home=home, rescoring=False), store, champions)
    for error in (None, "OperationalError"):
        Rescorer(store, champions).beat(error)
        clock.advance(timedelta(seconds=1))
    parts = {each["name"]: each for each in app.test_client().get("/readyz").get_json()["parts"]}

    assert not parts["rescoring"]["ok"]
    assert "2 at work" in parts["rescoring"]["detail"]
    assert "OperationalError" in parts["rescoring"]["detail"]


def test_readiness_tells_of_changes_that_nobody_follows(
    home: Path, store: Store, champions: Champions, clock: FixedClock
) -> None:
    client = create_app(Settings(home=home, rescoring=False), store, champions).test_client()
    rescorer = Rescorer(store, champions)
    rescorer.run_once()
    with store.transaction() as transaction:
        make_lead(transaction)

    def rescoring() -> tuple[bool, str]:
        rescorer.beat()
        parts = {each["name"]: each for each in client.get("/readyz").get_json()["parts"]}
        return parts["rescoring"]["ok"], parts["rescoring"]["detail"]

    assert rescoring()[0]
    clock.advance(timedelta(minutes=2))
    ok, detail = rescoring()
    assert not ok
    assert "the oldest for 120 s" in detail
    rescorer.run_once()
    assert rescoring()[0]


def test_tracking_that_does_not_answer_is_named(tmp_path: Path) -> None:
    damaged = tmp_path / "mlflow.db"
    damaged.write_bytes(b"no database" * 100)

    assert ping_tracking(f"sqlite:///{tmp_path / 'none.db'}").ok
    assert not (tmp_path / "none.db").exists()
    assert not ping_tracking(f"sqlite:///{damaged}").ok
    assert not ping_tracking("http://127.0.0.1:9").ok
    assert not ping_tracking("postgresql+psycopg://nobody@127.0.0.1:9/none?connect_timeout=1").ok


def test_a_tracking_server_is_asked_for_its_health(tmp_path: Path) -> None:
    asked: list[str] = []

    class Tracking(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  as the library has it
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Tracking) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        found = ping_tracking(f"http://127.0.0.1:{server.server_address[1]}/")
        server.shutdown()

    assert found.ok
    assert asked == ["/health"]


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    assert ping_disk(tmp_path).ok
    assert not ping_disk(tmp_path / "gone").ok
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=LEAST_FREE_BYTES - 1))
        assert not ping_disk(tmp_path).ok


def test_a_worker_gives_its_metrics_where_it_was_told_to(
    store: Store, champions: Champions, home: Path
) -> None:
    with metrics.given_at("127.0.0.1:0", store, champions, Home.at(home)) as port:
        with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
            told = samples(answer.read().decode())
        assert told["crm_store_up", ()] == 1
        assert any(name.startswith("crm_score_freshness_seconds") for name, _ in told)
        taken = metrics.given_at(f"127.0.0.1:{port}", store, champions, Home.at(home))
        with pytest.raises(SettingsError, match="CRM_WORKER_METRICS"), taken:
            pass
    with pytest.raises(URLError):
        urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30)


def test_a_worker_that_was_told_nowhere_gives_its_metrics_nowhere(
    store: Store, champions: Champions, home: Path
) -> None:
    with metrics.given_at(Settings(home=home).worker_metrics, store, champions, Home.at(home)) as port:
        assert port is None
