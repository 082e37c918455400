"""History replayed: what models made at past cut-offs, from what was known then, would have said."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from crm_core.clock import DAY, instant
from crm_core.errors import NotEnoughDataError
from crm_core.store import Store
from features.feature_set import FeatureSet, feature_set_for
from models.building import build_bundle, check_enough, count_outcomes, gather
from models.evaluation import Estimate, Judged, calibration_bins, measure
from models.hazard import Bools, Floats, Ints
from models.questions import Answers, Questions, answers, ask, first_instant
from models.task import Task

MOST_CUTOFFS = 8
"""Cut-offs replayed unless asked otherwise."""

STEP_DAYS = 90
"""Days between two cut-offs; each model is judged on the questions of the time up to the next."""


@dataclass(frozen=True, kw_only=True)
class Replay:
    """One cut-off: what its model said of the questions asked up to the next, and what came of them."""

    cutoff: int
    estimator: str
    questions: int
    outcomes: int
    said: float
    came: float
    metrics: dict[str, Estimate]

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "cutoff": instant(self.cutoff).isoformat(),
            "estimator": self.estimator,
            "questions": self.questions,
            "outcomes": self.outcomes,
            "said": round(self.said, 6),
            "came": round(self.came, 6),
            "metrics": {name: estimate.to_json() for name, estimate in self.metrics.items()},
        }


@dataclass(frozen=True, kw_only=True)
class BacktestReport:
    """All cut-offs, oldest first, all their answers together, and why others were left out."""

    task: Task
    replays: tuple[Replay, ...]
    together: Replay | None
    bins: tuple[dict[str, Any], ...]
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
            "left_out": list(self.left_out),
        }


@dataclass(frozen=True, kw_only=True, eq=False)
class _Said:
    probability: Floats
    happened: Bools
    account: Ints


def backtest(
    store: Store,
    task: Task,
    *,
    cutoffs: int = MOST_CUTOFFS,
    step_days: int = STEP_DAYS,
    progress: Callable[..., None] | None = None,
) -> BacktestReport:
    """Replay a task at past cut-offs, `step_days` apart, the newest early enough for answers to be known.

    Each model chooses, learns and is calibrated anew from what was known at its cut-off. Raises
    NotEnoughDataError if no cut-off can be replayed at all.
    """
    history = _History.read(store, task.in_store(store), step_days=step_days)
    replays: list[Replay] = []
    said: list[_Said] = []
    left_out: list[str] = []
    for number, cutoff in enumerate(history.cutoffs(cutoffs), start=1):
        if progress is not None:
            progress("replaying", number, cutoffs)
        try:
            estimator, answer = history.replay(cutoff)
        except NotEnoughDataError as error:
            left_out.append(f"{instant(cutoff).date()}: {error}")
            continue
        said.append(answer)
        replays.append(_replay(cutoff, estimator, answer))
    if not replays:
        why = "; ".join(left_out) or "no answer is known"
        raise NotEnoughDataError(f"{task.name}: nothing to replay; {why}")
    together = _joined(said)
    bins = calibration_bins(together.probability, _judged(together))
    return BacktestReport(
        task=history.task,
        replays=tuple(replays),
        together=_replay(replays[0].cutoff, "all", together),
        bins=tuple(vars(one) for one in bins),
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
    step: int

    @classmethod
    def read(cls, store: Store, task: Task, *, step_days: int) -> _History:
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
            step=step_days * DAY,
        )

    def cutoffs(self, most: int) -> list[int]:
        """Return cut-offs, oldest first, the newest early enough for a whole step of answers."""
        over = self.answer.over
        if not over.any():
            return []
        first, last = int(self.judged.as_of[over].min()), int(self.judged.as_of[over].max())
        found = [last - number * self.step for number in range(1, most + 1)]
        return sorted(cutoff for cutoff in found if cutoff > first)

    def replay(self, cutoff: int) -> tuple[str, _Said]:
        """Return which estimator was chosen at a cut-off, and what it said of the questions after it."""
        material = gather(self.taught, self.store, self.features, cutoff)
        check_enough(self.task, *count_outcomes(material.questions, material.expose_at(cutoff)))
        built = build_bundle(material)
        if self.task.horizon_days not in built.bundle.horizons_days:
            days = self.task.horizon_days
            known = built.bundle.not_reported[days]
            raise NotEnoughDataError(f"only {known} records had been followed for {days} days")
        asked_next = (self.judged.as_of > cutoff) & (self.judged.as_of <= cutoff + self.step)
        rows = self.answer.over & asked_next
        if not rows.any():
            raise NotEnoughDataError("nothing was asked up to the next cut-off")
        asked = self.judged.take(rows)
        said = _Said(
            probability=built.bundle.predict(asked.frame).probability,
            happened=self.answer.happened[rows],
            account=asked.account,
        )
        return str(built.choice.recipe.rung), said


def _replay(cutoff: int, estimator: str, said: _Said) -> Replay:
    return Replay(
        cutoff=cutoff,
        estimator=estimator,
        questions=len(said.probability),
        outcomes=int(said.happened.sum()),
        said=float(said.probability.mean()),
        came=float(said.happened.mean()),
        metrics=measure(said.probability, _judged(said), resamples=100),
    )


def _joined(parts: Sequence[_Said]) -> _Said:
    return _Said(
        probability=np.concatenate([part.probability for part in parts]),
        happened=np.concatenate([part.happened for part in parts]),
        account=np.concatenate([part.account for part in parts]),
    )


def _judged(said: _Said) -> Judged:
    return Judged(happened=said.happened, entity=said.account)
