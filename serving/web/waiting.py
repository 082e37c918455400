"""How much waits for the reader of a page, as its head shows it: asked once a page, in one statement."""

from __future__ import annotations

from dataclasses import dataclass

from flask import g
from flask_login import current_user
from sqlalchemy import Select, bindparam, select
from sqlalchemy.exc import SQLAlchemyError

from crm_core.access import Reader
from crm_core.alerts import open_count
from crm_core.columns import Instant
from crm_core.notifications import unread_count
from serving.service import page_session, service

MOST_SHOWN = 99
"""Beyond, more are not told apart."""


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """Numbers as they are shown; nothing for none."""

    alerts: str = ""
    notifications: str = ""


def count_of_bell() -> str:
    """Return how many open alerts the reader of a page has, as the bell shows it; nothing without any."""
    return _waiting().alerts


def count_of_notifications() -> str:
    """Return how many notifications the reader of a page has not read; nothing without any."""
    return _waiting().notifications


def _waiting() -> Waiting:
    if not current_user.is_authenticated:
        return Waiting()
    if "waiting" not in g:
        g.waiting = _count()
    found: Waiting = g.waiting
    return found


def _count() -> Waiting:
    try:
        reader = Reader(page_session(), current_user.user)
        query = reader.built("waiting", lambda: _query(reader))
        found = reader.session.execute(query, {"now": service().store.clock.now()}).one()
    except SQLAlchemyError:
        return Waiting()  # a page that tells of a broken database must not break of it
    return Waiting(alerts=_shown(found[0]), notifications=_shown(found[1]))


def _query(reader: Reader) -> Select[int, int]:
    """Return the query of both numbers; `now` is asked of it."""
    alerts = open_count(reader, bindparam("now", type_=Instant), most=MOST_SHOWN + 1)
    return select(alerts, unread_count(reader.user.id))


def _shown(found: int) -> str:
    return f"{MOST_SHOWN}+" if found > MOST_SHOWN else str(found or "")
