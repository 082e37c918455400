"""What can be done with leads, deals and activities."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import select, true

from crm_core.activities import log_activity
from crm_core.bulk import Update
from crm_core.changes import list_changes, newest_sequence
from crm_core.clock import FixedClock
from crm_core.deals import close_deal, move_deal
from crm_core.errors import (
    DealNotOpenError,
    InvalidValueError,
    LeadNotOpenError,
    MissingFieldsError,
    RecordNotFoundError,
    StageNotInPipelineError,
)
from crm_core.leads import convert_lead, disqualify_lead
from crm_core.pipelines import DEFAULT_PIPELINE, PIPELINES, open_stages
from crm_core.records import Account, Activity, Contact, Deal, Lead
from crm_core.sources import LEAD_SOURCES, list_sources
from crm_core.store import Store
from crm_core.validation import columns_of
from tests.factories import (
    make_account,
    make_activity,
    make_contact,
    make_deal,
    make_lead,
    make_team,
    make_ticket,
    make_user,
)


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
        deal = make_deal(transaction, account_id=make_account(transaction).id)
        move_deal(transaction, deal, "proposal")
        move_deal(transaction, deal, "needs")

    with store.reading() as session:
        moves = [(c.old, c.new) for c in list_changes(session, after=0, limit=9) if c.field == "stage"]
    assert moves == [("first_contact", "proposal"), ("proposal", "needs")]


@pytest.mark.parametrize(("won", "stage"), [(True, "contract"), (False, "first_contact")])
def test_a_closed_deal_stays_closed(store: Store, clock: FixedClock, won: bool, stage: str) -> None:
    with store.transaction() as transaction:
        deal = make_deal(transaction, account_id=make_account(transaction).id)
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


def test_a_later_stage_asks_for_its_fields_by_name(store: Store) -> None:
    with store.transaction() as transaction:
        deal = make_deal(transaction, amount=None)
        move_deal(transaction, deal, "needs")
        with pytest.raises(MissingFieldsError, match=r"deal 1 needs account_id, amount before .* 'proposal'"):
            move_deal(transaction, deal, "proposal")
        transaction.update(deal, {"account_id": make_account(transaction).id, "amount": Decimal(1)})
        move_deal(transaction, deal, "proposal")
        with pytest.raises(MissingFieldsError) as refused:
            move_deal(transaction, deal, "negotiation")
    assert (refused.value.stage, refused.value.fields) == ("negotiation", ("expected_close_on",))


def test_going_back_and_losing_ask_for_nothing(store: Store) -> None:
    with store.transaction() as transaction:
        deal = make_deal(transaction, stage="negotiation", amount=None)
        move_deal(transaction, deal, "proposal")
        close_deal(transaction, deal, won=False)
        assert deal.stage == "proposal"


def test_winning_asks_for_customer_and_amount(store: Store) -> None:
    with store.transaction() as transaction:
        deal = make_deal(transaction, currency=None)
        with pytest.raises(MissingFieldsError, match=r"account_id, currency"):
            close_deal(transaction, deal, won=True)
    assert deal.status == "open"


def test_history_comes_in_as_it_was(store: Store) -> None:
    with store.transaction() as transaction:
        deal = make_deal(transaction, amount=None)
        move_deal(transaction, deal, "negotiation", as_it_was=True)
        close_deal(transaction, deal, won=True, as_it_was=True)
        assert (deal.stage, deal.amount) == ("contract", None)


def test_the_default_pipeline_has_its_six_stages_in_both_languages() -> None:
    assert [stage.key for stage in open_stages()] == ["first_contact", "needs", "proposal", "negotiation"]
    names = [stage.name_zh for stage in DEFAULT_PIPELINE]
    assert names == ["初步接触", "需求沟通", "方案与报价", "商务谈判", "合同签署", "回款完成"]
    assert all(stage.name_en and stage.rotting_days > 0 for stage in DEFAULT_PIPELINE)


def test_what_stages_require_are_fields_that_a_deal_may_lack() -> None:
    for stages in PIPELINES.values():
        for field in {field for stage in stages for field in stage.required}:
            assert columns_of(Deal)[field].nullable


def test_every_store_knows_the_usual_sources_and_takes_others(store: Store) -> None:
    with store.transaction() as transaction:
        make_lead(transaction, source="猎头")
        make_lead(transaction, source="ad")
        transaction.delete(make_lead(transaction, source="gone"))
    with store.reading() as session:
        assert list_sources(session, true()) == [
            "web form",
            "ad",
            "trade show",
            "referral",
            "cold call",
            "猎头",
        ]
    assert [source.name_zh for source in LEAD_SOURCES] == ["网页表单", "广告", "展会", "转介绍", "陌生电话"]


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


def test_nobody_comes_to_stand_above_himself(store: Store) -> None:
    with store.transaction() as transaction:
        top, middle = make_team(transaction, name="Top"), make_team(transaction, name="Middle")
        transaction.update(middle, {"parent_id": top.id})
        with pytest.raises(InvalidValueError, match=r"team\.parent_id"):
            transaction.update(top, {"parent_id": middle.id})
        with pytest.raises(InvalidValueError, match=r"team\.parent_id"):
            transaction.update(top, {"parent_id": top.id})
        hill, dale = make_account(transaction), make_account(transaction)
        pair = [
            Update(record_id=hill.id, values={"parent_id": dale.id}),
            Update(record_id=dale.id, values={"parent_id": hill.id}),
        ]
        with pytest.raises(InvalidValueError, match=r"account\.parent_id"):
            transaction.update_many(Account, pair)


def test_an_activity_may_be_about_any_record_that_exists(store: Store) -> None:
    with store.transaction() as transaction:
        ticket = make_ticket(transaction, account_id=make_account(transaction).id)
        logged = log_activity(transaction, Activity(kind="note", subject_type="ticket", subject_id=ticket.id))
        assert (logged.subject_type, logged.subject_id) == ("ticket", ticket.id)
        with pytest.raises(RecordNotFoundError):
            log_activity(transaction, Activity(kind="note", subject_type="ticket", subject_id=99))
        wrong: tuple[dict[str, Any], ...] = (
            {"subject_type": "ticket"},
            {"subject_id": ticket.id},
            {"subject_type": "x", "subject_id": 1},
        )
        for half in wrong:
            with pytest.raises(InvalidValueError):
                log_activity(transaction, Activity(kind="note", **half))
