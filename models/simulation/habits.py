"""What people do to data: they write things down late."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from crm_core.clock import DAY, SECOND
from models.simulation.working_time import instants, working_days

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def recorded_late(rng: np.random.Generator, at: Ints, *, share: float, days: float) -> Ints:
    """Return when facts are written down: within two hours, a `share` of them one to `days` days later."""
    soon = rng.integers(30, 7_200, at.size) * SECOND
    later = (rng.uniform(1.0, days, at.size) * DAY).astype(np.int64)
    return at + np.where(rng.random(at.size) < share, later, soon)


def after(rng: np.random.Generator, at: Ints, working: float) -> Ints:
    """Return an instant up to so many working days after each of `at`."""
    return instants(working_days(at) + 0.05 + rng.uniform(0.0, working, at.size))


def in_order(entity: Ints, learned: Ints) -> Ints:
    """Return when facts are written down if nobody writes a later one of an entity before an earlier one.

    `entity` is sorted, and the facts of each are in the order in which they happened.
    """
    ordered = learned.copy()
    same = entity[1:] == entity[:-1]
    while (late := same & (ordered[:-1] > ordered[1:])).any():
        ordered[1:][late] = ordered[:-1][late]
    return ordered
