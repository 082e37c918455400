"""The timeline of a record of any type, over HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, Field

from crm_core.access import Reader
from crm_core.alerts import AlertAction, Did
from crm_core.changes import Change
from crm_core.declared import logical_type
from crm_core.predictions import Prediction
from crm_core.records import Activity, Comment, Record
from serving.api.changes import ChangeOut, change_out
from serving.api.records_given import records_out
from serving.api.records_schemas import COLLECTIONS
from serving.finding import title_of
from serving.payloads import Asked, Given, PredictionOut, Utc, prediction_out
from serving.timeline import KINDS, ORIGIN, SALE, SCORE, SERVED, Entry, Timeline
from serving.web.titles import Key, told_of

ActivityOut: Any = COLLECTIONS["activity"].given


_OF_OTHERS = frozenset({SALE, SERVED, ORIGIN, SCORE})
"""Kinds whose rows may be of another record than the one whose timeline it is."""

_LONGEST = 300
"""Letters of a comment that stand in a timeline."""


class TimelineQuery(Asked):
    """Which page of what happened."""

    limit: int = Field(default=50, ge=1, le=200, description="Entries on a page, newest first.")
    cursor: str | None = Field(default=None, max_length=400, description="`next_cursor` of the page before.")
    kinds: str | None = Field(
        default=None,
        min_length=1,
        max_length=400,
        description=f"Only these kinds, with commas between: {', '.join(KINDS)}.",
    )


class TimelineAlert(Given):
    """A warning, and what was done about it."""

    id: int
    kind: str
    action: str = Field(description=f"One of {', '.join(Did)}.")


class TimelineEntry(Given):
    """Something that happened; its kind says which: `activity`, `change`, `prediction` or `alert`."""

    kind: str = Field(description=f"One of {', '.join(KINDS)}; a record type is a record about this one.")
    at: Utc = Field(description="When it happened; of a score, the instant that it was asked from.")
    recorded_at: Utc
    who: int | None = Field(description="Id of the user who did or said it, or is responsible.")
    record_type: str = Field(
        description="Of the record to look at; this one's for its changes and scores, the quote for a sale."
    )
    record_id: int
    title: str | None = Field(
        description="What that record is called, or what a comment or note says; null for changes and scores."
    )
    activity: ActivityOut | None = None
    change: ChangeOut | None = None
    prediction: PredictionOut | None = None
    alert: TimelineAlert | None = None


class TimelinePage(Given):
    """What happened with a record, newest first."""

    items: list[TimelineEntry]
    next_cursor: str | None = Field(description="Ask with it for the next page; null on the last.")


def timeline_out(reader: Reader, record: Record, timeline: Timeline) -> TimelinePage:
    """Return what is given of a page of a timeline."""
    found = [entry.row for entry in timeline.entries if isinstance(entry.row, Activity)]
    given = records_out(reader, COLLECTIONS["activity"], found)
    activities = {row.id: each for row, each in zip(found, given, strict=True)}
    records = [entry.row for entry in timeline.entries if isinstance(entry.row, Record)]
    told = told_of(reader, ((row.record_type, row.id) for row in records))
    items = [_entry(reader, record, entry, activities, told) for entry in timeline.entries]
    return TimelinePage(items=items, next_cursor=timeline.next_cursor)


def _entry(
    reader: Reader,
    record: Record,
    entry: Entry,
    activities: dict[int, BaseModel],
    told: Mapping[Key, str],
) -> TimelineEntry:
    row = entry.row
    if isinstance(row, Record):
        return _about(reader, entry, row, activities, told.get((row.record_type, row.id)))
    name, record_id = logical_type(reader.session, record), record.id
    if isinstance(row, Change | Prediction) and entry.kind in _OF_OTHERS:
        name, record_id = row.record_type, row.record_id
    if isinstance(row, AlertAction):
        return _done(entry, row, (name, record_id))
    return TimelineEntry(
        kind=entry.kind,
        at=entry.at,
        recorded_at=row.recorded_at,
        who=row.actor_id if isinstance(row, Change) else None,
        record_type=name,
        record_id=record_id,
        title=None,
        change=change_out(reader, name, row) if isinstance(row, Change) else None,
        prediction=prediction_out(reader, row) if isinstance(row, Prediction) else None,
    )


def _done(entry: Entry, row: AlertAction, about: tuple[str, int]) -> TimelineEntry:
    alert = entry.alert
    return TimelineEntry(
        kind=entry.kind,
        at=entry.at,
        recorded_at=row.at,
        who=row.actor_id,
        record_type=about[0],
        record_id=about[1],
        title=row.note,
        alert=None if alert is None else TimelineAlert(id=alert.id, kind=alert.kind, action=row.action),
    )


def _about(
    reader: Reader, entry: Entry, row: Record, activities: dict[int, BaseModel], title: str | None
) -> TimelineEntry:
    name = logical_type(reader.session, row)
    seen = reader.masked(row)
    return TimelineEntry(
        kind=entry.kind,
        at=entry.at,
        recorded_at=row.recorded_at,
        who=getattr(seen, "owner_id", None),
        record_type=name,
        record_id=row.id,
        title=(seen.body or "")[:_LONGEST] if isinstance(seen, Comment) else title or title_of(seen),
        activity=activities.get(row.id) if isinstance(row, Activity) else None,
    )
