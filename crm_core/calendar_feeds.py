"""Calendar feeds: a secret address by which somebody's calendar program reads what they have planned.

Only a hash of the secret is kept. A new one ends the old one, and what is given is what the person may see
when the program asks.
"""

from __future__ import annotations

import hashlib
import secrets
from datetime import datetime

from sqlalchemy import ForeignKey, String, delete, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from crm_core.columns import Instant
from crm_core.external_ids import hold_keys
from crm_core.records import Base, User
from crm_core.store import Transaction
from crm_core.tokens import works_here


class CalendarFeed(Base):
    """Somebody's feed; without a row they have none."""

    __tablename__ = "calendar_feeds"

    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), primary_key=True)
    hash: Mapped[str] = mapped_column(String(64), unique=True, comment="SHA-256 of the 256-bit secret")
    made_at: Mapped[datetime] = mapped_column(Instant)


def make_feed(transaction: Transaction, user: User) -> str:
    """Return the secret of a new feed; the one before reads nothing any more."""
    hold_keys(transaction.session, [f"calendar feed:{user.id}"])  # of two at once the later one stays
    end_feed(transaction, user)
    secret = secrets.token_urlsafe(32)
    transaction.session.add(CalendarFeed(user_id=user.id, hash=_hash(secret), made_at=transaction.now))
    transaction.session.flush()
    return secret


def end_feed(transaction: Transaction, user: User) -> None:
    """Have nobody read somebody's feed any more."""
    transaction.session.execute(delete(CalendarFeed).where(CalendarFeed.user_id == user.id))


def find_feed(session: Session, user_id: int) -> CalendarFeed | None:
    """Return somebody's feed, if there is one."""
    return session.get(CalendarFeed, user_id)


def find_reader_of_feed(session: Session, secret: str) -> User | None:
    """Return whose feed a secret reads, if they work here."""
    query = select(User).join(CalendarFeed, CalendarFeed.user_id == User.id)
    user = session.scalars(query.where(CalendarFeed.hash == _hash(secret))).one_or_none()
    return user if user is not None and works_here(user) else None


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode(errors="surrogatepass")).hexdigest()
