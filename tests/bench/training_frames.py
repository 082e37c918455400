"""The training frames of the three tasks from the database of a simulated company, by stage.

    python -m tests.bench.training_frames [SIZE]

prints one JSON object a task: seconds and peak memory (MiB, Linux) of reading rows into arrays, of putting
events in order, and of computing the columns, and which part of each was spent making or looking at Python
objects a value (as the profiler sees it).
"""

from __future__ import annotations

import cProfile
import json
import pstats
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from crm_core import migrations
from crm_core.clock import FixedClock
from crm_core.store import Store
from features.blocks import columns_from, prepare, threads_for
from features.cohort import Cohort
from features.compiled import warm
from features.feature_set import FEATURE_SETS, FeatureSet, feature_set_for
from features.population import read_all
from models.simulation import simulate_company
from models.tasks import TASKS

Measure = Callable[[str, Callable[[], Any]], tuple[Any, dict[str, float]]]

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
BEGIN = datetime(2020, 1, 1, tzinfo=UTC)
OBJECTS = ("tolist", "fetchall", "fromkeys", "fromiter", "loads", "raw_decode", "comp>", "<genexpr>", "zip")
"""Where values become Python objects, or are looked at as such."""


def simulated(folder: Path, size: str) -> Store:
    """Return the store of a simulated company."""
    url = f"sqlite:///{folder / 'crm.db'}"
    migrations.upgrade(url)
    store = Store(url, clock=FixedClock(NOW))
    simulate_company(store, size=size, seed=1)
    return store


def stages(store: Store, feature_set: FeatureSet, cohort: Cohort) -> dict[str, float]:
    """Return what each stage of a frame takes, and which part of it goes to Python objects."""
    # The profiler sees one thread only, and slows down what it looks at: it gets a run of its own.
    timed = _run(store, feature_set, cohort, _timed, threads_for(len(cohort)))
    return timed | _run(store, feature_set, cohort, _profiled, 1)


def _run(
    store: Store, feature_set: FeatureSet, cohort: Cohort, measure: Measure, threads: int
) -> dict[str, float]:
    with store.reading() as session:
        tables, read = measure("read", lambda: read_all(session, feature_set.plan, cohort.ids))
    _, index = measure("index", lambda: prepare(tables, feature_set.plan))
    _, compute = measure("compute", lambda: columns_from(tables, cohort, feature_set, threads=threads))
    return read | index | compute


def _timed(stage: str, call: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    Path("/proc/self/clear_refs").write_text("5")
    before, started = _memory("VmRSS"), time.perf_counter()
    result = call()
    taken, peak = time.perf_counter() - started, (_memory("VmHWM") - before) / 1024
    return result, {f"{stage}_s": taken, f"{stage}_peak_mib": max(0.0, peak)}


def _profiled(stage: str, call: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    profile = cProfile.Profile()
    result = profile.runcall(call)
    return result, {f"{stage}_object_share": _object_share(profile)}


def _object_share(profile: cProfile.Profile) -> float:
    # By file, line and name: many functions are called alike, as every comprehension is.
    stats = vars(pstats.Stats(profile))["stats"]
    spent = [(name, own) for (_, _, name), (_, _, own, *_) in stats.items()]
    objects = sum(own for name, own in spent if any(part in name for part in OBJECTS))
    return float(objects / (sum(own for _, own in spent) or 1.0))


def _memory(name: str) -> int:
    """Return a line of this process's status in KiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def report(size: str) -> None:
    """Print the stages of each task's training frame."""
    warm()
    with tempfile.TemporaryDirectory() as folder:
        store = simulated(Path(folder), size)
        for name in FEATURE_SETS:
            cohort = TASKS[name].ask(store, start=BEGIN, until=NOW)
            found = stages(store, feature_set_for(store, name), cohort)
            figures = {key: float(f"{value:.3g}") for key, value in found.items()}
            print(json.dumps({"task": name, "questions": len(cohort), **figures}), flush=True)
        store.close()


if __name__ == "__main__":
    report(sys.argv[1] if len(sys.argv) > 1 else "medium")
