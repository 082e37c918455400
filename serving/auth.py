"""Who is asking: API keys for programs, passwords and sessions for people."""

from __future__ import annotations

import hashlib
import secrets
from datetime import datetime, timedelta
from functools import cache

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from flask import request
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from crm_core.columns import check_text
from crm_core.errors import InvalidValueError
from crm_core.phrases import Phrase
from crm_core.recall import recalled
from crm_core.records import User
from crm_core.sessions import begin_session, end_sessions, find_logged_in
from crm_core.store import Store
from crm_core.tokens import PREFIX, Holder, find_holder, works_here

SHORTEST_PASSWORD = 10
_LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"  # without those that look alike


_HASHER = PasswordHasher()
"""Its own defaults, which follow RFC 9106 and rise with the library."""


def _hasher() -> PasswordHasher:
    return _HASHER


@cache
def _hash_of_nothing() -> str:
    """A hash that no password fits: with it, unknown people cost the same time as known ones."""
    return _hasher().hash(secrets.token_urlsafe(32))


class Person:
    """A logged-in person, as Flask-Login wants one; `key` is what their browser keeps of the login."""

    is_authenticated = True
    is_active = True
    is_anonymous = False

    def __init__(self, user: User, key: str) -> None:
        self.user = user
        self.key = key

    def get_id(self) -> str:
        """Return what the session keeps."""
        return self.key


def let_in(store: Store, user: User, *, lasts: timedelta) -> Person:
    """Begin a login of a user, which ends by itself after that time."""
    with store.transaction() as transaction:
        key = begin_session(transaction.session, user.id, now=transaction.now, lasts=lasts)
    return Person(user, key)


def find_person(store: Store, key: str, *, lasts: timedelta) -> Person | None:
    """Return the person a login belongs to, or None if it has ended or they may not work here any more."""
    with store.reading() as session:
        user = find_logged_in(session, key, now=store.clock.now(), lasts=lasts)
        session.expunge_all()
    return None if user is None else Person(user, key)


def find_user_by_password(session: Session, email: str, password: str) -> User | None:
    """Return the person with this address and password; an unknown address takes as long as a known one."""
    query = select(User).where(func.lower(User.email) == email.strip().lower())
    found = session.scalars(query).all()
    user = found[0] if len(found) == 1 else None  # of two addresses that differ in case, neither is meant
    known = user is not None and works_here(user)
    stored = user.password_hash if user is not None and known else None
    fits = _verify(stored or _hash_of_nothing(), password)
    return user if stored and fits else None


def set_password(session: Session, user_id: int, password: str) -> None:
    """Set a person's password; only its hash is kept, and who was logged in as them is no more.

    It is written beside the change log: a credential is no fact of the business, and old hashes should go.
    """
    hashed = hash_password(password)
    session.execute(update(User).where(User.id == user_id).values(password_hash=hashed))
    end_sessions(session, user_id)


def hash_password(password: str) -> str:
    """Return what is kept of a password; one that is too short is refused."""
    check_text("password", password, longest=1_000)
    if len(password) < SHORTEST_PASSWORD:
        expected = Phrase("at least {shortest_password} characters", shortest_password=SHORTEST_PASSWORD)
        raise InvalidValueError("password", Phrase("{count} characters", count=len(password)), expected)
    return _hasher().hash(password)


def new_password() -> str:
    """Return a random password of 70 bits that is easy to type."""
    groups = ("".join(secrets.choice(_LETTERS) for _ in range(5)) for _ in range(3))
    return "-".join(groups)


def find_caller(store: Store) -> Holder | None:
    """Return who holds the request's API key, or None."""
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    key = key.strip()
    if scheme.lower() != "bearer" or not key.startswith(PREFIX):
        return None
    now = store.clock.now()
    mark = hashlib.sha256(key.encode(errors="surrogatepass")).digest()
    with store.reading() as session:
        holder = recalled(session, ("key", mark), lambda: _read_holder(session, key, now))
    if holder is None or (holder.expires_at is not None and holder.expires_at <= now):
        return None
    return holder


def _read_holder(session: Session, key: str, now: datetime) -> Holder | None:
    holder = find_holder(session, key, now=now)
    session.expunge_all()
    return holder


def _verify(stored: str, password: str) -> bool:
    try:
        return _hasher().verify(stored, password)
    except (VerificationError, InvalidHashError):
        return False
