"""Today and the board in a real browser: a call logged in its row, a deal dragged and asked about."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask
from playwright.sync_api import Browser, Page, expect

from crm_core.clock import SystemClock
from crm_core.deals import move_deal
from crm_core.records import Deal
from crm_core.store import Store
from serving.app import create_app
from serving.champions import Champions
from serving.rescoring import Rescorer, RescoringThread
from serving.settings import Settings
from tests.factories import make_account, make_activity, make_deal, make_lead
from tests.serving.axe import serious
from tests.serving.browser import Watched, serving
from tests.serving.conftest import Cast
from tests.serving.hand_made import HandMadeModel
from tests.serving.test_browser import log_in, open_page, watched  # noqa: F401  a fixture


@pytest.fixture
def alive(
    store: Store, cast: Cast, settings: Settings, promote: Any, models: dict[str, HandMadeModel]
) -> Iterator[str]:
    """A served store that scores what changes: 20 %, and 15 % more for each call."""
    store.clock = SystemClock()

    def probability(record_id: int) -> float:
        with store.reading() as session:
            calls = session.connection().exec_driver_sql(
                "SELECT count(*) FROM activities WHERE kind = 'call' AND (lead_id = ? OR deal_id = ?)",
                (record_id, record_id),
            )
            return min(0.95, 0.2 + 0.15 * int(calls.scalar_one()))

    for task in ("lead_scoring", "win_probability"):
        promote(task, probability=probability)
    mine = cast["Ana"].id
    with store.transaction() as transaction:
        account = make_account(transaction, owner_id=mine)
        for number in range(1, 4):
            make_lead(transaction, owner_id=mine, company=f"Company {number}")
            make_deal(transaction, owner_id=mine, name=f"Deal {number}", account_id=account.id)
        due_at = store.clock.now() - timedelta(days=1)
        make_activity(transaction, lead_id=2, kind="task", direction=None, subject="Call back", due_at=due_at)
    champions = Champions(store, lambda task, promotion: models[promotion.model_version])
    rescorer = Rescorer(store, champions)
    while rescorer.run_once():
        pass
    thread = RescoringThread(rescorer)
    app: Flask = create_app(settings, store, champions, thread)
    thread.start()
    with serving(app) as address:
        yield address
    thread.stop()


def fits(page: Page) -> bool:
    return bool(page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth"))


@pytest.mark.parametrize(("width", "language"), [(1440, "en"), (390, "zh")])
def test_ana_works_her_list_and_sees_the_score_move(
    browser: Browser,
    watched: Watched,  # noqa: F811  the fixture
    alive: str,
    width: int,
    language: str,
) -> None:
    page = open_page(browser, watched, alive, language, width)
    log_in(page, language)
    first = page.locator("ol.day > .day-row").first
    expect(first).to_contain_text("Company 2")  # whose step is due
    expect(first).to_contain_text("20%")
    assert serious(page) == []
    first.locator("a[data-open]").click()
    panel = first.locator(".day-panel")
    expect(panel).to_be_visible()
    assert fits(page)
    assert serious(page) == []
    panel.locator("[name=subject]").first.fill("谈了 <b>")
    panel.locator("form[data-scored] button").click()
    expect(first.locator(".probability")).to_have_text("35%", timeout=5_000)
    expect(first.locator(".day-head")).to_have_class("day-head fresh")
    expect(first.locator("[data-status]")).to_contain_text("35%")
    expect(first.locator(".day-marks .is-done")).to_be_visible()
    expect(page.locator("[data-progress] [data-count]")).to_have_text("1")
    page.reload()
    expect(page.locator("ul.day > .day-row")).to_contain_text("Company 2")
    page.context.close()


def test_what_moves_no_score_says_so_at_once(
    browser: Browser,
    watched: Watched,  # noqa: F811  the fixture
    alive: str,
) -> None:
    page = open_page(browser, watched, alive, "en", 1440)
    log_in(page, "en")
    row = page.locator("#row-deal-1")
    row.locator("a[data-open]").click()
    row.locator("label[for=kind-deal-1-note]").click()
    row.get_by_role("button", name="Log it").click()
    expect(row.locator("[data-status]")).to_have_text("Logged. It does not change the score.")
    page.goto(f"{alive}/deals/1")
    page.locator("label[for=kind-note]").click()
    page.get_by_role("button", name="Log it").click()
    expect(page.locator("#log [data-status]")).to_have_text("Logged. It does not change the score.")
    page.context.close()


def test_a_step_is_planned_and_a_lost_connection_loses_nothing(
    browser: Browser,
    watched: Watched,  # noqa: F811  the fixture
    alive: str,
) -> None:
    page = open_page(browser, watched, alive, "en", 1440)
    log_in(page, "en")
    row = page.locator("#row-deal-3")
    row.locator("a[data-open]").click()
    row.locator("[name=subject]").nth(1).fill("Send the offer")
    page.context.set_offline(True)
    row.get_by_role("button", name="Plan it").click()
    expect(row.locator("[data-refused]")).to_contain_text("there is no connection")
    expect(row.locator("[name=subject]").nth(1)).to_have_value("Send the offer")
    page.context.set_offline(False)
    row.get_by_role("button", name="Plan it").click()
    expect(row.locator(".day-next")).to_contain_text("Send the offer")
    row.get_by_text("Not right?").click()
    row.get_by_role("button", name="Say so").click()
    expect(row.locator("[data-status]")).to_contain_text("Thank you.")
    watched.errors[:] = [text for text in watched.errors if "ERR_INTERNET_DISCONNECTED" not in text]
    page.context.close()


def test_a_deal_is_dragged_asked_about_and_dragged_into_a_conflict(
    browser: Browser,
    watched: Watched,  # noqa: F811  the fixture
    alive: str,
    store: Store,
) -> None:
    page = open_page(browser, watched, alive, "en", 1440)
    log_in(page, "en")
    page.goto(f"{alive}/deals/board")
    assert serious(page) == []
    page.locator("#card-1").drag_to(page.locator("#lane-needs"))
    expect(page.locator("#lane-needs #card-1")).to_be_visible()
    expect(page.locator("#lane-needs .lane-total")).to_contain_text("€12,000")
    expect(page.locator("#lane-first_contact .lane-total")).to_contain_text("€24,000")
    expect(page.locator("[data-board-status]")).to_contain_text("Moved.")

    # Negotiation wants a day: leaving it puts the card back, giving it moves the card.
    page.locator("#card-2").drag_to(page.locator("#lane-negotiation"))
    ask = page.locator("dialog[open]")
    expect(ask).to_contain_text("This is needed there:")
    assert serious(page) == []
    ask.get_by_text("Leave it where it is").click()
    expect(page.locator("#lane-first_contact #card-2")).to_be_visible()
    page.locator("#card-2").drag_to(page.locator("#lane-negotiation"))
    ask.locator("[name=expected_close_on]").fill("2099-01-01")
    ask.get_by_role("button", name="Move").click()
    expect(page.locator("#lane-negotiation #card-2")).to_be_visible()

    # Somebody else was faster.
    with store.transaction() as transaction:
        move_deal(transaction, transaction.get(Deal, 3), "needs")
    page.locator("#card-3").drag_to(page.locator("#lane-negotiation"))
    expect(ask).to_contain_text("Somebody else has changed Deal 3")
    expect(ask).to_contain_text("First contact → Needs")
    page.keyboard.press("Escape")
    expect(page.locator("#lane-first_contact #card-3")).to_be_visible()
    watched.errors[:] = [text for text in watched.errors if "412" not in text and "422" not in text]
    page.context.close()


def test_a_deal_is_moved_by_keyboard_and_lost_with_a_reason_on_a_phone(
    browser: Browser,
    watched: Watched,  # noqa: F811  the fixture
    alive: str,
) -> None:
    page = open_page(browser, watched, alive, "en", 390, color_scheme="dark")
    log_in(page, "en")
    page.goto(f"{alive}/deals/board")
    assert fits(page)
    assert serious(page) == []
    page.locator("#card-1 summary").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.locator("#to-1")).to_be_focused()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#lane-needs #card-1")).to_be_visible()
    page.locator("#card-2 summary").click()
    page.locator("#to-2").select_option("lost")
    page.locator("#card-2").get_by_role("button", name="Move").click()
    page.locator("#ask-lost_reason").fill("price")
    page.locator("dialog[open]").get_by_role("button", name="Move").click()
    expect(page.locator("#card-2")).to_have_count(0)
    expect(page.locator("#figures-first_contact .lane-count")).to_have_text("1")
    watched.errors[:] = [text for text in watched.errors if "422" not in text]
    page.context.close()
