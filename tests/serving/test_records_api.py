"""Every operation on every record type, over HTTP."""

from __future__ import annotations

from typing import Any

import pytest
from flask.testing import FlaskClient

from crm_core.records import RECORD_TYPES
from crm_core.store import Store
from serving.api.records_schemas import COLLECTIONS
from tests.serving.api import Api
from tests.serving.both_databases import *  # noqa: F403  its fixtures
from tests.serving.conftest import Cast
from tests.serving.record_bodies import Sample, make_samples, path_of


@pytest.fixture
def adam(client: FlaskClient, cast: Cast) -> Api:
    return Api(client, cast, "Adam")


@pytest.fixture
def ana(client: FlaskClient, cast: Cast) -> Api:
    return Api(client, cast, "Ana")


def tag_version(answer: Any) -> str:
    return str(answer.headers["ETag"]).strip('"').split("-")[0]


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


@pytest.mark.parametrize("record_type", RECORD_TYPES)
def test_no_schema_takes_or_gives_a_credential_and_none_takes_a_score(record_type: str) -> None:
    each = COLLECTIONS[record_type]
    taken = set(each.taken.model_fields) | set(each.patched.model_fields)
    assert not (taken | set(each.given.model_fields)) & {"password_hash", "deleted_at", "type_id"}
    assert not taken & {"id", "version", "recorded_at", "probability", "score", "reasons", "model_version"}
    assert set(each.patched.model_fields) < set(each.taken.model_fields)
