"""Working time: the clock on which the company's processes run, so that nothing is decided at night.

A working day is nine hours, Monday to Friday, 09:00 to 18:00 at UTC+8. Every span of seven days holds exactly
five working days, wherever it begins, which keeps probabilities per week exact.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from crm_core.clock import DAY, SECOND

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_HOUR = 3_600 * SECOND
_WEEK = 7 * DAY
_MONDAY = 4 * DAY  # 1970-01-05
_OPENS = 1 * _HOUR
_LENGTH = 9 * _HOUR

WORKING_DAYS_A_YEAR = 5 * 365.25 / 7
"""Working days in an average year."""


def working_days(at: Ints) -> Floats:
    """Return the working days between 1970-01-05 and each instant (microseconds); never decreasing."""
    week, within = np.divmod(at - _MONDAY, _WEEK)
    day, clock = np.divmod(within, DAY)
    worked = np.clip((clock - _OPENS) / _LENGTH, 0.0, 1.0)
    return 5.0 * week + np.where(day < 5, day + worked, 5.0)


def instants(days: Floats) -> Ints:
    """Return the instant (microseconds), inside working hours, at which so many working days have passed."""
    whole = np.floor(days)
    week, day = np.divmod(whole.astype(np.int64), 5)
    clock = ((days - whole) * _LENGTH).astype(np.int64)
    return np.asarray(_MONDAY + week * _WEEK + day * DAY + _OPENS + clock)
