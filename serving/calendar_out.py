"""Somebody's meetings and tasks as a calendar (RFC 5545), as they may see them."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import or_

from crm_core.access import Reader
from crm_core.records import Activity, ActivityKind

PAST: Final = timedelta(days=60)
AHEAD: Final = timedelta(days=400)
MOST: Final = 1_000
_TASK: Final = timedelta(minutes=30)


def calendar_of(reader: Reader, *, now: datetime, domain: str) -> bytes:
    """Return what somebody has planned: meetings, and tasks that are due and not done."""
    from icalendar import Calendar, Event

    calendar = Calendar()
    calendar.add("prodid", "-//Predictive CRM//EN")
    calendar.add("version", "2.0")
    calendar.add("x-wr-calname", "CRM")
    for activity in _planned(reader, now):
        starts_at = activity.due_at or now
        seen = reader.shown(activity)
        event = Event()
        event.add("uid", f"activity-{activity.id}@{domain}")
        event.add("sequence", activity.version)
        event.add("dtstamp", now)
        event.add("dtstart", starts_at)
        seconds = seen.get("duration_seconds")
        event.add("dtend", starts_at + (timedelta(seconds=seconds) if seconds else _TASK))
        event.add("summary", str(seen.get("subject") or activity.kind))
        if activity.kind == ActivityKind.TASK:
            event.add("transp", "TRANSPARENT")
        if activity.kind != ActivityKind.TASK and seen.get("body"):
            event.add("description", str(seen["body"])[:2_000])
        calendar.add_component(event)
    return bytes(calendar.to_ical())


def _planned(reader: Reader, now: datetime) -> list[Activity]:
    if not reader.may_read_field("activity", "due_at"):
        return []
    open_task = or_(Activity.kind != ActivityKind.TASK, Activity.outcome.is_(None))
    query = reader.select(Activity).where(
        Activity.owner_id == reader.user.id,
        Activity.due_at.between(now - PAST, now + AHEAD),
        open_task,
    )
    return list(reader.session.scalars(query.order_by(Activity.due_at, Activity.id).limit(MOST)))
