"""The next steps of a record: its tasks that are not done."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Select

from crm_core.access import Reader
from crm_core.records import Activity, ActivityKind, Record


def list_steps(reader: Reader, record: Record, *, limit: int = 10) -> Sequence[Activity]:
    """Return the next steps of a record that are not done, the one that is due first before the others."""
    query = open_steps(reader, record).limit(limit)
    return [reader.masked(each) for each in reader.session.scalars(query).all()]


def open_steps(reader: Reader, record: Record) -> Select[Activity]:
    """Return the query of all of them, the one that is due first before the others."""
    query = reader.select_about(Activity, record).where(
        Activity.kind == ActivityKind.TASK, Activity.outcome.is_(None)
    )
    return query.order_by(Activity.due_at.is_(None), Activity.due_at, Activity.id)
