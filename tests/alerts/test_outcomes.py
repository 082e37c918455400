"""What came of warnings: followed to the end of what each was about, counted, and shown."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import event

from crm_core.access import Reader
from crm_core.clock import FixedClock
from crm_core.deals import close_deal
from crm_core.records import Contract, Deal, User
from crm_core.store import Store
from serving.alert_outcomes import Outcome, follow_alerts, tally
from serving.alerting import Alerting
from serving.alerts import sum_running
from tests.alerts.world import DAY, say
from tests.factories import make_account, make_contract, make_deal
from tests.serving.conftest import *  # noqa: F403  its fixtures
from tests.serving.conftest import Cast, logged_in


def warned(store: Store, owner: User, ends_on: date, probability: float = 0.4) -> tuple[int, int]:
    """A customer with a contract, of whom a warning was given; their id and the contract's."""
    with store.transaction() as transaction:
        customer = make_account(transaction, owner_id=owner.id).id
        contract = make_contract(
            transaction, account_id=customer, starts_on=date(2024, 1, 1), ends_on=ends_on
        ).id
    say(store, customer, probability)
    Alerting(store).run_until_done()
    return customer, contract


def outcomes(store: Store, user: User) -> list[Outcome]:
    with store.reading() as session:
        return [one.outcome for one in follow_alerts(store, Reader(session, user), store.clock.now())]


@pytest.fixture
def two(store: Store, clock: FixedClock, cast: Cast) -> tuple[int, int]:
    """One whose contract ended after a month and was not renewed, and one who signed on."""
    today = clock.now().date()
    gone, _ = warned(store, cast["Ana"], today + timedelta(days=30))
    kept, contract = warned(store, cast["Ana"], today + timedelta(days=40))
    clock.advance(20 * DAY)
    with store.transaction() as transaction:
        new = make_contract(
            transaction,
            account_id=kept,
            starts_on=today + timedelta(days=40),
            ends_on=today + timedelta(days=800),
        )
        old = transaction.session.get_one(Contract, contract)
        transaction.update(old, {"status": "renewed", "renewed_by_id": new.id})
    return gone, kept


def test_nothing_is_counted_before_the_time_is_over(
    store: Store, clock: FixedClock, cast: Cast, two: tuple[int, int]
) -> None:
    clock.advance(60 * DAY)
    assert outcomes(store, cast["Mara"]) == [Outcome.NOT_OVER, Outcome.NOT_OVER]


def test_who_left_and_who_renewed_are_told_apart_once_the_time_is_over(
    store: Store, clock: FixedClock, cast: Cast, two: tuple[int, int]
) -> None:
    Alerting(store).run_until_done()
    clock.advance(120 * DAY)
    with store.reading() as session:
        followed = follow_alerts(store, Reader(session, cast["Mara"]), clock.now())
        counted = next(one for one in tally(followed) if one.kind == "contract_end")
    assert {one.alert.record_id: one.outcome for one in followed}[two[0]] is Outcome.LEFT
    assert {one.alert.record_id: one.outcome for one in followed}[two[1]] in {Outcome.RENEWED, Outcome.STAYED}
    assert (counted.happened.count, counted.happened.of) == (1, 2)
    assert counted.said == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("won", "outcome"), [(True, Outcome.WON), (False, Outcome.LOST), (None, Outcome.STILL_OPEN)]
)
def test_a_deal_that_fell_is_followed_too(
    store: Store, clock: FixedClock, cast: Cast, won: bool | None, outcome: Outcome
) -> None:
    with store.transaction() as transaction:
        customer = make_account(transaction, owner_id=cast["Ana"].id).id
        deal = make_deal(transaction, owner_id=cast["Ana"].id, account_id=customer).id
    say(store, deal, 0.7, of="deal")
    clock.advance(DAY)
    say(store, deal, 0.2, of="deal")
    Alerting(store).run_until_done()
    assert outcomes(store, cast["Mara"]) == [Outcome.NOT_OVER]
    clock.advance(30 * DAY)
    if won is not None:
        with store.transaction() as transaction:
            row = transaction.session.get_one(Deal, deal)
            close_deal(transaction, row, won=won, lost_reason=None if won else "price")
    clock.advance(90 * DAY)
    assert outcomes(store, cast["Mara"]) == [outcome]


def test_warnings_of_others_are_not_followed(store: Store, cast: Cast, two: tuple[int, int]) -> None:
    assert outcomes(store, cast["Otto"]) == []


def test_what_is_at_risk_is_added_up_by_currency_and_each_customer_counts_once(
    store: Store, clock: FixedClock, cast: Cast
) -> None:
    for probability in (0.4, 0.5):
        warned(store, cast["Ana"], clock.now().date() + timedelta(days=400), probability)
    with store.reading() as session:
        found = sum_running(Reader(session, cast["Mara"]), clock.now())
    (one,) = found.at_risk
    assert (found.open, one.currency, one.at_risk, one.records) == (2, "EUR", Decimal(9_000), 2)


def test_the_page_counts_in_words(
    app: Flask, clock: FixedClock, cast: Cast, two: tuple[int, int], store: Store
) -> None:
    client = logged_in(app, cast["Mara"])
    assert "the time is not over" in client.get("/alerts/past").text
    clock.advance(160 * DAY)
    text = logged_in(app, cast["Mara"]).get("/alerts/past").text
    assert "Of 2 warnings whose time is over, 1 left: 50% (said 40%)." in text
    assert "Nothing fits" in logged_in(app, cast["Mara"]).get("/alerts/past?outcome=won").text


def test_without_warnings_the_page_says_so(app: Flask, cast: Cast) -> None:
    assert "No warnings yet" in logged_in(app, cast["Mara"]).get("/alerts/past").text


def test_a_step_is_suggested_by_the_model_or_said_to_be_missing(
    app: Flask, cast: Cast, two: tuple[int, int]
) -> None:
    client = logged_in(app, cast["Mara"])
    alert = 1
    answer = client.get(f"/alerts/{alert}/step", headers={"X-Requested-With": "fetch"})
    assert "Nothing that was measured" in answer.text, "no model serves"
    assert client.get(f"/alerts/{alert}/step").headers["Location"].startswith("/customers/")
    assert logged_in(app, cast["Otto"]).get(f"/alerts/{alert}/step").status_code == 404


@pytest.fixture
def statements(store: Store) -> Iterator[list[str]]:
    found: list[str] = []

    def note(*call: Any) -> None:
        found.append(call[2])

    event.listen(store.engine, "before_cursor_execute", note)
    yield found
    event.remove(store.engine, "before_cursor_execute", note)


def test_a_page_of_alerts_asks_twelve_queries_however_many_there_are(
    app: Flask, store: Store, clock: FixedClock, cast: Cast, statements: list[str]
) -> None:
    for _ in range(5):
        warned(store, cast["Ana"], clock.now().date() + timedelta(days=30))
    client = logged_in(app, cast["Mara"])
    client.get("/alerts")
    statements.clear()
    client.get("/alerts")
    asked = [one for one in statements if one.startswith("SELECT")]
    assert len(asked) <= 12, asked
