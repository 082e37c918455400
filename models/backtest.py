"""History replayed: what models made at past cut-offs, from what was known then, would have said.

Each model is used until the next is made: on the questions that judge a model of the task, and each Monday
on all records open then. It learns only from intervals that were over at its cut-off, so that no window that
taught reaches into the time that it is judged on. Accounts that had not taught it are reported apart.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import numpy as np

from crm_core.clock import DAY, instant, micros
from crm_core.errors import NotEnoughDataError
from crm_core.phrases import Phrase
from crm_core.store import Store
from features.feature_set import FeatureSet, feature_set_for
from models.building import build_bundle, check_enough, count_outcomes, gather
from models.bundle import ModelBundle
from models.called import CalledBin
from models.evaluation import Estimate, Judged, calibration_bins, measure
from models.hazard import Bools, Floats, Ints
from models.in_the_end import NO_TIME_ORDER
from models.judging import measure_unseen
from models.mondays import Monday, Weeks, ask_on_mondays, called_on_mondays, list_mondays
from models.questions import Answers, Questions, answers, ask, first_instant
from models.task import Task

MOST_CUTOFFS = 8
"""Cut-offs replayed unless asked otherwise."""

_MONTHS = 3
_RESAMPLES = 100


@dataclass(frozen=True, kw_only=True)
class Replay:
    """One cut-off: what its model said of the questions asked up to the next, and what came of them.

    `unseen` has the metrics on accounts that had not taught the model, if there are enough of them.
    """

    cutoff: int
    estimator: str
    questions: int
    outcomes: int
    said: float
    came: float
    metrics: dict[str, Estimate]
    unseen_questions: int
    unseen: dict[str, Estimate] | None

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "cutoff": instant(self.cutoff).isoformat(),
            "estimator": self.estimator,
            "questions": self.questions,
            "outcomes": self.outcomes,
            "said": round(self.said, 6),
            "came": round(self.came, 6),
            "metrics": _json_of(self.metrics),
            "unseen_accounts": {
                "questions": self.unseen_questions,
                "metrics": None if self.unseen is None else _json_of(self.unseen),
            },
        }


@dataclass(frozen=True, kw_only=True)
class BacktestReport:
    """All cut-offs, oldest first, all their answers together, and why others were left out.

    `mondays` is what was said each week of all records open then, `called` what came of it by what was said;
    money, where there is any, is in `currency`.
    """

    task: Task
    replays: tuple[Replay, ...]
    together: Replay | None
    bins: tuple[dict[str, Any], ...]
    mondays: tuple[Monday, ...]
    called: tuple[CalledBin, ...]
    currency: str | None
    left_out: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain data."""
        return {
            "task": self.task.name,
            "variant": self.task.variant or None,
            "outcome": self.task.outcome_en,
            "horizon_days": self.task.horizon_days,
            "cutoffs": [replay.to_json() for replay in self.replays],
            "together": None if self.together is None else self.together.to_json(),
            "bins": list(self.bins),
            "mondays": [monday.to_json() for monday in self.mondays],
            "called": [one.to_json() for one in self.called],
            "currency": self.currency,
            "left_out": list(self.left_out),
        }


@dataclass(frozen=True, kw_only=True, eq=False)
class _Said:
    probability: Floats
    happened: Bools
    account: Ints
    unseen: Bools


def backtest(
    store: Store,
    task: Task,
    *,
    cutoffs: int = MOST_CUTOFFS,
    step_days: int | None = None,
    progress: Callable[..., None] | None = None,
) -> BacktestReport:
    """Replay a task at past cut-offs: the starts of quarters, or every `step_days` up to what is judged last.

    Each model chooses, learns and is calibrated anew from what was known at its cut-off. Raises
    NotEnoughDataError if no cut-off can be replayed at all.
    """
    found = task.in_store(store)
    if found.no_time_order:
        raise NotEnoughDataError(
            Phrase("{name} cannot be replayed: {no_time_order}", name=task.name, no_time_order=NO_TIME_ORDER)
        )
    history = _History.read(store, found, step_days=step_days)
    replays: list[Replay] = []
    said: list[_Said] = []
    weeks: list[Weeks] = []
    left_out: list[str] = []
    spans = history.spans(cutoffs)
    for number, (cutoff, until) in enumerate(spans, start=1):
        if progress is not None:
            progress("replaying", number, len(spans))
        try:
            estimator, answer, asked = history.replay(cutoff, until)
        except NotEnoughDataError as error:
            left_out.append(f"{instant(cutoff).date()}: {error}")
            continue
        said.append(answer)
        replays.append(_replay(cutoff, estimator, answer))
        weeks += [asked] if asked is not None else []
    if not replays:
        why = "; ".join(left_out) or "no answer is known"
        raise NotEnoughDataError(Phrase("{name}: nothing to replay; {why}", name=task.name, why=why))
    together = _joined(said)
    bins = calibration_bins(together.probability, _judged(together))
    return BacktestReport(
        task=history.task,
        replays=tuple(replays),
        together=_replay(replays[0].cutoff, "all", together),
        bins=tuple(vars(one) for one in bins),
        mondays=list_mondays(weeks),
        called=called_on_mondays(weeks),
        currency=next((each.currency for each in weeks if each.currency), None),
        left_out=tuple(left_out),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _History:
    """All questions of a task up to now, those to learn from and those to judge by, read once."""

    store: Store
    task: Task
    features: FeatureSet
    taught: Questions
    judged: Questions
    answer: Answers
    step: int | None

    @classmethod
    def read(cls, store: Store, task: Task, *, step_days: int | None) -> _History:
        features = feature_set_for(store, task.name)
        start, now = first_instant(store, task), store.clock.now()
        judged = ask(store, task, features, task.ask_to_judge, start=start, until=now)
        return cls(
            store=store,
            task=task,
            features=features,
            taught=ask(store, task, features, task.ask, start=start, until=now),
            judged=judged,
            answer=answers(store, judged, task.horizon_days),
            step=None if step_days is None else step_days * DAY,
        )

    def spans(self, most: int) -> list[tuple[int, int]]:
        """Return (cut-off, the next one), oldest first, of the newest with answers to judge by."""
        over = self.answer.over
        if not over.any():
            return []
        first, last = int(self.judged.as_of[over].min()), int(self.judged.as_of[over].max())
        if self.step is not None:
            edges = [last - number * self.step for number in range(most + 1)]
        else:
            edges = _quarters(first, last)[: most + 1]
        cutoffs = [edge for edge in sorted(edges) if edge > first]
        return list(pairwise(cutoffs))

    def replay(self, cutoff: int, until: int) -> tuple[str, _Said, Weeks | None]:
        """Return which estimator was chosen at a cut-off, and what it said of questions and on Mondays."""
        material = gather(self.taught, self.store, self.features, cutoff)
        check_enough(self.task, *count_outcomes(material.questions, material.expose_at(cutoff)))
        built = build_bundle(material)
        if self.task.horizon_days not in built.bundle.horizons_days:
            days = self.task.horizon_days
            known = built.bundle.not_reported[days]
            raise NotEnoughDataError(
                Phrase("only {known} records had been followed for {days} days", known=known, days=days)
            )
        rows = self.answer.over & (self.judged.as_of > cutoff) & (self.judged.as_of <= until)
        if not rows.any():
            raise NotEnoughDataError("nothing was asked up to the next cut-off")
        taught = material.questions.account[material.expose_at(cutoff).counted]
        said = self._said(built.bundle, rows, taught)
        now = micros(self.store.clock.now())
        weeks = ask_on_mondays(self.store, self.features, built.bundle, after=cutoff, until=min(until, now))
        return str(built.choice.recipe.rung), said, weeks

    def _said(self, bundle: ModelBundle, rows: Bools, taught: Ints) -> _Said:
        asked = self.judged.take(rows)
        return _Said(
            probability=bundle.predict(asked.frame).probability,
            happened=self.answer.happened[rows],
            account=asked.account,
            unseen=~np.isin(asked.account, taught),
        )


def _quarters(first: int, last: int) -> list[int]:
    """Return the starts of quarters (UTC), newest first, from that which begins after `last` on."""
    newest = instant(last)
    number = newest.year * 4 + (newest.month - 1) // _MONTHS + 1
    found: list[int] = []
    while not found or found[-1] > first:
        begins = datetime(number // 4, number % 4 * _MONTHS + 1, 1, tzinfo=UTC)
        found.append(micros(begins))
        number -= 1
    return found


def _replay(cutoff: int, estimator: str, said: _Said) -> Replay:
    return Replay(
        cutoff=cutoff,
        estimator=estimator,
        questions=len(said.probability),
        outcomes=int(said.happened.sum()),
        said=float(said.probability.mean()),
        came=float(said.happened.mean()),
        metrics=measure(said.probability, _judged(said), resamples=_RESAMPLES),
        unseen_questions=int(said.unseen.sum()),
        unseen=measure_unseen(said.probability, _judged(said), said.unseen),
    )


def _joined(parts: Sequence[_Said]) -> _Said:
    return _Said(
        probability=np.concatenate([part.probability for part in parts]),
        happened=np.concatenate([part.happened for part in parts]),
        account=np.concatenate([part.account for part in parts]),
        unseen=np.concatenate([part.unseen for part in parts]),
    )


def _judged(said: _Said) -> Judged:
    return Judged(happened=said.happened, entity=said.account)


def _json_of(metrics: dict[str, Estimate]) -> dict[str, Any]:
    return {name: estimate.to_json() for name, estimate in metrics.items()}
