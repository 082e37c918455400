"""Administrators look after webhooks over HTTP, and nobody else does."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient

from crm_core.store import Store
from tests.serving.conftest import Cast
from tests.serving.hooked import *  # noqa: F403  the fixtures, and what was told
from tests.serving.hooked import API, created, types
from tests.serving.listening import Listener
from tests.serving.test_bad_input import BAD, check_problem


def test_administrators_look_after_webhooks(
    store: Store,
    client: FlaskClient,
    cast: Cast,
    make: Callable[..., dict[str, Any]],
    listener: Listener,
    run: Callable[[], None],
) -> None:
    webhook, adam = make("deal.won"), cast.header("Adam")
    path = f"{API}/{webhook['id']}"
    changed = client.patch(path, json={"name": "Shop", "event_types": ["lead.*"]}, headers=adam).get_json()
    assert (changed["name"], changed["event_types"], changed["url"]) == ("Shop", ["lead.*"], listener.url)
    assert client.patch(path, json={"active": False}, headers=adam).get_json()["active"] is False
    created(store)
    run()
    assert client.patch(path, json={"active": True}, headers=adam).get_json()["active"] is True
    run()
    assert listener.received == [], "what happened while it was off is not told"
    assert client.post(f"{path}/test", headers=adam).status_code == 202
    run()
    assert types(listener) == ["webhook.test"]
    page = client.get(f"{path}/deliveries", headers=adam).get_json()
    (delivery,) = page["items"]
    assert (delivery["type"], delivery["state"], delivery["attempts"]) == ("webhook.test", "done", 1)
    assert delivery["content"] == json.loads(listener.received[0].body)
    again = client.post(f"{path}/deliveries/{delivery['id']}/redeliver", headers=adam)
    assert again.status_code == 202
    run()
    assert len({received.headers["webhook-id"] for received in listener.received}) == 1
    assert len(listener.received) == 2
    assert client.delete(path, headers=adam).status_code == 204
    assert client.get(path, headers=adam).status_code == 404
    assert client.get(API, headers=adam).get_json() == {"items": [], "next_cursor": None}


def test_every_event_type_is_listed(client: FlaskClient, cast: Cast) -> None:
    listed = client.get(f"{API}/event-types", headers=cast.header("Adam")).get_json()["items"]
    assert {"lead.created", "deal.won", "alert.raised", "model.promoted", "order.deleted"} <= set(listed)


@pytest.mark.parametrize(
    "wrong",
    [
        {"url": "http://10.0.0.1/"},
        {"url": "ftp://example.com/"},
        {"url": "https://user@example.com/"},
        {"event_types": []},
        {"event_types": ["lead.exploded"]},
        {"event_types": ["*.created"]},
        {"event_types": ["lead.created\x00"]},
        {"name": ""},
        {"name": "\x00"},
        {"owner_id": 10_000},
        {"least_change": 2},
        {"secret": "mine"},
    ],
    ids=str,
)
def test_what_cannot_work_is_refused(client: FlaskClient, cast: Cast, wrong: dict[str, Any]) -> None:
    body = {"name": "x", "url": "https://example.com/", "event_types": ["*"], **wrong}
    assert client.post(API, json=body, headers=cast.header("Adam")).status_code == 422


def test_hostile_bodies_change_nothing(
    client: FlaskClient, store: Store, cast: Cast, make: Callable[..., dict[str, Any]]
) -> None:
    path = f"{API}/{make()['id']}"
    before = client.get(API, headers=cast.header("Adam")).get_json()
    for bad in (each for each in BAD if each.body is not None):
        content_type = {"content_type": bad.content_type} if bad.content_type else {}
        for answer in (
            client.post(API, data=bad.body, headers=cast.header("Adam"), **content_type),
            client.patch(path, data=bad.body, headers=cast.header("Adam"), **content_type),
        ):
            check_problem(answer, bad.status, bad.slug)
    hostile: tuple[Any, ...] = (
        7,
        "",
        "\u0000",
        "x" * 100_000,
        [],
        {},
        True,
        10**30,
        -1,
        [None],
        [[]],
        "\u202e",
    )
    for field in ("name", "url", "event_types", "owner_id", "least_change", "active"):
        for value in hostile:
            if (field, value) in [("active", True), ("name", "\u202e")]:
                continue
            answer = client.patch(path, json={field: value}, headers=cast.header("Adam"))
            assert (answer.status_code, answer.content_type) == (422, "application/problem+json"), (
                field,
                value,
            )
    assert client.get(API, headers=cast.header("Adam")).get_json() == before


def test_webhooks_come_page_by_page(
    client: FlaskClient, cast: Cast, make: Callable[..., dict[str, Any]]
) -> None:
    made = [make()["id"] for _ in range(5)]
    pages, cursor = [], ""
    for _ in range(3):
        page = client.get(f"{API}?limit=2{cursor}", headers=cast.header("Adam")).get_json()
        pages.append([each["id"] for each in page["items"]])
        cursor = f"&cursor={page['next_cursor']}"
    assert pages == [made[:2], made[2:4], made[4:]]
    assert page["next_cursor"] is None
    for query in ("limit=0", "limit=201", "cursor=x", "cursor=-1"):
        assert client.get(f"{API}?{query}", headers=cast.header("Adam")).status_code == 422


@pytest.mark.parametrize("name", ["Ana", "Mara", "Dana"])
def test_nobody_else_may(
    client: FlaskClient, cast: Cast, make: Callable[..., dict[str, Any]], name: str
) -> None:
    path = f"{API}/{make()['id']}"
    body = {"name": "x", "url": "https://example.com/", "event_types": ["*"]}
    calls = [
        ("get", API, None),
        ("post", API, body),
        ("get", f"{API}/event-types", None),
        ("get", path, None),
        ("patch", path, {"name": "y"}),
        ("delete", path, None),
        ("post", f"{path}/test", None),
        ("post", f"{path}/rotate-secret", None),
        ("get", f"{path}/deliveries", None),
        ("post", f"{path}/deliveries/1/redeliver", None),
    ]
    found = [
        getattr(client, how)(to, json=sent, headers=cast.header(name)).status_code for how, to, sent in calls
    ]
    assert found == [403] * len(calls)
