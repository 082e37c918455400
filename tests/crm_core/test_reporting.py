"""Reports over random histories: against a slow replay, and the same asked then and now of then."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from crm_core.access import Reader
from crm_core.clock import FixedClock, instant
from crm_core.records import User
from crm_core.reporting.asking import Question, Report, make_report
from crm_core.store import Store
from tests.conftest import MONDAY
from tests.crm_core.naive_history import NaiveStore
from tests.crm_core.test_random_histories import HISTORIES, Moment, Play, declared  # noqa: F401  a fixture
from tests.factories import (
    make_user,
)

WHOLE = {"since": date(2026, 2, 1), "until": date(2026, 4, 30)}


def ask(store: Store, user: User, as_of: datetime, *measures: str, **more: Any) -> Report:
    """Answer a question about the spring of 2026."""
    question = Question(measures=measures, as_of=as_of, **{**WHOLE, **more})
    with store.reading() as session:
        return make_report(Reader(session, session.get_one(User, user.id)), question, store.clock.now())


def told(report: Report) -> tuple[Any, ...]:
    """Return what a report says, to be compared."""
    return report.rows, report.series, report.cells, report.totals


def admin(store: Store) -> User:
    with store.transaction() as transaction:
        return make_user(transaction, f"Adam{uuid4()}", role="admin")


QUESTIONS: list[dict[str, Any]] = [
    {"measures": ("leads_created", "leads_converted", "lead_conversion"), "rows": "region"},
    {"measures": ("leads_created",), "rows": "owner", "filters": ("region:eq:North", "custom.tier:ne:gold")},
    {"measures": ("deals_created", "deals_won", "win_rate", "won_amount", "average_deal"), "rows": "owner"},
    {"measures": ("won_amount",), "rows": "region", "columns": "week", "filters": ("amount:ge:2",)},
    {"measures": ("open_deals", "open_pipeline"), "rows": "stage"},
    {"measures": ("stage_entries", "stage_conversion", "stage_days"), "rows": "stage"},
    {"measures": ("open_pipeline",), "rows": "week", "columns": "region"},
]


@settings(
    max_examples=8,
    deadline=None,
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)
@given(histories=st.lists(HISTORIES, min_size=2, max_size=2))
@pytest.mark.timeout(600)
def test_a_report_asked_then_is_the_report_asked_later_as_of_then(
    declared: Store,  # noqa: F811  the fixture
    clock: FixedClock,
    histories: list[list[Moment]],
) -> None:
    user, said = admin(declared), []
    for history in histories:
        play = Play(declared, clock)
        play.begin()
        for moment in history:
            clock.advance(timedelta(seconds=moment.wait))
            play.play_one(replace(moment, imported=False))
            asked = QUESTIONS[len(said) % len(QUESTIONS)]
            said.append(
                (
                    clock.now(),
                    asked,
                    told(ask(declared, user, clock.now(), *asked["measures"], **rest(asked))),
                )
            )
            clock.advance(timedelta(seconds=1))
    clock.advance(timedelta(days=1))
    for as_of, asked, before in said:
        assert told(ask(declared, user, as_of, *asked["measures"], **rest(asked))) == before, (as_of, asked)


def rest(asked: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in asked.items() if name != "measures"}


# ---------------------------------------------------------------- a slow replay


def naive_states(plays: Iterable[Play], kind: str, at: int) -> list[tuple[NaiveStore, int, dict[str, Any]]]:
    """Return the records of a type that were known at an instant, with when each began."""
    return [
        (play.naive, record.happened, state)
        for play in plays
        for (each, _), record in play.naive.records.items()
        if each == kind and (state := record.state(at)) is not None
    ]


def naive_region(naive: NaiveStore, account_id: int | None, at: int) -> Any:
    record = None if account_id is None else naive.records[("account", account_id)]
    state = None if record is None else record.state(at)
    return None if state is None else state.get("region")


@settings(
    max_examples=6,
    deadline=None,
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)
@given(histories=st.lists(HISTORIES, min_size=3, max_size=3))
@pytest.mark.timeout(600)
def test_reports_of_any_instant_are_what_a_slow_replay_counts(
    declared: Store,  # noqa: F811  the fixture
    clock: FixedClock,
    histories: list[list[Moment]],
) -> None:
    user = admin(declared)
    with declared.transaction() as transaction:  # what was played before is another example's
        for model in ("lead", "deal"):
            delete_all(transaction, model)
    plays = [Play(declared, clock) for _ in histories]
    for play, history in zip(plays, histories, strict=True):
        play.play(history)
    clock.advance(timedelta(days=1))
    instants = sorted({at for play in plays for at in play.naive.instants()})
    for at in instants[:: max(1, len(instants) // 4)]:
        check_against_replay(declared, user, plays, at)


def delete_all(transaction: Any, record_type: str) -> None:
    from sqlalchemy import update

    from crm_core.records import RECORD_TYPES

    model = RECORD_TYPES[record_type]
    # Not as a deletion of now: as if they had never been.
    transaction.session.execute(update(model).values(deleted_at=MONDAY - timedelta(days=30)))


def check_against_replay(store: Store, user: User, plays: list[Play], at: int) -> None:
    as_of = instant(at)
    leads = Counter(state.get("region") for _, _, state in naive_states(plays, "lead", at))
    report = ask(store, user, as_of, "leads_created", rows="region")
    assert {row: figure.value for (row, _), figure in report.cells.items()} == dict(leads)

    deals = naive_states(plays, "deal", at)
    closed: dict[Any, list[str]] = defaultdict(list)
    won: Counter[Any] = Counter()
    for naive, _, state in deals:
        if state["status"] != "open" and state["closed_at"] <= at:
            region = naive_region(naive, state.get("account_id"), at)
            closed[region].append(state["status"])
            if state["status"] == "won" and state["amount"] is not None:
                won[region] += state["amount"]
    report = ask(store, user, as_of, "win_rate", "won_amount", rows="region")
    rates = {
        row: (figure.value, figure.count)
        for (row, series), figure in report.cells.items()
        if series.measure == "win_rate"
    }
    assert rates == {
        region: (words.count("won") / len(words), len(words)) for region, words in closed.items()
    }
    sums = {
        row: figure.value for (row, series), figure in report.cells.items() if series.measure == "won_amount"
    }
    assert sums == {region: Decimal(units) / 10_000 for region, units in won.items()} | {
        region: Decimal(0) for region in sums.keys() - won.keys()
    }

    still = Counter(
        state["owner_id"]
        for _, _, state in deals
        if (state["amount"] or 0) >= 20_000 and (state["status"] == "open" or state["closed_at"] > at)
    )
    report = ask(store, user, as_of, "open_deals", rows="owner", filters=("amount:ge:2",))
    assert {row: figure.value for (row, _), figure in report.cells.items()} == dict(still)
