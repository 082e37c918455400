"""A model judged on questions asked after it was made, beside baselines and, where known, the truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from crm_core.clock import instant
from crm_core.store import Store
from features.feature_set import feature_set_for
from models.ages import AgeBand, judge_ages
from models.baselines import Baseline
from models.breakdown import Part, judge_parts, parts_of
from models.bundle import ModelBundle
from models.called import CalledBin, called_bins
from models.captured import Captured, amounts_of, judge_money
from models.cuts import cut_steps
from models.evaluation import (
    CalibrationBin,
    Estimate,
    Judged,
    calibration_bins,
    found_by_working_down,
    measure,
)
from models.hazard import Bools, Floats, Ints
from models.questions import Questions, answers

if TYPE_CHECKING:
    from models.simulation import Truth

Metrics = dict[str, Estimate]

_FEWEST_UNSEEN = 30
_RESAMPLES_BESIDE = 100
_ROWS_EXPLAINED = 2000


@dataclass(frozen=True, kw_only=True)
class HorizonJudgement:
    """Questions whose window of `horizon_days` was over, and how right each answer to them was.

    `metrics` has those of the model, of each baseline and of the truth by name; `unseen` those of the model
    on accounts that it had not learned from, if there are enough. `answered` says of how many questions
    each said anything. `found` is the share of outcomes among the first 0, 5, ... 100 % of questions by
    probability. `called` says what came of what was called 0-10 %, 10-20 %, and so on. `parts` are periods
    and segments, `money` what the first tenth held of it, `cuts` how many questions and outcomes lie above
    each probability: of the horizon that is shown only.
    """

    horizon_days: int
    questions: int
    outcomes: int
    metrics: Mapping[str, Metrics]
    answered: Mapping[str, int]
    unseen_questions: int
    unseen: Metrics | None
    bins: tuple[CalibrationBin, ...]
    found: tuple[float, ...]
    called: tuple[CalledBin, ...] = ()
    parts: tuple[Part, ...] = ()
    money: Captured | None = None
    cuts: Mapping[str, Sequence[Any]] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "horizon_days": self.horizon_days,
            "questions": self.questions,
            "outcomes": self.outcomes,
            "metrics": {name: _json_of(metrics) for name, metrics in self.metrics.items()},
            "answered": dict(self.answered),
            "unseen_accounts": {
                "questions": self.unseen_questions,
                "metrics": None if self.unseen is None else _json_of(self.unseen),
            },
            "bins": [vars(one) for one in self.bins],
            "found": [round(share, 4) for share in self.found],
            "called": [one.to_json() for one in self.called],
            "parts": [one.to_json() for one in self.parts],
            "money": None if self.money is None else self.money.to_json(),
            "cuts": None if self.cuts is None else dict(self.cuts),
        }


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """How right a model was on questions asked, after it was made, from `first` to `last` (microseconds).

    `horizon_days` is the horizon of the probability that is shown on records. `importances` are groups of
    features with their mean absolute contribution to its log-odds, the largest first. `ages` has what was
    said of all open records, old ones too, where records age.
    """

    estimator: str
    horizon_days: int
    made_as_of: int
    first: int
    last: int
    horizons: tuple[HorizonJudgement, ...]
    importances: tuple[tuple[str, float], ...] = ()
    ages: tuple[AgeBand, ...] = ()

    @property
    def main(self) -> HorizonJudgement:
        """Return the judgement of the horizon that is shown on records."""
        return next(one for one in self.horizons if one.horizon_days == self.horizon_days)

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "estimator": self.estimator,
            "horizon_days": self.horizon_days,
            "model_as_of": instant(self.made_as_of).isoformat(),
            "first_asked": instant(self.first).isoformat(),
            "last_asked": instant(self.last).isoformat(),
            "horizons": [horizon.to_json() for horizon in self.horizons],
            "importances": [
                {"group": group, "mean_abs_log_odds": round(size, 6)} for group, size in self.importances
            ],
            "ages": [band.to_json() for band in self.ages],
        }


@dataclass(frozen=True, kw_only=True, eq=False)
class Bench:
    """What a model is put beside: baselines, the truth if known, and the accounts it learned from."""

    store: Store
    baselines: Mapping[str, Baseline]
    taught: Ints
    truth: Truth | None = None


def judge(bundle: ModelBundle, questions: Questions, bench: Bench, *, estimator: str) -> Judgement | None:
    """Return how right the model is on the questions whose window is over by now; None if there are none.

    On one thread, for the reasons of `models.building.build_bundle`.
    """
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # ships no types

    with threadpool_limits(limits=1, user_api="blas"):
        return _judge(bundle, questions, bench, estimator)


def _judge(bundle: ModelBundle, questions: Questions, bench: Bench, estimator: str) -> Judgement | None:
    horizons = [
        found
        for days in bundle.horizons_days
        if (found := _judge_horizon(bundle, questions, bench, days)) is not None
    ]
    if not any(one.horizon_days == bundle.horizon_days for one in horizons):
        return None
    over = answers(bench.store, questions, bundle.horizon_days).over
    made, last = bundle.trained["as_of"], int(questions.as_of[over].max())
    return Judgement(
        estimator=str(estimator),
        horizon_days=bundle.horizon_days,
        made_as_of=made,
        first=int(questions.as_of[over].min()),
        last=last,
        horizons=tuple(horizons),
        importances=importances_of(bundle, questions.take(over), bench.store),
        ages=judge_ages(bench.store, questions.task, bundle, after=made, until=last),
    )


def _judge_horizon(
    bundle: ModelBundle, questions: Questions, bench: Bench, days: int
) -> HorizonJudgement | None:
    answer = answers(bench.store, questions, days)
    if not answer.over.any():
        return None
    asked = questions.take(answer.over)
    judged = Judged(happened=answer.happened[answer.over], entity=asked.account, record=asked.cohort.ids)
    said = {"model": bundle.predict(asked.frame).within[days]}
    shown = days == bundle.horizon_days
    if shown:
        said |= {name: baseline(asked, days) for name, baseline in bench.baselines.items()}
    if bench.truth is not None:
        said["truth"] = bench.truth.probabilities(bundle.task, asked.cohort.ids, asked.as_of, days)
    said = {name: values for name, values in said.items() if not np.isnan(values).all()}
    unseen = ~np.isin(asked.account, bench.taught)
    amounts = amounts_of(bench.store, asked) if shown else None
    return HorizonJudgement(
        horizon_days=days,
        questions=len(asked),
        outcomes=int(judged.happened.sum()),
        metrics={name: _measure(name, values, judged) for name, values in said.items()},
        answered={name: int((~np.isnan(values)).sum()) for name, values in said.items()},
        unseen_questions=int(unseen.sum()),
        unseen=measure_unseen(said["model"], judged, unseen),
        bins=tuple(calibration_bins(said["model"], judged)),
        found=found_by_working_down(said["model"], judged),
        called=called_bins(said["model"], judged),
        parts=judge_parts(said, judged, parts_of(asked, bench.taught)) if shown else (),
        money=None if amounts is None else judge_money(said, judged, amounts),
        cuts=cut_steps(said["model"], judged) if shown else None,
    )


def importances_of(
    bundle: ModelBundle, asked: Questions, store: Store, *, retired: bool = False
) -> tuple[tuple[str, float], ...]:
    """Return the mean absolute contribution of each group of features, over rows evenly taken."""
    few = asked.frame.iloc[:: max(1, len(asked) // _ROWS_EXPLAINED)].reset_index(drop=True)
    explained = bundle.explain(few)
    feature_set = feature_set_for(store, bundle.task, retired=retired)
    groups = np.array([feature_set.get(name).group for name in explained.features])
    sizes = {
        str(group): float(np.abs(explained.parts[:, groups == group].sum(axis=1)).mean())
        for group in dict.fromkeys(groups.tolist())
    }
    return tuple(sorted(sizes.items(), key=lambda one: (-one[1], one[0])))


def _measure(name: str, values: Floats, judged: Judged) -> Metrics:
    known = ~np.isnan(values)
    resamples = {} if name == "model" else {"resamples": _RESAMPLES_BESIDE}
    return measure(values[known], judged.take(known), **resamples)


def measure_unseen(values: Floats, judged: Judged, unseen: Bools) -> Metrics | None:
    """Return the metrics on unseen accounts; None where these are too few, or all."""
    rows = judged.happened[unseen]
    if unseen.all() or min(rows.sum(), (~rows).sum()) < _FEWEST_UNSEEN:
        return None
    return measure(values[unseen], judged.take(unseen), resamples=_RESAMPLES_BESIDE)


def _json_of(metrics: Metrics) -> dict[str, dict[str, float | None]]:
    return {name: estimate.to_json() for name, estimate in metrics.items()}
