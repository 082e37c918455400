"""A rehearsal finds what the rule really was set off by, as the records were then."""

from __future__ import annotations

import random
from datetime import date, timedelta
from typing import Any

from sqlalchemy import select

from crm_core.automation.due import Look
from crm_core.automation.kept import AutomationRun, get_rule
from crm_core.automation.rehearsal import Rehearsed, rehearse
from crm_core.automation.rules import read_rule
from crm_core.clock import FixedClock
from crm_core.deals import close_deal, move_deal
from crm_core.records import Contract, Deal, Lead, User
from crm_core.store import Store, Transaction
from crm_core.won_deals import StageNorm, read_won_deals
from crm_core.working_time import WorkingTime
from tests.automation.conftest import TOLD, Automation, Cast, Write
from tests.conftest import MONDAY
from tests.factories import make_account, make_activity, make_contact, make_contract, make_deal, make_lead

OPEN = ["status:eq:open"]
RULES: tuple[tuple[str, dict[str, Any], list[str]], ...] = (
    ("lead", {"kind": "record_created"}, ["region:eq:North"]),
    ("lead", {"kind": "field_changed", "field": "region"}, ["owner_id:empty"]),
    ("deal", {"kind": "stage_entered", "stage": "needs"}, ["amount:ge:5000", "owner_id:empty"]),
    ("contract", {"kind": "date", "field": "ends_on", "days": -10}, ["status:eq:active"]),
    ("deal", {"kind": "date", "field": "expected_close_on", "days": 2}, OPEN),
    ("contact", {"kind": "date", "field": "birthday", "yearly": True}, []),
    ("lead", {"kind": "idle", "amount": 30, "unit": "hours"}, ["status:eq:open", "region:ne:South"]),
    ("lead", {"kind": "idle", "amount": 5, "unit": "working_hours", "since": "owner_id"}, OPEN),
)


DAYS = 9


def live(store: Store, clock: FixedClock, automation: Automation, write: Write, cast: Cast) -> None:
    """Have people work for some days at random, with the rules acting after every step."""
    drawn = random.Random(5)
    account = write(make_account)
    leads = [write(make_lead, region="South") for _ in range(4)]
    deals = [write(make_deal, account_id=account, expected_close_on=date(2026, 3, 8)) for _ in range(3)]
    contracts = [write(make_contract, account_id=account, ends_on=date(2026, 3, 20)) for _ in range(3)]
    for number in range(4):
        write(make_contact, birthday=date(1980, 3, 3 + 4 * number))

    def edit(transaction: Transaction) -> None:
        lead = transaction.get(Lead, drawn.choice(leads))
        region, owner = drawn.choice(["North", "South", None]), drawn.choice([cast.ana, cast.ben, None])
        transaction.update(lead, {"region": region} if drawn.random() < 0.5 else {"owner_id": owner})

    def shift(transaction: Transaction) -> None:
        deal = transaction.get(Deal, drawn.choice(deals))
        move_deal(transaction, deal, drawn.choice(["needs", "first_contact"]))
        expected = date(2026, 3, 5) + timedelta(days=drawn.randint(0, 8))
        owner = drawn.choice([cast.ana, None])
        transaction.update(deal, {"expected_close_on": expected, "owner_id": owner})

    def extend(transaction: Transaction) -> None:
        contract = transaction.get(Contract, drawn.choice(contracts))
        ends_on = date(2026, 3, 12) + timedelta(days=drawn.randint(0, 25))
        transaction.update(contract, {"ends_on": ends_on})

    def touch(transaction: Transaction) -> None:
        make_activity(transaction, lead_id=drawn.choice(leads))

    def begin(transaction: Transaction) -> None:
        leads.append(make_lead(transaction, region=drawn.choice(["North", "South"])).id)

    while clock.now() < MONDAY + timedelta(days=DAYS):
        clock.advance(timedelta(minutes=drawn.choice([20, 200, 400])))
        write(drawn.choices([edit, shift, extend, touch, begin], [8, 3, 1, 3, 2])[0])
        automation.run()


def rehearsed(store: Store, clock: FixedClock, cast: Cast, declared: dict[str, Any], days: int) -> Rehearsed:
    with store.reading() as session:
        norms = {key: timedelta(days=norm.days) for key, norm in norms_of(store, clock).items()}
        look = Look(now=clock.now(), working=WorkingTime(), norms=norms)
        return rehearse(session, session.get_one(User, cast.adam), read_rule(declared), look, days=days)


def norms_of(store: Store, clock: FixedClock) -> dict[tuple[str, str], StageNorm]:
    with store.reading() as session:
        return dict(read_won_deals(session, clock.now()).norms)


def test_a_rehearsal_finds_what_really_set_rules_off(
    store: Store, clock: FixedClock, automation: Automation, write: Write, cast: Cast
) -> None:
    rules = [automation.rule(kind, trigger, condition=condition) for kind, trigger, condition in RULES]
    live(store, clock, automation, write, cast)
    for rule in rules:
        with store.reading() as session:
            declared = get_rule(session, rule).version.declared
            really = set(session.scalars(select(AutomationRun.cause).where(AutomationRun.rule_id == rule)))
        found = rehearsed(store, clock, cast, declared, DAYS + 1)
        assert really, declared
        assert {cause.key for cause in found.causes} == really, declared
        assert found.present == []


def test_what_cannot_be_asked_of_the_past_is_said(
    store: Store, clock: FixedClock, write: Write, cast: Cast
) -> None:
    lead = write(make_lead, region="North")
    write(make_lead)
    clock.advance(timedelta(days=1))
    write(lambda transaction: transaction.update(transaction.get(Lead, lead), {"region": "South"}))
    declared = {
        "name": "A rule",
        "record_type": "lead",
        "trigger": {"kind": "record_created"},
        "condition": ["region:eq:North", "tag:ne:old", "probability:empty"],
        "actions": [TOLD],
    }
    found = rehearsed(store, clock, cast, declared, 30)
    assert [cause.record_id for cause in found.causes] == [lead]
    assert found.present == ["tag:ne:old", "probability:empty"]
    assert rehearsed(store, clock, cast, {**declared, "condition": ["region:eq:South"]}, 30).causes == []


def test_a_rehearsal_of_long_stages_uses_what_is_usual_now(
    store: Store, clock: FixedClock, write: Write, cast: Cast
) -> None:
    account = write(make_account)

    def win(transaction: Transaction, deal: int) -> None:
        move_deal(transaction, transaction.get(Deal, deal), "needs")
        close_deal(transaction, transaction.get(Deal, deal), won=True)

    slow = write(make_deal)
    for _ in range(12):
        deal = write(make_deal, account_id=account)
        clock.advance(timedelta(days=2))
        write(win, deal=deal)
    write(make_deal)
    trigger = {"kind": "stage_overdue"}
    declared = {"name": "A rule", "record_type": "deal", "trigger": trigger, "actions": [TOLD]}
    found = rehearsed(store, clock, cast, declared, 30)
    assert [cause.record_id for cause in found.causes] == [slow]
    assert found.present == ["norms"]
