"""What everybody uses, in a real browser: the menu of a phone, search by keys, and a file with errors."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from crm_core.clock import SystemClock
from crm_core.store import Store
from serving.app import create_app
from serving.champions import Champions
from serving.job_handlers import Jobs
from serving.settings import Settings
from tests.factories import make_lead
from tests.serving.axe import serious
from tests.serving.browser import Watched, serving
from tests.serving.conftest import PASSWORD, Cast


@pytest.fixture
def address(store: Store, cast: Cast, settings: Settings, champions: Champions) -> Iterator[str]:
    store.clock = SystemClock()
    with store.transaction() as transaction:
        for company in ("宁波方大水泵有限公司", "上海水泵厂", "Northway Health"):
            make_lead(transaction, owner_id=cast["Ana"].id, company=company, name=f"{company} 王芳")
    jobs = Jobs(settings, store, poll_seconds=0.1)
    app = create_app(settings, store, champions, None, jobs)
    jobs.start()
    with serving(app) as served:
        yield served
    jobs.stop()


@pytest.fixture
def watched() -> Iterator[Watched]:
    seen = Watched()
    yield seen
    assert seen.errors == []
    assert seen.foreign == []


def enter(browser: Browser, watched: Watched, address: str, *, width: int, **more: Any) -> Page:
    context = browser.new_context(
        viewport={"width": width, "height": 844},
        reduced_motion="reduce",  # no colour is looked at on its way
        **more,
    )
    page = context.new_page()
    page.set_default_timeout(15_000)
    watched.watch(page, address)
    page.goto(address)
    page.locator("#email").fill("ana@example.com")
    page.locator("#password").fill(PASSWORD)
    page.locator("#password").press("Enter")
    page.goto(f"{address}/leads")
    return page


@pytest.mark.parametrize("script", [True, False])
def test_a_phone_reaches_every_page_by_keyboard(
    browser: Browser, watched: Watched, address: str, script: bool
) -> None:
    page = enter(browser, watched, address, width=390, locale="zh-CN", java_script_enabled=script)
    summary = page.locator("details.menu > summary")
    summary.focus()
    page.keyboard.press("Enter")
    menu = page.locator(".menu-box")
    expect(menu.get_by_role("link", name="客户", exact=True)).to_be_visible()
    expect(menu.get_by_role("button", name="退出")).to_be_visible()
    if script:
        assert serious(page) == []
        page.keyboard.press("Escape")
        expect(menu).to_be_hidden()
        expect(summary).to_be_focused()
        page.keyboard.press("Enter")
    menu.get_by_role("link", name="客户", exact=True).press("Enter")
    expect(page).to_have_url(f"{address}/customers")
    page.context.close()


def test_search_by_keys_alone(browser: Browser, watched: Watched, address: str) -> None:
    page = enter(browser, watched, address, width=1440, locale="en-GB")
    page.wait_for_load_state()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("/")
    field = page.get_by_role("combobox", name="Search everything")
    expect(field).to_be_focused()
    page.keyboard.type("水泵 g d")
    assert page.url == f"{address}/leads"  # letters in a field go nowhere
    field.fill("水泵")
    options = page.locator("#found [role=option]")
    expect(options).to_have_count(3)
    assert serious(page) == []
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    chosen = options.nth(1)
    expect(chosen).to_have_attribute("aria-selected", "true")
    assert field.get_attribute("aria-activedescendant") == chosen.get_attribute("id")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(r"/leads/\d+$"))
    page.wait_for_load_state()  # until then no script listens
    page.keyboard.press("g")
    page.keyboard.press("d")
    expect(page).to_have_url(f"{address}/deals")
    page.context.close()


def test_a_file_with_errors_is_tried_and_the_good_rows_imported(
    browser: Browser, watched: Watched, address: str, tmp_path: Path
) -> None:
    file = tmp_path / "线索.csv"
    file.write_bytes("姓名,公司,规模\n李强,远景,120\n赵敏,明月,很多\n周伟,长城,80\n".encode("gb18030"))
    page = enter(browser, watched, address, width=390, locale="zh-CN")
    page.goto(f"{address}/import")
    page.locator("#file").set_input_files(file)
    page.get_by_role("button", name="下一步：各列含义").click()
    expect(page.locator("#column-0")).to_have_value("name")
    expect(page.locator("#column-2")).to_have_value("employees")
    assert serious(page) == []
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    page.get_by_role("button", name="用全部数据试运行").click()
    expect(page.locator("#progress")).to_contain_text("很多", timeout=20_000)
    page.get_by_role("button", name="导入 2 行").click()
    expect(page.get_by_role("heading", name="导入完成")).to_be_visible(timeout=20_000)
    assert serious(page) == []
    page.get_by_role("link", name="查看本文件导入的记录").click()
    expect(page.locator("table.work tbody tr")).to_have_count(2)
    expect(page.locator("table.work")).to_contain_text("远景")
    assert serious(page) == []
    page.context.close()
