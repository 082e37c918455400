"""What can be said from the records of a simulated company by somebody with more to learn from than anybody.

The truth knows hidden states that show only through what people do, so no model reaches it. Between a model
and the truth lies the mean of the true probabilities over records that look alike: the best answer that the
features allow. It is learned from the truths, not the outcomes, of other companies made by the same rules,
which leaves little of it to chance. A model's distance to it comes from having too few outcomes to learn
from, or from how it is built; what is left to the truth only more telling records or features could close.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from models.encoding import Encoder, fit_encoder
from models.hazard import Floats
from models.questions import Questions
from models.simulation.truth import Truth

if TYPE_CHECKING:
    import lightgbm
    from pandas import DataFrame

_ROUNDS = 100
_TREES: dict[str, Any] = {
    "objective": "cross_entropy",
    "num_leaves": 48,
    "learning_rate": 0.07,
    "min_data_in_leaf": 40,
    "lambda_l2": 1.0,
    "max_bin": 127,
    "feature_fraction": 0.6,
    "bagging_fraction": 0.7,
    "bagging_freq": 1,
    "seed": 1,
    "deterministic": True,
    "force_row_wise": True,
    "num_threads": 1,
    "verbosity": -1,
}


@dataclass(frozen=True, kw_only=True)
class Lookalikes:
    """Rows of features, and the true probability behind each: float64[n], NaN where none is defined."""

    frame: DataFrame
    probability: Floats


@dataclass(frozen=True, kw_only=True)
class Observer:
    """Says the mean of the true probabilities of records that look like the one asked about."""

    encoder: Encoder
    booster: lightgbm.Booster

    def probabilities(self, frame: DataFrame) -> Floats:
        """Return what can be said of each row: float64[n]."""
        said = self.booster.predict(self.encoder.encode(frame), num_threads=1)
        return np.asarray(said, dtype=np.float64)


def look_at(questions: Questions, truth: Truth, horizon_days: int) -> Lookalikes:
    """Return the features of questions and the true probabilities of their outcome within a horizon."""
    cohort = questions.cohort
    probability = truth.probabilities(questions.task.name, cohort.ids, questions.as_of, horizon_days)
    return Lookalikes(frame=questions.frame, probability=probability)


def fit_observer(companies: Sequence[Lookalikes]) -> Observer:
    """Learn from companies other than the one to be judged."""
    import lightgbm
    import pandas as pd

    frame = pd.concat([company.frame for company in companies], ignore_index=True)
    probability = np.concatenate([company.probability for company in companies])
    known = ~np.isnan(probability)
    encoder = fit_encoder(frame[known], np.arange(int(known.sum())))
    rows = lightgbm.Dataset(encoder.encode(frame[known]), probability[known])
    return Observer(encoder=encoder, booster=lightgbm.train(_TREES, rows, num_boost_round=_ROUNDS))
