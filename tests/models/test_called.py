"""Calibration in counts, and whether what it gives or takes is right."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from models.called import called_bins, counts_for
from models.evaluation import Judged
from models.shown_horizon import shown_horizon


def _asked_weekly(
    random: np.random.Generator, accounts: int = 150
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], Judged]:
    """Return what was said, what was true, and the answers; deals of one account share luck."""
    deals = random.integers(1, 4, accounts)
    account = np.repeat(np.arange(accounts), deals)
    luck = random.normal(0, 0.7, accounts)[account]
    chance = 1 / (1 + np.exp(-(random.normal(-0.5, 1.2, len(account)) + luck)))
    won = random.random(len(account)) < chance
    asked = random.integers(1, 13, len(account))
    deal = np.repeat(np.arange(len(account)), asked)
    said = np.clip(chance[deal] + random.normal(0, 0.04, len(deal)), 0.01, 0.99)
    return said, chance[deal], Judged(happened=won[deal], entity=account[deal], record=deal)


def test_the_truth_is_within_the_give_or_take_about_as_often_as_it_says() -> None:
    random = np.random.default_rng(5)
    said, chance, _ = _asked_weekly(random, 40_000)
    tenth = (said * 10).astype(int)
    truth = {low: chance[tenth == low].mean() for low in range(10)}
    covered = [
        abs(one.happened - truth[round(one.low * 10)]) <= one.give_or_take
        for said, _, judged in (_asked_weekly(random) for _ in range(150))
        for one in called_bins(said, judged)
        if round(one.high - one.low, 6) == 0.1
    ]
    assert len(covered) > 1000
    assert 0.925 <= np.mean(covered) <= 0.985


def test_twelve_questions_about_one_deal_are_not_twelve_answers() -> None:
    happened = np.arange(240) % 3 > 0
    said = np.full(240, 0.65)
    (alone,) = called_bins(said, Judged(happened=happened, entity=np.arange(240)))
    repeated = Judged(happened=np.repeat(happened, 12), entity=np.repeat(np.arange(240), 12))
    (often,) = called_bins(np.repeat(said, 12), repeated)
    assert (often.questions, often.records, often.happened) == (2880, 240, alone.happened)
    assert often.give_or_take == pytest.approx(alone.give_or_take, rel=0.01)
    assert alone.give_or_take == pytest.approx(0.06, abs=0.01)


def test_bins_are_tenths_and_thin_ones_join_the_thinner_neighbour() -> None:
    said = np.concatenate([np.full(50, 0.05), np.full(30, 0.25), np.full(5, 0.35), np.full(40, 0.45)])
    judged = Judged(happened=np.zeros(125, dtype=bool), entity=np.arange(125))
    found = called_bins(said, judged)
    assert [(one.low, one.high, one.questions) for one in found] == [
        (0.0, 0.1, 50),
        (0.2, 0.4, 35),
        (0.4, 0.5, 40),
    ]


def test_a_bin_in_which_nothing_happened_is_no_certainty() -> None:
    judged = Judged(happened=np.zeros(100, dtype=bool), entity=np.arange(100))
    (only,) = called_bins(np.full(100, 0.02), judged)
    assert only.happened == 0
    assert 0.02 < only.give_or_take < 0.05


def _report(**given: Any) -> dict[str, Any]:
    said = np.concatenate([np.full(60, 0.05), np.full(60, 0.65), np.full(60, 1.0)])
    judged = Judged(happened=np.arange(180) % 3 > 0, entity=np.arange(180))
    called = [one.to_json() for one in called_bins(said, judged)]
    horizons = [{"horizon_days": 90, "called": called}, {"horizon_days": 180, "called": []}]
    return {"judged": {"horizon_days": 90, "horizons": horizons} | given}


def test_a_score_finds_the_bin_it_is_in() -> None:
    found = counts_for(_report(), 0.61)
    assert found is not None
    assert (found["low"], found["high"], found["questions"], found["horizon_days"]) == (0.6, 0.7, 60, 90)
    certain = counts_for(_report(), 1.0)
    assert certain is not None
    assert certain["low"] == 0.9


def test_nothing_is_said_where_nothing_was_called_so_or_judged() -> None:
    assert counts_for(_report(), 0.35) is None
    assert counts_for({"judged": None}, 0.65) is None
    assert counts_for({"judged": {"horizons": [{"horizon_days": 90}]}}, 0.65) is None
    assert (
        called_bins(np.empty(0), Judged(happened=np.empty(0, dtype=bool), entity=np.empty(0, dtype=np.int64)))
        == ()
    )


def test_the_shown_horizon_need_not_be_the_longest() -> None:
    shown = shown_horizon(_report()["judged"])
    assert shown["horizon_days"] == 90
    older = shown_horizon({"horizons": [{"horizon_days": 30}, {"horizon_days": 60}]})
    assert older == {"horizon_days": 60}
    assert shown_horizon(None) == {}
