"""Scores over HTTP: one record now, and the history of its predictions."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from flask.testing import FlaskClient

from crm_core.clock import FixedClock
from crm_core.deals import close_deal
from crm_core.leads import convert_lead
from crm_core.records import Deal, Lead
from crm_core.store import Store
from tests.factories import make_deal, make_lead
from tests.serving.conftest import Cast
from tests.serving.hand_made import HandMadeModel

Promote = Callable[..., HandMadeModel]


@pytest.fixture
def lead(store: Store, cast: Cast) -> Lead:
    with store.transaction() as transaction:
        return make_lead(transaction, owner_id=cast["Ana"].id)


def test_a_lead_scored_now_shows_the_score(
    client: FlaskClient, store: Store, cast: Cast, lead: Lead, promote: Promote, clock: FixedClock
) -> None:
    promote(probability=lambda record_id: 0.42)
    answer = client.post(f"/api/v1/leads/{lead.id}/score", headers=cast.header("Ana"))
    assert answer.status_code == 200
    given = answer.get_json()
    assert given["probability"] == 0.42
    assert given["as_of"] == clock.now().isoformat().replace("+00:00", "Z")
    assert (given["model_version"], given["horizon_days"]) == ("lead_scoring-1", 90)
    assert {"group", "feature", "value", "log_odds", "en", "zh"} <= set(given["reasons"][0])
    shown = client.get(f"/api/v1/leads/{lead.id}", headers=cast.header("Ana")).get_json()["prediction"]
    assert (shown["state"], shown["probability"], shown["score"]) == ("scored", 0.42, 42)
    assert shown["reasons"] == given["reasons"]


def test_scoring_changes_no_version_of_the_record(
    client: FlaskClient, cast: Cast, lead: Lead, promote: Promote
) -> None:
    promote()
    for _ in range(3):
        client.post(f"/api/v1/leads/{lead.id}/score", headers=cast.header("Ana"))
    assert client.get(f"/api/v1/leads/{lead.id}", headers=cast.header("Ana")).get_json()["version"] == 1


def test_the_same_question_twice_has_one_answer(
    client: FlaskClient, cast: Cast, lead: Lead, promote: Promote, clock: FixedClock
) -> None:
    promote()
    path = f"/api/v1/leads/{lead.id}"
    first = client.post(f"{path}/score", headers=cast.header("Ana")).get_json()
    assert client.post(f"{path}/score", headers=cast.header("Ana")).get_json() == first
    clock.advance(timedelta(minutes=1))
    second = client.post(f"{path}/score", headers=cast.header("Ana")).get_json()
    history = client.get(f"{path}/predictions", headers=cast.header("Ana")).get_json()["items"]
    assert [item["id"] for item in history] == [second["id"], first["id"]]


def test_without_a_model_there_is_no_score_but_a_reason(client: FlaskClient, cast: Cast, lead: Lead) -> None:
    answer = client.post(f"/api/v1/leads/{lead.id}/score", headers=cast.header("Ana"))
    assert answer.status_code == 409
    assert answer.get_json()["type"] == "urn:crm:problem:no-champion"
    assert "crm train lead_scoring" in answer.get_json()["detail"]


def test_too_little_data_is_said_and_no_number_invented(
    client: FlaskClient, cast: Cast, lead: Lead, promote: Promote
) -> None:
    promote(probability=lambda record_id: None)
    client.post(f"/api/v1/leads/{lead.id}/score", headers=cast.header("Ana"))
    shown = client.get(f"/api/v1/leads/{lead.id}", headers=cast.header("Ana")).get_json()["prediction"]
    assert shown["state"] == "not_enough_data"
    assert (shown["probability"], shown["score"], shown["grade"], shown["reasons"]) == (None, None, None, [])


def test_what_is_closed_is_not_scored(
    client: FlaskClient, store: Store, cast: Cast, lead: Lead, promote: Promote
) -> None:
    promote(), promote("win_probability")
    with store.transaction() as transaction:
        convert_lead(transaction, transaction.get(Lead, lead.id))
        deal = make_deal(transaction, owner_id=cast["Ana"].id)
        close_deal(transaction, transaction.get(Deal, deal.id), won=False, lost_reason="price")
    closed = client.post(f"/api/v1/leads/{lead.id}/score", headers=cast.header("Ana"))
    assert (closed.status_code, closed.get_json()["type"]) == (409, "urn:crm:problem:lead-not-open")
    closed = client.post(f"/api/v1/deals/{deal.id}/score", headers=cast.header("Ana"))
    assert (closed.status_code, closed.get_json()["type"]) == (409, "urn:crm:problem:deal-not-open")


def test_a_stage_that_requires_more_of_a_deal_names_the_fields(
    client: FlaskClient, store: Store, cast: Cast
) -> None:
    with store.transaction() as transaction:
        deal = make_deal(transaction, owner_id=cast["Ana"].id, amount=None)
    refused = client.post(
        f"/api/v1/deals/{deal.id}/stage", json={"stage": "proposal"}, headers=cast.header("Ana")
    )
    problem = refused.get_json()
    assert (refused.status_code, problem["type"]) == (422, "urn:crm:problem:missing-fields")
    assert [fault["field"] for fault in problem["errors"]] == ["account_id", "amount"]
    assert problem["detail"] == "deal 1 needs account_id, amount before it can enter the stage 'proposal'"


def test_a_deal_keeps_what_its_rep_believes(
    client: FlaskClient, store: Store, cast: Cast, promote: Promote
) -> None:
    promote("win_probability", probability=lambda record_id: 0.2)
    with store.transaction() as transaction:
        deal = make_deal(transaction, owner_id=cast["Ana"].id, rep_probability=0.7)
    client.post(f"/api/v1/deals/{deal.id}/score", headers=cast.header("Ana"))
    read = client.get(f"/api/v1/deals/{deal.id}", headers=cast.header("Ana")).get_json()
    assert (read["rep_probability"], read["prediction"]["probability"], read["amount"]) == (0.7, 0.2, "12000")
