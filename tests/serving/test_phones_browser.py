"""Tables on a phone, and the form of a rule that shows the fields of what is chosen."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from flask import Flask
from playwright.sync_api import Browser, Page, expect

from crm_core.clock import SystemClock
from crm_core.store import Store
from serving.app import create_app
from serving.settings import Settings
from tests.factories import make_lead
from tests.serving.browser import Watched, serving
from tests.serving.conftest import Cast
from tests.serving.screenshots import WIDTHS, cookie_of

PHONE = dict(zip(("width", "height"), WIDTHS["phone"], strict=True))


@pytest.fixture
def app(settings: Settings, store: Store) -> Flask:
    return create_app(settings, store)


@pytest.fixture
def page(browser: Browser, app: Flask, store: Store, cast: Cast) -> Iterator[Page]:
    """The phone of an administrator; a lead has come from a fair."""
    store.clock = SystemClock()
    with store.transaction() as transaction:
        make_lead(transaction, owner_id=cast["Ana"].id, source="trade show", name="Wang Fang")
    watched = Watched()
    with serving(app) as address:
        context = browser.new_context(locale="en-GB", viewport=PHONE, base_url=address)  # type: ignore[arg-type]  # both
        context.add_cookies([{"name": "crm", "value": cookie_of(app, cast["Adam"]), "url": address}])
        opened = context.new_page()
        watched.watch(opened, address)
        yield opened
        context.close()
    assert watched.errors == []
    assert watched.foreign == []


def test_a_table_of_figures_is_drawn_past_what_its_rows_are_about(page: Page) -> None:
    page.goto("/funnel")
    table = page.locator(".table-scroll").first
    first, last = (table.locator("tbody tr").last.locator(place) for place in ("th", "td:last-child"))
    before = first.bounding_box()
    expect(last).not_to_be_in_viewport(ratio=0.9)
    table.evaluate("each => { each.scrollLeft = each.scrollWidth; }")
    assert first.bounding_box() == before
    expect(last).to_be_in_viewport(ratio=0.9)


def test_a_list_is_cards_whose_values_say_what_they_are(page: Page) -> None:
    page.goto("/funnel/leads")
    table = page.locator(".table-scroll").first
    assert table.evaluate("each => each.scrollWidth <= each.clientWidth")
    named = "each => getComputedStyle(each, '::before').content"
    assert table.locator("td").evaluate_all(f"all => all.map({named})") == [
        '"Status"',
        '"Owner"',
        '"Created at"',
    ]


def test_a_rule_shows_the_fields_of_what_is_chosen_at_once(page: Page) -> None:
    page.goto("/admin/automation/new")
    page.get_by_label("Name (English)").first.fill("Sleeping leads")
    page.get_by_label("What sets it off").select_option("idle")
    expect(page.get_by_label("For how long")).to_be_visible()
    expect(page.get_by_label("Name (English)").first).to_have_value("Sleeping leads")
    expect(page.get_by_label("What sets it off")).to_be_in_viewport()
