"""People and keys from the command line: the first administrator, new passwords, API keys."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from crm_core import migrations
from crm_core.changes import Source
from crm_core.errors import RecordNotFoundError
from crm_core.operations import Done, Operation, Origin, Via, Which, list_operations, write_operations
from crm_core.records import Role, User
from crm_core.store import Store, Transaction
from crm_core.tokens import Issued, Scope, Token, issue_token, list_tokens, revoke_token, scopes_of
from serving.auth import new_password, set_password
from serving.home import Home

_MOST_LISTED = 10_000


def init_home(home: Home, admin_email: str) -> dict[str, Any]:
    """Make a home and its database; give an administrator a password if there is nobody yet."""
    home.create()
    migrations.upgrade(home.database_url)
    store = Store(home.database_url)
    with store.transaction(source=Source.API) as transaction:
        if transaction.session.scalar(select(func.count(User.id))):
            return {"home": str(home.folder), "admin": None, "password": None}
        admin = transaction.create(User(name="Administrator", email=admin_email, role=Role.ADMIN))
        password = new_password()
        set_password(transaction.session, admin.id, password)
    return {"home": str(home.folder), "admin": admin_email, "password": password}


def make_token(
    store: Store,
    email: str,
    name: str,
    *,
    scopes: Collection[Scope] | None = None,
    lasts: timedelta | None = None,
) -> Issued:
    """Return a new API key that acts as the user with this address, within its scopes and time if any."""
    with store.transaction(source=Source.API) as transaction:
        user = _get_user(transaction.session, email)
        made = issue_token(
            transaction.session,
            user_id=user.id,
            name=name,
            now=transaction.now,
            scopes=scopes,
            expires_at=None if lasts is None else transaction.now + lasts,
        )
        _note(transaction, Done.TOKEN_MADE, user.id, made.token.id)
    return made


def list_keys(store: Store, email: str | None) -> list[dict[str, Any]]:
    """Return what is kept of the keys of the user with this address, or of everybody's, newest first."""
    with store.reading() as session:
        user_id = None if email is None else _get_user(session, email).id
        emails = {each.id: each.email for each in session.scalars(select(User))}
        found = list_tokens(session, user_id=user_id, limit=_MOST_LISTED)
        return [{"email": emails[token.user_id], **_told(token)} for token in found]


def revoke_key(store: Store, token_id: int) -> dict[str, Any]:
    """End a key for good."""
    with store.transaction(source=Source.API) as transaction:
        ended = revoke_token(transaction.session, token_id, now=transaction.now)
        _note(transaction, Done.TOKEN_REVOKED, ended.user_id, ended.id)
        return _told(ended)


def reset_password(store: Store, email: str) -> str:
    """Return a new random password of the user with this address."""
    password = new_password()
    with store.transaction(source=Source.API) as transaction:
        user = _get_user(transaction.session, email)
        set_password(transaction.session, user.id, password)
        _note(transaction, Done.PASSWORD_SET, user.id)
    return password


def find_user_id(store: Store, email: str) -> int:
    """Return the id of the user with this address."""
    with store.reading() as session:
        return _get_user(session, email).id


def note_export(store: Store, names: Collection[str], user_id: int | None) -> None:
    """Write down that records of people were exported at the command line."""
    origin = Origin(via=Via.COMMAND, user_id=user_id)
    people = [kind for kind in ("lead", "contact") if not names or kind in names]
    with store.transaction() as transaction:
        done = [
            Operation(at=transaction.now, done=Done.RECORDS_EXPORTED, origin=origin, record_type=kind)
            for kind in people
        ]
        write_operations(transaction.session, done)


def read_operations(store: Store, which: Which, *, limit: int) -> list[dict[str, Any]]:
    """Return operations, newest first, with the addresses of who did them."""
    with store.reading() as session:
        emails: dict[int | None, str] = {each.id: each.email for each in session.scalars(select(User))}
        return [
            {
                "id": row.id,
                "at": row.at.isoformat(),
                "done": row.done,
                "via": row.via,
                "user": emails.get(row.user_id),
                "token_id": row.token_id,
                "address": row.address,
                "record_type": row.record_type,
                "ids": row.ids,
                "detail": row.detail,
            }
            for row in list_operations(session, which, limit=limit)
        ]


def _note(transaction: Transaction, done: Done, user_id: int, token_id: int | None = None) -> None:
    origin = Origin(via=Via.COMMAND, user_id=user_id, token_id=token_id)
    write_operations(transaction.session, [Operation(at=transaction.now, done=done, origin=origin)])


def _told(token: Token) -> dict[str, Any]:
    instants = ("created_at", "last_used_at", "expires_at", "revoked_at")
    return {
        "id": token.id,
        "name": token.name,
        "scopes": [scope for scope in Scope if scope in scopes_of(token)],
        **{name: _iso(getattr(token, name)) for name in instants},
    }


def _iso(when: datetime | None) -> str | None:
    return None if when is None else when.isoformat()


def _get_user(session: Session, email: str) -> User:
    query = select(User).where(func.lower(User.email) == email.strip().lower(), User.deleted_at.is_(None))
    user = session.scalars(query).one_or_none()
    if user is None:
        raise RecordNotFoundError("user", email)
    return user
