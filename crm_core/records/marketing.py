"""Campaigns and whom they reached."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal

from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from crm_core.columns import Day, Instant, Money
from crm_core.records.base import Owned, Record


class Campaign(Owned, Record):
    """Something done to win leads."""

    __tablename__ = "campaigns"
    record_type = "campaign"

    name: Mapped[str] = mapped_column(String(200))
    channel: Mapped[str | None] = mapped_column(String(80))
    starts_on: Mapped[date | None] = mapped_column(Day)
    ends_on: Mapped[date | None] = mapped_column(Day)
    budget: Mapped[Decimal | None] = mapped_column(Money)
    cost: Mapped[Decimal | None] = mapped_column(Money, comment="what it has cost so far")
    currency: Mapped[str | None] = mapped_column(String(3))


class CampaignMember(Record):
    """A lead or contact that a campaign reached; `occurred_at` is when."""

    __tablename__ = "campaign_members"
    record_type = "campaign_member"

    campaign_id: Mapped[int] = mapped_column(ForeignKey("campaigns.id"), index=True)
    lead_id: Mapped[int | None] = mapped_column(ForeignKey("leads.id"), index=True)
    contact_id: Mapped[int | None] = mapped_column(ForeignKey("contacts.id"), index=True)
    response: Mapped[str | None] = mapped_column(String(80))
    responded_at: Mapped[datetime | None] = mapped_column(Instant)
