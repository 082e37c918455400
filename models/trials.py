"""The ladder tried with few outcomes to learn from, and with as many as there are.

What is learned from is cut to some of the accounts, drawn by chance, so that so many outcomes are left; what
is judged stays the same. Nothing here is used by a training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from crm_core.clock import micros
from crm_core.errors import NotEnoughDataError
from crm_core.store import Store
from features.feature_set import feature_set_for
from models.baselines import build_baselines
from models.building import Built, Material, build_bundle, gather
from models.called import called_bins
from models.evaluation import Estimate, Judged, area_under_curve, compare_losses, loss_of
from models.fitting import Columns, Lesson, fit_logistic
from models.hazard import Bools, Exposure, Floats, Ints, expit
from models.questions import Answers, Questions, answers, ask, first_instant
from models.task import Task

if TYPE_CHECKING:
    from models.simulation import Truth


_BEFORE, _WITH_SUCCESS, _WITH_FAILURE = 0.304, 0.5, 0.218
"""Share of successes, and of either that has the signal: with it, half come true."""


@dataclass(frozen=True, kw_only=True)
class CutTrial:
    """A model that learned from `outcomes` outcomes, beside the base rate that learned from the same.

    `step` is the rung in use. Without a probability (too few outcomes) there are no losses; the order in
    which it puts records has an AUC all the same. `gain` is how much lower the model's loss is than the
    base rate's, with a 95 % interval: below 0 it is worse.
    """

    outcomes: int
    step: str
    says_probability: bool
    auc: float
    loss: float | None = None
    base_loss: float | None = None
    gain: Estimate | None = None

    @property
    def worse_than_noise(self) -> bool:
        """Tell whether the model is worse than the base rate by more than noise."""
        return self.gain is not None and self.gain.high < 0

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return vars(self) | {"gain": None if self.gain is None else self.gain.to_json()}


@dataclass(frozen=True, kw_only=True, eq=False)
class Ground:
    """All that a model may learn from as of an instant, and the questions asked later that judge it."""

    store: Store
    material: Material
    seen: Exposure
    judged: Questions
    answer: Answers

    @classmethod
    def of(cls, store: Store, task: Task, as_of: datetime) -> Ground:
        """Read it."""
        found = task.in_store(store)
        features = feature_set_for(store, task.name)
        asked = ask(store, found, features, found.ask, start=first_instant(store, found), until=as_of)
        later = ask(store, found, features, found.ask_to_judge, start=as_of, until=store.clock.now())
        over = answers(store, later, found.horizon_days).over
        judged = later.take(over)
        material = gather(asked, store, features, micros(as_of))
        return cls(
            store=store,
            material=material,
            seen=material.expose_at(material.until),
            judged=judged,
            answer=answers(store, judged, found.horizon_days),
        )

    def cut_to(self, outcomes: int, seed: int) -> Bools | None:
        """Return the questions of so many accounts, by chance, that `outcomes` records have had theirs.

        None where there are not as many. Of 0 outcomes: a tenth of all accounts, none of which had any.
        """
        accounts, place = np.unique(self.material.questions.account, return_inverse=True)
        ids = self.material.questions.cohort.ids
        _, first = np.unique(np.where(self.seen.happened, ids, -1), return_index=True)
        first = first[self.seen.happened[first]]
        each = np.bincount(place[first], minlength=len(accounts))
        order = np.random.default_rng(seed).permutation(len(accounts))
        upto = np.cumsum(each[order])
        if upto[-1] < outcomes:
            return None
        many = int(np.searchsorted(upto, outcomes)) + 1
        if outcomes == 0:
            order, many = order[each[order] == 0], -(-len(order) // 10)
        kept = np.zeros(len(accounts), dtype=np.bool_)
        kept[order[:many]] = True
        return np.asarray(kept[place])

    def build(self, rows: Bools) -> tuple[Material, Built]:
        """Return what some of the questions give."""
        whole = self.material
        cut = gather(whole.questions.take(rows), self.store, whole.feature_set, whole.until)
        return cut, build_bundle(cut)


def try_outcomes(ground: Ground, counts: Sequence[int], *, seed: int = 1) -> list[CutTrial]:
    """Return a trial for each number of outcomes that there are as many of."""
    cuts = [(count, ground.cut_to(count, seed)) for count in counts]
    return [_try(ground, count, rows) for count, rows in cuts if rows is not None]


def _try(ground: Ground, outcomes: int, rows: Bools) -> CutTrial:
    cut, built = ground.build(rows)
    scores = built.bundle.predict(ground.judged.frame)
    happened = ground.answer.happened
    trial = CutTrial(
        outcomes=outcomes,
        step=str(built.choice.recipe.rung),
        says_probability=built.bundle.says_probability,
        auc=area_under_curve(scores.log_odds, happened),
    )
    if not built.bundle.says_probability:
        return trial
    rate = build_baselines(cut, built.choice.recipe)["base_rate"](ground.judged, cut.task.horizon_days)
    losses = [loss_of(said, happened) for said in (rate, scores.probability)]
    return CutTrial(
        outcomes=outcomes,
        step=trial.step,
        says_probability=True,
        auc=trial.auc,
        loss=float(losses[1].mean()),
        base_loss=float(losses[0].mean()),
        gain=compare_losses(losses[0], losses[1], ground.judged.account),
    )


def told_of_cuts(trials: Sequence[CutTrial]) -> str:
    """Return a row of a table: the trials of one number of outcomes, over companies."""
    if not trials:
        raise NotEnoughDataError("no trial")
    first = trials[0]
    steps = ", ".join(sorted({trial.step.replace("_", " ") for trial in trials}))
    auc = f"{np.mean([trial.auc for trial in trials]):.3f}"
    losses = [(t.loss, t.base_loss) for t in trials if t.loss is not None and t.base_loss is not None]
    if not losses:
        return f"| {first.outcomes:,} | {steps} | {auc} | not enough data | – | – | – |"  # noqa: RUF001  en dashes
    model, base = np.array(losses).T
    error = f" ± {1.96 * np.std(base - model, ddof=1) / len(losses) ** 0.5:.4f}" if len(losses) > 1 else ""
    worse = sum(trial.worse_than_noise for trial in trials)
    return (
        f"| {first.outcomes:,} | {steps} | {auc} | {model.mean():.4f} | {base.mean():.4f} "
        f"| {(base - model).mean():+.4f}{error} | {worse} of {len(losses)} |"
    )


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """How many of `bins` intervals held the true mean of their bin, over draws of `questions` outcomes."""

    covered: int
    bins: int
    questions: int

    @property
    def share(self) -> float:
        """Return the share that did."""
        return self.covered / self.bins


def cover_truth(ground: Ground, truth: Truth, *, draws: int) -> Coverage:
    """Return how often intervals of called probabilities hold the truth, outcomes being drawn from it.

    The questions and what a model says of them stay; only what came of them is drawn again, each question
    for itself: to be asked of tasks that ask once about a record.
    """
    rows = np.ones(len(ground.material.questions), dtype=np.bool_)
    task, judged = ground.material.task, ground.judged
    said = ground.build(rows)[1].bundle.predict(judged.frame).probability
    true = truth.probabilities(task.name, judged.cohort.ids, judged.as_of, task.horizon_days)
    known = ~np.isnan(true)
    return cover_drawn(said[known], true[known], judged.account[known], draws=draws)


def cover_drawn(said: Floats, true: Floats, entity: Ints, *, draws: int) -> Coverage:
    """Return how often intervals of what was said (float64[n]) hold the truth, each row drawn for itself."""
    random = np.random.default_rng(1)
    covered = bins = 0
    for _ in range(draws):
        judged = Judged(happened=random.random(len(true)) < true, entity=entity)
        for one in called_bins(said, judged):
            inside = (said >= one.low) & ((said < one.high) | (one.high == 1))
            covered += abs(one.happened - float(true[inside].mean())) <= one.give_or_take
            bins += 1
    return Coverage(covered=covered, bins=bins, questions=len(said))


@dataclass(frozen=True, kw_only=True)
class SignalSaid:
    """What is said of records with a signal that is in the data three times, and what came of them."""

    naive_bayes: float
    logistic: float
    came: float


def say_one_signal_thrice(many: int = 20_000, seed: int = 1) -> SignalSaid:
    """Return what a naive Bayes and a shrunken logistic model make of one signal under three names."""
    from sklearn.naive_bayes import CategoricalNB

    random = np.random.default_rng(seed)
    happened = random.random(many) < _BEFORE
    signal = random.random(many) < np.where(happened, _WITH_SUCCESS, _WITH_FAILURE)
    matrix = np.repeat(signal[:, None], 3, axis=1).astype(np.float64)
    naive = CategoricalNB().fit(matrix.astype(np.int64), happened)
    exposure = Exposure(
        at_risk=np.ones((many, 1), dtype=np.bool_),
        event=happened[:, None],
        closed_at=np.zeros((many, 1), dtype=np.int64),
        weight=np.ones(many),
    )
    is_number = np.zeros(3, dtype=np.bool_)
    columns = Columns(is_number=is_number, is_seasonal=is_number)
    lesson = Lesson(matrix=matrix, exposure=exposure, columns=columns, fading=np.ones(1), until=0)
    with_it = np.ones((1, 3))
    return SignalSaid(
        naive_bayes=float(naive.predict_proba(with_it.astype(np.int64))[0, 1]),
        logistic=float(expit(fit_logistic(lesson, penalty=10.0).log_odds(with_it))[0, 0]),
        came=float(happened[signal].mean()),
    )
