"""The deals as they were known, on a real store; and what simple rules make of them."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import numpy as np
import pytest

from crm_core.clock import FixedClock, micros
from crm_core.records import Deal
from crm_core.store import Store
from crm_core.worth import NO_CURRENCY
from models.forecasting.arrivals import learn_arrivals
from models.forecasting.book import NOBODY, DealBook
from models.forecasting.chances import Chances
from models.forecasting.outlook import Scene
from models.forecasting.periods import Span, month_starts, period_at
from models.forecasting.simple import revenue_of, simple_rules, stage_rates
from tests.factories import make_deal
from tests.forecasting.made_up import AS_OF, QUARTER, snapshot

JANUARY = datetime(2026, 1, 5, 9, tzinfo=UTC)


def at(day: int, month: int = 2) -> datetime:
    return datetime(2026, month, day, 12, tzinfo=UTC)


@pytest.fixture
def deal(store: Store, clock: FixedClock) -> Deal:
    """A deal of January over 12,000 EUR, won on 10 February, which is written down on the 12th."""
    clock.set(JANUARY)
    with store.transaction() as transaction:
        made = make_deal(transaction)
    clock.set(at(1))
    with store.transaction() as transaction:
        transaction.update(transaction.session.get_one(Deal, made.id), {"amount": Decimal(9_000)})
    clock.set(at(12))
    with store.transaction() as transaction:
        kept = transaction.session.get_one(Deal, made.id)
        transaction.update(kept, {"status": "won", "closed_at": at(10)}, occurred_at=at(10))
    clock.set(at(20, month=3))
    return made


def test_a_win_written_down_late_is_not_known_before(store: Store, deal: Deal) -> None:
    book = DealBook.read(store)
    before, after = book.at(micros(at(11))), book.at(micros(at(13)))
    assert (before.is_open.tolist(), before.is_won.tolist()) == ([True], [False])
    assert (after.is_open.tolist(), after.won_at.tolist()) == ([False], [micros(at(10))])


def test_an_amount_is_the_one_that_was_known(store: Store, deal: Deal) -> None:
    book = DealBook.read(store)
    known = [book.at(micros(when)).amount.tolist() for when in (at(5, month=1), at(20, month=1), at(2))]
    assert known == [[12_000.0], [12_000.0], [9_000.0]]
    assert len(book.at(micros(JANUARY - timedelta(days=1)))) == 0


def test_revenue_is_that_of_the_period_in_its_currency(store: Store, deal: Deal) -> None:
    now = DealBook.read(store).at(micros(at(20, month=3)))
    february = period_at(Span.MONTH, micros(at(1)))
    assert revenue_of(now, february, "EUR") == 9_000.0
    assert revenue_of(now, february, "USD") == 0.0
    assert revenue_of(now, february.moved(1), "EUR") == 0.0


def test_a_deal_without_a_currency_counts_in_the_commonest(store: Store) -> None:
    with store.transaction() as transaction:
        for currency in ("USD", "USD", "EUR", None):
            make_deal(transaction, currency=currency)
    now = DealBook.read(store).at(micros(store.clock.now()))
    assert now.currency.tolist() == ["USD", "USD", "EUR", "USD"]
    assert now.owner.tolist() == [NOBODY] * 4


def test_where_nobody_names_a_currency_there_is_none(store: Store) -> None:
    with store.transaction() as transaction:
        make_deal(transaction, currency=None)
    assert DealBook.read(store).at(micros(store.clock.now())).currency.tolist() == [NO_CURRENCY]


def test_simple_rules_can_be_reckoned_by_hand(store: Store, deal: Deal, clock: FixedClock) -> None:
    with store.transaction() as transaction:
        due = {"expected_close_on": date(2026, 3, 30), "amount": Decimal(1_000)}
        make_deal(transaction, rep_probability=0.6, **due)
        make_deal(transaction, rep_probability=None, **due)
        make_deal(transaction, rep_probability=0.9, expected_close_on=date(2026, 5, 1))
    book = DealBook.read(store)
    now = book.at(micros(clock.now()))
    rates = stage_rates(book, now)
    # One deal closed, and won: (1 + 1) / (1 + 2) over all, held near that in its stage.
    assert rates[""] == pytest.approx(2 / 3)
    stage = (1 + 4 * 2 / 3) / 5
    assert rates["first_contact"] == pytest.approx(stage)
    quarter = period_at(Span.QUARTER, now.as_of)
    said = simple_rules(book, now, quarter, "EUR", rates)
    assert said.stages == pytest.approx(9_000 + 2 * 1_000 * stage)
    assert said.reps == pytest.approx(9_000 + 600 + 1_000 * stage)
    assert (said.last_period, said.last_year) == (None, None)


def test_currencies_are_forecast_apart_and_share_what_is_to_come() -> None:
    currency = np.array(["EUR", "EUR", "EUR", "USD"], dtype=object)
    now = snapshot(4, currency=currency, amount=np.array([100.0, 100.0, np.nan, np.nan]))
    scene = Scene(
        now=now,
        chances=Chances(ids=now.ids, hazards=np.zeros((4, 2)), ends_days=(30, 90), tail=0.7),
        arrivals=learn_arrivals(now),
        ratios=np.ones(1),
    )
    assert (scene.can_say("EUR"), scene.can_say("USD")) == (True, False)
    euros = scene.outlook(QUARTER, "EUR")
    assert euros.open.ids.tolist() == [1, 2, 3]
    assert euros.worth.base[2] == pytest.approx(100.0)
    assert scene.outlook(QUARTER).open.ids.size == 4


def test_periods_follow_the_calendar() -> None:
    assert [QUARTER.moved(step).name for step in (-1, 0, 1)] == ["2025-Q4", "2026-Q1", "2026-Q2"]
    month = period_at(Span.MONTH, AS_OF - 1)
    assert (month.name, month.end, month.holds(AS_OF - 1), month.holds(AS_OF)) == (
        "2025-12",
        AS_OF,
        True,
        False,
    )
    starts = month_starts(AS_OF, period_at(Span.QUARTER, AS_OF).end)
    assert [period_at(Span.MONTH, one).name for one in starts] == ["2026-02", "2026-03", "2026-04"]
