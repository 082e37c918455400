"""API keys: shown once, kept as a hash, each acting as one user."""

from __future__ import annotations

import hashlib
import secrets
from datetime import datetime

from sqlalchemy import ForeignKey, String, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from crm_core.columns import Instant
from crm_core.records import Base, Id, User

PREFIX = "crm_"


class Token(Base):
    """An API key of a user."""

    __tablename__ = "tokens"

    id: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), index=True)
    name: Mapped[str] = mapped_column(String(120))
    hash: Mapped[str] = mapped_column(String(64), unique=True, comment="SHA-256 of the 256-bit key")
    created_at: Mapped[datetime] = mapped_column(Instant)
    expires_at: Mapped[datetime | None] = mapped_column(Instant)
    revoked_at: Mapped[datetime | None] = mapped_column(Instant)


def create_token(
    session: Session, *, user_id: int, name: str, now: datetime, expires_at: datetime | None = None
) -> str:
    """Store a new key and return it; it cannot be read again."""
    key = PREFIX + secrets.token_urlsafe(32)
    session.add(Token(user_id=user_id, name=name, hash=_hash(key), created_at=now, expires_at=expires_at))
    session.flush()
    return key


def find_user_by_token(session: Session, key: str, *, now: datetime) -> User | None:
    """Return the active user a valid key belongs to, or None."""
    token = session.scalars(select(Token).where(Token.hash == _hash(key))).one_or_none()
    if token is None or token.revoked_at is not None:
        return None
    if token.expires_at is not None and token.expires_at <= now:
        return None
    user = session.get(User, token.user_id)
    return user if user is not None and user.active and user.deleted_at is None else None


def _hash(key: str) -> str:
    # A random 256-bit key needs no slow hash: there is nothing to guess.
    return hashlib.sha256(key.encode(errors="surrogatepass")).hexdigest()
