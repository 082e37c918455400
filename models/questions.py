"""The questions of a task with everything that was known when they were asked, and what came of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from sqlalchemy import func, select

from crm_core.arrays import NO_INSTANT, read_arrays
from crm_core.clock import instant
from crm_core.records import RECORD_TYPES, Deal
from crm_core.store import Store
from features.cohort import Cohort
from features.feature_set import FeatureSet
from features.frame import build_frame
from features.rows import Frame, Rows
from models.hazard import Bools, Exposure, Floats, Ints, expose
from models.task import BuildCohort, Task

if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass(frozen=True, kw_only=True, eq=False)
class Questions:
    """n questions of a task.

    `frame` has their features, `account` int64[n] is what must not sit on both sides of a split, `weight`
    float64[n] says how much each counts: known when it was asked, and in sum as many as there are records.
    `own_days` int64[n] is how far ahead each looks, where that is not the same for all.
    """

    task: Task
    cohort: Cohort
    frame: DataFrame
    account: Ints
    weight: Floats
    own_days: Ints | None = None

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.cohort)

    @property
    def as_of(self) -> Ints:
        """Return when each was asked, in microseconds."""
        return self.cohort.as_of

    def take(self, rows: Bools) -> Questions:
        """Return some of them."""
        return Questions(
            task=self.task,
            cohort=self.cohort.take(rows),
            frame=self.frame[rows].reset_index(drop=True),
            account=self.account[rows],
            weight=self.weight[rows],
            own_days=None if self.own_days is None else self.own_days[rows],
        )

    def expose(
        self, store: Store, known_at: int | None, *, ends_days: Sequence[int] | None = None
    ) -> Exposure:
        """Return what was known at an instant of what came of them (None: now), in the task's intervals."""
        labels = self.task.labels(store, self.cohort, known_at=known_at)
        exposure = expose(
            as_of=self.as_of,
            event_at=labels.event_at,
            known_until=labels.known_until,
            weight=self.weight,
            ends_days=ends_days or self.task.intervals_days,
            absence=self.task.absence,
            own_days=self.own_days,
        )
        return exposure if labels.over_at is None else exposure.over_since(labels.over_at)


@dataclass(frozen=True, kw_only=True, eq=False)
class Answers:
    """What came within a horizon, bool[n] each: is the window over, and did it happen, where it is."""

    over: Bools
    happened: Bools


def ask(
    store: Store, task: Task, feature_set: FeatureSet, build: BuildCohort, *, start: datetime, until: datetime
) -> Questions:
    """Return the questions that `build` gives, with their features."""
    return questions_of(store, task, feature_set, build(store, start=start, until=until))


def questions_of(store: Store, task: Task, feature_set: FeatureSet, cohort: Cohort) -> Questions:
    """Return the questions of a cohort with their features."""
    frame = build_frame(store, cohort, feature_set)
    if task.own_horizon is not None:
        cohort, frame = asked_of(task, cohort, frame)
    return Questions(
        task=task,
        cohort=cohort,
        frame=frame,
        account=alike(frame) if task.no_time_order else accounts_of(store, cohort),
        weight=_weights(task, cohort, frame),
        own_days=own_days(task, frame),
    )


F = TypeVar("F", "DataFrame", Rows)


def asked_of(task: Task, cohort: Cohort, frame: F) -> tuple[Cohort, F]:
    """Return the questions that make sense, as their features tell."""
    if task.asked_of is None:
        return cohort, frame
    kept = task.asked_of(frame)
    if isinstance(frame, Rows):
        return cohort.take(kept), frame.take(kept)
    return cohort.take(kept), frame[kept].reset_index(drop=True)


def own_days(task: Task, frame: Frame) -> Ints | None:
    """Return how far ahead each question looks, int64[n]; None where that is the same for all."""
    return None if task.own_horizon is None else task.own_horizon(frame).astype(np.int64)


def first_instant(store: Store, task: Task) -> datetime:
    """Return an instant before anything of the task's records was known; the epoch for an empty store."""
    model = RECORD_TYPES[task.record_type]
    with store.reading() as session:
        found = read_arrays(session, select(func.min(model.occurred_at).label("first")))["first"]
    return instant(int(found[0]) - 1) if found.size and found[0] != NO_INSTANT else instant(0)


def answers(store: Store, questions: Questions, horizon_days: int, *, known_at: int | None = None) -> Answers:
    """Return what came of the questions within a horizon, as known at an instant (None: now)."""
    task = questions.task
    labels = task.labels(store, questions.cohort, known_at=known_at)
    seen = expose(
        as_of=questions.as_of,
        event_at=labels.event_at,
        known_until=labels.known_until,
        weight=questions.weight,
        ends_days=(horizon_days,),
        absence=task.absence,
        own_days=questions.own_days,
    )
    return Answers(over=seen.at_risk[:, 0], happened=seen.event[:, 0])


def alike(frame: DataFrame) -> Ints:
    """Return a number for each row, the same for rows that hold the same throughout: int64[n]."""
    groups = frame.groupby(list(frame.columns), dropna=False, sort=False, observed=True)
    return np.asarray(groups.ngroup(), dtype=np.int64)


def _weights(task: Task, cohort: Cohort, frame: DataFrame) -> Floats:
    """Return planned weights that add up to the number of records.

    Never one over the questions that a record came to be asked: who is converted soon is asked once, who
    never is many times, so that such weights would count the fast successes most and call every probability
    too high.
    """
    planned = np.ones(len(cohort)) if task.plan_weights is None else task.plan_weights(frame)
    total = planned.sum()
    return planned * (len(np.unique(cohort.ids)) / total) if total else planned


def accounts_of(store: Store, cohort: Cohort) -> Ints:
    """Return the account of each question; a record without one stands for itself, as a negative number."""
    if cohort.record_type != "deal":
        return cohort.ids
    with store.reading() as session:
        rows = read_arrays(session, select(Deal.id, Deal.account_id).order_by(Deal.id))
    account = np.where(rows["account_id"] == NO_INSTANT, -rows["id"], rows["account_id"])
    return account[np.searchsorted(rows["id"], cohort.ids)]
