"""Logging in by way of an identity provider, and every way in which it must not work."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from joserfc.jwk import OctKey, RSAKey
from sqlalchemy import select
from werkzeug.test import TestResponse

from crm_core.clock import FixedClock
from crm_core.errors import LoginRefusedError, SettingsError
from crm_core.operations import OperationRow
from crm_core.records import User
from crm_core.store import Store
from serving import oidc
from serving.app import create_app
from serving.auth import find_user_by_password
from serving.champions import Champions
from serving.settings import Settings, load_settings
from tests.factories import make_user
from tests.serving.conftest import PASSWORD, Cast, csrf_of
from tests.serving.identity_provider import CLIENT, SECRET, StandIn, stand_in

BACK = "/login/provider/back"
ANOTHER = RSAKey.generate_key(2048, {"kid": "second"}, auto_kid=False)


@pytest.fixture(scope="module")
def running() -> Iterator[StandIn]:
    from tests.conftest import MONDAY

    with stand_in(MONDAY) as provider:
        yield provider


@pytest.fixture
def provider(running: StandIn) -> Iterator[StandIn]:
    """The provider as it should be, whatever an earlier test made of it."""
    key, issuer = running.key, running.issuer
    yield running
    running.key, running.issuer, running.unsigned = key, issuer, False
    for what in (running.claims, running.header, running.about, running.challenges):
        what.clear()
    running.asked.clear()


def settings_for(home: Path, provider: StandIn, **given: Any) -> Settings:
    known = {"oidc_issuer": provider.issuer, "oidc_client_id": CLIENT, "oidc_client_secret": SECRET}
    return Settings(home=home, **{**known, **given})


@pytest.fixture
def client(home: Path, store: Store, champions: Champions, provider: StandIn, cast: Cast) -> FlaskClient:
    return create_app(settings_for(home, provider), store, champions).test_client()


def come_back(client: FlaskClient, provider: StandIn, after: str = "") -> TestResponse:
    """Go to the provider, log in there, and come back."""
    sent = client.get("/login/provider", query_string={"next": after})
    assert sent.status_code == 302, sent.text
    return client.get(BACK + provider.authorize(sent.headers["Location"]))


def reasons(store: Store) -> list[str]:
    with store.reading() as session:
        return list(session.scalars(select(OperationRow.done)))


def test_somebody_whom_the_provider_vouches_for_is_let_in(
    client: FlaskClient, provider: StandIn, store: Store
) -> None:
    assert "/login/provider" in client.get("/login").text
    answer = come_back(client, provider, "/deals?q=pump")
    assert (answer.status_code, answer.headers["Location"]) == (302, "/deals?q=pump")
    page = client.get("/leads")
    assert page.status_code == 200
    assert "Ana" in page.text
    assert reasons(store)[0] == "logged_in_by_provider"


def test_an_elliptic_key_is_fine_too(client: FlaskClient, provider: StandIn) -> None:
    from joserfc.jwk import ECKey

    provider.key = ECKey.generate_key("P-256", {"kid": "curve"}, auto_kid=False)  # type: ignore[assignment] # another kind of key
    provider.header["alg"] = "ES256"
    assert come_back(client, provider).status_code == 302


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": "another client"},
        {"aud": [CLIENT, "another client"]},
        {"azp": "another client"},
        {"iss": "https://elsewhere.example"},
        {"nonce": "another login's"},
        {"nonce": None},
        {"exp": None},
        {"exp": 1},
        {"iat": 4_000_000_000},
        {"email_verified": False},
        {"email_verified": None},
        {"email_verified": "true"},
        {"email": None},
        {"email": "nobody@example.com"},
        {"email": ["ana@example.com"]},
        {"sub": None},
    ],
    ids=str,
)
def test_a_token_that_does_not_hold_lets_nobody_in(
    client: FlaskClient, provider: StandIn, store: Store, claims: dict[str, Any]
) -> None:
    provider.claims.update(claims)
    answer = come_back(client, provider)
    assert answer.status_code == 401
    assert "did not let you in" in answer.text
    assert client.get("/leads").status_code == 302
    assert reasons(store) == ["provider_refused"]


def test_an_unsigned_token_lets_nobody_in(client: FlaskClient, provider: StandIn) -> None:
    provider.unsigned = True
    assert come_back(client, provider).status_code == 401


def test_a_token_signed_with_the_secret_lets_nobody_in(client: FlaskClient, provider: StandIn) -> None:
    provider.key = OctKey.import_key(SECRET, {"kid": "first"})  # type: ignore[assignment] # another kind of key
    provider.header["alg"] = "HS256"
    assert come_back(client, provider).status_code == 401


def test_a_token_signed_by_somebody_else_lets_nobody_in(
    client: FlaskClient, provider: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    published = provider.key.as_dict(private=False)
    answer = provider.answer
    monkeypatch.setattr(
        provider,
        "answer",
        lambda path, form: (200, {"keys": [published]}) if path == "/keys" else answer(path, form),
    )
    provider.key, provider.header["kid"] = ANOTHER, "first"
    assert come_back(client, provider).status_code == 401


def test_a_rotated_key_is_asked_for_once_and_made_up_ones_do_not_make_us_ask(
    client: FlaskClient, provider: StandIn, clock: FixedClock
) -> None:
    assert come_back(client, provider).status_code == 302
    provider.key = ANOTHER
    clock.advance(timedelta(seconds=61))
    fresh = client.application.test_client()
    assert come_back(fresh, provider).status_code == 302
    assert provider.asked.count("/keys") == 2
    for number in range(5):
        provider.header["kid"] = f"made up {number}"
        assert come_back(client.application.test_client(), provider).status_code == 401
    assert provider.asked.count("/keys") == 2
    assert provider.asked.count("/.well-known/openid-configuration") == 1


def test_an_answer_is_good_once_and_only_in_the_browser_that_asked(
    client: FlaskClient, provider: StandIn
) -> None:
    back = provider.authorize(client.get("/login/provider").headers["Location"])
    thief = client.application.test_client()
    assert thief.get(BACK + back).status_code == 401
    assert client.get(BACK + back).status_code == 302
    assert client.get(BACK + back).status_code == 401


@pytest.mark.parametrize(
    "back",
    ["", "?state=", "?code=code-0", "?code=code-0&state=wrong", "?error=access_denied", "?state=%ff&code=x"],
)
def test_an_answer_that_nobody_asked_for_lets_nobody_in(
    client: FlaskClient, provider: StandIn, back: str
) -> None:
    client.get("/login/provider")
    assert client.get(BACK + back).status_code == 401


def test_a_login_that_takes_too_long_is_over(
    client: FlaskClient, provider: StandIn, clock: FixedClock
) -> None:
    back = provider.authorize(client.get("/login/provider").headers["Location"])
    clock.advance(timedelta(minutes=11))
    assert client.get(BACK + back).status_code == 401


def test_another_providers_answer_is_refused(client: FlaskClient, provider: StandIn) -> None:
    back = provider.authorize(client.get("/login/provider").headers["Location"])
    assert client.get(f"{BACK}{back}&iss=https://elsewhere.example").status_code == 401


@pytest.mark.parametrize(
    "about",
    [
        {"issuer": "https://elsewhere.example"},
        {"authorization_endpoint": "javascript:alert(1)"},
        {"authorization_endpoint": None},
    ],
)
def test_a_provider_that_describes_itself_wrongly_is_not_asked(
    client: FlaskClient, provider: StandIn, about: dict[str, Any]
) -> None:
    provider.about.update(about)
    assert client.get("/login/provider").status_code == 401


def test_a_provider_that_does_not_answer_is_no_error_of_ours(
    home: Path, store: Store, champions: Champions, cast: Cast, provider: StandIn
) -> None:
    settings = settings_for(home, provider, oidc_issuer="http://127.0.0.1:9")
    client = create_app(settings, store, champions).test_client()
    assert client.get("/login/provider").status_code == 401


@pytest.mark.parametrize("change", [{"active": False}, {"left": True}])
def test_somebody_who_left_is_not_let_in(
    client: FlaskClient, provider: StandIn, store: Store, cast: Cast, change: dict[str, Any]
) -> None:
    with store.transaction() as transaction:
        ana = transaction.get(User, cast["Ana"].id)
        transaction.update(ana, {"left_at": transaction.now} if "left" in change else change)
    assert come_back(client, provider).status_code == 401


def test_somebody_unknown_is_made_a_user_only_where_a_role_is_set(
    home: Path, store: Store, champions: Champions, cast: Cast, provider: StandIn
) -> None:
    provider.claims.update(email="new@example.com", name="New Person")
    settings = settings_for(home, provider, oidc_create_role="rep")
    client = create_app(settings, store, champions).test_client()
    assert come_back(client, provider).status_code == 302
    with store.reading() as session:
        made = session.scalars(select(User).where(User.email == "new@example.com")).one()
    assert (made.role, made.name, made.password_hash) == ("rep", "New Person", None)


def test_passwords_can_be_turned_off(
    home: Path, store: Store, champions: Champions, cast: Cast, provider: StandIn
) -> None:
    app = create_app(settings_for(home, provider, password_login=False), store, champions)
    client = app.test_client()
    page = client.get("/login").text
    assert 'type="password"' not in page
    token = csrf_of(create_csrf_page(client))
    form = {"csrf_token": token, "email": "ana@example.com", "password": PASSWORD}
    assert client.post("/login", data=form).status_code == 403
    assert client.get("/leads").status_code == 302


def create_csrf_page(client: FlaskClient) -> str:
    """Return a page with a form: that of the languages is on all."""
    return client.get("/login").text


def test_nothing_is_asked_of_anybody_without_a_provider(
    app: Flask, cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(oidc, "_fetch", lambda url: pytest.fail(f"asked {url}"))
    client = app.test_client()
    assert "/login/provider" not in client.get("/login").text
    assert client.get("/login/provider").status_code == 404
    assert client.get(BACK).status_code == 404


@pytest.mark.parametrize(
    "wrong",
    [
        {"oidc_issuer": "http://id.example.com", "oidc_client_id": "x"},
        {"oidc_issuer": "id.example.com", "oidc_client_id": "x"},
        {"oidc_issuer": "https://id.example.com"},
        {"oidc_client_id": "x"},
        {"password_login": False},
        {"public_url": "http://crm.example.com"},
        {"oidc_client_secret_file": "/nowhere"},
    ],
    ids=str,
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingsError):
        load_settings(**wrong)


def test_the_secret_may_be_in_a_file_and_is_never_shown(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("hidden\n")
    settings = load_settings(oidc_client_secret_file=file)
    assert settings.oidc_secret == "hidden"
    assert "hidden" not in repr(settings)
    assert "hidden" not in repr(load_settings(oidc_client_secret="hidden"))


def test_an_address_of_other_letters_is_another_address(store: Store, cast: Cast) -> None:
    with store.transaction() as transaction:
        make_user(transaction, "Kim")
    for mail in ("KIM@example.com", " kim@Example.com"):
        assert oidc.find_vouched(store, vouched(mail), create_role=None).name == "Kim"
    with pytest.raises(LoginRefusedError, match="no user"):
        oidc.find_vouched(store, vouched("\u212aim@example.com"), create_role=None)  # the sign of Kelvin


def test_of_two_users_whose_addresses_differ_in_case_nobody_comes_in(store: Store, cast: Cast) -> None:
    with store.transaction() as transaction:
        make_user(transaction, "Anna", email="ANA@example.com", password_hash=cast["Ana"].password_hash)
    with pytest.raises(LoginRefusedError, match="several"):
        oidc.find_vouched(store, vouched("ana@example.com"), create_role=None)
    with store.reading() as session:
        assert find_user_by_password(session, "ana@example.com", PASSWORD) is None
        assert find_user_by_password(session, "ben@example.com", PASSWORD) is not None


def vouched(mail: str) -> oidc.Vouched:
    return oidc.Vouched(email=mail, name="Somebody")
