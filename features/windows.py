"""The time rule, stated once; cohorts, features and labels all follow it.

- Known at `as_of`: `recorded_at <= as_of`, and it has happened: `occurred_at <= as_of`. Something deleted is
  known as deleted from `deleted_at` on.
- Feature window: `as_of - lookback < occurred_at <= as_of`.
- Label window: `as_of < occurred_at <= as_of + horizon`.

Windows are half-open on the left, so that they tile and nothing counts on both sides of `as_of`. All instants
are int64 microseconds since 1970 UTC.
"""

from __future__ import annotations

import re
from datetime import timedelta

import numpy as np
import numpy.typing as npt

from crm_core.arrays import NO_INSTANT
from crm_core.clock import DAY, SECOND
from crm_core.errors import FeatureError

Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

NEVER = np.iinfo(np.int64).max
"""Later than any instant: the end of what has not ended."""

_UNITS = {"w": 7 * DAY, "d": DAY, "h": 3600 * SECOND}
_LOOKBACK = re.compile(r"([1-9]\d{0,5})([wdh])")


def parse_lookback(value: str | timedelta) -> int:
    """Return the microseconds of "30d", "2w", "12h" or a timedelta; refuse a number without a unit."""
    if isinstance(value, timedelta):
        length = value // timedelta(microseconds=1)
    else:
        found = _LOOKBACK.fullmatch(str(value))
        length = int(found[1]) * _UNITS[found[2]] if found else 0
    if length <= 0 or length % _UNITS["h"]:
        raise FeatureError(
            f"lookback: expected whole hours, days or weeks with a unit, as '30d', got {value!r}"
        )
    return length


def name_lookback(length: int) -> str:
    """Return a lookback as it stands in names: days where they are whole, hours otherwise."""
    return f"{length // DAY}d" if length % DAY == 0 else f"{length // _UNITS['h']}h"


def visible_from(occurred_at: Ints, recorded_at: Ints) -> Ints:
    """Return the first `as_of` at which something is known to have happened."""
    return np.maximum(occurred_at, recorded_at)


def visible_until(deleted_at: Ints) -> Ints:
    """Return the first `as_of` at which something is known as deleted; NEVER for what was not."""
    return np.where(deleted_at == NO_INSTANT, NEVER, deleted_at)


def leaves_window(occurred_at: Ints, lookback: int) -> Ints:
    """Return the first `as_of` whose window of `lookback` no longer holds the instant."""
    return np.where(occurred_at > NEVER - lookback, NEVER, occurred_at + lookback)


def in_feature_window(occurred_at: Ints, as_of: Ints, lookback: int) -> Flags:
    """Tell whether each instant lies in the feature window of its question."""
    return (leaves_window(occurred_at, lookback) > as_of) & (occurred_at <= as_of)


def in_label_window(occurred_at: Ints, as_of: Ints, horizon: int) -> Flags:
    """Tell whether each instant lies in the label window of its question; NO_INSTANT never does."""
    return (occurred_at > as_of) & (occurred_at <= as_of + horizon)
