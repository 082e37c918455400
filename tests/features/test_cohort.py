"""Only questions that could really have been asked, at the instants at which they would have been."""

from __future__ import annotations

import random
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from crm_core.changes import Source
from crm_core.clock import DAY, FixedClock, instant, micros
from crm_core.deals import close_deal, move_deal
from crm_core.errors import FeatureError
from crm_core.leads import convert_lead, disqualify_lead
from crm_core.records import Lead
from crm_core.store import Store
from features.account import CONTRACTS, ORDERS
from features.cohort import (
    Cohort,
    account_cohort,
    churn_kind,
    deal_cohort,
    lead_cohort,
    month_ends,
    open_records,
)
from tests.factories import make_account, make_contract, make_deal, make_lead, make_order
from tests.features.oracle import Database
from tests.features.worlds import BEGIN, END, make_world, write_world

START = datetime(2026, 3, 1, tzinfo=UTC)
MONDAY = datetime(2026, 3, 2, 9, tzinfo=UTC)
LATER = datetime(2026, 12, 31, tzinfo=UTC)


def asked(cohort: Cohort) -> list[tuple[int, datetime]]:
    return [(i, instant(t)) for i, t in zip(cohort.ids.tolist(), cohort.as_of.tolist(), strict=True)]


def days(*numbers: float) -> list[datetime]:
    return [MONDAY + timedelta(days=number) for number in numbers]


def test_a_lead_is_asked_about_when_it_became_known_and_at_fixed_ages(
    store: Store, clock: FixedClock
) -> None:
    with store.transaction() as step:
        make_lead(step)
    clock.set(LATER)

    cohort = lead_cohort(store, start=START, until=LATER)

    assert asked(cohort) == [(1, when) for when in days(0, 7, 14, 30, 60)]


def test_a_lead_recorded_late_is_not_asked_about_before_it_was_recorded(
    store: Store, clock: FixedClock
) -> None:
    with store.transaction() as step:
        make_lead(step, occurred_at=MONDAY - timedelta(days=10))
    clock.set(LATER)

    cohort = lead_cohort(store, start=START, until=LATER)

    assert asked(cohort) == [(1, when) for when in days(0, 4, 20, 50)]


def test_a_lead_is_asked_about_until_its_end_was_recorded(store: Store, clock: FixedClock) -> None:
    with store.transaction() as step:
        make_lead(step)
        make_lead(step)
        make_lead(step)
    clock.advance(timedelta(days=20))
    with store.transaction() as step:
        convert_lead(step, step.get(Lead, 1), occurred_at=MONDAY + timedelta(days=1))
        disqualify_lead(step, step.get(Lead, 2), reason="no budget")
        step.delete(step.get(Lead, 3))
    clock.set(LATER)

    cohort = lead_cohort(store, start=START, until=LATER)

    assert asked(cohort) == [(lead, when) for lead in (1, 2, 3) for when in days(0, 7, 14)]


def test_questions_lie_after_the_start_and_up_to_the_end(store: Store, clock: FixedClock) -> None:
    with store.transaction() as step:
        make_lead(step)
    clock.set(LATER)

    cohort = lead_cohort(store, start=MONDAY, until=MONDAY + timedelta(days=14))

    assert asked(cohort) == [(1, when) for when in days(7, 14)]


def test_every_record_weighs_one_however_often_it_is_asked_about(store: Store, clock: FixedClock) -> None:
    with store.transaction() as step:
        make_lead(step)
    clock.set(MONDAY + timedelta(days=20))
    with store.transaction() as step:
        make_lead(step)
    clock.set(MONDAY + timedelta(days=30))

    cohort = lead_cohort(store, start=START, until=MONDAY + timedelta(days=30))

    assert cohort.weight.tolist() == [0.25, 0.25, 0.25, 0.25, 0.5, 0.5]


def test_a_deal_is_asked_about_when_known_when_it_moves_and_on_mondays(
    store: Store, clock: FixedClock
) -> None:
    with store.transaction() as step:
        deal = make_deal(step)
    clock.advance(timedelta(days=3))
    with store.transaction() as step:
        move_deal(step, step.get(type(deal), 1), "needs", occurred_at=MONDAY + timedelta(days=1))
    clock.advance(timedelta(days=12))
    with store.transaction() as step:
        close_deal(step, step.get(type(deal), 1), won=False)
    clock.set(LATER)

    cohort = deal_cohort(store, start=START, until=LATER)

    midnight = datetime(2026, 3, 2, tzinfo=UTC)
    mondays = [midnight + timedelta(days=7), midnight + timedelta(days=14)]
    assert asked(cohort) == [(1, when) for when in (MONDAY, *days(3), *mondays)]


def test_a_deal_that_was_reopened_is_asked_about_again(store: Store, clock: FixedClock) -> None:
    with store.transaction() as step:
        deal = make_deal(step)
        close_deal(step, deal, won=False)
    clock.advance(timedelta(days=10))
    with store.transaction() as step:
        step.update(step.get(type(deal), 1), {"status": "open"})
    clock.set(MONDAY + timedelta(days=15))

    cohort = deal_cohort(store, start=START, until=LATER)

    assert asked(cohort) == [(1, datetime(2026, 3, 16, tzinfo=UTC))]


def test_customers_are_asked_about_at_the_last_instant_of_each_month(store: Store, clock: FixedClock) -> None:
    with store.transaction(source=Source.IMPORT) as step:
        make_account(step)
        make_order(step, account_id=1)
        make_account(step)
    clock.set(LATER)

    cohort = account_cohort(store, start=START, until=LATER)

    ends = [datetime(2026, month, 1, tzinfo=UTC) - timedelta(microseconds=1) for month in (4, 5)]
    assert asked(cohort) == [(1, when) for when in ends]


def test_an_order_counts_as_a_sign_of_life_for_as_long_as_asked(store: Store, clock: FixedClock) -> None:
    with store.transaction() as step:
        make_account(step)
        make_order(step, account_id=1)
    clock.set(LATER)

    cohort = account_cohort(store, start=START, until=LATER, active_days=30)

    assert asked(cohort) == [(1, datetime(2026, 3, 31, 23, 59, 59, 999_999, tzinfo=UTC))]


def test_with_contracts_customers_are_asked_about_while_one_runs(store: Store, clock: FixedClock) -> None:
    with store.transaction() as step:
        make_account(step)
        make_contract(step, account_id=1, starts_on=date(2026, 3, 10), ends_on=date(2026, 5, 31))
        make_order(step, account_id=1)
    clock.set(LATER)

    cohort = account_cohort(store, start=START, until=LATER)

    assert [when.month for _, when in asked(cohort)] == [3, 4]


def test_a_cancelled_contract_is_not_running_once_that_is_known(store: Store, clock: FixedClock) -> None:
    with store.transaction() as step:
        make_account(step)
        contract = make_contract(step, account_id=1)
    clock.set(datetime(2026, 5, 10, tzinfo=UTC))
    with store.transaction() as step:
        step.update(
            step.get(type(contract), 1),
            {"status": "cancelled"},
            occurred_at=datetime(2026, 4, 20, tzinfo=UTC),
        )
    clock.set(LATER)

    cohort = account_cohort(store, start=START, until=LATER)

    assert [when.month for _, when in asked(cohort)] == [3, 4]


def test_a_company_with_a_contract_loses_customers_by_contract(store: Store) -> None:
    with store.transaction() as step:
        make_account(step)
        make_order(step, account_id=1)
    assert churn_kind(store) == "orders"

    with store.transaction() as step:
        make_contract(step, account_id=1)
    assert churn_kind(store) == "contracts"


def test_another_kind_of_churn_is_refused_by_name(store: Store) -> None:
    with pytest.raises(FeatureError, match="visits"):
        account_cohort(store, start=START, until=LATER, kind="visits")


def test_month_ends_know_leap_years() -> None:
    ends = month_ends(datetime(2028, 1, 31, tzinfo=UTC), datetime(2028, 3, 1, tzinfo=UTC))

    expected = [datetime(2028, 2, 1, tzinfo=UTC), datetime(2028, 3, 1, tzinfo=UTC)]
    assert ends.tolist() == [micros(when) - 1 for when in expected]


def test_a_cohort_of_unequal_arrays_is_refused() -> None:
    with pytest.raises(FeatureError, match="2 ids"):
        Cohort(record_type="lead", ids=np.arange(2), as_of=np.arange(3), weight=np.ones(2))


def test_arrays_with_gaps_are_closed() -> None:
    """Loops are compiled for arrays without."""
    pairs = np.array([[1, 10], [2, 20], [3, 30]])
    cohort = Cohort.of("lead", pairs[:, 0], pairs[:, 1]).take(slice(None, None, 2))
    assert [each.flags.c_contiguous for each in (cohort.ids, cohort.as_of, cohort.weight)] == [True] * 3
    assert (cohort.ids.tolist(), cohort.as_of.tolist()) == ([1, 3], [10, 30])


def test_an_empty_store_gives_empty_cohorts(store: Store) -> None:
    cohorts = (
        lead_cohort(store, start=START, until=LATER),
        deal_cohort(store, start=START, until=LATER),
        account_cohort(store, start=START, until=LATER, kind="orders"),
        account_cohort(store, start=START, until=LATER, kind="contracts"),
        *(open_records(store, kind, MONDAY) for kind in ("lead", "deal", "account")),
    )
    assert [len(cohort) for cohort in cohorts] == [0] * 7


@pytest.mark.parametrize("kind", ["lead", "deal", "orders", "contracts"])
def test_cohorts_are_all_that_could_be_asked_and_nothing_else(
    kind: str, tmp_path: Path, empty_database: Path
) -> None:
    found, size = 0, 300 if kind == "contracts" else 120  # contracts are rare among all that is drawn
    for seed in range(4):
        store = write_world(make_world(random.Random(seed).choice, size, others=6), tmp_path, empty_database)
        database = Database(Path(store.url.removeprefix("sqlite:///")))
        cohort = _cohort(store, kind)
        expected = {(i, t) for i, t in _candidates(database, kind) if _askable(database, kind, i, t)}
        assert list(zip(cohort.ids.tolist(), cohort.as_of.tolist(), strict=True)) == sorted(expected)
        found += len(expected)

        at = BEGIN + 100 * DAY
        now = [i for i in sorted(database.tables[cohort.record_type]) if _askable(database, kind, i, at)]
        assert open_records(store, cohort.record_type, instant(at), kind=kind).ids.tolist() == now
        store.close()
    assert found > 20


def _cohort(store: Store, kind: str) -> Cohort:
    start, until = instant(BEGIN), instant(END)
    if kind == "lead":
        return lead_cohort(store, start=start, until=until)
    if kind == "deal":
        return deal_cohort(store, start=start, until=until)
    return account_cohort(store, start=start, until=until, kind=kind)


def _candidates(database: Database, kind: str) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    table = kind if kind in {"lead", "deal"} else "account"
    for record_id, row in database.tables[table].items():
        known = max(row["occurred_at"], row["recorded_at"])
        if kind == "lead":
            ages = [row["occurred_at"] + age * DAY for age in (7, 14, 30, 60)]
            found += [(record_id, when) for when in (known, *ages)]
        elif kind == "deal":
            moves = database.changes["deal", record_id, "stage"]
            moved = [max(move["occurred_at"], move["recorded_at"]) for move in moves]
            mondays = [BEGIN + (5 + 7 * week) * DAY for week in range(60)]
            found += [(record_id, when) for when in (known, *moved, *mondays)]
        else:
            months = [datetime(2025 + month // 12, month % 12 + 1, 1, tzinfo=UTC) for month in range(1, 15)]
            found += [(record_id, micros(month) - 1) for month in months]
    return [(record_id, when) for record_id, when in found if BEGIN < when <= END]


def _askable(database: Database, kind: str, record_id: int, as_of: int) -> bool:
    row = database.tables[kind if kind in {"lead", "deal"} else "account"][record_id]
    if max(row["occurred_at"], row["recorded_at"]) > as_of:
        return False
    if row["deleted_at"] is not None and row["deleted_at"] <= as_of:
        return False
    if kind == "orders":
        return bool(database.events(ORDERS, record_id, as_of, 90 * DAY))
    if kind == "contracts":
        known = [
            one for one in database.events(CONTRACTS, record_id, as_of, None) if one["status"] in STANDING
        ]
        return any(one["starts_on"] * DAY <= as_of < one["ends_on"] * DAY for one in known)
    return bool(database.held(kind, record_id, "status", as_of) == "open")


STANDING = {"active", "renewed"}
