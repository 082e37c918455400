"""Contributions of trees, held against LightGBM's own, whatever the trees ask and whatever is missing."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable
from typing import Any

import lightgbm
import numpy as np
import pytest

from models import contributions
from models.contributions import shapley_values, sums_of_leaves, warm
from models.estimators import Trees
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
    settings: dict[str, Any] = {
        "num_leaves": 12,
        "min_data_in_leaf": 5,
        "verbosity": -1,
        "num_threads": 1,
        "seed": seed,
    }
    settings |= SHAPES[shape]
    columns, rounds = settings.pop("columns", COLUMNS), settings.pop("rounds", 8)
    rows = make_rows(600, columns, seed)
    random = np.random.default_rng(seed + 1)
    known = np.nan_to_num(rows)
    target = known[:, 0] * known[:, -1] + np.isnan(rows[:, -1]) + (known[:, columns // 2] % 7 > 3)
    if settings.pop("chain", False):
        target = np.cumprod(known > -1, axis=1) @ 3.0 ** np.arange(columns) / 3.0**columns
    weight = random.uniform(0.1, 5, len(rows)) if settings.pop("weights", False) else None
    categories: Any = settings.pop("categorical_feature", [])
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


def test_sums_of_leaves_are_lightgbms_to_the_bit(grown: tuple[lightgbm.Booster, Forest, np.ndarray]) -> None:
    booster, _, rows = grown
    theirs = booster.predict(rows, raw_score=True, num_threads=1)
    np.testing.assert_array_equal(Trees(text=booster.model_to_string()).score(rows), theirs)


def test_a_row_has_the_same_contributions_to_the_bit_alone_and_in_any_batch(
    grown: tuple[lightgbm.Booster, Forest, np.ndarray],
) -> None:
    _, forest, rows = grown
    together = shapley_values(forest, rows)
    alone = np.vstack([shapley_values(forest, rows[[place]]) for place in range(20)])
    np.testing.assert_array_equal(alone, together[:20])
    np.testing.assert_array_equal(shapley_values(forest, rows[3:40]), together[3:40])


def test_threads_change_no_bit_and_none_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    forest = read_forest(grow("numbers").model_to_string())
    rows = make_rows(1500, COLUMNS, seed=5)
    monkeypatch.setattr(contributions, "cpu_count", lambda: 1)
    by_one = shapley_values(forest, rows)
    monkeypatch.setattr(contributions, "cpu_count", lambda: 3)
    monkeypatch.setattr(contributions, "_WORTH_A_THREAD", 1000)
    before = threading.active_count()
    np.testing.assert_array_equal(shapley_values(forest, rows), by_one)
    assert threading.active_count() == before


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_fork_after_threads_still_explains(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contributions, "cpu_count", lambda: 2)
    monkeypatch.setattr(contributions, "_WORTH_A_THREAD", 1000)
    forest = read_forest(grow("numbers").model_to_string())
    rows = make_rows(600, COLUMNS, seed=5)
    here = shapley_values(forest, rows)
    with multiprocessing.get_context("fork").Pool(1) as pool:
        there = pool.apply_async(shapley_values, (forest, rows)).get(timeout=60)
    np.testing.assert_array_equal(there, here)


def test_no_row_has_no_contributions() -> None:
    forest = read_forest(grow("stumps").model_to_string())
    assert shapley_values(forest, np.zeros((0, COLUMNS))).shape == (0, COLUMNS)
    assert sums_of_leaves(forest, np.zeros((0, COLUMNS))).shape == (0,)


def test_trees_with_more_leaves_than_bits_are_not_added_up_here() -> None:
    forest = read_forest(grow("more leaves than bits").model_to_string())
    assert forest.most_leaves > 64
    with pytest.raises(ValueError, match="up to 64 leaves"):
        sums_of_leaves(forest, np.zeros((1, COLUMNS)))


@pytest.mark.parametrize("shape", [(3, 1), (3, 100), (3,)])
def test_a_matrix_of_other_columns_than_the_trees_is_refused(shape: tuple[int, ...]) -> None:
    forest = read_forest(grow("numbers").model_to_string())

    for asked in (shapley_values, sums_of_leaves):
        with pytest.raises(ValueError, match="columns as the trees have"):
            asked(forest, np.zeros(shape))


def test_everything_is_compiled_once_asked_to_be() -> None:
    warm()
    loops: list[Any] = [contributions._explain, contributions._explain_alone, contributions._add_up]
    assert all(loop.signatures for loop in loops)


def _with_line(text: str, name: str, change: Callable[[str], str]) -> str:
    """Return the text with the first line of that name changed."""
    lines = text.split("\n")
    place = next(number for number, line in enumerate(lines) if line.startswith(f"{name}="))
    lines[place] = f"{name}={change(lines[place].partition('=')[2])}"
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("left_child", lambda value: " ".join(["0", *value.split()[1:]]), "rows that add up|do not meet"),
        ("left_child", lambda value: " ".join(["99", *value.split()[1:]]), "children that exist"),
        ("right_child", lambda value: " ".join(["-99", *value.split()[1:]]), "children that exist"),
        ("left_child", lambda value: value.rpartition(" ")[0], "shorter|longer"),
        ("split_feature", lambda value: " ".join(["6", *value.split()[1:]]), "that exist"),
        ("split_feature", lambda value: " ".join(["-1", *value.split()[1:]]), "columns that exist"),
        ("threshold", lambda value: " ".join(["nan", *value.split()[1:]]), "thresholds that are numbers"),
        ("leaf_value", lambda value: " ".join(["inf", *value.split()[1:]]), "finite leaves"),
        ("leaf_value", lambda value: value.rpartition(" ")[0], "as many leaves"),
        ("leaf_count", lambda value: " ".join(["0", *value.split()[1:]]), "rows in every leaf"),
        ("internal_count", lambda value: " ".join(["7", *value.split()[1:]]), "rows that add up"),
        ("decision_type", lambda value: " ".join(["64", *value.split()[1:]]), "a known way"),
        ("is_linear", lambda _: "1", "leaves with one value"),
        ("num_tree_per_iteration", lambda _: "3", "one tree a round"),
        ("tree_sizes", lambda value: value.rpartition(" ")[0], "as many trees"),
    ],
)
def test_trees_that_do_not_hold_together_are_refused(
    name: str, change: Callable[[str], str], message: str
) -> None:
    text = grow("numbers").model_to_string()
    with pytest.raises(ValueError, match=message):
        read_forest(_with_line(text, name, change))


def test_sets_of_categories_outside_the_text_are_refused() -> None:
    text = grow("categories").model_to_string()
    for name in ("cat_boundaries", "cat_threshold"):
        cut = _with_line(text, name, lambda value: value.split()[0])
        with pytest.raises(ValueError, match="a set"):
            read_forest(cut)


def test_a_text_cut_anywhere_is_refused() -> None:
    text = grow("numbers").model_to_string()
    end = text.index("end of trees")
    for stop in range(0, end, end // 60):
        with pytest.raises((ValueError, KeyError)):
            read_forest(text[:stop])
