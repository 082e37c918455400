"""What was done with a record and said about it."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, Index, String, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from crm_core.columns import Instant, Json
from crm_core.records.base import Owned, Record

_IS_DUE = text("due_at IS NOT NULL")


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
    owner_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"))
    lead_id: Mapped[int | None] = mapped_column(ForeignKey("leads.id"), index=True)
    account_id: Mapped[int | None] = mapped_column(ForeignKey("accounts.id"), index=True)
    contact_id: Mapped[int | None] = mapped_column(ForeignKey("contacts.id"), index=True)
    deal_id: Mapped[int | None] = mapped_column(ForeignKey("deals.id"), index=True)
    subject_type: Mapped[str | None] = mapped_column(String(40), comment="of any other record it is about")
    subject_id: Mapped[int | None] = mapped_column(BigInteger)

    __table_args__ = (
        Index("ix_activities_subject_type_subject_id", "subject_type", "subject_id"),
        # What somebody did of late, of all that they ever did.
        Index("ix_activities_owner_id_occurred_at", "owner_id", "occurred_at"),
        # What reports count by: they are counted along it, without a look at the rows.
        Index(
            "ix_activities_counted",
            *("owner_id", "kind", "direction", "occurred_at", "recorded_at", "deleted_at"),
        ),
        # Hardly any is due at some time: an index of those few.
        Index("ix_activities_due_at", "due_at", sqlite_where=_IS_DUE, postgresql_where=_IS_DUE),
    )


class Subject:
    """A record that belongs to any other record."""

    subject_type: Mapped[str] = mapped_column(String(40), comment="record type of what it is about")
    subject_id: Mapped[int] = mapped_column(BigInteger)


class Comment(Owned, Subject, Record):
    """What a colleague says about a record; `owner_id` wrote it."""

    __tablename__ = "comments"
    record_type = "comment"

    body: Mapped[str] = mapped_column(Text)
    mentions: Mapped[list[int] | None] = mapped_column(Json, comment="ids of the users it calls on")

    __table_args__ = (Index("ix_comments_subject_type_subject_id", "subject_type", "subject_id"),)


class Attachment(Owned, Subject, Record):
    """A file kept elsewhere, by reference."""

    __tablename__ = "attachments"
    record_type = "attachment"

    name: Mapped[str] = mapped_column(String(300))
    uri: Mapped[str] = mapped_column(String(2000))
    media_type: Mapped[str | None] = mapped_column(String(120))
    size: Mapped[int | None] = mapped_column(BigInteger, comment="in bytes")
    sha256: Mapped[str | None] = mapped_column(String(64))

    __table_args__ = (Index("ix_attachments_subject_type_subject_id", "subject_type", "subject_id"),)


class Tag(Subject, Record):
    """A word put on a record; taking it off deletes this record."""

    __tablename__ = "tags"
    record_type = "tag"

    word: Mapped[str] = mapped_column(String(80), index=True)

    __table_args__ = (Index("ix_tags_subject_type_subject_id", "subject_type", "subject_id"),)
