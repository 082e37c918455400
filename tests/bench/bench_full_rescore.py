"""A rescore of many leads with ten activities each, written back, on both databases: stages and memory."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial
from pathlib import Path

from tests.bench.bench_bulk import databases
from tests.bench.full_rescore_run import STAGES
from tests.bench.harness import Aspect, Benchmark, Contest

LEADS = 50_000
"""For every day; a million, with ten million activities, goes by `tests.bench.full_rescore_run` itself."""

MEMORY_MIB = 3 * 1024


def rescoring(folder: Path, *, database: str, leads: int = LEADS) -> Contest:
    """Rescore in a process of its own; the peer of a stage is the whole run, so that a ratio is 1 / share."""
    with databases(database, folder) as made:
        url = made.make_empty()
        told = subprocess.run(
            [sys.executable, "-m", "tests.bench.full_rescore_run", url, str(leads)],
            cwd=Path(__file__).resolve().parents[2],
            check=True,
            capture_output=True,
            text=True,
        )
    found = json.loads(told.stdout.splitlines()[-1])
    stages = tuple(max(found["stages"][stage], 1e-9) for stage in STAGES)
    ours = (found["seconds"], *stages, found["longest_lot"], found["peak_mib"])
    peer = (found["processor_seconds"], *(found["seconds"] for _ in STAGES), 0.2, float(MEMORY_MIB))
    return Contest(ours=lambda: ours, peer=lambda: peer)


def benchmarks(database: str) -> Benchmark:
    """Return the benchmark on one database."""
    return Benchmark(
        name=f"full_rescore_{database}",
        peer_name="the seconds of the processor",
        prepare=partial(rescoring, database=database),
        also=(
            *(Aspect(name=stage, peer_name="the whole run", unit="s") for stage in STAGES),
            Aspect(name="longest_lot", peer_name="what others may wait", unit="s"),
            Aspect(name="memory", peer_name="3 GiB", unit="MiB", asked=1),
        ),
        rounds=1,
        warm=False,
    )


BENCHMARKS = (benchmarks("sqlite"), benchmarks("postgresql"))
