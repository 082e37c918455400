"""Who may see what: one place that every query, list and score goes through.

Reps see what they own, managers what their team and the teams below own, analysts and admins everything.
Records without an owner are seen by managers, analysts and admins. Analysts change nothing.
"""

from __future__ import annotations

from typing import TypeVar

from sqlalchemy import ColumnElement, false, or_, select, true
from sqlalchemy.orm import Session

from crm_core.errors import AccessDeniedError, RecordNotFoundError
from crm_core.records import Account, Contact, Deal, Lead, Role, Team, User

OwnedRecord = Lead | Deal | Account | Contact
R = TypeVar("R", Lead, Deal, Account, Contact)


def visible(session: Session, user: User, model: type[OwnedRecord]) -> ColumnElement[bool]:
    """Return the condition that a record of `model` is one that `user` may see; deny by default."""
    match user.role:
        case Role.REP:
            return model.owner_id == user.id
        case Role.MANAGER:
            return or_(model.owner_id.in_(team_member_ids(session, user)), model.owner_id.is_(None))
        case Role.ANALYST | Role.ADMIN:
            return true()
    return false()


def get_visible(session: Session, user: User, model: type[R], record_id: int) -> R:
    """Return a record that `user` may see; one they may not see does not exist for them."""
    query = select(model).where(
        model.id == record_id, model.deleted_at.is_(None), visible(session, user, model)
    )
    found = session.scalars(query).one_or_none()
    if found is None:
        raise RecordNotFoundError(model.record_type, record_id)
    return found


def check_may_write(user: User) -> None:
    """Raise AccessDeniedError for a role that only reads."""
    if user.role not in {Role.REP, Role.MANAGER, Role.ADMIN}:
        msg = f"the role {user.role} may read but not change records"
        raise AccessDeniedError(msg)


def check_may_promote(user: User) -> None:
    """Raise AccessDeniedError for a role that may not choose which model serves."""
    if user.role not in {Role.ANALYST, Role.ADMIN}:
        msg = f"the role {user.role} may not promote or roll back models"
        raise AccessDeniedError(msg)


def team_member_ids(session: Session, user: User) -> list[int]:
    """Return the ids of `user` and of everybody in their team and the teams below it."""
    teams = _team_tree(session, user.team_id)
    return [user.id, *session.scalars(select(User.id).where(User.team_id.in_(teams)))]


def _team_tree(session: Session, root: int | None) -> set[int]:
    """Return the team and all teams below it."""
    if root is None:
        return set()
    children: dict[int | None, list[int]] = {}
    for team_id, parent_id in session.execute(select(Team.id, Team.parent_id)):
        children.setdefault(parent_id, []).append(team_id)
    found: set[int] = set()
    waiting = [root]
    while waiting:
        team = waiting.pop()
        if team not in found:
            found.add(team)
            waiting.extend(children.get(team, ()))
    return found
