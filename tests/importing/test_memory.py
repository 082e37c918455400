"""Memory is bound by the batch, not by the file."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable

import pytest

from tests.importing.conftest import LEADS, Workbench
from tests.importing.test_records import GROUPED

BATCH = 50


def peak(bench: Workbench, mapping: str) -> int:
    gc.collect()
    tracemalloc.start()
    bench.run(mapping)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return most


def write_leads(bench: Workbench, rows: int) -> None:
    lines = (f"L{rows}-{n},Firm {n} {'x' * 50},fair,2024-05-01" for n in range(rows))
    bench.write("leads.csv", "\n".join(["id,company,source,created", *lines, ""]))


def write_lines(bench: Workbench, rows: int) -> None:
    lines = (f"D{rows}-{n // 2},202402,5,EUR,{'x' * 50},0" for n in range(rows))
    bench.write("lines.csv", "\n".join(["deal,month,price,currency,product,flag", *lines, ""]))


@pytest.mark.parametrize(("mapping", "write"), [(LEADS, write_leads), (GROUPED, write_lines)])
def test_sixteen_times_the_rows_take_about_the_same_memory(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch, mapping: str, write: Callable[[Workbench, int], None]
) -> None:
    monkeypatch.setattr("crm_core.importing.run.BATCH_ROWS", BATCH)
    monkeypatch.setattr("crm_core.importing.grouping.BATCH_ROWS", BATCH)
    monkeypatch.setattr("crm_core.search_index._LARGEST", BATCH)
    monkeypatch.setattr("crm_core.search_index._FOLD_AT", BATCH)
    write(bench, BATCH)
    bench.run(mapping)  # what is loaded once is no part of the comparison
    write(bench, 4 * BATCH)
    small = peak(bench, mapping)
    write(bench, 64 * BATCH)
    # Caches of other libraries take no more than this; holding the file would be sixteenfold.
    assert peak(bench, mapping) < 2.5 * small
