"""Failed logins, counted so that passwords cannot be guessed by trying."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta

from sqlalchemy import Integer, String
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Mapped, Session, mapped_column

from crm_core.columns import Instant
from crm_core.records import Base

ATTEMPTS = 10
"""Failures in a row after which an address is locked."""

LOCKED_FOR = timedelta(minutes=15)
"""How long after its last failure an address is locked, and how long failures count."""


class LoginFailures(Base):
    """How often logging in with an address has failed since it last succeeded."""

    __tablename__ = "login_failures"

    key: Mapped[str] = mapped_column(String(64), primary_key=True, comment="SHA-256 of the address")
    count: Mapped[int] = mapped_column(Integer)
    last_at: Mapped[datetime] = mapped_column(Instant)


def begin_attempt(session: Session, email: str, *, now: datetime) -> bool:
    """Count an attempt as failed until it succeeds; return False while the address is locked.

    Counting before the password is looked at leaves nothing to win by many attempts at once.
    """
    # Two first attempts at once must find one row: on PostgreSQL the second waits for the first here.
    kind = postgresql if session.get_bind().dialect.name == "postgresql" else sqlite
    first = kind.insert(LoginFailures).values(key=_key(email), count=0, last_at=now)
    session.execute(first.on_conflict_do_nothing())
    found = session.get_one(LoginFailures, _key(email), with_for_update=True)
    if found.last_at + LOCKED_FOR <= now:
        found.count = 0
    if found.count >= ATTEMPTS:
        return False
    found.count += 1
    found.last_at = now
    return True


def end_attempts(session: Session, email: str) -> None:
    """Forget the failures of an address after a login that succeeded."""
    found = session.get(LoginFailures, _key(email))
    if found is not None:
        session.delete(found)


def _key(email: str) -> str:
    return hashlib.sha256(email.strip().lower().encode(errors="replace")).hexdigest()
