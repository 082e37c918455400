"""Questions that are asked once of every record, and what came of them in the end."""

from __future__ import annotations

from datetime import datetime

import numpy as np

from crm_core.arrays import NO_INSTANT
from crm_core.clock import DAY, micros
from crm_core.fields import Known, list_fields
from crm_core.predictions import IN_THE_END_DAYS
from crm_core.store import Store
from features.cohort import Cohort
from features.endings import read_endings
from features.feature_set import FeatureSet
from features.labels import Labels

_WAIT = IN_THE_END_DAYS * DAY


def creation_cohort(store: Store, *, start: datetime, until: datetime, record_type: str) -> Cohort:
    """Return a question about each record from when it became known, with start < as_of <= until."""
    with store.reading() as session:
        ends = read_endings(session, record_type)
    until = min(until, store.clock.now())
    asked = (ends.known_from > micros(start)) & (ends.known_from <= micros(until))
    return Cohort.of(record_type, ends.ids[asked], ends.known_from[asked])


def undated_cohort(store: Store, *, start: datetime, until: datetime, record_type: str) -> Cohort:
    """Return a question about each record, all from one instant: when the last of them had become known.

    One instant, so that no order of the rows in the file can be told from when they were read. `start` and
    `until` are those of dated questions and bound nothing but what is known by `until`.
    """
    with store.reading() as session:
        ends = read_endings(session, record_type)
    known = ends.known_from <= micros(min(until, store.clock.now()))
    last = int(ends.known_from[known].max()) if known.any() else micros(start)
    return Cohort.of(record_type, ends.ids[known], np.full(int(known.sum()), last))


def ending_labels(store: Store, cohort: Cohort, *, known_at: int | None = None) -> Labels:
    """Return how each record ended, as known at an instant (None: now).

    A question is over when its record has ended, and pending until then: `known_until` is a horizon of
    IN_THE_END_DAYS away, or `as_of`. `event_at` says only that it came to the wanted end.
    """
    with store.reading() as session:
        ends = read_endings(session, cohort.record_type)
    known = micros(store.clock.now()) if known_at is None else known_at
    row = np.searchsorted(ends.ids, cohort.ids)
    ended_at, wanted = ends.ended_at[row], ends.wanted[row]
    over = (ended_at != NO_INSTANT) & (ended_at <= known)
    return Labels(
        event_at=np.where(over & wanted, cohort.as_of + 1, NO_INSTANT),
        known_until=np.where(over, cohort.as_of + _WAIT, cohort.as_of),
        over_at=np.where(over, np.maximum(ended_at, cohort.as_of), NO_INSTANT),
    )


def known_at_creation(store: Store, feature_set: FeatureSet) -> FeatureSet:
    """Return the features that read nothing but fields declared as known when a record is created."""
    with store.reading() as session:
        declared = list_fields(session, feature_set.record_type)
    known = {f"{field.record_type}.{field.name}" for field in declared if field.known == Known.CREATION}
    return feature_set.select(
        feature.name
        for feature in feature_set.features
        if feature.source_fields and known.issuperset(feature.source_fields)
    )
