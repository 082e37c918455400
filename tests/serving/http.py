"""A small HTTP client: real sockets, cookies, and nothing that follows or hides anything."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import urlencode, urlsplit


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)


@dataclass
class Http:
    """One caller of a service."""

    address: str
    key: str | None = None
    cookies: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)

    def get(self, path: str) -> Answer:
        return self.send("GET", path)

    def post(self, path: str, body: Any = None) -> Answer:
        return self.send("POST", path, json.dumps(body), "application/json")

    def submit(self, path: str, **fields: str) -> Answer:
        return self.send("POST", path, urlencode(fields), "application/x-www-form-urlencoded")

    def send(
        self, method: str, path: str, body: str | None = None, content_type: str | None = None
    ) -> Answer:
        headers = dict(self.headers)
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        if content_type:
            headers["Content-Type"] = content_type
        if self.cookies:
            headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        connection = HTTPConnection(urlsplit(self.address).netloc, timeout=15)
        try:
            connection.request(method, path, body and body.encode(), headers)
            answer = connection.getresponse()
            self._keep_cookies(answer.headers.get_all("Set-Cookie") or [])
            return Answer(status=answer.status, headers=dict(answer.headers), text=answer.read().decode())
        finally:
            connection.close()

    def _keep_cookies(self, sent: list[str]) -> None:
        for text in sent:
            for name, morsel in SimpleCookie(text).items():
                self.cookies[name] = morsel.value
