"""The activity features of leads, deals and accounts are those that featuretools computes with cut-off times.

Featuretools knows when an event happened, not when it was learned of: it is given, for each instant, what was
known then. Everything else, windows, filters and edges, is its own doing.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from sqlalchemy import func, select

from crm_core.changes import Action, Change
from crm_core.clock import FixedClock, micros
from crm_core.store import Store
from features.cohort import Cohort
from features.event_features import DaysSinceLast, EventCount, EventFeature, Events
from features.feature_set import FEATURE_SETS
from features.frame import build_frame
from models.simulation import simulate_company

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
INSTANTS = tuple(NOW - timedelta(days=days) for days in (3, 200))
SECONDS_A_DAY = 86_400
LINKS = {"lead": "lead_id", "deal": "deal_id", "account": "account_id"}


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Iterator[Store]:
    """The smallest simulated company."""
    path = tmp_path_factory.mktemp("featuretools") / "crm.db"
    shutil.copy(empty_database, path)
    store = Store(f"sqlite:///{path}", clock=FixedClock(NOW))
    simulate_company(store, size="tiny", seed=3)
    yield store
    store.close()


def comparable(task: str) -> list[EventFeature]:
    """The features of a task that featuretools has a primitive for, of the record's own activities."""
    return [
        one
        for one in FEATURE_SETS[task].features
        if type(one) in (EventCount, DaysSinceLast)
        and isinstance(one, EventFeature)
        and one.of.event == "activity"
        and one.of.via is None
    ]


def read(store: Store, columns: str, table: str, known_at: datetime) -> pd.DataFrame:
    """What was known of a table at an instant, read by plain SQL; `time` is when it happened."""
    query = (
        f"SELECT id, occurred_at, {columns} FROM {table} "
        f"WHERE recorded_at <= {micros(known_at)} AND occurred_at <= {micros(known_at)}"
    )
    found = pd.read_sql(query, store.engine)
    return found.assign(time=pd.to_datetime(found["occurred_at"], unit="us"))


def chosen(activities: pd.DataFrame, kind: Events) -> pd.DataFrame:
    """The activities of a declared kind."""
    for field, wanted in kind.where:
        held = activities[field]
        empty = held.isna() if None in wanted else False
        activities = activities[held.isin([word for word in wanted if word is not None]) | empty]
    return activities


def by_featuretools(
    feature: EventFeature, records: pd.DataFrame, activities: pd.DataFrame, as_of: datetime
) -> npt.NDArray[np.float64]:
    """One feature of every record, by `calculate_feature_matrix` with a cut-off time and a window."""
    from tests.featuretools_here import featuretools  # which takes long, and this test alone needs it

    link = LINKS[feature.record]
    entities = featuretools.EntitySet("crm")
    # Without a time of its own: a training window would leave out every record that is older than it.
    entities.add_dataframe(dataframe_name="records", dataframe=records[["id"]], index="id")
    entities.add_dataframe(
        dataframe_name="events", dataframe=activities[["id", link, "time"]], index="id", time_index="time"
    )
    entities.add_relationship("records", "id", "events", link)
    primitive, of = (
        (featuretools.primitives.Count, "id")
        if type(feature) is EventCount
        else (featuretools.primitives.TimeSinceLast, "time")
    )
    base = featuretools.Feature(
        entities["events"].ww[of], parent_dataframe_name="records", primitive=primitive
    )
    lookback = feature.length
    window = None if lookback is None else featuretools.Timedelta(lookback // 3_600_000_000, "h")
    cutoffs = pd.DataFrame({"id": records["id"], "time": as_of.replace(tzinfo=None)})
    matrix = featuretools.calculate_feature_matrix(
        [base], entities, cutoff_time=cutoffs, training_window=window, include_cutoff_time=True
    )
    values: npt.NDArray[np.float64] = matrix.iloc[:, 0].astype(float).reindex(records["id"]).to_numpy()
    return np.nan_to_num(values) if type(feature) is EventCount else values / SECONDS_A_DAY


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("task", FEATURE_SETS)
def test_activity_features_equal_those_of_featuretools(company: Store, task: str) -> None:
    features = comparable(task)
    record = FEATURE_SETS[task].record_type
    tested = 0
    for as_of in INSTANTS:
        records = read(company, "recorded_at", f"{record}s", as_of)
        columns = dict.fromkeys(("kind", "direction", "outcome", "deal_id", LINKS[record]))
        activities = read(company, ", ".join(columns), "activities", as_of)
        activities = activities[activities[LINKS[record]].isin(records["id"])]
        ids = records["id"].to_numpy(dtype=np.int64)
        cohort = Cohort.of(record, ids, np.full(ids.size, micros(as_of)))
        ours = build_frame(company, cohort, FEATURE_SETS[task])
        for feature in features:
            events = chosen(activities, feature.of)
            if events.empty:
                assert ours[feature.name].fillna(0).eq(0).all()
                continue
            theirs = by_featuretools(feature, records, events, as_of)
            # Featuretools tells days by way of seconds in floating point; counts are exact.
            inexact = 0.0 if type(feature) is EventCount else 1e-12
            np.testing.assert_allclose(ours[feature.name], theirs, rtol=inexact, err_msg=feature.name)
            tested += int(np.nansum(theirs != 0))
    assert tested > 200, "nothing was there to be compared"


def test_the_company_has_facts_learned_late_and_no_corrections(company: Store) -> None:
    """What the comparison rests on: SQL above reads activities as they are now."""
    with company.reading() as session:
        edited = select(func.count()).where(Change.record_type == "activity", Change.action != Action.CREATED)
        assert session.scalar(edited) == 0
    late = pd.read_sql("SELECT avg(recorded_at > occurred_at) AS share FROM activities", company.engine)
    assert late["share"].item() > 0.1
