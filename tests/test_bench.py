"""The measuring itself is measured: figures, verdicts and what is printed."""

import io
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import postgres
from tests.bench import bench_bulk, bench_writing_back
from tests.bench.__main__ import all_benchmarks
from tests.bench.harness import (
    Aspect,
    Benchmark,
    Contest,
    SidesDisagreeError,
    figures,
    main,
    run,
    run_all,
    seconds,
    timed,
)

KEYS = ["name", "ours", "peer_name", "peer", "unit", "ratio", "asked", "holds", "rounds"]


def contest_of(ours: float, peer: float, *, less_is_better: bool = True) -> Contest:
    return Contest(ours=lambda: ours, peer=lambda: peer, less_is_better=less_is_better)


def benchmark_of(contest: Contest, *, name: str = "reading", asked: float | None = None) -> Benchmark:
    return Benchmark(name=name, peer_name="other", prepare=lambda _: contest, asked=asked, rounds=3)


@pytest.fixture(autouse=True)
def no_look_for_garbage(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave what other tests of this process have left: each look for it takes seconds."""
    monkeypatch.setattr("tests.bench.harness.gc.collect", lambda: 0)


def test_ours_in_half_the_time_is_a_ratio_of_two(tmp_path: Path) -> None:
    assert run(benchmark_of(contest_of(0.5, 1.0)), tmp_path)[0].ratio == 2


def test_twice_the_rate_is_a_ratio_of_two_as_well(tmp_path: Path) -> None:
    contest = contest_of(200.0, 100.0, less_is_better=False)

    assert run(benchmark_of(contest), tmp_path)[0].ratio == 2


def test_sides_take_turns_after_one_round_that_does_not_count(tmp_path: Path) -> None:
    asked: list[str] = []
    figures = {"ours": iter([9.0, 1.0, 2.0, 3.0]), "peer": iter([9.0, 10.0, 20.0, 30.0])}

    def side(name: str) -> float:
        asked.append(name)
        return next(figures[name])

    (outcome,) = run(
        benchmark_of(Contest(ours=lambda: side("ours"), peer=lambda: side("peer"))),
        tmp_path,
    )

    assert asked == ["ours", "peer"] * 4
    assert (outcome.ours, outcome.peer) == (2.0, 20.0)


@pytest.mark.parametrize(("asked", "holds"), [(None, True), (1.9, True), (2.0, True), (2.1, False)])
def test_an_asked_ratio_holds_from_that_ratio_on(tmp_path: Path, asked: float | None, holds: bool) -> None:
    assert run(benchmark_of(contest_of(0.5, 1.0), asked=asked), tmp_path)[0].holds is holds


def test_each_outcome_is_one_json_object_a_line_and_progress_goes_elsewhere() -> None:
    out, progress = io.StringIO(), io.StringIO()

    run_all(
        [benchmark_of(contest_of(0.5, 1.0)), benchmark_of(contest_of(1.0, 3.0))], out=out, progress=progress
    )

    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [list(line) for line in lines] == [KEYS, KEYS]
    assert [line["ratio"] for line in lines] == [2.0, 3.0]
    assert len(progress.getvalue().splitlines()) == 2


def test_a_benchmark_that_breaks_is_told_and_the_next_one_still_runs() -> None:
    def broken(folder: Path) -> Contest:
        raise OSError(f"cannot fill {folder}")

    out, progress = io.StringIO(), io.StringIO()
    benchmarks = [
        Benchmark(name="broken", peer_name="other", prepare=broken),
        benchmark_of(contest_of(1.0, 2.0)),
    ]

    assert not run_all(benchmarks, out=out, progress=progress)
    assert "cannot fill" in progress.getvalue()
    assert [json.loads(line)["name"] for line in out.getvalue().splitlines()] == ["reading"]


def test_sides_that_disagree_are_not_compared() -> None:
    with pytest.raises(SidesDisagreeError):
        timed(ours=lambda: 1, peer=lambda: 2, agree=lambda ours, peer: ours == peer)


def test_a_call_takes_as_long_as_the_clock_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([10.0, 12.5])
    monkeypatch.setattr("tests.bench.harness.time.perf_counter", lambda: next(ticks))

    assert seconds(lambda: None) == 2.5


@pytest.mark.parametrize(
    ("arguments", "status"),
    [([], 1), (["--only", "quick"], 0), (["--only", "slow"], 1), (["--only", "unheard-of"], 2)],
)
def test_the_status_tells_what_held(
    arguments: list[str], status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    quick = benchmark_of(contest_of(1.0, 2.0), name="quick", asked=1.5)
    slow = benchmark_of(contest_of(2.0, 1.0), name="slow", asked=1.5)

    assert main(arguments, [quick, slow]) == status


def test_an_unknown_name_is_answered_with_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--only", "unheard-of"], [benchmark_of(contest_of(1.0, 2.0), name="quick")])

    captured = capsys.readouterr()
    assert "unheard-of" in captured.err
    assert "quick" in captured.err
    assert captured.out == ""


def test_each_aspect_of_a_contest_has_an_outcome_of_its_own(tmp_path: Path) -> None:
    closed: list[bool] = []
    contest = Contest(ours=lambda: (1.0, 10.0), peer=lambda: (4.0, 20.0), close=lambda: closed.append(True))
    memory = Aspect(name="memory", peer_name="another", unit="MB", asked=3)
    benchmark = Benchmark(
        name="reading", peer_name="other", prepare=lambda _: contest, also=(memory,), rounds=1, asked=2
    )

    found = run(benchmark, tmp_path)

    assert [(each.name, each.ratio, each.unit, each.holds) for each in found] == [
        ("reading", 4, "s", True),
        ("reading_memory", 2, "MB", False),
    ]
    assert closed == [True]


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
@pytest.mark.parametrize("compared", [bench_bulk.reading, bench_bulk.writing])
def test_the_ways_of_bulk_agree_on_a_few_records(compared: Callable[..., Contest], database: str) -> None:
    if database == "postgresql" and postgres.find_binaries() is None:
        pytest.skip("PostgreSQL is not installed: initdb was not found")
    with tempfile.TemporaryDirectory(prefix="crm-bench-") as folder:
        contest = compared(Path(folder), database=database, size=700)
        try:
            taken = [figures(contest.ours()), figures(contest.peer())]
        finally:
            contest.close()
    assert all(figure > 0 for side in taken for figure in side)


def test_every_benchmark_has_a_name_of_its_own() -> None:
    names = [benchmark.name for benchmark in all_benchmarks()]

    assert len(names) == len(set(names)) > 0


def test_all_ways_to_write_scores_back_leave_the_same(tmp_path: Path) -> None:
    contest = bench_writing_back.writing_back(tmp_path, database="sqlite", size=1_000)
    assert min(*figures(contest.ours()), *figures(contest.peer())) > 0  # each has checked what it left
    contest.close()
