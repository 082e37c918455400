"""Who came in, and who read what about people: rows that are added, and in time deleted, but never changed.

What was changed is in the change log. A row names records by their ids and people who work here by theirs;
it holds no text of anybody's, so nothing of a person who is erased stands in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sqlalchemy import BigInteger, ForeignKey, Index, String, Text, delete, insert, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from crm_core.columns import Instant
from crm_core.deeds import Done as Done  # noqa: PLC0414  offered here too
from crm_core.records import Base, Id

MOST_IDS = 1_000
"""Records that one row names; more are told in several rows."""


class Via(StrEnum):
    """Which way somebody came."""

    PAGE = "page"
    API = "api"
    COMMAND = "command"


class OperationRow(Base):
    """Something that somebody did."""

    __tablename__ = "operations"

    id: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=True)
    at: Mapped[datetime] = mapped_column(Instant, index=True)
    done: Mapped[str] = mapped_column(String(24))
    via: Mapped[str] = mapped_column(String(8))
    user_id: Mapped[int | None] = mapped_column(
        ForeignKey("users.id"), comment="who; null: an address that nobody has, or the command line"
    )
    token_id: Mapped[int | None] = mapped_column(BigInteger, comment="the API key it was done with, or to")
    address: Mapped[str | None] = mapped_column(String(45), comment="the network address it came from")
    record_type: Mapped[str | None] = mapped_column(String(40))
    record_ids: Mapped[str | None] = mapped_column(Text, comment="with a space before and after each")
    detail: Mapped[str | None] = mapped_column(String(200), comment="what was set, in words of the program")

    __table_args__ = (
        Index("ix_operations_user_id_id", "user_id", "id"),
        Index("ix_operations_record_type_id", "record_type", "id"),
    )

    @property
    def ids(self) -> list[int]:
        """The records that it was done to."""
        return [int(each) for each in (self.record_ids or "").split()]


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Who does something, which way, with which key, and from where."""

    via: Via
    user_id: int | None = None
    token_id: int | None = None
    address: str | None = None


@dataclass(frozen=True, kw_only=True)
class Operation:
    """Something that somebody did, to be written down."""

    at: datetime
    done: Done
    origin: Origin
    record_type: str | None = None
    ids: tuple[int, ...] = ()
    detail: str | None = None


def write_operations(session: Session, operations: Sequence[Operation]) -> None:
    """Write down what was done."""
    rows = [row for each in operations for row in _rows(each)]
    if rows:
        session.execute(insert(OperationRow), rows)


@dataclass(frozen=True, kw_only=True)
class Which:
    """Which operations are asked for."""

    done: Done | None = None
    user_id: int | None = None
    record: tuple[str, int] | None = None
    since: datetime | None = None
    until: datetime | None = None


def list_operations(
    session: Session, which: Which, *, before: int | None = None, limit: int
) -> Sequence[OperationRow]:
    """Return operations, newest first; those with smaller ids than `before`."""
    query = select(OperationRow).order_by(OperationRow.id.desc()).limit(limit)
    if before is not None:
        query = query.where(OperationRow.id < before)
    if which.done is not None:
        query = query.where(OperationRow.done == which.done)
    if which.user_id is not None:
        query = query.where(OperationRow.user_id == which.user_id)
    if which.record is not None:
        kind, record_id = which.record
        named = OperationRow.record_ids.contains(f" {record_id} ")
        query = query.where(OperationRow.record_type == kind, named)
    if which.since is not None:
        query = query.where(OperationRow.at >= which.since)
    if which.until is not None:
        query = query.where(OperationRow.at < which.until)
    return session.scalars(query).all()


def forget_operations(session: Session, *, before: datetime) -> None:
    """Delete what is older than it has to be kept."""
    session.execute(delete(OperationRow).where(OperationRow.at < before))


def _rows(operation: Operation) -> list[dict[str, object]]:
    ids = sorted(operation.ids)
    parts = [ids[start : start + MOST_IDS] for start in range(0, len(ids), MOST_IDS)] or [[]]
    return [
        {
            "at": operation.at,
            "done": operation.done,
            **vars(operation.origin),
            "record_type": operation.record_type,
            "record_ids": f" {' '.join(map(str, part))} " if part else None,
            "detail": operation.detail,
        }
        for part in parts
    ]
