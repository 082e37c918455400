"""PostgreSQL gives the same cohorts, labels and rows as SQLite, to the bit."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from crm_core.changes import Source
from crm_core.clock import FixedClock, instant
from crm_core.records import Lead
from crm_core.store import Store, Transaction
from features.cohort import Cohort, account_cohort, deal_cohort, lead_cohort
from features.feature_set import FEATURE_SETS, FeatureSet, feature_set_for
from features.frame import build_frame, build_frame_in
from features.labels import Labels, contract_labels, deal_labels, lead_labels
from features.rates import HistoricalRate
from tests.conftest import make_postgres_database
from tests.factories import make_lead
from tests.features.worlds import BEGIN, END, fill_store, make_world, write_world


@pytest.fixture(scope="module")
def both(
    postgres_url: str, tmp_path_factory: pytest.TempPathFactory, empty_database: Path
) -> Iterator[tuple[Store, Store]]:
    """One world, on SQLite and on PostgreSQL."""
    world = make_world(random.Random(2).choice, 150)
    stores = (
        write_world(world, tmp_path_factory.mktemp("sqlite"), empty_database),
        fill_store(world, make_postgres_database(postgres_url)),
    )
    yield stores
    for store in stores:
        store.close()


def ask(store: Store, task: str) -> tuple[Cohort, Labels]:
    start, until = instant(BEGIN), instant(END)
    if task == "lead_scoring":
        cohort = lead_cohort(store, start=start, until=until)
        return cohort, lead_labels(store, cohort)
    if task == "win_probability":
        cohort = deal_cohort(store, start=start, until=until)
        return cohort, deal_labels(store, cohort)
    cohort = account_cohort(store, start=start, until=until, kind="contracts")
    return cohort, contract_labels(store, cohort)


@pytest.mark.parametrize("task", FEATURE_SETS)
def test_both_databases_answer_alike(task: str, both: tuple[Store, Store]) -> None:
    (cohort, labels), (other, other_labels) = (ask(store, task) for store in both)
    assert len(cohort) > 0
    assert cohort.ids.tolist() == other.ids.tolist()
    assert cohort.as_of.tolist() == other.as_of.tolist()
    assert labels.event_at.tolist() == other_labels.event_at.tolist()
    assert labels.known_until.tolist() == other_labels.known_until.tolist()

    for asked in (cohort, cohort.take(slice(0, 1))):
        one, another = (build_frame(store, asked, feature_set_for(store, task)) for store in both)
        pd.testing.assert_frame_equal(one, another, check_exact=True)


def test_a_rate_sees_only_what_its_session_sees_whatever_others_have_read(postgres_database: str) -> None:
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    early, later = begin + timedelta(days=5), begin + timedelta(days=100)
    store = Store(postgres_database, clock=FixedClock(later))
    rate = HistoricalRate(record="lead", field="source", horizon="30d", strength=1)
    asked = FeatureSet(name="rates", record_type="lead", features=(rate,))

    def ask_in(session: Session) -> float:
        frame = build_frame_in(session, Cohort.single("lead", 4, later), asked)
        return float(frame.to_numpy()[0, 0])

    def convert(step: Transaction, lead: int) -> None:
        step.update(step.get(Lead, lead), {"status": "converted"}, occurred_at=early, recorded_at=early)

    with store.transaction(source=Source.IMPORT) as step:
        for _ in range(4):
            make_lead(step, source="fair", occurred_at=begin, recorded_at=begin)
    with store.transaction(source=Source.IMPORT) as slow:
        convert(slow, 1)
        slow.session.flush()
        with store.reading() as old:
            assert old.scalar(select(func.count()).select_from(Lead)) == 4  # from here on it sees one state
            with store.transaction(source=Source.IMPORT) as quick:
                convert(quick, 2)
            with store.reading() as new:
                assert ask_in(new) == pytest.approx(1 / 3)
            assert ask_in(old) == 0
    with store.reading() as newest:
        assert ask_in(newest) == pytest.approx(2 / 3)
    store.close()
