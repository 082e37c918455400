"""Who may be made responsible for a record, and by whom."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import ColumnElement, select, true
from sqlalchemy.orm import Session

from crm_core.access import recall_team, team_member_ids
from crm_core.errors import AccessDeniedError, RecordNotFoundError
from crm_core.records import Role, User


def choose_owner(session: Session, user: User, owner_id: int | None) -> int | None:
    """Return who owns a record that `user` creates: the one named, or a rep themselves, or nobody yet."""
    if owner_id is None:
        return user.id if user.role == Role.REP else None
    owner = session.get(User, owner_id)
    if owner is None or owner.deleted_at is not None or not owner.active:
        raise RecordNotFoundError("user", owner_id)
    if not _may_assign(session, user, owner_id):
        raise AccessDeniedError(f"the role {user.role} may not make user {owner_id} responsible")
    return owner_id


def list_owners(session: Session, user: User) -> Sequence[User]:
    """Return the people whose records `user` may see, by name."""
    condition: ColumnElement[bool] = true()
    if user.role == Role.REP:
        condition = User.id == user.id
    elif user.role == Role.MANAGER:
        condition = User.id.in_(recall_team(session, user))
    query = select(User).where(condition, User.deleted_at.is_(None)).order_by(User.name, User.id)
    return session.scalars(query).all()


def _may_assign(session: Session, user: User, owner_id: int) -> bool:
    match user.role:
        case Role.ADMIN:
            return True
        case Role.MANAGER:
            return owner_id in team_member_ids(session, user)
    return owner_id == user.id
