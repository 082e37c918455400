"""Frames built in parts, from the database and from Parquet, equal those built at once, to the bit."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from crm_core.arrays import NO_INSTANT
from crm_core.clock import DAY
from crm_core.errors import FeatureError, OutcomeFieldError
from crm_core.fields import Known, declare_field
from crm_core.store import Store
from features import asks, blocks
from features import events as counting
from features.asks import Measure
from features.blocks import columns_from
from features.cohort import Cohort
from features.columns import Words, as_objects
from features.facts import Facts
from features.feature_set import FEATURE_SETS, feature_set_for
from features.frame import build_frame, frame_of
from features.parquet import export_tables
from features.partitions import Database, ParquetFolder, build_partitioned, divide
from features.population import read_all
from features.tables import Table
from features.windows import NEVER
from tests.features.test_every_feature import features_for
from tests.features.worlds import BEGIN, BUSY, ids_of, make_world, write_world

INSTANTS = (BEGIN + 24 * DAY, *(BEGIN + day * DAY for day in BUSY), BEGIN + BUSY[1] * DAY - 1)


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Iterator[list[Store]]:
    """Histories with late facts, corrections and deletions."""
    folder = tmp_path_factory.mktemp("parts")
    stores = [write_world(make_world(random.Random(s).choice, 200), folder, empty_database) for s in (31, 32)]
    yield stores
    for store in stores:
        store.close()


def everything(record_type: str) -> Cohort:
    pairs = [(record_id, at) for at in INSTANTS for record_id in ids_of(record_type)]
    ids, as_of = np.array(pairs, dtype=np.int64).T
    return Cohort.of(record_type, ids, as_of)


@pytest.mark.parametrize("task", FEATURE_SETS)
@pytest.mark.parametrize("partitions", [1, 2, 7])
def test_the_number_of_partitions_and_where_they_read_from_change_no_bit(
    task: str, partitions: int, worlds: list[Store], tmp_path: Path
) -> None:
    for number, store in enumerate(worlds):
        feature_set = feature_set_for(store, task)
        cohort = everything(feature_set.record_type)
        folder = tmp_path / str(number)
        export_tables(store, feature_set, cohort.ids, folder)
        whole = build_frame(store, cohort, feature_set)
        for origin in (Database(url=store.url), ParquetFolder(path=folder)):
            parts = build_partitioned(origin, cohort, feature_set, partitions=partitions, n_jobs=1)
            pd.testing.assert_frame_equal(parts, whole, check_exact=True)


def test_processes_give_the_same_as_one(worlds: list[Store]) -> None:
    feature_set = feature_set_for(worlds[0], "lead_scoring")
    cohort = everything("lead")

    parts = build_partitioned(Database(url=worlds[0].url), cohort, feature_set, partitions=2, n_jobs=2)

    pd.testing.assert_frame_equal(parts, build_frame(worlds[0], cohort, feature_set), check_exact=True)


@pytest.mark.parametrize("task", FEATURE_SETS)
def test_every_feature_is_the_same_however_many_events_count_as_few(
    task: str, worlds: list[Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    for store in worlds:
        feature_set = features_for(store, task)
        cohort = everything(feature_set.record_type)
        usual = build_frame(store, cohort, feature_set)
        for few in (0, 3):
            monkeypatch.setattr(counting, "FEW", few)
            pd.testing.assert_frame_equal(build_frame(store, cohort, feature_set), usual, check_exact=True)
        monkeypatch.undo()


@pytest.mark.parametrize("task", FEATURE_SETS)
def test_every_feature_is_the_same_however_many_kinds_of_events_are_told_apart_at_once(
    task: str, worlds: list[Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    feature_set = features_for(worlds[0], task)
    cohort = everything(feature_set.record_type)
    usual = build_frame(worlds[0], cohort, feature_set)

    for kinds in (1, 2):
        monkeypatch.setattr(asks, "KINDS", kinds)
        planned_anew = replace(feature_set)
        assert len({panel for panel, _ in planned_anew.plan.places.values()}) > 3
        pd.testing.assert_frame_equal(build_frame(worlds[0], cohort, planned_anew), usual, check_exact=True)


@pytest.mark.parametrize("task", FEATURE_SETS)
def test_what_no_plan_foresaw_is_answered_alike(task: str, worlds: list[Store]) -> None:
    feature_set = features_for(worlds[0], task)
    cohort = everything(feature_set.record_type)
    with worlds[0].reading() as session:
        tables = read_all(session, feature_set.plan, cohort.ids)
    planned = Facts(tables, cohort, feature_set.plan)
    alone = Facts(tables, cohort, replace(feature_set.plan, places={}))

    for ask in feature_set.plan.places:
        is_event = ask.measure in (Measure.LAST, Measure.FIRST)
        found, expected = (facts.event(ask) if is_event else facts.number(ask) for facts in (alone, planned))
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("task", FEATURE_SETS)
@pytest.mark.parametrize(("block", "threads"), [(1, 1), (3, 1), (2, 2)])
def test_every_feature_is_the_same_in_blocks_of_any_size_on_any_number_of_threads(
    task: str, block: int, threads: int, worlds: list[Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    for store in worlds:
        feature_set = features_for(store, task)
        cohort = everything(feature_set.record_type)
        usual = build_frame(store, cohort, feature_set)
        monkeypatch.setattr(blocks, "BLOCK", block)
        with store.reading() as session:
            tables = read_all(session, feature_set.plan, cohort.ids)
        found = columns_from(tables, cohort, feature_set, threads=threads)
        monkeypatch.undo()
        built = frame_of(found, feature_set, len(cohort))
        pd.testing.assert_frame_equal(built, usual, check_exact=True)


def test_a_record_belongs_to_one_part_with_all_its_questions() -> None:
    ids = np.array([5, 1, 5, 9, 1, 7, 9])

    parts = divide(ids, 3)

    assert sorted(np.concatenate(parts).tolist()) == list(range(7))
    assert [sorted(set(ids[part].tolist())) for part in parts] == [[1, 5], [7], [9]]


def test_an_export_is_refused_to_features_that_it_was_not_made_for(
    worlds: list[Store], tmp_path: Path
) -> None:
    store = worlds[0]
    export_tables(store, feature_set_for(store, "lead_scoring"), ids_array("lead"), tmp_path)

    with pytest.raises(FeatureError, match=r"holds no deal\.parquet"):
        build_partitioned(ParquetFolder(path=tmp_path), everything("deal"), FEATURE_SETS["win_probability"])


def ids_array(record_type: str) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.array(ids_of(record_type), dtype=np.int64)


def test_an_export_remembers_which_fields_are_no_inputs(tmp_path: Path, empty_database: Path) -> None:
    world = make_world(random.Random(4).choice, 40)
    store = write_world(world, tmp_path, empty_database)
    export_tables(store, FEATURE_SETS["lead_scoring"], ids_array("lead"), tmp_path / "before")
    with store.transaction() as step:
        declare_field(step.session, record_type="lead", name="source", known=Known.OUTCOME)
    export_tables(store, FEATURE_SETS["lead_scoring"], ids_array("lead"), tmp_path / "after")
    store.close()

    lead = everything("lead")
    build_partitioned(ParquetFolder(path=tmp_path / "before"), lead, FEATURE_SETS["lead_scoring"], n_jobs=1)
    with pytest.raises(OutcomeFieldError, match=r"lead\.source"):
        build_partitioned(
            ParquetFolder(path=tmp_path / "after"), lead, FEATURE_SETS["lead_scoring"], n_jobs=1
        )


@pytest.mark.parametrize("seed", range(20))
def test_loops_and_running_sums_agree_on_any_events(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    source = np.random.default_rng(seed)
    size = int(source.integers(0, 60))
    happened = source.integers(0, 12, size)
    start = happened + source.integers(0, 4, size)
    versions = counting.Versions(
        key=source.choice([1, 2, 3, NO_INSTANT], size),
        record_id=np.arange(size),
        occurred_at=happened,
        start=start,
        stop=np.where(source.random(size) < 0.5, NEVER, start + source.integers(0, 6, size)),
        columns={},
    ).in_order()
    keys, as_of = source.integers(0, 5, 40), source.integers(0, 20, 40)
    weight = source.integers(-(2**62), 2**62, versions.key.size)

    def answers(few: int) -> list[list[int]]:
        monkeypatch.setattr(counting, "FEW", few)
        asked = counting.AskedEvents(versions, keys, as_of)
        windows = [None, 1, 3, 8]
        found = [asked.count(w) for w in windows] + [asked.total(weight, w) for w in windows]
        found += [asked.newest(w) for w in windows] + [asked.oldest()]
        return [column.tolist() for column in found]

    assert answers(0) == answers(2) == answers(64)


def test_events_in_any_order_and_with_keys_far_apart_are_told_by_their_record() -> None:
    source = np.random.default_rng(5)
    key = source.choice([3, 4, 2**60, NO_INSTANT], 500)
    happened = source.integers(0, 50, 500)
    columns = {
        "id": np.arange(500),
        "occurred_at": happened,
        "recorded_at": happened[::-1].copy(),
        "lead_id": key,
    }
    asked = np.array([3, 5, 2**60])

    found = Table(columns).linked("lead_id", ()).of_records(asked)

    rows = [row for row in range(500) if key[row] in {3, 2**60}]
    rows.sort(key=lambda row: (key[row], happened[row], row))
    assert found.record_id.tolist() == rows
    assert found.start.tolist() == [max(happened[row], happened[499 - row]) for row in rows]


def test_nothing_is_compiled_and_no_library_loaded_until_something_is_computed() -> None:
    program = (
        "import sys, serving.cli, features.frame; print('numba' in sys.modules, 'pandas' in sys.modules)"
    )

    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout

    assert said.split() == ["False", "False"]


@pytest.mark.parametrize("size", [0, 3, 5000])
def test_words_kept_as_numbers_are_the_same_words(size: int) -> None:
    cells: list[str | None] = ["a", None, "", "丙", "a"]
    column = as_objects([cells[number % 5] for number in range(size)])

    words = Words.of(column)

    assert words.decode().tolist() == column.tolist()
    assert words.among(("a", "丙")).tolist() == [cell in {"a", "丙"} for cell in column.tolist()]
