"""What a person brings as a file is placed among what they may change, and tells them of nothing else."""

from __future__ import annotations

import pytest
from sqlalchemy import func, select

from crm_core.access import Reader, Right, Scope
from crm_core.changes import Change
from crm_core.incoming.calendars import Calendar, read_calendar, take_calendar
from crm_core.incoming.filing import Desk, Outcome, Taken, take_mail
from crm_core.incoming.parsing import read_mail
from crm_core.incoming.tray import list_items
from crm_core.messages import Message, find_dead
from crm_core.outgoing import mark_dead, queue_mail
from crm_core.records import Activity, Lead, Ticket, User
from crm_core.rights import set_right
from crm_core.store import Store, Transaction
from tests.factories import make_account, make_contact, make_deal, make_lead, make_ticket, make_user
from tests.mailing.test_events import ZONE, calendar
from tests.mailing.test_matching import FANG, mail
from tests.mailing.test_sequences import Made, run_of


@pytest.fixture
def people(store: Store) -> dict[str, User]:
    """Two reps who see nothing of one another's, and their manager."""
    with store.transaction() as transaction:
        cast = [make_user(transaction, name) for name in ("Eve", "Bob")]
        cast.append(make_user(transaction, "Mara", role="manager"))
    return {each.name: each for each in cast}


def bring(transaction: Transaction, raw: bytes, by: User, desk: Desk | None = None) -> Taken:
    return take_mail(transaction, read_mail(raw), source="upload", desk=desk, by=by)


def offer(transaction: Transaction, by: User, lead: Lead) -> Message:
    """A mail about a lead that somebody sent."""
    queued = queue_mail(
        transaction, to=FANG, subject="Offer", text="Here it is.", about=("lead", lead.id), sender=by
    )
    return transaction.session.get_one(Message, queued.message_id)


def bring_calendar(transaction: Transaction, raw: bytes, by: User) -> Calendar:
    return take_calendar(transaction, read_calendar(raw, ZONE), by=by)


def test_a_mail_made_up_by_hand_is_no_evidence_on_a_colleagues_record(
    store: Store, people: dict[str, User]
) -> None:
    with store.transaction() as transaction:
        lead = make_lead(transaction, email=FANG, owner_id=people["Bob"].id)
        before = transaction.session.scalar(select(func.max(Change.id)))
        known = bring(transaction, mail("I hate you"), people["Eve"])
        unknown = bring(transaction, mail("Hello", sender="nobody@else.example"), people["Eve"])
        assert known.outcome == unknown.outcome == Outcome.TRAY
        assert transaction.session.scalar(select(func.max(Change.id))) == before
        assert list_items(Reader(transaction.session, people["Eve"])) == []
        (item,) = list_items(Reader(transaction.session, people["Bob"]))
        assert [tuple(each) for each in item.candidates] == [("lead", lead.id)]
        assert bring(transaction, mail("From me"), people["Bob"]).about == ("lead", lead.id)


def test_a_mailbox_places_what_nobody_brought(store: Store, people: dict[str, User]) -> None:
    with store.transaction() as transaction:
        lead = make_lead(transaction, email=FANG, owner_id=people["Bob"].id)
        taken = take_mail(transaction, read_mail(mail()), source="imap")
        assert taken.about == ("lead", lead.id)


def test_that_a_mail_is_here_already_is_told_to_whom_it_concerns(
    store: Store, people: dict[str, User]
) -> None:
    with store.transaction() as transaction:
        make_lead(transaction, email=FANG, owner_id=people["Bob"].id)
        take_mail(transaction, read_mail(mail()), source="imap")
        assert bring(transaction, mail(), people["Bob"]).outcome is Outcome.KNOWN
        seen = bring(transaction, mail(), people["Eve"])
        assert seen == Taken(outcome=Outcome.TRAY)
        assert list_items(Reader(transaction.session, people["Mara"])) == []


def test_a_namesake_at_a_colleagues_changes_nothing_for_ones_own_record(
    store: Store, people: dict[str, User]
) -> None:
    with store.transaction() as transaction:
        mine = make_lead(transaction, email=FANG, owner_id=people["Eve"].id)
        make_lead(transaction, email=FANG, owner_id=people["Bob"].id)
        assert bring(transaction, mail(), people["Eve"]).about == ("lead", mine.id)


def test_a_colleagues_deal_with_ones_own_contact_stays_theirs(store: Store, people: dict[str, User]) -> None:
    with store.transaction() as transaction:
        contact = make_contact(transaction, email=FANG, owner_id=people["Eve"].id)
        make_deal(transaction, contact_id=contact.id, owner_id=people["Bob"].id)
        assert bring(transaction, mail(), people["Eve"]).about == ("contact", contact.id)


def test_an_answer_to_a_colleagues_mail_does_not_join_their_thread(
    store: Store, people: dict[str, User]
) -> None:
    with store.transaction() as transaction:
        bobs = make_lead(transaction, email=FANG, owner_id=people["Bob"].id)
        eves = make_lead(transaction, email="tom@hill.example", owner_id=people["Eve"].id)
        sent = offer(transaction, people["Bob"], bobs)
        answer = mail("Re: Offer", sender="tom@hill.example", In_Reply_To=f"<{sent.message_id}>")
        assert bring(transaction, answer, people["Eve"]).about == ("lead", eves.id)
        assert sent.replied_at is None
        stranger = mail("Re: Re:", sender="x@else.example", In_Reply_To=f"<{sent.message_id}>")
        assert bring(transaction, stranger, people["Eve"]).outcome is Outcome.TRAY


def test_a_tickets_number_opens_nothing_that_one_may_not_change(
    store: Store, people: dict[str, User]
) -> None:
    with store.transaction() as transaction:
        account = make_account(transaction, owner_id=people["Bob"].id, website="fangda.example")
        make_contact(transaction, email=FANG, account_id=account.id)
        ticket = make_ticket(transaction, account_id=account.id)
        raw = mail(f"[#{ticket.id}] more")
        assert bring(transaction, raw, people["Eve"]).outcome is Outcome.TRAY
        again = mail(f"[#{ticket.id}] and more")
        assert bring(transaction, again, people["Bob"]).about == ("ticket", ticket.id)


def test_nobody_opens_a_ticket_for_a_customer_by_a_letter_in_their_name(
    store: Store, people: dict[str, User]
) -> None:
    desk = Desk(address="help@ours.example")
    with store.transaction() as transaction:
        account = make_account(transaction, owner_id=people["Bob"].id)
        make_contact(transaction, email=FANG, account_id=account.id)
        raw = mail("Broken", to=desk.address)
        assert bring(transaction, raw, people["Eve"], desk).outcome is Outcome.TRAY
        assert transaction.session.scalar(select(func.count()).select_from(Ticket)) == 0
        again = mail("Broken again", to=desk.address)
        about = bring(transaction, again, people["Bob"], desk).about
        assert about is not None
        assert about[0] == "ticket"


def test_who_may_log_nothing_places_nothing(store: Store, people: dict[str, User]) -> None:
    with store.transaction() as transaction:
        set_right(transaction.session, "rep", "activity", Right(read=Scope.OWN, write=Scope.NONE))
    with store.transaction() as transaction:
        make_lead(transaction, email=FANG, owner_id=people["Eve"].id)
        assert bring(transaction, mail(), people["Eve"]).outcome is Outcome.TRAY


def bounce_of(message_id: str, recipient: str) -> bytes:
    return (
        "From: MAILER-DAEMON@mail.example\nTo: crm@ours.example\nSubject: Undelivered\nMIME-Version: 1.0\n"
        'Content-Type: multipart/report; report-type=delivery-status; boundary="b"\n\n'
        "--b\nContent-Type: text/plain\n\nIt did not arrive.\n"
        "--b\nContent-Type: message/delivery-status\n\nReporting-MTA: dns; mail.example\n\n"
        f"Final-Recipient: rfc822; {recipient}\nAction: failed\nStatus: 5.1.1\n"
        "Diagnostic-Code: smtp; 550 5.1.1 no such user\n\n"
        f"--b\nContent-Type: text/rfc822-headers\n\nMessage-ID: <{message_id}>\n\n--b--\n"
    ).encode()


@pytest.mark.parametrize("owner", ["Bob", "Eve"])
def test_a_mail_that_came_back_is_believed_of_whoever_may_speak_for_the_address(
    store: Store, people: dict[str, User], owner: str
) -> None:
    with store.transaction() as transaction:
        lead = make_lead(transaction, email=FANG, owner_id=people["Bob"].id)
        own = make_lead(transaction, email=FANG, owner_id=people["Eve"].id)
        about = {"Bob": lead, "Eve": own}[owner]
        sent = offer(transaction, people[owner], about)
        told = bring(transaction, bounce_of(sent.message_id, FANG), people["Eve"])
        assert told.outcome is Outcome.BOUNCE
        assert find_dead(transaction.session, FANG) is None  # Bob writes to it, too
        assert (sent.state == "bounced") is (owner == "Eve")


def test_the_only_one_who_writes_to_an_address_may_say_that_it_is_dead(
    store: Store, people: dict[str, User]
) -> None:
    with store.transaction() as transaction:
        own = make_lead(transaction, email=FANG, owner_id=people["Eve"].id)
        sent = offer(transaction, people["Eve"], own)
        bring(transaction, bounce_of(sent.message_id, FANG), people["Eve"])
        assert find_dead(transaction.session, FANG) is not None


@pytest.mark.parametrize("owner", ["Bob", "Eve"])
def test_an_answer_made_up_ends_no_sequence_of_a_colleagues(store: Store, owner: str) -> None:
    made = Made(store)
    made.start(store)
    with store.transaction() as transaction:
        eve = make_user(transaction, "Eve")
        make_lead(transaction, email="tom@hill.example", owner_id=eve.id)
        if owner == "Eve":
            transaction.update(transaction.get(Lead, made.lead), {"owner_id": eve.id})
        else:
            make_lead(transaction, email=FANG, owner_id=eve.id)
        mark_dead(transaction.session, FANG, "550", transaction.now)
        assert bring(transaction, mail(), eve).outcome is Outcome.FILED
        assert (find_dead(transaction.session, FANG) is None) is (owner == "Eve")
    assert run_of(store).state == ("stopped" if owner == "Eve" else "active")


def test_a_meeting_made_up_is_not_a_colleagues(store: Store, people: dict[str, User]) -> None:
    with store.transaction() as transaction:
        make_contact(transaction, owner_id=people["Bob"].id)
        done = bring_calendar(transaction, calendar(), people["Eve"])
        assert (done.filed, done.tray) == (0, 1)
        assert transaction.session.scalar(select(func.count()).select_from(Activity)) == 0
        assert bring_calendar(transaction, calendar(sequence=1), people["Eve"]).known == 1  # hers
        other = calendar().replace(b"UID:meeting-1", b"UID:meeting-2")
        assert bring_calendar(transaction, other, people["Bob"]).filed == 1


@pytest.mark.parametrize("method", ["REQUEST", "CANCEL"])
def test_nobody_moves_or_cancels_a_colleagues_meeting_by_its_name(
    store: Store, people: dict[str, User], method: str
) -> None:
    with store.transaction() as transaction:
        make_contact(transaction, owner_id=people["Bob"].id)
        assert bring_calendar(transaction, calendar(), people["Bob"]).filed == 1
        meeting = transaction.session.scalars(select(Activity)).one()
        due_at = meeting.due_at
        newer = calendar(sequence=9, start="20270101T100000", method=method)
        unknown = newer.replace(b"UID:meeting-1", b"UID:meeting-2")
        told = bring_calendar(transaction, newer, people["Eve"])
        assert told == bring_calendar(transaction, unknown, people["Eve"])
        assert (meeting.due_at, meeting.outcome) == (due_at, None)
        bring_calendar(transaction, newer, people["Bob"])
        assert meeting.due_at != due_at
