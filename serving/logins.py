"""Letting a person in with a password, and locking an address out after too many failures."""

from __future__ import annotations

from dataclasses import dataclass

from crm_core.logins import begin_attempt, end_attempts
from crm_core.records import User
from crm_core.store import Store
from serving.auth import find_user_by_password


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """What came of trying to log in."""

    user: User | None
    locked: bool = False


def try_password(store: Store, email: str, password: str) -> Attempt:
    """Return who logs in with this address and password, if anybody."""
    with store.transaction() as transaction:
        if not begin_attempt(transaction.session, email, now=transaction.now):
            return Attempt(user=None, locked=True)
    with store.reading() as session:
        user = find_user_by_password(session, email, password)
        session.expunge_all()
    if user is not None:
        with store.transaction() as transaction:
            end_attempts(transaction.session, email)
    return Attempt(user=user)
