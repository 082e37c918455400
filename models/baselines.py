"""What a model must beat: the base rate, a simple rule of the task, what the rep believes, a naive Bayes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from crm_core.history import values_as_of
from crm_core.records import Deal
from crm_core.store import Store
from models.building import Material, columns_of, probability_within
from models.encoding import Encoder, fit_encoder
from models.fitting import Fitted, Lesson, Recipe, Rung, fit_recipe
from models.hazard import Floats, fading_of
from models.questions import Questions, answers

if TYPE_CHECKING:
    from pandas import DataFrame

Baseline = Callable[[Questions, int], Floats]
"""Gives the probability within a horizon in days of each question: float64[n], NaN where it says nothing."""

_LIGHT_PENALTY = 1.0


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A hazard of a few features, or of none, fitted as the model is."""

    material: Material
    encoder: Encoder
    fitted: Fitted

    def __call__(self, questions: Questions, horizon_days: int) -> Floats:
        """Return the probabilities."""
        hazards = self.fitted.log_odds(self.encoder.encode(questions.frame))
        return probability_within(hazards, self.material.task, horizon_days)


def build_baselines(material: Material, recipe: Recipe) -> dict[str, Baseline]:
    """Return the baselines of a task by name; they learn from the questions that a model would."""
    base_rate = _rule(material, recipe, ())
    found: dict[str, Baseline] = {"base_rate": base_rate}
    for name, features in material.task.simple_rules.items():
        found[name] = _rule(material, recipe, features)
    if material.task.record_type == "deal":
        found["rep_probability"] = RepBelief(store=material.store)
    return found | {"naive_bayes": NaiveBayes(material=material)}


def _rule(material: Material, recipe: Recipe, features: tuple[str, ...]) -> Rule:
    questions = material.questions
    encoder = fit_encoder(questions.frame, questions.cohort.ids, features=features)
    lesson = Lesson(
        matrix=encoder.encode(questions.frame),
        exposure=material.expose_at(material.until),
        columns=columns_of(encoder, material),
        fading=fading_of(material.task.intervals_days),
        until=material.until,
    )
    rung = Rung.LOGISTIC if encoder.columns else Rung.BASE_RATE
    plain = Recipe(
        rung=rung,
        window_days=recipe.window_days,
        level_days=recipe.level_days,
        penalty=_LIGHT_PENALTY if encoder.columns else None,
    )
    return Rule(material=material, encoder=encoder, fitted=fit_recipe(plain, lesson))


@dataclass(frozen=True, kw_only=True)
class RepBelief:
    """What the rep had written down at the time, whatever the horizon."""

    store: Store

    def __call__(self, questions: Questions, horizon_days: int) -> Floats:
        """Return the beliefs; NaN where there was none."""
        cohort = questions.cohort
        with self.store.reading() as session:
            held = values_as_of(session, Deal, "rep_probability", cohort.ids, cohort.as_of)
        return np.array([np.nan if value is None else float(value) for value in held], dtype=np.float64)


@dataclass(frozen=True, kw_only=True)
class NaiveBayes:
    """A categorical naive Bayes on questions whose whole horizon was over, as some CRMs have it."""

    material: Material

    def __call__(self, questions: Questions, horizon_days: int) -> Floats:
        """Return its probabilities; NaN throughout without categories, or with one answer of a kind only."""
        from sklearn.naive_bayes import CategoricalNB

        learned = self.material.questions
        answer = answers(self.material.store, learned, horizon_days, known_at=self.material.until)
        happened = answer.happened[answer.over]
        coder = _Codes(learned.frame)
        if not coder.sizes or min(happened.sum(), (~happened).sum()) < 2:
            return np.full(len(questions), np.nan)
        model = CategoricalNB(min_categories=coder.sizes)
        model.fit(coder.encode(learned.frame[answer.over]), happened)
        return np.asarray(model.predict_proba(coder.encode(questions.frame))[:, 1], dtype=np.float64)


class _Codes:
    """Whole numbers for the levels of every category; 0 is a level that was not seen."""

    def __init__(self, frame: DataFrame) -> None:
        names = [name for name in frame.columns if frame[name].dtype.kind == "O"]
        self._codes = {
            name: {level: code for code, level in enumerate(sorted(set(map(str, frame[name]))), start=1)}
            for name in names
        }
        self.sizes = [len(levels) + 1 for levels in self._codes.values()]

    def encode(self, frame: DataFrame) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
        """Return the numbers: int64[n, categories]."""
        return np.array(
            [[levels.get(str(value), 0) for value in frame[name]] for name, levels in self._codes.items()],
            dtype=np.int64,
        ).T
