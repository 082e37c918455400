"""How pages and our files go over the wire: compressed, and files only once."""

from __future__ import annotations

import gzip
import re

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from tests.serving.conftest import Cast, logged_in

SMALL = {"Accept-Encoding": "gzip"}
MOST_BYTES = 300 * 1024


@pytest.fixture
def page(app: Flask, cast: Cast) -> str:
    return logged_in(app, cast["Ana"]).get("/account").text


def fetched(app: Flask, path: str, **headers: str) -> TestResponse:
    """Ask for something and read it to its end."""
    answer = app.test_client().get(path, headers=headers, buffered=True)
    answer.close()
    return answer


def files_of(page: str) -> list[str]:
    return re.findall(r'(?:src|href)="(/(?:static|bootstrap)[^"]+)"', page)


def test_a_page_and_all_its_files_are_far_below_what_a_first_view_may_weigh(app: Flask, page: str) -> None:
    sent = [fetched(app, each, **SMALL) for each in files_of(page)]
    assert len(sent) > 5
    assert sum(len(each.data) for each in sent) < MOST_BYTES / 4


def test_a_file_is_the_same_compressed_or_not(app: Flask, page: str) -> None:
    for each in files_of(page):
        small = fetched(app, each, **SMALL)
        whole = gzip.decompress(small.data) if "Content-Encoding" in small.headers else small.data
        assert whole == fetched(app, each).data


def test_a_file_asked_for_by_its_version_is_kept_for_good(app: Flask, page: str) -> None:
    for each in files_of(page):
        answer = fetched(app, each, **SMALL)
        assert answer.headers["Cache-Control"] == "private, max-age=31536000, immutable"
        assert "Cookie" not in answer.headers.get("Vary", "")


@pytest.mark.parametrize("query", ["", "?v=1"])
def test_a_file_of_no_or_another_version_is_asked_for_again(app: Flask, query: str) -> None:
    answer = fetched(app, f"/static/web/pages.css{query}")
    assert "immutable" not in answer.headers.get("Cache-Control", "")


def test_a_page_is_compressed_for_who_takes_it_and_never_twice_as_long(app: Flask, cast: Cast) -> None:
    client = logged_in(app, cast["Ana"])
    sent = [client.get("/account", headers=SMALL) for _ in range(8)]
    assert "<main" in gzip.decompress(sent[0].data).decode()
    assert sent[0].headers["Cache-Control"] == "no-store"
    assert len({len(each.data) for each in sent}) > 1  # nobody is told how long a page is


def test_who_takes_no_compression_gets_none_and_the_api_is_left_alone(app: Flask, cast: Cast) -> None:
    assert "Content-Encoding" not in logged_in(app, cast["Ana"]).get("/account").headers
    api = app.test_client().get("/api/v1/leads", headers={**SMALL, **cast.header("Ana")})
    assert "Content-Encoding" not in api.headers


def test_a_small_file_that_a_browser_has_is_not_sent_again(app: Flask) -> None:
    tag = fetched(app, "/static/web/pages.css", **SMALL).headers["ETag"]
    again = fetched(app, "/static/web/pages.css", **SMALL, **{"If-None-Match": tag})
    assert (again.status_code, again.data) == (304, b"")
