"""The CRM's records: people, companies, what is sold, and everything that happened with them.

Every record carries `occurred_at` (when it came to exist, or happened) and `recorded_at` (when we learned
of it). `Scored` columns are written by models only; every other column by people, programs and imports only.
"""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, ClassVar

from sqlalchemy import BigInteger, ForeignKey, Index, Integer, MetaData, String, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, declared_attr, mapped_column

from crm_core.columns import Day, Instant, Json, Money

Id = BigInteger().with_variant(Integer, "sqlite")
"""A key that SQLite counts by itself and PostgreSQL holds in eight bytes."""


class Role(StrEnum):
    """What a user may do."""

    REP = "rep"
    MANAGER = "manager"
    ANALYST = "analyst"
    ADMIN = "admin"


class LeadStatus(StrEnum):
    """Where a lead stands."""

    OPEN = "open"
    CONVERTED = "converted"
    DISQUALIFIED = "disqualified"


class DealStatus(StrEnum):
    """Where a deal stands; its stage says more while it is open."""

    OPEN = "open"
    WON = "won"
    LOST = "lost"


class ActivityKind(StrEnum):
    """What was done."""

    CALL = "call"
    MAIL = "mail"
    MEETING = "meeting"
    VISIT = "visit"
    NOTE = "note"
    TASK = "task"
    WEB = "web"


class Direction(StrEnum):
    """Who started it: the customer (inbound) or us (outbound)."""

    INBOUND = "inbound"
    OUTBOUND = "outbound"


class ContractStatus(StrEnum):
    """Where a contract stands."""

    ACTIVE = "active"
    RENEWED = "renewed"
    ENDED = "ended"
    CANCELLED = "cancelled"


class TicketStatus(StrEnum):
    """Where a ticket stands."""

    OPEN = "open"
    CLOSED = "closed"


class Base(DeclarativeBase):
    """All tables of the store."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class Record(Base):
    """What every record has."""

    __abstract__ = True
    record_type: ClassVar[str]

    id: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=True, sort_order=-2)
    external_id: Mapped[str | None] = mapped_column(
        String(200), unique=True, sort_order=-1, comment="key in the system it came from"
    )
    occurred_at: Mapped[datetime] = mapped_column(Instant, comment="when it came to exist or happened")
    recorded_at: Mapped[datetime] = mapped_column(Instant, comment="when we learned of it")
    deleted_at: Mapped[datetime | None] = mapped_column(Instant)
    version: Mapped[int] = mapped_column(Integer, default=1, comment="counts edits; scores do not count")
    custom: Mapped[dict[str, Any] | None] = mapped_column(Json, comment="values of custom fields")


class Owned:
    """A record that somebody is responsible for."""

    @declared_attr
    def owner_id(cls) -> Mapped[int | None]:  # noqa: N805  SQLAlchemy calls it with the class
        """Return the column of the user who is responsible."""
        return mapped_column(ForeignKey("users.id"), index=True)


class Scored:
    """The newest prediction of a record, written by models only."""

    probability: Mapped[float | None] = mapped_column(comment="newest prediction, in [0, 1]")
    previous_probability: Mapped[float | None] = mapped_column(comment="the prediction before it")
    score: Mapped[int | None] = mapped_column(comment="probability's rank among open records, 0-100")
    grade: Mapped[str | None] = mapped_column(String(1), comment="A best to D")
    trend: Mapped[str | None] = mapped_column(String(8), comment="up, down or flat")
    reasons: Mapped[list[dict[str, Any]] | None] = mapped_column(Json)
    scored_at: Mapped[datetime | None] = mapped_column(Instant, comment="as_of of the newest prediction")
    model_version: Mapped[str | None] = mapped_column(String(80))


class Team(Record):
    """A team; teams form a tree."""

    __tablename__ = "teams"
    record_type = "team"

    name: Mapped[str] = mapped_column(String(200))
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("teams.id"))


class User(Record):
    """A person who works with the CRM."""

    __tablename__ = "users"
    record_type = "user"

    name: Mapped[str] = mapped_column(String(200))
    email: Mapped[str] = mapped_column(String(320), unique=True)
    role: Mapped[str] = mapped_column(String(20))
    team_id: Mapped[int | None] = mapped_column(ForeignKey("teams.id"), index=True)
    password_hash: Mapped[str | None] = mapped_column(String(200))
    language: Mapped[str | None] = mapped_column(String(8), comment="en or zh; NULL follows the browser")
    time_zone: Mapped[str | None] = mapped_column(String(64))
    active: Mapped[bool] = mapped_column(default=True)
    left_at: Mapped[datetime | None] = mapped_column(Instant, comment="when the person left")


class Account(Owned, Scored, Record):
    """A company that buys or may buy."""

    __tablename__ = "accounts"
    record_type = "account"

    name: Mapped[str] = mapped_column(String(300))
    industry: Mapped[str | None] = mapped_column(String(120))
    region: Mapped[str | None] = mapped_column(String(120))
    employees: Mapped[int | None]
    phone: Mapped[str | None] = mapped_column(String(64))
    website: Mapped[str | None] = mapped_column(String(300))


class Contact(Owned, Record):
    """A person at an account."""

    __tablename__ = "contacts"
    record_type = "contact"

    account_id: Mapped[int | None] = mapped_column(ForeignKey("accounts.id"), index=True)
    name: Mapped[str] = mapped_column(String(200))
    email: Mapped[str | None] = mapped_column(String(320))
    phone: Mapped[str | None] = mapped_column(String(64))
    title: Mapped[str | None] = mapped_column(String(200))


class Lead(Owned, Scored, Record):
    """Somebody who may become a customer."""

    __tablename__ = "leads"
    record_type = "lead"

    name: Mapped[str | None] = mapped_column(String(200))
    company: Mapped[str | None] = mapped_column(String(300))
    email: Mapped[str | None] = mapped_column(String(320))
    phone: Mapped[str | None] = mapped_column(String(64))
    title: Mapped[str | None] = mapped_column(String(200))
    source: Mapped[str | None] = mapped_column(String(120))
    campaign: Mapped[str | None] = mapped_column(String(200))
    industry: Mapped[str | None] = mapped_column(String(120))
    region: Mapped[str | None] = mapped_column(String(120))
    employees: Mapped[int | None]
    status: Mapped[str] = mapped_column(String(20), default=LeadStatus.OPEN)
    converted_at: Mapped[datetime | None] = mapped_column(Instant)
    disqualified_reason: Mapped[str | None] = mapped_column(String(200))
    account_id: Mapped[int | None] = mapped_column(ForeignKey("accounts.id"), index=True)
    contact_id: Mapped[int | None] = mapped_column(ForeignKey("contacts.id"), index=True)
    deal_id: Mapped[int | None] = mapped_column(ForeignKey("deals.id"), index=True)

    __table_args__ = (Index("ix_leads_status_probability", "status", "probability"),)


class Deal(Owned, Scored, Record):
    """Something that may be sold to an account."""

    __tablename__ = "deals"
    record_type = "deal"

    name: Mapped[str] = mapped_column(String(300))
    account_id: Mapped[int | None] = mapped_column(ForeignKey("accounts.id"), index=True)
    pipeline: Mapped[str] = mapped_column(String(80), default="default")
    stage: Mapped[str] = mapped_column(String(80))
    status: Mapped[str] = mapped_column(String(20), default=DealStatus.OPEN)
    amount: Mapped[Decimal | None] = mapped_column(Money)
    currency: Mapped[str | None] = mapped_column(String(3))
    source: Mapped[str | None] = mapped_column(String(120))
    expected_close_on: Mapped[date | None] = mapped_column(Day, comment="the rep's forecast")
    closed_at: Mapped[datetime | None] = mapped_column(Instant, comment="the fact")
    lost_reason: Mapped[str | None] = mapped_column(String(200))
    rep_probability: Mapped[float | None] = mapped_column(comment="what the rep believes, in [0, 1]")

    __table_args__ = (Index("ix_deals_status_probability", "status", "probability"),)


class Activity(Owned, Record):
    """A call, mail, meeting, visit, note, task or web event."""

    __tablename__ = "activities"
    record_type = "activity"

    kind: Mapped[str] = mapped_column(String(20))
    direction: Mapped[str | None] = mapped_column(String(10))
    subject: Mapped[str | None] = mapped_column(String(300))
    body: Mapped[str | None] = mapped_column(Text)
    outcome: Mapped[str | None] = mapped_column(String(120))
    duration_seconds: Mapped[int | None]
    due_at: Mapped[datetime | None] = mapped_column(Instant, comment="of a task or planned meeting")
    lead_id: Mapped[int | None] = mapped_column(ForeignKey("leads.id"), index=True)
    account_id: Mapped[int | None] = mapped_column(ForeignKey("accounts.id"), index=True)
    contact_id: Mapped[int | None] = mapped_column(ForeignKey("contacts.id"), index=True)
    deal_id: Mapped[int | None] = mapped_column(ForeignKey("deals.id"), index=True)


class Order(Record):
    """Something an account bought; `occurred_at` is when it was placed."""

    __tablename__ = "orders"
    record_type = "order"

    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"), index=True)
    deal_id: Mapped[int | None] = mapped_column(ForeignKey("deals.id"), index=True)
    number: Mapped[str | None] = mapped_column(String(120))
    amount: Mapped[Decimal | None] = mapped_column(Money)
    currency: Mapped[str | None] = mapped_column(String(3))


class Contract(Record):
    """An agreement with an account; `occurred_at` is when it was signed."""

    __tablename__ = "contracts"
    record_type = "contract"

    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"), index=True)
    deal_id: Mapped[int | None] = mapped_column(ForeignKey("deals.id"), index=True)
    number: Mapped[str | None] = mapped_column(String(120))
    starts_on: Mapped[date] = mapped_column(Day)
    ends_on: Mapped[date] = mapped_column(Day)
    value: Mapped[Decimal | None] = mapped_column(Money)
    currency: Mapped[str | None] = mapped_column(String(3))
    status: Mapped[str] = mapped_column(String(20), default=ContractStatus.ACTIVE)
    ended_at: Mapped[datetime | None] = mapped_column(Instant, comment="when it ended without renewal")
    renewed_by_id: Mapped[int | None] = mapped_column(ForeignKey("contracts.id"))


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


RECORD_TYPES: dict[str, type[Record]] = {
    model.record_type: model
    for model in (Team, User, Account, Contact, Lead, Deal, Activity, Order, Contract, Ticket)
}
"""Every record type by its name."""

SCORE_COLUMNS = frozenset(name for name in Scored.__annotations__ if not name.startswith("_"))
"""Columns that only models write."""

OUTCOME_FIELDS: dict[str, frozenset[str]] = {
    "lead": frozenset(
        {"status", "converted_at", "disqualified_reason", "account_id", "contact_id", "deal_id"}
    ),
    "deal": frozenset({"status", "closed_at", "lost_reason"}),
    "contract": frozenset({"status", "ended_at", "renewed_by_id"}),
}
"""Fields written at or after an outcome: never inputs of a model."""
