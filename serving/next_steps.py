"""The next step that went with better ends among records like one: measured once a day, for all.

What many records' steps and ends say is one number of the organisation, as the rates in reasons are. What was
done with a record lately is no next step; that is looked up as far as the reader sees it.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

from sqlalchemy import Engine, select

from crm_core.access import Reader
from crm_core.records import Account, Activity, Deal, Lead, Quote
from crm_core.store import Store
from serving.champions import Suggests

if TYPE_CHECKING:
    from models.next_step import Step, Steps

FRESH: Final = timedelta(days=1)
"""For how long what was measured is good enough."""

MOST_STEPS: Final = 2
_MOST_DONE: Final = 200

_ENDS: Final = {"lead": ("lead.status",), "deal": ("deal.status",), "account": ("account.probability",)}
"""What is told by telling how records of a type ended."""


@dataclass(frozen=True, kw_only=True)
class _Measured:
    model_version: str
    at: datetime
    steps: Steps


_KEPT: WeakKeyDictionary[Engine, dict[str, _Measured]] = WeakKeyDictionary()
_MEASURING = threading.Lock()


def find_steps(
    store: Store, scorer: Suggests, reader: Reader, record: Lead | Deal | Account, now: datetime
) -> Sequence[Step]:
    """Return the steps that went with better ends of records like one and were not taken lately."""
    from models.next_step import FIELDS

    if not reader.may_be_told_of(_ENDS[record.record_type]):
        return ()
    steps = _measured(store, scorer, record.record_type, now)
    if steps is None:
        return ()
    found = [
        each for each in steps.of(_known(reader, record, now)) if reader.may_be_told_of(FIELDS[each.action])
    ]
    if not found:
        return ()
    done = _done_lately(reader, record, now)
    return [each for each in found if each.action not in done][:MOST_STEPS]


def _measured(store: Store, scorer: Suggests, record_type: str, now: datetime) -> Steps | None:
    """Return what was measured of a type; None while somebody else waits for it."""
    kept = _KEPT.setdefault(store.engine, {})
    found = kept.get(record_type)
    if (
        found is not None
        and found.model_version == scorer.model_version
        and timedelta(0) <= now - found.at < FRESH
    ):
        return found.steps
    if not _MEASURING.acquire(blocking=False):
        return None
    try:
        steps = scorer.measure_steps(store, now)
        kept[record_type] = _Measured(model_version=scorer.model_version, at=now, steps=steps)
    finally:
        _MEASURING.release()
    return steps


def _known(reader: Reader, record: Lead | Deal | Account, now: datetime) -> dict[str, Any]:
    """Return what tells a record's situation, as far as the reader may know it."""
    if isinstance(record, Deal):
        return {"stage": record.stage} if reader.may_read_field("deal", "stage") else {}
    if isinstance(record, Lead):
        return {"age_days": (now - record.occurred_at) / timedelta(days=1)}
    return {}


def _done_lately(reader: Reader, record: Lead | Deal | Account, now: datetime) -> Collection[str]:
    """Return the steps that the reader sees taken in the last days."""
    from models.next_step import DEEDS, QUOTE, STEP_DAYS

    since = now - timedelta(days=STEP_DAYS)
    query = select(Activity.kind, Activity.direction, Activity.outcome).where(
        getattr(Activity, f"{record.record_type}_id") == record.id,
        Activity.deleted_at.is_(None),
        Activity.occurred_at.between(since, now),
        reader.readable(Activity),
    )
    rows = reader.session.execute(query.limit(_MOST_DONE)).all()
    done = {action for action, deed in DEEDS.items() if any(deed.counts(*row) for row in rows)}
    if isinstance(record, Deal):
        sent = select(Quote.id).where(
            Quote.deal_id == record.id,
            Quote.deleted_at.is_(None),
            Quote.sent_at.between(since, now),
            reader.readable(Quote),
        )
        done |= {QUOTE} if reader.session.scalar(sent.limit(1)) is not None else set()
    return done
