"""Logging in and out, and what protects a session."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import inspect, text
from werkzeug.test import TestResponse

from crm_core.clock import FixedClock
from crm_core.errors import InvalidValueError
from crm_core.logins import ATTEMPTS
from crm_core.records import User
from crm_core.store import Store
from serving import auth
from serving.app import create_app
from serving.auth import new_password, set_password
from serving.champions import Champions
from serving.forecast_making import FORECAST
from serving.logins import try_password
from serving.settings import Settings
from tests.factories import make_lead, make_user
from tests.serving.conftest import PASSWORD, Cast, csrf_of, logged_in


def try_to_log_in(client: FlaskClient, email: str, password: str, after: str = "") -> TestResponse:
    form = client.get("/login", query_string={"next": after})
    return client.post(
        "/login", data={"csrf_token": csrf_of(form.text), "email": email, "password": password, "next": after}
    )


def test_a_person_logs_in_and_out(client: FlaskClient, cast: Cast) -> None:
    assert client.get("/leads").headers["Location"] == "/login?next=/leads"
    answer = try_to_log_in(client, "ANA@example.com ", PASSWORD, "/deals?q=pump")
    assert (answer.status_code, answer.headers["Location"]) == (302, "/deals?q=pump")
    page = client.get("/leads")
    assert page.status_code == 200
    client.post("/logout", data={"csrf_token": csrf_of(page.text)})
    assert client.get("/leads").status_code == 302


@pytest.mark.parametrize(
    ("email", "password"),
    [
        ("ana@example.com", "wrong"),
        ("nobody@example.com", PASSWORD),
        ("ana@example.com", ""),
        ("", ""),
        ("a\x00b", "\x00"),
    ],
)
def test_a_wrong_password_and_an_unknown_address_get_the_same_answer(
    client: FlaskClient, cast: Cast, email: str, password: str
) -> None:
    answer = try_to_log_in(client, email, password)
    assert answer.status_code == 401
    assert "This address and password do not fit together." in answer.text
    assert client.get("/leads").status_code == 302


@pytest.mark.parametrize(
    "after",
    [
        "//evil.example",
        "https://evil.example",
        "/\\evil.example",
        "javascript:x",
        "\t//evil",
        "/\n/evil.example",
        "",
    ],
)
def test_nobody_is_sent_to_another_site_after_logging_in(client: FlaskClient, cast: Cast, after: str) -> None:
    assert try_to_log_in(client, "ana@example.com", PASSWORD, after).headers["Location"] == "/"


def test_too_many_failures_lock_the_address_for_a_while(
    client: FlaskClient, cast: Cast, clock: FixedClock
) -> None:
    for _ in range(ATTEMPTS):
        assert try_to_log_in(client, "ana@example.com", "wrong").status_code == 401
    assert try_to_log_in(client, "Ana@example.com", PASSWORD).status_code == 429
    assert try_to_log_in(client, "ben@example.com", PASSWORD).status_code == 302
    clock.advance(timedelta(minutes=16))
    fresh = client.application.test_client()
    assert try_to_log_in(fresh, "ana@example.com", PASSWORD).status_code == 302


def test_a_success_forgets_the_failures_before(app: Flask, cast: Cast) -> None:
    for _ in range(3):
        for _ in range(ATTEMPTS - 1):
            assert try_to_log_in(app.test_client(), "ana@example.com", "wrong").status_code == 401
        assert try_to_log_in(app.test_client(), "ana@example.com", PASSWORD).status_code == 302


def test_a_form_without_its_token_does_nothing(client: FlaskClient, cast: Cast) -> None:
    answer = client.post("/login", data={"email": "ana@example.com", "password": PASSWORD})
    assert answer.status_code == 400
    assert "The form was open for too long" in answer.text
    assert client.get("/leads").status_code == 302


@pytest.mark.parametrize("change", ["left", "deleted", "inactive", "password"])
def test_a_session_ends_with_what_it_rests_on(
    app: Flask, store: Store, cast: Cast, clock: FixedClock, change: str
) -> None:
    client = logged_in(app, cast["Ana"])
    assert client.get("/leads").status_code == 200
    with store.transaction() as transaction:
        ana = transaction.get(User, cast["Ana"].id)
        match change:
            case "left":
                transaction.update(ana, {"left_at": transaction.now})
            case "deleted":
                transaction.delete(ana)
            case "inactive":
                transaction.update(ana, {"active": False})
            case "password":
                set_password(transaction.session, ana.id, new_password())
    assert client.get("/leads").status_code == 302


@pytest.mark.parametrize("path", ["/logout", "/logout/everywhere"])
def test_a_copied_cookie_dies_with_the_logout(app: Flask, cast: Cast, path: str) -> None:
    client, thief, elsewhere = logged_in(app, cast["Ana"]), app.test_client(), logged_in(app, cast["Ana"])
    copied = client.get_cookie("crm")
    assert copied is not None
    thief.set_cookie("crm", copied.value)
    assert thief.get("/leads").status_code == 200
    client.post(path, data={"csrf_token": csrf_of(client.get("/leads").text)})
    assert thief.get("/leads").status_code == 302
    assert elsewhere.get("/leads").status_code == (200 if path == "/logout" else 302)


def test_a_login_ends_after_its_time_however_busy_it_is(app: Flask, cast: Cast, clock: FixedClock) -> None:
    client = logged_in(app, cast["Ana"])
    for _ in range(11):
        clock.advance(timedelta(hours=1))
        assert client.get("/leads").status_code == 200
    clock.advance(timedelta(hours=1))
    assert client.get("/leads").status_code == 302


def test_a_session_planted_before_the_login_is_not_the_one_after_it(client: FlaskClient, cast: Cast) -> None:
    with client.session_transaction() as session:
        session["planted"] = "by somebody else"
        session["_user_id"] = "guessed"
    try_to_log_in(client, "ana@example.com", PASSWORD)
    with client.session_transaction() as session:
        assert "planted" not in session
        assert session["_user_id"] != "guessed"


@pytest.mark.parametrize("email", ["ana@example.com", "nobody@example.com", "gone@example.com", ""])
def test_every_refusal_costs_one_look_at_a_hash(
    store: Store, cast: Cast, monkeypatch: pytest.MonkeyPatch, email: str
) -> None:
    with store.transaction() as transaction:
        make_user(transaction, "Gone", active=False)
    looked: list[str] = []

    def look(stored: str, _password: str) -> bool:
        looked.append(stored)
        return False

    monkeypatch.setattr(auth, "_verify", look)
    assert try_password(store, email, "wrong").user is None
    assert len(looked) == 1


def page_rules(app: Flask, method: str) -> list[str]:
    rules = [rule for rule in app.url_map.iter_rules() if method in (rule.methods or ())]
    own = [rule.rule for rule in rules if not rule.rule.startswith(("/api/", "/static", "/bootstrap"))]
    named = [re.sub(r"<any\((\w+)[^>]*>", r"\1", rule) for rule in own]
    return [re.sub(r"<[^>]*>", "1", rule) for rule in named]


WITHOUT_SESSION = {"/unsubscribe/1": 200, "/forms/1": 404}
"""By what answer: mail programs, for whom an unknown token is like any other, and other sites' forms."""


def test_no_form_works_without_its_token(app: Flask, store: Store, cast: Cast) -> None:
    client = logged_in(app, cast["Adam"])
    rules = page_rules(app, "POST")
    assert {"/login", "/logout", "/logout/everywhere", "/language"} <= set(rules)
    before = contents(store)
    for path in rules:
        answer = client.post(path, data={"csrf_token": "forged"})
        expected = WITHOUT_SESSION.get(path, 400)
        assert (answer.status_code, contents(store) == before) == (expected, True), path


def test_no_page_changes_anything_by_being_looked_at(app: Flask, store: Store, cast: Cast) -> None:
    with store.transaction() as transaction:
        make_lead(transaction, owner_id=cast["Adam"].id)
    client = logged_in(app, cast["Adam"])
    before = contents(store)
    for path in page_rules(app, "GET"):
        client.get(path)
        assert contents(store) == before, path


def contents(store: Store) -> dict[str, list[tuple[object, ...]]]:
    """Return what all tables hold, but for the log of reads, and forecasts that are to be made again."""
    with store.reading() as session:
        names = [name for name in inspect(session.connection()).get_table_names() if name != "operations"]
        plain = [name for name in names if not name.startswith(("search_", "sqlite_"))]
        held = {name: sorted(map(tuple, session.execute(text(f"SELECT * FROM {name}")))) for name in plain}
    return held | {"jobs": [row for row in held["jobs"] if FORECAST not in row]}


def test_a_session_lasts_as_long_as_the_setting_says(app: Flask) -> None:
    assert app.permanent_session_lifetime == timedelta(hours=12)


@pytest.mark.parametrize("https", [False, True])
def test_the_cookie_is_kept_from_scripts_and_other_sites(
    store: Store, cast: Cast, home: Path, champions: Champions, https: bool
) -> None:
    client = create_app(Settings(home=home, https=https), store, champions).test_client()
    cookie = client.get("/login", base_url="https://crm.example" if https else None).headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert ("Secure" in cookie) == https
    assert cookie.startswith("__Host-crm=" if https else "crm=")


@pytest.mark.parametrize(
    "path", ["/login", "/leads", "/api/v1/leads", "/nothing", "/healthz", "/static/web/pages.js"]
)
def test_every_answer_carries_the_security_headers(client: FlaskClient, path: str) -> None:
    with client.get(path) as answer:
        headers = answer.headers
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"


def test_passwords_are_kept_as_slow_hashes_and_never_in_the_log(store: Store, cast: Cast) -> None:
    with store.transaction() as transaction:
        set_password(transaction.session, cast["Ana"].id, "another good password")
    with store.reading() as session:
        assert (session.get_one(User, cast["Ana"].id).password_hash or "").startswith("$argon2id$")
    content = Path(store.url.removeprefix("sqlite:///")).read_bytes()
    assert b"another good password" not in content


def test_guessing_a_password_is_slow_and_takes_memory() -> None:
    real = auth._HASHER
    assert real.memory_cost >= 46 * 1024
    assert real.time_cost >= 3


def test_a_short_password_is_refused(store: Store, cast: Cast) -> None:
    with store.transaction() as transaction, pytest.raises(InvalidValueError, match="10 characters"):
        set_password(transaction.session, cast["Ana"].id, "short")


def test_random_passwords_differ_and_are_long() -> None:
    passwords = {new_password() for _ in range(200)}
    assert len(passwords) == 200
    assert all(len(password) == 17 for password in passwords)
