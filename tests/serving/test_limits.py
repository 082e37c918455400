"""Who asks too often is told to wait, and for how long."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from flask import Flask

from crm_core.clock import FixedClock
from crm_core.store import Store
from serving.app import create_app
from serving.champions import Champions
from serving.limits import Limit, place_of
from serving.settings import Settings
from tests.conftest import MONDAY
from tests.serving.conftest import PASSWORD, Cast, csrf_of


@pytest.fixture
def strict(home: Path, store: Store, champions: Champions) -> Flask:
    """An application that lets everybody ask three times a minute."""
    return create_app(Settings(home=home, api_rate=3, anonymous_rate=3, login_rate=3), store, champions)


def test_a_budget_is_spent_and_fills_up_again_evenly() -> None:
    limit = Limit(60)
    spent = [limit.ask("ana", MONDAY) for _ in range(61)]
    assert [each.remaining for each in spent if each] == [*range(59, -1, -1), 0]
    assert [each.refused for each in spent if each] == [False] * 60 + [True]
    assert spent[-1] is not None
    assert spent[-1].retry_after == pytest.approx(1.0)
    later = [limit.ask("ana", MONDAY + timedelta(seconds=5)) for _ in range(6)]
    assert [each.refused for each in later if each] == [False] * 5 + [True]


def test_callers_have_budgets_of_their_own_and_a_clock_set_back_locks_nobody_out() -> None:
    limit = Limit(1)
    asked = [limit.ask(who, MONDAY) for who in ("ana", "ben", "ana")]
    assert [each.refused for each in asked if each] == [False, False, True]
    back = limit.ask("ana", MONDAY - timedelta(hours=1))
    assert back is not None
    assert not back.refused


def test_what_is_kept_of_callers_does_not_grow_for_ever() -> None:
    limit = Limit(60)
    for number in range(25_000):
        limit.ask(number, MONDAY + timedelta(seconds=number / 10))
    assert len(limit._full_at) <= 10_001


def test_many_callers_at_once_are_not_all_kept_and_who_spent_most_is() -> None:
    limit = Limit(60)
    for _ in range(60):
        limit.ask("busy", MONDAY)
    for number in range(25_000):
        limit.ask(number, MONDAY)
    assert len(limit._full_at) <= 10_001
    again = limit.ask("busy", MONDAY)
    assert again is not None
    assert again.refused


@pytest.mark.parametrize(
    ("address", "place"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2::7", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::%eth0", "2001:db8:1:2::/64"),
        ("no:address", "no:address"),
        (None, None),
    ],
)
def test_whoever_has_a_network_of_addresses_has_one_budget(address: str | None, place: str | None) -> None:
    assert place_of(address) == place


def test_zero_is_no_limit() -> None:
    assert Limit(0).ask("ana", MONDAY) is None


def test_a_key_that_asks_too_often_waits_and_others_do_not(
    strict: Flask, cast: Cast, clock: FixedClock
) -> None:
    client = strict.test_client()
    answers = [client.get("/api/v1/leads", headers=cast.header("Ana")) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert [answer.headers["RateLimit-Remaining"] for answer in answers] == ["2", "1", "0", "0"]
    assert answers[3].content_type == "application/problem+json"
    assert answers[3].headers["Retry-After"] == "20"
    assert client.get("/api/v1/leads", headers=cast.header("Ben")).status_code == 200
    clock.advance(timedelta(seconds=20))
    assert client.get("/api/v1/leads", headers=cast.header("Ana")).status_code == 200


def test_an_address_without_a_key_waits_and_a_key_from_there_still_works(strict: Flask, cast: Cast) -> None:
    client = strict.test_client()
    statuses = [client.get("/api/v1/leads").status_code for _ in range(4)]
    assert statuses == [401, 401, 401, 429]
    assert client.get("/api/v1/leads", environ_base={"REMOTE_ADDR": "192.0.2.7"}).status_code == 401
    assert client.get("/api/v1/leads", headers=cast.header("Ana")).status_code == 200


def test_an_address_may_try_so_many_logins_whoever_it_names(strict: Flask, cast: Cast) -> None:
    client = strict.test_client()
    token = csrf_of(client.get("/login").text)
    form = {"csrf_token": token, "password": "wrong"}
    statuses = [
        client.post("/login", data={**form, "email": f"{number}@example.com"}).status_code
        for number in range(4)
    ]
    assert statuses == [401, 401, 401, 429]
    good = {**form, "email": "ana@example.com", "password": PASSWORD}
    refused = client.post("/login", data=good)
    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "20")


def test_an_address_is_not_believed_from_a_header(strict: Flask, cast: Cast) -> None:
    client = strict.test_client()
    statuses = [
        client.get("/api/v1/leads", headers={"X-Forwarded-For": f"192.0.2.{number}"}).status_code
        for number in range(4)
    ]
    assert statuses[-1] == 429


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_health_may_be_asked_for_as_often_as_one_likes(strict: Flask, store: Store, path: str) -> None:
    client = strict.test_client()
    assert {client.get(path).status_code for _ in range(10)} == {200}
