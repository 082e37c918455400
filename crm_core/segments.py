"""Runs of a sorted array, one run a key, and binary search inside all of them at once."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]


def runs_of(sorted_keys: Ints, keys: Ints) -> tuple[Ints, Ints]:
    """Return where the run of each of `keys` starts and stops in `sorted_keys`, equal if it has none."""
    start = np.searchsorted(sorted_keys, keys, side="left")
    return start, np.searchsorted(sorted_keys, keys, side="right")


def end_within(values: Ints, start: Ints, stop: Ints, limit: Ints) -> Ints:
    """Return, for each run, the position after its last value that is at most `limit`.

    Parameters
    ----------
    values : int64[m]
        Ascending within each run.
    start, stop, limit : int64[n]
        Runs as half-open ranges of positions in `values`, and one limit for each.

    Returns
    -------
    int64[n]
        A position from `start` (no value is at most the limit) to `stop` (all are).
    """
    low, high = start.copy(), stop.copy()
    while (searching := low < high).any():
        # A search that is over may point one past the end; what it reads there is not used.
        middle = np.minimum((low + high) >> 1, values.size - 1)
        below = values[middle] <= limit
        low = np.where(searching & below, middle + 1, low)
        high = np.where(searching & ~below, middle, high)
    return low


def expand_runs(start: Ints, stop: Ints) -> tuple[Ints, Ints]:
    """Return every position of every run, with the number of its run: two int64[sum of lengths]."""
    length = stop - start
    run = np.repeat(np.arange(start.size), length)
    first = np.cumsum(length) - length
    return run, np.arange(run.size) - first[run] + start[run]
