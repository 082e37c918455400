"""A manager's pages in a real browser: a warning taken in hand in place, and nothing that axe objects to."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

import pytest
from flask import Flask
from playwright.sync_api import Browser, Page, expect

from crm_core.clock import FixedClock
from crm_core.store import Store
from serving.alerting import Alerting
from tests.alerts.world import DAY, say
from tests.factories import make_account, make_contract, make_lead
from tests.serving.axe import serious
from tests.serving.browser import Watched, serving
from tests.serving.conftest import *  # noqa: F403  its fixtures
from tests.serving.conftest import Cast
from tests.serving.screenshots import cookie_of

PAGES = (
    *("/alerts", "/alerts/past", "/forecast", "/funnel", "/funnel/leads", "/team"),
    *("/reports", "/reports/show?ready=leads", "/reports/retention", "/reports/behind?measure=leads_created"),
    "/customers/1/profile",
)


@pytest.fixture
def mara(
    browser: Browser, app: Flask, store: Store, clock: FixedClock, cast: Cast
) -> Iterator[tuple[Page, str]]:
    """Mara's browser; one of her customers may leave."""
    with store.transaction() as transaction:
        customer = make_account(transaction, owner_id=cast["Ana"].id).id
        make_contract(transaction, account_id=customer, ends_on=date(2026, 12, 31))
        make_lead(transaction, owner_id=cast["Ana"].id)
    say(store, customer, 0.12)
    clock.advance(DAY)
    say(store, customer, 0.41)
    Alerting(store).run_until_done()
    seen = Watched()
    with serving(app) as address:
        context = browser.new_context(locale="en-GB", viewport={"width": 1440, "height": 900})
        context.add_cookies([{"name": "crm", "value": cookie_of(app, cast["Mara"]), "url": address}])
        page = context.new_page()
        seen.watch(page, address)
        yield page, address
        context.close()
    assert (seen.errors, seen.foreign) == ([], [])


def test_a_warning_is_taken_in_hand_in_place_and_no_page_has_a_serious_fault(mara: tuple[Page, str]) -> None:
    page, address = mara
    page.goto(f"{address}/alerts")
    expect(page.locator(".at-risk-sum")).to_have_text("€4,100")
    expect(page.locator(".alerts .step")).to_contain_text("Nothing that was measured")
    page.get_by_role("button", name="In hand").click()
    expect(page.get_by_role("button", name="Open again")).to_be_focused()
    expect(page.locator("#bell")).to_be_hidden()
    faults = []
    for path in PAGES:
        page.goto(address + path)
        faults += [f"{path}: {each}" for each in serious(page)]
    assert faults == []
