"""The page of what somebody is told of, and the count beside the bell."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from flask import Blueprint, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user
from sqlalchemy import select
from sqlalchemy.orm import Session

from crm_core.access import Reader
from crm_core.changes import Source
from crm_core.notifications import Notification, list_notifications, mark_read
from crm_core.records import User
from serving.service import page_session, writing
from serving.told import names_of, said_by_rules
from serving.web.asked import whole
from serving.web.language import gettext, in_language
from serving.web.places import path_of
from serving.web.titles import told_of

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
    called, said = names_of(reader, found), said_by_rules(session, found)
    called |= told_of(reader, called)
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
            said=in_language(said[each.id]) if each.id in said else None,
        )
        for each in found
    ]


def _link(each: Notification, called: Any) -> str | None:  # noqa: ANN401  as above
    """Return where a notification leads: to a record that may be seen, an import, or a piece of work."""
    if each.about_type == "import":
        return url_for("imports.show", import_id=each.about_id)
    if each.about_type == "list_work":
        return url_for("list_work.show", job_id=each.about_id)
    if each.about_type is None or each.about_id is None or (each.about_type, each.about_id) not in called:
        return url_for("alerts_pages.list_all") if each.kind == "alert" else None
    return path_of(each.about_type, each.about_id)
