"""Whoever makes pictures of all pages gets all pages, and the demonstration has something to show on them."""

from __future__ import annotations

from flask import Flask

from tests.serving.every_page import PAGES, Is
from tests.serving.screenshots import NOT_PICTURED, PICTURED

PARTS_FOR_PEOPLE = {"public_forms.show", "selling_pages.print_quote"}
"""Parts that people see as a page of its own: on another site, and on paper."""


def test_every_page_that_people_open_is_pictured_or_says_why_not(app: Flask) -> None:
    wanted = {name for name, page in PAGES.items() if page.is_a is Is.PAGE} | PARTS_FOR_PEOPLE
    pictured = {endpoint_of(app, path) for _, path in PICTURED.values()}
    assert sorted(wanted - pictured - NOT_PICTURED.keys()) == []
    assert sorted(NOT_PICTURED.keys() - wanted) == []
    assert sorted(NOT_PICTURED.keys() & pictured) == []


def endpoint_of(app: Flask, path: str) -> str:
    """Return what answers to an address, with any number in place of each word in braces."""
    shown = path.split("?", maxsplit=1)[0].format_map(AnyNumber())
    endpoint, _ = app.url_map.bind("localhost").match(shown)
    return str(endpoint)


class AnyNumber(dict[str, str]):
    """Stands for the records of a demonstration."""

    def __missing__(self, name: str) -> str:
        return "1"
