"""The page of a record in a browser: a fact changed against somebody else, a mention, a file, a draft."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from playwright.sync_api import Browser, Page, expect

from crm_core.clock import SystemClock
from crm_core.notifications import list_notifications
from crm_core.records import Deal
from crm_core.store import Store
from serving.app import create_app
from serving.settings import Settings
from tests.factories import make_account, make_activity, make_contact, make_deal
from tests.serving.axe import serious
from tests.serving.browser import Watched, serving
from tests.serving.conftest import Cast
from tests.serving.screenshots import cookie_of


@pytest.fixture
def watched() -> Iterator[Watched]:
    seen = Watched()
    yield seen
    assert [text for text in seen.errors if "409" not in text and "422" not in text] == []
    assert seen.foreign == []


@pytest.fixture
def app(settings: Settings, store: Store) -> Flask:
    return create_app(settings, store)


@pytest.fixture
def alive(app: Flask, store: Store, cast: Cast) -> Iterator[str]:
    """A served store with Ana's deal 1 and its customer, contact and calls."""
    store.clock = SystemClock()
    with store.transaction() as transaction:
        ana = {"owner_id": cast["Ana"].id}
        account = make_account(transaction, **ana)
        make_contact(transaction, account_id=account.id, **ana)
        deal = make_deal(transaction, account_id=account.id, amount=1000, currency="EUR", **ana)
        for number in range(30):
            make_activity(transaction, deal_id=deal.id, subject=f"Call no {number}.")
    with serving(app) as address:
        yield address


def open_as(
    browser: Browser, watched: Watched, app: Flask, cast: Cast, address: str, path: str, **more: Any
) -> Page:
    context = browser.new_context(locale="en-GB", **more)
    context.add_cookies([{"name": "crm", "value": cookie_of(app, cast["Ana"]), "url": address}])
    page = context.new_page()
    page.set_default_timeout(15_000)
    watched.watch(page, address)
    page.goto(f"{address}{path}")
    return page


def test_a_fact_is_changed_by_keyboard_and_a_clash_shows_both(
    browser: Browser, watched: Watched, app: Flask, alive: str, cast: Cast, store: Store
) -> None:
    page = open_as(browser, watched, app, cast, alive, "/deals/1")
    pencil = page.locator('[data-edit="amount"]')
    pencil.focus()
    page.keyboard.press("Enter")
    amount = page.locator("#field-amount")
    expect(amount).to_be_focused()
    amount.fill("a lot")
    page.keyboard.press("Enter")
    expect(page.locator("#field-amount-why")).to_contain_text("no amount")
    with store.transaction(actor_id=cast["Mara"].id) as transaction:
        transaction.update(transaction.get(Deal, 1), {"amount": 2000})
    page.locator("#field-amount").fill("3000")
    page.keyboard.press("Enter")
    expect(page.locator("[data-clash]")).to_contain_text("Mara has changed this meanwhile.")
    expect(page.locator("[data-clash]")).to_contain_text("Theirs: €2,000")
    expect(page.locator("#mine-amount")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator('[data-fact="amount"]')).to_contain_text("€3,000")
    expect(page.locator("[data-facts-status]")).to_have_text("Saved.")
    expect(page.locator('[data-edit="amount"]')).to_be_focused()
    with store.reading() as session:
        assert session.get_one(Deal, 1).amount == 3000
    page.context.close()


def test_a_colleague_is_mentioned_by_completion_and_told(
    browser: Browser, watched: Watched, app: Flask, alive: str, cast: Cast, store: Store
) -> None:
    page = open_as(browser, watched, app, cast, alive, "/deals/1", viewport={"width": 390, "height": 844})
    page.locator("#comment-body").focus()
    page.keyboard.type("Look, @ma")
    expect(page.get_by_role("option", name="Mara")).to_be_visible()
    page.keyboard.press("Enter")
    expect(page.locator("#comment-body")).to_have_value("Look, @Mara ")
    page.get_by_role("button", name="Say it").click()
    expect(page.locator("#timeline .comment-text").first).to_have_text("Look, @Mara")
    expect(page.locator("[data-said]")).to_have_text("Said. Told: Mara.")
    expect(page.locator("#comment-body")).to_have_value("")
    with store.reading() as session:
        assert len(list_notifications(session, cast["Mara"].id, limit=5)) == 1
    page.get_by_role("link", name="Older").click()
    expect(page.locator("#happened")).to_contain_text("Call no 3.")
    page.locator("#happened").get_by_role("link", name="Comments").click()
    expect(page.locator("#happened ol.timeline > li")).to_have_count(1)
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    page.context.close()


def test_a_file_is_sent_and_what_was_typed_survives_a_reload(
    browser: Browser, watched: Watched, app: Flask, alive: str, cast: Cast, tmp_path: Path
) -> None:
    page = open_as(browser, watched, app, cast, alive, "/deals/1")
    file = tmp_path / "offer.pdf"
    file.write_bytes(b"%PDF-1.7 an offer")
    page.locator("#file").set_input_files(file)
    page.get_by_role("button", name="Add", exact=True).click()
    expect(page.locator(".files-card")).to_contain_text("offer.pdf")
    with page.expect_download() as saved:
        page.get_by_role("link", name="offer.pdf").first.click()
    assert saved.value.suggested_filename == "offer.pdf"
    assert saved.value.path().read_bytes() == file.read_bytes()
    page.locator("#subject").fill("Half a sente")
    page.locator("#comment-body").fill("Half a comm")
    page.reload()
    expect(page.locator("#subject")).to_have_value("Half a sente")
    expect(page.locator("#comment-body")).to_have_value("Half a comm")
    expect(page.locator("#log [data-restored]")).to_be_visible()
    page.get_by_role("button", name="Log it").click()
    expect(page.locator("#timeline")).to_contain_text("Half a sente")
    page.reload()
    expect(page.locator("#subject")).to_have_value("")
    page.context.clear_cookies()  # as if the session had ended
    page.get_by_role("button", name="Say it").click()
    expect(page.locator("[data-said]")).to_contain_text("Your session has ended")
    page.context.add_cookies([{"name": "crm", "value": cookie_of(app, cast["Ana"]), "url": alive}])
    page.reload()
    expect(page.locator("#comment-body")).to_have_value("Half a comm")
    # the browser notes the refusal
    watched.errors[:] = [text for text in watched.errors if "400" not in text]
    page.context.close()


def test_tags_are_put_on_and_taken_off_by_keyboard(
    browser: Browser, watched: Watched, app: Flask, alive: str, cast: Cast
) -> None:
    page = open_as(browser, watched, app, cast, alive, "/deals/1", viewport={"width": 390, "height": 844})
    page.locator("#tag-word").focus()
    page.keyboard.type("hot")
    page.keyboard.press("Enter")
    expect(page.locator("#tags [role=status]")).to_have_text("Put on: hot")
    expect(page.locator("#tag-word")).to_be_focused()
    page.get_by_role("button", name="Take off: hot").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#tags [role=status]")).to_have_text("Taken off: hot")
    expect(page.locator("#tags .tag")).to_have_count(0)
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    page.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(
    browser: Browser, watched: Watched, app: Flask, alive: str, cast: Cast, scheme: str
) -> None:
    page = open_as(browser, watched, app, cast, alive, "/deals/1", color_scheme=scheme)
    page.locator('[data-edit="amount"]').click()
    expect(page.locator("#field-amount")).to_be_visible()
    expect(page.locator(".similar-card")).to_be_visible()
    expect(page.locator("#tag-word")).to_be_visible()
    found = serious(page)
    for path in (
        "/contacts/1",
        "/contacts",
        "/records/deal/1/edit",
        "/records/deal/1/delete",
        "/records/ticket",
    ):
        page.goto(f"{alive}{path}")
        found += [f"{path}: {each}" for each in serious(page)]
    assert found == []
    page.context.close()
