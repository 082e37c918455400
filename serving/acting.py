"""Who acts at the command line: a user of the store, with that user's rights and name in the log."""

from __future__ import annotations

from sqlalchemy import func, select

from crm_core.errors import AccessDeniedError, RecordNotFoundError
from crm_core.records import Role, User
from crm_core.store import Store


def get_acting_user(store: Store, email: str | None) -> User:
    """Return the active user with an address; without one, the only administrator.

    Raises RecordNotFoundError for an unknown address, AccessDeniedError if it has to be said who acts.
    """
    query = select(User).where(User.deleted_at.is_(None), User.active.is_(True), User.left_at.is_(None))
    if email is None:
        query = query.where(User.role == Role.ADMIN)
    else:
        query = query.where(func.lower(User.email) == email.strip().lower())
    with store.reading() as session:
        found = session.scalars(query.limit(2)).all()
        session.expunge_all()
    if not found and email is not None:
        raise RecordNotFoundError("user", email)
    if len(found) != 1:
        raise AccessDeniedError("there is not just one administrator: say who acts with --as EMAIL")
    return found[0]
