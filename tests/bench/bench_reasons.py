"""Scores and exact reasons of 300 trees of 31 leaves, through our path, beside LightGBM's and shap's."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pandas as pd

from models.bundle import Calibration, ModelBundle
from models.encoding import Column, ColumnKind, Encoder
from models.estimators import Estimator, Trees
from models.hazard import Floats
from tests.bench.harness import Benchmark, Contest, seconds, timed

COLUMNS = 40
CATEGORIES = (3, 5)
TREES = 300
LEAVES = 31
EXPLAINED = 1_024
EXPLAINED_BESIDE_SHAP = 512
SCORED = 100_000
SCORED_FROM_FRAME = 20_000
ALONE = 100
"""Records explained one after another in one measurement."""


def make_rows(many: int, seed: int) -> Floats:
    """Return rows with whole and real numbers, a tenth missing, and two categories."""
    random = np.random.default_rng(seed)
    rows = random.normal(size=(many, COLUMNS))
    rows[:, :10] = np.round(rows[:, :10] * 2)
    rows[random.random(rows.shape) < 0.1] = np.nan
    for column in CATEGORIES:
        rows[:, column] = random.integers(0, 40, many)
    return np.asarray(rows, dtype=np.float64)


@cache
def booster(categories: tuple[int, ...] = CATEGORIES) -> lightgbm.Booster:
    """Return the trees, grown on 20,000 rows."""
    rows, random = make_rows(20_000, seed=1), np.random.default_rng(2)
    known = np.nan_to_num(rows)
    strength = known[:, 0] * known[:, 11] + known[:, 12] + np.sin(2 * known[:, 13])
    happens = (strength + random.normal(size=len(rows)) > 0) ^ np.isin(rows[:, 3], [1, 5, 9, 20])
    settings = {"objective": "binary", "num_leaves": LEAVES, "num_threads": 2, "verbosity": -1, "seed": 1}
    data = lightgbm.Dataset(rows, happens.astype(np.float64), categorical_feature=list(categories))
    return lightgbm.train(settings, data, TREES)


def ours() -> Estimator:
    """Return the same trees as part of a model of ours."""
    return Estimator(trees=Trees(text=booster().model_to_string()))


def explained_by(estimator: Estimator, rows: Floats) -> Floats:
    """Return contributions as LightGBM lays them out: the average in the last column."""
    found = estimator.contributions(rows)
    return np.column_stack([found.lasting, np.full(len(rows), found.average_lasting)])


def agree(mine: Floats, theirs: Floats) -> bool:
    """Tell whether contributions are equal within 1e-10."""
    return bool(np.abs(mine - theirs).max() <= 1e-10)


def explain_batch(folder: Path) -> Contest:
    """Explain a batch."""
    estimator, rows = ours(), make_rows(EXPLAINED, seed=3)
    return timed(
        ours=lambda: explained_by(estimator, rows),
        peer=lambda: np.asarray(booster().predict(rows, pred_contrib=True)),
        agree=agree,
    )


def explain_batch_beside_shap(folder: Path) -> Contest:
    """Explain a batch, the peer being shap's own algorithm.

    Handed a model of LightGBM, shap only calls LightGBM's `pred_contrib`, which is the peer of
    `explain_batch`. Handed the same trees as plain data, it computes itself, on one thread. It mistakes
    sets of categories in that form, so these trees have numbers only.
    """
    shap: Any = importlib.import_module("shap")
    trees, rows = booster(()), make_rows(EXPLAINED_BESIDE_SHAP, seed=3)
    estimator = Estimator(trees=Trees(text=trees.model_to_string()))
    plain = {
        "trees": trees.dump_model()["tree_info"],
        "internal_dtype": np.float64,
        "input_dtype": np.float64,
    }
    explainer = shap.TreeExplainer(plain, feature_perturbation="tree_path_dependent")
    return timed(
        ours=lambda: estimator.contributions(rows).lasting,
        peer=lambda: np.asarray(explainer.shap_values(rows, check_additivity=False), dtype=np.float64),
        agree=agree,
    )


def one_by_one(call: Callable[[Floats], object], rows: Floats) -> float:
    """Return the seconds that a row takes, asked alone."""
    return seconds(lambda: [call(rows[[place]]) for place in range(len(rows))]) / len(rows)


def explain_alone(folder: Path) -> Contest:
    """Explain records one by one."""
    estimator, rows = ours(), make_rows(ALONE, seed=4)
    if not agree(explained_by(estimator, rows), np.asarray(booster().predict(rows, pred_contrib=True))):
        raise AssertionError("contributions differ")
    return Contest(
        ours=lambda: one_by_one(lambda row: explained_by(estimator, row), rows),
        peer=lambda: one_by_one(lambda row: booster().predict(row, pred_contrib=True), rows),
    )


def explain_alone_within_a_millisecond(folder: Path) -> Contest:
    """Explain records one by one, the peer being one millisecond on any clock."""
    estimator, rows = ours(), make_rows(ALONE, seed=4)
    return Contest(
        ours=lambda: one_by_one(lambda row: explained_by(estimator, row), rows), peer=lambda: 0.001
    )


def whole_model() -> ModelBundle:
    """Return the same trees as a whole model: encoder, hazards, calibration, percentiles."""
    encoder = Encoder(
        columns=tuple(Column(feature=f"column_{at}", kind=ColumnKind.NUMBER) for at in range(COLUMNS))
    )
    return ModelBundle(
        task="lead_scoring",
        variant="",
        record_type="lead",
        horizon_days=90,
        horizons_days=(30, 60, 90),
        intervals_days=(7, 30, 60, 90),
        high_is_good=True,
        feature_set_fingerprint="",
        features=encoder.features,
        encoder=encoder,
        estimator=ours(),
        levels=np.full(4, -3.0),
        fading=np.ones(4),
        calibration=Calibration(),
        percentiles=np.linspace(0, 1, 101),
        grade_from=(90, 70, 40),
        trained={"as_of": 0, "says_probability": True},
    )


def score_frame(folder: Path) -> Contest:
    """Score a batch from its frame of features to probabilities and ranks, as the service does.

    The peer is handed the matrix ready made and gives raw scores: it has less to do.
    """
    model, rows = whole_model(), make_rows(SCORED_FROM_FRAME, seed=5)
    frame = pd.DataFrame(rows, columns=list(model.features))
    raw = np.asarray(booster().predict(rows, raw_score=True))
    if not np.array_equal(model.estimator.effects(model.encoder.encode(frame)).lasting, raw):
        raise AssertionError("scores differ")
    return Contest(
        ours=lambda: seconds(lambda: model.predict(frame)),
        peer=lambda: seconds(lambda: booster().predict(rows, raw_score=True)),
    )


def score_batch(folder: Path) -> Contest:
    """Score a batch; both sides give the same bits."""
    estimator, rows = ours(), make_rows(SCORED, seed=5)
    return timed(
        ours=lambda: estimator.effects(rows).lasting,
        peer=lambda: np.asarray(booster().predict(rows, raw_score=True)),
        agree=np.array_equal,
    )


BENCHMARKS = (
    Benchmark(
        name="explain_batch", peer_name="Booster.predict(pred_contrib=True)", prepare=explain_batch, asked=30
    ),
    *(
        [
            Benchmark(
                name="explain_batch_beside_shap",
                peer_name="shap.TreeExplainer on its own",
                prepare=explain_batch_beside_shap,
                asked=30,
                rounds=3,
            )
        ]
        if importlib.util.find_spec("shap")
        else []
    ),
    Benchmark(
        name="explain_alone", peer_name="Booster.predict(pred_contrib=True), one row", prepare=explain_alone
    ),
    Benchmark(
        name="explain_alone_limit",
        peer_name="a millisecond",
        prepare=explain_alone_within_a_millisecond,
        asked=1,
    ),
    Benchmark(name="score_batch", peer_name="Booster.predict", prepare=score_batch, asked=1),
    Benchmark(
        name="score_frame", peer_name="Booster.predict, the matrix given", prepare=score_frame, asked=1
    ),
)
