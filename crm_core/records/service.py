"""What customers ask for after the sale."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from crm_core.columns import Instant
from crm_core.records.base import Owned, Record
from crm_core.records.words import TicketStatus


class Ticket(Owned, Record):
    """A customer's request for help; `occurred_at` is when it was opened."""

    __tablename__ = "tickets"
    record_type = "ticket"

    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"), index=True)
    contact_id: Mapped[int | None] = mapped_column(ForeignKey("contacts.id"), index=True)
    subject: Mapped[str] = mapped_column(String(300))
    priority: Mapped[str | None] = mapped_column(String(20))
    status: Mapped[str] = mapped_column(String(20), default=TicketStatus.OPEN)
    closed_at: Mapped[datetime | None] = mapped_column(Instant)
    satisfaction: Mapped[int | None] = mapped_column(comment="1 (bad) to 5 (good), asked after closing")
