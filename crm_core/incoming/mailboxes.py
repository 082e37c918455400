"""How far a mailbox was read: the UID up to which, and the validity of its UIDs (RFC 3501)."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import BigInteger, String, or_, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from crm_core.columns import Instant
from crm_core.records import Base
from crm_core.store import Transaction


class Mailbox(Base):
    """A folder that is read, and who reads it now."""

    __tablename__ = "mailboxes"

    name: Mapped[str] = mapped_column(String(200), primary_key=True, comment="user, server and folder")
    uid_validity: Mapped[int] = mapped_column(BigInteger)
    last_uid: Mapped[int] = mapped_column(BigInteger)
    leased_by: Mapped[str | None] = mapped_column(String(80))
    leased_until: Mapped[datetime | None] = mapped_column(Instant)
    looked_at: Mapped[datetime | None] = mapped_column(Instant, comment="when all of it was read last")
    problem: Mapped[str | None] = mapped_column(String(300), comment="why it could not be read since")


def find_mailbox(session: Session, name: str) -> Mailbox | None:
    """Return how far a mailbox was read, if it ever was."""
    return session.get(Mailbox, name)


def hold_mailbox(transaction: Transaction, name: str, *, by: str, lease: timedelta) -> bool:
    """Have one process read a mailbox; False while another one does."""
    session, now = transaction.session, transaction.now
    if session.get(Mailbox, name) is None:
        session.add(Mailbox(name=name, uid_validity=0, last_uid=0))
        session.flush()
    free = or_(Mailbox.leased_by.is_(None), Mailbox.leased_by == by, Mailbox.leased_until <= now)
    held = session.scalars(select(Mailbox).where(Mailbox.name == name, free).with_for_update()).one_or_none()
    if held is None:
        return False
    held.leased_by, held.leased_until = by[:80], now + lease
    session.flush()
    return True


def begin_at(transaction: Transaction, name: str, uid_validity: int) -> int:
    """Return the UID after which to read; from the start where the server numbers its mails anew."""
    box = transaction.session.get_one(Mailbox, name, with_for_update=True)
    if box.uid_validity != uid_validity:
        box.uid_validity, box.last_uid = uid_validity, 0
    return box.last_uid


def note_read(transaction: Transaction, name: str, uid_validity: int, uid: int) -> None:
    """Note that a mail was taken, in the transaction that takes it."""
    box = transaction.session.get_one(Mailbox, name, with_for_update=True)
    if box.uid_validity == uid_validity:
        box.last_uid = max(box.last_uid, uid)


def note_looked(transaction: Transaction, name: str, problem: str | None) -> None:
    """Note that a mailbox was read to its end, or why not; whoever held it lets go."""
    box = transaction.session.get_one(Mailbox, name, with_for_update=True)
    box.problem = problem[:300] if problem else None
    if problem is None:
        box.looked_at = transaction.now
    box.leased_by, box.leased_until = None, None
