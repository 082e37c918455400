"""What a database has a say in: all types once, the order of lists, and several who write at once."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import func, select

from crm_core.changes import Change
from crm_core.records import Account, Lead
from crm_core.store import Store
from tests.factories import make_account
from tests.serving.api import Api, follow, turn
from tests.serving.both_databases import *  # noqa: F403  its fixtures
from tests.serving.conftest import Cast
from tests.serving.record_bodies import Sample, make_samples, path_of
from tests.serving.record_fixtures import *  # noqa: F403  as above

ORDERS = [("-amount,name", 2), ("amount,-occurred_at,name", 3), ("expected_close_on", 1), ("-custom.size", 4)]


def test_every_type_does_everything(store: Store, cast: Cast, adam: Api) -> None:
    """One test for all types: what is slow is the database, not the calls."""
    for record_type, sample in make_samples(store, cast["Ana"].id).items():
        check_one_life(adam, record_type, sample)


def check_one_life(adam: Api, record_type: str, sample: Sample) -> None:
    path = path_of(record_type)
    body = {**sample.body, "custom": {"note": "n", "size": "1.5"}}
    made = adam("POST", path, body)
    assert made.status_code == 201, (record_type, made.text)
    assert {name: made.json[name] for name in body} == body
    assert made.headers["Location"] == f"{path}/{made.json['id']}"
    read = adam("GET", made.headers["Location"])
    assert (read.status_code, read.json, read.headers["ETag"]) == (200, made.json, made.headers["ETag"])
    same = adam("GET", made.headers["Location"], If_None_Match=read.headers["ETag"])
    assert (same.status_code, same.data, same.headers["ETag"]) == (304, b"", read.headers["ETag"])
    assert made.json["id"] in [each["id"] for each in adam("GET", f"{path}?limit=200").json["items"]]
    check_changes(adam, made, sample)
    check_upsert(adam, record_type, path, sample)
    assert adam("DELETE", made.headers["Location"]).status_code == 204
    for method in ("GET", "DELETE", "PATCH"):
        gone = adam(method, made.headers["Location"], {} if method == "PATCH" else None)
        assert (gone.status_code, gone.content_type) == (404, "application/problem+json"), record_type
    assert made.json["id"] not in [each["id"] for each in adam("GET", f"{path}?limit=200").json["items"]]


def check_changes(adam: Api, made: Any, sample: Sample) -> None:
    where, first = made.headers["Location"], made.headers["ETag"]
    change = {**sample.change, "custom": {"note": None}}
    changed = adam("PATCH", where, change, If_Match=first)
    assert changed.status_code == 200, changed.text
    assert {name: changed.json[name] for name in sample.change} == sample.change
    assert changed.json["custom"] == {"note": None, "size": "1.5"}
    for method, body in (("PATCH", change), ("DELETE", None)):
        stale = adam(method, where, body, If_Match=first)
        assert (stale.status_code, stale.json["type"]) == (412, "urn:crm:problem:stale-record")
    assert adam("GET", where).headers["ETag"] == changed.headers["ETag"]
    again = adam("PATCH", where, change, If_Match=changed.headers["ETag"])
    assert again.json == changed.json, "what is so already changes nothing, nor the version"


def check_upsert(adam: Api, record_type: str, path: str, sample: Sample) -> None:
    where = f"{path}/by-external-id/erp%2F1"
    body = {**sample.body, **({"email": "new@example.com"} if record_type == "user" else {})}
    made = adam("PUT", where, body)
    assert (made.status_code, made.json["external_id"]) == (201, "erp/1"), made.text
    assert made.headers["Location"] == f"{path}/{made.json['id']}"
    again = adam("PUT", where, body)
    assert (again.status_code, again.json, again.headers["ETag"]) == (200, made.json, made.headers["ETag"])
    allowed = {name: value for name, value in sample.change.items() if name != "rep_probability"}
    changed = adam("PUT", where, {**body, **allowed})
    assert changed.status_code == 200, changed.text
    assert {name: changed.json[name] for name in allowed} == allowed
    taken = {**body, "external_id": "erp/1", **({"email": "x@example.com"} if record_type == "user" else {})}
    assert adam("POST", path, taken).status_code == 409
    assert adam("DELETE", changed.json and f"{path}/{changed.json['id']}").status_code == 204
    assert adam("PUT", where, body).status_code == 409, "the id of a deleted record stays its own"


def rank(deal: dict[str, Any], order: str) -> list[Any]:
    """Return what a deal is sorted by, worked out apart from the program: what is empty comes last."""
    key: list[Any] = []
    for field in order.split(","):
        held = (deal["custom"] or {}).get("size") if "custom." in field else deal[field.removeprefix("-")]
        number = 0.0 if held is None else number_of(field.removeprefix("-"), held)
        key.append((held is None, -number if field.startswith("-") else number))
    return [*key, deal["id"]]


def number_of(field: str, held: str) -> float:
    """Return a number for a text in an answer, with the same order."""
    match field:
        case "name":
            return float(held[5])
        case "occurred_at":
            return 0.0  # the clock stands still
        case "expected_close_on":
            return float(held[5:7] + held[8:10])
    return float(held)


@pytest.mark.parametrize(("order", "limit"), ORDERS)
def test_lists_are_sorted_by_several_fields_and_their_pages_fit_together(
    ana: Api, deals: None, order: str, limit: int
) -> None:
    found = turn(ana, f"deals?order={order}&limit={limit}")
    assert len(found) == 8, "without the deleted one"
    assert found == sorted(found, key=lambda deal: rank(deal, order))
    assert found == ana("GET", f"deals?order={order}&limit=200").json["items"]


def test_concurrent_upserts_end_in_one_record(app: Flask, store: Store, cast: Cast) -> None:
    answers: list[Any] = []

    def send(number: int) -> None:
        body = {"name": f"Hill {number}"}
        api = Api(app.test_client(), cast, "Ana")
        answers.append(api("PUT", "accounts/by-external-id/erp-7", body))

    threads = [threading.Thread(target=send, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answer.status_code for answer in answers) == [200] * 7 + [201]
    with store.reading() as session:
        (account,) = session.scalars(select(Account)).all()
        assert account.version == 8
        changes = select(func.count()).where(Change.record_type == "account")
        assert session.scalar(changes) == 8, "its creation, and each other name"


def test_concurrent_batches_wait_for_each_other_and_not_in_a_circle(
    app: Flask, store: Store, cast: Cast
) -> None:
    with store.transaction() as transaction:
        ids = [make_account(transaction, owner_id=cast["Ana"].id).id for _ in range(6)]
    answers: list[Any] = []

    def send(number: int) -> None:
        order = ids if number % 2 else ids[::-1]
        operations = [
            {"op": "update", "type": "accounts", "id": each, "record": {"region": f"R{number}"}}
            for each in order
        ] + [
            {"op": "upsert", "type": "accounts", "external_id": f"x{each}", "record": {"name": f"N{number}"}}
            for each in order
        ]
        answers.append(Api(app.test_client(), cast, "Ana")("POST", "batch", {"operations": operations}))

    threads = [threading.Thread(target=send, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    statuses = [each["status"] for answer in answers for each in answer.json["results"]]
    assert sorted(statuses) == [200] * 42 + [201] * 6
    with store.reading() as session:
        regions = session.scalars(select(Account.region).where(Account.id.in_(ids))).all()
    assert len(set(regions)) == 1, "one of the batches came last, as a whole"


@pytest.mark.parametrize("limit", [1, 2, 4])
def test_its_pages_tell_each_entry_once(ana: Api, lead: int, limit: int) -> None:
    assert turn(ana, f"leads/{lead}/timeline?limit={limit}") == turn(ana, f"leads/{lead}/timeline")


@pytest.mark.parametrize("limit", [1, 2, 1000])
def test_the_feed_tells_every_change_that_may_be_seen_in_order(
    client: FlaskClient, ana: Api, store: Store, cast: Cast, lead: int, limit: int
) -> None:
    found, cursor = follow(ana, "0", limit)
    leads = [(each["action"], each["field"], each["new"]) for each in found if each["record_type"] == "lead"]
    assert leads[0] == ("created", None, None)
    assert set(leads[1:]) == {("updated", "phone", "1"), ("updated", "employees", 4)}
    assert found == sorted(found, key=lambda each: (each["transaction"], each["id"]))
    otto, end = follow(Api(client, cast, "Otto"), "0", limit)
    assert "lead" not in {each["record_type"] for each in otto}
    assert end == cursor, "the cursor moves over what may not be seen"
    assert follow(ana, cursor, limit) == ([], cursor)
    with store.transaction() as transaction:
        transaction.delete(transaction.get(Lead, lead))
    (gone,), _ = follow(ana, cursor, limit)
    assert (gone["action"], gone["record_id"], gone["url"]) == ("deleted", lead, f"/api/v1/leads/{lead}")
