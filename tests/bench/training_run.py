"""One training on many questions, stage by stage: `python -m tests.bench.training_run ROWS`.

The questions are those of a small simulated company, drawn again and again until there are enough; each is
answered from the store by the feature engine and labelled as any other. They are of few accounts, so that
the sample to choose on keeps every account and asks it less often. What is told are the seconds of each
stage, on the clock and of the processor, and the highest memory, from a process of its own.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from crm_core import migrations
from crm_core.clock import FixedClock
from crm_core.store import Store
from features.cohort import Cohort
from models.lead_scoring import TASK
from models.registry import Registry
from models.simulation import simulate_company
from models.task import BuildCohort, Task
from models.training import train

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)

STAGES: dict[str, tuple[str, ...]] = {
    "asking": ("asking",),
    "guard": ("looking for leaks",),
    "choosing": ("choosing", "judging on", "trying"),
    "fitting": ("fitting",),
    "calibrating": ("calibrating",),
    "judging": ("judging",),
    "registering": ("registering",),
}
"""By stage, how what a training says begins while it is in it."""


@dataclass
class Watch:
    """Notes how long each stage took, by what the training says when it begins something.

    `processor` counts the seconds of all cores that this process had, whatever else the machine was doing.
    """

    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))
    processor: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))
    _stage: str = "asking"
    _since: float = field(default_factory=time.perf_counter)
    _used: float = field(default_factory=time.process_time)

    def hear(self, said: str, *_: Any) -> None:
        """Count the time until now to the stage before."""
        now, used = time.perf_counter(), time.process_time()
        self.seconds[self._stage] += now - self._since
        self.processor[self._stage] += used - self._used
        self._since, self._used, self._stage = now, used, stage_of(said) or self._stage


def stage_of(said: str) -> str | None:
    """Return the stage that a message belongs to; the longest beginning counts."""
    fitting = [
        (len(begin), name) for name, begins in STAGES.items() for begin in begins if said.startswith(begin)
    ]
    return max(fitting)[1] if fitting else None


def repeated(build: BuildCohort, rows: int, seed: int) -> Callable[..., Cohort]:
    """Return what asks the same questions until there are `rows`; drawn, so that tiles are not all alike."""

    def asked(store: Store, *, start: datetime, until: datetime) -> Cohort:
        found = build(store, start=start, until=until)
        drawn = np.random.default_rng(seed).integers(0, len(found), rows)
        return found.take(np.sort(drawn))

    return asked


def task_of(rows: int) -> Task:
    """Return the lead task with so many questions to learn from, and a tenth as many to judge by."""
    return replace(
        TASK,
        ask=repeated(TASK.ask, rows, 1),
        ask_to_judge=repeated(TASK.ask_to_judge, max(rows // 10, 2000), 2),
    )


def run(rows: int, folder: Path) -> dict[str, Any]:
    """Train once and return what it took."""
    url = f"sqlite:///{folder / 'crm.db'}"
    migrations.upgrade(url)
    store = Store(url, clock=FixedClock(NOW))
    simulate_company(store, size="small", seed=1)
    registry = Registry(f"sqlite:///{folder / 'mlflow.db'}", folder / "mlartifacts")
    registry.prepare()
    before = peak_mib()
    watch, began = Watch(), time.perf_counter()
    report = train(
        store,
        task_of(rows),
        as_of=NOW - timedelta(days=150),
        registry=registry,
        progress=watch.hear,
    )
    watch.hear("done")
    whole = time.perf_counter() - began
    store.close()
    return {
        "rows": rows,
        "features": len(report.bundle.features),
        "estimator": str(report.choice.recipe.rung),
        "sampled": None if report.choice.sampled is None else vars(report.choice.sampled),
        "processor_seconds": {"whole": sum(watch.processor.values()), **watch.processor},
        "seconds": {"whole": whole, **watch.seconds},
        "peak_mib": peak_mib(),
        "before_mib": before,
    }


def peak_mib() -> float:
    """Return the most memory that this process has had, in MiB."""
    kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kib / (1024 * 1024 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        print(json.dumps(run(int(sys.argv[1]), Path(place))))
