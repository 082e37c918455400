"""Reading records in bulk: columns straight into arrays, beside what pandas makes of the same query."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
from sqlalchemy import Select, select

from crm_core import migrations
from crm_core.arrays import Arrays, read_arrays
from crm_core.changes import Source
from crm_core.clock import FixedClock
from crm_core.records import Activity, Lead
from crm_core.store import Store
from tests.bench.harness import Benchmark, Contest, timed
from tests.factories import make_lead

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
ACTIVITIES = 100_000
KINDS = ("call", "mail", "meeting", "web")


def filled_store(folder: Path) -> Store:
    """Return a store that holds the activities of one busy lead, one every ten minutes."""
    url = f"sqlite:///{folder / 'crm.db'}"
    migrations.upgrade(url)
    store = Store(url, clock=FixedClock(NOW))
    with store.transaction(source=Source.IMPORT) as transaction:
        lead = make_lead(transaction)
        rows = [
            {
                "kind": KINDS[number % len(KINDS)],
                "lead_id": lead.id,
                "duration_seconds": number % 900 if number % 3 else None,
                "occurred_at": NOW - timedelta(minutes=10 * number),
            }
            for number in range(ACTIVITIES)
        ]
        transaction.create_many(Activity, rows)
    return store


def query() -> Select[int | None, datetime, datetime, str, int | None]:
    """Return what a feature asks of every activity."""
    return select(
        Activity.lead_id, Activity.occurred_at, Activity.recorded_at, Activity.kind, Activity.duration_seconds
    ).join(Lead, Lead.id == Activity.lead_id)


def same(arrays: Arrays, frame: pd.DataFrame) -> bool:
    """Tell whether both read the same instants, kinds and durations in the same order."""
    instants = frame["occurred_at"].astype("datetime64[us, UTC]").astype("int64").to_numpy()
    durations = frame["duration_seconds"].fillna(np.iinfo(np.int64).min).astype("int64").to_numpy()
    return (
        np.array_equal(arrays["occurred_at"], instants)
        and np.array_equal(arrays["duration_seconds"], durations)
        and arrays["kind"].tolist() == frame["kind"].tolist()
    )


def read_activities(folder: Path) -> Contest:
    """Read every activity through our columnar read and through pandas."""
    store = filled_store(folder)

    def ours() -> Arrays:
        with store.reading() as session:
            return read_arrays(session, query())

    def peer() -> pd.DataFrame:
        with store.engine.connect() as connection:
            return pd.read_sql(query(), connection)

    return timed(ours=ours, peer=peer, agree=same)


BENCHMARKS = (Benchmark(name="read_activities", peer_name="pandas.read_sql", prepare=read_activities),)
