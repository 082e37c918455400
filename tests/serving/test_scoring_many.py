"""Scores of many records over HTTP: an answer or a problem for each, in the order asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import func, select

from crm_core.access import FieldRight
from crm_core.leads import convert_lead
from crm_core.opting_out import set_scoring_opt_out
from crm_core.predictions import NewPrediction, Prediction
from crm_core.records import Account, Deal, Lead
from crm_core.store import Store
from tests.factories import make_account, make_deal, make_lead
from tests.serving.conftest import Cast
from tests.serving.hand_made import HandMadeModel

Promote = Callable[..., HandMadeModel]


def make_leads(store: Store, cast: Cast, count: int, owner: str = "Ana") -> list[int]:
    with store.transaction() as transaction:
        return [make_lead(transaction, owner_id=cast[owner].id).id for _ in range(count)]


def ask(client: FlaskClient, cast: Cast, ids: list[int], kind: str = "leads", who: str = "Ana") -> Any:
    return client.post(f"/api/v1/{kind}/scores", json={"ids": ids}, headers=cast.header(who))


def test_rows_come_in_the_order_asked_for_with_a_problem_where_there_is_no_score(
    client: FlaskClient, store: Store, cast: Cast, promote: Promote
) -> None:
    promote(probability=lambda record_id: record_id / 100)
    first, second, converted, silent = make_leads(store, cast, 4)
    (bens,) = make_leads(store, cast, 1, "Ben")
    with store.transaction() as transaction:
        convert_lead(transaction, transaction.get(Lead, converted))
        set_scoring_opt_out(transaction, transaction.get(Lead, silent), opted_out=True)
    answer = ask(client, cast, [second, bens, converted, first, silent, 9_999, second])
    rows = answer.get_json()["items"]
    assert answer.status_code == 200
    assert [row["id"] for row in rows] == [second, bens, converted, first, silent, 9_999, second]
    assert [row["status"] for row in rows] == [200, 404, 409, 200, 409, 404, 200]
    assert [row["problem"] and row["problem"]["type"].rpartition(":")[2] for row in rows] == [
        None,
        "record-not-found",
        "lead-not-open",
        None,
        "scoring-opt-out",
        "record-not-found",
        None,
    ]
    assert rows[0]["prediction"]["probability"] == second / 100
    assert rows[0] == rows[6]


def test_what_is_answered_stands_on_the_records_and_in_the_history_once(
    client: FlaskClient, store: Store, cast: Cast, promote: Promote
) -> None:
    model = promote(probability=lambda record_id: 0.25)
    ids = make_leads(store, cast, 30)
    rows = ask(client, cast, ids).get_json()["items"]
    with store.reading() as session:
        stored = {one.record_id: one.id for one in session.scalars(select(Prediction))}
        assert [row["prediction"]["id"] for row in rows] == [stored[record_id] for record_id in ids]
        assert set(session.scalars(select(Lead.probability))) == {0.25}
    assert len(model.asked) == 1, "all are asked about together"
    assert ask(client, cast, ids).get_json()["items"] == rows, "the same instant is the same question"
    with store.reading() as session:
        assert session.scalar(select(func.count()).select_from(Prediction)) == 30


@pytest.mark.parametrize(
    ("kind", "task", "make"),
    [
        ("leads", "lead_scoring", make_lead),
        ("deals", "win_probability", make_deal),
        ("customers", "churn", make_account),
    ],
)
def test_all_that_is_scored_may_be_asked_about_at_once(
    client: FlaskClient,
    store: Store,
    cast: Cast,
    promote: Promote,
    kind: str,
    task: str,
    make: Callable[..., Lead | Deal | Account],
) -> None:
    promote(task)
    with store.transaction() as transaction:
        ids = [make(transaction, owner_id=cast["Ana"].id).id for _ in range(2)]
    assert [row["prediction"]["task"] for row in ask(client, cast, ids, kind).get_json()["items"]] == [
        task
    ] * 2


def test_a_record_that_breaks_the_model_costs_the_others_nothing(
    client: FlaskClient, store: Store, cast: Cast, promote: Promote
) -> None:
    ids = make_leads(store, cast, 5)

    def probability(record_id: int) -> float:
        return 1 / (record_id - ids[3])

    promote(probability=probability)
    rows = ask(client, cast, ids).get_json()["items"]
    assert [row["status"] for row in rows] == [200, 200, 200, 500, 200]
    assert rows[3]["problem"]["detail"] == "The cause is in the log, under the request id."


def test_what_the_model_is_not_asked_of_is_a_row_of_its_own(
    client: FlaskClient, store: Store, cast: Cast, promote: Promote, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = promote()
    ids = make_leads(store, cast, 2)
    whole = model.score

    def score(*asked: Any) -> list[NewPrediction]:
        return whole(*asked)[:1]

    monkeypatch.setattr(model, "score", score)
    assert [
        row["problem"] and row["problem"]["type"] for row in ask(client, cast, ids).get_json()["items"]
    ] == [
        None,
        "urn:crm:problem:not-enough-data",
    ]


def test_whole_requests_are_refused_for_what_no_row_can_help(
    client: FlaskClient, store: Store, cast: Cast, promote: Promote
) -> None:
    ids = make_leads(store, cast, 1)
    assert ask(client, cast, ids).get_json()["type"] == "urn:crm:problem:no-champion"
    promote()
    assert ask(client, cast, []).status_code == 422
    assert ask(client, cast, list(range(1, 202))).status_code == 422
    assert ask(client, cast, [0]).status_code == 422
    assert ask(client, cast, ids, "teams").status_code == 422
    with store.transaction() as transaction:
        transaction.session.add(
            FieldRight(role="rep", record_type="lead", field="probability", read=False, write=False)
        )
    assert ask(client, cast, ids).status_code == 403
