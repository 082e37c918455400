"""The feature engine: ten million activities of a million leads beside other engines, and one lead alone."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

from features.blocks import columns_from
from features.cohort import Cohort
from features.compiled import warm
from features.feature_set import FEATURE_SETS
from tests.bench import one_record
from tests.bench.activity_engines import by_duckdb, by_pandas, by_pandas_and_numpy, by_polars, same
from tests.bench.activity_featuretools import by_featuretools
from tests.bench.activity_log import Columns, Log, make_log, ours
from tests.bench.harness import Benchmark, Contest, SidesDisagreeError, seconds, timed

ACTIVITIES = 10_000_000
SLICE = 1_000
ROUNDS = 2


@cache
def log_of(activities: int) -> Log:
    """Return the log that all engines are asked about; made once."""
    warm()
    return make_log(activities)


def beside(engine: Callable[[Log], Columns], folder: Path) -> Contest:
    """Answer the question with the product's engine and with another, each from the same arrays."""
    log = log_of(ACTIVITIES)
    return timed(ours=lambda: ours(log), peer=lambda: engine(log), agree=same)


def beside_featuretools(folder: Path) -> Contest:
    """Answer the question with the product's engine, and a slice of it, scaled, with featuretools."""
    whole, slice_ = log_of(ACTIVITIES), make_log(SLICE)
    if not same(ours(slice_), by_featuretools(slice_)):
        raise SidesDisagreeError("ours and featuretools gave different answers")
    times = whole.asked.size / slice_.asked.size
    return Contest(
        ours=lambda: seconds(lambda: ours(whole)),
        peer=lambda: times * seconds(lambda: by_featuretools(slice_)),
    )


def growth(folder: Path) -> Contest:
    """Ten times as many activities, leads and questions: how many times as long."""
    many, few = log_of(ACTIVITIES), log_of(ACTIVITIES // 10)
    return Contest(ours=lambda: seconds(lambda: ours(many)), peer=lambda: 12 * seconds(lambda: ours(few)))


def memory(folder: Path) -> Contest:
    """The most memory that the answers and all that leads to them take, in a process of their own, in MiB."""
    return Contest(ours=lambda: peak_mib(ACTIVITIES), peer=lambda: 1024.0)


def peak_mib(activities: int) -> float:
    """Return the peak of a fresh process above what it held once the input was there."""
    command = [sys.executable, "-m", "tests.bench.bench_features", str(activities)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def measure_peak(activities: int) -> float:
    """Return how far answering raises this process's peak memory (Linux), in MiB."""
    log = log_of(activities)
    ours(make_log(1000))
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    ours(log)
    return (_status("VmHWM") - before) / 1024


def _status(name: str) -> int:
    """Return a line of this process's status in KiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def alone(task: str, folder: Path) -> Contest:
    """One record with 30 activities, from arrays to its whole default row, beside the 0.3 ms asked."""
    warm()
    feature_set = FEATURE_SETS[task]
    raw, others = one_record.arrays(feature_set), one_record.populations(feature_set)
    cohort = Cohort.of(feature_set.record_type, one_record.RECORD, one_record.AS_OF)

    def row() -> None:
        columns_from(one_record.tables(raw, others), cohort, feature_set)

    return Contest(ours=lambda: _median_ms(row, 500), peer=lambda: 0.3)


def _median_ms(call: Callable[[], None], times: int) -> float:
    taken = []
    for _ in range(times):
        started = time.perf_counter()
        call()
        taken.append(1000 * (time.perf_counter() - started))
    return statistics.median(taken)


BENCHMARKS = (
    *(
        Benchmark(
            name=f"features_beside_{name}",
            peer_name=name,
            prepare=partial(beside, engine),
            asked=asked,
            rounds=ROUNDS,
        )
        for name, engine, asked in (
            ("polars", by_polars, 5.0),
            ("duckdb", by_duckdb, 7.0),
            ("pandas", by_pandas, 8.0),
            ("pandas_and_numpy", by_pandas_and_numpy, None),
        )
    ),
    Benchmark(
        name="features_beside_featuretools",
        peer_name="featuretools, a slice, scaled",
        prepare=beside_featuretools,
        asked=1000.0,
        rounds=1,
        warm=False,
    ),
    Benchmark(
        name="features_growth",
        peer_name="12 times what a tenth takes",
        prepare=growth,
        asked=1.0,
        rounds=ROUNDS,
    ),
    Benchmark(name="features_memory", peer_name="1 GiB", prepare=memory, unit="MiB", asked=1.0, rounds=1),
    *(
        Benchmark(
            name=f"one_{task}_row", peer_name="0.3 ms", prepare=partial(alone, task), unit="ms", asked=1.0
        )
        for task in FEATURE_SETS
    ),
)

if __name__ == "__main__":
    print(measure_peak(int(sys.argv[1])))
