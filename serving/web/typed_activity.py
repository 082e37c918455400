"""What somebody did, as the form on a record's page says it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from zoneinfo import ZoneInfo

from crm_core.errors import InvalidValueError
from crm_core.records import Activity
from serving.web.language import choose_time_zone

LOGGED_KINDS = ("call", "mail", "meeting", "visit", "note")
"""What may be logged as done."""

PLANNED_TOO = (*LOGGED_KINDS, "task")
"""The same, and a next step."""


def read_activity(form: Mapping[str, str]) -> Activity:
    """Return the activity that a form describes."""
    activity = Activity(kind=form.get("kind", ""))
    if form.get("direction") and activity.kind not in {"note", "task"}:
        activity.direction = form["direction"]
    if text := form.get("subject", "").strip():
        activity.subject = text
    if minutes := form.get("minutes", "").strip():
        activity.duration_seconds = _seconds(minutes)
    if when := form.get("occurred_at", "").strip():
        activity.occurred_at = _instant("occurred_at", when)
    if activity.kind == "task" and (due := form.get("due_at", "").strip()):
        activity.due_at = _instant("due_at", due)
    return activity


def _seconds(minutes: str) -> int:
    try:
        return round(float(minutes) * 60)
    except (ValueError, OverflowError) as error:
        raise InvalidValueError("minutes", minutes, "a number of minutes") from error


def _instant(field: str, text: str) -> datetime:
    """Return the instant that the browser's date field names in the reader's time zone."""
    try:
        return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(choose_time_zone()))
    except ValueError as error:
        raise InvalidValueError(field, text, "a day and time") from error
