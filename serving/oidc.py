"""Logging in by way of an identity provider: OpenID Connect, the code flow with PKCE.

Nothing is asked of a provider until one is configured and somebody logs in by way of it. What it says of
itself and its keys is kept for an hour; a key that is not known yet is asked for, but not more than once a
minute, so that made-up tokens cannot make us ask.
"""

from __future__ import annotations

import hmac
import json
import secrets
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy import func, select

from crm_core.changes import Source
from crm_core.clock import Clock
from crm_core.errors import LoginRefusedError
from crm_core.records import User
from crm_core.store import Store
from crm_core.tokens import works_here
from serving.settings import Settings

ALGORITHMS = ("RS256", "ES256")
KEPT_FOR = timedelta(hours=1)
ASKED_AGAIN_AFTER = timedelta(minutes=1)
LASTS = timedelta(minutes=10)
"""How long somebody may take at the provider."""

_TIMEOUT = 10.0
_LEEWAY = 60
_LONGEST = 2**20


@dataclass(frozen=True, kw_only=True)
class Begun:
    """A login that has begun: where to send the browser, and what its session keeps until it is back."""

    url: str
    kept: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Vouched:
    """What the provider says of somebody, verified."""

    email: str
    name: str


class Provider:
    """The configured identity provider."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        issuer, client_id = settings.oidc_issuer, settings.oidc_client_id
        if issuer is None or client_id is None:
            raise LoginRefusedError("no identity provider is configured")
        self._issuer = issuer
        self._client_id = client_id
        self._secret = settings.oidc_secret
        self._clock = clock
        self._guard = threading.Lock()
        self._about: _Cached | None = None
        self._keys: _Cached | None = None

    def begin(self, redirect_uri: str) -> Begun:
        """Return where to send somebody who wants to log in."""
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        with self._session(redirect_uri) as session:
            url, _ = session.create_authorization_url(
                self._endpoint("authorization_endpoint"), state=state, nonce=nonce, code_verifier=verifier
            )
        kept = {"state": state, "nonce": nonce, "verifier": verifier, "at": self._clock.now().timestamp()}
        return Begun(url=url, kept=kept)

    def finish(self, kept: Mapping[str, Any] | None, sent: Mapping[str, str], redirect_uri: str) -> Vouched:
        """Return whom the provider vouches for; `kept` is what `begin` gave, `sent` came with the browser.

        Raises LoginRefusedError, with the reason for the log, for whatever is not exactly as it should be.
        """
        code = self._check_answer(kept, sent)
        assert kept is not None  # noqa: S101  checked
        token = self._redeem(code, str(kept["verifier"]), redirect_uri)
        claims = self._verify(token, str(kept["nonce"]))
        if claims.get("email_verified") is not True or not isinstance(claims.get("email"), str):
            raise LoginRefusedError("the provider has not verified the mail address")
        name = claims.get("name")
        return Vouched(
            email=claims["email"], name=name if isinstance(name, str) and name else claims["email"]
        )

    def _check_answer(self, kept: Mapping[str, Any] | None, sent: Mapping[str, str]) -> str:
        if kept is None or not hmac.compare_digest(
            str(kept["state"]).encode(), sent.get("state", "").encode()
        ):
            raise LoginRefusedError("the state is not that of a login that has begun in this browser")
        if self._clock.now().timestamp() - float(kept["at"]) > LASTS.total_seconds():
            raise LoginRefusedError("the login took too long")
        if sent.get("iss", self._issuer) != self._issuer:
            raise LoginRefusedError("the answer is another provider's")
        if "error" in sent or not sent.get("code"):
            raise LoginRefusedError("the provider refused")
        return sent["code"]

    def _redeem(self, code: str, verifier: str, redirect_uri: str) -> str:
        from authlib.common.errors import AuthlibBaseError  # type: ignore[import-untyped] # it has none
        from requests import RequestException

        try:
            with self._session(redirect_uri) as session:
                answer = session.fetch_token(
                    self._endpoint("token_endpoint"), code=code, code_verifier=verifier, timeout=_TIMEOUT
                )
        except (AuthlibBaseError, RequestException, ValueError) as error:
            raise LoginRefusedError(f"the code was not redeemed: {type(error).__name__}") from error
        token = answer.get("id_token")
        if not isinstance(token, str):
            raise LoginRefusedError("the provider gave no id_token")
        return token

    def _verify(self, token: str, nonce: str) -> dict[str, Any]:
        from joserfc import jwt
        from joserfc.errors import JoseError

        now = self._clock.now()
        rules = jwt.JWTClaimsRegistry(
            now=int(now.timestamp()),
            leeway=_LEEWAY,
            iss={"essential": True, "value": self._issuer},
            aud={"essential": True, "value": self._client_id},
            sub={"essential": True},
            exp={"essential": True},
            iat={"essential": True},
            nonce={"essential": True, "value": nonce},
        )
        try:
            claims = self._decode(token)
            rules.validate(claims)
        except (JoseError, ValueError, TypeError) as error:
            raise LoginRefusedError(f"the id_token does not hold: {type(error).__name__}") from error
        many = isinstance(claims["aud"], list) and len(claims["aud"]) > 1
        if claims.get("azp", None if many else self._client_id) != self._client_id:
            raise LoginRefusedError("the id_token was made for another client")
        return claims

    def _decode(self, token: str) -> dict[str, Any]:
        from joserfc import jwt
        from joserfc.errors import BadSignatureError, InvalidKeyIdError
        from joserfc.jwk import KeySet

        try:
            keys = KeySet.import_key_set(self._read_keys(anew=False))
            return jwt.decode(token, keys, algorithms=ALGORITHMS).claims
        except (InvalidKeyIdError, BadSignatureError):
            keys = KeySet.import_key_set(self._read_keys(anew=True))
            return jwt.decode(token, keys, algorithms=ALGORITHMS).claims

    def _read_keys(self, *, anew: bool) -> Any:  # noqa: ANN401  JSON
        with self._guard:
            patience = ASKED_AGAIN_AFTER if anew else KEPT_FOR
            if self._keys is None or self._keys.is_older(patience, self._clock.now()):
                self._keys = _Cached(at=self._clock.now(), value=_fetch(self._endpoint("jwks_uri")))
            return self._keys.value

    def _endpoint(self, name: str) -> str:
        """Return an address from the provider's description of itself, which must be its own."""
        about = self._about
        if about is None or about.is_older(KEPT_FOR, self._clock.now()):
            found = _fetch(f"{self._issuer.rstrip('/')}/.well-known/openid-configuration")
            if found.get("issuer") != self._issuer:
                raise LoginRefusedError("the provider calls itself by another name than CRM_OIDC_ISSUER")
            about = self._about = _Cached(at=self._clock.now(), value=found)
        address = about.value.get(name)
        scheme = urlsplit(self._issuer).scheme
        if not isinstance(address, str) or urlsplit(address).scheme not in {"https", scheme}:
            raise LoginRefusedError(f"the provider names no safe {name}")
        return address

    def _session(self, redirect_uri: str) -> Any:  # noqa: ANN401  authlib has no types
        from authlib.integrations.requests_client import (  # type: ignore[import-untyped] # it has none
            OAuth2Session,
        )

        return OAuth2Session(
            self._client_id,
            self._secret,
            scope="openid email profile",
            redirect_uri=redirect_uri,
            code_challenge_method="S256",
            token_endpoint_auth_method="client_secret_basic" if self._secret else "none",
        )


@dataclass(frozen=True, kw_only=True)
class _Cached:
    at: datetime
    value: Any

    def is_older(self, age: timedelta, now: datetime) -> bool:
        return now - self.at >= age


def find_vouched(store: Store, vouched: Vouched, *, create_role: str | None) -> User:
    """Return the user with a verified mail address; make one only if a role for new ones is configured."""
    mail = vouched.email.strip()
    # Only ASCII is read without its case: a letter that merely becomes another one is another address.
    same = func.lower(User.email) == mail.lower() if mail.isascii() else User.email == mail
    with store.reading() as session:
        users = session.scalars(select(User).where(same)).all()
        session.expunge_all()
    if len(users) > 1:
        raise LoginRefusedError("several users have the verified mail address")
    for user in users:
        if not works_here(user):
            raise LoginRefusedError("the user does not work here any more")
        return user
    if create_role is None:
        raise LoginRefusedError("there is no user with the verified mail address")
    with store.transaction(source=Source.AUTOMATION) as transaction:
        made = User(name=vouched.name[:200], email=mail, role=create_role)
        return transaction.create(made)


def _fetch(url: str) -> Any:  # noqa: ANN401  JSON
    import requests

    try:
        answer = requests.get(url, timeout=_TIMEOUT, allow_redirects=False, stream=True)
        if answer.status_code != 200:
            raise LoginRefusedError(f"the provider answered {answer.status_code}")
        content = answer.raw.read(_LONGEST + 1, decode_content=True)
        if len(content) > _LONGEST:
            raise LoginRefusedError("the provider's answer is too long")
        found = json.loads(content)
    except (requests.RequestException, ValueError) as error:
        raise LoginRefusedError(f"the provider cannot be read: {type(error).__name__}") from error
    if not isinstance(found, dict):
        raise LoginRefusedError("the provider's answer is no JSON object")
    return found
