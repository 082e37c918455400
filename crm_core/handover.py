"""Giving what somebody was responsible for to somebody else."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import ColumnElement, Select, and_, select, true
from sqlalchemy.orm import Session

from crm_core.approvals import readdress, waits_for
from crm_core.bulk import Update
from crm_core.errors import HandoverError
from crm_core.forms import WebForm
from crm_core.phrases import Phrase
from crm_core.records import (
    RECORD_TYPES,
    Activity,
    ActivityKind,
    Comment,
    Deal,
    DealStatus,
    Lead,
    LeadStatus,
    Owned,
    Quote,
    QuoteStatus,
    Record,
    Ticket,
    TicketStatus,
    User,
)
from crm_core.store import Transaction
from crm_core.validation import columns_of

OPEN: dict[type[Record], ColumnElement[bool]] = {
    Lead: Lead.status == LeadStatus.OPEN,
    Deal: Deal.status == DealStatus.OPEN,
    Quote: Quote.status.in_([QuoteStatus.DRAFT, QuoteStatus.SENT]),
    Ticket: Ticket.status.in_([TicketStatus.OPEN, TicketStatus.PENDING]),
    Activity: and_(Activity.kind == ActivityKind.TASK, Activity.outcome.is_(None)),
}
"""What is still to be worked on; the rest keeps the name of who did it."""

_NEVER: frozenset[type[Record]] = frozenset({Comment})
"""What somebody said stays theirs."""


def hand_over(transaction: Transaction, leaver: User, heirs: Sequence[User]) -> dict[str, int]:
    """Give everything open that `leaver` owns to `heirs`, in turn; return how many of each type moved.

    Customers move whole, and with them their contracts, orders and payments, which have no owner of their
    own; leads, deals, quotes and tickets while they are open, tasks while they are not done. Each move is a
    change row of its own, so that as of yesterday the leaver still owned them. What waits for the leaver's
    approval waits for somebody else then; it is counted as "approval". Web forms bring their new leads to the
    heirs; they are counted as "form".
    """
    if not heirs or any(not heir.active or heir.id == leaver.id for heir in heirs):
        raise HandoverError(
            Phrase("expected active people other than {name} to hand over to", name=leaver.name)
        )
    moved = {model.record_type: _move(transaction, model, leaver, heirs) for model in _owned_types()}
    moved["approval"] = readdress(transaction, leaver)
    moved["form"] = _give_forms(transaction, leaver, heirs)
    return {record_type: count for record_type, count in moved.items() if count}


def _give_forms(transaction: Transaction, leaver: User, heirs: Sequence[User]) -> int:
    query = select(WebForm).where(WebForm.owner_id == leaver.id).order_by(WebForm.id).with_for_update()
    forms = transaction.session.scalars(query).all()
    for turn, form in enumerate(forms):
        form.owner_id, form.version = heirs[turn % len(heirs)].id, form.version + 1
    transaction.session.flush()
    return len(forms)


def has_open(session: Session, leaver: User) -> bool:
    """Tell whether there is anything that would have to be handed over."""
    forms = select(WebForm.id).where(WebForm.owner_id == leaver.id).limit(1)
    return (
        waits_for(session, leaver)
        or session.scalar(forms) is not None
        or any(session.scalar(_open_ids(model, leaver).limit(1)) is not None for model in _owned_types())
    )


def _owned_types() -> list[type[Record]]:
    return [model for model in RECORD_TYPES.values() if issubclass(model, Owned) and model not in _NEVER]


def _move(transaction: Transaction, model: type[Record], leaver: User, heirs: Sequence[User]) -> int:
    ids = transaction.session.scalars(_open_ids(model, leaver)).all()
    updates = [
        Update(record_id=record_id, values={"owner_id": heirs[turn % len(heirs)].id})
        for turn, record_id in enumerate(ids)
    ]
    transaction.update_many(model, updates)
    return len(updates)


def _open_ids(model: type[Record], leaver: User) -> Select[int]:
    columns = columns_of(model)
    theirs = (columns["owner_id"] == leaver.id, columns["deleted_at"].is_(None), OPEN.get(model, true()))
    return select(columns["id"]).where(*theirs).order_by(columns["id"])
