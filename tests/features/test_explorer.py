"""Asked why a feature has its value, the program shows the rows that it was computed from, and no others."""

from __future__ import annotations

import math
import random
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from crm_core.changes import Source
from crm_core.clock import FixedClock, instant
from crm_core.errors import FeatureError, OutcomeFieldError, RecordNotFoundError
from crm_core.fields import Known, declare_field
from crm_core.store import Store
from features.cohort import Cohort
from features.event_features import EventCount
from features.explorer import Explored, explore
from features.feature_set import FEATURE_SETS, FeatureSet, feature_set_for
from features.field_features import ChangesCount
from features.frame import build_frame
from features.lead import ACTIVITIES, INBOUND
from features.measures import EventShare, EventTrend
from tests.factories import make_activity, make_lead
from tests.features.worlds import BEGIN, BUSY, ids_of, make_world, write_world

LEADS = FEATURE_SETS["lead_scoring"]


def explored(store: Store, record_id: int, *, days_ago: int = 0) -> dict[str, Explored]:
    """What is found of a lead, by feature."""
    as_of = store.clock.now() - timedelta(days=days_ago)
    return {one.feature.name: one for one in explore(store, LEADS, record_id, as_of)}


def same(one: float | str | None, other: float | str | None) -> bool:
    """Whether an explored value is that of a frame, where a missing number is NaN."""
    missing = other is None or (isinstance(other, float) and math.isnan(other))
    return one is None if missing else one == other


@pytest.mark.parametrize("task", FEATURE_SETS)
@pytest.mark.parametrize("seed", [1, 2])
def test_values_are_those_of_the_frame_and_counts_are_the_rows_shown(
    tmp_path: Path, empty_database: Path, task: str, seed: int
) -> None:
    store = write_world(make_world(random.Random(seed).choice, 300), tmp_path, empty_database)
    found = feature_set_for(store, task)
    for record_id in ids_of(found.record_type):
        for day in BUSY:
            as_of = BEGIN + day * 86_400_000_000
            cohort = Cohort.of(found.record_type, np.array([record_id]), np.array([as_of]))
            row = build_frame(store, cohort, found).iloc[0]
            for one in explore(store, found, record_id, instant(as_of)):
                assert same(one.value, row[one.feature.name]), one
                assert all(shown.known_from <= instant(as_of) for shown in one.counted)
                if isinstance(one.feature, EventCount):
                    assert one.value == len(one.counted)
                if type(one.feature) is ChangesCount and one.feature.lookback is None:
                    assert isinstance(one.value, float)
                    assert one.value <= len(one.counted) - 1


def test_a_call_learned_of_later_is_shown_as_not_counted(store: Store, clock: FixedClock) -> None:
    with store.transaction(source=Source.IMPORT) as transaction:
        long_ago = clock.now() - timedelta(days=30)
        lead = make_lead(transaction, occurred_at=long_ago, recorded_at=long_ago)
        make_activity(
            transaction,
            kind="call",
            lead_id=lead.id,
            occurred_at=clock.now() - timedelta(days=9),
            recorded_at=clock.now() - timedelta(days=2),
        )
    before, after = explored(store, lead.id, days_ago=3), explored(store, lead.id)
    (row,) = before["activities_count_30d"].rows
    assert (before["activities_count_30d"].value, row.counted) == (0, False)
    assert row.known_from - row.occurred_at == timedelta(days=7)
    (row,) = after["activities_count_30d"].rows
    assert (after["activities_count_30d"].value, row.counted) == (1, True)
    assert after["activities_count_7d"].rows == ()


def test_a_field_shows_what_it_held_first_and_every_change(store: Store, clock: FixedClock) -> None:
    with store.transaction() as transaction:
        lead = make_lead(transaction, source="ad")
    clock.advance(timedelta(days=1))
    with store.transaction() as transaction:
        transaction.update(transaction.get(type(lead), lead.id), {"source": "trade show"})
    one = explored(store, lead.id)["source"]
    assert [row.values for row in one.rows] == [{"source": "ad"}, {"source": "trade show"}]
    assert one.value == "trade show"


def test_a_record_that_is_not_there_or_was_not_yet_known_is_refused(store: Store, clock: FixedClock) -> None:
    with store.transaction() as transaction:
        lead = make_lead(transaction)
    with pytest.raises(RecordNotFoundError):
        explored(store, 99)
    with pytest.raises(FeatureError, match="was not known"):
        explored(store, lead.id, days_ago=1)


def test_what_a_frame_would_refuse_is_not_shown(store: Store) -> None:
    with store.transaction() as transaction:
        lead = make_lead(transaction)
        declare_field(transaction.session, record_type="lead", name="region", known=Known.OUTCOME)
    with pytest.raises(OutcomeFieldError, match=r"lead\.region"):
        explored(store, lead.id)


def test_a_trend_shows_both_of_its_times_and_a_share_each_event_once(store: Store, clock: FixedClock) -> None:
    with store.transaction(source=Source.IMPORT) as transaction:
        long_ago = clock.now() - timedelta(days=90)
        lead = make_lead(transaction, occurred_at=long_ago, recorded_at=long_ago)
        for days, direction in ((1, "inbound"), (40, "outbound"), (41, "inbound"), (70, "inbound")):
            when = clock.now() - timedelta(days=days)
            make_activity(
                transaction,
                kind="call",
                direction=direction,
                lead_id=lead.id,
                occurred_at=when,
                recorded_at=when,
            )
    trend = EventTrend(of=ACTIVITIES, lookback="30d")
    share = EventShare(of=ACTIVITIES, part=INBOUND)
    mine = FeatureSet(name="mine", record_type="lead", features=(trend, share))

    of_trend, of_share = explore(store, mine, lead.id, clock.now())

    assert (of_trend.value, len(of_trend.counted)) == (1 - 2, 3)
    assert (of_share.value, len(of_share.rows)) == (3 / 4, 4)
