"""What was said of records week by week, as it was stored: whether scores drift, whoever made them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
from sqlalchemy import select

from crm_core.arrays import read_arrays
from crm_core.clock import DAY, instant
from crm_core.predictions import Prediction
from crm_core.store import Store
from models.hazard import Bools, Floats, Ints

WEEKS = 52
"""How far back is looked."""

_MONDAY = 4 * DAY
"""The first Monday of the clock (1970-01-05), in microseconds."""


@dataclass(frozen=True, kw_only=True)
class ScoreWeek:
    """The scores of a week (UTC, from Monday): of each record its last one, in [0, 1]."""

    monday: int
    records: int
    mean: float
    low: float
    high: float

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data; `low` and `high` hold eight in ten of the records between them."""
        return {
            "monday": instant(self.monday).date().isoformat(),
            "records": self.records,
            "mean": round(self.mean, 6),
            "low": round(self.low, 6),
            "high": round(self.high, 6),
        }


def scores_by_week(store: Store, task: str) -> list[ScoreWeek]:
    """Return the stored probabilities of a task by the week they were asked in, the oldest first.

    Weeks in which nothing changed enough to be scored anew are left out.
    """
    since = store.clock.now() - timedelta(weeks=WEEKS)
    query = (
        select(Prediction.record_id, Prediction.as_of, Prediction.probability)
        .where(
            Prediction.task == task,
            Prediction.probability.is_not(None),
            Prediction.as_of >= since,
        )
        .order_by(Prediction.as_of, Prediction.id)
    )
    with store.reading() as session:
        rows = read_arrays(session, query)
    week = (rows["as_of"].astype(np.int64) - _MONDAY) // (7 * DAY)
    said = rows["probability"].astype(np.float64)
    return [_week(int(each), week == each, rows["record_id"], said) for each in np.unique(week)]


def _week(number: int, rows: Bools, records: Ints, said: Floats) -> ScoreWeek:
    # The last score of each record: the first one seen from the end.
    _, last = np.unique(records[rows][::-1], return_index=True)
    shown = said[rows][::-1][last]
    low, high = np.quantile(shown, [0.1, 0.9])
    return ScoreWeek(
        monday=number * 7 * DAY + _MONDAY,
        records=len(shown),
        mean=float(shown.mean()),
        low=float(low),
        high=float(high),
    )
