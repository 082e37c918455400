"""The rules that come along, each against what a plain reading of the records says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from sqlalchemy import select

from crm_core.automation.kept import AutomationRule, AutomationRun, list_rules
from crm_core.automation.rules import read_rule
from crm_core.automation.shipped import SHIPPED, ship_rules
from crm_core.clock import FixedClock
from crm_core.contracts import start_renewal
from crm_core.deals import close_deal, move_deal
from crm_core.notifications import Notification
from crm_core.records import Activity, Contract, Deal, Lead
from crm_core.store import Store, Transaction
from crm_core.working_time import add_absence, set_special_day
from tests.alerts.world import look, say
from tests.automation.conftest import Automation, Cast, Write
from tests.conftest import MONDAY
from tests.factories import (
    make_account,
    make_activity,
    make_contact,
    make_contract,
    make_deal,
    make_lead,
    make_team,
    make_user,
)

HOUR = timedelta(hours=1)
SwitchOn = Callable[[str], int]


@pytest.fixture
def switch_on(store: Store, automation: Automation) -> SwitchOn:
    """Switch on one of the rules that come along."""
    ship_rules(store)
    with store.reading() as session:
        ids = dict(session.execute(select(AutomationRule.shipped, AutomationRule.id)).all())

    def on(key: str) -> int:
        automation.turn(ids[key], on=True)
        return ids[key]

    return on


def told(store: Store) -> list[tuple[int, int | None]]:
    """Return who was told by a rule of what, in the order of being told."""
    with store.reading() as session:
        query = select(Notification.user_id, Notification.about_id).where(Notification.kind == "automation")
        return [(user, about) for user, about in session.execute(query.order_by(Notification.id))]


def owners(store: Store) -> list[int | None]:
    with store.reading() as session:
        return list(session.scalars(select(Lead.owner_id).order_by(Lead.id)))


def test_they_are_put_into_a_store_once(store: Store, automation: Automation) -> None:
    assert ship_rules(store) == len(SHIPPED)
    automation.turn(1, on=True)
    assert ship_rules(store) == 0
    with store.reading() as session:
        rules = {each.kept.shipped: each for each in list_rules(session)}
    assert rules.keys() == {each.key for each in SHIPPED}
    on = {key for key, each in rules.items() if each.kept.active and each.kept.id != 1}
    assert on == {"birthday", "churn_warning"}
    for each in SHIPPED:
        assert rules[each.key].rule == read_rule(each.declared())


def test_all_may_be_on_together(store: Store, automation: Automation, switch_on: SwitchOn) -> None:
    for each in SHIPPED:
        switch_on(each.key)


@pytest.mark.parametrize("by", ["region", "industry"])
def test_a_new_lead_goes_to_the_team_of_its_region_or_industry_in_turn(
    store: Store, automation: Automation, switch_on: SwitchOn, write: Write, cast: Cast, by: str
) -> None:
    sales = write(make_team, name="销售")
    sue = write(make_user, name="Sue", team_id=sales)
    switch_on(f"lead_by_{by}")
    for place in ("North", "north ", "North", "Elsewhere", None):
        write(make_lead, **{by: place})
    kept = write(make_lead, **{by: "North", "owner_id": cast.mara})
    automation.run()
    assert owners(store) == [cast.ana, cast.ben, cast.ana, sue, sue, cast.mara]
    assert kept == 6


def test_who_is_away_or_has_enough_gets_no_lead(
    store: Store, automation: Automation, switch_on: SwitchOn, write: Write, cast: Cast
) -> None:
    switch_on("lead_by_region")
    with store.transaction() as transaction:
        for _ in range(49):
            make_lead(transaction, owner_id=cast.ana)
    write(make_lead, owner_id=cast.ana, status="disqualified")
    new = [write(make_lead, region="North") for _ in range(4)]
    automation.run()
    given = Counter(owners(store)[-4:])
    assert given == {cast.ana: 1, cast.ben: 3}, "Ana had room for one: what is closed does not count"
    with store.transaction() as transaction:
        set_special_day(transaction, date(2026, 3, 2), worked=False)
        add_absence(transaction, cast.ben, date(2026, 3, 3), date(2026, 3, 4))
    late = write(make_lead, region="North")
    runs = automation.run()
    assert (runs[-1].record_id, runs[-1].outcome) == (late, "nobody"), "Ben is away on the next work day"
    assert told(store) == [(cast.adam, late)]
    assert owners(store)[-1] is None
    assert len(new) == 4


def test_a_lead_without_contact_is_reminded_of_escalated_and_given_back(
    store: Store, automation: Automation, switch_on: SwitchOn, write: Write, clock: FixedClock, cast: Cast
) -> None:
    for key in ("lead_remind", "lead_escalate", "lead_pool"):
        switch_on(key)
    lead = write(make_lead, owner_id=cast.ana)
    called = write(make_lead, owner_id=cast.ben)
    closed = write(make_lead, owner_id=cast.ben, status="disqualified")
    seen: list[tuple[float, list[tuple[int, int | None]]]] = []
    before = 0
    for hours in (2, 3.9, 4, 5.9, 6, 7.9, 8, 24.9, 25, 47, 47.9, 48, 51.9, 52, 55.9, 56, 60):
        clock.set(MONDAY + hours * HOUR)
        if hours in {2, 47}:
            write(make_activity, lead_id=called)
        automation.run()
        if new := told(store)[before:]:
            seen.append((hours, sorted(new)))
            before += len(new)
    # Work ends at 18:00, nine hours after the beginning; Ben's lead was called two hours into it.
    assert seen == [
        (4, [(cast.ana, lead)]),
        (6, [(cast.ben, called)]),
        (8, [(cast.mara, lead)]),
        (25, [(cast.mara, called)]),
        (48, [(cast.mara, lead), (cast.ana, lead)]),
        (52, [(cast.ben, called)]),
        (56, [(cast.mara, called)]),
    ]
    assert owners(store) == [None, cast.ben, cast.ben]
    assert closed not in {about for _, about in told(store)}


def test_a_customer_without_follow_up_is_told_to_owner_and_manager(
    store: Store, automation: Automation, switch_on: SwitchOn, write: Write, clock: FixedClock, cast: Cast
) -> None:
    switch_on("customer_quiet")
    quiet, busy, prospect = (write(make_account, owner_id=cast.ana) for _ in range(3))
    for account in (quiet, busy):
        write(make_contract, account_id=account)
    deal = write(make_deal, account_id=busy)
    clock.advance(timedelta(days=5))
    write(make_activity, deal_id=deal, kind="meeting")
    write(make_activity, account_id=quiet, kind="task")
    clock.advance(timedelta(days=2, hours=1))
    automation.run()
    assert sorted(told(store)) == [(cast.mara, quiet), (cast.ana, quiet)]
    assert prospect not in {about for _, about in told(store)}


def test_presales_get_a_task_when_a_deal_enters_proposal_and_quote(
    store: Store, automation: Automation, switch_on: SwitchOn, write: Write, cast: Cast
) -> None:
    presales = write(make_team, name="售前")
    people = [write(make_user, name=name, team_id=presales, language="zh") for name in ("Pia", "Pan")]
    switch_on("proposal_presales")
    account = write(make_account)
    for _ in range(2):
        deal = write(make_deal, account_id=account, owner_id=cast.ana)
        with store.transaction() as transaction:
            move_deal(transaction, transaction.get(Deal, deal), "needs")
            move_deal(transaction, transaction.get(Deal, deal), "proposal")
    automation.run()
    with store.reading() as session:
        tasks = session.scalars(select(Activity).order_by(Activity.id)).all()
    assert [task.owner_id for task in tasks] == people
    assert {(task.kind, task.subject) for task in tasks} == {("task", "准备方案与报价")}
    assert [task.deal_id for task in tasks] == [1, 2]
    assert told(store) == [(who, deal) for deal in (1, 2) for who in people]


def test_without_presales_the_manager_gets_the_task(
    store: Store, automation: Automation, switch_on: SwitchOn, write: Write, cast: Cast
) -> None:
    switch_on("proposal_presales")
    write(make_deal, owner_id=cast.ana, stage="proposal")
    automation.run()
    with store.reading() as session:
        assert session.scalars(select(Activity.owner_id)).all() == [cast.mara]


def test_a_stage_older_than_its_norm_is_told_to_the_owner_then_the_manager(
    store: Store, automation: Automation, switch_on: SwitchOn, write: Write, clock: FixedClock, cast: Cast
) -> None:
    account = write(make_account)

    def win(transaction: Transaction, deal: int) -> None:
        move_deal(transaction, transaction.get(Deal, deal), "needs")
        close_deal(transaction, transaction.get(Deal, deal), won=True)

    for _ in range(12):
        deal = write(make_deal, account_id=account)
        clock.advance(timedelta(days=10))
        write(win, deal=deal)
    switch_on("stage_owner")
    switch_on("stage_manager")
    deal, began = write(make_deal, owner_id=cast.ana), clock.now()
    found = []
    for hours in (239, 241, 359, 361, 600):
        clock.set(began + hours * HOUR)
        automation.run()
        found.append(told(store))
    owner, manager = (cast.ana, deal), (cast.mara, deal)
    assert found == [[], [owner], [owner], [owner, manager], [owner, manager]]


def test_a_birthday_is_told_to_the_owner_of_the_person_or_of_their_company(
    store: Store, automation: Automation, switch_on: SwitchOn, write: Write, clock: FixedClock, cast: Cast
) -> None:
    switch_on("birthday")
    account = write(make_account, owner_id=cast.ben)
    born = date(1980, 3, 3)
    own = write(make_contact, birthday=born, owner_id=cast.ana)
    company = write(make_contact, birthday=born, account_id=account)
    write(make_contact, birthday=born)
    write(make_contact, birthday=date(1980, 3, 5), owner_id=cast.ana)
    clock.set(datetime(2026, 3, 3, 9, 1, tzinfo=UTC))
    automation.run()
    assert told(store) == [(cast.ana, own), (cast.ben, company)]


def test_a_contract_that_ends_is_told_to_the_owner_with_a_renewal_deal(
    store: Store, automation: Automation, switch_on: SwitchOn, write: Write, clock: FixedClock, cast: Cast
) -> None:
    switch_on("contract_end")
    account = write(make_account, owner_id=cast.ana)
    ends = date(2026, 4, 5)
    contract = write(make_contract, account_id=account, ends_on=ends, value=Decimal(700), currency="CNY")
    write(make_contract, account_id=account, ends_on=ends, status="cancelled")
    write(make_contract, account_id=account, ends_on=ends, renewed_by_id=contract)
    write(make_contract, account_id=account)
    for days in range(10):
        clock.set(MONDAY + timedelta(days=days, minutes=1))
        automation.run()
        assert len(told(store)) == (1 if days >= 4 else 0)
    assert told(store) == [(cast.ana, contract)]
    with store.reading() as session:
        deal = session.scalars(select(Deal)).one()
    assert (deal.name, deal.account_id, deal.owner_id) == ("Renewal: Hill & Sons", account, cast.ana)
    assert (deal.amount, deal.currency, deal.expected_close_on) == (Decimal(700), "CNY", ends)
    with store.transaction() as transaction:  # the page of the contract finds it, and makes no second one
        assert start_renewal(transaction, transaction.get(Contract, contract)).id == deal.id


def test_a_churn_warning_is_a_task_for_the_owner(
    store: Store, automation: Automation, switch_on: SwitchOn, write: Write, cast: Cast
) -> None:
    switch_on("churn_warning")
    account = write(make_account, owner_id=cast.ana)
    calm = write(make_account, owner_id=cast.ana)
    say(store, account, 0.9)
    say(store, calm, 0.01)
    look(store, account)
    look(store, calm)
    runs = automation.run(language="zh")
    assert [run.record_id for run in runs] == [account]
    with store.reading() as session:
        task = session.scalars(select(Activity)).one()
        assert (task.owner_id, task.account_id, task.kind) == (cast.ana, account, "task")
        assert task.subject == "客户有流失风险 请尽快联系"  # in that of the installation: she chose none
        assert session.scalars(select(AutomationRun.cause)).all() == ["a1"]
