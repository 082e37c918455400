"""What can be done with leads, deals and activities."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import select

from crm_core.activities import log_activity
from crm_core.changes import list_changes, newest_sequence
from crm_core.clock import FixedClock
from crm_core.deals import close_deal, move_deal
from crm_core.errors import (
    DealNotOpenError,
    InvalidValueError,
    LeadNotOpenError,
    RecordNotFoundError,
    StageNotInPipelineError,
)
from crm_core.leads import convert_lead, disqualify_lead
from crm_core.pipelines import open_stages
from crm_core.records import Account, Activity, Contact, Deal, Lead
from crm_core.store import Store
from tests.factories import make_account, make_activity, make_contact, make_deal, make_lead, make_user


def test_a_converted_lead_becomes_an_account_and_its_contact(store: Store, clock: FixedClock) -> None:
    with store.transaction() as transaction:
        lead = make_lead(transaction, region="South", email="wang.fang@example.com")
    clock.advance(timedelta(days=3))
    with store.transaction() as transaction:
        lead = transaction.get(Lead, lead.id)
        account = convert_lead(transaction, lead).account

    assert (lead.status, lead.converted_at, lead.account_id) == ("converted", clock.now(), account.id)
    assert (account.name, account.region) == ("Fangda Valves", "South")
    with store.reading() as session:
        contact = session.get_one(Contact, lead.contact_id)
        assert (contact.name, contact.email, contact.account_id) == (
            "Wang Fang",
            "wang.fang@example.com",
            account.id,
        )


def test_a_conversion_can_bring_a_deal_along(store: Store) -> None:
    with store.transaction() as transaction:
        owner = make_user(transaction)
        lead = make_lead(transaction, owner_id=owner.id, source="ad")
        done = convert_lead(transaction, lead, deal=Deal(name="Ten valves", stage="needs"))

    assert done.deal is not None
    assert done.contact is not None
    assert (lead.deal_id, lead.contact_id) == (done.deal.id, done.contact.id)
    assert (done.deal.account_id, done.deal.contact_id) == (done.account.id, done.contact.id)
    assert (done.deal.owner_id, done.deal.source) == (owner.id, "ad")


def test_converting_a_lead_again_gives_the_same_and_writes_nothing(store: Store) -> None:
    with store.transaction() as transaction:
        lead = make_lead(transaction)
        first = convert_lead(transaction, lead, deal=Deal(name="Ten valves", stage="needs"))
    with store.reading() as session:
        before = newest_sequence(session)
    with store.transaction() as transaction:
        again = convert_lead(transaction, transaction.get(Lead, lead.id), deal=Deal(name="X", stage="needs"))
    with store.reading() as session:
        assert newest_sequence(session) == before
    assert first.deal is not None
    assert again.deal is not None
    assert (again.account.id, again.deal.id) == (first.account.id, first.deal.id)


def test_a_failed_conversion_leaves_the_lead_open(store: Store) -> None:
    with store.transaction() as transaction:
        lead_id = make_lead(transaction).id
    with pytest.raises(StageNotInPipelineError), store.transaction() as transaction:
        convert_lead(transaction, transaction.get(Lead, lead_id), deal=Deal(name="X", stage="dancing"))
    with store.reading() as session:
        assert session.get_one(Lead, lead_id).status == "open"
        assert session.scalars(select(Account)).all() == []


def test_a_disqualified_lead_is_not_converted(store: Store) -> None:
    with store.transaction() as transaction:
        lead = make_lead(transaction)
        disqualify_lead(transaction, lead, reason="student")
        with pytest.raises(LeadNotOpenError, match="disqualified"):
            convert_lead(transaction, lead)


def test_a_disqualified_lead_says_why(store: Store) -> None:
    with store.transaction() as transaction:
        lead = make_lead(transaction)
        disqualify_lead(transaction, lead, reason="student")

    assert (lead.status, lead.disqualified_reason) == ("disqualified", "student")


def test_a_deal_moves_both_ways_while_it_is_open(store: Store) -> None:
    with store.transaction() as transaction:
        deal = make_deal(transaction)
        move_deal(transaction, deal, "proposal")
        move_deal(transaction, deal, "needs")

    with store.reading() as session:
        moves = [(c.old, c.new) for c in list_changes(session, after=0, limit=9) if c.field == "stage"]
    assert moves == [("first_contact", "proposal"), ("proposal", "needs")]


@pytest.mark.parametrize(("won", "stage"), [(True, "contract"), (False, "first_contact")])
def test_a_closed_deal_stays_closed(store: Store, clock: FixedClock, won: bool, stage: str) -> None:
    with store.transaction() as transaction:
        deal = make_deal(transaction)
        close_deal(transaction, deal, won=won, lost_reason=None if won else "price")

    assert (deal.status, deal.stage, deal.closed_at) == ("won" if won else "lost", stage, clock.now())
    with pytest.raises(DealNotOpenError), store.transaction() as transaction:
        move_deal(transaction, deal, "needs")


def test_a_deal_is_won_by_closing_it_and_not_by_moving_it(store: Store) -> None:
    with store.transaction() as transaction:
        deal = make_deal(transaction)
        with pytest.raises(InvalidValueError, match="open stage"):
            move_deal(transaction, deal, "paid")
        with pytest.raises(StageNotInPipelineError):
            move_deal(transaction, deal, "elsewhere")


def test_the_default_pipeline_has_its_six_stages_in_both_languages() -> None:
    assert [stage.key for stage in open_stages()] == ["first_contact", "needs", "proposal", "negotiation"]


def test_an_activity_on_a_deal_is_also_its_accounts(store: Store) -> None:
    with store.transaction() as transaction:
        account = make_account(transaction)
        deal = make_deal(transaction, account_id=account.id)
        contact = make_contact(transaction, account_id=account.id)
        assert make_activity(transaction, deal_id=deal.id).account_id == account.id
        assert make_activity(transaction, contact_id=contact.id).account_id == account.id


@pytest.mark.parametrize("field", ["lead_id", "deal_id", "account_id", "contact_id"])
def test_an_activity_needs_a_record_that_exists(store: Store, field: str) -> None:
    with pytest.raises(RecordNotFoundError, match="404"), store.transaction() as transaction:
        log_activity(transaction, Activity(kind="call", **{field: 404}))
    with pytest.raises(InvalidValueError, match=field), store.transaction() as transaction:
        log_activity(transaction, Activity(kind="call"))
