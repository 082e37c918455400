"""Periods and segments: levels, figures, and two models side by side."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
import pytest

from crm_core.clock import micros
from features.cohort import Cohort
from models import win_probability
from models.breakdown import (
    FEWEST_RECORDS,
    NOT_GIVEN,
    OTHER,
    judge_parts,
    parts_of,
    periods_of,
)
from models.evaluation import Judged, measure
from models.questions import Questions


def _objects(*values: Any) -> np.ndarray[Any, Any]:
    return np.array(values, dtype=object)


def _instants(*days: tuple[int, int, int]) -> np.ndarray[Any, Any]:
    return np.array([micros(datetime(*day, tzinfo=UTC)) for day in days])


def _answers(many: int = 3000, seed: int = 4) -> tuple[dict[str, np.ndarray[Any, Any]], Judged, Any]:
    """Return what a right model and a constant say; in the west twice as much comes as is said."""
    random = np.random.default_rng(seed)
    said = random.beta(2, 8, many)
    west = random.random(many) < 0.3
    happened = random.random(many) < np.where(west, np.minimum(2 * said, 1), said)
    region = np.where(west, "west", "east").astype(object)
    return (
        {"model": said, "base_rate": np.full(many, 0.25)},
        Judged(happened=happened, entity=np.arange(many)),
        region,
    )


def test_months_become_quarters_and_years_where_there_are_many() -> None:
    few = _instants((2025, 1, 1), (2025, 2, 28), (2025, 1, 31))
    assert periods_of(few).tolist() == ["2025-01", "2025-02", "2025-01"]
    year = _instants(*((2025, month, 1) for month in range(1, 13)))
    assert sorted(set(periods_of(year))) == ["2025-Q1", "2025-Q2", "2025-Q3", "2025-Q4"]
    decade = _instants(*((year, month, 1) for year in range(2016, 2026) for month in (1, 7)))
    assert periods_of(decade).tolist()[:3] == ["2016", "2016", "2017"]


def test_levels_are_bands_common_values_and_new_or_known_accounts() -> None:
    many = 200
    source = _objects(*(["web"] * 100 + [None] * 60 + [f"rare {number}" for number in range(40)]))
    frame = pd.DataFrame(
        {
            "source": source,
            "amount": np.tile([500.0, 1000.0, 2e6, np.nan], 50),
            "stage": _objects(*["open"] * many),
        }
    )
    cohort = Cohort.of("deal", np.arange(many), np.full(many, micros(datetime(2025, 3, 3, tzinfo=UTC))))
    asked = Questions(
        task=win_probability.TASK, cohort=cohort, frame=frame, account=np.arange(many), weight=np.ones(many)
    )
    found = parts_of(asked, np.arange(50))
    assert list(found) == ["period", "source", "amount", "account"]
    assert set(found["amount"][:4]) == {"0-999", "1,000-9,999", "1,000,000+", NOT_GIVEN}
    assert (found["source"] == "web").sum() == 100
    assert (found["source"] == NOT_GIVEN).sum() == 60
    assert {OTHER} < set(found["source"])
    assert len(set(found["source"])) == 8
    assert (found["account"] == "known").sum() == 50


def test_a_segment_where_too_little_is_said_shows_and_the_other_does_not() -> None:
    said, judged, region = _answers()
    east, west = judge_parts(said, judged, {"region": region})
    assert (east.level, west.level) == ("east", "west")
    assert east.metrics is not None
    assert west.metrics is not None
    assert west.metrics["model"]["gap"].low > 0.1
    assert east.metrics["model"]["gap"].low < 0 < east.metrics["model"]["gap"].high
    assert east.metrics["model"]["log_loss"].value < east.metrics["base_rate"]["log_loss"].value


def test_figures_of_a_part_are_those_of_its_rows_alone() -> None:
    said, judged, region = _answers()
    east = judge_parts(said, judged, {"region": region})[0]
    rows = region == "east"
    alone = measure(said["model"][rows], judged.take(rows))
    assert east.metrics is not None
    for name in ("auc", "log_loss", "mean_probability", "base_rate"):
        assert east.metrics["model"][name].value == pytest.approx(alone[name].value)
        width = east.metrics["model"][name].high - east.metrics["model"][name].low
        assert width == pytest.approx(alone[name].high - alone[name].low, rel=0.4)


def test_a_part_with_too_few_outcomes_has_no_figures() -> None:
    said, judged, _ = _answers(400)
    few = np.flatnonzero(judged.happened)[: FEWEST_RECORDS - 1]
    labels = np.full(400, "many", dtype=object)
    labels[few] = "few"
    parts = {part.level: part for part in judge_parts(said, judged, {"source": labels})}
    assert parts["few"].metrics is None
    assert parts["few"].outcomes == FEWEST_RECORDS - 1
    assert json.loads(json.dumps(parts["few"].to_json()))["metrics"] is None


def test_who_said_nothing_of_some_is_judged_on_the_others() -> None:
    said, judged, region = _answers()
    believed = said["model"].copy()
    believed[::2] = np.nan
    east = judge_parts(said | {"rep_probability": believed}, judged, {"region": region})[0]
    rows = (region == "east") & ~np.isnan(believed)
    alone = measure(believed[rows], judged.take(rows))["log_loss"].value
    assert east.metrics is not None
    assert east.metrics["rep_probability"]["log_loss"].value == pytest.approx(alone)
