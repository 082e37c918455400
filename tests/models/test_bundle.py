"""A model file: the same model is the same bytes, and no other bytes are ever read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest

from crm_core.clock import DAY
from crm_core.columns import dump_json
from crm_core.errors import DamagedModelError
from models.bundle import Calibration, ModelBundle, load_bundle, sha256_of
from models.encoding import ColumnKind, Encoder, fit_encoder
from models.fitting import Columns, Fitted, Lesson, Recipe, Rung, fit_recipe
from models.hazard import Exposure, Floats, expit, fading_of, share_of_intervals, slopes_within

ENDS = (7, 30, 90)


def make_frame(many: int = 1500, seed: int = 1) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    calls = random.poisson(2, many).astype(float)
    calls[random.random(many) < 0.2] = np.nan
    return pd.DataFrame(
        {
            "age_days": np.where(random.random(many) < 0.4, 0.0, random.uniform(5, 60, many)),
            "calls_count_30d": calls,
            "source": pd.Series(
                random.choice(np.array(["web", "fair", None], dtype=object), many), dtype=object
            ),
        }
    )


def fit(frame: pd.DataFrame, recipe: Recipe, strength: Floats | None = None) -> tuple[Encoder, Fitted]:
    random = np.random.default_rng(2)
    encoder = fit_encoder(frame, np.arange(len(frame)))
    if strength is None:
        calls, source = frame["calls_count_30d"].to_numpy(), frame["source"].to_numpy()
        strength = np.nan_to_num(calls) * 0.4 + (source == "fair")
    hazards = expit(-2.5 + strength[:, None] * fading_of(ENDS))
    happens = random.random(hazards.shape) < hazards
    at_risk: np.ndarray = np.cumsum(happens, axis=1) - happens == 0
    exposure = Exposure(
        at_risk=at_risk,
        event=happens & at_risk,
        closed_at=np.tile(np.array(ENDS, dtype=np.int64) * DAY, (len(frame), 1)),
        weight=np.ones(len(frame)),
    )
    is_number = np.array([column.kind is ColumnKind.NUMBER for column in encoder.columns])
    columns = Columns(is_number=is_number, is_seasonal=np.zeros_like(is_number))
    lesson = Lesson(
        matrix=encoder.encode(frame),
        exposure=exposure,
        columns=columns,
        fading=fading_of(ENDS),
        until=90 * DAY,
    )
    return encoder, fit_recipe(recipe, lesson)


RECIPES = {
    "base rate": Recipe(rung=Rung.BASE_RATE),
    "logistic": Recipe(rung=Rung.LOGISTIC, penalty=1.0),
    "trees": Recipe(rung=Rung.ADDITIVE_TREES, rounds=20),
    "trees on logistic": Recipe(rung=Rung.FULL_TREES, penalty=1.0, rounds=10),
}


LINE = Calibration(intercept=-0.2, slope=0.9)

STEPS = Calibration(
    intercept=-0.2, slope=0.9, knots=((-4.0, -3.5), (-3.0, -3.4), (-2.5, -2.0), (-1.0, -1.2), (0.5, -0.9))
)

MODELS = {name: (recipe, LINE) for name, recipe in RECIPES.items()} | {
    "logistic, corrected by steps": (RECIPES["logistic"], STEPS),
    "trees on logistic, corrected by steps": (RECIPES["trees on logistic"], STEPS),
}


def make_bundle(frame: pd.DataFrame, recipe: Recipe, calibration: Calibration = LINE) -> ModelBundle:
    encoder, fitted = fit(frame, recipe)
    return ModelBundle(
        task="lead_scoring",
        variant="",
        record_type="lead",
        horizon_days=90,
        horizons_days=(30, 60, 90),
        intervals_days=ENDS,
        high_is_good=True,
        feature_set_fingerprint="f" * 64,
        features=("age_days", "calls_count_30d", "source"),
        encoder=encoder,
        estimator=fitted.estimator,
        levels=fitted.levels,
        fading=fitted.fading,
        calibration=calibration,
        percentiles=np.linspace(0.05, 0.6, 101),
        grade_from=(90, 70, 40),
        trained={
            "as_of": 90 * DAY,
            "says_probability": True,
            "questions": 1500,
            "outcomes": 300,
            "without_outcome": 1200,
        },
    )


@pytest.fixture(params=MODELS, scope="module")
def bundle(request: pytest.FixtureRequest) -> ModelBundle:
    return make_bundle(make_frame(), *MODELS[request.param])


def test_a_model_read_back_says_the_same_to_the_bit(bundle: ModelBundle) -> None:
    again = load_bundle(bundle.to_bytes(), bundle.sha256, version="lead_scoring-1-12345678")
    frame = make_frame(seed=9)
    np.testing.assert_array_equal(again.predict(frame).probability, bundle.predict(frame).probability)
    np.testing.assert_array_equal(again.explain(frame).parts, bundle.explain(frame).parts)
    assert again.to_bytes() == bundle.to_bytes()
    assert again.version == "lead_scoring-1-12345678"


def test_fitting_again_gives_the_same_bytes(bundle: ModelBundle) -> None:
    name = next(name for name, recipe in RECIPES.items() if make_bundle(make_frame(), recipe) is not bundle)
    first, second = (make_bundle(make_frame(), RECIPES[name]).to_bytes() for _ in range(2))
    assert first == second


def test_a_row_alone_says_what_it_says_among_others(bundle: ModelBundle) -> None:
    frame = make_frame(seed=9)
    together = bundle.predict(frame).probability
    alone = [bundle.predict(frame.iloc[[row]].reset_index(drop=True)).probability[0] for row in range(20)]
    np.testing.assert_allclose(alone, together[:20], rtol=0, atol=1e-15)


def test_contributions_add_up_to_the_log_odds_of_the_probability(bundle: ModelBundle) -> None:
    frame = make_frame(seed=9)
    explanation, probability = bundle.explain(frame), bundle.predict(frame).probability
    said = np.log(probability / (1 - probability))
    np.testing.assert_allclose(explanation.base + explanation.parts.sum(axis=1), said, rtol=0, atol=1e-9)


def test_contributions_follow_the_path_so_that_a_feature_without_effect_adds_nothing() -> None:
    bundle = make_bundle(make_frame(), RECIPES["logistic"])
    frame = make_frame(seed=9)
    named = dict(zip(bundle.explain(frame).features, bundle.explain(frame).parts.T, strict=True))
    assert np.abs(named["age_days"]).max() < 0.25
    assert np.abs(named["calls_count_30d"]).max() > 1


def test_where_steps_correct_contributions_are_the_integral_along_the_way() -> None:
    bundle = make_bundle(make_frame(), RECIPES["logistic"], STEPS)
    frame = make_frame(seed=9).iloc[:40].reset_index(drop=True)
    found = bundle.estimator.contributions(bundle.encoder.encode(frame))
    lasting, early = (part.sum(axis=1)[:, None] for part in (found.lasting, found.early))
    share, many = share_of_intervals(ENDS, 90), 2000
    rates = np.zeros((len(frame), len(ENDS)))
    for far in (np.arange(many) + 0.5) / many:
        raw = bundle.levels + far * (lasting + early * bundle.fading)
        rates += slopes_within(STEPS.apply(raw), share) * STEPS.rates(raw) / many
    columns = found.lasting * rates.sum(axis=1)[:, None] + found.early * (rates @ bundle.fading)[:, None]
    by_hand = bundle.explain(frame).parts
    for place, name in enumerate(bundle.encoder.features):
        mine = [at for at, column in enumerate(bundle.encoder.columns) if column.feature == name]
        np.testing.assert_allclose(by_hand[:, place], columns[:, mine].sum(axis=1), atol=0.02)


def test_longer_horizons_are_never_less_likely(bundle: ModelBundle) -> None:
    within = bundle.predict(make_frame(seed=9)).within
    assert (within[30] <= within[60]).all()
    assert (within[60] <= within[90]).all()


def test_ranks_and_grades_follow_the_probability(bundle: ModelBundle) -> None:
    scores = bundle.predict(make_frame(seed=9))
    order = np.argsort(scores.probability)
    assert (np.diff(scores.rank[order]) >= 0).all()
    assert 0 <= scores.rank.min() <= scores.rank.max() <= 100
    assert [bundle.grade(rank) for rank in (95, 90, 70, 40, 39, 0)] == ["A", "A", "B", "C", "D", "D"]


def _damaged(data: bytes, how: int) -> bytes:
    random = np.random.default_rng(how)
    place = int(random.integers(0, len(data)))
    match how % 4:
        case 0:
            return data[:place]
        case 1:
            return data[:place] + bytes([data[place] ^ (1 << how % 8)]) + data[place + 1 :]
        case 2:
            return data[: place // 2] + data[place:] + data[place // 2 : place]
    return data[:place] + bytes(random.integers(0, 256, 64, dtype=np.uint8)) + data[place + 64 :]


def test_damaged_files_are_refused_whatever_the_damage(bundle: ModelBundle) -> None:
    data, sha256 = bundle.to_bytes(), bundle.sha256
    tried = 0
    for how in range(75):
        damaged = _damaged(data, how)
        if damaged != data:
            tried += 1
            with pytest.raises(DamagedModelError, match=f"expected a model file with SHA-256 {sha256}"):
                load_bundle(damaged, sha256)
    assert tried > 70


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("format", 99),
        ("levels", [0.0]),
        ("levels", "none"),
        ("percentiles", []),
        ("estimator", {}),
        ("calibration", {"intercept": 1e999, "slope": 1.0}),
        ("calibration", {"intercept": 0.0, "slope": 1.0, "knots": [[0.0, 1.0], [1.0, 0.0]]}),
        ("calibration", {"intercept": 0.0, "slope": 1.0, "knots": [[0.0]]}),
        ("encoder", [["a", "colour", None]]),
    ],
)
def test_a_file_with_the_right_sum_but_the_wrong_content_is_refused(field: str, value: object) -> None:
    content = json.loads(make_bundle(make_frame(), RECIPES["logistic"]).to_bytes())
    content[field] = value
    data = json.dumps(content).encode()
    with pytest.raises(DamagedModelError, match="not one this program reads"):
        load_bundle(data, sha256_of(data))


def test_a_file_of_the_format_before_is_refused_and_says_to_train_again() -> None:
    content = json.loads(make_bundle(make_frame(), RECIPES["logistic"]).to_bytes())
    data = dump_json(content | {"format": 1}).encode()
    with pytest.raises(DamagedModelError, match=r"expected format 2, got 1: train again \(crm train\)"):
        load_bundle(data, sha256_of(data))


FREE = {"trained", "not_reported", "middle", "reach", "records", "seen"}
"""Parts whose keys are not those of the format, but features, days, situations or remarks."""


def _dropped(content: dict[str, Any], way: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (what was dropped, the rest) for every key of the format."""
    for name, value in content.items():
        yield f"{way}{name}", {kept: each for kept, each in content.items() if kept != name}
        if isinstance(value, dict) and name not in FREE:
            for what, rest in _dropped(value, f"{way}{name}."):
                yield what, content | {name: rest}


def test_a_file_without_any_one_of_its_keys_is_damaged(bundle: ModelBundle) -> None:
    dropped = dict(_dropped(json.loads(bundle.to_bytes())))
    assert {"later", "usual.by", "calibration.knots", "estimator.card", "familiar.most"} <= dropped.keys()
    for content in dropped.values():
        data = dump_json(content).encode()
        with pytest.raises(DamagedModelError):
            load_bundle(data, sha256_of(data))


@pytest.mark.parametrize("data", [b"", b"[]", b"null", b'{"format": 2}', b"\x80\x04K\x01."])
def test_a_file_that_is_no_model_at_all_is_refused(data: bytes) -> None:
    with pytest.raises(DamagedModelError):
        load_bundle(data, sha256_of(data))


def test_the_bytes_are_canonical_json(bundle: ModelBundle) -> None:
    data = bundle.to_bytes()
    assert dump_json(json.loads(data)).encode() == data
