"""The known leaks of public data sets are refused by name, and honest columns are not."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from crm_core.clock import FixedClock
from crm_core.store import Store
from models.tasks import get_task
from models.training import look_for_leaks
from tests.models.real_leaks import SETS, import_spoilt

LATER = FixedClock(datetime(2026, 3, 2, tzinfo=UTC))

ROWS = {"ibm": 8_000, "eci": 8_000}
"""Of the larger files some rows are enough to tell."""


@pytest.mark.parametrize("name", SETS)
def test_known_leaks_are_refused_by_name_and_honest_columns_are_not(
    real_data: Path, empty_database: Path, tmp_path: Path, name: str
) -> None:
    real = SETS[name]
    if not (real_data / real.folder).is_dir():
        pytest.skip(f"{real.folder} is not among the public data sets in {real_data}")
    shutil.copy(empty_database, tmp_path / "crm.db")
    store = Store(f"sqlite:///{tmp_path / 'crm.db'}", clock=LATER)
    import_spoilt(store, real, real_data, tmp_path, rows=ROWS.get(name))
    found = look_for_leaks(store, get_task(real.task))
    store.close()
    refused = {each.fields[0].rsplit(".", 1)[-1] for each in found if not each.doubtful}
    warned = {each.fields[0].rsplit(".", 1)[-1] for each in found if each.doubtful}
    assert real.leaks <= refused
    assert len(refused - real.leaks) <= 1, [each.to_json() for each in found]
    assert warned == real.doubtful
