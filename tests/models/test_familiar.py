"""A record unlike anything seen is told, and what is ordinary is not called strange."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from crm_core.clock import DAY
from models.familiar import FALSE_ALARMS, MOST_TRIED, Familiar, fit_familiar

FIELDS = ("source", "region", "industry")


def make_records(
    many: int = 3000, seed: int = 1
) -> tuple[pd.DataFrame, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return records asked about twice, with rare levels and a long tail, and never a missing region."""
    random = np.random.default_rng(seed)
    levels = np.array(["a", "b", "c", "d"], dtype=object)
    frame = pd.DataFrame(
        {name: random.choice(levels, 2 * many, p=[0.6, 0.3, 0.08, 0.02]) for name in FIELDS}
        | {
            "amount": np.exp(random.normal(8, 1, 2 * many)),
            "calls_7d": random.poisson(2, 2 * many).astype(np.float64),
            "calls_30d": random.poisson(6, 2 * many).astype(np.float64),
            "days_since": np.where(random.random(2 * many) < 0.3, np.nan, random.uniform(0, 90, 2 * many)),
            "note": np.array([f"text {place}" for place in random.integers(0, 9000, 2 * many)], dtype=object),
        }
    )
    ids = np.repeat(np.arange(many), 2) + 1
    return frame, ids, ids * DAY


GROUPS = {"calls_7d": "calls", "calls_30d": "calls"}


@pytest.fixture(scope="module")
def familiar() -> Familiar:
    return fit_familiar(*make_records(), GROUPS)


def _changed(**values: object) -> pd.DataFrame:
    frame = make_records(50, seed=5)[0].iloc[:1].reset_index(drop=True)
    for name, value in values.items():
        frame[name] = pd.Series([value], dtype=frame[name].dtype)
    return frame


def test_hardly_any_record_of_the_same_kind_is_strange(familiar: Familiar) -> None:
    others, *_ = make_records(20_000, seed=2)
    assert familiar.unlike(others).mean() <= FALSE_ALARMS


@pytest.mark.parametrize(
    "values",
    [
        {"source": "new", "region": "new"},
        {"amount": 1e12, "industry": "new"},
        {"amount": -1e9, "calls_7d": 900.0},
        {"region": None, "calls_30d": np.nan},
    ],
    ids=["levels", "number and level", "numbers", "missing that never were"],
)
def test_several_strange_fields_are_too_many(familiar: Familiar, values: dict[str, object]) -> None:
    assert familiar.unlike(_changed(**values)).tolist() == [True]


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"source": "new"},
        {"amount": 1e12},
        {"days_since": np.nan},
        {"note": "never written before"},
        {"calls_7d": 900.0, "calls_30d": 2000.0},
    ],
    ids=[
        "ordinary",
        "one level",
        "one number",
        "missing as before",
        "free text",
        "two features of one field",
    ],
)
def test_one_strange_field_alone_is_not(familiar: Familiar, values: dict[str, object]) -> None:
    assert familiar.unlike(_changed(**values)).tolist() == [False]


def test_the_strange_fields_are_named_once_each(familiar: Familiar) -> None:
    frame = _changed(source="new", calls_7d=900.0, calls_30d=2000.0)
    assert familiar.strange_features(frame, 0) == ["source", "calls_7d"]


def test_what_grows_with_time_is_not_strange_in_the_newest() -> None:
    frame, ids, as_of = make_records()
    grown = frame.assign(amount=1.002**ids, calls_7d=1.003**ids)
    found = fit_familiar(grown, ids, as_of, GROUPS)
    assert "amount" not in found.seen
    assert "calls_7d" not in found.seen


def test_where_two_strange_fields_are_common_more_are_needed() -> None:
    """Two fields in 0.7 % of records, two others in another 0.7 %: each is rare, two at once are not."""
    frame, ids, as_of = make_records(8000)
    frame["channel"] = frame["region"]
    rows = np.random.default_rng(3).choice(len(frame), 112, replace=False)
    for some, names in ((rows[:56], ("source", "region")), (rows[56:], ("industry", "channel"))):
        for name in names:
            values = frame[name].to_numpy().copy()
            values[some] = [f"only here {row}" for row in some]
            frame[name] = values
    found = fit_familiar(frame, ids, as_of, GROUPS)
    assert found.most == 2
    assert found.unlike(frame).mean() <= FALSE_ALARMS


def test_many_questions_are_looked_at_in_part_and_found_the_same() -> None:
    frame, ids, as_of = make_records(MOST_TRIED // 2 + 100, seed=4)
    found = fit_familiar(frame, ids, as_of, GROUPS)
    assert set(found.seen) == {*FIELDS, "amount", "calls_7d", "calls_30d", "days_since"}
    assert found.unlike(_changed(source="new", amount=1e12)).tolist() == [True]


def test_it_is_read_back_the_same(familiar: Familiar) -> None:
    assert Familiar.from_json(familiar.to_json()) == familiar
    assert not replace(familiar, seen={}).unlike(_changed(source="new", region="new")).any()


def test_without_records_nothing_is_strange() -> None:
    frame, ids, as_of = make_records(5)
    found = fit_familiar(frame.iloc[:0], ids[:0], as_of[:0], GROUPS)
    assert not found.unlike(frame).any()
