"""An identity provider to test against: real HTTP on this machine, and it can be made to lie."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from joserfc import jwt
from joserfc.jwk import RSAKey

CLIENT = "crm-test"
SECRET = "not much of a secret"


@dataclass
class StandIn:
    """What the provider says; tests change it."""

    now: datetime
    issuer: str = ""
    key: RSAKey = field(default_factory=lambda: RSAKey.generate_key(2048, {"kid": "first"}, auto_kid=False))
    claims: dict[str, Any] = field(default_factory=dict)
    header: dict[str, Any] = field(default_factory=dict)
    unsigned: bool = False
    about: dict[str, Any] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    challenges: dict[str, dict[str, str]] = field(default_factory=dict)

    def authorize(self, url: str) -> str:
        """Do what a browser and a person would do there: log in, and come back with a code."""
        asked = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
        assert (asked["response_type"], asked["code_challenge_method"]) == ("code", "S256")
        assert asked["client_id"] == CLIENT
        code = f"code-{len(self.challenges)}"
        self.challenges[code] = asked
        return f"?code={code}&state={asked['state']}"

    def token(self, nonce: str) -> str:
        """Return an id_token for Ana, or whatever the test wants."""
        at = int(self.now.timestamp())
        claims = {
            "iss": self.issuer,
            "aud": CLIENT,
            "sub": "ana-at-provider",
            "iat": at,
            "exp": at + 300,
            "nonce": nonce,
            "email": "Ana@example.com",
            "email_verified": True,
            "name": "Ana",
            **self.claims,
        }
        claims = {name: value for name, value in claims.items() if value is not None}
        if self.unsigned:
            return f"{_part({'alg': 'none'})}.{_part(claims)}."
        header = {"alg": "RS256", "kid": self.key.kid, **self.header}
        return jwt.encode(header, claims, self.key, algorithms=[header["alg"]])

    def answer(self, path: str, form: dict[str, str]) -> tuple[int, dict[str, Any]]:
        """Answer a request."""
        self.asked.append(path)
        if path == "/.well-known/openid-configuration":
            return 200, {
                "issuer": self.issuer,
                "authorization_endpoint": f"{self.issuer}/authorize",
                "token_endpoint": f"{self.issuer}/token",
                "jwks_uri": f"{self.issuer}/keys",
                **self.about,
            }
        if path == "/keys":
            return 200, {"keys": [self.key.as_dict(private=False)]}
        if path == "/token":
            return self._redeem(form)
        return 404, {}

    def _redeem(self, form: dict[str, str]) -> tuple[int, dict[str, Any]]:
        asked = self.challenges.pop(form.get("code", ""), None)
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        if asked is None or asked["code_challenge"] != challenge:
            return 400, {"error": "invalid_grant"}
        if asked["redirect_uri"] != form["redirect_uri"]:
            return 400, {"error": "invalid_grant"}
        token = self.token(asked["nonce"])
        return 200, {"access_token": "x", "token_type": "Bearer", "expires_in": 60, "id_token": token}


@contextmanager
def stand_in(now: datetime) -> Iterator[StandIn]:
    """Run a provider."""
    provider = StandIn(now=now)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer({})

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            self._answer({name: values[0] for name, values in parse_qs(body).items()})

        def _answer(self, form: dict[str, str]) -> None:
            status, told = provider.answer(urlsplit(self.path).path, form)
            content = json.dumps(told).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    provider.issuer = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield provider
    finally:
        server.shutdown()
        server.server_close()


def _part(content: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=").decode()
