"""What customers ask for after the sale, and what is known that answers them."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from crm_core.columns import Instant
from crm_core.records.base import Owned, Record
from crm_core.records.customers import Mergeable
from crm_core.records.words import ArticleState, TicketStatus


class Ticket(Owned, Mergeable, Record):
    """A customer's request for help; `occurred_at` is when it was opened.

    What is due, answered and missed is written by `crm_core.ticket_clocks` only.
    """

    __tablename__ = "tickets"
    record_type = "ticket"

    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"), index=True)
    contact_id: Mapped[int | None] = mapped_column(ForeignKey("contacts.id"), index=True)
    subject: Mapped[str] = mapped_column(String(300))
    description: Mapped[str | None] = mapped_column(Text, comment="what the customer asks for")
    priority: Mapped[str | None] = mapped_column(String(20))
    queue: Mapped[str | None] = mapped_column(String(40), comment="key of the queue that it waits in")
    status: Mapped[str] = mapped_column(String(20), default=TicketStatus.OPEN)
    first_due_at: Mapped[datetime | None] = mapped_column(Instant, comment="when the first answer is due")
    first_answered_at: Mapped[datetime | None] = mapped_column(Instant, comment="our first mail or call")
    first_breached_at: Mapped[datetime | None] = mapped_column(
        Instant, comment="when the first answer was due, if it came too late"
    )
    solve_due_at: Mapped[datetime | None] = mapped_column(
        Instant, comment="when it is to be solved; later by all time that it waits for the customer"
    )
    solved_at: Mapped[datetime | None] = mapped_column(Instant)
    solve_breached_at: Mapped[datetime | None] = mapped_column(
        Instant, comment="when it was to be solved, if it was not"
    )
    paused_at: Mapped[datetime | None] = mapped_column(Instant, comment="since when its clock stands")
    closed_at: Mapped[datetime | None] = mapped_column(Instant)
    satisfaction: Mapped[int | None] = mapped_column(comment="1 (bad) to 5 (good), asked after closing")
    satisfaction_comment: Mapped[str | None] = mapped_column(Text, comment="what the customer adds to it")

    __table_args__ = (
        Index("ix_tickets_queue_status", "queue", "status"),
        Index("ix_tickets_status_solve_due_at", "status", "solve_due_at"),
        Index("ix_tickets_occurred_at", "occurred_at"),
    )


class Article(Owned, Record):
    """What is known about something that customers ask; its versions are in the change log."""

    __tablename__ = "articles"
    record_type = "article"

    title: Mapped[str] = mapped_column(String(300))
    body: Mapped[str] = mapped_column(Text, comment="in Markdown")
    language: Mapped[str] = mapped_column(String(8), default="en", comment="en or zh")
    state: Mapped[str] = mapped_column(String(20), default=ArticleState.DRAFT)
