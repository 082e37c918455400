"""Teams: a tree that says whose records a manager sees."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flask import flash, make_response, redirect, request
from flask.typing import ResponseReturnValue
from flask_login import current_user
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from crm_core.records import Team, User
from crm_core.store import Transaction
from serving.editing import Editor, kind_of
from serving.service import page_session
from serving.web.admin.shelf import page, pages, to, try_to
from serving.web.asked import whole
from serving.web.language import gettext


@dataclass(frozen=True, kw_only=True)
class Branch:
    """A team, how deep it stands in the tree, and how many work in it itself."""

    team: Team
    depth: int
    people: int


@pages.get("/teams")
def list_teams() -> str:
    """Show the tree of teams."""
    return _show(None)


@pages.post("/teams")
def create_team() -> ResponseReturnValue:
    """Make a team."""
    values = {name: value for name, value in _given().items() if value is not None}

    def act(transaction: Transaction) -> None:
        Editor(transaction, current_user.user).create(kind_of(transaction.session, "team"), values)

    return _done(_refused_name() or try_to(act), gettext("The team is there."))


@pages.post("/teams/<int:team_id>")
def change_team(team_id: int) -> ResponseReturnValue:
    """Give a team another name or another place in the tree."""
    version = request.form.get("version", type=whole)

    def act(transaction: Transaction) -> None:
        Editor(transaction, current_user.user).update(
            kind_of(transaction.session, "team"),
            team_id,
            _given(),
            versions=None if version is None else (version,),
        )

    return _done(_refused_name() or try_to(act), gettext("Saved."))


@pages.post("/teams/<int:team_id>/delete")
def delete_team(team_id: int) -> ResponseReturnValue:
    """Delete a team that nobody belongs to any more."""

    def act(transaction: Transaction) -> None:
        Editor(transaction, current_user.user).delete(kind_of(transaction.session, "team"), team_id)

    return _done(try_to(act), gettext("The team is deleted."))


def _given() -> dict[str, Any]:
    parent = request.form.get("parent_id", "")
    return {
        "name": request.form.get("name", "").strip() or None,
        "parent_id": int(parent) if parent.isascii() and parent.isdigit() and len(parent) < 18 else None,
    }


def _refused_name() -> str | None:
    return None if _given()["name"] else gettext("A team needs a name.")


def _done(refused: str | None, said: str) -> ResponseReturnValue:
    if refused is not None:
        return make_response(_show(refused), 422)
    flash(said)
    return redirect(to("list_teams"))


def _show(refused: str | None) -> str:
    return page("teams.html", branches=list(_branches(page_session())), refused=refused)


def _branches(session: Session) -> Iterator[Branch]:
    """Yield the teams as the tree is read, from the top; one whose parent is gone stands at the top."""
    teams = session.scalars(select(Team).where(Team.deleted_at.is_(None)).order_by(Team.name, Team.id)).all()
    here = (User.deleted_at.is_(None), User.active)
    counted = select(User.team_id, func.count()).where(*here).group_by(User.team_id)
    people = {team_id: number for team_id, number in session.execute(counted)}  # noqa: C416  rows, not pairs
    known = {team.id for team in teams}
    below: dict[int | None, list[Team]] = {}
    for team in teams:
        below.setdefault(team.parent_id if team.parent_id in known else None, []).append(team)
    yield from _walk(below, None, 0, people)


def _walk(
    below: Mapping[int | None, Sequence[Team]],
    parent: int | None,
    depth: int,
    people: Mapping[int | None, int],
) -> Iterator[Branch]:
    for team in below.get(parent, ()):
        yield Branch(team=team, depth=depth, people=people.get(team.id, 0))
        yield from _walk(below, team.id, depth + 1, people)
