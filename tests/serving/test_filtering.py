"""Lists of the API by conditions on fields, built in and custom, on both databases."""

from __future__ import annotations

from decimal import Decimal
from typing import Any
from urllib.parse import quote

import pytest
from flask.testing import FlaskClient
from sqlalchemy import select

from crm_core.access import FieldRight
from crm_core.fields import Choice, FieldKind, Known, declare_field
from crm_core.records import Lead
from crm_core.store import Store
from tests.factories import declare_custom, make_deal, make_lead
from tests.serving.both_databases import *  # noqa: F403  its fixtures
from tests.serving.conftest import Cast


@pytest.fixture
def filled(store: Store, cast: Cast) -> None:
    """Three leads and two deals of Ana's, with a grade and an answer to whether there is a tender."""
    with store.transaction() as transaction:
        declare_field(
            transaction.session,
            record_type="lead",
            name="custom.grade",
            kind=FieldKind.CHOICE,
            known=Known.HISTORY,
            choices=[Choice(value="A"), Choice(value="B")],
            label_zh="客户等级",
        )
        declare_custom(transaction, "lead", tender="flag")
        ana = cast["Ana"].id
        make_lead(transaction, name="one", owner_id=ana, employees=5, custom={"grade": "A", "tender": True})
        make_lead(transaction, name="two", owner_id=ana, employees=50, custom={"grade": "B"})
        make_lead(transaction, name="three", owner_id=ana)
        make_lead(transaction, name="four", owner_id=cast["Otto"].id, custom={"grade": "A"})
        make_deal(transaction, name="small", owner_id=ana, amount=Decimal(10))
        make_deal(transaction, name="large", owner_id=ana, amount=Decimal("99999.50"))


def asked(client: FlaskClient, cast: Cast, path: str, *conditions: str) -> Any:
    query = "&".join(f"filter={quote(each)}" for each in conditions)
    return client.get(f"/api/v1/{path}?{query}", headers=cast.header("Ana"))


@pytest.mark.usefixtures("filled")
def test_a_list_holds_what_all_conditions_let_through(client: FlaskClient, cast: Cast) -> None:
    def names(path: str, *conditions: str) -> set[str]:
        return {item["name"] for item in asked(client, cast, path, *conditions).get_json()["items"]}

    assert names("leads", "custom.grade:in:A,B") == {"one", "two"}
    assert names("leads", "custom.grade:in:A,B", "employees:gt:5") == {"two"}
    assert names("leads", "custom.tender:eq:true") == {"one"}
    assert names("leads", "custom.grade:empty") == {"three"}
    assert names("deals", "amount:ge:99999.5", "name:contains:LARG") == {"large"}


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize(
    ("condition", "status", "slug", "said"),
    [
        ("employees", 422, "filter", "expected FIELD:OP"),
        ("employees:gt:many", 422, "filter", "a whole number, got 'many'"),
        ("custom.grade:eq:C", 422, "filter", "one of A, B"),
        ("custom.shoe:eq:1", 422, "unknown-field", "custom.shoe"),
        ("custom.tender:eq:true", 403, "access-denied", "filter by lead.custom.tender"),
    ],
)
def test_a_condition_that_cannot_be_asked_is_a_problem_that_says_why(
    client: FlaskClient, store: Store, cast: Cast, condition: str, status: int, slug: str, said: str
) -> None:
    with store.transaction() as transaction:
        hidden = FieldRight(role="rep", record_type="lead", field="custom.tender", read=False, write=False)
        transaction.session.add(hidden)
    answer = asked(client, cast, "leads", condition)
    assert (answer.status_code, answer.get_json()["type"]) == (status, f"urn:crm:problem:{slug}")
    assert said in answer.get_json()["detail"]


def test_custom_values_go_in_and_out_as_people_write_them(
    client: FlaskClient, store: Store, cast: Cast
) -> None:
    with store.transaction() as transaction:
        declare_custom(transaction, "lead", visit="day", at="instant", cost="money", size="number")
    values = {"visit": "2026-03-02", "at": "2026-03-02T17:00:00+08:00", "cost": "99.50", "size": 2}
    made = client.post("/api/v1/leads", json={"name": "x", "custom": values}, headers=cast.header("Ana"))
    assert made.status_code == 201
    kept = {**values, "at": "2026-03-02T09:00:00Z", "cost": "99.5"}
    assert made.get_json()["custom"] == kept
    with store.reading() as session:
        (custom,) = session.scalars(select(Lead.custom)).all()
    assert custom == {"visit": 20_514, "at": 1_772_442_000_000_000, "cost": 995_000, "size": 2}
    for name, bad in (("visit", "soon"), ("at", "2026-03-02T09:00:00"), ("cost", "much"), ("size", "2")):
        body = {"name": "x", "custom": {name: bad}}
        answer = client.post("/api/v1/leads", json=body, headers=cast.header("Ana"))
        assert (answer.status_code, answer.get_json()["field"]) == (422, f"lead.custom.{name}")


@pytest.mark.usefixtures("filled")
def test_what_may_not_be_seen_may_not_be_asked_for_either(
    client: FlaskClient, store: Store, cast: Cast
) -> None:
    with store.transaction() as transaction:
        for field in ("status", "owner_id"):
            hidden = FieldRight(role="rep", record_type="lead", field=field, read=False, write=False)
            transaction.session.add(hidden)
        made = make_lead(transaction, name="gone", owner_id=cast["Ana"].id, status="disqualified")
    answer = client.get(f"/api/v1/leads?owner_id={made.owner_id}", headers=cast.header("Ana"))
    assert (answer.status_code, answer.get_json()["type"]) == (403, "urn:crm:problem:access-denied")
    every = client.get("/api/v1/leads?status=open", headers=cast.header("Ana")).get_json()["items"]
    assert {item["name"] for item in every} == {"one", "two", "three", "gone"}
