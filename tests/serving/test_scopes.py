"""A key opens what it was made for, of what its user may do."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import event, select
from werkzeug.test import TestResponse

from crm_core.clock import FixedClock
from crm_core.store import Store
from crm_core.tokens import EVERYTHING, Scope, Token, create_token
from tests.serving.conftest import Cast


def header_for(store: Store, cast: Cast, name: str, *scopes: Scope) -> dict[str, str]:
    with store.transaction() as transaction:
        key = create_token(
            transaction.session,
            user_id=cast[name].id,
            name="scoped",
            now=transaction.now,
            scopes=scopes or None,
        )
    return {"Authorization": f"Bearer {key}"}


def is_refused(answer: TestResponse) -> bool:
    if answer.status_code != 403:
        return False
    slug: str = answer.get_json()["type"]
    return slug == "urn:crm:problem:insufficient-scope"


def operations(client: FlaskClient) -> list[tuple[str, str, Scope]]:
    paths: dict[str, dict[str, Any]] = client.get("/api/openapi.json").get_json()["paths"]
    return [
        (method.upper(), path, Scope(operation["security"][0]["key"][0]))
        for path, item in paths.items()
        for method, operation in item.items()
        if path.startswith("/api/")
    ]


@pytest.mark.parametrize("scope", Scope)
def test_a_key_of_one_scope_opens_the_operations_that_name_it_and_no_other(
    client: FlaskClient, store: Store, cast: Cast, scope: Scope
) -> None:
    headers = header_for(store, cast, "Adam", scope)
    for method, path, needed in operations(client):
        url = (
            path.replace("{type}", "leads")
            .replace("{task}", "churn")
            .replace("{id}", "1")
            .replace("{delivery_id}", "1")
        )
        answer = client.open(url, method=method, headers=headers, json={})
        assert is_refused(answer) == (scope is not needed), (method, path)


def test_the_exceptions_are_the_ones_that_are_meant(client: FlaskClient) -> None:
    usual = {"GET": Scope.READ}
    special = {
        f"{method} {path}": scope
        for method, path, scope in operations(client)
        if scope is not usual.get(method, Scope.WRITE)
    }
    assert special["POST /api/v1/leads/{id}/score"] is Scope.SCORE
    assert special["GET /api/v1/models/{task}/history"] is Scope.MODELS
    assert special["POST /api/v1/people/erase"] is Scope.PEOPLE
    assert "GET /api/v1/leads" not in special


def test_a_refusal_says_which_scope_is_missing(client: FlaskClient, store: Store, cast: Cast) -> None:
    answer = client.post(
        "/api/v1/leads", json={"name": "Wang"}, headers=header_for(store, cast, "Ana", Scope.READ)
    )
    assert is_refused(answer)
    assert answer.headers["WWW-Authenticate"] == (
        'Bearer realm="crm", error="insufficient_scope", scope="write"'
    )


def test_a_scope_gives_no_more_than_the_user_may(client: FlaskClient, store: Store, cast: Cast) -> None:
    headers = header_for(store, cast, "Ana", Scope.PEOPLE)
    answer = client.post("/api/v1/people/find", json={"mail": "x@y.example"}, headers=headers)
    assert answer.get_json()["type"] == "urn:crm:problem:access-denied"


def test_a_key_without_scopes_opens_everything(client: FlaskClient, store: Store, cast: Cast) -> None:
    with store.reading() as session:
        assert set(session.scalars(select(Token.scopes))) == {None}
    assert client.post("/api/v1/leads", json={"name": "Wang"}, headers=cast.header("Ana")).status_code == 201
    assert set(Scope) == EVERYTHING


def test_the_last_use_is_known_to_a_minute_without_a_write_for_each_read(
    app: Flask, store: Store, cast: Cast, clock: FixedClock
) -> None:
    client, journal = app.test_client(), app.extensions["crm"].journal
    writes: list[str] = []
    event.listen(
        store.engine,
        "before_cursor_execute",
        lambda _c, _u, statement, *_: writes.append(statement) if statement.startswith("UPDATE") else None,
    )
    for _ in range(7):
        client.get("/api/v1/me", headers=cast.header("Ana"))
        journal.flush()
        clock.advance(timedelta(seconds=10))
    assert len(writes) == 2
    with store.reading() as session:
        used = session.scalars(select(Token.last_used_at).where(Token.user_id == cast["Ana"].id)).one()
    assert used == clock.now() - timedelta(seconds=10)
