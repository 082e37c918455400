"""LightGBM on a hazard: trees that add to what is known of the intervals already."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from models.estimators import Trees
from models.hazard import Exposure, Floats, Ints


@dataclass(frozen=True, kw_only=True)
class TreeShape:
    """How trees are grown; `most_rounds` bounds how many."""

    leaves: int
    depth: int
    most_rounds: int
    learning_rate: float = 0.1


ADDITIVE = TreeShape(leaves=4, depth=2, most_rounds=150)
"""At most two features meet in a tree."""

FULL = TreeShape(leaves=15, depth=6, most_rounds=80)
"""Features meet freely."""

COARSE_BINS, FINE_BINS = 63, 255
"""Steps that a number is cut into, with few events and with many."""

MANY_EVENTS = 5_000
"""Events from which on numbers are cut finely: with 63 steps the public IBM sample of 17,548 wins is told
with an AUC of 0.826, with 255 of 0.838."""

AT_ONCE = 1_000_000
"""Intervals up to which their rows are handed over in one matrix."""

PATIENCE = 15
"""Rounds without a lower loss on the watched questions after which growing ends."""

_FIXED: dict[str, Any] = {
    "objective": "binary",
    "metric": "binary_logloss",
    "boost_from_average": False,
    "min_sum_hessian_in_leaf": 2.0,
    "min_data_in_leaf": 20,
    "lambda_l2": 10.0,
    "deterministic": True,
    "force_row_wise": True,
    "num_threads": 1,  # threads that wait for one another cost more than they save on a busy machine
    "seed": 1,
    "verbosity": -1,
}


@dataclass(frozen=True, kw_only=True)
class TreeRows:
    """A matrix, float64[n, p], what was seen of its questions, and the hazards, float64[n, K], to add to."""

    matrix: Floats
    exposure: Exposure
    start: Floats


@dataclass(frozen=True, kw_only=True)
class GrownTrees:
    """Trees, and the weighted loss on the watched questions after each round (empty if none were watched)."""

    trees: Trees
    watched_loss: Floats

    def first(self, rounds: int) -> Trees:
        """Return the trees of the first rounds."""
        return Trees(text=self.trees.booster.model_to_string(num_iteration=rounds))


def fit_trees(
    rows: TreeRows, shape: TreeShape, *, rounds: int, watched: TreeRows | None = None
) -> GrownTrees:
    """Grow trees on the intervals that count; of the same rows always the same trees."""
    import lightgbm

    fixed = _FIXED | {"max_bin": _bins(rows)}
    train = _dataset(rows, None, fixed["max_bin"])
    losses: dict[str, dict[str, list[float]]] = {}
    callbacks: list[Any] = []
    if watched is not None:
        callbacks = [lightgbm.record_evaluation(losses), lightgbm.early_stopping(PATIENCE, verbose=False)]
    booster = lightgbm.train(
        fixed | {"num_leaves": shape.leaves, "max_depth": shape.depth, "learning_rate": shape.learning_rate},
        train,
        num_boost_round=rounds,
        valid_sets=[_dataset(watched, train, fixed["max_bin"])] if watched is not None else None,
        valid_names=["watched"] if watched is not None else None,
        callbacks=callbacks,
    )
    seen = losses.get("watched", {}).get("binary_logloss", [])
    text = booster.model_to_string(num_iteration=-1)
    return GrownTrees(trees=Trees(text=text), watched_loss=np.array(seen))


def _in_batches(matrix: Floats, question: Ints) -> Any:  # noqa: ANN401  LightGBM's Sequence, imported late
    """Return the row of each interval, handed over a batch at a time: never all of them in doubles."""
    import lightgbm

    class Rows(lightgbm.Sequence):
        batch_size = 65_536

        def __len__(self) -> int:
            return len(question)

        def __getitem__(self, at: Any) -> Floats:  # noqa: ANN401  a number, a slice or a list
            return np.asarray(matrix[question[at]], dtype=np.float64)

    return Rows()


def _bins(rows: TreeRows) -> int:
    """Return into how many steps a number is cut: finer ones where there are outcomes enough to fill them."""
    return FINE_BINS if np.count_nonzero(rows.exposure.event) > MANY_EVENTS else COARSE_BINS


def _dataset(rows: TreeRows, reference: Any, bins: int) -> Any:  # noqa: ANN401  LightGBM's Dataset, imported late
    import lightgbm

    question, interval = np.nonzero(rows.exposure.at_risk)
    return lightgbm.Dataset(
        rows.matrix[question] if len(question) <= AT_ONCE else _in_batches(rows.matrix, question),
        label=rows.exposure.event[question, interval].astype(np.float64),
        weight=rows.exposure.weight[question],
        init_score=rows.start[question, interval],
        reference=reference,
        params={"max_bin": bins, "verbosity": -1},
    )
