"""Judging without a time order: each record by a model of other records (cross-validation).

Rows that are the same throughout stay together: what is learned from one of them is no news of the other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from models.baselines import build_baselines
from models.building import Built, Material, build_bundle
from models.bundle import ModelBundle, Scores
from models.fitting import Recipe
from models.hazard import Bools, Floats
from models.judging import Bench, Judgement, judge
from models.questions import Questions
from models.splits import deal_accounts

if TYPE_CHECKING:
    from features.rows import Frame

FOLDS = 5
"""Parts of the records; each is judged by a model of the other ones."""

NESTED_UP_TO = 20_000
"""Questions up to which the recipe is chosen anew for every part, from the others alone."""


class HeldOut(ModelBundle):
    """A model that says of the rows it is judged on what models of other rows say of them."""

    said: Floats

    @classmethod
    def of(cls, bundle: ModelBundle, said: Floats) -> HeldOut:
        """Return the bundle with what was said of the rows to judge, in their order: float64[n]."""
        parts = {name: getattr(bundle, name) for name in bundle.__dataclass_fields__}
        held = cls(**parts)
        object.__setattr__(held, "said", said)
        return held

    def predict(self, frame: Frame) -> Scores:
        """Return what was said of the rows; they must be all, in their order."""
        rows = len(frame)
        if rows != len(self.said):
            msg = f"expected the {len(self.said)} rows that are judged, got {rows}"
            raise ValueError(msg)
        limits = np.clip(self.said, 1e-12, 1 - 1e-12)
        return Scores(
            probability=self.said,
            log_odds=np.log(limits / (1 - limits)),
            within=dict.fromkeys(self.horizons_days, self.said),
            rank=np.zeros(rows, dtype=np.int64),
            expected_days=np.full(rows, np.nan),
        )


def judge_held_out(
    material: Material, built: Built, say: Callable[[str], None] = lambda _: None
) -> Judgement | None:
    """Return how right models of the other parts are on each part of the questions that are over.

    Rows that are the same throughout, the outcome aside, are in one part. Up to NESTED_UP_TO questions the
    recipe is chosen without the part that is judged; beyond, where choosing flatters by nothing that can be
    measured, the recipe of the model itself is fitted anew.
    """
    seen = material.expose_at(material.until)
    questions = material.questions.take(seen.counted)
    part_of = deal_accounts(questions.account, FOLDS)
    recipe = None if len(questions) <= NESTED_UP_TO else built.choice.recipe
    said: dict[str, Floats] = {}
    for part in range(FOLDS):
        say(f"judging part {part + 1} of {FOLDS}")
        held = part_of == part
        for name, values in _answers(material, questions, held, recipe).items():
            said.setdefault(name, np.full(len(questions), np.nan))[held] = values
    bundle = HeldOut.of(built.bundle, said.pop("model"))
    baselines = {name: _Fixed(values) for name, values in said.items()}
    bench = Bench(store=material.store, baselines=baselines, taught=np.empty(0, dtype=np.int64))
    return judge(bundle, questions, bench, estimator=built.choice.recipe.rung)


def _answers(
    material: Material, questions: Questions, held: Bools, recipe: Recipe | None
) -> dict[str, Floats]:
    """Return what a model of the rows that are not held, and each baseline, says of those that are."""
    others = Material(
        store=material.store,
        task=material.task,
        feature_set=material.feature_set,
        questions=questions.take(~held),
        until=material.until,
    )
    asked = questions.take(held)
    built = build_bundle(others, recipe=recipe)
    days = material.task.horizon_days
    baselines = build_baselines(others, built.choice.recipe)
    told = {name: baseline(asked, days) for name, baseline in baselines.items()}
    return {"model": built.bundle.predict(asked.frame).within[days]} | told


class _Fixed:
    """A baseline whose answers are there already."""

    def __init__(self, values: Floats) -> None:
        self._values = values

    def __call__(self, _questions: Questions, _horizon_days: int) -> Floats:
        return self._values
