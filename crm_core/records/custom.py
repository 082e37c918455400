"""Record types that are declared at run time, such as a project, a shop or a machine."""

from __future__ import annotations

from sqlalchemy import ForeignKey, Index, Integer, String
from sqlalchemy.orm import Mapped, mapped_column

from crm_core.records.base import Base, Id, Owned, Record


class CustomRecordType(Base):
    """A kind of record that somebody declared; its fields are custom fields of that name."""

    __tablename__ = "custom_record_types"

    id: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=True)
    name: Mapped[str] = mapped_column(String(40), unique=True, comment="as in a URL: project, shop, machine")
    label_en: Mapped[str] = mapped_column(String(200))
    label_zh: Mapped[str] = mapped_column(String(200))


class CustomRecord(Owned, Record):
    """A record of a declared type; its facts are in `custom`."""

    __tablename__ = "custom_records"
    record_type = "custom_record"

    type_id: Mapped[int] = mapped_column(Integer, ForeignKey("custom_record_types.id"))
    name: Mapped[str] = mapped_column(String(300))
    account_id: Mapped[int | None] = mapped_column(ForeignKey("accounts.id"), index=True)
    deal_id: Mapped[int | None] = mapped_column(ForeignKey("deals.id"), index=True)

    __table_args__ = (Index("ix_custom_records_type_id", "type_id"),)
