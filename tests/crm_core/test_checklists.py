"""What has to be done in a stage, what entering one makes, and what comes out of a meeting."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest
from sqlalchemy import select

from crm_core.changes import Change
from crm_core.checklists import read_checklist, tick
from crm_core.deals import close_deal, move_deal
from crm_core.errors import ChecklistOpenError, InvalidValueError, RecordNotFoundError
from crm_core.meetings import NextStep, log_meeting
from crm_core.pipelines import ChecklistItem, PlaybookTask, get_stage
from crm_core.records import Activity, Deal, User
from crm_core.stage_settings import reset_stage, set_stage, stage_of
from crm_core.store import Store, Transaction
from tests.factories import make_account, make_deal, make_user

BUDGET = ChecklistItem(text="Budget asked", required=True)
RIVALS = ChecklistItem(text="Rivals named")


@pytest.fixture
def adam(store: Store) -> User:
    with store.transaction() as transaction:
        return make_user(transaction, "Adam", role="admin")


def ask_for(
    transaction: Transaction,
    adam: User,
    stage: str,
    *items: ChecklistItem,
    tasks: tuple[PlaybookTask, ...] = (),
) -> None:
    set_stage(
        transaction, adam, "default", replace(get_stage("default", stage), checklist=items, playbook=tasks)
    )


def test_a_deal_leaves_its_stage_once_what_has_to_be_is_done(store: Store, adam: User) -> None:
    with store.transaction(actor_id=adam.id) as transaction:
        ask_for(transaction, adam, "first_contact", BUDGET, RIVALS)
        deal = make_deal(transaction, stage="first_contact")
        with pytest.raises(ChecklistOpenError, match="Budget asked"):
            move_deal(transaction, deal, "needs")
        offered = make_deal(
            transaction,
            stage="first_contact",
            account_id=make_account(transaction).id,
            amount=Decimal(1),
            currency="EUR",
        )
        with pytest.raises(ChecklistOpenError, match="Budget asked"):
            close_deal(transaction, offered, won=True)
        found = tick(transaction, deal, adam, BUDGET.key, done=True)
        assert [(each.item.text, each.done, each.by_id) for each in found] == [
            ("Budget asked", True, adam.id),
            ("Rivals named", False, None),
        ]
        tick(transaction, deal, adam, BUDGET.key, done=True)
        move_deal(transaction, deal, "needs")
        assert read_checklist(transaction.session, deal) == []
        move_deal(transaction, deal, "first_contact")  # back, where it is still done
        assert [each.done for each in read_checklist(transaction.session, deal)] == [True, False]
        tick(transaction, deal, adam, BUDGET.key, done=False)
        with pytest.raises(ChecklistOpenError):
            move_deal(transaction, deal, "needs")
        move_deal(transaction, deal, "needs", as_it_was=True)
        logged = transaction.session.execute(
            select(Change.old, Change.new).where(Change.field == "checklist").order_by(Change.id)
        )
        assert list(map(tuple, logged)) == [(None, "Budget asked"), ("Budget asked", None)]
        with pytest.raises(RecordNotFoundError):
            tick(transaction, deal, adam, BUDGET.key, done=True)


def test_a_lost_deal_leaves_everything_undone(store: Store, adam: User) -> None:
    with store.transaction() as transaction:
        ask_for(transaction, adam, "first_contact", BUDGET)
        deal = make_deal(transaction, stage="first_contact")
        close_deal(transaction, deal, won=False, lost_reason="price")
        assert deal.status == "lost"


def test_entering_a_stage_makes_its_tasks_once(store: Store, adam: User) -> None:
    with store.transaction() as transaction:
        plan = (PlaybookTask(text="Send the brochure", due_days=2), PlaybookTask(text="Call", due_days=0))
        ask_for(transaction, adam, "needs", tasks=plan)
        deal = make_deal(transaction, stage="first_contact", owner_id=adam.id)
        move_deal(transaction, deal, "needs")
        made = transaction.session.scalars(select(Activity).order_by(Activity.id)).all()
        assert [(each.kind, each.subject, each.due_at, each.owner_id, each.deal_id) for each in made] == [
            ("task", "Send the brochure", transaction.now + timedelta(days=2), adam.id, deal.id),
            ("task", "Call", transaction.now, adam.id, deal.id),
        ]
        move_deal(transaction, deal, "first_contact")
        move_deal(transaction, deal, "needs")
        other = make_deal(transaction, stage="first_contact")
        move_deal(transaction, other, "needs", as_it_was=True)
        assert len(transaction.session.scalars(select(Activity)).all()) == 2


def test_what_is_set_is_checked_and_taken_back(store: Store, adam: User) -> None:
    with store.transaction() as transaction:
        for items, tasks in (
            ((BUDGET, BUDGET), ()),
            ((ChecklistItem(text=" "),), ()),
            ((), (PlaybookTask(text="Call", due_days=-1),)),
        ):
            with pytest.raises(InvalidValueError):
                ask_for(transaction, adam, "needs", *items, tasks=tasks)
        ask_for(transaction, adam, "needs", BUDGET)
        assert stage_of(transaction.session, "default", "needs").checklist == (BUDGET,)
        assert reset_stage(transaction, adam, "default", "needs")
        assert stage_of(transaction.session, "default", "needs").checklist == ()


def test_a_meeting_brings_its_next_steps_as_tasks_on_the_same_deal(store: Store, adam: User) -> None:
    with store.transaction() as transaction:
        account = make_account(transaction).id
        deal = make_deal(transaction, account_id=account).id
        due = transaction.now + timedelta(days=3)
        meeting = Activity(deal_id=deal, subject="Kick-off", body="They want two.", owner_id=adam.id)
        ben = make_user(transaction, "Ben").id
        steps = [NextStep(text="Offer two", due_at=due), NextStep(text=" Ask for drawings ", owner_id=ben)]
        held, tasks = log_meeting(transaction, meeting, steps)
        assert (held.kind, held.account_id, held.body) == ("meeting", account, "They want two.")
        assert [(each.subject, each.owner_id, each.due_at, each.deal_id) for each in tasks] == [
            ("Offer two", adam.id, due, deal),
            ("Ask for drawings", ben, None, deal),
        ]
        with pytest.raises(InvalidValueError, match="what is to be done"):
            log_meeting(transaction, Activity(deal_id=deal), [NextStep(text=" ")])
        assert transaction.session.get(Deal, deal) is not None
