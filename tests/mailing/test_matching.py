"""A mail goes where it certainly belongs, or waits; nobody is guessed."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import select

from crm_core.access import Reader, RoleRight
from crm_core.errors import AccessDeniedError, RecordNotFoundError, StaleRecordError
from crm_core.incoming.filing import (
    Desk,
    Outcome,
    Taken,
    assign_item,
    drop_item,
    lead_from_item,
    take_mail,
    ticket_from_item,
)
from crm_core.incoming.parsing import read_mail
from crm_core.incoming.tray import list_items
from crm_core.leads import convert_lead
from crm_core.messages import Message
from crm_core.notifications import count_unread
from crm_core.records import Activity, Deal, Ticket, User
from crm_core.service_desk import Queue, set_queue
from crm_core.store import Store, Transaction
from crm_core.tickets import marked, merge_tickets
from tests.factories import (
    make_account,
    make_contact,
    make_deal,
    make_lead,
    make_team,
    make_ticket,
    make_user,
)

FANG = "wang.fang@fangda.example"


def mail(
    subject: str = "Hello", *, sender: str = FANG, to: str = "crm@ours.example", **headers: str
) -> bytes:
    more = "".join(f"{name.replace('_', '-')}: {value}\n" for name, value in headers.items())
    return f"From: {sender}\nTo: {to}\nSubject: {subject}\n{more}\nHello there.\n".encode()


def take(transaction: Transaction, raw: bytes) -> Taken:
    return take_mail(transaction, read_mail(raw), source="imap", ours=("crm@ours.example",))


def test_somebody_with_one_open_deal_writes_about_it(store: Store) -> None:
    with store.transaction() as transaction:
        ana = make_user(transaction)
        contact = make_contact(transaction, email=FANG, owner_id=ana.id)
        deal = make_deal(transaction, contact_id=contact.id, owner_id=ana.id)
        taken = take(transaction, mail())
        assert (taken.outcome, taken.about) == (Outcome.FILED, ("deal", deal.id))
        assert count_unread(transaction.session, ana.id) == 1
        make_deal(transaction, contact_id=contact.id)
        assert take(transaction, mail("Which one?")).about == ("contact", contact.id)


def test_two_people_with_one_address_are_candidates_and_nobody_is_guessed(store: Store) -> None:
    with store.transaction() as transaction:
        one, two = make_lead(transaction, email=FANG), make_lead(transaction, email=FANG.upper())
        taken = take(transaction, mail())
        assert taken.outcome is Outcome.TRAY
        (item,) = list_items(Reader(transaction.session, make_user(transaction, "Mo", role="manager")))
        assert sorted(map(tuple, item.candidates)) == [("lead", one.id), ("lead", two.id)]
        assert take(transaction, mail()).outcome is Outcome.KNOWN


def test_nobody_gets_a_colleagues_mails_by_writing_down_an_address(store: Store) -> None:
    with store.transaction() as transaction:
        bob, eve = make_user(transaction, "Bob"), make_user(transaction, "Eve")
        account = make_account(transaction, owner_id=bob.id)
        contact = make_contact(transaction, email=FANG, account_id=account.id)
        make_lead(transaction, email=FANG, owner_id=eve.id)
        assert take(transaction, mail()).about == ("contact", contact.id)
        make_lead(transaction, email="tom@hill.example", owner_id=bob.id)
        make_lead(transaction, email="tom@hill.example", owner_id=eve.id)
        assert take(transaction, mail(sender="tom@hill.example")).outcome is Outcome.TRAY
        assert list_items(Reader(transaction.session, eve)) == []
        assert len(list_items(Reader(transaction.session, make_user(transaction, "Mo", role="manager")))) == 1
        own = make_lead(transaction, email=FANG, owner_id=bob.id)
        assert take(transaction, mail("About the offer")).about == ("lead", own.id)


def test_a_converted_leads_mail_stands_on_what_it_became(store: Store) -> None:
    with store.transaction() as transaction:
        lead = make_lead(transaction, email=FANG)
        convert_lead(transaction, lead, deal=Deal(name="Pumps", stage="needs", pipeline="default"))
        assert lead.deal_id is not None
        assert take(transaction, mail()).about == ("deal", lead.deal_id)


def test_a_tickets_number_is_believed_of_its_customer_only(store: Store) -> None:
    with store.transaction() as transaction:
        account = make_account(transaction, website="https://www.fangda.example")
        ticket = make_ticket(transaction, account_id=account.id)
        taken = take(transaction, mail(f"Re: Pump leaks [#{ticket.id}]"))
        assert taken.about == ("ticket", ticket.id)
        taken = take(transaction, mail(f"Re: [#{ticket.id}]", sender="eve@else.example"))
        assert taken.outcome is Outcome.TRAY
        assert take(transaction, mail("[#999999]", sender="eve@else.example")).outcome is Outcome.TRAY


def test_a_mail_about_a_merged_ticket_is_about_the_one_that_stands(store: Store) -> None:
    with store.transaction() as transaction:
        contact = make_contact(transaction, email=FANG, account_id=make_account(transaction).id)
        keep, gone = (
            make_ticket(transaction, account_id=contact.account_id, contact_id=contact.id) for _ in range(2)
        )
        merge_tickets(transaction, keep, gone)
        taken = take(transaction, mail(f"Re: {marked(gone, f'[#{gone.id}] It leaks')}"))
        assert taken.about == ("ticket", keep.id)


@pytest.mark.parametrize("queue", ["help", "nowhere"])
def test_a_contact_who_writes_to_the_desk_opens_a_ticket(store: Store, queue: str) -> None:
    desk = Desk(address="Help@ours.example", queue=queue)
    with store.transaction() as transaction:
        session = transaction.session
        set_queue(session, Queue(key="help", name="Help desk"), version=0)
        contact = make_contact(transaction, email=FANG, account_id=make_account(transaction).id)
        make_deal(transaction, contact_id=contact.id, account_id=contact.account_id)

        def take_in(raw: bytes) -> Taken:
            return take_mail(transaction, read_mail(raw), source="imap", desk=desk)

        asked = mail("It  leaks", to="help@ours.example", Message_ID="<1@fangda.example>")
        about = take_in(asked).about
        assert about is not None
        assert about[0] == "ticket"
        assert take_in(asked).outcome is Outcome.KNOWN
        ticket = session.get_one(Ticket, about[1])
        assert (ticket.subject, ticket.description) == ("It leaks", "Hello there.")
        assert (ticket.contact_id, ticket.account_id) == (contact.id, contact.account_id)
        assert ticket.queue == (queue if queue == "help" else None)
        again = mail("It still leaks", to="help@ours.example", In_Reply_To="<1@fangda.example>")
        assert take_in(again).about == about
        assert take_in(mail(f"[#{ticket.id}] Dry now", to="help@ours.example")).about == about
        away = mail("Away", to="help@ours.example", Auto_Submitted="auto-replied")
        strange = mail("Where are you?", to="help@ours.example", sender="eve@else.example")
        for raw, outcome in (
            (mail("A quote?"), Outcome.FILED),
            (away, Outcome.FILED),
            (strange, Outcome.TRAY),
        ):
            taken = take_in(raw)
            assert taken.outcome is outcome
            assert taken.about is None or taken.about[0] == "deal"
        assert session.scalars(select(Ticket.id)).all() == [ticket.id]


def test_a_customers_mail_opens_their_ticket_again_and_their_absence_does_not(store: Store) -> None:
    with store.transaction() as transaction:
        account = make_account(transaction, website="fangda.example")
        ticket = make_ticket(transaction, account_id=account.id)
        transaction.update(ticket, {"status": "closed", "closed_at": transaction.now})
        subject = f"Re: Pump leaks [#{ticket.id}]"
        take(transaction, mail(subject, Auto_Submitted="auto-replied"))
        assert ticket.status == "closed"
        assert take(transaction, mail(f"{subject}!")).about == ("ticket", ticket.id)
        assert ticket.status == "open"


def test_colleagues_among_themselves_are_nobodys_business_on_a_record(store: Store) -> None:
    with store.transaction() as transaction:
        make_user(transaction)
        make_user(transaction, "Ben")
        taken = take(transaction, mail(sender="ana@example.com", to="ben@example.com"))
        assert taken.outcome is Outcome.TRAY


def test_a_mail_from_the_past_happened_then_and_one_from_the_future_now(store: Store) -> None:
    with store.transaction() as transaction:
        make_lead(transaction, email=FANG)
        past = take(transaction, mail(Date="Sun, 1 Mar 2026 10:00:00 +0800"))
        future = take(transaction, mail("x", Date="Fri, 1 Mar 2999 10:00:00 +0000"))
        times = [
            transaction.session.get_one(Activity, each.activity_id).occurred_at for each in (past, future)
        ]
    assert times[0].isoformat() == "2026-03-01T02:00:00+00:00"
    assert times[1] == store.clock.now()


def tray(store: Store) -> tuple[int, dict[str, User]]:
    with store.transaction() as transaction:
        north, south = make_team(transaction), make_team(transaction, name="South")
        cast = {
            "rep": make_user(transaction, "Ana", team_id=north.id),
            "manager": make_user(transaction, "Mara", role="manager", team_id=north.id),
            "analyst": make_user(transaction, "Dana", role="analyst"),
            "other": make_user(transaction, "Otto", team_id=south.id),
        }
        taken = take(transaction, mail("Pumps?", sender="Tom Hill <tom@hill.example>"))
        assert taken.item_id is not None
    return taken.item_id, cast


def test_what_waits_is_put_on_a_record_by_who_may_write_there(store: Store) -> None:
    item, cast = tray(store)
    with store.transaction() as transaction:
        foreign = make_lead(transaction, owner_id=cast["other"].id)
        own = make_lead(transaction, owner_id=cast["rep"].id)
        with pytest.raises(RecordNotFoundError):  # a rep does not see what is nobody's
            assign_item(transaction, cast["rep"], item, ("lead", own.id))
        with pytest.raises(RecordNotFoundError):
            assign_item(transaction, cast["manager"], item, ("lead", foreign.id))
        with pytest.raises(AccessDeniedError):
            assign_item(transaction, cast["analyst"], item, ("lead", own.id))
        nothing = RoleRight(role="manager", record_type="activity", read="all", write="none")
        transaction.session.add(nothing)
        with pytest.raises(AccessDeniedError):
            assign_item(transaction, cast["manager"], item, ("lead", own.id))
        transaction.session.delete(nothing)
        activity = assign_item(transaction, cast["manager"], item, ("lead", own.id))
        assert (activity.lead_id, activity.body, activity.direction) == (own.id, "Hello there.", "inbound")
        with pytest.raises(StaleRecordError):
            drop_item(transaction, cast["manager"], item)
        message = transaction.session.scalars(select(Message)).one()
        assert (message.state, message.about_id, message.activity_id) == ("received", own.id, activity.id)
        # An answer to what was assigned finds its way by itself.
        follow = mail("Re: Pumps?", sender="boss@hill.example", In_Reply_To=f"<{message.message_id}>")
        assert take(transaction, follow).about == ("lead", own.id)


def test_a_lead_or_a_ticket_is_made_of_what_waits(store: Store) -> None:
    item, cast = tray(store)
    with store.transaction() as transaction:
        lead = lead_from_item(transaction, cast["manager"], item)
        assert (lead.name, lead.email, lead.source) == ("Tom Hill", "tom@hill.example", "intake_mail")
        second = take(transaction, mail("It leaks", sender="x@y.example")).item_id
        account = make_account(transaction, owner_id=cast["manager"].id)
        ticket = ticket_from_item(
            transaction, cast["manager"], second or 0, account_id=account.id, contact_id=None
        )
        assert transaction.session.get_one(Ticket, ticket.id).subject == "It leaks"


def test_what_is_dropped_does_not_come_again(store: Store) -> None:
    item, cast = tray(store)
    with store.transaction() as transaction:
        drop_item(transaction, cast["manager"], item)
        assert (
            take(transaction, mail("Pumps?", sender="Tom Hill <tom@hill.example>")).outcome is Outcome.KNOWN
        )
        assert list_items(Reader(transaction.session, cast["manager"])) == []


def test_the_tray_says_newest_first_and_goes_on(store: Store) -> None:
    _, cast = tray(store)
    with store.transaction() as transaction:
        for number in range(3):
            transaction.now += timedelta(seconds=1)
            take(transaction, mail(f"{number}", sender="x@y.example"))
        reader = Reader(transaction.session, cast["manager"])
        first = list_items(reader, limit=2)
        assert [each.title for each in first] == ["2", "1"]
        assert [each.title for each in list_items(reader, before=first[-1].id)] == ["0", "Pumps?"]
