"""Champions are swapped while they answer: no answer is dropped, none mixes two models, others follow."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from flask import Flask
from sqlalchemy import event, select

from crm_core.clock import FixedClock
from crm_core.errors import DamagedModelError, FeatureSetMismatchError
from crm_core.predictions import NewPrediction, Prediction, columns_of
from crm_core.promotions import Promotion
from crm_core.store import Store
from crm_core.writing_back import PredictionColumns
from models.what_if import WhatIf
from serving.app import create_app
from serving.champions import TRY_AGAIN_AFTER, Champions, Scorer
from serving.settings import Settings
from tests.factories import make_lead
from tests.serving.conftest import Cast
from tests.serving.hand_made import HandMadeModel

if TYPE_CHECKING:
    from features.supposed import Supposed

PROMOTIONS = 1_000
TASK = "lead_scoring"


def chance_of(version: str) -> float:
    """What a version says of every lead."""
    return int(version.rpartition("-")[2]) / 10_000


@dataclass
class Numbered:
    """A model whose every word tells its version."""

    model_version: str
    horizon_days: int = 90

    def score(self, store: Store, ids: Sequence[int], as_of: datetime) -> list[NewPrediction]:
        return [self._say(record_id) for record_id in ids]

    def score_many(self, store: Store, ids: Sequence[int], as_of: datetime) -> PredictionColumns:
        return columns_of(self.score(store, ids, as_of), horizon_days=self.horizon_days)

    def score_supposed(self, store: Store, supposed: Supposed, as_of: datetime) -> NewPrediction | None:
        return self._say(supposed.record_id)

    def what_would_change(self, store: Store, record_id: int, as_of: datetime) -> WhatIf:
        chance = chance_of(self.model_version)
        return WhatIf(
            task=TASK, horizon_days=self.horizon_days, high_is_good=True, probability=chance, hints=()
        )

    def _say(self, record_id: int) -> NewPrediction:
        chance = chance_of(self.model_version)
        reason = {"group": "base", "feature": "base", "value": None, "log_odds": chance, "en": "", "zh": ""}
        return NewPrediction(
            record_id=record_id, probability=chance, score=1, grade="D", reasons=[reason], within={90: chance}
        )


def put_in_charge(store: Store, number: int) -> None:
    with store.transaction() as transaction:
        transaction.session.add(
            Promotion(
                task=TASK,
                model_version=f"{TASK}-{number}",
                sha256="0" * 64,
                run_id="hand",
                promoted_at=transaction.now,
                reason="swapped",
            )
        )


class Asker(threading.Thread):
    """Somebody who asks on and on, in one of three ways, and keeps what was answered."""

    def __init__(self, app: Flask, path: str, body: dict[str, Any] | None, header: dict[str, str]) -> None:
        super().__init__(daemon=True)
        self.client, self.path, self.body, self.header = app.test_client(), path, body, header
        self.stop = threading.Event()
        self.statuses: set[int] = set()
        self.said: list[tuple[str, float, float, float]] = []

    def run(self) -> None:
        while not self.stop.wait(0.02):  # the promotions want their turn too
            answer = self.client.post(self.path, json=self.body, headers=self.header)
            self.statuses.add(answer.status_code)
            given = answer.get_json()
            for one in [row["prediction"] for row in given["items"]] if "items" in given else [given]:
                within, reasons = one["within"][0]["probability"], one["reasons"][0]["log_odds"]
                self.said.append((one["model_version"], one["probability"], within, reasons))


@pytest.fixture
def quick_turns() -> Iterator[None]:
    """Threads that take turns ten times as often, so that more happens between two steps of each."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(usual / 10)
    yield
    sys.setswitchinterval(usual)


@pytest.mark.usefixtures("quick_turns")
def test_a_thousand_swaps_drop_no_answer_and_mix_none(store: Store, cast: Cast, settings: Settings) -> None:
    @event.listens_for(store.engine, "connect")
    def _write_quickly(connection: Any, _record: Any) -> None:
        connection.execute("PRAGMA synchronous = OFF")

    store.engine.dispose()  # the disk is not what is tested
    put_in_charge(store, 0)
    champions = Champions(store, lambda _task, promotion: Numbered(promotion.model_version), look_seconds=0)
    with store.transaction() as transaction:
        leads = [make_lead(transaction, owner_id=cast["Ana"].id).id for _ in range(8)]
    app, header = create_app(settings, store, champions), cast.header("Ana")
    askers = [
        Asker(app, f"/api/v1/leads/{leads[0]}/score", None, header),
        Asker(app, f"/api/v1/leads/{leads[1]}/score", None, header),
        Asker(app, "/api/v1/leads/scores", {"ids": leads[2:]}, header),
        Asker(app, "/api/v1/leads/score-hypothetical", {"company": "Neu"}, header),
    ]
    for asker in askers:
        asker.start()
    for number in range(1, PROMOTIONS + 1):
        put_in_charge(store, number)
        champions.refresh()
    for asker in askers:
        asker.stop.set()
    for asker in askers:
        asker.join(20)
        assert asker.statuses == {200}
        assert len(asker.said) > 5
        assert all((chance,) * 3 == (chance_of(version),) * 3 for version, chance, _, _ in asker.said)
        assert all(chance == within == reason for _, chance, within, reason in asker.said)
    assert len({version for asker in askers for version, *_ in asker.said}) > 20, "many of them answered"
    with store.reading() as session:
        stored = session.execute(select(Prediction.model_version, Prediction.probability, Prediction.reasons))
        assert all(
            chance == chance_of(version) == reasons[0]["log_odds"] for version, chance, reasons in stored
        )
    champions.refresh()
    assert champions.get(TASK).scorer.model_version == f"{TASK}-{PROMOTIONS}"


@pytest.fixture
def elsewhere(store: Store, clock: FixedClock) -> Iterator[Store]:
    """The same database, as another process has it open."""
    other = Store(store.url, clock=clock)
    yield other
    other.close()


def test_a_process_that_only_answers_takes_up_what_another_promoted(store: Store, elsewhere: Store) -> None:
    champions = Champions(store, lambda _task, promotion: Numbered(promotion.model_version), look_seconds=0.2)
    put_in_charge(elsewhere, 1)
    assert champions.get(TASK).scorer.model_version == f"{TASK}-1"
    put_in_charge(elsewhere, 2)
    time.sleep(0.25)
    assert champions.get(TASK).scorer.model_version == f"{TASK}-2"


def test_looking_costs_nothing_between_two_looks_and_one_small_query_otherwise(store: Store) -> None:
    statements: list[str] = []
    event.listen(store.engine, "before_cursor_execute", lambda *call: statements.append(call[2]))
    champions = Champions(store, lambda _task, promotion: Numbered(promotion.model_version), look_seconds=60)
    put_in_charge(store, 1)
    champions.get(TASK)
    statements.clear()
    for _ in range(100):
        champions.get(TASK)
    assert statements == []
    champions._looked = 0.0
    champions.get(TASK)
    assert [text.split()[0] for text in statements] == ["BEGIN", "SELECT"]


def test_while_one_loads_the_others_go_on_with_the_model_before(store: Store) -> None:
    loading, go_on = threading.Event(), threading.Event()

    def load(_task: str, promotion: Promotion) -> Scorer:
        if promotion.model_version.endswith("-2"):
            loading.set()
            assert go_on.wait(20)
        return Numbered(promotion.model_version)

    champions = Champions(store, load, look_seconds=0)
    put_in_charge(store, 1)
    champions.get(TASK)
    put_in_charge(store, 2)
    slow = threading.Thread(target=champions.get, args=(TASK,), daemon=True)
    slow.start()
    assert loading.wait(20)
    assert champions.get(TASK).scorer.model_version == f"{TASK}-1"
    go_on.set()
    slow.join(20)
    assert champions.get(TASK).scorer.model_version == f"{TASK}-2"


@pytest.mark.parametrize(
    "error",
    [
        DamagedModelError("not its bytes"),
        FileNotFoundError("gone"),
        FeatureSetMismatchError("made for other features"),
        DamagedModelError("answers about a 'deal', not for lead_scoring"),
    ],
)
def test_a_bad_model_is_told_everywhere_while_the_one_before_serves_and_no_longer_once_it_is_repaired(
    store: Store, cast: Cast, home: Path, clock: FixedClock, error: Exception
) -> None:
    broken = {f"{TASK}-2"}

    def load(_task: str, promotion: Promotion) -> Scorer:
        if promotion.model_version in broken:
            raise error
        return HandMadeModel(model_version=promotion.model_version)

    client = create_app(Settings(home=home), store, Champions(store, load, look_seconds=0)).test_client()
    with store.transaction() as transaction:
        lead = make_lead(transaction, owner_id=cast["Ana"].id)

    def serving() -> tuple[str, str | None, str]:
        answer = client.post(f"/api/v1/leads/{lead.id}/score", headers=cast.header("Ana"))
        state = client.get("/api/v1/models", headers=cast.header("Dana")).get_json()["items"][0]
        trouble = state["trouble"] and state["trouble"]["error"]
        return answer.get_json()["model_version"], trouble, client.get("/readyz").get_json()["status"]

    put_in_charge(store, 1)
    assert serving() == (f"{TASK}-1", None, "ready")
    put_in_charge(store, 2)
    assert serving() == (f"{TASK}-1", type(error).__name__, "degraded")
    broken.clear()
    clock.advance(TRY_AGAIN_AFTER + timedelta(seconds=1))
    assert serving() == (f"{TASK}-2", None, "ready")


def test_readiness_is_told_where_the_store_cannot_be_read(store: Store, cast: Cast, home: Path) -> None:
    champions = Champions(store, lambda _task, promotion: Numbered(promotion.model_version), look_seconds=0)
    client = create_app(Settings(home=home), store, champions).test_client()
    put_in_charge(store, 1)
    assert client.get("/readyz").status_code == 200
    store.engine.dispose()
    database = Path(store.url.removeprefix("sqlite:///"))
    database.write_bytes(b"no database at all, and long enough to be looked at as one" * 40)
    for beside in database.parent.glob(f"{database.name}-*"):
        beside.unlink()
    answer = client.get("/readyz")
    assert (answer.status_code, answer.get_json()["status"]) == (503, "not_ready")
    assert f"{TASK}-1" in [part["detail"] for part in answer.get_json()["parts"]]
