"""The page of the forecast: made by a job, kept while nothing moves, and shown within the reader's rights."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from flask import Flask
from scipy.stats import binomtest
from sqlalchemy import event, func, select

from crm_core.clock import FixedClock
from crm_core.jobs import Job
from crm_core.kept_forecasts import Basis, keep
from crm_core.records import User
from crm_core.store import Store
from serving.forecast_making import FORECAST, ForecastMaker, _basis, kept_of, look, past_shares, scope_of
from serving.forecasts import Part
from serving.jobs import JobRunner
from serving.settings import Settings
from serving.shares import Share
from tests.factories import make_deal
from tests.serving.conftest import Cast, csrf_of, logged_in

RANGES = {"50": [90.0, 110.0], "80": [80.0, 130.0], "95": [60.0, 150.0]}


def part(key: int | None, name: str, **more: Any) -> dict[str, Any]:
    return {"id": key, "name": name, "won": 40.0, "open": 35.0, "new": 25.0, "expected": 100.0} | more


def told_of(deal: int, owner: int) -> dict[str, Any]:
    """A forecast of one month as `forecast_for` tells it."""
    line = {"deal_id": deal, "won": False, "probability": 0.35, "amount": 100.0, "expected": 35.0}
    period = part(None, "") | {
        "span": "month",
        "period": "2026-03",
        "start": "2026-03-01T00:00:00+00:00",
        "end": "2026-04-01T00:00:00+00:00",
        "currency": "EUR",
        "ranges": RANGES,
        "simple_rules": {"stages": 70.0, "reps": None, "last_period": 50.0, "last_year": None},
        "coverage": {"80": {"inside": 9, "of": 12}},
        "by_team": [],
        "by_owner": [part(owner, "Ana", ranges=RANGES)],
        "deals": [line],
    }
    moved = {
        "span": "month",
        "period": "2026-03",
        "currency": "EUR",
        "before": 80.0,
        "now": 100.0,
        "causes": {"won": 30.0, "lost": -10.0, "new_deals": 0.0, "amounts": 0.0, "probabilities": 0.0}
        | {"reopened": 0.0, "not_yet_created": 0.0},
        "deals": [{"deal_id": deal, "cause": "won", "amount": 30.0}],
    }
    return {"periods": [period], "moved": [moved], "past": {}, "left_out": []}


@pytest.fixture
def deal(store: Store, cast: Cast) -> int:
    with store.transaction() as transaction:
        return make_deal(transaction, name="Hill roof", owner_id=cast["Ana"].id).id


@pytest.fixture
def kept(store: Store, cast: Cast, deal: int) -> str:
    """Mara's forecast, made now; its scope."""
    with store.reading() as session:
        scope, basis = scope_of(session, cast["Mara"], Part()), _basis(session)
    content = kept_of(told_of(deal, cast["Ana"].id)) | {"past_shares": {}}
    with store.transaction() as transaction:
        keep(transaction.session, scope, content, basis=basis, now=transaction.now)
    return scope


def jobs_asked(store: Store) -> int:
    with store.reading() as session:
        return session.scalar(select(func.count(Job.id)).where(Job.kind == FORECAST)) or 0


def is_good(store: Store, user: User, settings: Settings) -> bool:
    with store.reading() as session:
        return look(settings.home_folder, session, user, Part(), store.clock.now()).is_good


def test_what_is_kept_is_shown_with_range_causes_and_coverage(app: Flask, cast: Cast, kept: str) -> None:
    text = logged_in(app, cast["Mara"]).get("/forecast").text
    for said in (
        "March 2026",
        "€100",
        "€80 – €130",
        "9 of 12",
        "47% to 91%",
        "Hill roof",
        "Ana",
        "Deals won",
    ):
        assert said in text, said
    assert "Reps' own numbers" not in text, "hidden: there is no number of the reps"


def test_what_is_kept_holds_no_names(cast: Cast, deal: int) -> None:
    assert "Ana" not in str(kept_of(told_of(deal, cast["Ana"].id)))


def test_nobody_finds_the_forecast_of_another_scope(store: Store, cast: Cast, kept: str) -> None:
    with store.reading() as session:
        scopes = {scope_of(session, cast[name], Part()) for name in ("Ana", "Otto", "Dana")}
        scopes |= {scope_of(session, cast["Mara"], Part(owner_id=cast["Ana"].id))}
    assert kept not in scopes
    assert len(scopes) == 4


def test_without_one_a_single_job_is_asked_for_and_the_page_says_so(
    app: Flask, store: Store, cast: Cast
) -> None:
    client = logged_in(app, cast["Mara"])
    for _ in range(2):
        assert "The forecast is being made" in client.get("/forecast").text
    assert jobs_asked(store) == 1
    assert client.get("/forecast/making").status_code == 200


def test_a_job_that_fails_says_why_and_leaves_a_button(
    app: Flask, store: Store, cast: Cast, settings: Settings
) -> None:
    client = logged_in(app, cast["Mara"])
    client.get("/forecast")
    JobRunner(store, {FORECAST: ForecastMaker(settings)}).run_once()
    text = client.get("/forecast").text
    assert "there are no deals" in text
    assert client.get("/forecast/making").status_code == 204
    assert jobs_asked(store) == 1, "what failed is not tried at every look"
    client.post("/forecast/make", data={"csrf_token": csrf_of(text)})
    assert jobs_asked(store) == 2


def test_it_is_good_for_a_minute_and_longer_while_nothing_is_written(
    store: Store, clock: FixedClock, cast: Cast, kept: str, settings: Settings
) -> None:
    clock.advance(timedelta(minutes=30))
    assert is_good(store, cast["Mara"], settings)
    with store.transaction() as transaction:
        make_deal(transaction, owner_id=cast["Ana"].id)
    assert not is_good(store, cast["Mara"], settings)


def test_it_is_good_for_an_hour_at_most(
    store: Store, clock: FixedClock, cast: Cast, kept: str, settings: Settings
) -> None:
    clock.advance(timedelta(minutes=61))
    assert not is_good(store, cast["Mara"], settings)


def test_an_old_one_is_shown_while_a_newer_one_is_made(
    app: Flask, store: Store, clock: FixedClock, cast: Cast, kept: str
) -> None:
    clock.advance(timedelta(hours=2))
    text = logged_in(app, cast["Mara"]).get("/forecast").text
    assert "newer numbers are being worked out" in text
    assert "€100" in text
    assert jobs_asked(store) == 1


def test_past_ranges_of_a_part_are_told_as_shares() -> None:
    replay = {"period": "2026-01", "expected": 200.0, "came": 250.0, "ranges": {"80": [100, 300]}}
    shares = past_shares(SimpleNamespace(replays={"month+0": [replay]}))  # type: ignore[arg-type]  # no more is read
    assert shares == {"month+0": [{"period": "2026-01", "low": 0.5, "high": 1.5, "came": 1.25}]}


@pytest.fixture
def statements(store: Store) -> Iterator[list[str]]:
    found: list[str] = []

    def note(*call: Any) -> None:
        found.append(call[2])

    event.listen(store.engine, "before_cursor_execute", note)
    yield found
    event.remove(store.engine, "before_cursor_execute", note)


def test_the_page_asks_at_most_twelve_queries(
    app: Flask, cast: Cast, kept: str, statements: list[str]
) -> None:
    client = logged_in(app, cast["Mara"])
    client.get("/forecast")
    statements.clear()
    client.get("/forecast")
    assert len(statements) <= 12, statements


@pytest.mark.parametrize(("count", "of"), [(0, 8), (9, 12), (8, 8), (311, 1000)])
def test_the_interval_of_a_share_is_wilsons(count: int, of: int) -> None:
    known = binomtest(count, of).proportion_ci(method="wilson")
    share = Share(count=count, of=of)
    assert (share.low, share.high) == pytest.approx((known.low, known.high), abs=1e-6)


def test_a_share_of_nothing_is_unknown() -> None:
    nothing = Share(count=0, of=0)
    assert (nothing.value, nothing.low, nothing.high, nothing.is_small) == (None, 0.0, 1.0, True)


def test_a_basis_names_the_newest_change(store: Store, deal: int) -> None:
    with store.reading() as session:
        assert _basis(session) == Basis(log_id=_basis(session).log_id, champion="")
        assert _basis(session).log_id > 0
