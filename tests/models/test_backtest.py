"""History replayed on the small business."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from crm_core.errors import NotEnoughDataError
from crm_core.store import Store
from models.backtest import BacktestReport, backtest
from models.lead_scoring import TASK
from tests.models.conftest import NOW, Business, start_business


@pytest.fixture(scope="module")
def report(business: Business) -> BacktestReport:
    """Three cut-offs, 60 days apart."""
    return backtest(business.store, TASK, cutoffs=3, step_days=60)


def test_cut_offs_are_a_step_apart_and_early_enough_for_answers(report: BacktestReport) -> None:
    cutoffs = [replay.cutoff for replay in report.replays]
    assert len(set(map(int.__sub__, cutoffs[1:], cutoffs))) == 1
    told = report.to_json()
    assert told["cutoffs"][-1]["cutoff"] <= (NOW - timedelta(days=90 + 60 - 1)).isoformat()


def test_what_was_said_is_put_beside_what_came(report: BacktestReport) -> None:
    for replay in report.replays:
        assert replay.questions > 100
        assert replay.said == pytest.approx(replay.came, abs=0.12)
    assert report.together is not None
    assert report.together.questions == sum(replay.questions for replay in report.replays)
    assert report.together.metrics["auc"].low > 0.6
    assert sum(one["count"] for one in report.bins) == report.together.questions


def test_a_report_is_plain_json(report: BacktestReport) -> None:
    assert json.loads(json.dumps(report.to_json(), allow_nan=False))["task"] == "lead_scoring"


def test_cut_offs_without_enough_outcomes_are_left_out_by_name(business: Business) -> None:
    found = backtest(business.store, TASK, cutoffs=6, step_days=60)
    assert len(found.replays) + len(found.left_out) <= 6
    assert found.left_out
    assert "at least 20 of each are needed" in found.left_out[0]


def test_nothing_to_replay_is_not_enough_data(store: Store) -> None:
    start_business(store, leads=30)
    with pytest.raises(NotEnoughDataError, match="nothing to replay"):
        backtest(store, TASK)
