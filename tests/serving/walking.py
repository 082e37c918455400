"""Walking through the pages in a real browser as several people, and what must not happen on the way."""

from __future__ import annotations

import gettext
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Locator, Page, Response, expect

import serving.web
from tests.serving.browser import PATIENCE
from tests.serving.conftest import PASSWORD

TRANSLATIONS = Path(serving.web.__file__).parent / "translations"
LOCALES = {"en": "en-GB", "zh": "zh-CN"}


@dataclass(kw_only=True)
class Walk:
    """One walk: where, in which language, how wide, and what must not happen on the way."""

    browser: Browser
    address: str
    language: str
    width: int
    faults: list[str] = field(default_factory=list)

    @property
    def is_phone(self) -> bool:
        return self.width < 768

    @property
    def said(self) -> Callable[[str], str]:
        """What turns a text of the pages into the language of this walk."""
        found = gettext.translation("messages", TRANSLATIONS, [self.language], fallback=self.language == "en")
        return found.gettext

    def log_in(self, name: str) -> Page:
        """Come as somebody to the first page, by the form."""
        page = self.open()
        page.goto(self.address)
        page.locator("#email").fill(f"{name}@example.com")
        page.locator("#password").fill(PASSWORD)
        page.get_by_role("button", name=self.said("Log in"), exact=True).click()
        page.wait_for_url(lambda url: "/login" not in url)
        self.fits(page)
        return page

    def open(self) -> Page:
        """Open a browser of nobody's, on no page yet."""
        size = {"width": self.width, "height": 844 if self.is_phone else 900}
        context = self.browser.new_context(locale=LOCALES[self.language], viewport=size)  # type: ignore[arg-type]  # a mapping of both
        context.set_default_timeout(PATIENCE)
        page = context.new_page()
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self.faults.append(f"{page.url}: {error}"))
        page.on("request", lambda sent: self._see(sent.url))  # a route would keep nothing in the cache
        page.on("response", self._look_at)
        return page

    def go(self, page: Page, path: str) -> None:
        page.goto(f"{self.address}{path}")
        self.fits(page)

    def press(self, where: Page | Locator, text: str) -> None:
        where.get_by_role("button", name=self.said(text), exact=True).first.click()

    def fits(self, page: Page) -> None:
        """The page is in the language that was asked for, and nothing stands out of it."""
        expect(page.locator("html")).to_have_attribute("lang", self.language)
        expect(page.locator("h1")).to_have_count(1)
        wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0, f"{page.url} is {wide} pixels too wide"

    def _see(self, url: str) -> None:
        if not url.startswith((f"{self.address}/", "data:", "blob:")):
            self.faults.append(f"off the machine: {url}")

    def _hear(self, message: Any) -> None:
        if message.type in {"error", "warning"}:
            self.faults.append(f"{message.page.url if message.page else ''}: {message.text}")

    def _look_at(self, answer: Response) -> None:
        if answer.status >= 400:
            self.faults.append(f"{answer.status} of {answer.url}")
