"""What the score of one record costs its database: every statement is pinned, so that none comes back."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select, text

from crm_core.clock import FixedClock
from crm_core.deals import close_deal
from crm_core.leads import convert_lead
from crm_core.opting_out import set_scoring_opt_out
from crm_core.predictions import Prediction
from crm_core.promotions import Promotion
from crm_core.records import Activity, Deal, Lead
from crm_core.store import Store
from features.cohort import Cohort
from features.feature_set import feature_set_for
from models.building import build_bundle, gather
from models.bundle import ModelBundle
from models.questions import questions_of
from models.scoring import score_records
from models.tasks import get_task
from serving.app import create_app
from serving.champions import Champions
from serving.modelling import BundleScorer
from serving.settings import Settings
from tests.factories import make_account, make_activity, make_contract, make_deal, make_lead, make_order
from tests.serving.both_databases import *  # noqa: F403  its fixtures
from tests.serving.conftest import Cast
from tests.serving.statements import Sent, sent_by

TELLING = {"sqlite": 8, "postgresql": 1}
"""What telling the score of a lead costs: of SQLite statements, of PostgreSQL round trips.

SQLite: BEGIN; how the lead stands, its fields, their changes; its activities, which of them were moved, their
changes; ROLLBACK. PostgreSQL is sent all of it at once.
"""

SCORING = {"sqlite": 15, "postgresql": 2}
"""What scoring a lead costs.

SQLite: BEGIN IMMEDIATE and COMMIT for an instant that is settled; reading as above; BEGIN IMMEDIATE, who
asked not to be scored, the row, what the record shows, COMMIT. PostgreSQL writes with one statement.
"""


def model_of(store: Store, task_name: str, ids: list[int]) -> ModelBundle:
    """Return the points by opinion that serve before any outcome is known."""
    task = get_task(task_name).in_store(store)
    features = feature_set_for(store, task_name)
    asked = questions_of(store, task, features, Cohort.at(task.record_type, ids, store.clock.now()))
    return build_bundle(gather(asked, store, features, int(asked.as_of.max()))).bundle


def promote(store: Store, bundle: ModelBundle) -> None:
    with store.transaction() as transaction:
        transaction.session.add(
            Promotion(
                task=bundle.task,
                model_version=bundle.version or bundle.task,
                sha256="0" * 64,
                run_id="test",
                promoted_at=transaction.now,
                reason="test",
            )
        )


@pytest.fixture
def leads(store: Store, cast: Cast, clock: FixedClock) -> list[Lead]:
    with store.transaction() as transaction:
        found = [make_lead(transaction, owner_id=cast["Ana"].id, employees=10 * n) for n in range(1, 5)]
        for lead in found:
            for kind in ("call", "mail", "meeting"):
                make_activity(transaction, lead_id=lead.id, owner_id=cast["Ana"].id, kind=kind)
    clock.advance(timedelta(days=1))
    return found


@pytest.fixture
def bundles() -> dict[str, ModelBundle]:
    return {}


@pytest.fixture
def app(settings: Settings, store: Store, bundles: dict[str, ModelBundle]) -> Flask:
    champions = Champions(
        store, lambda task, _promotion: BundleScorer(bundle=bundles[task]), look_seconds=600
    )
    return create_app(settings, store, champions)


@pytest.fixture
def lead_model(store: Store, leads: list[Lead], bundles: dict[str, ModelBundle]) -> ModelBundle:
    bundles["lead_scoring"] = model_of(store, "lead_scoring", [lead.id for lead in leads])
    promote(store, bundles["lead_scoring"])
    return bundles["lead_scoring"]


def cost(store: Store, clock: FixedClock, ask: Callable[[], Any]) -> Sent:
    """Return what the cheapest of a few requests sent: of the others, some look up rights again."""
    found = []
    for _ in range(6):
        clock.advance(timedelta(seconds=1))
        with sent_by(store) as sent:
            answer = ask()
        assert answer.status_code == 200, answer.get_json()
        found.append(sent)
    return min(found, key=lambda sent: sent.round_trips)


def test_telling_the_score_of_a_lead_costs_one_look(
    client: FlaskClient, store: Store, cast: Cast, clock: FixedClock, leads: list[Lead], lead_model: Any
) -> None:
    path = f"/api/v1/leads/{leads[0].id}/score-now"
    sent = cost(store, clock, lambda: client.get(path, headers=cast.header("Ana")))
    assert sent.round_trips == TELLING[store.engine.dialect.name], sent.statements


def test_scoring_a_lead_costs_one_look_and_one_write(
    client: FlaskClient, store: Store, cast: Cast, clock: FixedClock, leads: list[Lead], lead_model: Any
) -> None:
    path = f"/api/v1/leads/{leads[0].id}/score"
    sent = cost(store, clock, lambda: client.post(path, headers=cast.header("Ana")))
    assert sent.round_trips == SCORING[store.engine.dialect.name], sent.statements


def test_what_is_read_for_one_lead_is_looked_up_in_an_index(
    client: FlaskClient, store: Store, cast: Cast, clock: FixedClock, leads: list[Lead], lead_model: Any
) -> None:
    if store.engine.dialect.name != "sqlite":
        pytest.skip("PostgreSQL reads small tables whole")
    path = f"/api/v1/leads/{leads[0].id}/score-now"
    sent = cost(store, clock, lambda: client.get(path, headers=cast.header("Ana")))
    selects = [each for each in sent.statements if each.startswith("SELECT")]
    assert len(selects) == 6
    with store.reading() as session:
        plans = [
            row
            for each in selects
            for row in session.execute(text("EXPLAIN QUERY PLAN " + each.replace(":", r"\:")))
        ]
    assert [plan.detail for plan in plans if plan.detail.startswith("SCAN")] == []


def test_what_is_told_in_one_look_is_what_was_always_told(
    store: Store,
    clock: FixedClock,
    leads: list[Lead],
    lead_model: ModelBundle,
    client: FlaskClient,
    cast: Cast,
) -> None:
    path = f"/api/v1/leads/{leads[1].id}/score-now"
    told = client.get(path, headers=cast.header("Ana")).get_json()
    (alone,) = score_records(store, lead_model, [leads[1].id], clock.now())
    among = {
        new.record_id: new
        for new in score_records(store, lead_model, [lead.id for lead in leads] * 3, clock.now())
    }
    assert told["score"] == alone.score == among[leads[1].id].score
    assert [each["log_odds"] for each in told["reasons"]] == [each["log_odds"] for each in alone.reasons]
    assert alone == among[leads[1].id]


def test_an_activity_that_was_moved_away_is_still_known_as_it_was(
    store: Store,
    clock: FixedClock,
    leads: list[Lead],
    lead_model: ModelBundle,
    client: FlaskClient,
    cast: Cast,
) -> None:
    """What one look does not show is read again, in a state of its own, from the beginning."""
    before = clock.now()
    clock.advance(timedelta(hours=1))
    with store.transaction() as transaction:
        moved = transaction.session.scalars(
            select(Activity.id).where(Activity.lead_id == leads[0].id)
        ).first()
        transaction.update(transaction.get(Activity, moved or 0), {"lead_id": leads[1].id})
    path = f"/api/v1/leads/{leads[0].id}/score"
    clock.advance(timedelta(hours=1))
    with sent_by(store) as sent:
        answer = client.post(path, headers=cast.header("Ana"))
    assert answer.status_code == 200
    assert sent.round_trips > SCORING[store.engine.dialect.name]
    asked = [lead.id for lead in leads] * 3
    together = {new.record_id: new for new in score_records(store, lead_model, asked, clock.now())}
    assert [each["log_odds"] for each in answer.get_json()["reasons"]] == [
        each["log_odds"] for each in together[leads[0].id].reasons
    ]
    (then,) = score_records(store, lead_model, [leads[0].id], before)
    assert (
        then == {new.record_id: new for new in score_records(store, lead_model, asked, before)}[leads[0].id]
    )


def test_a_refused_score_reads_and_writes_nothing_more(
    client: FlaskClient, store: Store, cast: Cast, leads: list[Lead], lead_model: ModelBundle
) -> None:
    with store.transaction() as transaction:
        set_scoring_opt_out(transaction, transaction.get(Lead, leads[0].id), opted_out=True)
        convert_lead(transaction, transaction.get(Lead, leads[1].id))
    for lead, who, status in ((leads[0], "Ana", 409), (leads[1], "Ana", 409), (leads[2], "Otto", 404)):
        for method, what in (("GET", "score-now"), ("POST", "score")):
            given = client.open(f"/api/v1/leads/{lead.id}/{what}", method=method, headers=cast.header(who))
            assert given.status_code == status, given.get_json()
    with store.reading() as session:
        assert session.scalars(select(Prediction)).all() == []


DEALS = {"sqlite": (21, 28), "postgresql": (1, 2)}
"""What telling and scoring a deal cost: it leads to a customer and an owner, and this one to a team.

PostgreSQL finds by itself what the deal leads to, and tells in the same go how far the log goes: what became
of other deals is kept.
"""

CUSTOMERS = {"sqlite": (27, 34), "postgresql": (1, 2)}
"""The same of a customer, who leads nowhere, and has six kinds of events; two of them count twice."""


@pytest.mark.parametrize(
    ("kind", "pinned"), [("deals", DEALS), ("customers", CUSTOMERS)], ids=["deals", "customers"]
)
def test_deals_and_customers_cost_one_look_and_one_write(
    client: FlaskClient,
    store: Store,
    cast: Cast,
    clock: FixedClock,
    bundles: dict[str, ModelBundle],
    kind: str,
    pinned: dict[str, tuple[int, int]],
) -> None:
    with store.transaction() as transaction:
        mine = {"owner_id": cast["Ana"].id}
        accounts = [make_account(transaction, **mine) for _ in range(3)]
        for account in accounts:
            make_contract(transaction, account_id=account.id)
        deals = [make_deal(transaction, account_id=account.id, **mine) for account in accounts]
        for deal in deals:
            make_activity(transaction, deal_id=deal.id, account_id=deal.account_id, **mine)
    clock.advance(timedelta(days=1))
    task, asked = ("win_probability", deals) if kind == "deals" else ("churn", accounts)
    bundles[task] = model_of(store, task, [each.id for each in asked])
    promote(store, bundles[task])
    path, header = f"/api/v1/{kind}/{asked[0].id}", cast.header("Ana")
    told = cost(store, clock, lambda: client.get(f"{path}/score-now", headers=header))
    scored = cost(store, clock, lambda: client.post(f"{path}/score", headers=header))
    assert (told.round_trips, scored.round_trips) == pinned[store.engine.dialect.name]


def test_a_deal_that_changed_hands_is_told_in_one_look_as_it_is_among_all(
    client: FlaskClient, store: Store, cast: Cast, clock: FixedClock, bundles: dict[str, ModelBundle]
) -> None:
    with store.transaction() as transaction:
        mine = {"owner_id": cast["Ana"].id}
        accounts = [make_account(transaction, **mine) for _ in range(2)]
        deals = [make_deal(transaction, account_id=accounts[0].id, **mine) for _ in range(4)]
        for account in accounts:
            make_order(transaction, account_id=account.id)
    clock.advance(timedelta(days=1))
    asked = [deal.id for deal in deals]
    bundles["win_probability"] = bundle = model_of(store, "win_probability", asked)
    promote(store, bundle)
    for who, account_id in (("Ben", accounts[1].id), ("Ana", accounts[0].id), ("Ana", None)):
        clock.advance(timedelta(days=1))
        with store.transaction() as transaction:
            deal = transaction.get(Deal, asked[0])
            transaction.update(deal, {"owner_id": cast[who].id, "account_id": account_id})
    path, header = f"/api/v1/deals/{asked[0]}/score-now", cast.header("Ana")
    told = cost(store, clock, lambda: client.get(path, headers=header))
    assert told.round_trips == DEALS[store.engine.dialect.name][0], told.statements
    together = score_records(store, bundle, asked * 3, clock.now())
    among = {new.record_id: new for new in together}[asked[0]]
    answer = client.get(path, headers=header).get_json()
    assert answer["score"] == among.score
    assert [each["log_odds"] for each in answer["reasons"]] == [each["log_odds"] for each in among.reasons]
    with store.transaction() as transaction:
        close_deal(transaction, transaction.get(Deal, asked[1]), won=True)
    clock.advance(timedelta(days=1))
    among = {new.record_id: new for new in score_records(store, bundle, asked * 3, clock.now())}[asked[0]]
    assert client.get(path, headers=header).get_json()["score"] == among.score
