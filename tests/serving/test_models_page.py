"""The bench: what it shows is what the reports hold, costs are plain sums, and promoting is decided once."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import event

from crm_core.access import FieldRight
from crm_core.clock import FixedClock, micros
from crm_core.errors import ChampionChangedError, NotEnoughDataError
from crm_core.jobs import JobState
from crm_core.operations import OperationRow
from crm_core.promotions import find_champion
from crm_core.records import User
from crm_core.store import Store
from models.bundle import ModelBundle
from models.cuts import cut_steps
from models.evaluation import Judged, calibration_bins, found_by_working_down
from models.registry import Run, promote
from serving.app import create_app
from serving.champions import Champions
from serving.home import Home
from serving.job_handlers import SCHEDULES, handlers
from serving.jobs import JobRunner
from serving.model_work import MODEL, ask_for, list_work
from serving.modelling import open_registry, scorer_loader
from serving.reports import read_report, save_backtest, save_comparison, save_report, save_watch
from serving.settings import Settings
from serving.web.cost_of_errors import Prices, cost_of_errors
from tests.factories import make_activity, make_lead
from tests.features.worlds import fill_store
from tests.models.conftest import NOW, tracking_template
from tests.models.test_lineage import WORLD, make_model
from tests.serving.conftest import Cast, csrf_of, logged_in, make_cast
from tests.serving.test_judgements import answers, judged, replayed
from tests.serving.test_watching import report as watch_report

__all__ = ["tracking_template"]

TASK = "lead_scoring"
FIRST, SECOND = "lead_scoring-1", "lead_scoring-2"


def counted() -> dict[str, Any]:
    """Return a judgement with all that the pictures are made of."""
    said, answer = answers()
    found = judged()
    found["horizons"][0] |= {
        "bins": [vars(one) for one in calibration_bins(said, answer)],
        "found": list(found_by_working_down(said, answer)),
        "cuts": cut_steps(said, answer),
    }
    return found


def report_of(version: str, **more: Any) -> dict[str, Any]:
    return {
        "version": version,
        "number": int(version.split("-")[1]),
        "run_id": "0123456789abcdef",
        "as_of": "2026-02-01T00:00:00+00:00",
        "estimator": "logistic",
        "horizon_days": 90,
        "judged": counted(),
        "gate": {"passed": True, "reason": "first model of the task"},
        **more,
    }


@pytest.fixture
def bench(app: Flask, cast: Cast, settings: Settings, promote: Callable[..., Any]) -> FlaskClient:
    """Dana's browser, in a home with two versions of which the first serves."""
    promote(TASK, FIRST)
    for version in (FIRST, SECOND):
        save_report(settings.home_folder, version, report_of(version))
    return logged_in(app, cast["Dana"])


def text_of(client: FlaskClient, path: str, status: int = 200) -> str:
    answer = client.get(path)
    assert answer.status_code == status
    return unescape(answer.get_data(as_text=True))


def post(client: FlaskClient, path: str, **form: Any) -> Any:
    token = csrf_of(client.get(f"/models/{TASK}").get_data(as_text=True))
    return client.post(path, data={"csrf_token": token, **form})


def works(store: Store, task: str = TASK) -> Any:
    with store.reading() as session:
        return list_work(session, task)


# ------------------------------------------------------------------------------------------- what is shown


def test_the_overview_tells_of_each_task_what_serves_and_whether_it_is_still_right(
    bench: FlaskClient, settings: Settings
) -> None:
    page = text_of(bench, "/models")
    assert FIRST in page
    assert page.count("Not yet checked whether it is still right") == 1
    assert page.count("No model serves yet") == 2
    metrics = counted()["horizons"][0]["metrics"]
    assert f"{metrics['model']['auc']['value']:.3f}" in page
    assert f"{metrics['model']['auc']['low']:.3f} – {metrics['model']['auc']['high']:.3f}" in page
    assert f"Base rate: {metrics['base_rate']['auc']['value']:.3f}" in page
    save_watch(settings.home_folder, TASK, watch_report())
    assert "No longer right: act on it" in text_of(bench, "/models")


def test_a_task_shows_the_pictures_of_what_its_report_keeps(bench: FlaskClient) -> None:
    page = text_of(bench, f"/models/{TASK}")
    horizon = counted()["horizons"][0]
    for title in ("Said and came true", "How many were called so", "Found by working down the list"):
        assert f"<figcaption>{title}</figcaption>" in page
    top = horizon["bins"][0]
    assert f"{top['happened']:.0%}" in page
    assert f"{horizon['found'][2]:.0%}" in page
    assert "mlflow ui --backend-store-uri sqlite:///" in page
    assert "0123456789abcdef" in page


def test_a_report_from_before_the_counts_shows_what_it_has(bench: FlaskClient, settings: Settings) -> None:
    save_report(settings.home_folder, FIRST, {"judged": judged(), "estimator": "logistic"})
    page = text_of(bench, f"/models/{TASK}?missed=100&contact=10")
    assert "Said and came true</figcaption>" not in page
    assert "in steps of ten percent only" in page


def test_weeks_and_drift_are_pictures_too(bench: FlaskClient, settings: Settings) -> None:
    home = settings.home_folder
    save_backtest(home, TASK, replayed())
    weeks = [{"monday": "2026-02-02", "records": 40, "mean": 0.31, "low": 0.1, "high": 0.6}]
    save_watch(home, TASK, watch_report(scores=weeks, asked_at="2026-02-01T00:00:00+00:00"))
    save_watch(home, TASK, watch_report(scores=weeks))
    page = text_of(bench, f"/models/{TASK}")
    assert "Each Monday: how many were expected, and how many came" in page
    assert "Scores by week" in page
    # Both times that somebody asked are in the picture of the ratio: 0.60 (0.50 to 0.70).
    assert page.count("0.60 (0.50 – 0.70)") >= 2
    assert "<figcaption>Source</figcaption>" in page


def test_all_versions_are_listed_page_by_page(bench: FlaskClient, settings: Settings) -> None:
    for number in range(3, 26):
        version = f"lead_scoring-{number}"
        save_report(settings.home_folder, version, report_of(version))
    page = text_of(bench, f"/models/{TASK}")
    assert "lead_scoring-25" in page
    assert 'version=lead_scoring-6"' in page
    assert 'version=lead_scoring-5"' not in page
    older = text_of(bench, f"/models/{TASK}?before=6")
    assert 'version=lead_scoring-5"' in older
    assert 'version=lead_scoring-2"' in older


def test_a_page_takes_at_most_twelve_queries(bench: FlaskClient, store: Store) -> None:
    asked: list[str] = []

    def note(*given: Any) -> None:
        asked.append(given[2])

    for path in ("", f"/{TASK}", f"/{TASK}/compare", f"/{TASK}/card", f"/{TASK}/promote?version={SECOND}"):
        bench.get("/models" + path)
        event.listen(store.engine, "before_cursor_execute", note)
        asked.clear()
        assert bench.get("/models" + path).status_code == 200
        event.remove(store.engine, "before_cursor_execute", note)
        assert len(asked) <= 12, path


@pytest.mark.parametrize("name", ["Ana", "Mara"])
def test_the_bench_is_not_for_those_who_sell(app: Flask, cast: Cast, name: str) -> None:
    client = logged_in(app, cast[name])
    for path in ("", f"/{TASK}", f"/{TASK}/card", f"/{TASK}/features?entity=1", f"/{TASK}/jobs"):
        assert client.get("/models" + path).status_code == 403
    token = csrf_of(client.get("/leads").get_data(as_text=True))
    for path in ("jobs/train", "promote", "rollback", "compare"):
        assert client.post(f"/models/{TASK}/{path}", data={"csrf_token": token}).status_code == 403


def test_what_is_no_version_or_task_is_not_found(bench: FlaskClient) -> None:
    for path in ("/models/fortune", f"/models/{TASK}?version=churn-1", f"/models/{TASK}/promote"):
        assert bench.get(path).status_code == 404
    assert bench.get(f"/models/{TASK}/rollback").status_code == 404
    assert bench.get("/models/churn/card").status_code == 404


def test_a_model_card_tells_in_plain_words_and_what_people_said(bench: FlaskClient) -> None:
    page = text_of(bench, f"/models/{TASK}/card")
    assert "How likely an open lead is to become a customer" in page
    assert "times as many come true as by chance" in page
    assert "made by hand" in page
    assert "right 0 times" in page


def test_two_versions_are_told_apart_from_what_was_compared(bench: FlaskClient, settings: Settings) -> None:
    path = f"/models/{TASK}/compare?a={FIRST}&b={SECOND}"
    assert "have not been compared" in text_of(bench, path)
    told: dict[str, Any] = {
        "first": FIRST,
        "second": SECOND,
        "asked_at": "2026-03-01T00:00:00+00:00",
        "features": {"gained": ["mails_count_7d"], "lost": [], "kept": 30},
        "why": {"kind": "too_few", "questions": 12, "outcomes": 3, "needed": 20},
        "compared": None,
    }
    save_comparison(settings.home_folder, told)
    page = text_of(bench, path)
    assert "12 questions asked after both were made have an answer by now" in page
    assert "mails_count_7d" in page
    metrics = counted()["horizons"][0]["metrics"]["model"]
    gap = {"value": -0.02, "low": -0.03, "high": -0.01}
    compared = {
        "horizon_days": 90,
        "questions": 500,
        "records": 90,
        "outcomes": 80,
        "metrics": [metrics, metrics],
        "difference": {"auc": gap, "log_loss": gap},
        "bins": [counted()["horizons"][0]["bins"]] * 2,
        "rank_correlation": 0.93,
        "mean_distance": 0.04,
        "importances": [{"stage": 0.5}, {"stage": 0.1, "mails": 0.2}],
    }
    save_comparison(settings.home_folder, told | {"why": None, "compared": compared})
    page = text_of(bench, path)
    assert page.count("the first is better") == 1
    assert page.count("the second is better") == 1
    assert "-0.0300 – -0.0100" in page
    assert page.index('<th scope="row">Stage') < page.index('<th scope="row">Mails')


# ---------------------------------------------------------------------------------------- what errors cost


def test_costs_are_those_of_a_plain_recomputation() -> None:
    random = np.random.default_rng(8)
    said = np.round(random.beta(1, 6, 900), 3)
    happened = random.random(900) < said
    horizon = {"cuts": cut_steps(said, Judged(happened=happened, entity=np.arange(900)))}
    found = cost_of_errors(horizon, Prices(missed=250, contact=20, capacity=0.3, cut=0.15))
    assert found is not None
    costs = {}
    for cut in found.cuts:
        chosen = said >= (2.0 if cut.at is None else cut.at)
        needless, missed = int((chosen & ~happened).sum()), int((~chosen & happened).sum())
        assert (cut.contacted, cut.needless, cut.missed) == (int(chosen.sum()), needless, missed)
        assert cut.caught + cut.needless + cut.missed + cut.rest == 900
        assert cut.cost == missed * 250 + needless * 20
        costs[cut.at] = (cut.cost, chosen.mean())
    assert found.best.cost == min(cost for cost, share in costs.values() if share <= 0.3)
    assert found.best.share <= 0.3
    assert found.chosen is not None
    assert found.chosen.at is not None
    assert found.chosen.at >= 0.15
    assert found.prices.break_even == pytest.approx(20 / 270)


def test_costs_by_hand() -> None:
    horizon = {"cuts": {"from": [0.8, 0.4, 0.1], "questions": [2, 3, 5], "outcomes": [2, 1, 0]}}
    found = cost_of_errors(horizon, Prices(missed=10, contact=3))
    assert found is not None
    assert [cut.cost for cut in found.cuts] == [30, 10, 6, 21]
    assert (found.best.at, found.best.recall, found.best.precision) == (0.4, 1.0, 0.6)
    nothing = cost_of_errors(horizon, Prices(missed=0, contact=3))
    assert nothing is not None
    assert nothing.best.at is None
    assert cost_of_errors({}, Prices(missed=1, contact=1)) is None


def test_the_page_reckons_without_a_script_and_says_what_makes_no_sense(bench: FlaskClient) -> None:
    found = cost_of_errors(counted()["horizons"][0], Prices(missed=500, contact=60))
    assert found is not None
    page = text_of(bench, f"/models/{TASK}?missed=500&contact=60")
    assert f">{found.best.cost:,.0f}<" in page
    assert f">{found.best.needless:,}<" in page
    for asked in ("missed=-1&contact=2", "missed=x&contact=2", "missed=nan&contact=2", "missed=1&cut=400"):
        page = text_of(bench, f"/models/{TASK}?{asked}")
        assert 'role="alert"' in page
        assert 'id="cost-table"' not in page


# ------------------------------------------------------------------------------------------------ work


def test_what_is_asked_for_twice_is_done_once(bench: FlaskClient, store: Store) -> None:
    assert post(bench, f"/models/{TASK}/jobs/train").status_code == 302
    again = post(bench, f"/models/{TASK}/jobs/train")
    assert [work.does for work in works(store)] == ["train"]
    assert "That is being done already." in text_of(bench, again.headers["Location"].partition("#")[0])
    assert "Training" in text_of(bench, f"/models/{TASK}/jobs")


def test_two_who_ask_at_once_make_one_job(store: Store, cast: Cast) -> None:
    """Neither sees the other's job yet; the key that both would take is free only once."""
    with store.transaction() as transaction:
        first = ask_for(transaction, cast["Dana"], TASK, "train")
        job_key = f"{MODEL}:{TASK}:train:after 0"
        assert first is not None
        from crm_core.jobs import enqueue

        assert enqueue(transaction.session, MODEL, {}, now=transaction.now, key=job_key) is None


def test_work_needs_the_token_of_the_page(bench: FlaskClient, store: Store) -> None:
    assert bench.post(f"/models/{TASK}/jobs/train").status_code == 400
    assert bench.post(f"/models/{TASK}/promote", data={"version": SECOND, "reason": "x"}).status_code == 400
    assert works(store) == []


def test_work_that_waits_is_stopped_at_once(bench: FlaskClient, store: Store) -> None:
    post(bench, f"/models/{TASK}/jobs/replay")
    (work,) = works(store)
    assert post(bench, f"/models/churn/jobs/{work.id}/stop").status_code == 404
    post(bench, f"/models/{TASK}/jobs/{work.id}/stop")
    (work,) = works(store)
    assert (work.state, work.stopped_by) == (JobState.DEAD, "Dana")
    assert "stopped by Dana" in text_of(bench, f"/models/{TASK}/jobs")
    assert post(bench, f"/models/{TASK}/jobs/{work.id}/stop").status_code == 404


def runner(settings: Settings, store: Store) -> JobRunner:
    return JobRunner(store, {MODEL: handlers(settings)[MODEL]}, schedules=SCHEDULES)


def test_a_training_tells_its_steps_and_stops_when_somebody_says_so(
    bench: FlaskClient, settings: Settings, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The training is a stand-in: its steps are what is tried, and that the second one is not reached."""
    reached = []

    def train(_home: Home, _store: Store, _task: str, *, told: Callable[..., None]) -> dict[str, Any]:
        told("asking")
        (work,) = works(store)
        assert (work.state, work.progress["what"]) == (JobState.RUNNING, "asking")
        assert "reading the questions" in text_of(bench, f"/models/{TASK}/jobs")
        post(bench, f"/models/{TASK}/jobs/{work.id}/stop")
        told("judging")
        reached.append("judging")
        return {}

    monkeypatch.setattr("serving.training_runs.train_task", train)
    post(bench, f"/models/{TASK}/jobs/train")
    assert runner(settings, store).run_once() == 1
    (work,) = works(store)
    assert (work.state, work.stopped_by, reached) == (JobState.DEAD, "Dana", [])


def test_work_that_cannot_be_done_says_why_and_is_not_tried_again(
    bench: FlaskClient, settings: Settings, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(*_: Any, **__: Any) -> dict[str, Any]:
        raise NotEnoughDataError("there are 3 leads")

    monkeypatch.setattr("serving.training_runs.train_task", train)
    post(bench, f"/models/{TASK}/jobs/train")
    assert runner(settings, store).run_once() == 1
    assert runner(settings, store).run_once() == 0
    assert "there are 3 leads" in text_of(bench, f"/models/{TASK}/jobs")


def test_who_may_no_more_when_the_work_begins_gets_nothing_done(
    bench: FlaskClient, settings: Settings, store: Store, cast: Cast
) -> None:
    post(bench, f"/models/{TASK}/jobs/watch")
    with store.transaction() as transaction:
        transaction.session.get_one(User, cast["Dana"].id).role = "rep"
    runner(settings, store).run_once()
    (work,) = works(store)
    assert work.state == JobState.DEAD
    assert "promote or roll back models" in str(work.refused)


# ------------------------------------------------------------------------------------- promoting, for real


class Office:
    """A home with two models of leads in its registry, and browsers of Dana and Adam."""

    def __init__(self, home: Home, store: Store, cast: Cast, models: list[ModelBundle]) -> None:
        self.home, self.store, self.cast = home, store, cast
        self.settings = Settings(home=home.folder)
        registry = open_registry(home)
        self.versions = []
        for number, model in enumerate(models, start=1):
            report = report_of(f"{TASK}-{number}", sha256=model.sha256)
            files = {"report.json": json.dumps(report).encode()}
            run = Run(
                task=TASK, name="a run", parameters={}, metrics={}, tags={}, files=files, fixed_at=micros(NOW)
            )
            self.versions.append(registry.log_training(run, model).name)
        champions = Champions(store, scorer_loader(home, store), look_seconds=0)
        self.app = create_app(self.settings, store, champions)
        self.dana, self.adam = (logged_in(self.app, cast[name]) for name in ("Dana", "Adam"))

    def seen(self, client: FlaskClient, version: str) -> str:
        page = client.get(f"/models/{TASK}/promote?version={version}").get_data(as_text=True)
        return page.split('name="seen" value="')[1].split('"')[0]

    def promote(self, client: FlaskClient, version: str, seen: str, **more: str) -> Any:
        return post(client, f"/models/{TASK}/promote", version=version, seen=seen, **more)

    def run(self) -> Any:
        assert runner(self.settings, self.store).run_once() == 1
        return works(self.store)[0]

    @property
    def champion(self) -> tuple[str, int | None] | None:
        with self.store.reading() as session:
            found = find_champion(session, TASK)
            return None if found is None else (found.model_version, found.actor_id)


@pytest.fixture(scope="module")
def office(
    tmp_path_factory: pytest.TempPathFactory,
    empty_database: Path,
    tracking_template: Path,
    password_hash: str,
) -> Iterator[Office]:
    home = Home.at(tmp_path_factory.mktemp("models_page") / "home")
    home.create()
    home.database.write_bytes(empty_database.read_bytes())
    (home.folder / "mlflow.db").write_bytes(tracking_template.read_bytes())
    store = fill_store(WORLD, home.database_url)
    model = make_model(store, TASK)
    other = replace(model, trained={**model.trained, "note": "another one"})
    yield Office(home, store, make_cast(store, password_hash), [model, other])
    store.close()


def test_a_version_is_promoted_refused_overruled_and_rolled_back_through_the_page(office: Office) -> None:
    first, second = office.versions
    dana = office.dana
    no_reason = office.promote(dana, first, office.seen(dana, first), reason=" ")
    assert no_reason.status_code == 422
    assert "Say why" in no_reason.text
    assert office.promote(dana, first, "0", reason="the first").status_code == 302
    assert office.run().result["version"] == first
    assert office.champion == (first, office.cast["Dana"].id)

    assert office.promote(dana, second, office.seen(dana, second), reason="newer").status_code == 302
    refused = office.run()
    assert refused.state == JobState.DEAD
    assert "outcomes that neither model knew; 20 are needed" in refused.refused
    assert office.champion == (first, office.cast["Dana"].id)
    page = text_of(dana, f"/models/{TASK}/promote?version={second}")
    assert "Refused last time" in page
    chinese = logged_in(office.app, office.cast["Dana"], "zh")
    assert "两个模型都未见过的结果只有" in text_of(chinese, f"/models/{TASK}")

    # Adam looked before; Dana is quicker. What Adam typed is still there, and nothing is changed.
    stale = office.seen(office.adam, first)
    seen = office.seen(dana, second)
    assert office.promote(dana, second, seen, reason="I know better", overrule="yes").status_code == 302
    assert office.run().result["gate"]["overruled"] is True
    late = office.promote(office.adam, first, stale, reason="back to the roots")
    assert late.status_code == 409
    assert "Dana put" in unescape(late.text)
    assert "back to the roots" in late.text
    assert office.champion == (second, office.cast["Dana"].id)

    page = text_of(dana, f"/models/{TASK}")
    assert "I know better" in page
    assert "promoted all the same" in page
    seen = office.seen(dana, first)
    assert post(dana, f"/models/{TASK}/rollback", seen=seen, reason="worse").status_code == 302
    assert office.run().result["version"] == first
    with office.store.reading() as session:
        done = [row.done for row in session.query(OperationRow).order_by(OperationRow.id)]
        by = {row.user_id for row in session.query(OperationRow).filter(OperationRow.done.like("model_%"))}
    assert [each for each in done if each.startswith("model_")] == [
        "model_promoted",
        "model_promoted",
        "model_rolled_back",
    ]
    assert by == {office.cast["Dana"].id}
    assert read_report(office.home, second) is not None


def test_of_two_jobs_that_were_decided_on_the_same_page_one_wins(office: Office) -> None:
    """Both were asked for before either was done: the second finds another champion and leaves it alone."""
    first, second = office.versions
    registry = open_registry(office.home)
    if office.champion is None:
        promote(office.store, registry, TASK, 1, actor_id=None, reason="the first")
    with office.store.reading() as session:
        champion = find_champion(session, TASK)
        assert champion is not None
        before, serving = champion.id, champion.model_version
    other = second if serving == first else first
    wanted = registry.get_version_by_name(other)
    given: dict[str, Any] = {"actor_id": office.cast["Adam"].id, "reason": "at once", "instead_of": before}
    promote(office.store, registry, TASK, wanted, **given)
    with pytest.raises(ChampionChangedError, match="Adam"):
        promote(office.store, registry, TASK, wanted, **given)
    with office.store.transaction() as transaction:
        dana = office.cast["Dana"]
        ask_for(transaction, dana, TASK, "roll_back", reason="too late", instead_of=before)
    late = office.run()
    assert late.quicker == {"found": other, "by": "Adam"}
    assert "nothing was changed" in text_of(office.dana, f"/models/{TASK}/jobs")
    assert office.champion == (other, office.cast["Adam"].id)


def test_two_versions_are_compared_as_a_job(office: Office) -> None:
    first, second = office.versions
    asked = post(office.dana, f"/models/{TASK}/compare", a=first, b=second)
    assert asked.status_code == 302
    assert office.run().result == {"first": first, "second": second, "compared": False}
    assert "There is nothing to compare them on yet" in text_of(office.dana, asked.headers["Location"])


# ------------------------------------------------------------------------------- what a model would see


def test_the_explorer_tells_values_rows_and_what_came_too_late(
    bench: FlaskClient, store: Store, cast: Cast, clock: FixedClock
) -> None:
    with store.transaction() as transaction:
        lead = make_lead(transaction, owner_id=cast["Ana"].id, company="Aster")
        asked_at = transaction.now
    clock.advance(timedelta(hours=2))
    with store.transaction() as transaction:
        make_activity(transaction, lead_id=lead.id, kind="call", occurred_at=asked_at)
    as_of = store.clock.now().isoformat().replace("+00:00", "Z")
    page = text_of(bench, f"/models/{TASK}/features?entity={lead.id}&as_of={as_of}")
    assert "Aster" in page
    assert "calls_count_30d" in page or "calls_count" in page
    early = asked_at.isoformat().replace("+00:00", "Z")
    page = text_of(bench, f"/models/{TASK}/features?entity={lead.id}&as_of={early}")
    assert "no: known only later" in page
    assert "too late" in page


def test_the_explorer_refuses_what_is_not_there_and_what_makes_no_sense(bench: FlaskClient) -> None:
    assert "Enter the number" in text_of(bench, f"/models/{TASK}/features")
    assert bench.get(f"/models/{TASK}/features?entity=999999").status_code == 404
    for asked in ("entity=x", "entity=1&as_of=tomorrow", "entity=1&as_of=2999-01-01"):
        assert 'role="alert"' in text_of(bench, f"/models/{TASK}/features?{asked}", 422)


def test_the_explorer_hides_what_a_role_may_not_see(bench: FlaskClient, store: Store, cast: Cast) -> None:
    with store.transaction() as transaction:
        lead = make_lead(transaction, owner_id=cast["Ana"].id, source="hidden fair")
    path = f"/models/{TASK}/features?entity={lead.id}"
    assert "hidden fair" in text_of(bench, path)
    with store.transaction() as transaction:
        right = FieldRight(role="analyst", record_type="lead", field="source", read=False, write=False)
        transaction.session.add(right)
    page = text_of(bench, path)
    assert "hidden fair" not in page
    assert "comes from something you may not see" in page
