"""History replayed on the small business."""

from __future__ import annotations

import json
from datetime import date, datetime, timedelta
from itertools import pairwise

import numpy as np
import pytest

from crm_core.clock import instant, micros
from crm_core.errors import NotEnoughDataError
from crm_core.store import Store
from features.cohort import mondays, open_records, open_records_at
from features.feature_set import feature_set_for
from models.backtest import BacktestReport, backtest
from models.building import build_bundle, gather
from models.lead_scoring import TASK
from models.mondays import Weeks, ask_on_mondays, list_mondays
from models.questions import ask, first_instant
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


def test_every_monday_is_asked_with_the_model_made_last(report: BacktestReport) -> None:
    days = [instant(monday.as_of) for monday in report.mondays]
    assert {day.weekday() for day in days} == {0}
    assert {later - day for day, later in pairwise(days)} == {timedelta(days=7)}
    for monday in report.mondays:
        made = [replay.cutoff for replay in report.replays if replay.cutoff < monday.as_of]
        assert monday.made == made[-1]
        assert monday.made < monday.as_of <= monday.made + 60 * 86_400_000_000


def test_what_has_come_so_far_is_a_multiple_of_what_was_said(report: BacktestReport) -> None:
    told = [monday for monday in report.mondays if monday.came is not None]
    assert len(told) > 15
    last = told[-1].running
    assert last is not None
    assert last.value == pytest.approx(sum(m.came or 0 for m in told) / sum(m.said for m in told))
    # Far below 1: leads of this business stay open for ever and never convert after 60 days.
    assert last.low < last.value < last.high < 1
    assert sum(one.questions for one in report.called) == sum(monday.asked for monday in told)


def test_a_monday_asks_of_all_records_open_then(business: Business, report: BacktestReport) -> None:
    monday = report.mondays[3]
    open_then = open_records(business.store, "lead", instant(monday.as_of))
    assert 0 <= len(open_then) - monday.asked <= 1


def test_many_instants_at_once_are_as_one_by_one(business: Business) -> None:
    days = mondays(micros(NOW - timedelta(days=40)), micros(NOW))
    assert [instant(int(day)).date() for day in days[-2:]] == [date(2026, 2, 23), date(2026, 3, 2)]
    together = open_records_at(business.store, "lead", days)
    for day in days:
        alone = open_records(business.store, "lead", instant(int(day)))
        assert together.ids[together.as_of == day].tolist() == alone.ids.tolist()


def test_a_monday_whose_window_is_not_over_has_nothing_to_show_yet(business: Business) -> None:
    features = feature_set_for(business.store, TASK.name)
    until = NOW - timedelta(days=100)
    asked = ask(
        business.store, TASK, features, TASK.ask, start=first_instant(business.store, TASK), until=until
    )
    bundle = build_bundle(gather(asked, business.store, features, micros(until))).bundle
    weeks = ask_on_mondays(business.store, features, bundle, after=micros(until), until=micros(NOW))
    assert weeks is not None
    told = list_mondays([weeks])
    assert {monday.came is None for monday in told if monday.as_of > micros(NOW - timedelta(days=90))} == {
        True
    }
    assert told[0].came is not None
    assert told[-1].running is None
    assert told[-1].said > 1


def test_money_expected_is_summed_beside_money_that_came() -> None:
    day = micros(datetime.fromisoformat("2025-06-02T00:00:00+00:00"))
    weeks = Weeks(
        made=day - 1,
        as_of=np.array([day, day]),
        probability=np.array([0.5, 0.25]),
        over=np.array([True, True]),
        happened=np.array([True, False]),
        account=np.array([1, 2]),
        record=np.array([1, 2]),
        expected=np.array([50.0, 100.0]),
        came=np.array([120.0, 0.0]),
        currency="EUR",
    )
    (monday,) = list_mondays([weeks])
    assert (monday.said, monday.came, monday.money_expected, monday.money_came) == (0.75, 1, 150, 120)


def test_cut_offs_are_the_starts_of_quarters_unless_asked_otherwise(business: Business) -> None:
    found = backtest(business.store, TASK, cutoffs=1)
    assert [instant(replay.cutoff).date() for replay in found.replays] == [date(2025, 10, 1)]


def test_accounts_that_had_not_taught_a_model_are_told_apart(report: BacktestReport) -> None:
    for replay in report.replays:
        assert replay.unseen_questions == replay.questions  # a lead is its own account, and judged when new
        assert replay.unseen is None


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
