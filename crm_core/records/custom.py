"""Record types that are declared at run time, such as a project, a shop or a machine."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, Index, Integer, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from crm_core.columns import Instant, Json
from crm_core.records.base import Base, Id, Owned, Record

LINKABLE = ("lead", "deal", "account", "contact")
"""Built-in records that a record of a declared type may be linked to, each by the column of that name."""


class CustomRecordType(Base):
    """A kind of record that somebody declared; its fields are custom fields of that name."""

    __tablename__ = "custom_record_types"

    id: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=True)
    name: Mapped[str] = mapped_column(String(40), unique=True, comment="as in a URL: project, shop, machine")
    label_en: Mapped[str] = mapped_column(String(200))
    label_zh: Mapped[str] = mapped_column(String(200))
    links: Mapped[list[str]] = mapped_column(
        Json, default=lambda: list(LINKABLE), comment="record types that its records may be linked to"
    )
    retired_at: Mapped[datetime | None] = mapped_column(
        Instant, comment="from when on no record of it is written"
    )


class CustomRecord(Owned, Record):
    """A record of a declared type; its facts are in `custom`."""

    __tablename__ = "custom_records"
    record_type = "custom_record"

    external_id: Mapped[str | None] = mapped_column(
        String(200), sort_order=-1, comment="key in the system it came from"
    )
    type_id: Mapped[int] = mapped_column(Integer, ForeignKey("custom_record_types.id"))
    name: Mapped[str] = mapped_column(String(300))
    lead_id: Mapped[int | None] = mapped_column(ForeignKey("leads.id"), index=True)
    account_id: Mapped[int | None] = mapped_column(ForeignKey("accounts.id"), index=True)
    deal_id: Mapped[int | None] = mapped_column(ForeignKey("deals.id"), index=True)
    contact_id: Mapped[int | None] = mapped_column(ForeignKey("contacts.id"), index=True)
    parent_id: Mapped[int | None] = mapped_column(
        ForeignKey("custom_records.id"), index=True, comment="another such record that it belongs to"
    )

    __table_args__ = (
        Index("ix_custom_records_type_id", "type_id"),
        UniqueConstraint("type_id", "external_id"),
    )
