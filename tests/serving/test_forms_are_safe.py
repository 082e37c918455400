"""No form does anything for another site, leads to one, or goes on with a login that somebody planted."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from flask import Flask
from flask_openapi.blueprint import APIBlueprint
from sqlalchemy import func, select
from werkzeug.routing import AnyConverter, IntegerConverter, Rule

from crm_core.changes import Change
from crm_core.store import Store
from tests.serving.conftest import PASSWORD, Cast, csrf_of, logged_in

ELSEWHERE = (
    "https://evil.example/",
    "//evil.example/",
    "///evil.example/",
    "/\\evil.example/",
    "\\\\evil.example/",
    "/\t/evil.example/",
    "/\n/evil.example/",
    " //evil.example/",
    "http:evil.example",
    "javascript:alert(1)",
    "//evil.example\\@localhost/",
    "//[",
    "http://[",
    "leads",
    "",
)


FROM_ELSEWHERE = frozenset({"mail_pages.do_unsubscribe", "public_forms"})
"""What takes forms from elsewhere: mail programs unsubscribe by themselves, and other sites have web forms.

They act for nobody who is logged in: a secret in the address, or nothing, stands for who sends them.
"""


def page_rules(app: Flask) -> list[Rule]:
    """Return the addresses of the pages, which are used by a browser with a cookie."""
    return [
        rule
        for rule in app.url_map.iter_rules()
        if not isinstance(app.blueprints.get(rule.endpoint.split(".")[0]), APIBlueprint)
    ]


def posts(app: Flask) -> Iterator[str]:
    """Give an address for every form, with something in each place."""
    adapter = app.url_map.bind("localhost")
    for rule in page_rules(app):
        open_to_all = {rule.endpoint, rule.endpoint.split(".")[0]} & FROM_ELSEWHERE
        if "POST" in (rule.methods or ()) and not open_to_all:
            given = {name: _something(rule, name) for name in rule.arguments}
            yield adapter.build(rule.endpoint, {**given, **(rule.defaults or {})}, method="POST")


def _something(rule: Rule, name: str) -> object:
    match rule._converters[name]:
        case IntegerConverter():
            return 1
        case AnyConverter(items=items):
            return min(items)
    return "lead"


def test_pages_are_only_read_and_posted_to(app: Flask) -> None:
    methods = {method for rule in page_rules(app) for method in rule.methods or ()}
    assert methods == {"GET", "HEAD", "OPTIONS", "POST"}


def test_no_form_is_taken_without_its_token(app: Flask, store: Store, cast: Cast) -> None:
    adam, nobody = logged_in(app, cast["Adam"]), app.test_client()
    with store.reading() as session:
        before = session.scalar(select(func.max(Change.sequence)))
    addresses = list(posts(app))
    assert len(addresses) > 60
    taken = {
        (path, given.status_code)
        for path in addresses
        for client in (adam, nobody)
        for token in ({}, {"csrf_token": "made-up"})
        if (given := client.post(path, data=token)).status_code != 400 or "Go back, reload" not in given.text
    }
    assert taken == set()
    with store.reading() as session:
        assert session.scalar(select(func.max(Change.sequence))) == before
    assert adam.get("/account").status_code == 200, "still logged in: /logout took nothing either"


def test_the_token_of_one_login_is_none_of_another(app: Flask, cast: Cast) -> None:
    ana, ben = logged_in(app, cast["Ana"]), logged_in(app, cast["Ben"])
    token = csrf_of(ana.get("/leads/new").text)
    ben.get("/leads/new")
    assert ben.post("/leads/new", data={"name": "Wang Fang", "csrf_token": token}).status_code == 400


@pytest.mark.parametrize("target", ELSEWHERE)
def test_nobody_is_led_elsewhere(app: Flask, cast: Cast, target: str) -> None:
    client = app.test_client()
    page = client.get("/login", query_string={"next": target})
    login = {"email": cast["Ana"].email, "password": PASSWORD, "csrf_token": csrf_of(page.text)}
    ways = [client.post("/login", data={**login, "next": target})]
    token = csrf_of(client.get("/account").text)
    ways.append(client.post("/language", data={"language": "en", "next": target, "csrf_token": token}))
    for way in ways:
        assert (way.status_code, way.location) == (302, "/")


def test_who_comes_from_elsewhere_is_led_back_to_no_other_site(app: Flask, cast: Cast) -> None:
    ana = logged_in(app, cast["Ana"])
    data = {"name": "x", "scope": "read", "days": "30", "once": "a-token-of-theirs"}
    data["csrf_token"] = csrf_of(ana.get("/account").text)
    answers = [
        ana.post("/account/keys", data=data, headers={"Referer": f"{came_from}"})
        for came_from in (
            "http://localhost/account",
            "https://evil.example/",
            "http://localhost//evil.example/",
        )
    ]
    places = [urlsplit(answer.location or "") for answer in answers]
    assert [(place.netloc, place.path) for place in places] == [("", ""), ("", "/"), ("", "/")]


def test_a_login_begins_a_session_of_its_own(app: Flask, cast: Cast) -> None:
    """Whoever planted a session before, or keeps what it held, has nothing of the login."""
    client, planted = app.test_client(), app.test_client()
    page = client.get("/login").text
    cookie = client.get_cookie("crm")
    assert cookie is not None
    planted.set_cookie("crm", cookie.value)
    with client.session_transaction() as session:
        session["planted"] = "yes"
    login = {"email": cast["Ana"].email, "password": PASSWORD, "csrf_token": csrf_of(page)}
    with client.session_transaction() as session:
        before = session["csrf_token"]
    assert client.post("/login", data=login).location == "/"
    with client.session_transaction() as session:
        held = dict(session)
    client.get("/account")
    with client.session_transaction() as session:
        after = session["csrf_token"]
    assert "planted" not in held
    assert after != before
    assert planted.get("/account").status_code == 302


def test_two_logins_are_two_sessions_and_one_ends_alone(app: Flask, cast: Cast) -> None:
    first, second = (logged_in(app, cast["Ana"]) for _ in range(2))
    keys = []
    for client in (first, second):
        with client.session_transaction() as session:
            keys.append(session["_user_id"])
    assert keys[0] != keys[1]
    first.post("/logout", data={"csrf_token": csrf_of(first.get("/account").text)})
    assert (first.get("/account").status_code, second.get("/account").status_code) == (302, 200)
    with first.session_transaction() as session:
        session["_user_id"] = keys[0]
    assert first.get("/account").status_code == 302, "a login that has ended is not begun anew by its key"
