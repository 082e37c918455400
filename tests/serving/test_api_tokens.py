"""People make, list and revoke their own keys; a key never makes a stronger one."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import select

from crm_core.clock import FixedClock
from crm_core.store import Store
from crm_core.tokens import Scope, Token, create_token
from tests.serving.conftest import Cast


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def make(client: FlaskClient, headers: dict[str, str], **given: Any) -> Any:
    body = {"name": "nightly export", "scopes": ["read"], **given}
    return client.post("/api/v1/tokens", json=body, headers=headers)


def test_a_key_made_over_http_acts_as_its_maker_within_its_scopes(client: FlaskClient, cast: Cast) -> None:
    made = make(client, cast.header("Ana"), scopes=["score", "read"])
    assert made.status_code == 201
    me = client.get("/api/v1/me", headers=bearer(made.get_json()["token"])).get_json()
    assert (me["email"], me["role"], me["scopes"]) == ("ana@example.com", "rep", ["read", "score"])
    assert me["token_id"] == made.get_json()["id"]


def test_the_list_holds_own_keys_and_never_the_keys_themselves(client: FlaskClient, cast: Cast) -> None:
    key = make(client, cast.header("Ana")).get_json()["token"]
    answer = client.get("/api/v1/tokens", headers=cast.header("Ana"))
    assert [item["name"] for item in answer.get_json()["items"]] == ["nightly export", "test"]
    assert key not in answer.text
    assert "hash" not in answer.get_json()["items"][0]


def test_everybodys_keys_are_for_administrators_page_by_page(client: FlaskClient, cast: Cast) -> None:
    path = "/api/v1/tokens?everyone=true&limit=4"
    assert client.get(path, headers=cast.header("Mara")).status_code == 403
    first = client.get(path, headers=cast.header("Adam")).get_json()
    second = client.get(f"{path}&cursor={first['next_cursor']}", headers=cast.header("Adam")).get_json()
    ids = [item["id"] for item in first["items"] + second["items"]]
    assert ids == sorted(ids, reverse=True)
    assert (len(ids), second["next_cursor"]) == (6, None)


def test_a_key_needs_the_scope_admin_and_makes_none_with_more_than_it_has(
    client: FlaskClient, store: Store, cast: Cast
) -> None:
    with store.transaction() as transaction:
        given: dict[str, Any] = {"user_id": cast["Adam"].id, "name": "x", "now": transaction.now}
        reading = create_token(transaction.session, **given, scopes=[Scope.READ])
        limited = create_token(transaction.session, **given, scopes=[Scope.READ, Scope.ADMIN])
    assert make(client, bearer(reading)).status_code == 403
    assert make(client, bearer(limited), scopes=["read", "people"]).status_code == 403
    assert make(client, bearer(limited), scopes=["read"]).status_code == 201


def test_a_key_makes_none_that_outlives_it(
    client: FlaskClient, store: Store, cast: Cast, clock: FixedClock
) -> None:
    ends = clock.now() + timedelta(days=2)
    with store.transaction() as transaction:
        key = create_token(
            transaction.session, user_id=cast["Ana"].id, name="x", now=transaction.now, expires_at=ends
        )
    later = (ends + timedelta(days=1)).isoformat()
    assert make(client, bearer(key), expires_at=later).status_code == 403
    made = make(client, bearer(key)).get_json()
    assert made["expires_at"] == "2026-03-04T09:00:00Z"
    clock.advance(timedelta(days=2))
    assert client.get("/api/v1/me", headers=bearer(made["token"])).status_code == 401


@pytest.mark.parametrize(
    "wrong",
    [
        {"scopes": []},
        {"scopes": ["everything"]},
        {"name": ""},
        {"name": "x" * 121},
        {"name": "a\x00b"},
        {"expires_at": "2001-01-01T00:00:00Z"},
        {"expires_at": "0001-01-01T00:00:00+14:00"},
    ],
)
def test_a_key_that_makes_no_sense_is_refused(client: FlaskClient, cast: Cast, wrong: dict[str, Any]) -> None:
    assert make(client, cast.header("Ana"), **wrong).status_code == 422


@pytest.mark.parametrize(("name", "status"), [("Ana", 200), ("Mara", 404), ("Adam", 200)])
def test_a_key_is_revoked_by_its_owner_or_an_administrator(
    client: FlaskClient, cast: Cast, name: str, status: int
) -> None:
    made = make(client, cast.header("Ana")).get_json()
    answers = [client.delete(f"/api/v1/tokens/{made['id']}", headers=cast.header(name)) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [status, status]
    assert answers[0].data == answers[1].data or status == 404
    opened = client.get("/api/v1/me", headers=bearer(made["token"])).status_code
    assert opened == (401 if status == 200 else 200)


def test_making_and_revoking_leaves_no_key_in_the_database(
    client: FlaskClient, store: Store, cast: Cast
) -> None:
    key = make(client, cast.header("Ana")).get_json()["token"]
    with store.reading() as session:
        kept = [str(vars(token)) for token in session.scalars(select(Token))]
    assert not any(key in text for text in kept)


def test_every_page_says_in_a_header_too_where_the_next_one_is(client: FlaskClient, cast: Cast) -> None:
    header, rest = cast.header("Adam"), "everyone=true&limit=2"
    page = client.get(f"/api/v1/tokens?{rest}", headers=header)
    following = f"/api/v1/tokens?{rest}&cursor={page.get_json()['next_cursor']}"
    assert page.headers["Link"] == f'<{following}>; rel="next"'
    last = client.get("/api/v1/tokens?everyone=true", headers=header)
    assert (last.get_json()["next_cursor"], last.headers.get("Link")) == (None, None)


def test_changes_say_where_the_next_ones_are_while_there_are_more(client: FlaskClient, cast: Cast) -> None:
    page = client.get("/api/v1/changes?limit=1", headers=cast.header("Adam"))
    following = f"/api/v1/changes?limit=1&after={page.get_json()['next_cursor']}"
    assert page.headers["Link"] == f'<{following}>; rel="next"'
    last = client.get("/api/v1/changes?after=latest", headers=cast.header("Adam"))
    assert (last.get_json()["more"], last.headers.get("Link")) == (False, None)
