"""The clocks of a ticket: when the first answer and the solution are due, in working time.

- A clock starts when the ticket is opened and runs in working time while the ticket is open. It stands while
  the ticket waits for the customer, and while it is solved; what is due is then later by the working time
  that it stood. What was missed before stays missed.
- The first answer is the first mail or call by us about the ticket.
- A target that is missed is marked on the ticket with the instant at which it was due, whenever noticed.
- `next_at` is when there is something to be done about a ticket: somebody to be warned, a target that will
  have been missed, a solved ticket to be closed, a customer to be asked. `serving.ticket_work` does it then.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, Session, mapped_column

from crm_core.changes import Change, Source
from crm_core.columns import Instant, Json
from crm_core.records import Activity, ActivityKind, Base, Direction, Ticket, TicketStatus
from crm_core.service_desk import Target, check_queue, target_of
from crm_core.store import Transaction
from crm_core.working_time import WorkingTime, working_time

WARNED_AT: Final = 0.75
"""The share of a target's time after which whoever has the ticket is warned."""

CLOSED_AFTER: Final = timedelta(days=3)
"""A solved ticket that nobody objects to is closed so much later."""

CLOCK_FIELDS: Final = frozenset(
    {
        *("first_due_at", "first_answered_at", "first_breached_at"),
        *("solve_due_at", "solved_at", "solve_breached_at", "paused_at"),
    }
)
"""What nobody writes on a ticket but its clocks."""

ANSWERS: Final = frozenset({ActivityKind.MAIL, ActivityKind.CALL})
HEARD: Final = frozenset({ActivityKind.MAIL, ActivityKind.CALL, ActivityKind.WEB})
"""By what a customer opens a ticket again."""


AUTO_REPLY: Final = "auto_reply"
"""The outcome of a mail that nobody wrote, such as one that says that its receiver is away."""


class Step(StrEnum):
    """What is done about a ticket, once each."""

    FIRST_SOON = "first_soon"
    FIRST_MISSED = "first_missed"
    SOLVE_SOON = "solve_soon"
    SOLVE_MISSED = "solve_missed"
    CLOSE = "close"
    ASK = "ask"


class TicketClock(Base):
    """What is kept about a ticket's clocks besides what the ticket shows."""

    __tablename__ = "ticket_clocks"

    ticket_id: Mapped[int] = mapped_column(ForeignKey("tickets.id"), primary_key=True)
    stood: Mapped[int] = mapped_column(comment="seconds of working time that it stood, so far")
    done: Mapped[Any] = mapped_column(Json, comment="steps that were done")
    next_at: Mapped[datetime | None] = mapped_column(
        Instant, index=True, comment="when there is something to be done"
    )


@dataclass(frozen=True, kw_only=True)
class Planned:
    """A step, and from when on it is to be done."""

    step: Step
    at: datetime


def start_clock(transaction: Transaction, ticket: Ticket) -> TicketClock:
    """Begin to count for a ticket that was just written; one that is not open has nothing due."""
    clock = TicketClock(ticket_id=ticket.id, stood=0, done=[], next_at=None)
    transaction.session.add(clock)
    if ticket.status == TicketStatus.OPEN:
        transaction.update(ticket, due_of(transaction, ticket, clock), occurred_at=ticket.occurred_at)
    elif ticket.status == TicketStatus.PENDING:
        due = due_of(transaction, ticket, clock)
        transaction.update(ticket, {**due, "paused_at": ticket.occurred_at}, occurred_at=ticket.occurred_at)
    elif ticket.status == TicketStatus.CLOSED:
        clock.done = [Step.ASK]  # nobody is asked about what came in as history
    plan(transaction, ticket, clock)
    return clock


def clock_of(transaction: Transaction, ticket: Ticket) -> TicketClock:
    """Return the clock of a ticket that is held; one that came without begins at nothing."""
    found = transaction.session.get(TicketClock, ticket.id, populate_existing=True)
    if found is None:
        found = TicketClock(ticket_id=ticket.id, stood=0, done=[], next_at=None)
        transaction.session.add(found)
    return found


def change_ticket(
    transaction: Transaction,
    ticket: Ticket,
    values: Mapping[str, Any],
    *,
    occurred_at: datetime | None = None,
) -> list[Change]:
    """Set fields of a ticket as `Transaction.update` does, and all that follows for its clocks.

    Raises InvalidValueError for a queue that there is none of.
    """
    if values.get("queue") is not None and values["queue"] != ticket.queue:
        check_queue(transaction.session, values["queue"])
    if not {"status", "priority", "queue"} & values.keys():
        return transaction.update(ticket, values, occurred_at=occurred_at)
    clock = clock_of(transaction, ticket)
    at = min(occurred_at or transaction.now, transaction.now)
    follows = _after_status(transaction, ticket, clock, values.get("status", ticket.status), at)
    changes = transaction.update(ticket, {**follows, **values}, occurred_at=occurred_at)
    if ticket.status in {TicketStatus.OPEN, TicketStatus.PENDING}:
        changes += transaction.update(ticket, due_of(transaction, ticket, clock), occurred_at=occurred_at)
    plan(transaction, ticket, clock)
    return changes


def find_standing(session: Session, ticket_id: int) -> Ticket | None:
    """Return a ticket, or the one that it was merged into; None where that is deleted."""
    ticket, passed = session.get(Ticket, ticket_id), set[int]()
    while ticket is not None and ticket.merged_into_id is not None and ticket.id not in passed:
        passed.add(ticket.id)
        ticket = session.get(Ticket, ticket.merged_into_id)
    return None if ticket is None or ticket.deleted_at is not None else ticket


def note_activity(transaction: Transaction, activity: Activity) -> None:
    """Take in what an activity means for the ticket that it is about, if it is about one.

    The first mail or call by one of us answers it, a mail that the program writes by itself does not; a
    customer who is heard from opens it again. History that is imported changes nothing.
    """
    if activity.subject_type != Ticket.record_type or transaction.source is Source.IMPORT:
        return
    ticket = transaction.get(Ticket, activity.subject_id or 0)
    if activity.direction == Direction.OUTBOUND and activity.kind in ANSWERS:
        if activity.kind == ActivityKind.MAIL and activity.owner_id is None:
            return
        note_answer(transaction, ticket, activity.occurred_at)
    elif (
        activity.direction == Direction.INBOUND and activity.kind in HEARD and activity.outcome != AUTO_REPLY
    ):
        _reopen(transaction, ticket, activity.occurred_at)


def note_answer(transaction: Transaction, ticket: Ticket, at: datetime) -> None:
    """Note that a ticket was answered, and whether that was too late; only the first answer counts."""
    if ticket.first_answered_at is not None:
        return
    values: dict[str, Any] = {"first_answered_at": max(at, ticket.occurred_at)}
    if ticket.first_breached_at is None and _missed(ticket.first_due_at, ticket, at):
        values["first_breached_at"] = ticket.first_due_at
    transaction.update(ticket, values, occurred_at=at)
    plan(transaction, ticket, clock_of(transaction, ticket))


def due_of(transaction: Transaction, ticket: Ticket, clock: TicketClock) -> dict[str, Any]:
    """Return what is due of a ticket by its priority and queue; what was answered or missed stays."""
    hours, target = _hours(transaction), _target(transaction, ticket)
    stood = timedelta(seconds=clock.stood)
    found: dict[str, Any] = {}
    if ticket.first_answered_at is None and ticket.first_breached_at is None:
        found["first_due_at"] = hours.after(ticket.occurred_at, _minutes(target.first_minutes) + stood)
    if ticket.solve_breached_at is None:
        found["solve_due_at"] = hours.after(ticket.occurred_at, _minutes(target.solve_minutes) + stood)
    return found


def plan(transaction: Transaction, ticket: Ticket, clock: TicketClock) -> None:
    """Note when there is something to be done about a ticket next."""
    clock.next_at = min((each.at for each in steps_of(transaction, ticket, clock)), default=None)
    transaction.session.flush()


def steps_of(transaction: Transaction, ticket: Ticket, clock: TicketClock) -> list[Planned]:
    """Return what is still to be done about a ticket as it stands."""
    if ticket.merged_into_id is not None or ticket.deleted_at is not None:
        return []
    every = _all_steps(transaction, ticket, clock)
    return [each for each in every if each.step not in clock.done]


def _all_steps(transaction: Transaction, ticket: Ticket, clock: TicketClock) -> Iterator[Planned]:
    if ticket.status == TicketStatus.OPEN:
        yield from _running(transaction, ticket, clock)
    elif ticket.status == TicketStatus.SOLVED and ticket.solved_at is not None:
        yield Planned(step=Step.CLOSE, at=ticket.solved_at + CLOSED_AFTER)
    elif ticket.status == TicketStatus.CLOSED and ticket.satisfaction is None:
        yield Planned(step=Step.ASK, at=ticket.closed_at or transaction.now)


def _running(transaction: Transaction, ticket: Ticket, clock: TicketClock) -> Iterator[Planned]:
    target, hours = _target(transaction, ticket), _hours(transaction)
    stood = timedelta(seconds=clock.stood)
    parts = (
        (target.first_minutes, ticket.first_due_at, ticket.first_answered_at, ticket.first_breached_at),
        (target.solve_minutes, ticket.solve_due_at, None, ticket.solve_breached_at),
    )
    steps = ((Step.FIRST_SOON, Step.FIRST_MISSED), (Step.SOLVE_SOON, Step.SOLVE_MISSED))
    for (minutes, due, answered, missed), (soon, late) in zip(parts, steps, strict=True):
        if due is None or answered is not None:
            continue
        if missed is None:
            yield Planned(
                step=soon, at=hours.after(ticket.occurred_at, WARNED_AT * _minutes(minutes) + stood)
            )
        yield Planned(step=late, at=due)


def _after_status(
    transaction: Transaction, ticket: Ticket, clock: TicketClock, status: str, at: datetime
) -> dict[str, Any]:
    """Return what else changes on a ticket when it comes to a status; the time it stood goes to its clock."""
    if status == ticket.status:
        return {}
    if status == TicketStatus.OPEN:
        clock.stood += round(_stood_since(transaction, ticket, at).total_seconds())
        clock.done = [step for step in clock.done if step != Step.CLOSE]
        return {"paused_at": None, "solved_at": None, "closed_at": None}
    found: dict[str, Any] = {"paused_at": ticket.paused_at or at}
    if ticket.solve_breached_at is None and _missed(ticket.solve_due_at, ticket, at):
        found["solve_breached_at"] = ticket.solve_due_at
    unanswered = ticket.first_answered_at is None and ticket.first_breached_at is None
    if unanswered and _missed(ticket.first_due_at, ticket, at):
        found["first_breached_at"] = ticket.first_due_at
    over = status in {TicketStatus.SOLVED, TicketStatus.CLOSED}
    found["solved_at"] = (ticket.solved_at or at) if over else None
    found["closed_at"] = at if status == TicketStatus.CLOSED else None
    return found


def _stood_since(transaction: Transaction, ticket: Ticket, at: datetime) -> timedelta:
    if ticket.paused_at is None:
        return timedelta(0)
    return _hours(transaction).between(ticket.paused_at, at)


def _reopen(transaction: Transaction, ticket: Ticket, at: datetime) -> None:
    """Open a ticket that waits or is over, unless what was heard is older than that."""
    if ticket.merged_into_id is not None or ticket.status == TicketStatus.OPEN:
        return
    if ticket.paused_at is None or at >= ticket.paused_at:
        change_ticket(transaction, ticket, {"status": TicketStatus.OPEN}, occurred_at=at)


def _missed(due: datetime | None, ticket: Ticket, at: datetime) -> bool:
    """Tell whether something was due before an instant, or before the clock stood."""
    return due is not None and due < min(at, ticket.paused_at or at)


def _target(transaction: Transaction, ticket: Ticket) -> Target:
    return target_of(transaction.session, ticket.queue, ticket.priority)


def _hours(transaction: Transaction) -> WorkingTime:
    return working_time(transaction.session, transaction.zone)


def _minutes(count: int) -> timedelta:
    return timedelta(minutes=count)
