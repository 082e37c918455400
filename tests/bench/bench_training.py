"""A whole training on a million questions: how long each stage takes, and how much memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.bench.harness import Aspect, Benchmark, Contest
from tests.bench.training_run import STAGES

ROWS = 1_000_000


def training(folder: Path, *, rows: int = ROWS) -> Contest:
    """Train in a process of its own; the peer of a stage is the whole run, so that a ratio is 1 / share.

    The run itself is told in seconds on the clock, beside those of the processor; stages in the latter, which
    do not depend on what else the machine is doing.
    """
    told = subprocess.run(
        [sys.executable, "-m", "tests.bench.training_run", str(rows)],
        cwd=Path(__file__).resolve().parents[2],
        check=True,
        capture_output=True,
        text=True,
    )
    found = json.loads(told.stdout.splitlines()[-1])
    seconds = found["seconds"]
    used = found["processor_seconds"]
    ours = (seconds["whole"], *(max(used[stage], 1e-9) for stage in STAGES), found["peak_mib"])
    peer = (used["whole"],) * (1 + len(STAGES)) + (float(matrix_mib(found)),)
    return Contest(ours=lambda: ours, peer=lambda: peer)


def matrix_mib(found: dict[str, int]) -> float:
    """Return what one matrix of all features of all rows takes."""
    return found["rows"] * found["features"] * 8 / 2**20


BENCHMARKS = (
    Benchmark(
        name="train_a_million",
        peer_name="the seconds of the processor",
        prepare=training,
        also=(
            *(Aspect(name=stage, peer_name="the whole run", unit="s of the processor") for stage in STAGES),
            Aspect(name="memory", peer_name="one matrix of all features", unit="MiB"),
        ),
        rounds=1,
        warm=False,
    ),
)
