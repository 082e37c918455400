"""The page of what somebody is told of, and the count beside the bell."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from flask import Blueprint, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user
from sqlalchemy import select, tuple_
from sqlalchemy.orm import Session

from crm_core.access import Reader
from crm_core.automation.kept import AutomationVersion
from crm_core.changes import Source
from crm_core.notifications import Notification, Occasion, list_notifications, mark_read
from crm_core.records import RECORD_TYPES, User
from serving.finding import title_of
from serving.service import page_session, writing
from serving.web.asked import whole
from serving.web.language import gettext, in_language
from serving.web.places import path_of
from serving.web.titles import told_titles

pages = Blueprint("notifications", __name__, url_prefix="/notifications")

ROWS = 25


@dataclass(frozen=True, kw_only=True)
class Told:
    """One notification as it is shown: `name` and `link` only of what the reader may see now."""

    id: int
    kind: str
    text: str
    who: str | None
    name: str | None
    link: str | None
    at: datetime
    unread: bool
    said: str | None = None
    """What a rule of automation says, in its own words."""


@pages.get("")
def list_all() -> ResponseReturnValue:
    """List what somebody was told, newest first."""
    session, user = page_session(), current_user.user
    before = request.args.get("before", type=whole)
    unread_only = request.args.get("unread") == "yes"
    found = list_notifications(session, user.id, limit=ROWS + 1, unread_only=unread_only, before=before)
    rows = _told(session, user, found[:ROWS])
    more = found[ROWS - 1].id if len(found) > ROWS else None
    return render_template("notifications.html", rows=rows, more=more, before=before, unread_only=unread_only)


@pages.post("/read")
def read() -> ResponseReturnValue:
    """Note that some have been read, or all; then go on to what one is about."""
    ids = request.form.getlist("id", type=whole)
    user = current_user.user
    with writing(user, Source.REP) as transaction:
        mark_read(transaction, user.id, ids if "id" in request.form else None)
        found = transaction.session.scalars(
            select(Notification).where(Notification.user_id == user.id, Notification.id.in_(ids[:1]))
        ).one_or_none()
        told = _told(transaction.session, user, [found] if found is not None else [])
    if request.form.get("go") and told and told[0].link:
        return redirect(told[0].link)
    if not ids:
        flash(gettext("All of it is marked as read."))
    return redirect(url_for("notifications.list_all"))


def _told(session: Session, user: User, found: Any) -> list[Told]:  # noqa: ANN401  a sequence
    reader = Reader(session, user)
    names: dict[int | None, str] = dict(session.execute(select(User.id, User.name)).all())
    called, said = _names(reader, found), _said_by_rules(session, found)
    return [
        Told(
            id=each.id,
            kind=each.kind,
            text=each.text,
            who=names.get(each.actor_id),
            name=called.get((each.about_type, each.about_id)),
            link=_link(each, called),
            at=each.created_at,
            unread=each.read_at is None,
            said=said.get(each.id),
        )
        for each in found
    ]


def _said_by_rules(session: Session, found: Any) -> dict[int, str]:  # noqa: ANN401  as below
    """Return by notification what rules of automation say in the reader's language."""
    told = {each.id: each.params for each in found if each.text == Occasion.AUTOMATION and each.params}
    rules = {(params["rule"], params["version"]) for params in told.values()}
    key = tuple_(AutomationVersion.rule_id, AutomationVersion.version)
    query = select(AutomationVersion).where(key.in_(rules))
    versions = (
        {(each.rule_id, each.version): each.declared for each in session.scalars(query)} if rules else {}
    )
    return {
        each: in_language(declared["actions"][params["action"]].get("text", ""))
        for each, params in told.items()
        if (declared := versions.get((params["rule"], params["version"])))
    }


def _names(reader: Reader, found: Any) -> dict[tuple[str | None, int | None], str]:  # noqa: ANN401  as above
    """Return what the records are called that are told of, as far as the reader sees them now."""
    called: dict[tuple[str | None, int | None], str] = {}
    for record_type in {each.about_type for each in found} & RECORD_TYPES.keys():
        model = RECORD_TYPES[str(record_type)]
        ids = [each.about_id for each in found if each.about_type == record_type]
        told = told_titles(reader, str(record_type), ids)
        for record in reader.session.scalars(reader.select(model).where(model.id.in_(ids))):
            called[record_type, record.id] = told.get(record.id) or title_of(reader.masked(record))
    return called


def _link(each: Notification, called: Any) -> str | None:  # noqa: ANN401  as above
    """Return where a notification leads: to a record that may be seen, an import, or a piece of work."""
    if each.about_type == "import":
        return url_for("imports.show", import_id=each.about_id)
    if each.about_type == "list_work":
        return url_for("list_work.show", job_id=each.about_id)
    if each.about_type is None or each.about_id is None or (each.about_type, each.about_id) not in called:
        return url_for("alerts_pages.list_all") if each.kind == "alert" else None
    return path_of(each.about_type, each.about_id)
