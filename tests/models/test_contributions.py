"""Contributions of trees, held against LightGBM's own, whatever the trees ask and whatever is missing."""

from __future__ import annotations

from typing import Any

import lightgbm
import numpy as np
import pytest

from models.contributions import shapley_values
from models.forest import Forest, read_forest

COLUMNS = 6
SHAPES: dict[str, dict[str, Any]] = {
    "numbers": {},
    "zero is missing": {"zero_as_missing": True},
    "nothing is missing": {"use_missing": False},
    "one column": {"columns": 1, "num_leaves": 40},
    "deep": {"num_leaves": 64, "min_data_in_leaf": 1, "columns": 20, "rounds": 3},
    "a chain": {"chain": True, "num_leaves": 40, "min_data_in_leaf": 1, "columns": 24, "rounds": 2},
    "categories": {"categorical_feature": [1, 3], "min_data_per_group": 5, "max_cat_to_onehot": 1},
    "categories one at a time": {"categorical_feature": [1, 3], "max_cat_to_onehot": 100},
    "more leaves than bits": {"num_leaves": 90, "min_data_in_leaf": 2},
    "stumps": {"max_depth": 1},
    "nothing to learn": {"min_data_in_leaf": 10_000},
    "weights": {"weights": True, "bagging_fraction": 0.5, "bagging_freq": 1},
}


def make_rows(many: int, columns: int, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    rows = random.normal(size=(many, columns))
    rows[:, : columns // 2] = np.round(rows[:, : columns // 2] * 2)
    rows[random.random(rows.shape) < 0.1] = np.nan
    rows[random.random(rows.shape) < 0.1] = 0.0
    if columns == COLUMNS:
        rows[:, 1] = random.integers(0, 90, many)
        rows[:, 3] = random.integers(-2, 40, many)
        rows[random.random(many) < 0.1, 3] = np.nan
    return np.asarray(rows)


def grow(shape: str, seed: int = 1) -> lightgbm.Booster:
    settings = {"num_leaves": 12, "min_data_in_leaf": 5, "verbosity": -1, "num_threads": 1, "seed": seed}
    settings |= SHAPES[shape]
    columns, rounds = settings.pop("columns", COLUMNS), settings.pop("rounds", 8)
    rows = make_rows(600, columns, seed)
    random = np.random.default_rng(seed + 1)
    known = np.nan_to_num(rows)
    target = known[:, 0] * known[:, -1] + np.isnan(rows[:, -1]) + (known[:, columns // 2] % 7 > 3)
    if settings.pop("chain", False):
        target = np.cumprod(known > -1, axis=1) @ 3.0 ** np.arange(columns) / 3.0**columns
    weight = random.uniform(0.1, 5, len(rows)) if settings.pop("weights", False) else None
    categories = settings.pop("categorical_feature", [])
    data = lightgbm.Dataset(rows, target, weight=weight, categorical_feature=categories, params=settings)
    return lightgbm.train(settings, data, rounds)


def asked_rows(columns: int) -> np.ndarray:
    """Return rows that training has not seen, odd ones among them."""
    rows = make_rows(300, columns, seed=77)
    rows[0], rows[1], rows[2], rows[3] = np.nan, 0.0, np.inf, -np.inf
    rows[4], rows[5], rows[6], rows[7] = 1e300, -0.5, 2.0**31, 1e-36
    return rows


@pytest.fixture(params=SHAPES, scope="module")
def grown(request: pytest.FixtureRequest) -> tuple[lightgbm.Booster, Forest, np.ndarray]:
    booster = grow(request.param)
    return booster, read_forest(booster.model_to_string()), asked_rows(booster.num_feature())


def test_contributions_are_lightgbms(grown: tuple[lightgbm.Booster, Forest, np.ndarray]) -> None:
    booster, forest, rows = grown
    theirs = np.asarray(booster.predict(rows, pred_contrib=True, num_threads=1))
    np.testing.assert_allclose(shapley_values(forest, rows), theirs[:, :-1], rtol=0, atol=1e-10)
    np.testing.assert_allclose(forest.average, theirs[:, -1], rtol=0, atol=1e-12)


def test_contributions_add_up_to_the_score(grown: tuple[lightgbm.Booster, Forest, np.ndarray]) -> None:
    booster, forest, rows = grown
    said = np.asarray(booster.predict(rows, raw_score=True, num_threads=1))
    total = forest.average + shapley_values(forest, rows).sum(axis=1)
    np.testing.assert_allclose(total, said, rtol=0, atol=1e-9)
