"""People: who works here, as what, in which team; new ones, passwords, and leaving."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flask import flash, make_response, redirect, request
from flask.typing import ResponseReturnValue
from flask_login import current_user
from sqlalchemy import ColumnElement, Select, or_, select, tuple_
from sqlalchemy.orm import Session

from crm_core.errors import HandoverError, RecordNotFoundError
from crm_core.handover import has_open
from crm_core.operations import Done, Which, list_operations
from crm_core.records import Role, Team, User
from crm_core.sessions import end_sessions
from crm_core.store import Transaction
from crm_core.working_time import list_absences
from serving.auth import new_password, set_password
from serving.editing import Editor, kind_of
from serving.journal import origin_of_request
from serving.leaving import let_go
from serving.service import page_session
from serving.web.admin.shelf import ROWS, note, page, pages, to, try_to
from serving.web.asked import whole
from serving.web.language import gettext, ngettext
from serving.web.words import word

LAST_DONE = 10


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Which people the list shows."""

    text: str
    role: str
    team_id: int | None
    here: str
    """"yes": who works here, "no": who left, "all"."""
    after: str | None

    @property
    def address(self) -> dict[str, Any]:
        """What the address of the next page carries too."""
        return {"q": self.text, "role": self.role, "team": self.team_id or "", "here": self.here}


@pages.get("/people")
def list_people() -> str:
    """List the people who work here."""
    session, asked = page_session(), _asked()
    found = session.scalars(_query(asked).limit(ROWS + 1)).all()
    more = len(found) > ROWS
    return page(
        "people.html",
        people=found[:ROWS],
        teams=_teams(session),
        asked=asked,
        roles=list(Role),
        after=_mark(found[ROWS - 1]) if more else None,
    )


def _asked() -> Asked:
    here = request.args.get("here", "yes")
    return Asked(
        text=request.args.get("q", "").strip()[:200],
        role=request.args.get("role", ""),
        team_id=request.args.get("team", type=whole),
        here=here if here in {"yes", "no", "all"} else "yes",
        after=request.args.get("after") or None,
    )


def _query(asked: Asked) -> Select[User]:
    conditions: list[ColumnElement[bool]] = [User.deleted_at.is_(None)]
    if asked.text:
        within = (each.icontains(asked.text, autoescape=True) for each in (User.name, User.email))
        conditions.append(or_(*within))
    if asked.role in set(Role):
        conditions.append(User.role == asked.role)
    if asked.team_id is not None:
        conditions.append(User.team_id == asked.team_id)
    if asked.here != "all":
        conditions.append(User.active.is_(asked.here == "yes"))
    name, _, number = (asked.after or "").rpartition("|")
    if number.isascii() and number.isdigit() and len(number) < 18:
        conditions.append(tuple_(User.name, User.id) > (name, int(number)))
    return select(User).where(*conditions).order_by(User.name, User.id)


def _mark(user: User) -> str:
    return f"{user.name}|{user.id}"


def _teams(session: Session) -> Mapping[int, Team]:
    query = select(Team).where(Team.deleted_at.is_(None)).order_by(Team.name, Team.id)
    return {team.id: team for team in session.scalars(query)}


@pages.get("/people/new")
def show_new_person() -> str:
    """Show the form for somebody new."""
    return _new_form({}, None)


@pages.post("/people/new")
def create_person() -> ResponseReturnValue:
    """Hire somebody, with a first password that is shown this one time."""
    values, password = _given(), new_password()

    made: list[int] = []

    def act(transaction: Transaction) -> None:
        user = Editor(transaction, current_user.user).create(kind_of(transaction.session, "user"), values)
        set_password(transaction.session, user.id, password)
        note(transaction, Done.PASSWORD_SET, record_type="user", ids=(user.id,))
        made.append(user.id)

    refused = _incomplete(values) or try_to(act)
    if refused is not None:
        return make_response(_new_form(request.form, refused), 422)
    return _person(made[0], password=password)


def _new_form(values: Mapping[str, Any], refused: str | None) -> str:
    teams = _teams(page_session())
    return page("person_new.html", values=values, refused=refused, roles=list(Role), teams=teams)


def _given() -> dict[str, Any]:
    """Return the fields of a form about a person; an empty team is none."""
    team = request.form.get("team_id", "")
    return {
        "name": request.form.get("name", "").strip() or None,
        "email": request.form.get("email", "").strip() or None,
        "role": request.form.get("role", ""),
        "team_id": int(team) if team.isascii() and team.isdigit() and len(team) < 18 else None,
    }


@pages.get("/people/<int:user_id>")
def show_person(user_id: int) -> ResponseReturnValue:
    """Show one person, what they did last, and what can be done about them."""
    return _person(user_id)


def _person(user_id: int, *, password: str | None = None, refused: str | None = None) -> ResponseReturnValue:
    session = page_session()
    user = _get(session, user_id)
    answer = make_response(
        page(
            "person.html",
            person=user,
            roles=list(Role),
            teams=_teams(session),
            password=password,
            refused=refused,
            heirs=_heirs(session, user),
            done=list_operations(session, Which(user_id=user.id), limit=LAST_DONE),
            away=list_absences(session, user.id),
            away_path=to("save_absence_of", user_id=user.id),
        ),
        422 if refused else 200,
    )
    if password is not None:
        answer.headers["Cache-Control"] = "no-store"
    return answer


def _get(session: Session, user_id: int) -> User:
    user = session.get(User, user_id)
    if user is None or user.deleted_at is not None:
        raise RecordNotFoundError("user", user_id)
    return user


def _heirs(session: Session, leaver: User) -> Sequence[User]:
    query = select(User).where(User.deleted_at.is_(None), User.active, User.id != leaver.id)
    return session.scalars(query.order_by(User.name, User.id)).all()


@pages.post("/people/<int:user_id>")
def change_person(user_id: int) -> ResponseReturnValue:
    """Change who somebody is; nobody changes their own role or leaves by themselves."""
    values = _given()
    version = request.form.get("version", type=whole)

    def act(transaction: Transaction) -> None:
        kind = kind_of(transaction.session, "user")
        editor = Editor(transaction, current_user.user)
        editor.update(kind, user_id, values, versions=None if version is None else (version,))

    return _done(user_id, _incomplete(values) or try_to(act), gettext("Saved."))


def _incomplete(values: Mapping[str, Any]) -> str | None:
    """Return what to check where something that everybody has is missing."""
    missing = [word("field", name) for name in ("name", "email") if values[name] is None]
    return gettext("Please check: %(fields)s", fields=", ".join(missing)) if missing else None


@pages.post("/people/<int:user_id>/password")
def reset_password(user_id: int) -> ResponseReturnValue:
    """Give somebody a new password, which is shown this one time; their logins end."""
    password = new_password()

    def act(transaction: Transaction) -> None:
        user = _get(transaction.session, user_id)
        set_password(transaction.session, user.id, password)
        note(transaction, Done.PASSWORD_SET, record_type="user", ids=(user.id,))

    refused = try_to(act)
    return _person(user_id, refused=refused) if refused else _person(user_id, password=password)


@pages.post("/people/<int:user_id>/log-out")
def end_logins(user_id: int) -> ResponseReturnValue:
    """End all logins of somebody."""

    def act(transaction: Transaction) -> None:
        user = _get(transaction.session, user_id)
        end_sessions(transaction.session, user.id)
        note(transaction, Done.LOGGED_OUT_EVERYWHERE, record_type="user", ids=(user.id,))

    return _done(user_id, try_to(act), gettext("All logins have ended."))


@pages.post("/people/<int:user_id>/leave")
def leave(user_id: int) -> ResponseReturnValue:
    """Let somebody go: they cannot log in any more, and what they had goes to others, in turn."""
    chosen = {
        int(each)
        for each in request.form.getlist("heir")
        if each.isascii() and each.isdigit() and len(each) < 18
    }
    moved: dict[str, int] = {}

    def act(transaction: Transaction) -> None:
        if not chosen and has_open(transaction.session, _get(transaction.session, user_id)):
            raise HandoverError(gettext("Choose who takes over what they are working on."))
        user = current_user.user
        moved.update(let_go(transaction, user, user_id, chosen, origin=origin_of_request(user)))

    refused = try_to(act)
    count = sum(moved.values())
    said = ngettext(
        "They left. %(num)d record went to others.", "They left. %(num)d records went to others.", count
    )
    return _done(user_id, refused, said)


@pages.post("/people/<int:user_id>/return")
def come_back(user_id: int) -> ResponseReturnValue:
    """Let somebody who left work here again."""

    def act(transaction: Transaction) -> None:
        kind = kind_of(transaction.session, "user")
        Editor(transaction, current_user.user).update(kind, user_id, {"active": True, "left_at": None})

    return _done(user_id, try_to(act), gettext("They may log in again."))


def _done(user_id: int, refused: str | None, said: str) -> ResponseReturnValue:
    if refused is not None:
        return _person(user_id, refused=refused)
    flash(said)
    return redirect(to("show_person", user_id=user_id))
