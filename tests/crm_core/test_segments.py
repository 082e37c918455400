"""Binary search in many runs at once equals looking through each run."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from crm_core.segments import end_within, expand_runs, runs_of

RUNS = st.dictionaries(st.integers(-3, 3), st.lists(st.integers(-5, 5), max_size=6), max_size=5)


@given(runs=RUNS, questions=st.lists(st.tuples(st.integers(-4, 4), st.integers(-6, 6)), max_size=8))
def test_the_end_is_after_the_last_value_up_to_the_limit(
    runs: dict[int, list[int]], questions: list[tuple[int, int]]
) -> None:
    keys = np.array([key for key in sorted(runs) for _ in runs[key]], dtype=np.int64)
    values = np.array([value for key in sorted(runs) for value in sorted(runs[key])], dtype=np.int64)
    asked, limit = np.array(questions, dtype=np.int64).reshape(-1, 2).T

    start, stop = runs_of(keys, asked)
    end = end_within(values, start, stop, limit)

    within = [sum(value <= most for value in runs.get(key, ())) for key, most in questions]
    assert (end - start).tolist() == within
    assert (stop - start).tolist() == [len(runs.get(key, ())) for key, _ in questions]


@given(runs=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 4)), max_size=6))
def test_expanding_runs_gives_every_position_of_each(runs: list[tuple[int, int]]) -> None:
    start, length = np.array(runs, dtype=np.int64).reshape(-1, 2).T

    run, position = expand_runs(start, start + length)

    expected = [(number, first + step) for number, (first, size) in enumerate(runs) for step in range(size)]
    assert list(zip(run.tolist(), position.tolist(), strict=True)) == expected
