"""What came true, as far as it was known at an instant."""

from __future__ import annotations

import random
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from crm_core.arrays import NO_INSTANT
from crm_core.changes import Source
from crm_core.clock import DAY, FixedClock, instant, micros
from crm_core.deals import close_deal
from crm_core.fields import set_observed_until
from crm_core.leads import convert_lead
from crm_core.records import Contract, Deal, Lead
from crm_core.store import Store
from features.account import CONTRACTS, ORDERS
from features.cohort import Cohort, account_cohort, deal_cohort, lead_cohort
from features.labels import (
    GRACE_DAYS,
    Labels,
    churn_labels,
    contract_labels,
    deal_labels,
    lead_labels,
    order_labels,
    pending,
)
from tests.factories import make_account, make_contract, make_deal, make_lead, make_order
from tests.features.oracle import Database
from tests.features.worlds import BEGIN, END, LENGTH, make_world, write_world

MONDAY = datetime(2026, 3, 2, 9, tzinfo=UTC)
LATER = datetime(2027, 12, 31, tzinfo=UTC)


def on(month: int, day: int, hour: int = 0, year: int = 2026) -> datetime:
    return datetime(year, month, day, hour, tzinfo=UTC)


def event(labels: Labels) -> datetime | None:
    """When the event of the only question happened."""
    return None if labels.event_at[0] == NO_INSTANT else instant(int(labels.event_at[0]))


def seen(labels: Labels) -> datetime:
    """Until when the outcome of the only question has been seen."""
    return instant(int(labels.known_until[0]))


def test_a_lead_is_labelled_with_when_it_was_converted(store: Store, clock: FixedClock) -> None:
    with store.transaction() as step:
        make_lead(step)
    clock.set(on(4, 1))
    with store.transaction() as step:
        convert_lead(step, step.get(Lead, 1), occurred_at=on(3, 20))

    labels = lead_labels(store, Cohort.single("lead", 1, MONDAY))

    assert event(labels) == on(3, 20)
    assert seen(labels) == on(4, 1)


def test_a_conversion_recorded_late_is_not_known_before(store: Store, clock: FixedClock) -> None:
    with store.transaction() as step:
        make_lead(step)
    clock.set(on(4, 1))
    with store.transaction() as step:
        convert_lead(step, step.get(Lead, 1), occurred_at=on(3, 20))

    labels = lead_labels(store, Cohort.single("lead", 1, MONDAY), known_at=micros(on(3, 31)))

    assert event(labels) is None
    assert seen(labels) == on(3, 31)


def test_a_question_asked_after_an_unrecorded_conversion_is_void(store: Store, clock: FixedClock) -> None:
    with store.transaction() as step:
        make_lead(step)
    clock.set(on(4, 1))
    with store.transaction() as step:
        convert_lead(step, step.get(Lead, 1), occurred_at=on(3, 20))

    labels = lead_labels(store, Cohort.single("lead", 1, on(3, 25)))

    assert event(labels) is None
    assert seen(labels) == on(3, 25)


def test_nothing_counts_as_seen_beyond_the_end_of_an_extract(store: Store, clock: FixedClock) -> None:
    with store.transaction() as step:
        make_lead(step)
        set_observed_until(step.session, "lead", on(3, 10))
    clock.set(on(4, 1))

    cohort = Cohort.single("lead", 1, MONDAY)
    labels = lead_labels(store, cohort)

    assert seen(labels) == on(3, 10)
    assert pending(labels, cohort, 8 * DAY).tolist() == [True]
    assert pending(labels, cohort, 7 * DAY).tolist() == [False]


def test_a_window_that_ends_at_the_last_instant_seen_is_over(store: Store, clock: FixedClock) -> None:
    with store.transaction() as step:
        make_lead(step)
    clock.advance(timedelta(days=8))
    cohort = Cohort.single("lead", 1, MONDAY)

    labels = lead_labels(store, cohort)

    assert pending(labels, cohort, 8 * DAY).tolist() == [False]
    assert pending(labels, cohort, 8 * DAY + 1).tolist() == [True]


def test_a_lost_deal_goes_on_without_an_event(store: Store, clock: FixedClock) -> None:
    with store.transaction() as step:
        close_deal(step, make_deal(step), won=False)
        make_deal(step)
    clock.set(on(4, 1))
    with store.transaction() as step:
        close_deal(step, step.get(Deal, 2), won=True, as_it_was=True)
    clock.set(on(5, 1))

    labels = deal_labels(store, Cohort.at("deal", [1, 2], MONDAY))

    assert labels.event_at.tolist() == [NO_INSTANT, micros(on(4, 1))]
    assert labels.known_until.tolist() == [micros(on(5, 1))] * 2


def test_an_event_at_the_very_instant_of_the_question_is_before_it(store: Store, clock: FixedClock) -> None:
    with store.transaction() as step:
        make_account(step)
        make_order(step, account_id=1)
    clock.set(on(3, 20))
    with store.transaction() as step:
        make_order(step, account_id=1)

    labels = order_labels(store, Cohort.single("account", 1, MONDAY))

    assert event(labels) == on(3, 20)


def test_an_order_that_turned_out_a_mistake_was_still_an_order_to_who_looked_before(
    store: Store, clock: FixedClock
) -> None:
    with store.transaction() as step:
        make_account(step)
    clock.set(on(3, 20))
    with store.transaction() as step:
        order = make_order(step, account_id=1)
    clock.set(on(4, 20))
    with store.transaction() as step:
        step.delete(step.get(type(order), 1))
    cohort = Cohort.single("account", 1, MONDAY)

    assert event(order_labels(store, cohort, known_at=micros(on(4, 1)))) == on(3, 20)
    assert event(order_labels(store, cohort)) is None


class TestContracts:
    """Customers whose contract of 2026 may or may not be followed by another; now is the end of 2027."""

    @pytest.fixture(autouse=True)
    def first_contract(self, store: Store, clock: FixedClock) -> None:
        with store.transaction() as step:
            make_account(step)
            make_contract(step, account_id=1, starts_on=date(2026, 3, 1), ends_on=date(2026, 9, 1))
        clock.set(LATER)

    def test_a_contract_that_nobody_renewed_is_a_loss_on_its_last_day(self, store: Store) -> None:
        labels = contract_labels(store, Cohort.single("account", 1, MONDAY))

        assert event(labels) == on(9, 1)
        assert seen(labels) == LATER - timedelta(days=GRACE_DAYS)

    def test_nobody_knows_it_before_the_grace_time_is_over(self, store: Store) -> None:
        cohort = Cohort.single("account", 1, MONDAY)
        just_before = micros(on(9, 1)) + GRACE_DAYS * DAY - 1

        assert event(contract_labels(store, cohort, known_at=just_before)) is None
        assert event(contract_labels(store, cohort, known_at=just_before + 1)) == on(9, 1)

    def test_a_contract_signed_in_the_grace_time_keeps_the_customer(self, store: Store) -> None:
        with store.transaction(source=Source.IMPORT) as step:
            signed = {"occurred_at": on(9, 30), "recorded_at": on(9, 30)}
            make_contract(step, account_id=1, starts_on=date(2026, 9, 1), ends_on=date(2027, 3, 1), **signed)

        assert event(contract_labels(store, Cohort.single("account", 1, MONDAY))) == on(3, 1, year=2027)

    def test_a_contract_signed_after_the_grace_time_comes_too_late(self, store: Store) -> None:
        with store.transaction(source=Source.IMPORT) as step:
            signed = {"occurred_at": on(10, 2), "recorded_at": on(10, 2)}
            make_contract(step, account_id=1, starts_on=date(2026, 9, 1), ends_on=date(2027, 3, 1), **signed)

        assert event(contract_labels(store, Cohort.single("account", 1, MONDAY))) == on(9, 1)

    def test_a_contract_known_as_renewed_is_no_loss_even_without_its_successor(self, store: Store) -> None:
        with store.transaction() as step:
            step.update(step.get(Contract, 1), {"status": "renewed"})

        assert event(contract_labels(store, Cohort.single("account", 1, MONDAY))) is None

    def test_a_cancellation_is_the_loss(self, store: Store) -> None:
        with store.transaction(source=Source.IMPORT) as step:
            cancelled = {"occurred_at": on(5, 5), "recorded_at": on(5, 8)}
            step.update(step.get(Contract, 1), {"status": "cancelled"}, **cancelled)

        assert event(contract_labels(store, Cohort.single("account", 1, MONDAY))) == on(5, 5)

    def test_asked_after_a_cancellation_that_was_not_recorded_yet_the_question_is_void(
        self, store: Store
    ) -> None:
        with store.transaction(source=Source.IMPORT) as step:
            cancelled = {"occurred_at": on(5, 5), "recorded_at": on(5, 8)}
            step.update(step.get(Contract, 1), {"status": "cancelled"}, **cancelled)

        labels = contract_labels(store, Cohort.single("account", 1, on(5, 6)))

        assert event(labels) is None
        assert seen(labels) == on(5, 6)

    def test_a_customer_with_a_second_contract_stays(self, store: Store) -> None:
        with store.transaction() as step:
            make_contract(
                step, account_id=1, starts_on=date(2026, 3, 1), ends_on=date(2027, 1, 1), occurred_at=MONDAY
            )

        assert event(contract_labels(store, Cohort.single("account", 1, MONDAY))) == on(1, 1, year=2027)

    def test_a_renewal_signed_before_the_end_keeps_the_customer_from_then_on(self, store: Store) -> None:
        with store.transaction(source=Source.IMPORT) as step:
            signed = {"occurred_at": on(6, 15), "recorded_at": on(6, 15)}
            make_contract(step, account_id=1, starts_on=date(2026, 9, 1), ends_on=date(2027, 3, 1), **signed)
        cohort = Cohort.single("account", 1, MONDAY)

        assert event(contract_labels(store, cohort)) == on(3, 1, year=2027)
        assert event(contract_labels(store, cohort, known_at=micros(on(10, 15)))) is None

    def test_after_an_early_cancellation_a_new_contract_in_the_grace_time_keeps_the_customer(
        self, store: Store
    ) -> None:
        with store.transaction(source=Source.IMPORT) as step:
            cancelled = {"occurred_at": on(5, 5), "recorded_at": on(5, 5)}
            step.update(step.get(Contract, 1), {"status": "cancelled"}, **cancelled)
            signed = {"occurred_at": on(5, 30), "recorded_at": on(5, 30)}
            make_contract(step, account_id=1, starts_on=date(2026, 6, 1), ends_on=date(2027, 6, 1), **signed)

        assert event(contract_labels(store, Cohort.single("account", 1, MONDAY))) == on(6, 1, year=2027)

    def test_of_two_contracts_the_loss_is_the_end_of_the_last_even_when_one_is_cancelled(
        self, store: Store
    ) -> None:
        with store.transaction(source=Source.IMPORT) as step:
            signed = {"occurred_at": MONDAY, "recorded_at": MONDAY}
            make_contract(step, account_id=1, starts_on=date(2026, 3, 1), ends_on=date(2026, 12, 1), **signed)
            cancelled = {"occurred_at": on(5, 5), "recorded_at": on(5, 5)}
            step.update(step.get(Contract, 1), {"status": "cancelled"}, **cancelled)

        assert event(contract_labels(store, Cohort.single("account", 1, MONDAY))) == on(12, 1)

    def test_churn_follows_the_kind_of_the_store(self, store: Store) -> None:
        cohort = Cohort.single("account", 1, MONDAY)

        assert event(churn_labels(store, cohort)) == on(9, 1)
        assert event(churn_labels(store, cohort, kind="orders")) is None


@pytest.mark.parametrize("seed", range(4))
def test_labels_known_at_an_instant_use_only_what_was_recorded_by_it(
    seed: int, tmp_path: Path, empty_database: Path
) -> None:
    world = make_world(random.Random(seed).choice, 120, others=0)
    whole = write_world(world, tmp_path, empty_database)
    start, until = instant(BEGIN), instant(END)
    for known_at in (BEGIN + 100 * DAY, BEGIN + LENGTH // 2 * DAY + 1):
        cut = write_world(world.known_at(known_at), tmp_path, empty_database)
        for build, cohort in (
            (lead_labels, lead_cohort(whole, start=start, until=until)),
            (deal_labels, deal_cohort(whole, start=start, until=until)),
            (order_labels, account_cohort(whole, start=start, until=until, kind="orders")),
            (contract_labels, account_cohort(whole, start=start, until=until, kind="contracts")),
        ):
            labels, again = (build(one, cohort, known_at=known_at) for one in (whole, cut))
            assert labels.event_at.tolist() == again.event_at.tolist()
            assert labels.known_until.tolist() == again.known_until.tolist()
        cut.close()
    whole.close()


@pytest.mark.parametrize("kind", ["lead", "deal", "orders", "contracts"])
def test_labels_equal_a_slow_independent_computation(kind: str, tmp_path: Path, empty_database: Path) -> None:
    found = 0
    for seed in range(6):
        store = write_world(make_world(random.Random(seed).choice, 150, others=0), tmp_path, empty_database)
        database = Database(Path(store.url.removeprefix("sqlite:///")))
        ids, as_of = np.array([(i, BEGIN + day * DAY) for i in (1, 2) for day in (25, 60, 150, 290, 400)]).T
        for known_at in (BEGIN + 200 * DAY, END):
            labels, expected = _both(store, database, kind, ids, as_of, known_at)
            void = (labels.known_until == as_of) & (labels.event_at == NO_INSTANT)
            assert labels.event_at[~void].tolist() == expected[~void].tolist()
            found += int((labels.event_at != NO_INSTANT).sum())
        store.close()
    assert found > 5


Ints = npt.NDArray[np.int64]


def _both(
    store: Store, database: Database, kind: str, ids: Ints, as_of: Ints, known_at: int
) -> tuple[Labels, Ints]:
    """The labels, and what they should be where the question was not void."""
    record_type = kind if kind in {"lead", "deal"} else "account"
    build = {"lead": lead_labels, "deal": deal_labels, "orders": order_labels, "contracts": contract_labels}[
        kind
    ]
    events = _losses if kind == "contracts" else _events
    expected = [
        min((when for when in events(database, record_type, i, known_at) if when > t), default=NO_INSTANT)
        for i, t in zip(ids.tolist(), as_of.tolist(), strict=True)
    ]
    labels = build(store, Cohort.of(record_type, ids, as_of), known_at=known_at)
    return labels, np.array(expected)


def _events(database: Database, kind: str, record_id: int, known_at: int) -> list[int]:
    if kind == "account":
        return [row["occurred_at"] for row in database.events(ORDERS, record_id, known_at, None)]
    rows = database.known_changes(kind, record_id, "status", known_at)
    wanted = '"converted"' if kind == "lead" else '"won"'
    return [row["occurred_at"] for row in rows if row["new"] == wanted]


def _losses(database: Database, _kind: str, account: int, known_at: int) -> list[int]:
    """Every end of a contract after which no other goes on that was signed and begun in the grace time."""
    contracts = []
    for row in database.events(CONTRACTS, account, known_at, None):
        ends = row["ends_on"] * DAY
        told = database.known_changes("contract", row["id"], "status", known_at)
        if told and row["status"] in {"cancelled", "ended"}:
            ends = min(ends, told[-1]["occurred_at"])
        begins = max(row["starts_on"] * DAY, row["occurred_at"])
        if begins < ends:
            contracts.append((begins, ends, row["status"] == "renewed"))
    return [
        ends
        for _, ends, _ in contracts
        if ends <= known_at - GRACE_DAYS * DAY
        and not any(renewed and other == ends for _, other, renewed in contracts)
        and not any(begins <= ends + GRACE_DAYS * DAY and other > ends for begins, other, _ in contracts)
    ]
