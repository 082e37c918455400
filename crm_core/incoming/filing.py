"""Writing down what came in: once, on the records that it is about, or into the tray."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from crm_core.access import Reader, Scope
from crm_core.activities import log_activity
from crm_core.addresses import mail_key
from crm_core.bounces import is_dead
from crm_core.errors import InvalidValueError, UnknownRecordTypeError
from crm_core.external_ids import hold_keys
from crm_core.incoming.events import activity_of_item
from crm_core.incoming.matching import About, Match, match_for, match_mail
from crm_core.incoming.parsing import Bounce, Parsed, Part
from crm_core.incoming.tray import (
    Entry,
    IntakeItem,
    ItemKind,
    ItemState,
    hold_open,
    put_in_tray,
    settle,
)
from crm_core.messages import Message, MessageKind, MessageState, people_with
from crm_core.notifications import Occasion, notify
from crm_core.outgoing import forget_dead, mark_bounced, mark_dead, put_on, withdraw_consent
from crm_core.records import (
    RECORD_TYPES,
    Account,
    Activity,
    ActivityKind,
    Attachment,
    Contact,
    Direction,
    Lead,
    Ticket,
    User,
)
from crm_core.sequences import stop_runs_of
from crm_core.service_desk import find_queue
from crm_core.store import Transaction
from crm_core.ticket_clocks import AUTO_REPLY
from crm_core.tickets import open_ticket

_EARLIEST: Final = datetime(1990, 1, 1, tzinfo=UTC)

Keep = Callable[[Transaction, Part], Attachment | None]
"""Keeps a file, and returns what names it; None where it is too large."""


class Outcome(StrEnum):
    """What became of a mail that came in."""

    FILED = "filed"
    TRAY = "tray"
    BOUNCE = "bounce"
    UNSUBSCRIBED = "unsubscribed"
    KNOWN = "known"


@dataclass(frozen=True, kw_only=True)
class Taken:
    """What became of a mail, and what it is about."""

    outcome: Outcome
    message_id: int | None = None
    activity_id: int | None = None
    item_id: int | None = None
    about: About | None = None


@dataclass(frozen=True, kw_only=True)
class Desk:
    """The address that customers write to for help, and the queue of the tickets that this opens."""

    address: str
    queue: str | None = None


def take_mail(
    transaction: Transaction,
    mail: Parsed,
    *,
    source: str,
    ours: Collection[str] = (),
    desk: Desk | None = None,
    keep: Keep | None = None,
    by: User | None = None,
) -> Taken:
    """Write down a mail that came in, unless it is here already.

    `ours` are the addresses of the mailboxes that are read here, `keep` keeps the files in it. What customers
    write to the `desk` opens a ticket. What somebody brings `by` hand changes nothing that they may not, and
    waits in the tray instead.
    """
    session = transaction.session
    hold_keys(session, [f"mail:{mail.message_id}"])
    transaction.index.flush()
    if (known := _known(transaction, mail, by)) is not None:
        return known
    if mail.bounce is not None:
        return _take_bounce(transaction, mail, source, by)
    if mail.leave_token is not None and (left := _take_leave(transaction, mail, source)) is not None:
        return left
    match = match_for(session, by, lambda may: match_mail(session, mail, ours=ours, may=may))
    if desk is not None and (ticket := _for_help(transaction, mail, match, desk, by)) is not None:
        match = replace(match, about=("ticket", ticket.id))
    message = _write_message(transaction, mail, match, source)
    if match.about is None:
        item = put_in_tray(transaction, _entry(mail, match, message))
        return Taken(outcome=Outcome.TRAY, message_id=message.id, item_id=item.id)
    activity = _file(transaction, mail, match, message, match.about)
    if keep is not None and (by is None or Reader(session, by).right("attachment").write is not Scope.NONE):
        _attach(transaction, mail.attachments, match.about, keep)
    _follow_up(transaction, mail, match, by)
    return _filed(message, activity, match.about)


def _for_help(
    transaction: Transaction, mail: Parsed, match: Match, desk: Desk, by: User | None
) -> Ticket | None:
    """Open a ticket for a contact who asks the service desk something new; None for whatever else."""
    is_new = match.answered is None and (match.about is None or match.about[0] != "ticket")
    asks = mail_key(desk.address) in {mail_key(each) for each in mail.to}
    if not (is_new and asks) or match.is_outbound or mail.is_automatic or not match.others:
        return None
    people = [each for each in people_with(transaction.session, match.others[0]) if isinstance(each, Contact)]
    if len(people) != 1 or people[0].account_id is None:
        return None
    if by is not None and not _may_open_ticket(Reader(transaction.session, by), people[0]):
        return None
    queue = find_queue(transaction.session, desk.queue)
    ticket = Ticket(
        account_id=people[0].account_id,
        contact_id=people[0].id,
        subject=(" ".join(mail.subject.split()) or mail.shown.strip() or "?")[:300],
        description=mail.shown or None,
        queue=queue.key if queue is not None and not queue.retired else None,
        occurred_at=_sent_at(transaction, mail),
    )
    return open_ticket(transaction, ticket)


def _may_open_ticket(reader: Reader, contact: Contact) -> bool:
    account = reader.session.get(Account, contact.account_id)
    may = reader.right(Ticket.record_type).write is not Scope.NONE
    return may and account is not None and reader.may_change(contact) and reader.may_change(account)


def _known(transaction: Transaction, mail: Parsed, by: User | None) -> Taken | None:
    query = select(Message).where(Message.message_id == mail.message_id)
    found = transaction.session.scalars(query).one_or_none()
    if found is None:
        return None
    if by is not None and not _may_change_about(transaction.session, by, found):
        return Taken(outcome=Outcome.TRAY)  # that it is here already is not theirs to know
    return Taken(outcome=Outcome.KNOWN, message_id=found.id, activity_id=found.activity_id)


def _filed(message: Message, activity: Activity, about: About) -> Taken:
    return Taken(outcome=Outcome.FILED, message_id=message.id, activity_id=activity.id, about=about)


def _may_change_about(session: Session, by: User, message: Message) -> bool:
    """Say whether somebody may change what a mail is about."""
    model = RECORD_TYPES.get(message.about_type or "")
    record = session.get(model, message.about_id) if model is not None else None
    return record is not None and Reader(session, by).may_change(record)


def _theirs(session: Session, addresses: Iterable[str], by: User | None) -> list[str]:
    """Return those of some addresses for which somebody may speak: all who have them are theirs to change."""
    if by is None:
        return list(addresses)
    reader = Reader(session, by)
    people = {each: people_with(session, each) for each in addresses}
    return [each for each, found in people.items() if found and all(map(reader.may_change, found))]


def _write_message(transaction: Transaction, mail: Parsed, match: Match | None, source: str) -> Message:
    outbound = match is not None and match.is_outbound
    message = Message(
        message_id=mail.message_id,
        direction=Direction.OUTBOUND if outbound else Direction.INBOUND,
        kind=MessageKind.DIRECT,
        state=MessageState.SENT if outbound else MessageState.RECEIVED,
        from_address=mail.from_address,
        to_addresses=list(mail.to),
        subject=mail.subject or None,
        text=mail.text or None,
        in_reply_to=mail.answers[-1] if mail.answers else None,
        references=list(mail.answers) or None,
        sender_id=match.colleague.id if match is not None and match.colleague is not None else None,
        source=source,
        recorded_at=transaction.now,
        sent_at=_sent_at(transaction, mail) if outbound else None,
    )
    if match is not None and match.about is None:
        message.state = MessageState.TRAY
    transaction.session.add(message)
    transaction.session.flush()
    return message


def _file(transaction: Transaction, mail: Parsed, match: Match, message: Message, about: About) -> Activity:
    owner = match.colleague.id if match.colleague is not None else _owner_of(transaction, about)
    activity = Activity(
        kind=ActivityKind.MAIL,
        direction=message.direction,
        subject=mail.subject or None,
        body=mail.shown or None,
        outcome=AUTO_REPLY if mail.is_automatic and not match.is_outbound else None,
        owner_id=owner,
        occurred_at=_sent_at(transaction, mail),
    )
    log_activity(transaction, put_on(transaction.session, activity, about))
    message.about_type, message.about_id = about
    message.activity_id = activity.id
    if message.state == MessageState.TRAY:
        message.state = MessageState.SENT if match.is_outbound else MessageState.RECEIVED
    transaction.session.flush()
    return activity


def _sent_at(transaction: Transaction, mail: Parsed) -> datetime:
    """Return when a mail was sent, as it says, unless that cannot be."""
    said = mail.sent_at
    return said if said is not None and _EARLIEST <= said <= transaction.now else transaction.now


def _owner_of(transaction: Transaction, about: About) -> int | None:
    record = transaction.session.get(RECORD_TYPES[about[0]], about[1])
    return getattr(record, "owner_id", None)


def _follow_up(transaction: Transaction, mail: Parsed, match: Match, by: User | None) -> None:
    """Note what a mail from outside means: an answer, the end of a sequence, a word to the owner."""
    if match.is_outbound or match.about is None:
        return
    if not mail.is_automatic:
        if match.answered is not None:
            _mark_answered(transaction, match.answered)
        theirs = _theirs(transaction.session, match.others, by)
        for address in theirs:  # who writes from it reads it, too
            forget_dead(transaction.session, address)
        stop_runs_of(transaction, theirs, "replied")
    owner = _owner_of(transaction, match.about)
    if owner is not None and not mail.is_automatic:
        notify(transaction, [owner], kind=Occasion.MAIL, about=match.about)


def _mark_answered(transaction: Transaction, answered: Message) -> None:
    if answered.direction == Direction.OUTBOUND and answered.replied_at is None:
        answered.replied_at = transaction.now
        if answered.state in {MessageState.SENT, MessageState.QUEUED}:
            answered.state = MessageState.REPLIED
        transaction.session.flush()


def _attach(transaction: Transaction, parts: Sequence[Part], about: About, keep: Keep) -> None:
    if about[0] not in {"lead", "deal", "account", "contact", "ticket"}:
        return
    for part in parts:
        kept = keep(transaction, part)
        if kept is not None:
            kept.subject_type, kept.subject_id = about
            transaction.create(kept)


# ---------------------------------------------------------------------------------------- bounces and leaving


def _take_bounce(transaction: Transaction, mail: Parsed, source: str, by: User | None) -> Taken:
    """Note that a mail of ours came back; one that is not ours is only kept as a row."""
    bounce = mail.bounce
    assert bounce is not None  # noqa: S101  asked by the caller
    session = transaction.session
    row = _write_message(transaction, mail, None, source)
    query = select(Message).where(
        Message.message_id.in_(bounce.message_ids), Message.direction == Direction.OUTBOUND
    )
    query = query.order_by(Message.id)  # of two at once neither waits for the other
    found = session.scalars(query.with_for_update()).all() if bounce.message_ids else []
    found = [each for each in found if by is None or _may_change_about(session, by, each)]
    for message in found:
        if mark_bounced(transaction, message, bounce.said, dead=False):
            _after_bounce(transaction, message, bounce, by)
    about = found[0] if found else None
    row.about_type, row.about_id = (about.about_type, about.about_id) if about is not None else (None, None)
    session.flush()
    return Taken(outcome=Outcome.BOUNCE, message_id=row.id)


def _after_bounce(transaction: Transaction, message: Message, bounce: Bounce, by: User | None) -> None:
    """Mark the address that failed, if the mail went to it, and stop writing to it by sequences."""
    sent_to = {key for each in message.to_addresses if (key := mail_key(each)) is not None}
    one = {each for each in sent_to if each == bounce.recipient}
    failed = _theirs(transaction.session, one or sent_to, by)
    if is_dead(bounce.said):
        for address in failed:
            mark_dead(transaction.session, address, bounce.said, transaction.now)
    stop_runs_of(transaction, failed, "bounced")
    about = (message.about_type, message.about_id)
    if message.sender_id is not None and about[0] is not None and about[1] is not None:
        notify(
            transaction, [message.sender_id], kind=Occasion.MAIL, text="bounced", about=(about[0], about[1])
        )


def _take_leave(transaction: Transaction, mail: Parsed, source: str) -> Taken | None:
    """Unsubscribe whoever asks for it by a mail with the token that they were sent."""
    message = unsubscribe(transaction, mail.leave_token or "")
    if message is None:
        return None
    row = _write_message(transaction, mail, None, source)
    return Taken(outcome=Outcome.UNSUBSCRIBED, message_id=row.id)


def unsubscribe(transaction: Transaction, token: str) -> Message | None:
    """Note that the receiver of a mail wants no more; None for a token that is none."""
    query = select(Message).where(Message.leave_token == token)
    message = transaction.session.scalars(query.with_for_update()).one_or_none() if token else None
    if message is None:
        return None
    message.unsubscribed_at = message.unsubscribed_at or transaction.now
    about = (message.about_type, message.about_id)
    for address in message.to_addresses:
        person = (about[0], about[1]) if about[0] is not None and about[1] is not None else None
        withdraw_consent(transaction, address, person)
    stop_runs_of(transaction, message.to_addresses, "unsubscribed")
    transaction.session.flush()
    return message


# ------------------------------------------------------------------------------------------------ the tray


def _entry(mail: Parsed, match: Match, message: Message) -> Entry:
    said = {
        "text": mail.shown,
        "from_name": mail.from_name,
        "is_automatic": mail.is_automatic,
        "direction": message.direction,
        "files": [part.name for part in mail.attachments],
    }
    return Entry(
        kind=ItemKind.MAIL,
        key=mail.message_id,
        who=match.others[0] if match.others else mail.from_address,
        title=mail.subject,
        said=said,
        happened_at=message.sent_at or mail.sent_at or message.recorded_at,
        candidates=match.candidates,
        message_id=message.id,
    )


def assign_item(transaction: Transaction, user: User, item_id: int, about: About) -> Activity:
    """Put something from the tray on a record that the user may write on."""
    item = hold_open(transaction, user, item_id)
    model = RECORD_TYPES.get(about[0])
    if model is None or about[0] not in {"lead", "contact", "deal", "account", "ticket"}:
        raise UnknownRecordTypeError(about[0])
    reader = Reader(transaction.session, user)
    reader.check_may_create(Activity)
    reader.get_to_write(model, about[1])
    activity = _activity_of(transaction, item, about, user)
    settle(transaction, item, user, ItemState.ASSIGNED, activity.id)
    return activity


def drop_item(transaction: Transaction, user: User, item_id: int) -> None:
    """Drop something from the tray; it stays as a row, so that it does not come again."""
    item = hold_open(transaction, user, item_id)
    if item.message_id is not None:
        message = transaction.session.get_one(Message, item.message_id)
        message.state = MessageState.DROPPED
    settle(transaction, item, user, ItemState.DROPPED, None)


def lead_from_item(transaction: Transaction, user: User, item_id: int) -> Lead:
    """Make a lead of whoever wrote or called, and put what they said on it."""
    item = hold_open(transaction, user, item_id)
    Reader(transaction.session, user).check_may_create(Lead)
    who, name = item.who or "", str(item.said.get("from_name") or "")[:200]
    lead = Lead(
        name=name or None,
        email=who if "@" in who else None,
        phone=who[:64] if who and "@" not in who else None,
        source=f"intake_{item.kind}",
        owner_id=user.id,
    )
    if not name:
        lead.company = (item.title or who or "?")[:300]
    transaction.create(lead)
    activity = _activity_of(transaction, item, ("lead", lead.id), user)
    settle(transaction, item, user, ItemState.ASSIGNED, activity.id)
    return lead


def ticket_from_item(
    transaction: Transaction, user: User, item_id: int, *, account_id: int | None, contact_id: int | None
) -> Ticket:
    """Make a ticket of what came in, for a customer or a contact of theirs."""
    item = hold_open(transaction, user, item_id)
    reader = Reader(transaction.session, user)
    reader.check_may_create(Ticket)
    contact = reader.get(Contact, contact_id) if contact_id is not None else None
    account = contact.account_id if contact is not None and account_id is None else account_id
    if account is None:
        raise InvalidValueError("account_id", None, "a customer, or a contact who is of one")
    reader.get_to_write(RECORD_TYPES["account"], account)
    ticket = open_ticket(
        transaction,
        Ticket(
            account_id=account,
            contact_id=contact_id,
            subject=(item.title or item.who or "?")[:300],
            owner_id=user.id,
        ),
    )
    activity = _activity_of(transaction, item, ("ticket", ticket.id), user)
    settle(transaction, item, user, ItemState.ASSIGNED, activity.id)
    return ticket


def _activity_of(transaction: Transaction, item: IntakeItem, about: About, user: User) -> Activity:
    activity = activity_of_item(item)
    activity.occurred_at = min(item.happened_at, transaction.now)
    activity.owner_id = _owner_of(transaction, about) or user.id
    log_activity(transaction, put_on(transaction.session, activity, about))
    if item.message_id is not None:
        message = transaction.session.get_one(Message, item.message_id)
        message.about_type, message.about_id = about
        message.activity_id = activity.id
        outbound = message.direction == Direction.OUTBOUND
        message.state = MessageState.SENT if outbound else MessageState.RECEIVED
    transaction.session.flush()
    return activity
