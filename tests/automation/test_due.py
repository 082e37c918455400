"""What comes with time: dates, idle records, long stages; through clock jumps and changes to summer time."""

from __future__ import annotations

import itertools
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select

from crm_core.automation.due import waited_since, waited_until
from crm_core.automation.triggers import Idle, Unit
from crm_core.clock import FixedClock
from crm_core.deals import close_deal, move_deal
from crm_core.records import Contract, Deal, Lead, Order
from crm_core.store import Store, Transaction
from crm_core.working_time import WorkingTime, add_absence, set_special_day
from tests.automation.conftest import Automation, Cast, Write
from tests.conftest import MONDAY
from tests.factories import (
    make_account,
    make_activity,
    make_contact,
    make_contract,
    make_deal,
    make_lead,
    make_order,
)
from tests.serving.both_databases import *  # noqa: F403  its fixtures

BERLIN = "Europe/Berlin"
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
BEFORE_END = {"kind": "date", "field": "ends_on", "days": -30}
BIRTHDAY = {"kind": "date", "field": "birthday", "yearly": True}
QUIET = {"kind": "idle", "amount": 24, "unit": "hours"}


def fired(automation: Automation, **options: Any) -> list[int]:
    return [run.record_id for run in automation.run(**options)]


def watch(automation: Automation, clock: FixedClock, until: datetime, step: timedelta = HOUR) -> None:
    """Look every hour until an instant."""
    while clock.now() < until:
        clock.advance(step)
        automation.run(zone=BERLIN)


def test_a_date_is_told_before_it_comes_and_once(
    automation: Automation, write: Write, clock: FixedClock
) -> None:
    automation.rule("contract", BEFORE_END)
    account = write(make_account)

    def contract(ends_on: date) -> Any:
        return write(make_contract, account_id=account, ends_on=ends_on)

    soon, later = contract(date(2026, 3, 20)), contract(date(2026, 4, 3))
    contract(date(2026, 2, 1))
    assert fired(automation) == [soon], "learned late, but not over"
    clock.set(datetime(2026, 3, 4, 8, 59, tzinfo=UTC))
    assert fired(automation) == [soon]
    clock.set(datetime(2026, 3, 4, 9, 5, tzinfo=UTC))
    assert fired(automation) == [soon, later]
    clock.advance(timedelta(days=10))
    assert fired(automation) == [soon, later]
    write(
        lambda transaction: transaction.update(
            transaction.get(Contract, later), {"ends_on": date(2026, 4, 10)}
        )
    )
    clock.advance(HOUR)
    assert fired(automation) == [soon, later, later], "another date is another cause"


def test_a_date_is_told_after_it_came_though_nobody_looked_for_weeks(
    automation: Automation, write: Write, clock: FixedClock
) -> None:
    automation.rule("deal", {"kind": "date", "field": "expected_close_on", "days": 3})
    known = write(make_deal, expected_close_on=date(2026, 3, 5))
    write(make_deal, expected_close_on=date(2026, 2, 20))
    assert fired(automation) == []
    clock.advance(timedelta(days=40))
    assert fired(automation) == [known]
    write(make_deal, expected_close_on=date(2026, 3, 15))
    late = write(make_deal, expected_close_on=date(2026, 4, 3))
    clock.advance(HOUR)
    assert fired(automation) == [known, late], "a week late is told, what is older is history"


def test_an_instant_counts_by_its_day_where_people_work(
    store: Store, automation: Automation, write: Write, clock: FixedClock
) -> None:
    automation.rule("order", {"kind": "date", "field": "occurred_at", "days": 2, "at": "00:00"})
    account = write(make_account)
    clock.set(datetime(2026, 3, 10, 23, 30, tzinfo=UTC))  # the 11th in Berlin
    order = write(make_order, account_id=account)
    clock.set(datetime(2026, 3, 12, 22, 59, tzinfo=UTC))
    assert fired(automation, zone=BERLIN) == []
    clock.set(datetime(2026, 3, 12, 23, 5, tzinfo=UTC))
    assert fired(automation, zone=BERLIN) == [order]
    with store.reading() as session:
        assert session.scalars(select(Order.id)).all() == [order]


def test_birthdays_come_every_year_and_leap_days_too(
    automation: Automation, write: Write, clock: FixedClock
) -> None:
    automation.rule("contact", BIRTHDAY)
    usual = write(make_contact, birthday=date(1980, 3, 4))
    leap = write(make_contact, birthday=date(1992, 2, 29))
    write(make_contact, birthday=date(1990, 3, 5))
    clock.set(datetime(2026, 3, 4, 10, 0, tzinfo=UTC))
    assert fired(automation) == [usual], "the other one's is tomorrow"
    for day in (datetime(2027, 2, 28, 10, 0, tzinfo=UTC), datetime(2028, 2, 29, 10, 0, tzinfo=UTC)):
        clock.set(day - DAY)
        automation.run()
        clock.set(day)
        automation.run()
    assert fired(automation).count(leap) == 2


@pytest.mark.parametrize(
    ("day", "hours"), [(datetime(2026, 3, 29, tzinfo=UTC), 23), (datetime(2026, 10, 25, tzinfo=UTC), 25)]
)
def test_on_days_of_23_and_25_hours_everything_is_told_once(
    automation: Automation, write: Write, clock: FixedClock, day: datetime, hours: int
) -> None:
    clock.set(day - timedelta(days=2))
    automation.rule("contact", {**BIRTHDAY, "at": "02:30"})  # an hour that is not there, or there twice
    automation.rule("lead", QUIET)
    people = [
        write(make_contact, birthday=born)
        for born in (date(1980, day.month, day.day + shift) for shift in (-1, 0, 1))
    ]
    leads = []
    while clock.now() < day + DAY:  # one an hour, so that some wait through the change
        leads.append(write(make_lead))
        clock.advance(6 * HOUR)
        automation.run(zone=BERLIN)
    watch(automation, clock, day + timedelta(days=3), timedelta(minutes=30 * 7))
    runs = automation.runs()
    told = [run for run in runs if run.record_type == "contact"]
    assert [run.record_id for run in told] == people
    gaps = [(later.caused_at - earlier.caused_at) / HOUR for earlier, later in itertools.pairwise(told)]
    assert sorted(gaps) == sorted([24, hours]) or sorted(gaps) == sorted([hours, 24])
    assert sorted(run.record_id for run in runs if run.record_type == "lead") == leads
    for run in runs:
        if run.record_type == "lead":
            assert int(run.cause.partition(":")[2]) // 10**6 + 86_400 == run.caused_at.timestamp()


def test_a_clock_that_jumps_tells_nothing_twice_and_loses_nothing(
    automation: Automation, write: Write, clock: FixedClock
) -> None:
    automation.rule("contract", BEFORE_END)
    automation.rule("deal", {"kind": "date", "field": "expected_close_on", "days": 1})
    automation.rule("lead", QUIET)
    account = write(make_account)
    made: dict[str, list[int]] = {"contract": [], "deal": [], "lead": []}
    for number in range(6):
        ends_on = date(2026, 4, 1) + number * DAY
        closes = date(2026, 3, 3) + number * DAY
        made["contract"].append(write(make_contract, account_id=account, ends_on=ends_on))
        made["deal"].append(write(make_deal, expected_close_on=closes))
    made["lead"].append(write(make_lead))
    automation.run()
    clock.advance(timedelta(days=3))
    ahead = len(automation.run())
    assert ahead > 0
    clock.set(MONDAY + timedelta(minutes=1))  # back again
    assert len(automation.run()) == ahead
    made["lead"].append(write(make_lead))
    clock.set(MONDAY - timedelta(hours=5))
    assert len(automation.run()) == ahead
    for step in range(1, 12 * 24, 5):
        clock.set(MONDAY + step * HOUR)
        automation.run()
    told = [(run.record_type, run.record_id) for run in automation.runs()]
    expected = [(kind, one) for kind, ids in made.items() for one in ids]
    assert sorted(told) == sorted(expected)


def test_a_lead_is_idle_until_somebody_is_in_touch(
    automation: Automation, write: Write, clock: FixedClock, cast: Cast
) -> None:
    automation.rule("lead", {"kind": "idle", "amount": 4, "unit": "working_hours", "since": "owner_id"})
    lead = write(make_lead)
    touched = write(make_lead, owner_id=cast.ana)
    nobodys = write(make_lead)
    clock.set(MONDAY + timedelta(hours=6))  # 15:00, people go home at 18:00
    write(lambda transaction: transaction.update(transaction.get(Lead, lead), {"owner_id": cast.ana}))
    write(make_activity, lead_id=touched)
    write(make_activity, lead_id=lead, kind="note")
    assert fired(automation) == []
    clock.set(MONDAY + DAY + timedelta(minutes=59))
    assert fired(automation) == []
    clock.set(MONDAY + DAY + timedelta(minutes=66))
    assert sorted(fired(automation)) == [lead, touched]
    clock.advance(DAY)
    assert len(fired(automation)) == 2
    write(make_activity, lead_id=lead)
    clock.advance(DAY)
    assert len(fired(automation)) == 3, "it was in touch, and is quiet again"
    assert nobodys not in fired(automation)


def test_what_was_idle_before_the_rule_was_on_is_left_alone(
    automation: Automation, write: Write, clock: FixedClock
) -> None:
    write(make_lead)
    clock.advance(timedelta(days=2))
    automation.rule("lead", QUIET)
    waiting = write(make_lead)
    clock.advance(timedelta(days=2))
    assert fired(automation) == [waiting]


def test_only_who_has_bought_is_a_customer(automation: Automation, write: Write, clock: FixedClock) -> None:
    automation.rule("account", {"kind": "idle", "amount": 7, "unit": "days", "customers": True})
    bought, won, _ = (write(make_account) for _ in range(3))
    write(make_order, account_id=bought)
    write(make_deal, account_id=won, status="won")
    clock.advance(timedelta(days=7, hours=1))
    assert sorted(fired(automation)) == [bought, won]


def test_a_deal_is_too_long_in_its_stage_by_what_won_deals_took(
    automation: Automation, write: Write, clock: FixedClock
) -> None:
    account = write(make_account)

    def win(transaction: Transaction, deal: int) -> None:
        move_deal(transaction, transaction.get(Deal, deal), "needs")
        close_deal(transaction, transaction.get(Deal, deal), won=True)

    for days in range(1, 13):  # three quarters of them left the first stage within 9.25 days
        deal = write(make_deal, account_id=account)
        clock.advance(days * DAY)
        write(win, deal=deal)
    automation.rule("deal", {"kind": "stage_overdue"})
    automation.rule("deal", {"kind": "stage_overdue", "times": 2})
    deal = write(make_deal)
    lost = write(make_deal)
    write(
        lambda transaction: close_deal(
            transaction, transaction.get(Deal, lost), won=False, lost_reason="Price"
        )
    )
    began = clock.now()
    clock.set(began + timedelta(days=9.25) - HOUR)
    assert fired(automation) == []
    clock.set(began + timedelta(days=9.25) + HOUR)
    assert fired(automation) == [deal]
    clock.set(began + timedelta(days=18.5) + HOUR)
    assert fired(automation) == [deal, deal]


def test_working_hours_are_counted_back_as_they_are_counted_on() -> None:
    working = WorkingTime(special={date(2026, 3, 4): False})
    for hours in (0.5, 4, 9, 30):
        trigger = Idle(amount=hours, unit=Unit.WORKING_HOURS)
        for start in range(0, 24 * 7, 7):
            since = MONDAY + start * HOUR
            at = waited_until(trigger, since, working)
            assert waited_since(trigger, at, working) >= since
            earlier = waited_since(trigger, at - timedelta(seconds=5), working)
            assert waited_until(trigger, earlier, working) <= at


def test_tasks_go_to_who_is_there(store: Store, automation: Automation, write: Write, cast: Cast) -> None:
    with store.transaction() as transaction:
        add_absence(transaction, cast.ana, date(2026, 3, 3), date(2026, 3, 3))
        set_special_day(transaction, date(2026, 3, 2), worked=False)
    automation.rule("lead", {"kind": "record_created"}, {"kind": "assign", "to": [f"team:{cast.team}"]})
    for _ in range(2):
        write(make_lead)
    automation.run()
    with store.reading() as session:
        assert session.scalars(select(Lead.owner_id)).all() == [cast.ben, cast.ben], (
            "away on the next work day"
        )
