"""An import that is killed and run again leaves what one run would have left."""

from __future__ import annotations

import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from crm_core.importing import load_mapping, run_import
from crm_core.store import Store
from tests.conftest import MONDAY
from tests.importing.conftest import Workbench
from tests.importing.test_events import CONVERSIONS

KILLED = """
import os, signal, sys
from datetime import datetime
from pathlib import Path
from crm_core.clock import FixedClock
from crm_core.importing import load_mapping, run, run_import
from crm_core.store import Store

url, mapping, folder, now, kill_at = sys.argv[1:]
run.BATCH_ROWS = 10
told = 0

def progress(_):
    global told
    told += 1
    if told == int(kill_at):
        os.kill(os.getpid(), signal.SIGKILL)

store = Store(url, clock=FixedClock(datetime.fromisoformat(now)))
run_import(store, load_mapping(mapping), Path(folder), progress=progress)
"""

LEADS = 60


def write_export(bench: Workbench) -> Path:
    leads = [f"L{n},Firm {n},fair,2024-05-01" for n in range(LEADS)]
    won = [f"L{n},A{n},2024-05-{2 + n % 20:02},pets" for n in range(0, LEADS, 2)]
    bench.write("leads.csv", "\n".join(["id,company,source,created", *leads, ""]))
    bench.write("won.csv", "\n".join(["lead,account,at,segment", *won, ""]))
    coverage = '\n[coverage]\nlead = { newest_of = "conversions" }\naccount = "2024-06-01T00:00:00Z"\n'
    return bench.write("mapping.toml", CONVERSIONS + coverage)


def dump(path: Path) -> dict[str, list[Any]]:
    """Return every row of every table."""
    with sqlite3.connect(path) as database:
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {name: sorted(database.execute(f"SELECT * FROM {name}"), key=repr) for name in tables}


@pytest.mark.parametrize("kill_at", [1, 4, 9, 13])
def test_an_import_killed_half_way_and_run_again_equals_one_run(
    bench: Workbench,
    home: Path,
    tmp_path: Path,
    empty_database: Path,
    monkeypatch: pytest.MonkeyPatch,
    kill_at: int,
) -> None:
    monkeypatch.setattr("crm_core.importing.run.BATCH_ROWS", 10)
    mapping = write_export(bench)
    run_import(bench.store, load_mapping(mapping), bench.folder)
    expected = dump(home / "crm.db")

    killed = tmp_path / "killed.db"
    shutil.copy(empty_database, killed)
    arguments = [f"sqlite:///{killed}", str(mapping), str(bench.folder), MONDAY.isoformat(), str(kill_at)]
    process = subprocess.run([sys.executable, "-c", KILLED, *arguments], check=False)
    assert process.returncode == -signal.SIGKILL
    half = dump(killed)
    assert half["leads"]
    assert half != expected

    store = Store(f"sqlite:///{killed}", clock=bench.store.clock)
    report = run_import(store, load_mapping(mapping), bench.folder)
    store.close()
    assert report.refused == 0
    assert dump(killed) == expected
