"""API keys: shown once, kept as a hash, each acting as one user within what the key was made for."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ForeignKey, String, or_, select, update
from sqlalchemy.orm import Mapped, Session, mapped_column

from crm_core.columns import Instant, check_text
from crm_core.errors import AccessDeniedError, InvalidValueError, RecordNotFoundError
from crm_core.phrases import Phrase
from crm_core.records import Base, Id, User
from crm_core.scopes import Scope as Scope  # noqa: PLC0414  offered here too

PREFIX = "crm_"

LONGEST_NAME = 120

NOTED_EVERY = timedelta(minutes=1)
"""How much older than its last use what a key says of it may be: reading must not mean writing."""


EVERYTHING = frozenset(Scope)


class Token(Base):
    """An API key of a user."""

    __tablename__ = "tokens"

    id: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), index=True)
    name: Mapped[str] = mapped_column(String(LONGEST_NAME))
    hash: Mapped[str] = mapped_column(String(64), unique=True, comment="SHA-256 of the 256-bit key")
    scopes: Mapped[str | None] = mapped_column(
        String(80), comment="what it was made for, with spaces between; null: everything"
    )
    created_at: Mapped[datetime] = mapped_column(Instant)
    last_used_at: Mapped[datetime | None] = mapped_column(Instant, comment="to about a minute")
    expires_at: Mapped[datetime | None] = mapped_column(Instant)
    revoked_at: Mapped[datetime | None] = mapped_column(Instant)


@dataclass(frozen=True, kw_only=True)
class Holder:
    """Who calls with a key, and what the key was made for."""

    user: User
    token_id: int
    scopes: frozenset[Scope]
    last_used_at: datetime | None
    expires_at: datetime | None

    def was_noted(self, now: datetime) -> bool:
        """Tell whether the key's last use is known well enough."""
        return self.last_used_at is not None and now - self.last_used_at < NOTED_EVERY


@dataclass(frozen=True, kw_only=True)
class Issued:
    """A new key, which cannot be read again, and what is kept of it."""

    token: Token
    key: str


def issue_token(
    session: Session,
    *,
    user_id: int,
    name: str,
    now: datetime,
    expires_at: datetime | None = None,
    scopes: Collection[Scope] | None = None,
) -> Issued:
    """Make a key and store what is kept of it. Without scopes it is for everything."""
    check_text("name", name, longest=LONGEST_NAME)
    if expires_at is not None and expires_at <= now:
        raise InvalidValueError("expires_at", expires_at.isoformat(), "an instant that is yet to come")
    if scopes is not None and not scopes:
        raise InvalidValueError(
            "scopes", "nothing", Phrase("at least one of {choices}", choices=tuple(Scope))
        )
    key = PREFIX + secrets.token_urlsafe(32)
    token = Token(
        user_id=user_id,
        name=name,
        hash=_hash(key),
        created_at=now,
        expires_at=expires_at,
        scopes=None if scopes is None else _as_text(scopes),
    )
    session.add(token)
    session.flush()
    return Issued(token=token, key=key)


def create_token(
    session: Session,
    *,
    user_id: int,
    name: str,
    now: datetime,
    expires_at: datetime | None = None,
    scopes: Collection[Scope] | None = None,
) -> str:
    """Return a new key, as `issue_token` makes it."""
    return issue_token(session, user_id=user_id, name=name, now=now, expires_at=expires_at, scopes=scopes).key


def find_holder(session: Session, key: str, *, now: datetime) -> Holder | None:
    """Return who a valid key belongs to and what it is for, or None; the user must be working here."""
    query = select(Token, User).join(User, User.id == Token.user_id).where(Token.hash == _hash(key))
    found = session.execute(query).one_or_none()
    if found is None:
        return None
    token, user = found
    if has_ended(token, now) or not works_here(user):
        return None
    return Holder(
        user=user,
        token_id=token.id,
        scopes=scopes_of(token),
        last_used_at=token.last_used_at,
        expires_at=token.expires_at,
    )


def find_user_by_token(session: Session, key: str, *, now: datetime) -> User | None:
    """Return the active user a valid key belongs to, or None."""
    holder = find_holder(session, key, now=now)
    return None if holder is None else holder.user


def note_use(session: Session, token_id: int, *, now: datetime) -> None:
    """Write down that a key was used, unless that is known well enough already."""
    stale = or_(Token.last_used_at.is_(None), Token.last_used_at <= now - NOTED_EVERY)
    session.execute(update(Token).where(Token.id == token_id, stale).values(last_used_at=now))


def revoke_token(session: Session, token_id: int, *, now: datetime, user_id: int | None = None) -> Token:
    """End a key for good; with `user_id` only one of that user. Revoking again changes nothing."""
    token = session.get(Token, token_id, with_for_update=True)
    if token is None or user_id not in {None, token.user_id}:
        raise RecordNotFoundError("token", token_id)
    token.revoked_at = token.revoked_at or now
    return token


def list_tokens(
    session: Session, *, user_id: int | None = None, before: int | None = None, limit: int = 200
) -> Sequence[Token]:
    """Return keys, newest first: those of a user, or everybody's; those with smaller ids than `before`."""
    query = select(Token).order_by(Token.id.desc()).limit(limit)
    if user_id is not None:
        query = query.where(Token.user_id == user_id)
    if before is not None:
        query = query.where(Token.id < before)
    return session.scalars(query).all()


def scopes_of(token: Token) -> frozenset[Scope]:
    """Return what a key was made for; one that says nothing is for everything."""
    return EVERYTHING if token.scopes is None else frozenset(map(Scope, token.scopes.split()))


def works_here(user: User) -> bool:
    """Tell whether a user may come in at all."""
    return user.active and user.deleted_at is None and user.left_at is None


def check_works_here(user: User) -> None:
    """Raise AccessDeniedError for somebody who may not come in any more: what they started ends with that."""
    if not works_here(user):
        raise AccessDeniedError("whoever started it does not work here any more")


def has_ended(token: Token, now: datetime) -> bool:
    """Tell whether a key opens nothing any more."""
    return token.revoked_at is not None or (token.expires_at is not None and token.expires_at <= now)


def _as_text(scopes: Collection[Scope]) -> str:
    return " ".join(scope for scope in Scope if scope in scopes)


def _hash(key: str) -> str:
    # A random 256-bit key needs no slow hash: there is nothing to guess.
    return hashlib.sha256(key.encode(errors="surrogatepass")).hexdigest()
