"""Open records of all ages judged: how many outcomes were said in each band of age, and how many came.

Leads are judged by what is said of them when they are new. Someone who adds up the probabilities of all open
ones adds mostly old ones, so what is said of these is judged beside, on Mondays after the model was made.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from crm_core.store import Store
from features.cohort import mondays, open_records_at
from features.feature_set import feature_set_for
from models.bundle import ModelBundle
from models.called import give_or_take
from models.evaluation import Judged, ratio, resampled_sums_by
from models.hazard import Floats
from models.questions import answers, questions_of
from models.task import Task

MOST_MONDAYS = 6
"""Mondays asked about, evenly spread: others would hardly tell more, of the same records."""


@dataclass(frozen=True, kw_only=True)
class AgeBand:
    """Open records of `from_days` up to `to_days` (None: any older) of age on some Mondays.

    `said` is the sum of their probabilities, `came` how many came true, `give_or_take` half the width of the
    95 % interval of `came`.
    """

    from_days: float
    to_days: float | None
    questions: int
    records: int
    said: float
    came: int
    give_or_take: float

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return vars(self) | {"said": round(self.said, 4), "give_or_take": round(self.give_or_take, 4)}


def judge_ages(
    store: Store, task: Task, bundle: ModelBundle, *, after: int, until: int
) -> tuple[AgeBand, ...]:
    """Return what was said, and what came, of all records open on Mondays with after < Monday <= until.

    Empty for a task whose records do not age, or where nothing was open. Only what is over by now counts.
    """
    if task.ages is None:
        return ()
    feature, limits = task.ages
    days = mondays(after, until)
    cohort = open_records_at(store, task.record_type, days[:: max(1, -(-len(days) // MOST_MONDAYS))])
    if not len(cohort):
        return ()
    asked = questions_of(store, task, feature_set_for(store, task.name), cohort)
    answer = answers(store, asked, bundle.horizon_days)
    asked, happened = asked.take(answer.over), answer.happened[answer.over]
    judged = Judged(happened=happened, entity=asked.account, record=asked.cohort.ids)
    said = bundle.predict(asked.frame).probability
    return tuple(_bands(said, judged, asked.frame[feature].to_numpy(), limits))


def _bands(said: Floats, judged: Judged, age: Floats, limits: Sequence[float]) -> Iterator[AgeBand]:
    place = np.searchsorted(np.asarray(limits), age, side="right").astype(np.int64)
    columns = np.stack([judged.happened.astype(np.float64), np.ones(len(judged))], axis=1)
    drawn = resampled_sums_by(columns, judged.entity, place, len(limits) + 1)
    for number, (start, end) in enumerate(pairwise((0.0, *limits, None))):
        rows = place == number
        inside = judged.take(rows)
        if not len(inside):
            continue
        error = float(np.nanstd(ratio(drawn[1:, number, 0], drawn[1:, number, 1])))
        records = len(np.unique(inside.records))
        share = float(inside.happened.mean())
        yield AgeBand(
            from_days=start or 0.0,
            to_days=end,
            questions=len(inside),
            records=records,
            said=float(said[rows].sum()),
            came=int(inside.happened.sum()),
            give_or_take=give_or_take(share, error, len(inside), records) * len(inside),
        )
