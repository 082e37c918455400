"""History replayed: what models made at past cut-offs, from what was known then, would have said."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from crm_core.clock import DAY, instant, micros
from crm_core.errors import NotEnoughDataError
from crm_core.store import Store
from features.feature_set import feature_set_for
from models.building import build_bundle, gather
from models.evaluation import Estimate, Judged, calibration_bins, measure
from models.hazard import Bools, Floats, Ints
from models.questions import Questions, answers, ask, first_instant
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
    say = progress or (lambda *_: None)
    found = task.in_store(store)
    features = feature_set_for(store, task.name)
    now = micros(store.clock.now())
    questions = ask(store, found, features, found.ask, start=first_instant(store, found), until=instant(now))
    judged = ask(
        store, found, features, found.ask_to_judge, start=first_instant(store, found), until=instant(now)
    )
    answer = answers(store, judged, found.horizon_days)
    replays: list[Replay] = []
    said: list[_Said] = []
    left_out: list[str] = []
    for number, cutoff in enumerate(_cutoffs(judged, answer.over, cutoffs, step_days)):
        say("replaying", number + 1, cutoffs)
        try:
            built = build_bundle(gather(questions, store, features, cutoff))
        except NotEnoughDataError as error:
            left_out.append(f"{instant(cutoff).date()}: {error}")
            continue
        rows = answer.over & (judged.as_of > cutoff) & (judged.as_of <= cutoff + step_days * DAY)
        if not rows.any():
            left_out.append(f"{instant(cutoff).date()}: nothing was asked up to the next cut-off")
            continue
        asked = judged.take(rows)
        one = _Said(
            probability=built.bundle.predict(asked.frame).probability,
            happened=answer.happened[rows],
            account=asked.account,
        )
        said.append(one)
        replays.append(_replay(cutoff, str(built.choice.recipe.rung), one))
    if not replays:
        raise NotEnoughDataError(
            f"{task.name}: nothing to replay; {'; '.join(left_out) or 'no answer is known'}"
        )
    together = _joined(said)
    bins = calibration_bins(together.probability, _judged(together))
    return BacktestReport(
        task=found,
        replays=tuple(replays),
        together=_replay(replays[0].cutoff, "all", together),
        bins=tuple(vars(one) for one in bins),
        left_out=tuple(left_out),
    )


def _cutoffs(judged: Questions, over: Bools, most: int, step_days: int) -> list[int]:
    """Return cut-offs, oldest first, after each of which answered questions were asked."""
    if not over.any():
        return []
    first, last = int(judged.as_of[over].min()), int(judged.as_of[over].max())
    newest = last - step_days * DAY
    found = [newest - number * step_days * DAY for number in range(most)]
    return sorted(cutoff for cutoff in found if cutoff > first)


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
