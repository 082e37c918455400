"""PostgreSQL gives the same cohorts, labels and rows as SQLite, to the bit."""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import psycopg
import pytest

from crm_core import migrations
from crm_core.clock import instant
from crm_core.store import Store
from features.cohort import Cohort, account_cohort, deal_cohort, lead_cohort
from features.feature_set import FEATURE_SETS, feature_set_for
from features.frame import build_frame
from features.labels import Labels, contract_labels, deal_labels, lead_labels
from tests import postgres
from tests.features.worlds import BEGIN, END, fill_store, make_world, write_world


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Iterator[tuple[Store, Store]]:
    """One world, on SQLite and on PostgreSQL."""
    world = make_world(random.Random(2).choice, 150)
    # Not below pytest's own folder: PostgreSQL's user must be able to enter every folder above.
    folder = Path(tempfile.mkdtemp(prefix="crm-postgres-"))
    try:
        with postgres.server(folder) as url:
            with psycopg.connect(f"{url}/postgres".replace("+psycopg", ""), autocommit=True) as connection:
                connection.execute("CREATE DATABASE features")
            migrations.upgrade(f"{url}/features")
            stores = (
                write_world(world, tmp_path_factory.mktemp("sqlite"), empty_database),
                fill_store(world, f"{url}/features"),
            )
            yield stores
            for store in stores:
                store.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


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
