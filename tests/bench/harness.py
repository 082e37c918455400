"""How a comparison is declared, run and told.

A benchmark is a function that is given an empty folder, prepares what both sides need and returns a
`Contest`, two calls that each give a figure, or one for each aspect. The harness warms both up once, then
asks them in turn, round by round, so that whatever else the machine is doing falls on both alike. The median
of each side counts.
"""

import argparse
import gc
import json
import statistics
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TextIO, TypeVar

Ours = TypeVar("Ours")
Peer = TypeVar("Peer")


class SidesDisagreeError(Exception):
    """The two sides gave different answers, so their speeds cannot be compared."""


class UnknownBenchmarkError(Exception):
    """No benchmark has that name."""


Figures = float | tuple[float, ...]
"""What a side took: in the benchmark's unit, and then in those of its further aspects."""


@dataclass(frozen=True, kw_only=True)
class Contest:
    """Two ways to get the same thing, each a call that returns what it took; `close` ends the contest."""

    ours: Callable[[], Figures]
    peer: Callable[[], Figures]
    less_is_better: bool = True
    close: Callable[[], None] = lambda: None


@dataclass(frozen=True, kw_only=True)
class Aspect:
    """What else a contest measures: by which peer, in which unit and which ratio is asked."""

    name: str
    peer_name: str
    unit: str
    asked: float | None = None


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """A comparison by name: who the peer is, what its figures are measured in and which ratio is asked."""

    name: str
    peer_name: str
    prepare: Callable[[Path], Contest]
    unit: str = "s"
    asked: float | None = None
    also: tuple[Aspect, ...] = ()
    rounds: int = 5
    warm: bool = True

    @property
    def aspects(self) -> tuple[Aspect, ...]:
        """Return all that is measured, the benchmark's own figure first."""
        own = Aspect(name="", peer_name=self.peer_name, unit=self.unit, asked=self.asked)
        return (own, *self.also)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a benchmark found; a ratio above 1 means that ours is better."""

    name: str
    ours: float
    peer_name: str
    peer: float
    unit: str
    ratio: float
    asked: float | None
    holds: bool
    rounds: int

    def to_json(self) -> str:
        """Return the outcome as one line."""
        return json.dumps({key: rounded(value) for key, value in asdict(self).items()})


def rounded(value: object) -> object:
    """Return a figure with as many digits as a measurement is worth, and anything else as it is."""
    return float(f"{value:.4g}") if isinstance(value, float) else value


def timed(
    *, ours: Callable[[], Ours], peer: Callable[[], Peer], agree: Callable[[Ours, Peer], bool]
) -> Contest:
    """Return a contest in seconds between two calls, having checked that their answers agree."""
    if not agree(ours(), peer()):
        raise SidesDisagreeError("ours and the peer gave different answers: there is nothing to compare")
    return Contest(ours=lambda: seconds(ours), peer=lambda: seconds(peer))


def seconds(call: Callable[[], object]) -> float:
    """Return how long a call takes, without the garbage of what ran before it."""
    gc.collect()
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def run(benchmark: Benchmark, folder: Path) -> list[Outcome]:
    """Run one benchmark in an empty folder; return an outcome for each of its aspects."""
    contest = benchmark.prepare(folder)
    try:
        if benchmark.warm:
            contest.ours()
            contest.peer()
        rounds = [(figures(contest.ours()), figures(contest.peer())) for _ in range(benchmark.rounds)]
    finally:
        contest.close()
    return [
        outcome_of(benchmark, aspect, [(ours[at], peer[at]) for ours, peer in rounds], contest.less_is_better)
        for at, aspect in enumerate(benchmark.aspects)
    ]


def figures(taken: Figures) -> tuple[float, ...]:
    """Return what a side took, one figure an aspect."""
    return taken if isinstance(taken, tuple) else (taken,)


def outcome_of(
    benchmark: Benchmark, aspect: Aspect, rounds: Sequence[tuple[float, float]], less_is_better: bool
) -> Outcome:
    """Return what the rounds say of one aspect."""
    ours, peer = (statistics.median(side) for side in zip(*rounds, strict=True))
    ratio = peer / ours if less_is_better else ours / peer
    return Outcome(
        name="_".join(filter(None, (benchmark.name, aspect.name))),
        ours=ours,
        peer_name=aspect.peer_name,
        peer=peer,
        unit=aspect.unit,
        ratio=ratio,
        asked=aspect.asked,
        holds=aspect.asked is None or ratio >= aspect.asked,
        rounds=benchmark.rounds,
    )


def choose(benchmarks: Sequence[Benchmark], only: str | None) -> list[Benchmark]:
    """Return the benchmarks to run: all of them, or the one that is named."""
    chosen = [benchmark for benchmark in benchmarks if only in (None, benchmark.name)]
    if not chosen:
        known = ", ".join(benchmark.name for benchmark in benchmarks)
        raise UnknownBenchmarkError(f"no benchmark is called {only!r}; there are {known}")
    return chosen


def run_all(benchmarks: Sequence[Benchmark], *, out: TextIO, progress: TextIO) -> bool:
    """Run benchmarks, one JSON object a line on `out`; tell whether each ran and held what is asked of it."""
    good = True
    for number, benchmark in enumerate(benchmarks, start=1):
        title = f"[{number}/{len(benchmarks)}] {benchmark.name}"
        print(f"{title}: beside {benchmark.peer_name}, {benchmark.rounds} rounds", file=progress, flush=True)
        outcomes = run_guarded(benchmark, progress)
        good = good and bool(outcomes) and all(outcome.holds for outcome in outcomes)
        for outcome in outcomes:
            print(outcome.to_json(), file=out, flush=True)
    return good


def run_guarded(benchmark: Benchmark, progress: TextIO) -> list[Outcome]:
    """Run a benchmark in a folder of its own; nothing where it broke, so that the next one can run."""
    with tempfile.TemporaryDirectory(prefix=f"bench-{benchmark.name}-") as folder:
        try:
            return run(benchmark, Path(folder))
        except Exception:  # noqa: BLE001  whatever a benchmark breaks on is told, and the others still run
            traceback.print_exc(file=progress)
            return []


def main(arguments: Sequence[str], benchmarks: Sequence[Benchmark]) -> int:
    """Run what the command line asks for; 0 when all held, 1 when one did not, 2 for no such one."""
    parser = argparse.ArgumentParser(prog="make bench", description="Measure ours beside others.")
    parser.add_argument("--only", metavar="NAME", help="run this one alone")
    only = parser.parse_args(arguments).only
    try:
        chosen = choose(benchmarks, only)
    except UnknownBenchmarkError as error:
        print(error, file=sys.stderr)
        return 2
    return 0 if run_all(chosen, out=sys.stdout, progress=sys.stderr) else 1
