"""Two records that are the same become one, and yesterday there were still two."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest
from sqlalchemy import select

from crm_core.changes import newest_sequence
from crm_core.clock import FixedClock, micros
from crm_core.errors import HandoverError, MergeError
from crm_core.handover import hand_over
from crm_core.history import state_as_of, values_as_of
from crm_core.leads import convert_lead
from crm_core.links import links_to
from crm_core.merging import find_survivor, merge_records
from crm_core.records import Account, Activity, Comment, Contact, Deal, Lead, Order, Tag
from crm_core.store import Store
from tests.conftest import MONDAY
from tests.factories import (
    declare_custom,
    make_account,
    make_activity,
    make_contact,
    make_deal,
    make_lead,
    make_order,
    make_user,
)


def test_everything_that_pointed_at_the_one_points_at_the_other(store: Store) -> None:
    with store.transaction() as transaction:
        declare_custom(transaction, "account", tier="text")
        keep = make_account(transaction, name="Hill & Sons")
        gone = make_account(transaction, name="Hill and Sons", region="South", custom={"tier": "gold"})
        order = make_order(transaction, account_id=gone.id)
        call = make_activity(transaction, account_id=gone.id)
        person = make_contact(transaction, account_id=gone.id)
        child = make_account(transaction, name="Hill Ltd", parent_id=gone.id)
        comment = Comment(body="Nice people", subject_type="account", subject_id=gone.id)
        other = Tag(word="vip", subject_type="lead", subject_id=gone.id)
        transaction.create(comment)
        transaction.create(other)
        merge_records(transaction, keep, gone)

    with store.reading() as session:
        assert session.get_one(Order, order.id).account_id == keep.id
        assert session.get_one(Activity, call.id).account_id == keep.id
        assert session.get_one(Contact, person.id).account_id == keep.id
        assert session.get_one(Account, child.id).parent_id == keep.id
        assert session.get_one(Comment, comment.id).subject_id == keep.id
        assert session.get_one(Tag, other.id).subject_id == gone.id
        one, two = session.get_one(Account, keep.id), session.get_one(Account, gone.id)
        assert (one.name, one.region, one.custom) == ("Hill & Sons", "South", {"tier": "gold"})
        assert (two.merged_into_id, two.deleted_at) == (keep.id, store.clock.now())
        assert find_survivor(session, Account, gone.id) is one


def test_as_of_yesterday_there_were_two(store: Store, clock: FixedClock) -> None:
    with store.transaction() as transaction:
        keep, gone = make_account(transaction), make_account(transaction, region="South")
        order = make_order(transaction, account_id=gone.id)
    clock.advance(timedelta(days=1))
    with store.transaction() as transaction:
        merge_records(transaction, transaction.get(Account, keep.id), transaction.get(Account, gone.id))

    when = np.array([micros(MONDAY), micros(clock.now())])
    with store.reading() as session:
        whose = values_as_of(session, Order, "account_id", np.full(2, order.id), when)
        before = state_as_of(session, Account, gone.id, MONDAY)
        assert state_as_of(session, Account, gone.id, clock.now()) is None
    assert whose.tolist() == [gone.id, keep.id]
    assert before is not None
    assert before["region"] == "South"


def test_merging_twice_changes_nothing_more(store: Store) -> None:
    with store.transaction() as transaction:
        keep, gone = make_lead(transaction), make_lead(transaction, email="a@example.com")
        merge_records(transaction, keep, gone)
    with store.reading() as session:
        before = newest_sequence(session)
    with store.transaction() as transaction:
        merge_records(
            transaction,
            transaction.session.get_one(Lead, keep.id),
            transaction.session.get_one(Lead, gone.id),
        )
    with store.reading() as session:
        assert newest_sequence(session) == before


def test_a_chain_of_merges_leads_to_the_last(store: Store) -> None:
    with store.transaction() as transaction:
        first, second, third = (make_contact(transaction) for _ in range(3))
        merge_records(transaction, second, first)
        merge_records(transaction, third, second)
        found = find_survivor(transaction.session, Contact, first.id)
        assert found is third
        transaction.delete(third)
        assert find_survivor(transaction.session, Contact, first.id) is None


def test_a_company_never_ends_below_itself(store: Store) -> None:
    with store.transaction() as transaction:
        gone = make_account(transaction)
        keep = make_account(transaction, parent_id=gone.id)
        merge_records(transaction, keep, gone)
        assert keep.parent_id is None


def test_what_cannot_be_merged_says_why(store: Store) -> None:
    with store.transaction() as transaction:
        lead, other, dead = (make_lead(transaction) for _ in range(3))
        convert_lead(transaction, other)
        transaction.delete(dead)
        with pytest.raises(MergeError, match="with itself"):
            merge_records(transaction, lead, lead)
        with pytest.raises(MergeError, match=f"lead {dead.id} is deleted"):
            merge_records(transaction, lead, dead)
        with pytest.raises(MergeError, match="is converted; keep it"):
            merge_records(transaction, lead, other)


def test_every_link_in_the_schema_takes_part() -> None:
    found = {(link.model.record_type, link.column) for link in links_to(Account)}
    assert {("deal", "account_id"), ("account", "parent_id"), ("tag", "subject_id")} <= found
    assert ("deal", "owner_id") not in found


def test_a_leavers_open_work_goes_to_the_others_in_turn(store: Store, clock: FixedClock) -> None:
    with store.transaction() as transaction:
        ana, ben, cleo = (make_user(transaction, name) for name in ("Ana", "Ben", "Cleo"))
        leads = [make_lead(transaction, owner_id=ana.id).id for _ in range(3)]
        won = make_deal(transaction, owner_id=ana.id, status="won").id
        call = make_activity(transaction, lead_id=leads[0], owner_id=ana.id).id
        task = make_activity(transaction, kind="task", lead_id=leads[0], owner_id=ana.id).id
    clock.advance(timedelta(days=1))
    with store.transaction() as transaction:
        assert hand_over(transaction, ana, [ben, cleo]) == {"lead": 3, "activity": 1}

    with store.reading() as session:
        owners = dict(session.execute(select(Lead.id, Lead.owner_id)).all())
        before = values_as_of(session, Lead, "owner_id", np.array(leads), np.full(3, micros(MONDAY)))
        assert [owners[lead] for lead in leads] == [ben.id, cleo.id, ben.id]
        assert before.tolist() == [ana.id] * 3
        assert session.get_one(Deal, won).owner_id == ana.id
        assert session.get_one(Activity, call).owner_id == ana.id
        assert session.get_one(Activity, task).owner_id == ben.id


def test_work_is_handed_to_somebody_who_is_there(store: Store) -> None:
    with store.transaction() as transaction:
        ana, gone = make_user(transaction), make_user(transaction, "Gone", active=False)
        for heirs in ([], [ana], [gone]):
            with pytest.raises(HandoverError, match="other than Ana"):
                hand_over(transaction, ana, heirs)
