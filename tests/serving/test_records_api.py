"""Every operation on every record type, over HTTP."""

from __future__ import annotations

from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import event

from crm_core.access import FieldRight, RoleRight
from crm_core.record_types import declare_record_type
from crm_core.records import RECORD_TYPES, CustomRecord
from crm_core.store import Store
from serving.api.records_schemas import COLLECTIONS
from tests.factories import make_account, make_deal, make_lead, make_order
from tests.serving.api import Api, tag_version
from tests.serving.conftest import Cast
from tests.serving.record_bodies import make_samples, path_of
from tests.serving.record_fixtures import *  # noqa: F403  its fixtures
from tests.serving.test_lists import show


@pytest.mark.parametrize("record_type", RECORD_TYPES)
def test_no_schema_takes_or_gives_a_credential_and_none_takes_a_score(record_type: str) -> None:
    each = COLLECTIONS[record_type]
    taken = set(each.taken.model_fields) | set(each.patched.model_fields)
    assert not (taken | set(each.given.model_fields)) & {"password_hash", "deleted_at", "type_id"}
    assert not taken & {"id", "version", "recorded_at", "probability", "score", "reasons", "model_version"}
    assert set(each.patched.model_fields) < set(each.taken.model_fields)


def test_what_is_given_is_to_the_letter_what_the_schema_would_write(
    adam: Api, store: Store, cast: Cast, lead: int
) -> None:
    samples = make_samples(store, cast["Ana"].id)
    for record_type, collection in COLLECTIONS.items():
        path = path_of(record_type).removeprefix("/api/v1/")
        made = adam("POST", path, {**samples[record_type].body, "custom": {"note": "泵", "size": "1.50"}})
        assert made.status_code == 201, made.text
        one = adam("GET", f"{path}/{made.json['id']}").text
        for text, schema in ((made.text, collection.given), (one, collection.given)):
            assert schema.model_validate_json(text).model_dump_json() == text
        page = adam("GET", f"{path}?limit=200").text
        assert collection.page.model_validate_json(page).model_dump_json() == page
    scored = adam("GET", f"leads/{lead}")
    assert scored.json["prediction"]["probability"] == 0.7
    assert COLLECTIONS["lead"].given.model_validate_json(scored.text).model_dump_json() == scored.text


# ------------------------------------------------------------------------------------------------ lists


def test_a_list_gives_the_fields_asked_for(ana: Api, deals: None) -> None:
    some = ana("GET", "deals?fields=name,custom.size&filter=custom.size:eq:1&limit=2").json["items"]
    always = {"id", "version", "occurred_at", "recorded_at", "withheld"}
    assert [each.keys() for each in some] == [always | {"name", "custom"}] * 2
    assert [each["custom"] for each in some] == [{"size": "1"}] * 2
    one = ana("GET", f"deals/{some[0]['id']}?fields=amount")
    assert one.json.keys() == always | {"amount"}
    for name in ("probability", "score,grade", "prediction,reasons"):
        scores = ana("GET", f"deals?fields=name,{name}&limit=2").json["items"]
        assert [each.keys() for each in scores] == [always | {"name", "prediction"}] * 2
    assert ana("GET", "orders?fields=probability").status_code == 422


def test_what_is_hidden_is_not_sorted_filtered_or_selected_by(ana: Api, store: Store, deals: None) -> None:
    with store.transaction() as transaction:
        transaction.session.add_all(
            FieldRight(role="rep", record_type="deal", field=name, read=False, write=False)
            for name in ("amount", "custom.size", "probability")
        )
    for name in ("amount", "custom.size", "probability"):
        for query in (f"order=-{name}", f"filter={name}:not_empty", f"fields={name}"):
            refused = ana("GET", f"deals?{query}")
            assert (refused.status_code, refused.json["type"]) == (403, "urn:crm:problem:access-denied"), (
                query
            )
    assert ana("GET", "deals?fields=prediction").status_code == 403
    (first, *_) = ana("GET", "deals").json["items"]
    assert {"amount"} <= set(first["withheld"])
    assert first["amount"] is None
    assert "size" not in (first["custom"] or {})
    for body in ({"amount": "1"}, {"custom": {"size": "1"}}):
        assert ana("PATCH", f"deals/{first['id']}", body).status_code == 403


def test_a_credential_is_no_field_even_for_whom_it_was_granted(adam: Api, store: Store) -> None:
    with store.transaction() as transaction:
        transaction.session.add(
            FieldRight(role="admin", record_type="user", field="password_hash", read=True, write=True)
        )
    for query in ("order=password_hash", "filter=password_hash:contains:a", "fields=password_hash"):
        assert adam("GET", f"users?{query}").status_code in {403, 422}, query
    assert adam("PATCH", "users/1", {"password_hash": "x"}).status_code == 422
    assert "argon2" not in adam("GET", "users?limit=200").text


def test_a_page_takes_as_many_queries_as_records_do_not_matter(adam: Api, store: Store, cast: Cast) -> None:
    def queries(path: str) -> int:
        counted: list[str] = []

        def count(*args: Any) -> None:
            counted.append(args[2])

        event.listen(store.engine, "before_cursor_execute", count)
        try:
            assert adam("GET", path).status_code == 200
        finally:
            event.remove(store.engine, "before_cursor_execute", count)
        return len(counted)

    with store.transaction() as transaction:
        for _ in range(30):
            make_lead(transaction, owner_id=cast["Ana"].id)
    queries("leads")  # the first one notes that the key was used
    few, many = queries("leads?limit=2"), queries("leads?limit=200")
    assert few == many <= 16
    lead = adam("GET", "leads?limit=1").json["items"][0]["id"]
    assert queries(f"leads/{lead}/timeline") <= 30


# ------------------------------------------------------------------------------------------------ conditions


def test_a_new_score_makes_a_new_tag_and_fails_nobodys_edit(ana: Api, store: Store, cast: Cast) -> None:
    with store.transaction() as transaction:
        lead = make_lead(transaction, owner_id=cast["Ana"].id).id
    before = ana("GET", f"leads/{lead}")
    show(store, {lead: 0.9})
    after = ana("GET", f"leads/{lead}", If_None_Match=before.headers["ETag"])
    assert (after.status_code, after.json["prediction"]["probability"]) == (200, 0.9)
    assert after.headers["ETag"] != before.headers["ETag"]
    assert tag_version(after) == tag_version(before)
    edit = ana("PATCH", f"leads/{lead}", {"phone": "1"}, If_Match=before.headers["ETag"])
    assert (edit.status_code, edit.json["prediction"]["probability"]) == (200, 0.9)
    weak = ana("PATCH", f"leads/{lead}", {"phone": "2"}, If_Match=f"W/{edit.headers['ETag']}")
    assert weak.status_code == 200
    for tag in ('"x"', '"1"', "nonsense", '"99999999999999999999-0"', edit.headers["ETag"]):
        assert ana("PATCH", f"leads/{lead}", {"phone": "3"}, If_Match=tag).status_code == 412, tag
    assert ana("PATCH", f"leads/{lead}", {"phone": "3"}, If_Match="*").status_code == 200


# ------------------------------------------------------------------------------------------------ who may


SHARED = {"team", "user", "campaign", "product", "article"}


def test_who_may_do_what_with_every_type(client: FlaskClient, store: Store, cast: Cast) -> None:
    adam = Api(client, cast, "Adam")
    for record_type, sample in make_samples(store, cast["Ana"].id).items():
        path, body = path_of(record_type), dict(sample.body)
        if "owner_id" in COLLECTIONS[record_type].taken.model_fields:
            body["owner_id"] = cast["Ana"].id
        where = adam("POST", path, body).headers["Location"]
        check_readers(client, cast, record_type, where, path)
        check_writers(client, cast, record_type, where, path, body)


def check_readers(client: FlaskClient, cast: Cast, record_type: str, where: str, path: str) -> None:
    record_id = int(where.rsplit("/", 1)[1])
    sees = {"Ana", "Mara", "Dana", "Adam"} | ({"Otto"} if record_type in SHARED else set())
    for name in ("Ana", "Mara", "Dana", "Adam", "Otto"):
        api = Api(client, cast, name)
        expected = 200 if name in sees else 404
        for each in (where, f"{where}/timeline"):
            assert api("GET", each).status_code == expected, (name, each)
        listed = {each["id"] for each in api("GET", f"{path}?limit=200").json["items"]}
        assert (record_id in listed) == (name in sees), (name, path)
    for method, each in (("GET", path), ("POST", path), ("GET", where), ("PATCH", where), ("DELETE", where)):
        assert client.open(each, method=method).status_code == 401


def check_writers(
    client: FlaskClient, cast: Cast, record_type: str, where: str, path: str, body: dict[str, Any]
) -> None:
    writes = {"Adam"} if record_type in SHARED else {"Ana", "Mara", "Adam"}
    writes |= {"Mara"} if record_type == "campaign" else set()
    writes |= {"Ana", "Mara", "Otto"} if record_type == "article" else set()
    for name in ("Dana", "Otto", "Ana", "Mara", "Adam"):
        api = Api(client, cast, name)
        unseen = name == "Otto" and record_type not in SHARED
        expected = 200 if name in writes else 404 if unseen else 403
        assert api("PATCH", where, {}).status_code == expected, (name, record_type)
        if expected != 200:
            assert api("DELETE", where).status_code == expected, (name, record_type)
            assert api("POST", path, body).status_code in {403, 422}, (name, record_type)
            assert api("PUT", f"{path}/by-external-id/zz", body).status_code in {403, 422}, (
                name,
                record_type,
            )


def test_nobody_makes_themselves_an_administrator(client: FlaskClient, store: Store, cast: Cast) -> None:
    with store.transaction() as transaction:
        transaction.session.add(RoleRight(role="manager", record_type="user", read="all", write="all"))
    mara, me = Api(client, cast, "Mara"), f"users/{cast['Mara'].id}"
    assert mara("PATCH", me, {"role": "admin"}).status_code == 403
    adam = Api(client, cast, "Adam")
    for change in ({"role": "rep"}, {"active": False}):
        assert adam("PATCH", f"users/{cast['Adam'].id}", change).status_code == 403
    assert adam("DELETE", f"users/{cast['Adam'].id}").status_code == 403
    taken = adam("POST", "users", {"name": "X", "email": "ana@example.com", "role": "rep"})
    assert (taken.status_code, taken.json["field"]) == (422, "user.email")


def test_a_rep_gives_nothing_away_and_makes_nothing_for_nobody(ana: Api, store: Store, cast: Cast) -> None:
    with store.transaction() as transaction:
        foreign = make_account(transaction, owner_id=cast["Otto"].id).id
        lead = make_lead(transaction, owner_id=cast["Ana"].id).id
    for owner_id in (cast["Otto"].id, None):
        assert ana("PATCH", f"leads/{lead}", {"owner_id": owner_id}).status_code == 403
    hidden = ana("POST", "deals", {"name": "D", "account_id": foreign})
    assert (hidden.status_code, hidden.json["field"]) == (422, "deal.account_id")
    about = ana("POST", "comments", {"body": "x", "subject_type": "account", "subject_id": foreign})
    assert (about.status_code, about.json["field"]) == (422, "comment.subject_id")
    assert ana("POST", "lines", {"quantity": 2}).status_code == 403
    made = ana("POST", "accounts", {"name": "Hill"}).json
    assert made["owner_id"] == cast["Ana"].id


def test_what_points_at_a_deleted_record_stays(ana: Api, adam: Api, store: Store, cast: Cast) -> None:
    with store.transaction() as transaction:
        account = make_account(transaction, owner_id=cast["Ana"].id).id
        deal = make_deal(transaction, owner_id=cast["Ana"].id, account_id=account).id
        order = make_order(transaction, account_id=account).id
    assert ana("DELETE", f"accounts/{account}").status_code == 204
    assert ana("GET", f"deals/{deal}").json["account_id"] == account
    assert ana("PATCH", f"deals/{deal}", {"name": "Still there"}).status_code == 200
    assert ana("GET", f"orders/{order}").status_code == 404, "it belongs to nobody now"
    assert adam("GET", f"orders/{order}").status_code == 200
    again = ana("PATCH", f"deals/{deal}", {"account_id": None})
    assert again.json["account_id"] is None
    back = ana("PATCH", f"deals/{deal}", {"account_id": account})
    assert (back.status_code, back.json["field"]) == (422, "deal.account_id")


@pytest.mark.parametrize("name", ["leads", "lead", "order", "castle"])
def test_only_declared_types_are_below_custom(adam: Api, name: str) -> None:
    calls = [
        ("GET", f"custom/{name}"),
        ("POST", f"custom/{name}"),
        ("PUT", f"custom/{name}/by-external-id/x"),
    ]
    for method, path in (*calls, ("GET", f"custom/{name}/1"), ("DELETE", f"custom/{name}/1")):
        refused = adam(method, path, {"name": "x"} if method in {"POST", "PUT"} else None)
        assert (refused.status_code, refused.json["type"]) == (422, "urn:crm:problem:unknown-record-type")
    operation = {"op": "create", "type": f"custom/{name}", "record": {"name": "x"}}
    (result,) = adam("POST", "batch", {"operations": [operation]}).json["results"]
    assert result["status"] == 422


def test_whether_there_is_a_record_of_another_declared_type_is_not_told(
    ana: Api, store: Store, cast: Cast
) -> None:
    with store.transaction() as transaction:
        shop, _ = (
            declare_record_type(transaction.session, name=name, label_en=name, label_zh=name)
            for name in ("shop", "machine")
        )
        made = transaction.create(CustomRecord(type_id=shop.id, name="Harbour", owner_id=cast["Otto"].id))
        there, nowhere = made.id, made.id + 1
    for method, body in (("GET", None), ("PATCH", {"name": "x"}), ("DELETE", None)):
        told = [ana(method, f"custom/machine/{each}", body).json["detail"] for each in (there, nowhere)]
        assert told == [f"no machine with id {each}" for each in (there, nowhere)]


def test_no_two_users_have_addresses_that_differ_in_case_alone(adam: Api) -> None:
    refused = adam("POST", "users", {"name": "Ana", "email": "ANA@example.com", "role": "rep"})
    assert (refused.status_code, refused.json["field"]) == (422, "user.email")
