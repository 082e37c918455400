"""The change log: what every write did, in the order in which it was written.

The contract, from which any consumer can be built:

- A row is added in the same transaction as the write it tells of, and is never edited or removed.
- `action` is `created` (one row a record, `field` is NULL) or `updated` (one row a field that got a new
  value) or `deleted`. `old` and `new` are JSON of the stored form: instants in microseconds since 1970, days
  in days since 1970, money in ten-thousandths, everything else as it is. A custom field is named
  `custom.NAME`.
- What a field held before its first `updated` row is that row's `old`; without any, it is what the
  record holds now. A creation therefore costs one row however many fields it fills.
- `occurred_at` is when it happened, `recorded_at` when we learned it. A late fact has an `occurred_at`
  before that of rows with a smaller id: it is history, and the record keeps the value that happened last.
- `source` says who wrote: rep, import, api or automation. What models write is not here but in
  `predictions`, an append-only log of its own, so following this log can never be set off by a score.
- Consumers keep the last id they have dealt with in `cursors` and read on from there.

What this does not do: it does not hold the values of fields at creation, nor what was never written through
`crm_core.store.Transaction`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, String, func, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from crm_core.columns import Instant, Json
from crm_core.records import Base, Id


class Source(StrEnum):
    """Where a write came from."""

    REP = "rep"
    IMPORT = "import"
    API = "api"
    AUTOMATION = "automation"
    MODEL = "model"


class Action(StrEnum):
    """What a write did."""

    CREATED = "created"
    UPDATED = "updated"
    DELETED = "deleted"


class Change(Base):
    """One change of one field, or the creation or deletion of one record."""

    __tablename__ = "changes"

    id: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=True)
    record_type: Mapped[str] = mapped_column(String(40))
    record_id: Mapped[int] = mapped_column(BigInteger)
    action: Mapped[str] = mapped_column(String(10))
    field: Mapped[str | None] = mapped_column(String(120))
    old: Mapped[Any] = mapped_column(Json, nullable=True)
    new: Mapped[Any] = mapped_column(Json, nullable=True)
    occurred_at: Mapped[datetime] = mapped_column(Instant)
    recorded_at: Mapped[datetime] = mapped_column(Instant)
    source: Mapped[str] = mapped_column(String(12))
    actor_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"))

    __table_args__ = (
        Index("ix_changes_record_type_field_record_id", "record_type", "field", "record_id"),
        Index("ix_changes_record_type_record_id", "record_type", "record_id"),
    )


class Cursor(Base):
    """How far a consumer of the change log has come, and the batch it has begun, if any."""

    __tablename__ = "cursors"

    name: Mapped[str] = mapped_column(String(80), primary_key=True)
    position: Mapped[int] = mapped_column(BigInteger, comment="id of the last change dealt with")
    batch_until: Mapped[int | None] = mapped_column(BigInteger, comment="last change of the begun batch")
    batch_as_of: Mapped[datetime | None] = mapped_column(Instant, comment="the instant it asks from")


def list_changes(session: Session, *, after: int, limit: int) -> Sequence[Change]:
    """Return up to `limit` changes with an id above `after`, in the order in which they were written."""
    query = select(Change).where(Change.id > after).order_by(Change.id).limit(limit)
    return session.scalars(query).all()


def newest_change_id(session: Session) -> int:
    """Return the id of the newest change; 0 in an empty log."""
    return session.scalar(select(func.max(Change.id))) or 0
