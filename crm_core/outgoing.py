"""Mails that go out: written down on the record that they are about, and queued, in one transaction.

`queue_mail` writes the activity, the row of the mail and the job that sends it: all of them are there, or
none. Who is written to must have agreed where the mail is marketing; a mail from one person to another about
their business needs no consent, and what is queued says so where there is none.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from crm_core.activities import log_activity
from crm_core.addresses import mail_key
from crm_core.columns import check_text
from crm_core.errors import InvalidValueError, NotWrittenToError
from crm_core.jobs import enqueue
from crm_core.messages import (
    MARKETING_KINDS,
    MOST_REFERENCES,
    DeadAddress,
    Message,
    MessageKind,
    MessageState,
    consents_with,
    find_dead,
    new_message_id,
    people_with,
)
from crm_core.records import (
    RECORD_TYPES,
    Activity,
    ActivityKind,
    Consent,
    Contact,
    Direction,
    Lead,
    Record,
    User,
)
from crm_core.store import Transaction
from crm_core.validation import columns_of

MAIL: Final = "mail"
"""The kind of the jobs that send mails."""

LONGEST_SUBJECT: Final = 500
LONGEST_ACTIVITY_SUBJECT: Final = 300
LONGEST_BODY: Final = 200_000
LONGEST_FILE_NAME: Final = 150

_ADDRESS = re.compile(r"[^\s@<>()\[\]\\,;:\"\x00-\x20\x7f]+@[^\s@<>()\[\]\\,;:\"\x00-\x20\x7f]+")
_LINKS: Final = ("lead", "deal", "account", "contact")
"""What an activity links to by columns of its own."""


class Agreement(StrEnum):
    """What somebody said to being written to."""

    GRANTED = "granted"
    WITHDRAWN = "withdrawn"
    NEVER_ASKED = "never_asked"


@dataclass(frozen=True, kw_only=True)
class Queued:
    """A mail that is to be sent; `agreement` tells whether its receiver agreed to be written to.

    `fresh` is false where the same cause had queued it before.
    """

    message_id: int
    activity_id: int | None
    agreement: Agreement
    fresh: bool = True


@dataclass(frozen=True, kw_only=True)
class Attached:
    """A file of text that goes along with a mail: `subtype` is what stands behind `text/`."""

    name: str
    subtype: str
    text: str


# -------------------------------------------------------------------------------------------- plain mails


def enqueue_mail(  # noqa: PLR0913  a mail has as many sides
    session: Session,
    *,
    to: str,
    subject: str,
    text: str,
    html: str | None,
    key: str | None,
    now: datetime,
    run_at: datetime | None = None,
    headers: dict[str, Any] | None = None,
) -> int | None:
    """Add a mail to one address in the session's transaction; return its job, or None if `key` is taken.

    `headers` is what `queue_mail` says of it besides. Raises InvalidValueError for an address or subject that
    could smuggle in headers or recipients.
    """
    _check_mail(to, subject, text, html)
    payload = {"to": to, "subject": subject, "text": text, "html": html, **(headers or {})}
    return enqueue(session, MAIL, payload, now=now, key=key, run_at=run_at)


def _check_mail(to: str, subject: str, text: str, html: str | None) -> None:
    _check_header("subject", subject, longest=LONGEST_SUBJECT)
    check_address(to)
    for field, body in (("text", text), ("html", html or "")):
        check_text(field, body, longest=LONGEST_BODY)


def check_address(to: str) -> None:
    """Raise InvalidValueError for what is not exactly one mail address."""
    _check_header("to", to, longest=320)
    if not _ADDRESS.fullmatch(to):
        raise InvalidValueError("to", to, "one mail address")


def _check_header(field: str, value: str, *, longest: int) -> None:
    check_text(field, value, longest=longest)
    if any(not character.isprintable() for character in value):
        raise InvalidValueError(field, value, "one line of printable characters")


# ---------------------------------------------------------------------------------------- mails on records


def queue_mail(  # noqa: PLR0913  a mail has as many sides
    transaction: Transaction,
    *,
    to: str,
    subject: str,
    text: str,
    html: str | None = None,
    about: tuple[str, int],
    sender: User | None,
    kind: MessageKind | str = MessageKind.DIRECT,
    template_id: int | None = None,
    answers: Message | None = None,
    language: str = "en",
    key: str | None = None,
    run_at: datetime | None = None,
    run_id: int | None = None,
    step: int | None = None,
    attachments: Sequence[Attached] = (),
) -> Queued:
    """Queue a mail about a record, and write it down there; `sender` is the colleague it comes from.

    `key` names its cause: with the same one it is queued once, whoever asks again. `answers` is the mail that
    it replies to. Whether the sender may write on the record is for the caller to ask.

    Raises
    ------
    NotWrittenToError
        For marketing to somebody who did not agree or took it back, or whom mails do not reach.
    InvalidValueError
        For what is no mail address, or could smuggle in headers.
    """
    session, kind = transaction.session, MessageKind(kind)
    for file in attachments:
        _check_header("attachment", file.name, longest=LONGEST_FILE_NAME)
        check_text("attachment", file.text, longest=LONGEST_BODY)
    _check_mail(to, subject, text, html)  # before anything is written: who goes on must leave no half mail
    if key is not None and (known := _known(session, key)) is not None:
        return _queued(session, known, about, fresh=False)
    transaction.index.flush()  # who was written in this transaction may have the address
    if kind in MARKETING_KINDS:
        check_may_market(session, to, about)
    message = Message(
        message_id=new_message_id(),
        key=key,
        direction=Direction.OUTBOUND,
        kind=kind,
        state=MessageState.QUEUED,
        from_address=sender.email if sender is not None else None,
        to_addresses=[to],
        subject=subject[:LONGEST_ACTIVITY_SUBJECT],
        in_reply_to=answers.message_id if answers is not None else None,
        references=_thread(answers),
        about_type=about[0],
        about_id=about[1],
        activity_id=_log(transaction, about, subject, text, sender).id,
        sender_id=sender.id if sender is not None else None,
        template_id=template_id,
        run_id=run_id,
        step=step,
        leave_token=secrets.token_urlsafe(32) if kind in MARKETING_KINDS else None,
        source="crm",
        recorded_at=transaction.now,
    )
    session.add(message)
    session.flush()
    headers = _headers(message, about, sender, language)
    if attachments:
        headers["attachments"] = [vars(file) for file in attachments]
    enqueue_mail(
        session,
        to=to,
        subject=subject,
        text=text,
        html=html,
        key=f"mail:{message.message_id}",
        now=transaction.now,
        run_at=run_at,
        headers=headers,
    )
    return _queued(session, message, about, fresh=True)


def _known(session: Session, key: str) -> Message | None:
    check_text("key", key, longest=120)
    return session.scalars(select(Message).where(Message.key == key)).one_or_none()


def _queued(session: Session, message: Message, about: tuple[str, int], *, fresh: bool) -> Queued:
    said = agreement_of(session, message.to_addresses[0], about)
    return Queued(message_id=message.id, activity_id=message.activity_id, agreement=said, fresh=fresh)


def _thread(answers: Message | None) -> list[str] | None:
    if answers is None:
        return None
    return [*(answers.references or []), answers.message_id][-MOST_REFERENCES:]


def _headers(message: Message, about: tuple[str, int], sender: User | None, language: str) -> dict[str, Any]:
    """Return what the mailer needs besides the texts; `record` is what erasing a person looks for."""
    return {
        "record": list(about),
        "mail": {
            "id": message.id,
            "message_id": message.message_id,
            "references": message.references or [],
            "in_reply_to": message.in_reply_to,
            "name": sender.name if sender is not None else None,
            "address": sender.email if sender is not None else None,
            "leave_token": message.leave_token,
            "language": language,
        },
    }


def _log(
    transaction: Transaction, about: tuple[str, int], subject: str, text: str, sender: User | None
) -> Activity:
    activity = Activity(
        kind=ActivityKind.MAIL,
        direction=Direction.OUTBOUND,
        subject=subject[:LONGEST_ACTIVITY_SUBJECT],
        body=text,
        owner_id=sender.id if sender is not None else None,
    )
    return log_activity(transaction, put_on(transaction.session, activity, about))


def put_on(session: Session, activity: Activity, about: tuple[str, int]) -> Activity:
    """Have an activity be about a record, and about the customer that the record is of."""
    record_type, record_id = about
    if record_type in _LINKS:
        setattr(activity, f"{record_type}_id", record_id)
        return activity
    activity.subject_type, activity.subject_id = record_type, record_id
    model = RECORD_TYPES.get(record_type)
    record = session.get(model, record_id) if model is not None else None
    if record is not None:
        links = [f"{link}_id" for link in _LINKS if f"{link}_id" in columns_of(type(record))]
        for link in links:
            setattr(activity, link, getattr(record, link))
    return activity


# -------------------------------------------------------------------------------------------------- consent


def agreement_of(session: Session, address: str, about: tuple[str, int] | None = None) -> Agreement:
    """Return what whoever has an address said to being written to; what one takes back holds for all."""
    said = consents_with(session, address)
    own = _person_of(session, about) if about is not None else None
    if own is not None and mail_key(own.email) == mail_key(address):
        said.add(own.consent)
    if Consent.WITHDRAWN in said:
        return Agreement.WITHDRAWN
    return Agreement.GRANTED if Consent.GRANTED in said else Agreement.NEVER_ASKED


def check_may_market(session: Session, address: str, about: tuple[str, int] | None = None) -> None:
    """Raise NotWrittenToError unless somebody agreed to be written to, and mails reach them."""
    said = agreement_of(session, address, about)
    if said is Agreement.WITHDRAWN:
        raise NotWrittenToError(address, "they took their consent back")
    if said is Agreement.NEVER_ASKED:
        raise NotWrittenToError(address, "they never agreed to be written to")
    if find_dead(session, address) is not None:
        raise NotWrittenToError(address, "mails to this address come back")


def _people(session: Session, address: str, about: tuple[str, int] | None) -> list[Lead | Contact]:
    found = people_with(session, address)
    own = _person_of(session, about) if about is not None else None
    if own is not None and own not in found and mail_key(own.email) == mail_key(address):
        found.append(own)
    return found


def _person_of(session: Session, about: tuple[str, int]) -> Lead | Contact | None:
    """Return the person whom a record stands for, or is of."""
    record_type, record_id = about
    model = RECORD_TYPES.get(record_type)
    record: Record | None = session.get(model, record_id) if model is not None else None
    if isinstance(record, Lead | Contact):
        return record
    contact_id = getattr(record, "contact_id", None)
    return None if contact_id is None else session.get(Contact, contact_id)


def withdraw_consent(transaction: Transaction, address: str, about: tuple[str, int] | None = None) -> int:
    """Note that nobody with an address is to be written to; return how many had not said so yet."""
    transaction.index.flush()
    people = [
        each for each in _people(transaction.session, address, about) if each.consent != Consent.WITHDRAWN
    ]
    for person in people:
        transaction.update(person, {"consent": Consent.WITHDRAWN, "consent_at": transaction.now})
    return len(people)


# ------------------------------------------------------------------------------------- what became of mails


def mark_sent(session: Session, message_id: int, now: datetime) -> None:
    """Note that a mail was handed to the mail server, unless something is known that came after."""
    first = update(Message).where(Message.id == message_id, Message.state == MessageState.QUEUED)
    session.execute(first.values(state=MessageState.SENT, sent_at=now))


def mark_failed(session: Session, message_id: int, problem: str) -> None:
    """Note that a mail will not be sent, and why."""
    session.execute(
        update(Message)
        .where(Message.id == message_id, Message.state == MessageState.QUEUED)
        .values(state=MessageState.FAILED, problem=_short(problem))
    )


def mark_bounced(transaction: Transaction, message: Message, problem: str, *, dead: bool = True) -> bool:
    """Note that a mail came back; `dead` if its address is of no use any more. False if it was known."""
    if message.bounced_at is not None:
        return False
    message.state, message.bounced_at = MessageState.BOUNCED, transaction.now
    message.problem = _short(problem)
    if dead:
        for address in message.to_addresses:
            mark_dead(transaction.session, address, problem, transaction.now)
    transaction.session.flush()
    return True


def mark_dead(session: Session, address: str, problem: str, now: datetime) -> None:
    """Note that mails do not reach an address."""
    key = mail_key(address)
    if key is None:
        return
    insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    values = {"problem": _short(problem), "bounced_at": now}
    made = insert(DeadAddress).values({"address": key[:320], **values})
    session.execute(made.on_conflict_do_update(index_elements=[DeadAddress.address], set_=values))


def forget_dead(session: Session, address: str) -> bool:
    """Write to an address again; tell whether it was marked."""
    found = find_dead(session, address)
    if found is not None:
        session.delete(found)
        session.flush()
    return found is not None


def _short(problem: str) -> str:
    plain = problem.encode("utf-8", "replace").decode().replace("\x00", "")
    return " ".join(plain.split())[:300]
