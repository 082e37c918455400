"""Pages of lists: in order, complete, each record once."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from flask.testing import FlaskClient

from crm_core.changes import Source
from crm_core.clock import FixedClock
from crm_core.leads import disqualify_lead
from crm_core.predictions import write_predictions
from crm_core.records import Lead
from crm_core.store import Store
from tests.factories import make_lead
from tests.serving.both_databases import *  # noqa: F403  its fixtures
from tests.serving.conftest import Cast
from tests.serving.hand_made import prediction

PROBABILITIES = [0.5, 0.5, 0.9, None, 0.5, 0.1, "never", 0.5, 0.30000000000000004, 0.3, "never", None, 0.5]
"""With equal ones, unknown ones, and leads that were never scored."""


def show(store: Store, probabilities: dict[int, float | None]) -> None:
    """Put predictions on leads."""
    with store.transaction(source=Source.MODEL) as transaction:
        write_predictions(
            transaction,
            task="lead_scoring",
            record_type="lead",
            as_of=transaction.now,
            model_version="lead_scoring-1",
            horizon_days=90,
            predictions=[prediction(lead_id, value) for lead_id, value in probabilities.items()],
        )


@pytest.fixture
def leads(store: Store, cast: Cast, clock: FixedClock) -> list[int]:
    ids = []
    for number in range(len(PROBABILITIES)):
        clock.advance(timedelta(minutes=number % 3))
        with store.transaction() as transaction:
            ids.append(make_lead(transaction, owner_id=cast["Ana"].id, company=f"Company {number}").id)
    scored = zip(ids, PROBABILITIES, strict=True)
    show(store, {lead: value for lead, value in scored if not isinstance(value, str)})
    return ids


def turn_pages(
    client: FlaskClient, cast: Cast, query: str, limit: int, cursor: str | None = None
) -> list[dict[str, Any]]:
    items = []
    for _ in range(50):
        more = f"&cursor={cursor}" if cursor else ""
        page = client.get(f"/api/v1/leads?limit={limit}&{query}{more}", headers=cast.header("Ana")).get_json()
        items += page["items"]
        cursor = page["next_cursor"]
        if cursor is None:
            return items
        assert len(page["items"]) == limit
    raise AssertionError("the pages never end")


def probability_of(item: dict[str, Any]) -> float | None:
    found = item["prediction"]
    return found["probability"] if isinstance(found, dict) else None


@pytest.mark.parametrize("limit", [1, 2, 3, 5, 13, 50])
@pytest.mark.parametrize("order", ["-probability", "probability", "-occurred_at", "occurred_at"])
def test_turning_pages_shows_every_lead_once_and_in_order(
    client: FlaskClient, cast: Cast, leads: list[int], order: str, limit: int
) -> None:
    items = turn_pages(client, cast, f"order={order}", limit)
    assert sorted(item["id"] for item in items) == leads
    values = [item["occurred_at"] if "occurred" in order else probability_of(item) for item in items]
    known = [value for value in values if value is not None]
    assert values == known + [None] * (len(values) - len(known)), "what is not known comes last"
    assert known == sorted(known, reverse=order.startswith("-"))
    equal = [
        (one["id"], two["id"])
        for (one, two), same in zip(pairwise(items), pairwise(values), strict=True)
        if same[0] == same[1]
    ]
    assert all(one < two for one, two in equal)


def test_a_lead_that_arrives_while_pages_are_turned_moves_no_other(
    client: FlaskClient, store: Store, cast: Cast, leads: list[int]
) -> None:
    first = client.get("/api/v1/leads?limit=5", headers=cast.header("Ana")).get_json()
    with store.transaction() as transaction:
        late = make_lead(transaction, owner_id=cast["Ana"].id).id
    show(store, {late: 0.99})
    rest = turn_pages(client, cast, "", 5, first["next_cursor"])
    seen = [item["id"] for item in first["items"] + rest]
    assert sorted(seen) == leads


def test_a_cursor_of_another_order_is_refused(client: FlaskClient, cast: Cast, leads: list[int]) -> None:
    first = client.get("/api/v1/leads?limit=5", headers=cast.header("Ana")).get_json()
    query = f"/api/v1/leads?order=occurred_at&cursor={first['next_cursor']}"
    assert client.get(query, headers=cast.header("Ana")).status_code == 422


@pytest.mark.parametrize(
    ("search", "found"),
    [
        ("company 1", {"Company 1", "Company 10", "Company 11", "Company 12"}),
        ("COMPANY 7", {"Company 7"}),
        ("%", set()),
        ("_", set()),
        ("\\", set()),
        ("' OR 1=1 --", set()),
    ],
)
def test_searching(client: FlaskClient, cast: Cast, leads: list[int], search: str, found: set[str]) -> None:
    answer = client.get("/api/v1/leads", query_string={"search": search}, headers=cast.header("Ana"))
    assert {item["company"] for item in answer.get_json()["items"]} == found


def test_chinese_names_are_found_by_two_characters(client: FlaskClient, store: Store, cast: Cast) -> None:
    with store.transaction() as transaction:
        make_lead(transaction, owner_id=cast["Ana"].id, company="上海精工机械有限公司")
    answer = client.get("/api/v1/leads", query_string={"search": "精工"}, headers=cast.header("Ana"))
    assert [item["company"] for item in answer.get_json()["items"]] == ["上海精工机械有限公司"]


def test_only_open_leads_are_listed_unless_asked(
    client: FlaskClient, store: Store, cast: Cast, leads: list[int]
) -> None:
    with store.transaction() as transaction:
        disqualify_lead(transaction, transaction.get(Lead, leads[0]), reason="no budget")
    assert leads[0] not in {item["id"] for item in turn_pages(client, cast, "", 50)}
    assert [item["id"] for item in turn_pages(client, cast, "status=disqualified", 50)] == [leads[0]]
