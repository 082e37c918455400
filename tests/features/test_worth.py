"""What customers bring in a year, as it was known."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest

from crm_core.clock import FixedClock
from crm_core.records import Contract
from crm_core.store import Store
from crm_core.worth import money_at_risk
from features.worth import yearly_values
from tests.factories import make_account, make_contract, make_order

NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)


def worth(store: Store, as_of: datetime = NOW) -> dict[int, list[tuple[str, ...]]]:
    found = yearly_values(store, [1, 2], as_of)
    return {
        key: [(part["currency"], part["amount"], part["of"]) for part in parts]
        for key, parts in found.items()
    }


def sign(store: Store, clock: FixedClock, start: date, end: date, value: int, currency: str = "EUR") -> None:
    clock.set(datetime(start.year, start.month, start.day, tzinfo=UTC))
    with store.transaction() as step:
        make_contract(
            step, account_id=1, starts_on=start, ends_on=end, value=Decimal(value), currency=currency
        )


@pytest.fixture
def customers(store: Store, clock: FixedClock) -> Store:
    clock.set(datetime(2023, 1, 1, tzinfo=UTC))
    with store.transaction() as step:
        make_account(step)
        make_account(step)
    return store


def test_running_contracts_are_taken_to_a_year_and_currencies_kept_apart(
    customers: Store, clock: FixedClock
) -> None:
    sign(customers, clock, date(2025, 1, 1), date(2027, 1, 1), 2000)
    sign(customers, clock, date(2025, 6, 1), date(2026, 6, 1), 365)
    sign(customers, clock, date(2025, 6, 1), date(2026, 6, 1), 500, "CNY")
    sign(customers, clock, date(2024, 1, 1), date(2025, 1, 1), 9000)
    clock.set(NOW)
    assert worth(customers) == {1: [("CNY", "500.00", "contract"), ("EUR", "1365.00", "contract")]}


def test_a_contract_signed_or_cancelled_later_is_known_as_it_was(customers: Store, clock: FixedClock) -> None:
    sign(customers, clock, date(2025, 6, 1), date(2026, 6, 1), 365)
    clock.set(datetime(2025, 12, 1, tzinfo=UTC))
    with customers.transaction() as step:
        step.update(step.get(Contract, 1), {"status": "cancelled"})
    clock.set(NOW)
    assert worth(customers) == {}
    assert worth(customers, NOW - timedelta(days=120)) == {1: [("EUR", "365.00", "contract")]}


def test_orders_of_the_last_year_count_and_a_short_time_is_taken_to_a_year(
    customers: Store, clock: FixedClock
) -> None:
    for account, days, amount in ((1, 400, 900), (1, 300, 100), (1, 10, 50), (2, 20, 90)):
        clock.set(NOW - timedelta(days=days))
        with customers.transaction() as step:
            make_order(step, account_id=account, amount=Decimal(amount), currency="EUR")
    clock.set(NOW)
    assert worth(customers) == {1: [("EUR", "150.00", "order")], 2: [("EUR", "365.00", "order")]}


def test_money_at_risk_is_the_probability_of_it_in_each_currency() -> None:
    parts = [
        {"currency": "CNY", "amount": "500.00", "of": "contract"},
        {"currency": "EUR", "amount": "1365.00", "of": "contract"},
    ]
    assert [(one.currency, str(one.at_risk)) for one in money_at_risk(0.2, parts)] == [
        ("CNY", "100.00"),
        ("EUR", "273.00"),
    ]
    assert money_at_risk(None, parts) == []
    assert money_at_risk(0.2, None) == []
