"""Segments and views over HTTP: kept, shared, asked page by page, and ended."""

from __future__ import annotations

import pytest
from flask.testing import FlaskClient

from crm_core.access import FieldRight
from crm_core.store import Store
from tests.factories import make_lead
from tests.serving.api import Api
from tests.serving.conftest import Cast

BIG = {"type": "lead", "name": "大客户", "filter": ["employees:ge:500"], "shared": "all"}


def test_each_gets_their_own_records_of_a_shared_segment_page_by_page(
    store: Store, client: FlaskClient, cast: Cast
) -> None:
    ana, mara, otto = (Api(client, cast, name) for name in ("Ana", "Mara", "Otto"))
    with store.transaction() as transaction:
        mine = [make_lead(transaction, owner_id=cast["Ana"].id, employees=500 + n).id for n in range(3)]
        other = make_lead(transaction, owner_id=cast["Otto"].id, employees=900).id
        make_lead(transaction, owner_id=cast["Ana"].id, employees=10)
    made = ana("POST", "segments", BIG)
    assert (made.status_code, made.json["name"], made.json["filter"]) == (201, "大客户", ["employees:ge:500"])
    path = f"segments/{made.json['id']}"
    assert [each("GET", path).json["count"] for each in (ana, mara, otto)] == [3, 3, 1]
    seen, cursor = [], ""
    for _ in range(3):
        page = ana("GET", f"{path}/members?limit=1&fields=employees{cursor}").json
        seen += [item["id"] for item in page["items"]]
        cursor = f"&cursor={page['next_cursor']}"
    assert sorted(seen) == mine
    assert page["next_cursor"] is None
    assert [item["id"] for item in otto("GET", f"{path}/members").json["items"]] == [other]
    again = ana("POST", "segments", {**BIG, "filter": ["employees:ge:502"]})
    assert again.json["id"] == made.json["id"], "one's own of the same name is replaced"
    assert ana("GET", path).json["count"] == 1
    listed = otto("GET", "segments?type=lead").json["items"]
    assert [(each["id"], each["user_id"]) for each in listed] == [(made.json["id"], cast["Ana"].id)]
    assert otto("GET", "segments?type=deal").json["items"] == []
    assert otto("GET", "segments?type=nothing").status_code == 422


def test_only_who_keeps_a_segment_or_an_administrator_ends_it(client: FlaskClient, cast: Cast) -> None:
    ana, otto, adam = (Api(client, cast, name) for name in ("Ana", "Otto", "Adam"))
    shared = ana("POST", "segments", BIG).json["id"]
    own = ana("POST", "segments", {**BIG, "name": "Own", "shared": "own"}).json["id"]
    assert otto("GET", f"segments/{own}").status_code == 404
    assert otto("GET", f"segments/{own}/members").status_code == 404
    assert otto("DELETE", f"segments/{shared}").status_code == 404
    assert adam("DELETE", f"segments/{own}").status_code == 404
    assert adam("DELETE", f"segments/{shared}").status_code == 204
    assert ana("DELETE", f"segments/{own}").status_code == 204
    assert ana("GET", "segments").json["items"] == []


def test_nobody_keeps_or_asks_what_they_may_not_filter_by(
    store: Store, client: FlaskClient, cast: Cast
) -> None:
    adam, ana = Api(client, cast, "Adam"), Api(client, cast, "Ana")
    with store.transaction() as transaction:
        make_lead(transaction, owner_id=cast["Ana"].id, employees=900)
        hidden = FieldRight(role="rep", record_type="lead", field="employees", read=False, write=False)
        transaction.session.add(hidden)
    assert ana("POST", "segments", BIG).status_code == 403
    assert (
        ana("POST", "views", {"type": "lead", "name": "Big", "asked": {"filter": BIG["filter"]}}).status_code
        == 403
    )
    path = f"segments/{adam('POST', 'segments', BIG).json['id']}"
    assert adam("GET", path).json["count"] == 1
    assert ana("GET", path).json["count"] is None
    assert ana("GET", f"{path}/members").status_code == 403


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({**BIG, "type": "nothing"}, 422),
        ({**BIG, "filter": []}, 422),
        ({**BIG, "filter": ["colour:eq:red"]}, 422),
        ({**BIG, "filter": ["segment:1"]}, 422),
        ({**BIG, "name": " "}, 422),
        ({**BIG, "shared": "world"}, 422),
    ],
)
def test_what_is_no_segment_is_refused(
    client: FlaskClient, cast: Cast, body: dict[str, object], status: int
) -> None:
    assert Api(client, cast, "Ana")("POST", "segments", body).status_code == status


def test_a_view_is_kept_listed_by_type_and_ended(client: FlaskClient, cast: Cast) -> None:
    ana, ben, otto = (Api(client, cast, name) for name in ("Ana", "Ben", "Otto"))
    asked = {"filter": ["region:eq:North"], "order": "-employees", "columns": ["name", "employees"]}
    made = ana("POST", "views", {"type": "lead", "name": "North", "asked": asked, "shared": "team"})
    assert made.status_code == 201
    assert made.json["asked"] == {**asked, "status": None, "owner": "", "q": ""}
    assert ben("GET", "views?type=lead").json["items"] == [made.json]
    assert otto("GET", "views?type=lead").json["items"] == []
    assert ana("GET", "views?type=deal").json["items"] == []
    assert ana("POST", "views", {"type": "nothing", "name": "N", "asked": {}}).status_code == 422
    assert ben("DELETE", f"views/{made.json['id']}").status_code == 404
    assert ana("DELETE", f"views/{made.json['id']}").status_code == 204
