"""What is done with tickets: opening, assigning, answering, merging, rating, and what customers say of us.

Our mails carry the ticket's number in their subject, `[#123]`, by which an answer finds it. What is about a
merged ticket is about the one that stands for both. A conversation is the ticket's activities; comments are
notes that no customer sees.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from crm_core.access import Reader
from crm_core.activities import log_activity
from crm_core.alerting import managers_of
from crm_core.bulk import Update
from crm_core.columns import check_text
from crm_core.errors import InvalidValueError, MergeError, RecordNotFoundError
from crm_core.links import links_to
from crm_core.mail_templates import as_html
from crm_core.messages import Message, MessageKind
from crm_core.notifications import Occasion, notify
from crm_core.outgoing import queue_mail
from crm_core.phrases import Phrase
from crm_core.records import (
    Activity,
    ActivityKind,
    Direction,
    Feedback,
    Ticket,
    TicketPriority,
    TicketStatus,
    User,
)
from crm_core.service_desk import check_queue, find_queue, list_members, queues_served_by, take_turn
from crm_core.store import Transaction
from crm_core.ticket_clocks import (
    Step,
    TicketClock,
    change_ticket,
    clock_of,
    find_standing,
    plan,
    start_clock,
    steps_of,
)
from crm_core.working_time import list_absent, working_time

_NUMBER: Final = re.compile(r"\[#(\d{1,18})\]", re.ASCII)
_LONGEST_SUBJECT: Final = 300
_LONGEST_COMMENT: Final = 2_000


# ------------------------------------------------------------------------------------------------ opening


def open_ticket(transaction: Transaction, ticket: Ticket) -> Ticket:
    """Write a new ticket, start its clocks and, where its queue says so, give it to who is next.

    Raises InvalidValueError for a queue that there is none of.
    """
    if ticket.queue is not None:
        check_queue(transaction.session, ticket.queue)
    ticket.priority = ticket.priority or TicketPriority.NORMAL
    transaction.create(ticket)
    start_clock(transaction, ticket)
    queue = find_queue(transaction.session, ticket.queue)
    if queue is not None and queue.round_robin and ticket.owner_id is None:
        assign_next(transaction, ticket)
    return ticket


# ------------------------------------------------------------------------------------------------ conversing


def marked(ticket: Ticket, subject: str | None = None) -> str:
    """Return the subject of a mail about a ticket, with the number by which an answer finds it."""
    said = _NUMBER.sub("", subject or ticket.subject)
    return f"[#{ticket.id}] {' '.join(said.split())}"[:_LONGEST_SUBJECT]


def add_mail(
    transaction: Transaction,
    ticket: Ticket,
    *,
    subject: str,
    body: str,
    contact_id: int | None = None,
    occurred_at: datetime | None = None,
    external_id: str | None = None,
) -> Activity:
    """Add a customer's mail to a ticket, which opens it again; its owner is told."""
    ticket = find_standing(transaction.session, ticket.id) or ticket
    mail = Activity(
        **_about(ticket),
        kind=ActivityKind.MAIL,
        direction=Direction.INBOUND,
        subject=" ".join(subject.split())[:_LONGEST_SUBJECT] or None,
        body=body or None,
        external_id=external_id,
        occurred_at=occurred_at,
    )
    mail.contact_id = contact_id or ticket.contact_id
    log_activity(transaction, mail)
    if ticket.owner_id is not None:
        about = (Ticket.record_type, ticket.id)
        notify(transaction, [ticket.owner_id], kind=Occasion.DUE, text="ticket_answered", about=about)
    return mail


def answer_ticket(
    transaction: Transaction,
    user: User,
    ticket: Ticket,
    text: str,
    *,
    status: str | None = None,
    to: str | None = None,
) -> Activity:
    """Add an answer of `user` to the customer, and bring the ticket to a status; it is sent to `to`.

    Whoever serves its queue and answers a ticket that is nobody's has it from then on. Without an address
    the answer is only noted.
    """
    check_text("body", text)
    if not text.strip():
        raise InvalidValueError("body", text, "a text")
    answer = _send(transaction, user, ticket, text, to) if to else _note(transaction, user, ticket, text)
    takes = ticket.owner_id is None and ticket.queue in queues_served_by(transaction.session, user)
    values: dict[str, object] = {"owner_id": user.id} if takes else {}
    if status is not None and status != ticket.status:
        values["status"] = status
    change_ticket(transaction, ticket, values)
    return answer


def _send(transaction: Transaction, user: User, ticket: Ticket, text: str, to: str) -> Activity:
    queued = queue_mail(
        transaction,
        to=to,
        subject=marked(ticket),
        text=text,
        html=as_html(text),
        about=(Ticket.record_type, ticket.id),
        sender=user,
        kind=MessageKind.SERVICE,
        answers=find_last_heard(transaction.session, ticket),
        language=user.language or "en",
    )
    return transaction.session.get_one(Activity, queued.activity_id)


def _note(transaction: Transaction, user: User, ticket: Ticket, text: str) -> Activity:
    answer = Activity(
        **_about(ticket),
        kind=ActivityKind.MAIL,
        direction=Direction.OUTBOUND,
        subject=marked(ticket),
        body=text,
        owner_id=user.id,
    )
    return log_activity(transaction, answer)


def find_last_heard(session: Session, ticket: Ticket) -> Message | None:
    """Return the last mail of the customer on a ticket, which an answer of ours answers."""
    query = select(Message).where(
        Message.about_type == Ticket.record_type,
        Message.about_id == ticket.id,
        Message.direction == Direction.INBOUND,
    )
    return session.scalars(query.order_by(Message.id.desc()).limit(1)).one_or_none()


def take_feedback(
    transaction: Transaction,
    user: User | None,
    account_id: int,
    kind: Feedback,
    text: str,
    *,
    contact_id: int | None = None,
) -> Activity:
    """Note what a customer says of us unasked, on the customer."""
    check_text("body", text)
    if not text.strip():
        raise InvalidValueError("body", text, "a text")
    return log_activity(
        transaction,
        Activity(
            kind=ActivityKind.FEEDBACK,
            direction=Direction.INBOUND,
            outcome=kind.value,
            body=text,
            account_id=account_id,
            contact_id=contact_id,
            owner_id=None if user is None else user.id,
        ),
    )


def _about(ticket: Ticket) -> dict[str, object]:
    return {
        "subject_type": Ticket.record_type,
        "subject_id": ticket.id,
        "account_id": ticket.account_id,
        "contact_id": ticket.contact_id,
    }


# ------------------------------------------------------------------------------------------------ assigning


def assign_ticket(transaction: Transaction, ticket: Ticket, owner_id: int | None) -> None:
    """Give a ticket to somebody, who is told, or to nobody."""
    if owner_id == ticket.owner_id:
        return
    transaction.update(ticket, {"owner_id": owner_id})
    if owner_id is not None:
        about = (Ticket.record_type, ticket.id)
        notify(transaction, [owner_id], kind=Occasion.ASSIGNED, about=about)


def assign_next(transaction: Transaction, ticket: Ticket) -> User | None:
    """Give a ticket to who is next in its queue and is there today; None where nobody is."""
    session = transaction.session
    queue = find_queue(session, ticket.queue)
    if queue is None:
        return None
    today = working_time(session, transaction.zone).local_day(transaction.now)
    chosen = take_turn(session, queue, list_absent(session, today))
    if chosen is not None:
        assign_ticket(transaction, ticket, chosen.id)
    return chosen


# ------------------------------------------------------------------------------------------------ merging


def merge_tickets(transaction: Transaction, keep: Ticket, gone: Ticket) -> Ticket:
    """Move the conversation, notes and files of `gone` to `keep`; `gone` is closed and points there.

    Merging what has been merged already into the same ticket changes nothing. Raises MergeError for tickets
    of two customers: one would read what the other wrote.
    """
    if gone.merged_into_id == keep.id:
        return keep
    _check_mergeable(keep, gone)
    for link in links_to(Ticket):
        ids = transaction.session.scalars(link.pointing_at(Ticket, gone.id)).all()
        moved = [Update(record_id=each, values={link.column: keep.id}) for each in ids]
        transaction.update_many(link.model, moved)
    if gone.first_answered_at is not None and keep.first_answered_at is None:
        transaction.update(keep, {"first_answered_at": max(gone.first_answered_at, keep.occurred_at)})
        plan(transaction, keep, clock_of(transaction, keep))
    change_ticket(transaction, gone, {"status": TicketStatus.CLOSED})
    transaction.update(gone, {"merged_into_id": keep.id})
    plan(transaction, gone, clock_of(transaction, gone))
    return keep


def _check_mergeable(keep: Ticket, gone: Ticket) -> None:
    if keep.id == gone.id:
        raise MergeError(Phrase("ticket {id} cannot be merged with itself", id=keep.id))
    if keep.account_id != gone.account_id:
        raise MergeError(
            Phrase(
                "tickets {keep_id} and {gone_id} are of two customers, expected one",
                keep_id=keep.id,
                gone_id=gone.id,
            )
        )
    for each in (keep, gone):
        if each.deleted_at is not None or each.merged_into_id is not None:
            raise MergeError(
                Phrase("ticket {id} is deleted or merged already, expected two that are neither", id=each.id)
            )


# ------------------------------------------------------------------------------------------------ rating


def rate_ticket(transaction: Transaction, ticket_id: int, mark: int, comment: str | None) -> bool:
    """Note how content the customer is, from 1 (bad) to 5 (good); False where that was said before."""
    ticket = transaction.get(Ticket, ticket_id)
    if ticket.satisfaction is not None:
        return False
    said = (comment or "").strip() or None
    if said is not None:
        check_text("satisfaction_comment", said, longest=_LONGEST_COMMENT)
    transaction.update(ticket, {"satisfaction": mark, "satisfaction_comment": said})
    plan(transaction, ticket, clock_of(transaction, ticket))
    if ticket.owner_id is not None:
        about = (Ticket.record_type, ticket.id)
        notify(transaction, [ticket.owner_id], kind=Occasion.DUE, text="ticket_rated", about=about)
    return True


# ------------------------------------------------------------------------------------------------ steps


def do_due_steps(transaction: Transaction, ticket_id: int) -> list[Step]:
    """Do what is due about a ticket, each step once, and return what was done.

    Asking the customer is only returned: whoever calls asks, in the same transaction.
    """
    session = transaction.session
    try:
        ticket = transaction.get(Ticket, ticket_id)
    except RecordNotFoundError:
        _forget(session, ticket_id)
        return []
    clock = clock_of(transaction, ticket)
    due = [each.step for each in steps_of(transaction, ticket, clock) if each.at <= transaction.now]
    for step in due:
        _do(transaction, ticket, step, due)
    clock.done = [*clock.done, *due]
    plan(transaction, ticket, clock)
    return due


def _do(transaction: Transaction, ticket: Ticket, step: Step, due: Sequence[Step]) -> None:
    match step:
        case Step.FIRST_MISSED:
            if ticket.first_breached_at is None:
                transaction.update(ticket, {"first_breached_at": ticket.first_due_at})
            _tell(transaction, ticket, step, _leaders(transaction.session, ticket))
        case Step.SOLVE_MISSED:
            if ticket.solve_breached_at is None:
                transaction.update(ticket, {"solve_breached_at": ticket.solve_due_at})
            _tell(transaction, ticket, step, _leaders(transaction.session, ticket))
        case Step.FIRST_SOON if Step.FIRST_MISSED not in due:
            _tell(transaction, ticket, step, _holders(transaction.session, ticket))
        case Step.SOLVE_SOON if Step.SOLVE_MISSED not in due:
            _tell(transaction, ticket, step, _holders(transaction.session, ticket))
        case Step.CLOSE:
            change_ticket(transaction, ticket, {"status": TicketStatus.CLOSED})


def _tell(transaction: Transaction, ticket: Ticket, step: Step, people: Sequence[User]) -> None:
    """Tell those who may see the ticket."""
    session, about = transaction.session, (Ticket.record_type, ticket.id)
    seeing = [user.id for user in people if _sees(session, user, ticket)]
    notify(transaction, seeing, kind=Occasion.DUE, text=f"ticket_{step}", about=about)


def _sees(session: Session, user: User, ticket: Ticket) -> bool:
    try:
        Reader(session, user).get(Ticket, ticket.id, only=("id",))
    except RecordNotFoundError:
        return False
    return True


def _holders(session: Session, ticket: Ticket) -> list[User]:
    """Return who has a ticket: its owner, else all who serve its queue."""
    if ticket.owner_id is not None:
        return [session.get_one(User, ticket.owner_id)]
    queue = find_queue(session, ticket.queue)
    return [] if queue is None else list(list_members(session, queue))


def _leaders(session: Session, ticket: Ticket) -> list[User]:
    """Return who answers for a ticket: the managers of who has it, and themselves where there is none."""
    holders = _holders(session, ticket)
    managers = {manager.id: manager for user in holders for manager in managers_of(session, user)}
    return list(managers.values()) or holders


def _forget(session: Session, ticket_id: int) -> None:
    clock = session.get(TicketClock, ticket_id)
    if clock is not None:
        clock.next_at = None
        session.flush()
