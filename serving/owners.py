"""Who may be made responsible for a record, and by whom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, select, true
from sqlalchemy.orm import Session

from crm_core.access import recall_team, team_member_ids
from crm_core.errors import AccessDeniedError, RecordNotFoundError
from crm_core.phrases import Phrase
from crm_core.recall import recalled
from crm_core.records import Role, Team, User
from crm_core.tokens import works_here


def choose_owner(session: Session, user: User, owner_id: int | None) -> int | None:
    """Return who owns a record that `user` creates: the one named, or a rep themselves, or nobody yet."""
    if owner_id is None:
        return user.id if user.role == Role.REP else None
    owner = session.get(User, owner_id)
    if owner is None or owner.deleted_at is not None or not owner.active:
        raise RecordNotFoundError("user", owner_id)
    if not _may_assign(session, user, owner_id):
        raise AccessDeniedError(
            Phrase(
                "the role {role} may not make user {owner_id} responsible", role=user.role, owner_id=owner_id
            )
        )
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


def _read_teams(session: Session) -> list[tuple[int, int | None, str]]:
    rows = session.execute(select(Team.id, Team.parent_id, Team.name))
    return [(team_id, parent_id, name) for team_id, parent_id, name in rows]


@dataclass(frozen=True, kw_only=True)
class Staff:
    """All people and the tree of teams, read at once: for pages that ask much about them."""

    users: Sequence[User]
    parents: Mapping[int, int | None]
    teams: Mapping[int, str]

    @classmethod
    def read(cls, session: Session) -> Staff:
        """Read them, people by name."""
        users = session.scalars(select(User).order_by(User.name, User.id)).all()
        rows = recalled(session, "tree of teams", lambda: _read_teams(session))
        return cls(
            users=users,
            parents={key: parent for key, parent, _ in rows},
            teams={key: name for key, _, name in rows},
        )

    @property
    def names(self) -> dict[int | None, str]:
        """Return names by id."""
        return {user.id: user.name for user in self.users}

    def owners(self, user: User) -> list[User]:
        """Return the same as `list_owners`."""
        here = [one for one in self.users if one.deleted_at is None]
        if user.role == Role.REP:
            return [one for one in here if one.id == user.id]
        if user.role == Role.MANAGER:
            return [one for one in here if one.id == user.id or self.is_within(one.team_id, user.team_id)]
        return here

    def is_within(self, team_id: int | None, root: int | None) -> bool:
        """Say whether a team is another one or below it."""
        return root is not None and root in self.chain(team_id)

    def chain(self, team_id: int | None) -> list[int]:
        """Return a team and those above it, the nearest first."""
        found: list[int] = []
        while team_id is not None and team_id not in found:
            found.append(team_id)
            team_id = self.parents.get(team_id)
        return found

    def managers(self, user: User) -> list[User]:
        """Return the managers of a user's team; where it has none, those of the team above, and so on."""
        for team_id in self.chain(user.team_id):
            found = [
                one
                for one in self.users
                if one.team_id == team_id and one.role == Role.MANAGER and works_here(one)
            ]
            if found:
                return found
        return []

    def colleagues(self, user: User) -> list[User]:
        """Return whom a user may want to give something to: their people, themselves and their managers."""
        near = {one.id: one for one in [*self.owners(user), *self.managers(user)]}
        return sorted(filter(works_here, near.values()), key=lambda one: (one.name, one.id))


def _may_assign(session: Session, user: User, owner_id: int) -> bool:
    match user.role:
        case Role.ADMIN:
            return True
        case Role.MANAGER:
            return owner_id in team_member_ids(session, user)
    return owner_id == user.id
