"""A mail that is queued stands on its record, and goes to nobody who did not agree to it."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select

from crm_core.bounces import is_dead
from crm_core.errors import InvalidValueError, NotWrittenToError
from crm_core.jobs import list_jobs
from crm_core.messages import Message, find_message, kept_id, people_with, written_id
from crm_core.outgoing import Agreement, Queued, mark_bounced, mark_sent, queue_mail, withdraw_consent
from crm_core.records import Activity, Lead
from crm_core.store import Store, Transaction
from tests.factories import make_account, make_contact, make_deal, make_lead, make_ticket, make_user

TO = "wang.fang@fangda.example"


def send(transaction: Transaction, about: tuple[str, int], **given: Any) -> Queued:
    content: dict[str, Any] = {"to": TO, "subject": "Offer", "text": "Dear Fang", "sender": None, **given}
    return queue_mail(transaction, about=about, **content)


def test_a_mail_is_an_activity_a_row_and_a_job_or_nothing_at_all(store: Store) -> None:
    with store.transaction() as transaction:
        ana = make_user(transaction)
        lead = make_lead(transaction, email=TO, owner_id=ana.id)
        queued = send(transaction, ("lead", lead.id), sender=ana)
        activity = transaction.session.get_one(Activity, queued.activity_id)
        assert (activity.kind, activity.direction, activity.lead_id, activity.owner_id, activity.body) == (
            *("mail", "outbound", lead.id, ana.id),
            "Dear Fang",
        )
        message = transaction.session.get_one(Message, queued.message_id)
        assert (message.state, message.activity_id, message.to_addresses) == ("queued", activity.id, [TO])
        assert queued.agreement is Agreement.NEVER_ASKED  # allowed, and said so
        (job,) = list_jobs(transaction.session)
        assert job.payload["mail"]["message_id"] == message.message_id
        lead_id = lead.id
    with pytest.raises(InvalidValueError), store.transaction() as transaction:
        send(transaction, ("lead", lead_id), subject="a\r\nBcc: b@example.com")
    with store.reading() as session:
        assert len(list(session.scalars(select(Message)))) == len(list_jobs(session)) == 1


def test_a_mail_on_a_deal_or_ticket_stands_on_their_customer_too(store: Store) -> None:
    with store.transaction() as transaction:
        account = make_account(transaction)
        contact = make_contact(transaction, account_id=account.id)
        deal = make_deal(transaction, account_id=account.id, contact_id=contact.id)
        ticket = make_ticket(transaction, account_id=account.id, contact_id=contact.id)
        on_deal = transaction.session.get_one(Activity, send(transaction, ("deal", deal.id)).activity_id)
        on_ticket = transaction.session.get_one(
            Activity, send(transaction, ("ticket", ticket.id)).activity_id
        )
    assert (on_deal.deal_id, on_deal.account_id) == (deal.id, account.id)
    assert (on_ticket.subject_type, on_ticket.subject_id) == ("ticket", ticket.id)
    assert (on_ticket.account_id, on_ticket.contact_id) == (account.id, contact.id)


def test_one_cause_sends_one_mail(store: Store) -> None:
    with store.transaction() as transaction:
        lead = make_lead(transaction, email=TO)
        first = send(transaction, ("lead", lead.id), key="rule 7, change 12")
        second = send(transaction, ("lead", lead.id), key="rule 7, change 12")
        assert (second.message_id, second.fresh) == (first.message_id, False)
        assert len(list_jobs(transaction.session)) == 1


def test_marketing_goes_only_to_those_who_agreed_and_did_not_take_it_back(store: Store) -> None:
    with store.transaction() as transaction:
        session = transaction.session
        lead = make_lead(transaction, email=TO)
        about = ("lead", lead.id)
        with pytest.raises(NotWrittenToError, match="never agreed"):
            send(transaction, about, kind="marketing")
        transaction.update(lead, {"consent": "granted"})
        queued = send(transaction, about, kind="marketing")
        assert session.get_one(Message, queued.message_id).leave_token
        make_contact(transaction, email=TO.upper(), consent="withdrawn")
        with pytest.raises(NotWrittenToError, match="took their consent back"):
            send(transaction, about, kind="marketing")
        assert send(transaction, about).agreement is Agreement.WITHDRAWN


def test_an_address_that_mails_do_not_reach_gets_no_marketing(store: Store) -> None:
    with store.transaction() as transaction:
        lead = make_lead(transaction, email=TO, consent="granted")
        queued = send(transaction, ("lead", lead.id), kind="marketing")
        message = transaction.session.get_one(Message, queued.message_id)
        mark_sent(transaction.session, message.id, transaction.now)
        assert mark_bounced(transaction, message, "550 5.1.1 no such user")
        assert not mark_bounced(transaction, message, "550 5.1.1 no such user")
        with pytest.raises(NotWrittenToError, match="come back"):
            send(transaction, ("lead", lead.id), kind="marketing")


def test_unsubscribing_leaves_its_instant_in_the_log(store: Store) -> None:
    with store.transaction() as transaction:
        lead = make_lead(transaction, email=TO, consent="granted")
        deleted = make_lead(transaction, email=TO)
        transaction.delete(deleted)
        transaction.index.flush()
        assert people_with(transaction.session, f" {TO.upper()}") == [lead]
        assert withdraw_consent(transaction, TO) == 1
        assert withdraw_consent(transaction, TO) == 0
        assert (lead.consent, lead.consent_at) == ("withdrawn", transaction.now)
    with store.reading() as session:
        assert session.get_one(Lead, lead.id).consent == "withdrawn"


def test_our_ids_are_known_whatever_stands_behind_the_at(store: Store) -> None:
    with store.transaction() as transaction:
        queued = send(transaction, ("lead", make_lead(transaction, email=TO).id))
        message = transaction.session.get_one(Message, queued.message_id)
        written = written_id(message.message_id, "example.com")
        assert written == f"<{message.message_id}@example.com>"
        assert find_message(transaction.session, kept_id(f" {message.message_id}@elsewhere.example> ") or "")


def test_a_long_id_is_kept_as_a_hash_and_none_as_none() -> None:
    long = kept_id(f"<{'x' * 500}@example.com>")
    assert long is not None
    assert long.startswith("sha256-")
    assert len(long) < 120
    assert written_id(long, "example.com") is None
    assert [kept_id(each) for each in (None, "", "<>", "a b@c", "a\x00@b")] == [None] * 5


@pytest.mark.parametrize(
    ("said", "dead"),
    [
        ("550 5.1.1 no such user", True),
        ("550 no such mailbox", True),
        ("5.2.1 mailbox disabled", True),
        ("552 5.2.2 mailbox full", False),
        ("550 5.7.1 refused by policy", False),
        ("451 4.1.1 try later", False),
        ("554 spam", False),
    ],
)
def test_only_a_refusal_of_the_address_itself_marks_it(said: str, dead: bool) -> None:
    assert is_dead(said) is dead
