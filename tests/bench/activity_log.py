"""One question, asked of every engine: what activities and a field of a million leads say at three instants.

Five types of activity, in three windows counted and summed, the days since the last of each, and what a field
that changes held: 36 columns. All engines get the same arrays, as a log has them: by time, not by lead.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from crm_core.clock import DAY
from crm_core.history import FieldHistory
from features.blocks import columns_from, threads_for
from features.cohort import Cohort
from features.columns import Words
from features.declaration import Feature
from features.event_features import DaysSinceLast, EventCount, EventSum, events
from features.feature_set import FeatureSet
from features.field_features import FieldValue
from features.tables import Table
from features.wording import Noun

Ints = npt.NDArray[np.int64]
Columns = Mapping[str, npt.NDArray[Any]]

KINDS = ("call", "mail", "meeting", "visit", "web")
WINDOWS = (7, 30, 90)
BEGIN = 19_000 * DAY
LENGTH = 730
SECONDS = Noun(one="seconds", many="seconds", zh="秒")
FIELD = "employees"


@dataclass(frozen=True, kw_only=True)
class Log:
    """Activities by time, the values of a field by lead and time, and questions by lead."""

    activity_id: Ints
    lead: Ints
    kind: npt.NDArray[np.int8]
    at: Ints
    seconds: Ints
    lead_id: Ints
    created_at: Ints
    changed_lead: Ints
    changed_at: Ints
    before: Ints
    after: Ints
    asked: Ints
    as_of: Ints

    @property
    def value_now(self) -> Ints:
        """What the field of each lead holds in the end."""
        last = np.searchsorted(self.changed_lead, self.lead_id, side="right") - 1
        return self.after[last]

    @property
    def held(self) -> tuple[Ints, Ints, Ints]:
        """(lead, instant, value) of everything that the field held, its first value from its creation."""
        first = np.searchsorted(self.changed_lead, self.lead_id)
        lead = np.concatenate((self.lead_id, self.changed_lead))
        at = np.concatenate((self.created_at, self.changed_at))
        value = np.concatenate((self.before[first], self.after))
        order = np.lexsort((at, lead))
        return lead[order], at[order], value[order]


def make_log(activities: int, seed: int = 1) -> Log:
    """Return a log of so many activities, a tenth as many leads, and three questions about each."""
    source = np.random.default_rng(seed)
    leads = activities // 10
    lead_id = np.arange(1, leads + 1)
    changed_lead, changed_at, before, after = _changes(source, lead_id)
    return Log(
        activity_id=np.arange(1, activities + 1),
        lead=source.integers(1, leads + 1, activities),
        kind=source.integers(0, len(KINDS), activities, dtype=np.int8),
        at=BEGIN + np.sort(source.integers(0, LENGTH * DAY, activities)),
        seconds=source.integers(0, 3600, activities),
        lead_id=lead_id,
        created_at=np.full(leads, BEGIN),
        changed_lead=changed_lead,
        changed_at=changed_at,
        before=before,
        after=after,
        asked=np.repeat(lead_id, 3),
        as_of=BEGIN + source.integers(90 * DAY, LENGTH * DAY, 3 * leads),
    )


def _changes(source: np.random.Generator, lead_id: Ints) -> tuple[Ints, Ints, Ints, Ints]:
    """Return (lead, instant, value before, value after) of one change or two of each lead."""
    lead = np.repeat(lead_id, source.integers(1, 3, lead_id.size))
    at = BEGIN + source.integers(DAY, LENGTH * DAY, lead.size)
    order = np.lexsort((at, lead))
    after = source.integers(1, 5000, lead.size)
    before = np.roll(after, 1)
    starts = np.append(True, lead[1:] != lead[:-1])
    before[starts] = source.integers(1, 5000, lead_id.size)
    return lead, at[order], before, after


def feature_set() -> FeatureSet:
    """Return the question as a data scientist declares it."""
    features: list[Feature] = []
    for kind in KINDS:
        of = events("lead", "activity", Noun(one=kind, many=f"{kind}s", zh=kind), where={"kind": kind})
        for days in WINDOWS:
            features.append(EventCount(of=of, lookback=f"{days}d"))
            features.append(EventSum(of=of, field="duration_seconds", noun=SECONDS, lookback=f"{days}d"))
        features.append(DaysSinceLast(of=of))
    features.append(FieldValue(record="lead", field=FIELD))
    return FeatureSet(name="log", record_type="lead", features=tuple(features))


def tables_of(log: Log) -> dict[str, Table]:
    """Return the log as the engine has it, without copying anything."""
    changes = FieldHistory(
        record_id=log.changed_lead,
        change_id=np.arange(log.changed_lead.size),
        occurred_at=log.changed_at,
        recorded_at=log.changed_at,
        old=log.before,
        new=log.after,
    )
    words = np.array(KINDS, dtype=object)
    activities: dict[str, Any] = {
        "id": log.activity_id,
        "occurred_at": log.at,
        "recorded_at": log.at,
        "lead_id": log.lead,
        "kind": Words(log.kind, words),
        "duration_seconds": log.seconds,
    }
    leads = {"id": log.lead_id, "occurred_at": log.created_at, "recorded_at": log.created_at}
    return {
        "activity": Table(activities),
        "lead": Table({**leads, FIELD: log.value_now}, {FIELD: changes}),
    }


def ours(log: Log, *, threads: int | None = None) -> Columns:
    """Answer with the product's engine: declared features over arrays, all that it works out included."""
    cohort = Cohort(
        record_type="lead", ids=log.asked, as_of=log.as_of, weight=np.broadcast_to(1.0, log.asked.size)
    )
    count = threads_for(len(cohort)) if threads is None else threads
    return columns_from(tables_of(log), cohort, feature_set(), threads=count)
