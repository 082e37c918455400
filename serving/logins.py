"""Letting a person in with a password, and locking an address out after too many failures."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import func, select

from crm_core.logins import begin_attempt, end_attempts
from crm_core.operations import Done, Operation, Origin, Via, write_operations
from crm_core.records import User
from crm_core.store import Store, Transaction
from serving.auth import find_user_by_password


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """What came of trying to log in."""

    user: User | None
    locked: bool = False


def try_password(store: Store, email: str, password: str, *, address: str | None = None) -> Attempt:
    """Return who logs in with this mail address and password, if anybody; the operation log tells of it.

    `address` is where on the network they are.
    """
    with store.transaction() as transaction:
        if not begin_attempt(transaction.session, email, now=transaction.now):
            _write_down(transaction, Done.LOGIN_LOCKED, email, address)
            return Attempt(user=None, locked=True)
    with store.reading() as session:
        user = find_user_by_password(session, email, password)
        session.expunge_all()
    with store.transaction() as transaction:
        if user is not None:
            end_attempts(transaction.session, email)
        _write_down(transaction, Done.LOGIN_FAILED if user is None else Done.LOGGED_IN, email, address)
    return Attempt(user=user)


def _write_down(transaction: Transaction, done: Done, email: str, address: str | None) -> None:
    # What was typed is not kept: it may be anything, a password too.
    meant = select(User.id).where(func.lower(User.email) == email.strip().lower())
    user_id = transaction.session.scalar(meant)
    origin = Origin(via=Via.PAGE, user_id=user_id, address=address)
    write_operations(transaction.session, [Operation(at=transaction.now, done=done, origin=origin)])
