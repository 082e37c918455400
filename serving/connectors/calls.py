"""Calls to another system: logged in, no faster than agreed, and patient where it asks for patience."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import urlencode

from crm_core.errors import ConnectorError, NoAnswerError
from serving.connectors.connections import Connection
from serving.outbound import Answer

LARGEST_ANSWER = 32 * 2**20
PATIENCE_SECONDS = 60.0
"""For how long a system that is too busy is waited for within one exchange; the next one goes on."""

_TIMEOUT_SECONDS = 60.0
_NOT_CHANGED = 304


class Sender(Protocol):
    """Sends one request, as `serving.outbound.OutboundClient` does."""

    def request(  # noqa: D102  as above
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        timeout_seconds: float = ...,
        largest_answer: int = ...,
    ) -> Answer: ...


@dataclass(frozen=True, kw_only=True)
class Login:
    """How a system lets programs in: what is sent to get a token, and how it is shown afterwards."""

    scheme: str = "Bearer"
    form: Mapping[str, str] = field(default_factory=dict)
    base_key: str | None = None
    """Where the answer says which address to call from now on."""


class Caller:
    """Calls one system, logged in."""

    def __init__(
        self,
        connection: Connection,
        login: Login,
        sender: Sender,
        *,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        self._connection = connection
        self._login = login
        self._sender = sender
        self._wait = wait
        self._token = connection.fixed_token()
        self._base = connection.url.rstrip("/")
        self._next_at = 0.0
        self.requests = 0
        """Sent so far."""

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> Any:  # noqa: ANN401  any JSON value
        """Return what the system answers to a question; None where it says that there is nothing."""
        return _json_of(self.call("GET", path, headers=headers), "GET", path)

    def send(self, method: str, path: str, body: object) -> Any:  # noqa: ANN401  any JSON value
        """Send JSON and return the JSON of the answer."""
        sent = json.dumps(body, ensure_ascii=False, allow_nan=False).encode()
        headers = {"Content-Type": "application/json; charset=utf-8"}
        return _json_of(self.call(method, path, headers=headers, body=sent), method, path)

    def call(
        self, method: str, path: str, *, headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> Answer:
        """Send a request to a path, or an address of this system; return an answer that is no refusal.

        A token that has run out is renewed once. Where the system is too busy it is waited for as long as it
        says, within limits. Raises ConnectorError for anything else that is refused.
        """
        until = time.monotonic() + PATIENCE_SECONDS
        renewed, pause = False, 1.0
        while True:
            answer = self._send(method, path, headers or {}, body)
            if answer.status < 300 or answer.status == _NOT_CHANGED:
                return answer
            if answer.status == 401 and not renewed and self._connection.fixed_token() is None:
                self._token, renewed = None, True
                continue
            wait = _asked_to_wait(answer, pause)
            if wait is None or time.monotonic() + wait > until:
                refusal = f"{method} {_plain(path)}: {answer.status}: {said(answer)}"
                raise ConnectorError(refusal, status=answer.status)
            self._wait(wait)
            pause *= 2

    def _send(self, method: str, path: str, headers: Mapping[str, str], body: bytes | None) -> Answer:
        self._keep_pace()
        if self._token is None:
            self._log_in()
        url = path if path.startswith(("https://", "http://")) else self._base + path
        if not _is_below(self._base, url):
            raise ConnectorError(f"{_plain(path)} leads to another system: its token is not sent there")
        self.requests += 1
        return self._sender.request(
            method,
            url,
            headers={
                "Accept": "application/json",
                **headers,
                "Authorization": f"{self._login.scheme} {self._token}",
            },
            body=body,
            timeout_seconds=_TIMEOUT_SECONDS,
            largest_answer=LARGEST_ANSWER,
        )

    def _keep_pace(self) -> None:
        now = time.monotonic()
        if now < self._next_at:
            self._wait(self._next_at - now)
        self._next_at = max(now, self._next_at) + 1 / self._connection.requests_a_second

    def _log_in(self) -> None:
        connection = self._connection
        form = {
            "client_id": connection.client_id or "",
            "client_secret": connection.secret(),
            **self._login.form,
        }
        if connection.refresh_token is not None:
            form |= {
                "grant_type": "refresh_token",
                "refresh_token": connection.refresh_token.get_secret_value(),
            }
        answer = self._sender.request(
            "POST",
            connection.token_url or "",
            headers={"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"},
            body=urlencode(form).encode(),
            timeout_seconds=_TIMEOUT_SECONDS,
            largest_answer=2**20,
        )
        given = answer.json() if answer.status == 200 else {}
        if not isinstance(given, dict) or not isinstance(given.get("access_token"), str):
            raise ConnectorError(f"logging in was refused: {answer.status}: {said(answer)}")
        self._token = given["access_token"]
        if self._login.base_key and isinstance(given.get(self._login.base_key), str):
            self._base = given[self._login.base_key].rstrip("/")


def _is_below(base: str, url: str) -> bool:
    """Tell whether an address is a part of a system, and not of one whose name only begins like its name."""
    return url == base or url.startswith((f"{base}/", f"{base}?"))


def _json_of(answer: Answer, method: str, path: str) -> Any:  # noqa: ANN401  any JSON value
    if answer.status in {204, _NOT_CHANGED} or not answer.body:
        return None
    try:
        return answer.json()
    except NoAnswerError as error:
        raise ConnectorError(f"{method} {_plain(path)}: {error}") from error


def _asked_to_wait(answer: Answer, pause: float) -> float | None:
    """Return for how many seconds a system asks to be left alone; None if waiting is of no use."""
    busy = answer.status in {429, 502, 503, 504} or (
        answer.status == 403 and b"REQUEST_LIMIT_EXCEEDED" in answer.body
    )
    if not busy:
        return None
    asked = answer.headers.get("retry-after", "")
    return float(asked) if asked.isascii() and asked.isdigit() else pause


def said(answer: Answer) -> str:
    """Return what a system says of a refusal, cut to what fits a line."""
    text = answer.body[:400].decode(errors="replace")
    return " ".join(text.split()) or "without a reason"


def _plain(path: str) -> str:
    """Return a path without its query, which may tell of people."""
    return path.split("?", 1)[0]
