"""The walk: a call is logged, the deal's score moves, Ana sees why, and in the end the prediction is judged.

The eight steps of the design, in order, over HTTP, on a real database, with a model that was really trained.
Only the clock is set by hand.
"""

from __future__ import annotations

import math
import re
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from crm_core import migrations
from crm_core.changes import Change, Cursor, newest_sequence
from crm_core.clock import FixedClock, micros
from crm_core.deals import close_deal
from crm_core.pipelines import open_stages
from crm_core.predictions import Prediction, list_predictions
from crm_core.records import Activity, Deal, User
from crm_core.rescoring import Work
from crm_core.store import Store
from crm_core.tokens import create_token
from features.cohort import Cohort, open_records
from features.feature_set import feature_set_for
from features.frame import build_frame
from features.labels import deal_labels
from models.bundle import ModelBundle
from models.evaluation import loss_of
from models.registry import Registry
from models.scoring import score_records
from models.simulation import simulate_company
from models.tasks import get_task
from models.training import train
from serving.app import create_app
from serving.auth import new_password, set_password
from serving.champions import Champions
from serving.home import Home
from serving.modelling import load_bundle_of, scorer_loader
from serving.rescoring import CURSOR, Rescorer, RescoringThread
from serving.settings import Settings
from serving.training_runs import score_task
from tests.models.conftest import choose_nothing
from tests.serving.browser import serving
from tests.serving.conftest import csrf_of
from tests.serving.http import Http

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
TASK = "win_probability"
REP_SAYS = 0.7
CALL: dict[str, Any] = {
    "kind": "call",
    "direction": "inbound",
    "duration_seconds": 1_500,
    "subject": "They like the offer",
}


@dataclass
class Walk:
    """What the steps hand on to one another."""

    store: Store
    clock: FixedClock
    home: Home
    ana: int
    email: str
    password: str
    key: str
    deal: int
    address: str = ""
    before: float = math.nan
    stage: str = ""
    activity: int = 0
    prediction: Prediction | None = None

    @property
    def api(self) -> Http:
        return Http(self.address, self.key)

    @property
    def bundle(self) -> ModelBundle:
        return load_bundle_of(self.home, self.store, TASK)

    def answer(self) -> Prediction:
        assert self.prediction is not None, "the step before did not come this far"
        return self.prediction


@pytest.fixture
def walk(tmp_path: Path, tracking_template: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Walk]:
    """A simulated company on a Monday morning, scored by a champion that learned from it, and served."""
    home = Home.at(tmp_path / "home")
    home.create()
    migrations.upgrade(home.database_url)
    clock = FixedClock(NOW)
    store = Store(home.database_url, clock=clock)
    simulate_company(store, size="small", seed=1)
    shutil.copy(tracking_template, home.folder / "mlflow.db")
    registry = Registry(home.tracking_uri, home.artifacts, home.models)
    choose_nothing(monkeypatch)
    assert train(store, get_task(TASK), registry=registry, promote=True).promoted
    score_task(home, store, TASK)
    clock.advance(timedelta(minutes=10))
    yield from served(home, store, clock)
    store.close()


def served(home: Home, store: Store, clock: FixedClock) -> Iterator[Walk]:
    champions = Champions(store, scorer_loader(home, store))
    thread = RescoringThread(Rescorer(store, champions), poll_seconds=0.05)
    app = create_app(Settings(home=home.folder), store, champions, thread)
    walk = begin(home, store, clock)
    thread.start()
    with serving(app) as walk.address:
        yield walk
    thread.stop()


def begin(home: Home, store: Store, clock: FixedClock) -> Walk:
    """Give Ana a key, a password, and an opinion of her best deal that is not in its last stage."""
    password = new_password()
    last = open_stages()[-1].key
    with store.transaction() as transaction:
        session = transaction.session
        ana = session.scalars(select(User).where(User.email == "ana@example.com")).one()
        set_password(session, ana.id, password)
        deals = select(Deal).where(Deal.owner_id == ana.id, Deal.status == "open", Deal.stage != last)
        deal = session.scalars(deals.order_by(Deal.probability.desc()).limit(1)).one()
        transaction.update(deal, {"rep_probability": REP_SAYS})
        key = create_token(session, user_id=ana.id, name="walk", now=transaction.now)
        return Walk(store, clock, home, ana.id, ana.email, password, key, deal.id)


def wait_for(condition: Callable[[], bool], seconds: float = 10.0) -> float:
    """Wait until something is so; return how long that took."""
    began = time.perf_counter()
    while not condition():
        assert time.perf_counter() - began < seconds, "it did not happen in time"
        time.sleep(0.01)
    return time.perf_counter() - began


def caught_up(store: Store) -> bool:
    with store.reading() as session:
        cursor = session.get(Cursor, CURSOR)
        if cursor is None or cursor.position != newest_sequence(session):
            return False
        return session.scalar(select(func.count()).select_from(Work)) == 0


def newest(session: Session, deal_id: int) -> Prediction:
    return list_predictions(session, "deal", deal_id)[0]


def test_the_walk(walk: Walk) -> None:
    ana_logs_a_call_through_the_api(walk)
    the_activity_and_the_stage_were_written_together(walk)
    the_batch_was_asked_from_one_instant_that_knew_the_changes(walk)
    the_row_behind_the_score_is_the_row_that_training_would_make(walk)
    the_champion_was_made_for_these_features(walk)
    the_prediction_is_there_once_and_the_record_shows_it(walk)
    ana_sees_what_changed_and_why_and_who_says_so(walk)
    ninety_days_later_the_prediction_is_judged_as_it_was_made(walk)


def ana_logs_a_call_through_the_api(walk: Walk) -> None:
    wait_for(lambda: caught_up(walk.store), 60)  # the model is loaded, and her opinion taken note of
    walk.clock.advance(timedelta(minutes=10))
    deal = walk.api.get(f"/api/v1/deals/{walk.deal}").json
    walk.before = deal["prediction"]["probability"]
    stages = [stage.key for stage in open_stages()]
    walk.stage = stages[stages.index(deal["stage"]) + 1]
    answer = walk.api.post(f"/api/v1/deals/{walk.deal}/activities", {**CALL, "stage": walk.stage})
    assert answer.status == 201, answer.text
    walk.activity = answer.json["id"]
    assert answer.json["subject"] == CALL["subject"]

    def moved() -> bool:
        shown = walk.api.get(f"/api/v1/deals/{walk.deal}").json["prediction"]
        return bool(shown["probability"] != walk.before)

    assert wait_for(moved) < 2.0


def the_activity_and_the_stage_were_written_together(walk: Walk) -> None:
    with walk.store.reading() as session:
        logged = session.get_one(Activity, walk.activity)
        assert (logged.deal_id, logged.owner_id) == (walk.deal, walk.ana)
        assert session.get_one(Deal, walk.deal).stage == walk.stage
        created = session.scalars(
            select(Change).where(Change.record_type == "activity", Change.record_id == walk.activity)
        ).one()
        moved = session.scalars(
            select(Change)
            .where(Change.record_type == "deal", Change.record_id == walk.deal, Change.field == "stage")
            .order_by(Change.id.desc())
        ).first()
        assert moved is not None
        assert moved.new == walk.stage
        assert (created.sequence, created.actor_id, created.source) == (moved.sequence, walk.ana, "api")


def the_batch_was_asked_from_one_instant_that_knew_the_changes(walk: Walk) -> None:
    wait_for(lambda: caught_up(walk.store))
    with walk.store.reading() as session:
        walk.prediction = newest(session, walk.deal)
        cause = session.get_one(Change, walk.prediction.cause_change_id)
        assert cause.recorded_at <= walk.prediction.as_of
        assert cause.record_id in {walk.activity, walk.deal}
        session.expunge_all()


def the_row_behind_the_score_is_the_row_that_training_would_make(walk: Walk) -> None:
    as_of = walk.answer().as_of
    feature_set = feature_set_for(walk.store, TASK)
    alone = build_frame(walk.store, Cohort.single("deal", walk.deal, as_of), feature_set)
    everything = open_records(walk.store, "deal", as_of)
    among = build_frame(walk.store, everything, feature_set)
    row = int(np.flatnonzero(everything.ids == walk.deal)[0])
    assert len(everything) > 20
    assert among.iloc[[row]].reset_index(drop=True).equals(alone)


def the_champion_was_made_for_these_features(walk: Walk) -> None:
    bundle = walk.bundle
    assert bundle.version == walk.answer().model_version
    present = feature_set_for(walk.store, TASK).select(bundle.features)
    assert bundle.feature_set_fingerprint == present.fingerprint
    again = score_records(walk.store, bundle, [walk.deal], walk.answer().as_of)[0]
    assert again.probability == walk.answer().probability, "to the bit"
    assert again.reasons == walk.answer().reasons
    log_odds = sum(reason["log_odds"] for reason in again.reasons)
    assert 1 / (1 + math.exp(-log_odds)) == pytest.approx(walk.answer().probability, abs=1e-9)


def the_prediction_is_there_once_and_the_record_shows_it(walk: Walk) -> None:
    rescorer = Rescorer(walk.store, Champions(walk.store, scorer_loader(walk.home, walk.store)))
    assert rescorer.run_once() == 0, "nothing is left to do"
    with walk.store.reading() as session:
        answers = select(func.count()).where(
            Prediction.record_id == walk.deal,
            Prediction.task == TASK,
            Prediction.as_of == walk.answer().as_of,
        )
        assert session.scalar(answers) == 1
        deal = session.get_one(Deal, walk.deal)
        assert deal.probability == walk.answer().probability
        assert deal.previous_probability == walk.before
        assert (deal.scored_at, deal.model_version) == (walk.answer().as_of, walk.answer().model_version)
        assert deal.rep_probability == REP_SAYS
    assert caught_up(walk.store)


def ana_sees_what_changed_and_why_and_who_says_so(walk: Walk) -> None:
    browser = Http(walk.address)
    form = browser.get("/login").text
    answer = browser.submit(
        "/login", csrf_token=csrf_of(form), email=walk.email, password=walk.password, next=""
    )
    assert answer.status == 302
    page = browser.get(f"/deals/{walk.deal}").text
    text = re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", page[page.index("<main") :])))
    probability, reasons = walk.answer().probability, walk.answer().reasons
    assert probability is not None
    assert reasons
    assert f"{probability:.0%}" in text
    assert f"was {walk.before:.0%}" in text
    assert f"The rep says {REP_SAYS:.0%}." in text
    assert walk.answer().model_version in text
    strongest = max((r for r in reasons if r["group"] != "base"), key=lambda reason: abs(reason["log_odds"]))
    assert str(strongest["en"]) in text
    assert CALL["subject"] in text


def ninety_days_later_the_prediction_is_judged_as_it_was_made(walk: Walk) -> None:
    walk.clock.advance(timedelta(days=30))
    with walk.store.transaction() as transaction:
        close_deal(transaction, transaction.get(Deal, walk.deal), won=True)
    walk.clock.advance(timedelta(days=61))
    prediction = walk.answer()
    assert prediction.probability is not None
    question = Cohort.single("deal", walk.deal, prediction.as_of)
    labels = deal_labels(walk.store, question)
    until = prediction.as_of + timedelta(days=prediction.horizon_days)
    assert micros(prediction.as_of) < labels.event_at[0] <= micros(until) <= labels.known_until[0]
    with walk.store.reading() as session:
        stored = session.get_one(Prediction, prediction.id)
        assert (stored.probability, stored.as_of, stored.model_version) == (
            prediction.probability,
            prediction.as_of,
            prediction.model_version,
        )
        assert stored.recorded_at - stored.as_of < timedelta(seconds=5), "made then, not afterwards"
    asked_again = score_records(walk.store, walk.bundle, [walk.deal], prediction.as_of)[0]
    assert asked_again.probability == prediction.probability, "what happened since changes nothing"
    loss = loss_of(np.array([prediction.probability]), np.array([True]))
    assert loss[0] == pytest.approx(-math.log(prediction.probability))
