"""The bench in a real browser: work is followed without reloading, and nothing serious is found by axe."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal

import pytest
from flask import Flask
from playwright.sync_api import Browser, expect

from crm_core.store import Store
from serving.reports import save_backtest, save_report, save_watch
from serving.settings import Settings
from tests.serving.axe import serious
from tests.serving.browser import Watched, serving
from tests.serving.conftest import Cast
from tests.serving.screenshots import cookie_of
from tests.serving.test_judgements import replayed
from tests.serving.test_models_page import FIRST, SECOND, TASK, report_of, runner
from tests.serving.test_watching import report as watch_report

PATHS = (
    "",
    f"/{TASK}?missed=500&contact=60&cut=20",
    f"/{TASK}/compare",
    f"/{TASK}/card",
    f"/{TASK}/promote?version={SECOND}",
)


@pytest.fixture
def address(app: Flask, cast: Cast, settings: Settings, promote: Callable[..., Any]) -> Iterator[str]:
    """A served home with two versions, a replay and a watch."""
    home = settings.home_folder
    promote(TASK, FIRST)
    for version in (FIRST, SECOND):
        save_report(home, version, report_of(version))
    save_backtest(home, TASK, replayed())
    save_watch(home, TASK, watch_report())
    with serving(app) as found:
        yield found


@pytest.mark.parametrize("width", [pytest.param(390, id="phone"), pytest.param(1440, id="desk")])
def test_dana_has_a_model_trained_and_follows_it(
    browser: Browser,
    address: str,
    app: Flask,
    cast: Cast,
    settings: Settings,
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    width: int,
) -> None:
    def train(*_: Any, **__: Any) -> dict[str, Any]:
        gate = {"passed": True, "reason": "no worse than the champion"}
        return {"version": SECOND, "promoted": True, "estimator": "logistic", "gate": gate}

    monkeypatch.setattr("serving.training_runs.train_task", train)
    watched = Watched()
    scheme: Literal["dark", "light"] = "dark" if width == 390 else "light"
    context = browser.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme)
    context.add_cookies([{"name": "crm", "value": cookie_of(app, cast["Dana"]), "url": address}])
    page = context.new_page()
    page.set_default_timeout(15_000)
    watched.watch(page, address)
    for path in PATHS:
        page.goto(f"{address}/models{path}")
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path
        assert serious(page) == [], path

    page.goto(f"{address}/models/{TASK}")
    page.get_by_role("button", name="Train", exact=True).press("Enter")
    work = page.locator("#model-work")
    expect(work).to_contain_text("waiting")
    runner(settings, store).run_once()
    expect(work).to_contain_text("no worse than the champion")
    expect(page.locator("[data-work-reload]")).to_be_visible()
    assert watched.errors == []
    assert watched.foreign == []
    context.close()
