"""The pages in a real browser: log in, work the list, log a call and see the score change."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask
from playwright.sync_api import Browser, Page, Response, expect

from crm_core.clock import SystemClock
from crm_core.store import Store
from serving.app import create_app
from serving.champions import Champions
from serving.rescoring import Rescorer, RescoringThread
from serving.settings import Settings
from tests.factories import make_account, make_activity, make_deal, make_lead
from tests.serving.browser import Watched, serving
from tests.serving.conftest import PASSWORD, Cast
from tests.serving.hand_made import HandMadeModel

WIDTHS = [pytest.param(390, id="phone"), pytest.param(1440, id="desk")]
LANGUAGES = ["en", "zh"]

WORDS = {
    "en": {"log_in": "Log in", "log": "Log it", "call": "Call", "done": "Logged. The new score is shown."},
    "zh": {"log_in": "登录", "log": "记录", "call": "电话", "done": "已记录，新的评分已显示。"},
}


@pytest.fixture
def alive(
    store: Store, cast: Cast, settings: Settings, promote: Any, models: dict[str, HandMadeModel]
) -> Iterator[str]:
    """A served store that scores what changes, by a plain rule: 20 %, and 15 % more for each call."""
    store.clock = SystemClock()

    def probability(record_id: int) -> float:
        with store.reading() as session:
            calls = session.connection().exec_driver_sql(
                "SELECT count(*) FROM activities WHERE lead_id = ? OR deal_id = ?", (record_id, record_id)
            )
            return min(0.95, 0.2 + 0.15 * int(calls.scalar_one()))

    promote("lead_scoring", probability=probability)
    promote("win_probability", probability=probability)
    with store.transaction() as transaction:
        for number in range(30):
            make_lead(transaction, owner_id=cast["Ana"].id, company=f"Company {number}")
        make_activity(transaction, lead_id=7)
        account = make_account(transaction, owner_id=cast["Ana"].id)
        make_deal(transaction, owner_id=cast["Ana"].id, account_id=account.id, rep_probability=0.7)
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


@pytest.fixture
def watched() -> Iterator[Watched]:
    seen = Watched()
    yield seen
    assert seen.errors == []
    assert seen.foreign == []


def open_page(
    browser: Browser, watched: Watched, address: str, language: str, width: int, **more: Any
) -> Page:
    locale = {"en": "en-GB", "zh": "zh-CN"}[language]
    still = {"reduced_motion": "reduce", **more}  # no colour is looked at on its way
    page = browser.new_context(locale=locale, viewport={"width": width, "height": 844}, **still).new_page()
    page.set_default_timeout(15_000)
    watched.watch(page, address)
    page.goto(address)
    return page


def log_in(page: Page, language: str) -> None:
    page.locator("#email").fill("ana@example.com")
    page.locator("#password").fill(PASSWORD)
    page.get_by_role("button", name=WORDS[language]["log_in"]).click()
    page.wait_for_url("**/today")


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("language", LANGUAGES)
def test_ana_logs_a_call_and_sees_the_score_move(
    browser: Browser, watched: Watched, alive: str, language: str, width: int
) -> None:
    words = WORDS[language]
    page = open_page(browser, watched, alive, language, width)
    log_in(page, language)
    page.goto(f"{alive}/leads")
    first = page.locator("table.work tbody tr").first
    expect(first).to_contain_text("Company 6")
    expect(first).to_contain_text("35%")
    first.get_by_role("link").click()
    expect(page.locator("#score")).to_contain_text("35%")
    page.get_by_text(words["call"], exact=True).first.click()
    page.locator("#subject").fill("谈了报价 <b>")
    page.get_by_role("button", name=words["log"], exact=True).click()
    expect(page.locator("#score .verdict-number")).to_have_text("50%", timeout=2_000)
    expect(page.locator("#score .change")).to_contain_text("15")
    expect(page.locator("#timeline")).to_contain_text("谈了报价 <b>")
    expect(page.locator("[data-status]")).to_have_text(words["done"])
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    page.context.close()


def test_a_deal_keeps_the_reps_own_probability_beside_the_models(
    browser: Browser, watched: Watched, alive: str
) -> None:
    page = open_page(browser, watched, alive, "en", 1440)
    log_in(page, "en")
    page.get_by_role("link", name="Deals").click()
    page.get_by_role("link", name="Twenty pumps").click()
    expect(page.locator("#score")).to_contain_text("The rep says 70%.")
    page.get_by_role("button", name="Log it").click()
    expect(page.locator("#score .verdict-number")).to_have_text("35%", timeout=2_000)
    expect(page.locator("#score")).to_contain_text("The rep says 70%.")
    page.context.close()


def test_a_refused_form_says_why_and_keeps_what_was_written(
    browser: Browser, watched: Watched, alive: str
) -> None:
    page = open_page(browser, watched, alive, "en", 1440)
    log_in(page, "en")
    page.goto(f"{alive}/leads/1")
    page.locator("#subject").fill("Kept words")
    page.locator("#occurred_at").fill("2099-01-01T10:00")
    page.get_by_role("button", name="Log it").click()
    expect(page.locator("[data-refused]")).to_contain_text("occurred_at")
    expect(page.locator("#subject")).to_have_value("Kept words")
    watched.errors[:] = [
        text for text in watched.errors if "422" not in text
    ]  # the browser notes the refusal
    page.context.close()


def test_what_was_written_survives_a_lost_connection(browser: Browser, watched: Watched, alive: str) -> None:
    page = open_page(browser, watched, alive, "en", 390)
    log_in(page, "en")
    page.goto(f"{alive}/leads/1")
    page.locator("#subject").fill("Kept words")
    page.context.set_offline(True)
    page.get_by_role("button", name="Log it").click()
    expect(page.locator("[data-refused]")).to_contain_text("there is no connection")
    expect(page.locator("#subject")).to_have_value("Kept words")
    page.context.set_offline(False)
    page.get_by_role("button", name="Log it").click()
    expect(page.locator("#timeline")).to_contain_text("Kept words")
    watched.errors[:] = [text for text in watched.errors if "ERR_INTERNET_DISCONNECTED" not in text]
    page.context.close()


def tab_to(page: Page, selector: str, *, at_most: int = 40) -> None:
    """Press Tab until what is focused is such an element."""
    for _ in range(at_most):
        page.keyboard.press("Tab")
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):
            return
    raise AssertionError(f"{selector} is not reached with {at_most} tabs")


def test_the_list_is_worked_by_keyboard_alone(browser: Browser, watched: Watched, alive: str) -> None:
    page = open_page(browser, watched, alive, "en", 1440)
    page.keyboard.type("ana@example.com")
    page.keyboard.press("Tab")
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_url("**/today")
    page.goto(f"{alive}/leads")
    expect(page.locator("table.work")).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.locator("a.skip")).to_be_focused()
    page.keyboard.press("Enter")
    tab_to(page, "table.work tbody input")
    page.keyboard.press("Enter")  # in a box it does nothing with the row
    page.keyboard.press("Space")
    expect(page.locator(".many-count")).to_have_text("1")
    tab_to(page, "table.work tbody a")
    page.keyboard.press("Enter")
    expect(page.locator("#score")).to_be_visible()
    page.locator("#subject").focus()
    page.keyboard.type("By keyboard")
    page.keyboard.press("Enter")
    expect(page.locator("#score .verdict-number")).to_have_text("50%", timeout=2_000)
    page.context.close()


def test_without_a_script_everything_still_works(browser: Browser, watched: Watched, alive: str) -> None:
    page = open_page(browser, watched, alive, "en", 1440, java_script_enabled=False)
    log_in(page, "en")
    page.goto(f"{alive}/leads/7")
    page.locator("#subject").fill("No script")
    page.get_by_role("button", name="Log it").click()
    expect(page.locator("main").get_by_role("status").first).to_contain_text("Logged.")
    expect(page.locator("#timeline")).to_contain_text("No script")
    for _ in range(20):
        if "50%" in page.locator("#score").inner_text():
            break
        page.wait_for_timeout(100)
        page.reload()
    expect(page.locator("#score .verdict-number")).to_have_text("50%")
    page.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark_follow_the_system(
    browser: Browser, watched: Watched, alive: str, scheme: str
) -> None:
    page = open_page(browser, watched, alive, "en", 1440, color_scheme=scheme)
    assert page.evaluate("document.documentElement.dataset.bsTheme") == scheme
    page.context.close()


def test_the_first_view_is_small(browser: Browser, watched: Watched, alive: str) -> None:
    page = open_page(browser, watched, alive, "en", 390)
    sizes: list[int] = []

    def weigh(answer: Response) -> None:
        if not 300 <= answer.status < 400:  # a redirect has no body to ask for
            sizes.append(len(answer.body()))

    page.on("response", weigh)
    log_in(page, "en")
    expect(page.locator("ol.day")).to_be_visible()
    page.wait_for_load_state("networkidle")
    assert 0 < sum(sizes) < 300 * 1024
    page.context.close()
