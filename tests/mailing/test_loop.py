"""Sent through a real SMTP server, delivered, answered, fetched by IMAP from a real one, and threaded."""

from __future__ import annotations

from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from crm_core.incoming.mailboxes import Mailbox as Kept
from crm_core.incoming.tray import IntakeItem
from crm_core.messages import DeadAddress, Message
from crm_core.outgoing import queue_mail
from crm_core.records import Activity, Attachment, Lead, User
from crm_core.store import Store
from serving.jobs import JobRunner
from serving.mailbox import MailboxReader, take_raw
from serving.settings import Settings
from tests.factories import make_account, make_contact, make_deal, make_lead, make_user
from tests.mailing.conftest import DROP, World, read_all, said_in, send_all
from tests.mailing.dovecot import Mailbox

CUSTOMER = "wang.fang@fangda.example"


@pytest.fixture
def lead(store: Store) -> int:
    """A lead of Ana's, who agreed to be written to."""
    with store.transaction() as transaction:
        ana = make_user(transaction, email="ana@ours.example")
        return make_lead(transaction, email=CUSTOMER, owner_id=ana.id, consent="granted").id


def queue(store: Store, lead: int, **given: Any) -> int:
    with store.transaction() as transaction:
        ana = transaction.session.scalars(select(User).where(User.email == "ana@ours.example")).one()
        content = {
            "to": CUSTOMER,
            "subject": "Twenty pumps",
            "text": "Dear Fang,\n\nhere is the offer.",
            **given,
        }
        return queue_mail(transaction, about=("lead", lead), sender=ana, **content).message_id


def rows(store: Store, model: Any) -> list[Any]:
    with store.reading() as session:
        return list(session.scalars(select(model).order_by(model.id)))


def test_a_mail_goes_out_is_answered_and_the_answer_stands_on_the_record(
    store: Store, lead: int, world: World, mailbox: Mailbox, sending: JobRunner, reading: MailboxReader
) -> None:
    queue(store, lead)
    send_all(sending)
    (mail,) = world.sent
    assert (mail["From"], mail["To"]) == (f"Ana <{DROP}>", CUSTOMER)
    assert mail["Reply-To"] == f"ana@ours.example, {DROP}"
    assert "List-Unsubscribe" not in mail
    assert "Auto-Submitted" not in mail
    world.send(world.reply("We take them."), DROP)
    read_all(reading)
    sent, answer = rows(store, Message)
    assert (sent.state, sent.replied_at is not None) == ("replied", True)
    assert (answer.about_type, answer.about_id, answer.in_reply_to) == ("lead", lead, sent.message_id)
    outbound, inbound = rows(store, Activity)
    assert (inbound.lead_id, inbound.direction, inbound.body) == (lead, "inbound", "We take them.")
    assert "here is the offer" in (answer.text or "")  # the whole is kept, too
    assert outbound.lead_id == lead
    assert mailbox.count() == 1  # nothing is deleted there

    # The answer to the answer goes into the same thread.
    with store.transaction() as transaction:
        known = transaction.session.get_one(Message, answer.id)
        queue_mail(
            transaction,
            to=CUSTOMER,
            subject="Re: Twenty pumps",
            text="Thank you.",
            about=("lead", lead),
            sender=None,
            answers=known,
        )
    send_all(sending)
    assert world.sent[1]["In-Reply-To"] == "<reply-1@customer.example>"
    assert world.sent[1]["References"] == f"{mail['Message-ID']} <reply-1@customer.example>"


def test_the_same_mail_by_imap_as_a_copy_and_as_a_file_is_there_once(
    store: Store,
    lead: int,
    world: World,
    sending: JobRunner,
    reading: MailboxReader,
    settings: Settings,
) -> None:
    queue(store, lead)
    send_all(sending)
    answer = world.reply("We take them.")
    world.send(answer, DROP)
    world.send(answer, DROP)
    read_all(reading)
    assert take_raw(store, settings, bytes(answer), source="upload").outcome == "known"
    assert (
        take_raw(store, settings, bytes(world.sent[0]), source="upload").outcome == "known"
    )  # our own, back
    assert len(rows(store, Activity)) == 2


def test_a_server_that_numbers_anew_is_read_again_and_nothing_doubled(
    store: Store, lead: int, world: World, sending: JobRunner, reading: MailboxReader
) -> None:
    queue(store, lead)
    send_all(sending)
    world.send(world.reply("We take them."), DROP)
    read_all(reading)
    with store.transaction() as transaction:
        box = transaction.session.scalars(select(Kept)).one()
        assert (box.last_uid, box.problem) == (1, None)
        box.uid_validity -= 1
    assert reading.run_once() == 1
    assert reading.run_once() == 0
    assert len(rows(store, Activity)) == 2


def test_what_is_refused_at_once_bounces_and_marks_the_address(
    store: Store, lead: int, world: World, sending: JobRunner
) -> None:
    world.nobody.add(CUSTOMER)
    queue(store, lead)
    send_all(sending)
    (sent,) = rows(store, Message)
    assert sent.state == "bounced"
    assert "5.1.1" in sent.problem
    with store.reading() as session:
        assert session.get(DeadAddress, CUSTOMER) is not None


def report(mail: EmailMessage, *, action: str = "failed", status: str = "5.1.1") -> bytes:
    """What a mail server sends back (RFC 3464)."""
    return (
        f"From: Mail Delivery System <MAILER-DAEMON@relay.example>\r\nTo: {DROP}\r\n"
        "Subject: Undelivered Mail Returned to Sender\r\nMessage-ID: <dsn-1@relay.example>\r\n"
        "Auto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\n"
        'Content-Type: multipart/report; report-type=delivery-status; boundary="b"\r\n\r\n'
        "--b\r\nContent-Type: text/plain\r\n\r\nIt could not be delivered.\r\n"
        "--b\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; relay.example\r\n\r\n"
        f"Final-Recipient: rfc822; {mail['To']}\r\nAction: {action}\r\nStatus: {status}\r\n"
        "Diagnostic-Code: smtp; 550 5.1.1 User unknown\r\n\r\n"
        f"--b\r\nContent-Type: text/rfc822-headers\r\n\r\nMessage-ID: {mail['Message-ID']}\r\n"
        f"Subject: {mail['Subject']}\r\n\r\n--b--\r\n"
    ).encode()


def test_a_bounce_that_comes_later_is_told_by_our_id(
    store: Store, lead: int, world: World, mailbox: Mailbox, sending: JobRunner, reading: MailboxReader
) -> None:
    queue(store, lead)
    send_all(sending)
    mailbox.deliver(report(world.sent[0], action="delayed", status="4.4.1").replace(b"dsn-1", b"dsn-0"))
    read_all(reading)
    assert rows(store, Message)[0].state == "sent"
    mailbox.deliver(report(world.sent[0]))
    read_all(reading)
    sent = rows(store, Message)[0]
    assert (sent.state, sent.problem) == ("bounced", "550 5.1.1 User unknown 5.1.1")
    with store.reading() as session:
        assert session.get(DeadAddress, CUSTOMER) is not None
    assert [
        each.direction for each in rows(store, Activity) if each.body == "It could not be delivered."
    ] == []


def test_a_reply_in_somebodys_absence_is_no_answer(
    store: Store, lead: int, world: World, sending: JobRunner, reading: MailboxReader
) -> None:
    queue(store, lead)
    send_all(sending)
    world.send(world.reply("I am away until Monday.", Auto_Submitted="auto-replied"), DROP)
    read_all(reading)
    assert rows(store, Message)[0].state == "sent"
    assert rows(store, Activity)[1].outcome == "auto_reply"


def test_marketing_offers_a_way_out_that_mail_programs_know(
    store: Store, lead: int, world: World, sending: JobRunner, reading: MailboxReader
) -> None:
    queue(store, lead, kind="marketing", html="<p>Dear Fang</p>")
    send_all(sending)
    (mail,) = world.sent
    token = rows(store, Message)[0].leave_token
    link = f"https://crm.ours.example/unsubscribe/{token}"
    assert mail["List-Unsubscribe"] == f"<{link}>, <mailto:{DROP}?subject=unsubscribe%20{token}>"
    assert mail["Precedence"] == "bulk"
    assert mail["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert link in said_in(mail)
    assert f'href="{link}"' in said_in(mail, "html")

    leaving = EmailMessage()
    leaving["From"], leaving["To"], leaving["Subject"] = CUSTOMER, DROP, f"unsubscribe {token}"
    leaving["Message-ID"] = "<leave@customer.example>"
    leaving.set_content("")
    world.send(leaving, DROP)
    read_all(reading)
    with store.reading() as session:
        held = session.get_one(Lead, lead)
        assert (held.consent, held.consent_at) == ("withdrawn", store.clock.now())
    # What was queued before they left is not sent any more.


def test_marketing_that_was_queued_before_somebody_left_is_not_sent(
    store: Store, lead: int, world: World, sending: JobRunner
) -> None:
    queue(store, lead, kind="marketing")
    with store.transaction() as transaction:
        transaction.update(transaction.get(Lead, lead), {"consent": "withdrawn"})
    send_all(sending)
    assert world.sent == []
    assert rows(store, Message)[0].state == "failed"


def test_a_colleagues_copy_is_an_outbound_mail_on_the_deal_it_is_about(
    store: Store, world: World, reading: MailboxReader, home: Path
) -> None:
    with store.transaction() as transaction:
        ana = make_user(transaction, email="ana@ours.example")
        account = make_account(transaction, owner_id=ana.id)
        contact = make_contact(transaction, email=CUSTOMER, account_id=account.id, owner_id=ana.id)
        deal = make_deal(transaction, contact_id=contact.id, account_id=account.id, owner_id=ana.id).id
    copy = EmailMessage()
    copy["From"], copy["To"] = "Ana <ana@ours.example>", f"Wang Fang <{CUSTOMER}>"
    copy["Subject"], copy["Message-ID"] = "合同", "<copy@ours.example>"
    copy.set_content("请查收附件。")
    copy.add_attachment(b"%PDF-1.4 contract", maintype="application", subtype="pdf", filename="合同.pdf")
    world.send(copy, DROP, CUSTOMER)
    read_all(reading)
    (activity,) = rows(store, Activity)
    assert (activity.deal_id, activity.direction, activity.subject) == (deal, "outbound", "合同")
    (file,) = rows(store, Attachment)
    assert (file.subject_type, file.subject_id, file.name, file.media_type) == (
        *("deal", deal, "合同.pdf"),
        "application/pdf",
    )
    assert list((home / "files").glob("??/*"))


def test_a_stranger_waits_in_the_tray(store: Store, world: World, reading: MailboxReader) -> None:
    stranger = EmailMessage()
    stranger["From"], stranger["To"], stranger["Subject"] = (
        "Tom <tom@hill.example>",
        DROP,
        "Do you sell pumps?",
    )
    stranger.set_content("We need twenty.")
    world.send(stranger, DROP)
    read_all(reading)
    (item,) = rows(store, IntakeItem)
    assert (item.who, item.title, item.said["text"], item.candidates) == (
        *("tom@hill.example", "Do you sell pumps?", "We need twenty."),
        [],
    )


def test_a_mail_that_nothing_can_read_does_not_hold_up_the_next(
    store: Store, lead: int, mailbox: Mailbox, reading: MailboxReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    from serving import mailbox as reader

    real = reader.take_one

    def broken(transaction: Any, settings: Settings, mail: Any, **given: Any) -> Any:
        if mail.subject == "bad":
            raise RuntimeError("a mistake of ours")
        return real(transaction, settings, mail, **given)

    monkeypatch.setattr(reader, "take_one", broken)
    mailbox.deliver(b"From: x@y.example\r\nSubject: bad\r\n\r\nx\r\n")
    mailbox.deliver(f"From: {CUSTOMER}\r\nSubject: good\r\n\r\nx\r\n".encode())
    read_all(reading)
    (item,) = rows(store, IntakeItem)
    assert item.said["unread"]
    assert [each.subject for each in rows(store, Activity)] == ["good"]
