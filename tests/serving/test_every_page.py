"""Every page, as everybody who gets it, in both languages and themes, at both widths, and by keyboard."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any
from urllib.parse import unquote_plus
from zlib import crc32

import pytest
from flask import Flask
from flask_openapi.blueprint import APIBlueprint
from playwright.sync_api import Browser, ConsoleMessage, Page
from sqlalchemy import event

from crm_core import recall
from crm_core.clock import ticks
from crm_core.records import Base, Role
from crm_core.store import Store
from serving.app import create_app
from serving.champions import Champions
from serving.modelling import scorer_loader
from serving.settings import Settings
from tests.serving.axe import AXE, OPTIONS, SERIOUS
from tests.serving.browser import serving
from tests.serving.conftest import Demo, logged_in
from tests.serving.every_page import PAGES, Is, Places, find_places
from tests.serving.screenshots import LANGUAGES, WIDTHS, cookie_of

pytestmark = pytest.mark.timeout(600)
"""Whoever comes first makes the demonstration."""

MOST_STATEMENTS = 12
MORE_STATEMENTS = {"record_pages.show_suggestions": 30}
"""Where the frame of a hundred records is made for a model: a part that comes after its page is there."""

LOOKS = (
    (None, "en"),
    (None, "zh"),
    (Role.REP, "en"),
    (Role.REP, "zh"),
    (Role.MANAGER, "zh"),
    (Role.ANALYST, "en"),
    (Role.ANALYST, "zh"),
    (Role.ADMIN, "zh"),
    (Role.ADMIN, "en"),
)
"""Who goes through the pages, and in which language; what was seen in that language is left out."""

MOST_BYTES = 300 * 1024
HEAVIER = {"/api/docs": 400 * 1024}
"""All operations of the API on one page."""

BUT_CONTRAST = {**OPTIONS, "rules": {**OPTIONS["rules"], "color-contrast": {"enabled": False}}}

TOO_WIDE = """() => {
    const page = document.documentElement;
    if (page.scrollWidth <= page.clientWidth) return null;
    const held = each => each && each !== document.body
        && (getComputedStyle(each).overflowX !== "visible" || held(each.parentElement));
    const out = [...document.querySelectorAll("body *")].filter(each => each.checkVisibility()
        && each.getBoundingClientRect().right > page.clientWidth + 1 && !held(each.parentElement));
    return out.slice(0, 3).map(each => `${each.tagName.toLowerCase()}.${each.className}`).join(", ") || "?";
}"""

WEIGHT = """() => [...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")]
    .reduce((sum, entry) => sum + entry.encodedBodySize, 0)"""

AROUND = f"""() => ({{
    language: document.documentElement.lang,
    title: document.title,
    headings: [...document.querySelectorAll("h1")].filter(each => each.checkVisibility()).length,
    wide: ({TOO_WIDE})(),
}})"""

COLOURS = """async theme => {
    const shown = document.documentElement.dataset;
    for (let frame = 0; shown.bsTheme !== theme; frame++) {
        if (frame === 600) return null;
        await new Promise(requestAnimationFrame);
    }
    const known = new Map();
    const behind = each => {
        if (!each) return "";
        if (!known.has(each)) {
            const style = getComputedStyle(each);
            const plain = style.backgroundColor === "rgba(0, 0, 0, 0)" && style.backgroundImage === "none"
                && style.opacity === "1" && style.position === "static" && style.filter === "none";
            known.set(each, behind(each.parentElement) + (plain ? "" : [style.backgroundColor,
                style.backgroundImage, style.opacity, style.position, style.filter].join() + "/"));
        }
        return known.get(each);
    };
    const named = each => each ? `${each.localName}.${each.getAttribute("class") ?? ""}` : "";
    const found = new Set(document.querySelectorAll("input:not([type=hidden]), select, textarea"));
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) if (texts.currentNode.data.trim()) found.add(texts.currentNode.parentElement);
    window.coloured = [...found].filter(each => each.checkVisibility({visibilityProperty: true}));
    return window.coloured.map(each => {
        const style = getComputedStyle(each);
        return [named(each.parentElement), named(each), each.disabled, style.color, style.fontSize,
            style.fontWeight, style.textShadow, behind(each)].join();
    });
}"""
"""Gives what a contrast comes from, for everything that says something: alike once is alike everywhere.

Nothing where the page does not come to show that theme.
"""

ONLY_CONTRAST = {"resultTypes": ["violations"], "preload": False, "runOnly": ["color-contrast"]}

CONTRAST = f"""async ([places, options]) => {{
    const there = places.map(place => window.coloured[place]).filter(each => each.isConnected);
    try {{
        return there.length ? await ({SERIOUS})([there, options]) : [];
    }} catch {{
        return await ({SERIOUS})([null, options]); // none of them is anything that axe knows
    }}
}}"""

KEYBOARD = """() => {
    const about = each => `${each.tagName.toLowerCase()}${each.id ? "#" + each.id : ""} `
        + `"${(each.getAttribute("aria-label") || each.textContent || each.name || "").trim().slice(0, 40)}"`;
    const all = [...document.querySelectorAll(
        "a[href], button, input, select, textarea, summary, [role=button], [role=tab], [onclick], [tabindex]"
    )].filter(each => each.checkVisibility({visibilityProperty: true}) && !each.disabled
        && each.type !== "hidden" && each.id !== "main" && !each.closest("[inert]"));
    const around = each => [each, each.nextElementSibling, each.parentElement, ...(each.labels || [])]
        .filter(Boolean);
    const look = each => around(each).map(one => {
        const style = getComputedStyle(one);
        return [style.outlineStyle, style.outlineWidth, style.outlineColor, style.boxShadow,
            style.borderColor, style.backgroundColor, style.textDecorationLine].join();
    }).join();
    const faults = [];
    for (const each of all) {
        if (each.tabIndex > 0) faults.push(`is out of order for the Tab key: ${about(each)}`);
        if (each.tabIndex < 0 && !each.closest("[role=tablist], [role=listbox], [role=menu]")
            && each.matches("a, button, input, select, textarea, summary, [onclick], [role=button]"))
            faults.push(`is not reached by the Tab key: ${about(each)}`);
        document.activeElement.blur();
        const before = look(each);
        each.focus({preventScroll: true});
        if (document.activeElement !== each) faults.push(`takes no focus: ${about(each)}`);
        else if (look(each) === before) faults.push(`does not show its focus: ${about(each)}`);
    }
    document.activeElement.blur();
    return faults;
}"""

BEGINS_INSIDE = "document.getElementById('main').contains(document.activeElement)"

AFTER_SKIPPING = """() => {
    const main = document.getElementById("main");
    const usable = "a[href], button, input:not([type=hidden]), select, textarea, summary, [tabindex='0']";
    const inside = [...main.querySelectorAll(usable)]
        .filter(each => each.checkVisibility({visibilityProperty: true}) && !each.disabled);
    return inside.length === 0 || main.contains(document.activeElement);
}"""


@dataclass(frozen=True, kw_only=True)
class World:
    """A company with trained models, served, and its pages."""

    app: Flask
    store: Store
    places: Places


@pytest.fixture(scope="module")
def world(demo: Demo, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    home = tmp_path_factory.mktemp("every-page") / "home"
    shutil.copytree(demo.kept, home)
    settings = Settings(home=home)
    store = Store(settings.home_folder.database_url)
    # Looking for another champion now and then is no part of a page.
    champions = Champions(store, scorer_loader(settings.home_folder, store), look_seconds=3600)
    champions.refresh()
    app = create_app(settings, store, champions)
    app.testing = False
    yield World(app=app, store=store, places=find_places(app, store, settings))
    store.close()


# ---------------------------------------------------------------------------------------------- the table


def test_every_address_is_in_the_table(app: Flask) -> None:
    found = {
        rule.endpoint
        for rule in app.url_map.iter_rules()
        if "GET" in (rule.methods or ())
        and not rule.endpoint.endswith("static")
        and not isinstance(app.blueprints.get(rule.endpoint.split(".")[0]), APIBlueprint)
    }
    assert found == set(PAGES)


def test_nobody_gets_a_page_without_logging_in(world: World) -> None:
    client = world.app.test_client()
    for endpoint, page in PAGES.items():
        for path in page.paths:
            status = client.get(path.format(**world.places.stands_for), buffered=True).status_code
            opens = page.nobody or endpoint == "specification.get_document"
            assert status == (200 if opens else 302), path


@pytest.mark.parametrize("role", list(Role))
def test_everybody_gets_their_pages_and_no_other_with_few_queries(
    world: World, role: Role, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each page is clicked by somebody who has rested: nothing is recalled that was not looked after."""
    seconds = [ticks()]
    monkeypatch.setattr(recall, "ticks", lambda: seconds[0])  # however slow this machine is at the moment
    world.store.recall.forget()
    places = world.places
    faults: list[str] = []
    client = logged_in(world.app, places.cast[role])
    for endpoint, page in PAGES.items():
        most = MORE_STATEMENTS.get(endpoint, MOST_STATEMENTS)
        for path in page.paths:
            asked = path.format(**places.stands_for)
            headers = {"X-Requested-With": "fetch"} if page.is_a is Is.PART else {}
            statuses = set()
            sent = [""] * 1_000
            for _ in range(4):  # what is kept until it is written is read once; others may write meanwhile
                seconds[0] += 2 * recall.FRESH_SECONDS
                with counted(world.store, faults) as now:
                    statuses.add(client.get(asked, headers=headers, buffered=True).status_code)
                sent = min(sent, now, key=len)
                if len(sent) <= most:
                    break
            if page.is_a is Is.AWAY or (page.nobody and not page.roles):
                continue
            if not statuses <= ({200, 204} if role in page.roles else {302, 403, 404}):
                faults.append(f"{asked}: {statuses}")
            if len(sent) > most and page.is_a is not Is.FILE:
                faults.append(f"{asked}: {len(sent)} statements")
    assert not faults, "\n".join(faults)


@contextmanager
def counted(store: Store, faults: list[str] | None = None) -> Iterator[list[str]]:
    """Collect the statements that are sent in a block; a fault is to keep what is written all day long."""
    sent: list[str] = []

    def note(*call: Any) -> None:
        if call[2].split(None, 1)[0].upper() not in {"PRAGMA", "BEGIN", "SAVEPOINT", "RELEASE"}:
            sent.append(call[2])
            busy = {name.lower() for name in _READ_OF.findall(call[2])} & recall.BUSY
            if faults is not None and busy and is_read_to_be_recalled():
                faults.append(f"{', '.join(sorted(busy))} would be recalled: {call[2]}")

    event.listen(store.engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        event.remove(store.engine, "before_cursor_execute", note)


_READ_OF = re.compile(r'\b(?:FROM|JOIN)\s+"?(\w+)', re.IGNORECASE)


def is_read_to_be_recalled() -> bool:
    """Tell whether whoever calls this reads something that is to be kept."""
    frame = sys._getframe()
    while frame.f_back is not None:
        frame = frame.f_back
        if frame.f_code is recall.recalled.__code__:
            return True
    return False


NAMES = {
    "API",
    "AUC",
    "Brier",
    "CRM",
    "CSV",
    "English",
    "Excel",
    "MLflow",
    "MiB",
    "Parquet",
    "Predictive",
    "UTC",
}
NOT_CHINESE = NAMES | {
    *("Ctrl", "HTML", "JSON", "Markdown", "SHA", "Webhook", "eml", "ics", "utf"),
    *("deal.won", "https", "project"),  # examples of what is typed
    *(
        "campaign",
        "industry",
        "region",
        "source",
    ),  # names of features, beside those that are seen to be names
}
"""What Chinese pages say as it is; `English` is what the language is called for who looks for it."""

_ENGLISH = re.compile(r"[A-Za-z][\w./:@'+-]*[A-Za-z]", re.ASCII)
_CODE = re.compile(r"[\d_/@:]")
"""What is no word: an address, the name of a field for programs, a version."""


class Seen(HTMLParser):
    """The texts of a page, those for who does not see it too."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self._hidden = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._hidden += tag in HIDDEN
        self.texts += [
            text for name, text in attrs if name in {"aria-label", "placeholder", "title", "alt"} and text
        ]

    def handle_endtag(self, tag: str) -> None:
        self._hidden -= tag in HIDDEN

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.texts.append(data)


HIDDEN = {"script", "style", "code", "kbd", "pre", "textarea"}


def data_of(store: Store) -> set[str]:
    """Return the words that records hold, in whatever language; what fields are called is no data."""
    with store.reading() as session:
        tables = [table for table in Base.metadata.sorted_tables if table.name != "field_declarations"]
        rows = [
            row
            for table in tables
            if not table.name.startswith("search_")
            for row in session.execute(table.select())
        ]
    return set(
        _ENGLISH.findall(" ".join(str(cell) for row in rows for cell in row if not isinstance(cell, bytes)))
    )


def test_no_english_is_left_on_chinese_pages(world: World) -> None:
    known, faults, seen = data_of(world.store) | NOT_CHINESE, set(), set()
    for role in (Role.ADMIN, Role.MANAGER, Role.ANALYST, Role.REP):
        client = logged_in(world.app, world.places.cast[role], "zh")
        for path in addresses(world.places, role):
            if path in seen or path == "/api/docs":
                continue
            seen.add(path)
            page = Seen()
            page.feed(client.get(path).text)
            asked = set(_ENGLISH.findall(unquote_plus(path)))
            faults |= {
                f"{path}: {word} in {text.strip()[:80]}"
                for text in page.texts
                for word in _ENGLISH.findall(text)
                if word not in known | asked and not _CODE.search(word)
            }
    assert not faults, "\n".join(sorted(faults))


# ---------------------------------------------------------------------------------------------- the browser


@dataclass
class Visit:
    """One person in one language, going from page to page; what goes wrong is written down."""

    tab: Page
    address: str
    who: str
    width: str
    """How wide the tab is, by name."""
    coloured: set[tuple[str, str]]
    """What was looked at by anybody, by theme."""
    theme: str = "light"
    faults: list[str] = field(default_factory=list)
    at: str = ""

    def __post_init__(self) -> None:
        self.tab.on("console", self._hear)
        self.tab.on("pageerror", lambda error: self.note(f"raised {error}"))
        self.tab.on("request", lambda sent: self._see(sent.url))

    def note(self, fault: str) -> None:
        self.faults.append(f"{self.at} ({self.who}): {fault}")

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type == "error" or "Content Security Policy" in message.text:
            self.note(f"said {message.text}")

    def _see(self, url: str) -> None:
        if not url.startswith((self.address, "data:", "blob:")):
            self.note(f"asked for {url}")

    def open(self, path: str, language: str, *, whole: bool) -> None:
        """Open a page, if need be with its pictures, and look at what every page must have."""
        self.at = path
        answer = self.tab.goto(self.address + path, wait_until="load" if whole else "domcontentloaded")
        if answer is None or not answer.ok:
            self.note(f"answered {answer and answer.status}")
            return
        around = self.tab.evaluate(AROUND)
        self.must(around["language"] == language, f"is in {around['language']}")
        self.must(around["title"].split(" · ")[0].strip(), "has no title")
        self.must(around["headings"] == 1, f"has {around['headings']} headings of the first order")
        self._fits(around["wide"])

    def must(self, holds: object, fault: str) -> None:
        if not holds:
            self.note(fault)

    def _fits(self, wide: str | None) -> None:
        self.must(wide is None, f"is wider than a {self.width}: {wide}")

    def turn(self, name: str) -> None:
        """Be no wider than a phone, or another screen."""
        self.width = name
        width, height = WIDTHS[name]
        self.tab.set_viewport_size({"width": width, "height": height})
        self._fits(self.tab.evaluate(TOO_WIDE))

    def weigh(self) -> None:
        size = self.tab.evaluate(WEIGHT)
        self.must(size < HEAVIER.get(self.at, MOST_BYTES), f"weighs {size / 1024:.0f} KiB")

    def look_closely(self) -> None:
        """At a desk; pages are opened at a desk and on a phone in turns, and in both themes."""
        is_wide = self.width == "desk"
        if not is_wide:
            self.turn("desk")
        self.see_without_eyes()
        self.use_without_a_mouse()
        self.weigh()
        if is_wide:
            self.turn("phone")

    def see_without_eyes(self) -> None:
        """Have axe look at it; at contrast in both themes, where nothing seen before looks alike."""
        for fault in self.tab.evaluate(SERIOUS, [None, BUT_CONTRAST]):
            self.note(fault)
        self._see_colours()
        self.theme = "dark" if self.theme == "light" else "light"
        self.tab.emulate_media(color_scheme="dark" if self.theme == "dark" else "light")
        self._see_colours()

    def _see_colours(self) -> None:
        found = self.tab.evaluate(COLOURS, self.theme)
        self.must(found is not None, f"does not become {self.theme}")
        looks = {(self.theme, look): place for place, look in enumerate(found or [])}
        new = {look: place for look, place in looks.items() if look not in self.coloured}
        if new:
            self.coloured |= set(new)
            for fault in self.tab.evaluate(CONTRAST, [list(new.values()), ONLY_CONTRAST]):
                self.note(f"{self.theme}: {fault}")

    def use_without_a_mouse(self) -> None:
        """Focus everything that can be used; skip to the content and on."""
        if not self.tab.evaluate(BEGINS_INSIDE):
            self.tab.keyboard.press("Tab")
            skips = self.tab.evaluate("document.activeElement.matches('a.skip')")
            self.must(skips, "does not begin with the way to the content")
            self.tab.keyboard.press("Enter")
        self.tab.keyboard.press("Tab")
        self.must(self.tab.evaluate(AFTER_SKIPPING), "does not go on in the content after skipping to it")
        for fault in self.tab.evaluate(KEYBOARD):
            self.note(fault)


def test_every_page_in_a_browser(world: World, browser: Browser) -> None:
    faults: list[str] = []
    looked: set[tuple[str, str]] = set()
    coloured: set[tuple[str, str]] = set()
    with serving(world.app) as address:
        for role, language in LOOKS:
            with visit(browser, world, address, role, LANGUAGES[language], coloured) as each:
                for path in addresses(world.places, role):
                    whole = language == "en"
                    if (path, language) in looked or not (whole or is_also_chinese(path)):
                        continue
                    each.open(path, language, whole=whole)
                    if whole:
                        each.look_closely()
                    looked.add((path, language))
            faults += each.faults
    assert not faults, "\n".join(faults)


def is_also_chinese(path: str) -> bool:
    """Tell whether a browser opens a page in Chinese too: one in three, or with EVERY_LOOK set each of them.

    That nothing on it is in English is looked at without a browser, on every page.
    """
    return "EVERY_LOOK" in os.environ or crc32(path.encode()) % 3 == 0


def addresses(places: Places, role: Role | None) -> list[str]:
    """Return the pages that somebody, or nobody, sees."""
    whole = [endpoint for endpoint, page in PAGES.items() if page.is_a is Is.PAGE]
    return [path for _, path in places.of(role, whole)]


@contextmanager
def visit(
    browser: Browser,
    world: World,
    address: str,
    role: Role | None,
    locale: str,
    coloured: set[tuple[str, str]],
) -> Iterator[Visit]:
    """Log somebody in on a phone of their own; English people come with axe."""
    width, height = WIDTHS["phone"]
    context = browser.new_context(
        locale=locale, reduced_motion="reduce", viewport={"width": width, "height": height}
    )
    context.set_default_timeout(20_000)
    if locale == LANGUAGES["en"]:
        context.add_init_script(path=AXE)  # takes a third of what handing it over page by page takes
    if role is not None:
        cookie = cookie_of(world.app, world.places.cast[role])
        context.add_cookies([{"name": "crm", "value": cookie, "url": address}])
    who = f"{role or 'nobody'}, {locale}"
    yield Visit(tab=context.new_page(), address=address, who=who, width="phone", coloured=coloured)
    context.close()
