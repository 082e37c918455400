"""What can be done with leads, deals and activities."""

from __future__ import annotations

from datetime import timedelta

import pytest

from crm_core.activities import log_activity
from crm_core.changes import list_changes
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
from crm_core.records import Activity, Contact, Lead
from crm_core.store import Store
from tests.factories import make_account, make_activity, make_contact, make_deal, make_lead


def test_a_converted_lead_becomes_an_account_and_its_contact(store: Store, clock: FixedClock) -> None:
    with store.transaction() as transaction:
        lead = make_lead(transaction, region="South", email="wang.fang@example.com")
    clock.advance(timedelta(days=3))
    with store.transaction() as transaction:
        lead = transaction.get(Lead, lead.id)
        account = convert_lead(transaction, lead)

    assert (lead.status, lead.converted_at, lead.account_id) == ("converted", clock.now(), account.id)
    assert (account.name, account.region) == ("Fangda Valves", "South")
    with store.reading() as session:
        contact = session.get_one(Contact, lead.contact_id)
        assert (contact.name, contact.email, contact.account_id) == (
            "Wang Fang",
            "wang.fang@example.com",
            account.id,
        )


def test_a_lead_is_converted_once(store: Store) -> None:
    with store.transaction() as transaction:
        lead = make_lead(transaction)
        convert_lead(transaction, lead)
    with pytest.raises(LeadNotOpenError, match="converted"), store.transaction() as transaction:
        convert_lead(transaction, transaction.get(Lead, lead.id))


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
