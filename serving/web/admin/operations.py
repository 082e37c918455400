"""The operation log: who came in, who read what about people, who set which right."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from flask import request
from sqlalchemy import select

from crm_core.errors import InvalidValueError
from crm_core.operations import Done, Which, list_operations
from crm_core.records import User
from serving.service import page_session, service
from serving.web.admin.shelf import ROWS, page, pages
from serving.web.asked import day_asked, whole
from serving.web.language import choose_time_zone


@pages.get("/log")
def show_log() -> str:
    """List what was done, newest first."""
    service().journal.flush()
    session = page_session()
    which = _which()
    found = list_operations(session, which, before=request.args.get("before", type=whole), limit=ROWS + 1)
    people = {user.id: user for user in session.scalars(select(User).order_by(User.name, User.id))}
    return page(
        "log.html",
        rows=found[:ROWS],
        people=people,
        deeds=sorted(Done),
        which=which,
        asked=request.args,
        before=found[ROWS - 1].id if len(found) > ROWS else None,
    )


def _which() -> Which:
    """Return what the address asks for; what makes no sense in it is left out."""
    done = request.args.get("done", "")
    until = _day("until")
    return Which(
        done=Done(done) if done in set(Done) else None,
        user_id=request.args.get("user", type=whole),
        since=_day("since"),
        until=None if until is None else until + timedelta(days=1),
    )


def _day(name: str) -> datetime | None:
    """Return when a day that was asked for begins where the reader is."""
    try:
        day = day_asked(name, date.min)
    except InvalidValueError:
        return None
    return None if day == date.min else datetime.combine(day, time(), tzinfo=ZoneInfo(choose_time_zone()))
