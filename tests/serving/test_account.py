"""One's own keys and logins, on a page."""

from __future__ import annotations

import re
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from tests.serving.conftest import Cast, csrf_of, logged_in


def submit(client: FlaskClient, path: str, **fields: Any) -> TestResponse:
    token = csrf_of(client.get("/account").text)
    return client.post(path, data={"csrf_token": token, **fields})


def test_a_key_is_made_shown_once_and_works_as_far_as_it_was_made(app: Flask, cast: Cast) -> None:
    client = logged_in(app, cast["Ana"])
    page = submit(client, "/account/keys", name="export", scope=["read", "score"], days="90").text
    found = re.search(r"crm_[\w-]{43}", page)
    assert found is not None
    headers = {"Authorization": f"Bearer {found[0]}"}
    me = app.test_client().get("/api/v1/me", headers=headers).get_json()
    assert (me["name"], me["scopes"]) == ("Ana", ["read", "score"])
    assert me["expires_at"] == "2026-05-31T09:00:00Z"
    again = client.get("/account").text
    assert found[0] not in again
    assert "export" in again
    assert submit(client, f"/account/keys/{me['token_id']}/revoke").status_code == 302
    assert app.test_client().get("/api/v1/me", headers=headers).status_code == 401


@pytest.mark.parametrize(
    "wrong",
    [{"name": ""}, {"name": "x" * 121}, {"name": "a\x00"}, {"scope": []}, {"scope": ["all"]}, {"days": "7"}],
    ids=str,
)
def test_a_key_that_makes_no_sense_is_refused(app: Flask, cast: Cast, wrong: dict[str, Any]) -> None:
    client = logged_in(app, cast["Ana"])
    answer = submit(client, "/account/keys", **{"name": "x", "scope": ["read"], "days": "30", **wrong})
    assert answer.status_code == 422
    assert not re.search(r"crm_[\w-]{43}", answer.text)


def test_nobody_revokes_anothers_key_on_the_page(app: Flask, cast: Cast) -> None:
    key_id = app.test_client().get("/api/v1/me", headers=cast.header("Ana")).get_json()["token_id"]
    assert submit(logged_in(app, cast["Adam"]), f"/account/keys/{key_id}/revoke").status_code == 404
    assert app.test_client().get("/api/v1/me", headers=cast.header("Ana")).status_code == 200


def test_the_page_speaks_chinese_too(app: Flask, cast: Cast) -> None:
    assert "API 密钥" in logged_in(app, cast["Ana"], language="zh").get("/account").text
