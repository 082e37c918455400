"""Mails as rows: which went out and came in, what answers what, and what became of each.

What a mail says to people is an activity on the record that it is about; a row here is what mail programs
know of it: its id, whom it came from and went to, and which mails it answers. Mails of ours carry an id that
begins with `crm-`; a reply, a bounce or a copy of it is told by that id, whatever stands behind the @.

A mail is here once, however often it arrives: by IMAP, as a copy and as a file.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum
from typing import Final

from sqlalchemy import BigInteger, ForeignKey, Index, String, Text, select, union_all
from sqlalchemy.orm import Mapped, Session, mapped_column

from crm_core.addresses import mail_key
from crm_core.columns import Instant, Json
from crm_core.records import Base, Contact, Direction, Id, Lead
from crm_core.search import nearest

LONGEST_ID: Final = 120
LONGEST_TEXT: Final = 200_000
MOST_REFERENCES: Final = 50
"""Ids that are kept of what a mail answers, the last ones."""

OURS: Final = re.compile(r"crm-[0-9a-f]{32}")

_NEAREST: Final = 50
"""Records with a mail address alike that are looked at."""


class MessageKind(StrEnum):
    """What a mail is for, which decides whether people must have agreed to it."""

    DIRECT = "direct"
    SERVICE = "service"
    MARKETING = "marketing"


MARKETING_KINDS: Final = frozenset({MessageKind.MARKETING})
"""Kinds that only go to people who agreed, with a way out in each mail."""


class MessageState(StrEnum):
    """What became of a mail."""

    QUEUED = "queued"
    SENT = "sent"
    REPLIED = "replied"
    BOUNCED = "bounced"
    FAILED = "failed"
    RECEIVED = "received"
    TRAY = "tray"
    DROPPED = "dropped"


class Message(Base):
    """One mail."""

    __tablename__ = "messages"

    id: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=True)
    message_id: Mapped[str] = mapped_column(String(LONGEST_ID), unique=True, comment="see `kept_id`")
    key: Mapped[str | None] = mapped_column(
        String(120), unique=True, comment="names the cause, if it has one"
    )
    direction: Mapped[str] = mapped_column(String(10))
    kind: Mapped[str] = mapped_column(String(20), comment="direct, service or marketing")
    state: Mapped[str] = mapped_column(String(10))
    from_address: Mapped[str | None] = mapped_column(String(320))
    to_addresses: Mapped[list[str]] = mapped_column(Json)
    subject: Mapped[str | None] = mapped_column(String(300))
    text: Mapped[str | None] = mapped_column(Text, comment="the whole of one that came in, quotes included")
    in_reply_to: Mapped[str | None] = mapped_column(String(LONGEST_ID))
    references: Mapped[list[str] | None] = mapped_column(Json, comment="ids of the mails that it answers")
    about_type: Mapped[str | None] = mapped_column(String(40), comment="record type of what it is about")
    about_id: Mapped[int | None] = mapped_column(BigInteger)
    activity_id: Mapped[int | None] = mapped_column(ForeignKey("activities.id"))
    sender_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"), comment="the colleague who sent it")
    template_id: Mapped[int | None] = mapped_column(BigInteger)
    run_id: Mapped[int | None] = mapped_column(BigInteger, comment="of somebody's way through a sequence")
    step: Mapped[int | None]
    leave_token: Mapped[str | None] = mapped_column(
        String(43), unique=True, comment="by which its receiver unsubscribes"
    )
    source: Mapped[str] = mapped_column(String(10), comment="crm, imap, upload or api")
    problem: Mapped[str | None] = mapped_column(String(300), comment="why it did not arrive")
    recorded_at: Mapped[datetime] = mapped_column(Instant)
    sent_at: Mapped[datetime | None] = mapped_column(Instant)
    replied_at: Mapped[datetime | None] = mapped_column(Instant)
    bounced_at: Mapped[datetime | None] = mapped_column(Instant)
    unsubscribed_at: Mapped[datetime | None] = mapped_column(Instant)

    __table_args__ = (
        Index("ix_messages_activity_id", "activity_id"),
        Index("ix_messages_about_type_about_id", "about_type", "about_id"),
        Index("ix_messages_run_id", "run_id"),
        Index("ix_messages_template_id", "template_id"),
    )


class DeadAddress(Base):
    """An address that mails do not reach."""

    __tablename__ = "dead_addresses"

    address: Mapped[str] = mapped_column(String(320), primary_key=True, comment="as it is compared")
    problem: Mapped[str | None] = mapped_column(String(300))
    bounced_at: Mapped[datetime] = mapped_column(Instant)


def new_message_id() -> str:
    """Return an id for a mail of ours; the domain is put behind it when it is sent."""
    return f"crm-{secrets.token_hex(16)}"


def kept_id(written: str | None) -> str | None:
    """Return a Message-ID as it is kept: ours without their domain, long ones as a hash; None for none."""
    plain = (written or "").strip().strip("<>").strip()
    if not plain or any(each.isspace() or not each.isprintable() for each in plain):
        return None
    local = plain.partition("@")[0]
    if OURS.fullmatch(local):
        return local
    if len(plain) > LONGEST_ID:
        return f"sha256-{hashlib.sha256(plain.encode()).hexdigest()}"
    return plain


def written_id(kept: str, domain: str) -> str | None:
    """Return an id as mail programs write it; None for one of which only the hash is kept."""
    if OURS.fullmatch(kept):
        return f"<{kept}@{domain}>"
    return None if kept.startswith("sha256-") else f"<{kept}>"


def find_message(session: Session, message_id: str) -> Message | None:
    """Return the mail with an id, as it is kept."""
    return session.scalars(select(Message).where(Message.message_id == message_id)).one_or_none()


def find_answered(session: Session, ids: Iterable[str]) -> Message | None:
    """Return the last of some mails that we know, by their ids in order."""
    wanted = list(dict.fromkeys(ids))
    found = {
        each.message_id: each
        for each in session.scalars(select(Message).where(Message.message_id.in_(wanted)))
    }
    return next((found[each] for each in reversed(wanted) if each in found), None)


def people_with(session: Session, address: str) -> list[Lead | Contact]:
    """Return the leads and contacts that have a mail address, however it is spelt, and are not deleted."""
    key = mail_key(address)
    near = nearest(session, key, ("lead", "contact"), limit=_NEAREST) if key else {}
    found: list[Lead | Contact] = []
    models: tuple[type[Lead | Contact], ...] = (Lead, Contact)
    for model in models:
        ids = near[model.record_type].tolist() if near else []
        if ids:
            query = select(model).where(model.id.in_(ids), model.deleted_at.is_(None)).order_by(model.id)
            rows: Iterable[Lead | Contact] = session.scalars(query)
            found += [each for each in rows if mail_key(each.email) == key]
    return found


def consents_with(session: Session, address: str) -> set[str | None]:
    """Return what the same people said to being written to."""
    key = mail_key(address)
    near = nearest(session, key, ("lead", "contact"), limit=_NEAREST) if key else {}
    models: tuple[type[Lead | Contact], ...] = (Lead, Contact)
    parts = [
        select(model.email, model.consent).where(model.id.in_(ids), model.deleted_at.is_(None))
        for model in models
        if near and (ids := near[model.record_type].tolist())
    ]
    found = session.execute(union_all(*parts)) if parts else ()
    return {consent for email, consent in found if mail_key(email) == key}


def find_dead(session: Session, address: str) -> DeadAddress | None:
    """Return what is known of an address that mails do not reach."""
    key = mail_key(address)
    return None if key is None else session.get(DeadAddress, key)


def is_outbound(message: Message) -> bool:
    """Tell whether we sent a mail."""
    return message.direction == Direction.OUTBOUND
