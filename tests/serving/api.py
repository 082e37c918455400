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


def turn(api: Api, path: str) -> list[dict[str, Any]]:
    """Return the items of all pages, going where the header says."""
    found: list[dict[str, Any]] = []
    where: str | None = f"/api/v1/{path}"
    while where is not None:
        page = api("GET", where)
        assert page.status_code == 200, page.text
        found += page.json["items"]
        link = page.headers.get("Link")
        assert (link is None) == (page.json["next_cursor"] is None)
        assert link is None or link.endswith('; rel="next"')
        where = link and link.partition(">")[0].removeprefix("<")
    return found


def follow(api: Api, after: str, limit: int = 3) -> tuple[list[dict[str, Any]], str]:
    """Return all changes after a cursor, and the cursor in the end."""
    found: list[dict[str, Any]] = []
    while True:
        page = api("GET", f"changes?after={after}&limit={limit}").json
        found, after = found + page["items"], page["next_cursor"]
        if not page["more"]:
            return found, after


def tag_version(answer: Any) -> str:
    """Return the version in the tag of an answer."""
    return str(answer.headers["ETag"]).strip('"').split("-")[0]
