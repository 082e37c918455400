"""Why a feature has the value it has: the rows that it was computed from, and when each became known."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import numpy as np
from sqlalchemy.orm import Session

from crm_core.arrays import NO_INSTANT
from crm_core.clock import instant
from crm_core.columns import MONEY_SCALE, Day, Instant, Money
from crm_core.declared import plain_custom
from crm_core.errors import FeatureError
from crm_core.fields import CUSTOM
from crm_core.records import RECORD_TYPES, CustomRecord
from crm_core.store import Store
from crm_core.validation import columns_of
from features.asks import Ask, Kind
from features.cohort import Cohort
from features.declaration import Feature, Need, reached
from features.event_features import EventFeature, Events
from features.events import AskedEvents, Floats, Versions
from features.facts import Facts
from features.feature_set import FeatureSet, check_usable
from features.population import read_all
from features.rates import HistoricalRate
from features.windows import Ints, in_feature_window, visible_from


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row behind a value: an event, or what a field was given.

    `occurred_at` is when it happened, `known_from` the first instant at which it could be known, `counted`
    whether it was known at the question; `values` holds the fields that the feature reads, None for empty.
    """

    record_type: str
    record_id: int
    occurred_at: datetime
    known_from: datetime
    counted: bool
    values: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Explored:
    """One feature of one question: its value, None where missing, and the rows behind it, oldest first.

    `others` is what a rate is counted from: how many other records were asked about and came to the outcome,
    in the group and in all. Nothing of other features.
    """

    feature: Feature
    value: float | str | None
    rows: tuple[Row, ...]
    others: Mapping[str, int]

    @property
    def counted(self) -> tuple[Row, ...]:
        """Return the rows that were known at the question."""
        return tuple(row for row in self.rows if row.counted)


def explore(store: Store, feature_set: FeatureSet, record_id: int, as_of: datetime) -> list[Explored]:
    """Return every feature of a record as asked at `as_of`, with the rows behind it.

    Time rule: that of `features.windows`. The values are those of `build_frame`. Of events, those that the
    window of the feature holds are `counted`; those that had happened within it and were known only later
    come too, uncounted. Of fields, every change that was known is a row, and what they held before any.

    Raises RecordNotFoundError or FeatureError as `build_frame` does.
    """
    cohort = Cohort.single(feature_set.record_type, record_id, as_of)
    with store.reading() as session:
        return explore_in(session, cohort, feature_set)


def explore_in(session: Session, cohort: Cohort, feature_set: FeatureSet) -> list[Explored]:
    """Return the same from an open session and a cohort of one question."""
    if len(cohort) != 1 or cohort.record_type != feature_set.record_type:
        raise FeatureError(f"{feature_set.name} is explored for one {feature_set.record_type} at a time")
    check_usable(session, feature_set)
    tables = read_all(session, feature_set.plan, cohort.ids)
    facts = _WatchedFacts(tables, cohort, feature_set.plan)
    return [_explored(session, facts, feature) for feature in feature_set.features]


class _WatchedFacts(Facts):
    """Facts that notice which kinds of events a feature asks for."""

    asked_for: list[Kind]

    def events(self, events: Events | Kind) -> AskedEvents:
        """Return the events, and remember that they were asked for."""
        self.asked_for.append(Kind(events.via, events.event, events.where))
        return super().events(events)

    def number(self, ask: Ask) -> Floats:
        """Return the number, and remember what it was asked of."""
        self.asked_for.append(ask.kind)
        return super().number(ask)

    def event(self, ask: Ask) -> Ints:
        """Return the event, and remember what it was asked of."""
        self.asked_for.append(ask.kind)
        return super().event(ask)


def _explored(session: Session, facts: _WatchedFacts, feature: Feature) -> Explored:
    facts.asked_for = []
    value = feature.compute(facts)[0]
    kinds = dict.fromkeys(facts.asked_for)
    lookback = feature.reach if isinstance(feature, EventFeature) else None
    events = [row for kind in kinds for row in _event_rows(facts, kind, lookback)]
    # A share asks for the same event twice: as one of all, and as one of the part.
    rows = list({(row.record_type, row.record_id, row.known_from): row for row in events}.values())
    rows += [row for need in feature.needs() if need.event is None for row in _field_rows(facts, need)]
    rows = [replace(row, values=_plain(session, row)) for row in rows]
    counts = feature.counts(facts) if isinstance(feature, HistoricalRate) else {}
    missing = value is None or value != value  # noqa: PLR0124  NaN alone differs from itself
    return Explored(
        feature=feature,
        value=None if missing else value if isinstance(value, str) else float(value),
        rows=tuple(sorted(rows, key=lambda row: (row.occurred_at, row.known_from))),
        others={name: int(count[0]) for name, count in counts.items()},
    )


def _plain(session: Session, row: Row) -> dict[str, Any]:
    """Return the values of a row with those of custom fields as people write them."""
    custom = {name.removeprefix(CUSTOM): each for name, each in row.values.items() if name.startswith(CUSTOM)}
    plain = plain_custom(session, row.record_type, custom) or {}
    return {**row.values, **{f"{CUSTOM}{name}": each for name, each in plain.items()}}


def _event_rows(facts: Facts, kind: Kind, lookback: int | None) -> Iterator[Row]:
    found, as_of = facts.events(kind), int(facts.as_of[0])
    held = {int(version) for _, versions in found.pairs(lookback) for version in versions}
    key = int(facts.records(kind.via).ids[0])
    for position in _happened_within(found.versions, key, as_of, lookback):
        counted = position in held
        if counted or found.versions.start[position] > as_of:
            yield _event_row(found.versions, int(position), kind.event, counted=counted)


def _happened_within(versions: Versions, key: int, as_of: int, lookback: int | None) -> Ints:
    happened = versions.occurred_at
    inside = (
        happened <= as_of if lookback is None else in_feature_window(happened, np.array([as_of]), lookback)
    )
    return np.flatnonzero(inside & (versions.key == key))


def _event_row(versions: Versions, position: int, record_type: str, *, counted: bool) -> Row:
    return Row(
        record_type=record_type,
        record_id=int(versions.record_id[position]),
        occurred_at=instant(int(versions.occurred_at[position])),
        known_from=instant(int(versions.start[position])),
        counted=counted,
        values={
            name: _shown(record_type, name, column[position]) for name, column in versions.columns.items()
        },
    )


def _field_rows(facts: Facts, need: Need) -> Iterator[Row]:
    records, as_of = facts.records(need.via), int(facts.as_of[0])
    record_id, record_type = int(records.ids[0]), reached(need.record, need.via)
    if record_id == NO_INSTANT:
        return
    for field in need.fields:
        history = records.history(field)
        mine = np.flatnonzero(history.record_id == record_id)
        seen = visible_from(history.occurred_at, history.recorded_at)
        first = history.old[mine[0]] if mine.size else records.values(field)[0]
        yield Row(
            record_type=record_type,
            record_id=record_id,
            occurred_at=instant(int(records.occurred_at[0])),
            known_from=instant(int(records.known_from[0])),
            counted=True,
            values={field: _shown(record_type, field, first)},
        )
        for change in mine[history.occurred_at[mine] <= as_of]:
            yield Row(
                record_type=record_type,
                record_id=record_id,
                occurred_at=instant(int(history.occurred_at[change])),
                known_from=instant(int(seen[change])),
                counted=bool(seen[change] <= as_of),
                values={field: _shown(record_type, field, history.new[change])},
            )


def _shown(record_type: str, field: str, stored: Any) -> Any:  # noqa: ANN401  any stored value
    """Return a stored value as a person or JSON has it."""
    if stored is None or stored == NO_INSTANT or stored != stored:  # noqa: PLR0124  NaN
        return None
    column = columns_of(RECORD_TYPES.get(record_type, CustomRecord)).get(field)
    kind = None if column is None else column.type
    if isinstance(kind, Money):
        return int(stored) / MONEY_SCALE
    if isinstance(kind, Instant):
        return instant(int(stored)).isoformat()
    if isinstance(kind, Day):
        return instant(int(stored)).date().isoformat()
    return stored.item() if isinstance(stored, np.generic) else stored
