"""Who is logged in where: each login is a row that can be ended from here, whatever a browser keeps."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache

from sqlalchemy import ForeignKey, Select, String, bindparam, delete, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from crm_core.columns import Instant
from crm_core.recall import WRITES, compare_writes
from crm_core.records import Base, Id, User
from crm_core.tokens import works_here

_MOST_LISTED = 20


class LoginSession(Base):
    """A login that has not ended."""

    __tablename__ = "login_sessions"

    id: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), index=True)
    hash: Mapped[str] = mapped_column(String(64), unique=True, comment="SHA-256 of what the browser keeps")
    created_at: Mapped[datetime] = mapped_column(Instant)


def begin_session(session: Session, user_id: int, *, now: datetime, lasts: timedelta) -> str:
    """Write down a login and return what the browser keeps of it; logins that are over are forgotten."""
    session.execute(delete(LoginSession).where(LoginSession.created_at <= now - lasts))
    key = secrets.token_urlsafe(32)
    session.add(LoginSession(user_id=user_id, hash=_hash(key), created_at=now))
    session.flush()
    return key


def find_logged_in(session: Session, key: str, *, now: datetime, lasts: timedelta) -> User | None:
    """Return the user whose login a browser keeps, unless it has ended or they no longer work here."""
    found = session.execute(_query_of_logged_in(), {"key": _hash(key), "since": now - lasts}).one_or_none()
    if found is None:
        return None
    user, writes = found
    compare_writes(session, writes)
    return user if works_here(user) else None


@cache
def _query_of_logged_in() -> Select[User, int | None]:
    """Return the query that every page asks, with whether what is recalled still stands; it is built once."""
    since = bindparam("since", type_=Instant)
    still = (LoginSession.hash == bindparam("key"), LoginSession.created_at > since)
    return select(User, WRITES).join(LoginSession, LoginSession.user_id == User.id).where(*still)


def end_session(session: Session, key: str) -> None:
    """End one login."""
    session.execute(delete(LoginSession).where(LoginSession.hash == _hash(key)))


def end_sessions(session: Session, user_id: int) -> None:
    """End all logins of a user."""
    session.execute(delete(LoginSession).where(LoginSession.user_id == user_id))


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode(errors="surrogatepass")).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Login:
    """A login that has not ended; `here` is the one that asks."""

    id: int
    created_at: datetime
    here: bool


def list_logins(session: Session, user_id: int, key: str, *, now: datetime, lasts: timedelta) -> list[Login]:
    """Return the newest logins of a user; `key` is what the asking browser keeps."""
    alive = select(LoginSession).where(LoginSession.user_id == user_id, LoginSession.created_at > now - lasts)
    found = session.scalars(alive.order_by(LoginSession.id.desc()).limit(_MOST_LISTED))
    return [Login(id=each.id, created_at=each.created_at, here=each.hash == _hash(key)) for each in found]


def end_session_of(session: Session, user_id: int, login_id: int) -> None:
    """End one login of a user, if it is theirs."""
    theirs = (LoginSession.id == login_id, LoginSession.user_id == user_id)
    session.execute(delete(LoginSession).where(*theirs))
