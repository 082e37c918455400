"""Companies that buy or may buy, their people, and those who may become customers."""

from __future__ import annotations

from datetime import date, datetime

from sqlalchemy import ForeignKey, Index, String, text
from sqlalchemy.orm import Mapped, mapped_column

from crm_core.columns import Day, Instant
from crm_core.records.base import Id, Owned, Record, Scored, index_of_steps
from crm_core.records.words import LeadStatus


class Person:
    """What the law and good manners ask about people."""

    consent: Mapped[str | None] = mapped_column(String(10), comment="to be written to; NULL: never asked")
    consent_at: Mapped[datetime | None] = mapped_column(Instant)
    scoring_opt_out: Mapped[bool] = mapped_column(default=False, comment="asks not to be scored")
    erased_at: Mapped[datetime | None] = mapped_column(Instant, comment="when the person was erased")


class Mergeable:
    """A record that may turn out to be the same as another one."""

    merged_into_id: Mapped[int | None] = mapped_column(Id, comment="the record that stands for both")


class Account(Owned, Scored, Mergeable, Record):
    """A company that buys or may buy."""

    __tablename__ = "accounts"
    record_type = "account"

    name: Mapped[str] = mapped_column(String(300))
    industry: Mapped[str | None] = mapped_column(String(120))
    region: Mapped[str | None] = mapped_column(String(120))
    employees: Mapped[int | None]
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("accounts.id"), index=True)
    scoring_opt_out: Mapped[bool] = mapped_column(default=False, comment="asks not to be scored")
    phone: Mapped[str | None] = mapped_column(String(64))
    website: Mapped[str | None] = mapped_column(String(300))


class Contact(Owned, Person, Mergeable, Record):
    """A person at an account."""

    __tablename__ = "contacts"
    record_type = "contact"

    account_id: Mapped[int | None] = mapped_column(ForeignKey("accounts.id"), index=True)
    name: Mapped[str] = mapped_column(String(200))
    email: Mapped[str | None] = mapped_column(String(320))
    phone: Mapped[str | None] = mapped_column(String(64))
    title: Mapped[str | None] = mapped_column(String(200))
    birthday: Mapped[date | None] = mapped_column(Day)


class Lead(Owned, Scored, Person, Mergeable, Record):
    """Somebody who may become a customer."""

    __tablename__ = "leads"
    record_type = "lead"

    name: Mapped[str | None] = mapped_column(String(200))
    company: Mapped[str | None] = mapped_column(String(300))
    email: Mapped[str | None] = mapped_column(String(320))
    phone: Mapped[str | None] = mapped_column(String(64))
    title: Mapped[str | None] = mapped_column(String(200))
    source: Mapped[str | None] = mapped_column(String(120))
    campaign: Mapped[str | None] = mapped_column(String(200), comment="as the source named it")
    campaign_id: Mapped[int | None] = mapped_column(ForeignKey("campaigns.id"))
    territory: Mapped[str | None] = mapped_column(String(120))
    industry: Mapped[str | None] = mapped_column(String(120))
    region: Mapped[str | None] = mapped_column(String(120))
    employees: Mapped[int | None]
    status: Mapped[str] = mapped_column(String(20), default=LeadStatus.OPEN)
    converted_at: Mapped[datetime | None] = mapped_column(Instant)
    disqualified_reason: Mapped[str | None] = mapped_column(String(200))
    account_id: Mapped[int | None] = mapped_column(ForeignKey("accounts.id"))
    contact_id: Mapped[int | None] = mapped_column(ForeignKey("contacts.id"))
    deal_id: Mapped[int | None] = mapped_column(ForeignKey("deals.id"))

    __table_args__ = (
        index_of_steps("leads"),
        # Few open leads have any of these: an index of all would be kept up with every score for nothing.
        *(
            Index(
                f"ix_leads_{link}",
                link,
                sqlite_where=text(f"{link} IS NOT NULL"),
                postgresql_where=text(f"{link} IS NOT NULL"),
            )
            for link in ("campaign_id", "account_id", "contact_id", "deal_id")
        ),
    )
