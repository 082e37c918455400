"""Notifications: what somebody is told of that happened for them, until they have read it.

What a notification says is kept as words of the program, numbers and ids, never as a text that somebody
wrote: names are looked up when it is shown, by the rights of whoever reads it then. So a right that was
taken away holds for what was told before, and erasing a person needs nothing here.

Nobody is told of what they did themselves, and nobody who has left.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import BigInteger, ForeignKey, Index, ScalarSelect, String, delete, func, select, update
from sqlalchemy.orm import Mapped, Session, mapped_column

from crm_core.columns import Instant, Json
from crm_core.errors import InvalidValueError
from crm_core.records import Base, Id, User
from crm_core.store import Transaction
from crm_core.tokens import works_here

KEPT: Final = timedelta(days=180)
"""How long what was read is kept."""

_WORD: Final = re.compile(r"[a-z0-9_.:/-]{1,80}", re.ASCII)

Param = int | float | bool | str | None


class Occasion(StrEnum):
    """What a notification is about."""

    MENTION = "mention"
    ASSIGNED = "assigned"
    ALERT = "alert"
    JOB = "job"
    DUE = "due"
    AUTOMATION = "automation"
    APPROVAL = "approval"
    PAYMENT = "payment"
    MAIL = "mail"


class Notification(Base):
    """One thing that one person is told of."""

    __tablename__ = "notifications"

    id: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), comment="whom it tells")
    actor_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"), comment="whose doing it is")
    kind: Mapped[str] = mapped_column(String(40))
    about_type: Mapped[str | None] = mapped_column(String(40), comment="record type of what it is about")
    about_id: Mapped[int | None] = mapped_column(BigInteger)
    text: Mapped[str] = mapped_column(String(80), comment="which sentence it is, in words of the program")
    params: Mapped[dict[str, Any] | None] = mapped_column(Json, comment="numbers, ids and words for it")
    created_at: Mapped[datetime] = mapped_column(Instant)
    read_at: Mapped[datetime | None] = mapped_column(Instant)

    __table_args__ = (
        Index("ix_notifications_user_id_read_at_id", "user_id", "read_at", "id"),
        Index("ix_notifications_about_type_about_id", "about_type", "about_id"),
    )


def notify(
    transaction: Transaction,
    user_ids: Collection[int],
    *,
    kind: str,
    text: str | None = None,
    about: tuple[str, int] | None = None,
    params: Mapping[str, Param] | None = None,
) -> list[int]:
    """Tell people of something; return who was told: those who work here, but not who did it.

    `text` says which sentence it is (default: the kind), and `params` what goes into it. Whether somebody may
    see what it is about is for the caller to ask.
    """
    check_words(kind, text, params)
    session = transaction.session
    wanted = set(user_ids) - {transaction.actor_id}
    people = session.scalars(select(User).where(User.id.in_(wanted)).order_by(User.id)) if wanted else ()
    told = [user.id for user in people if works_here(user)]
    _forget_old(session, told, transaction.now)
    session.add_all(
        Notification(
            user_id=user_id,
            actor_id=transaction.actor_id,
            kind=kind,
            about_type=about[0] if about else None,
            about_id=about[1] if about else None,
            text=text or kind,
            params=dict(params) if params else None,
            created_at=transaction.now,
        )
        for user_id in told
    )
    session.flush()
    return told


def check_words(kind: str, text: str | None, params: Mapping[str, Param] | None) -> None:
    """Refuse whatever is no word of the program: a notification holds nothing that somebody wrote."""
    said = {"kind": kind, "text": text or kind, **(params or {})}
    for name, value in said.items():
        if isinstance(value, str) and not _WORD.fullmatch(value):
            raise InvalidValueError(f"notification.{name}", value, "a word of the program, or a number")


def list_notifications(
    session: Session, user_id: int, *, limit: int, unread_only: bool = False, before: int | None = None
) -> Sequence[Notification]:
    """Return what somebody was told, newest first; with `before`, what is older than the one with this id."""
    query = select(Notification).where(Notification.user_id == user_id)
    if unread_only:
        query = query.where(Notification.read_at.is_(None))
    if before is not None:
        query = query.where(Notification.id < before)
    return session.scalars(query.order_by(Notification.id.desc()).limit(limit)).all()


def unread_count(user_id: int) -> ScalarSelect[int]:
    """Return the query of how many notifications somebody has not read."""
    mine = select(func.count()).select_from(Notification).where(Notification.user_id == user_id)
    return mine.where(Notification.read_at.is_(None)).scalar_subquery()


def count_unread(session: Session, user_id: int) -> int:
    """Return how many notifications somebody has not read."""
    return session.scalar(select(unread_count(user_id))) or 0


def mark_read(transaction: Transaction, user_id: int, ids: Collection[int] | None = None) -> int:
    """Note that somebody has read some of their notifications, or all; return how many were unread."""
    unread = update(Notification).where(Notification.user_id == user_id, Notification.read_at.is_(None))
    if ids is not None:
        unread = unread.where(Notification.id.in_(ids))
    done = transaction.session.execute(unread.values(read_at=transaction.now).returning(Notification.id))
    return len(done.all())


def mark_read_about(transaction: Transaction, user_id: int, about: tuple[str, int]) -> int:
    """Note that somebody has looked at a record: what told of it is read; return how many were unread."""
    unread = update(Notification).where(
        Notification.user_id == user_id,
        Notification.read_at.is_(None),
        Notification.about_type == about[0],
        Notification.about_id == about[1],
    )
    done = transaction.session.execute(unread.values(read_at=transaction.now).returning(Notification.id))
    return len(done.all())


def _forget_old(session: Session, user_ids: Collection[int], now: datetime) -> None:
    """Remove what people read long ago, whenever they are told of something new."""
    old = delete(Notification).where(Notification.user_id.in_(user_ids), Notification.read_at < now - KEPT)
    session.execute(old, execution_options={"synchronize_session": False})
