"""What a model would have said each Monday about the records open then, and what came of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from crm_core.clock import instant
from crm_core.store import Store
from features.cohort import mondays, open_records_at
from features.feature_set import FeatureSet
from models.bundle import ModelBundle
from models.called import CalledBin, called_bins
from models.captured import amounts_of
from models.evaluation import Estimate, Judged, estimate_of, ratio, resampled_sums_by
from models.hazard import Bools, Floats, Ints
from models.questions import answers, questions_of

_RESAMPLES = 100


@dataclass(frozen=True, kw_only=True, eq=False)
class Weeks:
    """Questions of the Mondays of one model, in arrays of n.

    `made` is when the model was made, in microseconds. Where a whole window is not `over` yet, `happened`
    means nothing. `expected` and `came` are money, probability times the amount known and the final amount
    of what happened; None where the records have no amounts.
    """

    made: int
    as_of: Ints
    probability: Floats
    over: Bools
    happened: Bools
    account: Ints
    record: Ints
    expected: Floats | None
    came: Floats | None
    currency: str | None


@dataclass(frozen=True, kw_only=True)
class Monday:
    """One Monday: how many records were open, how many outcomes that said and how many came.

    `said` is the sum of the probabilities. `came` is None where the window is not over yet; the figures of
    others leave out records of which the outcome had happened and was not known. `running` is what has come
    of all Mondays so far, as a multiple of what was said.
    """

    as_of: int
    made: int
    asked: int
    said: float
    came: int | None
    money_expected: float | None
    money_came: float | None
    running: Estimate | None

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "monday": instant(self.as_of).date().isoformat(),
            "model_as_of": instant(self.made).isoformat(),
            "asked": self.asked,
            "said": round(self.said, 4),
            "came": self.came,
            "money_expected": None if self.money_expected is None else round(self.money_expected, 2),
            "money_came": None if self.money_came is None else round(self.money_came, 2),
            "running": None if self.running is None else self.running.to_json(),
        }


def ask_on_mondays(
    store: Store, feature_set: FeatureSet, bundle: ModelBundle, *, after: int, until: int
) -> Weeks | None:
    """Return what a model says on every Monday with after < Monday <= until; None if nothing was open."""
    from models.tasks import get_task

    task = get_task(bundle.task).of_variant(bundle.variant)
    days = mondays(after, until)
    cohort = open_records_at(store, task.record_type, days, kind=task.variant or None)
    if not len(cohort):
        return None
    asked = questions_of(store, task, feature_set, cohort)
    if not len(asked):
        return None
    said = bundle.predict(asked.frame).probability
    answer = answers(store, asked, bundle.horizon_days)
    amounts = amounts_of(store, asked)
    return Weeks(
        made=bundle.trained["as_of"],
        as_of=asked.as_of,
        probability=said,
        over=answer.over,
        happened=answer.happened,
        account=asked.account,
        record=asked.cohort.ids,
        expected=None if amounts is None else said * np.nan_to_num(amounts.known),
        came=None if amounts is None else np.where(answer.happened, np.nan_to_num(amounts.final), 0.0),
        currency=None if amounts is None else amounts.currency,
    )


def list_mondays(weeks: Sequence[Weeks]) -> tuple[Monday, ...]:
    """Return every Monday, oldest first, with what has come so far."""
    running = _running(weeks)
    return tuple(_monday(each, day, running.get(day)) for each in weeks for day in np.unique(each.as_of))


def called_on_mondays(weeks: Sequence[Weeks]) -> tuple[CalledBin, ...]:
    """Return what came of what was called 0-10 %, 10-20 % and so on, on all Mondays together."""
    probability, judged, _ = _joined(weeks)
    return called_bins(probability, judged)


def _monday(weeks: Weeks, day: int, running: Estimate | None) -> Monday:
    asked = weeks.as_of == day
    over = asked & weeks.over
    rows = over if over.any() else asked
    return Monday(
        as_of=int(day),
        made=weeks.made,
        asked=int(rows.sum()),
        said=float(weeks.probability[rows].sum()),
        came=int(weeks.happened[over].sum()) if over.any() else None,
        money_expected=None if weeks.expected is None else float(weeks.expected[rows].sum()),
        money_came=float(weeks.came[over].sum()) if weeks.came is not None and over.any() else None,
        running=running,
    )


def _running(weeks: Sequence[Weeks]) -> dict[int, Estimate]:
    """Return by Monday how much has come of what was said up to it, drawn by accounts."""
    probability, judged, as_of = _joined(weeks)
    days, place = np.unique(as_of, return_inverse=True)
    columns = np.stack([judged.happened.astype(np.float64), probability], axis=1)
    drawn = resampled_sums_by(columns, judged.entity, place, len(days), resamples=_RESAMPLES)
    so_far = np.cumsum(drawn, axis=1)
    shares = ratio(so_far[:, :, 0], so_far[:, :, 1])
    return {int(day): estimate_of(shares[:, number]) for number, day in enumerate(days)}


def _joined(weeks: Sequence[Weeks]) -> tuple[Floats, Judged, Ints]:
    """Return what was said of all questions whose window is over, their answers, and when they were asked."""

    def each(name: str) -> Iterator[Any]:
        yield np.empty(0, dtype=getattr(weeks[0], name).dtype) if weeks else np.empty(0)
        yield from (getattr(one, name)[one.over] for one in weeks)

    probability, happened, account, record, as_of = (
        np.concatenate(list(each(name))) for name in ("probability", "happened", "account", "record", "as_of")
    )
    return probability, Judged(happened=happened, entity=account, record=record), as_of
