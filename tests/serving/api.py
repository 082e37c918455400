"""The API as one person calls it, without a network."""

from __future__ import annotations

from typing import Any

from flask.testing import FlaskClient

from tests.serving.conftest import Cast


class Api:
    """Sends requests with somebody's key."""

    def __init__(self, client: FlaskClient, cast: Cast, name: str) -> None:
        self._client, self._headers = client, cast.header(name)

    def __call__(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        more = {name.replace("_", "-"): value for name, value in headers.items()}
        path = path if path.startswith("/api") else f"/api/v1/{path}"
        return self._client.open(path, method=method, json=body, headers={**self._headers, **more})
