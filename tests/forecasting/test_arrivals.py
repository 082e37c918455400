"""Deals not written down yet: how many come, how soon they are won."""

from __future__ import annotations

import numpy as np
import pytest

from crm_core.arrays import NO_INSTANT
from crm_core.clock import DAY
from models.forecasting.arrivals import learn_arrivals, new_wins
from models.forecasting.book import Snapshot
from models.forecasting.chances import Chances, learn_tail, share_of_days
from models.hazard import share_of_intervals
from tests.forecasting.made_up import AS_OF, QUARTER, snapshot


def history(a_day: float, days: int, *, won_after: int | None = None, seed: int = 4) -> Snapshot:
    rng = np.random.default_rng(seed)
    count = rng.poisson(a_day * days)
    came = np.sort(AS_OF - (rng.uniform(0, days, count) * DAY).astype(np.int64))
    won = np.full(count, NO_INSTANT)
    if won_after is not None:
        lucky = rng.random(count) < 0.4
        at = came + won_after * DAY
        won = np.where(lucky & (at <= AS_OF), at, NO_INSTANT)
    return snapshot(count, born=came, known_from=came, won_at=won, is_open=won == NO_INSTANT)


def test_deals_come_as_often_as_they_did() -> None:
    arrivals = learn_arrivals(history(1.5, 700))
    rate = arrivals.rate(np.array([AS_OF + 30.0 * DAY]))[0]
    assert rate == pytest.approx(1.5, rel=0.15)


def test_wins_of_new_deals_follow_from_their_delay() -> None:
    now = history(2.0, 700, won_after=30)
    wins = learn_arrivals(now).wins_in(QUARTER)
    # Only what comes in the first 60 of the quarter's 90 days is won in it, four in ten.
    assert wins == pytest.approx(2.0 * 60 * 0.4, rel=0.2)
    later = QUARTER.moved(1)
    assert learn_arrivals(now).wins_in(later) == pytest.approx(2.0 * 91 * 0.4, rel=0.2)


def test_a_young_deal_that_is_not_won_yet_does_not_lower_the_share_that_will_be() -> None:
    now = history(2.0, 120, won_after=50)
    assert learn_arrivals(now).won_by(np.array([70.0]))[0] == pytest.approx(0.4, abs=0.1)


def test_history_imported_at_once_is_no_flood_of_new_deals() -> None:
    came = np.full(500, AS_OF - 20 * DAY)
    born = np.linspace(AS_OF - 900 * DAY, AS_OF - 100 * DAY, 500).astype(np.int64)
    arrivals = learn_arrivals(snapshot(500, born=born, known_from=came))
    assert arrivals.rate(np.array([float(AS_OF)]))[0] < 0.5


def test_few_months_leave_the_rate_less_sure() -> None:
    short, long = (learn_arrivals(history(1.0, days)).spread_of_rate(QUARTER) for days in (90, 720))
    assert short > long > 0


def test_a_month_that_differs_from_year_to_year_widens_the_rate() -> None:
    rng = np.random.default_rng(8)
    steady = history(3.0, 700)
    bursts = np.concatenate(
        [AS_OF - month * 30 * DAY - np.arange(rng.integers(1, 200)) for month in range(23)]
    )
    came = np.sort(bursts)
    wild = snapshot(came.size, born=came, known_from=came)
    assert learn_arrivals(wild).overdispersion > 5 * learn_arrivals(steady).overdispersion


def test_new_wins_are_dealt_to_those_who_have_got_deals_of_late() -> None:
    owner = np.array([1] * 30 + [2] * 10)
    found = new_wins(learn_arrivals(snapshot(40, owner=owner)), snapshot(40, owner=owner), QUARTER)
    assert dict(zip(found.owners.tolist(), found.shares.tolist(), strict=True)) == {1: 0.75, 2: 0.25}


def chances(tail: float = 0.5) -> Chances:
    return Chances(ids=np.array([3, 5]), hazards=np.zeros((2, 2)), ends_days=(10, 30), tail=tail)


def test_hazards_are_cut_at_the_end_of_a_period_and_go_on_more_slowly_behind_the_last() -> None:
    one = np.log(2.0)
    found = [chances().cumulated(days)[0] / one for days in (0, 5, 10, 20, 30, 50)]
    assert found == pytest.approx([0.0, 0.5, 1.0, 1.5, 2.0, 2.5])


def test_broken_days_lie_between_whole_ones() -> None:
    assert share_of_days((10, 30), 12.0) == pytest.approx(share_of_intervals((10, 30), 12))
    assert share_of_days((10, 30), 12.5)[1] == pytest.approx(2.5 / 20)
    assert share_of_days((10, 30), 0.5)[0] == pytest.approx(0.05)


def test_a_deal_that_may_not_be_scored_counts_as_the_mean_of_the_others() -> None:
    found = chances().for_deals(np.array([5, 7]), 10.0)
    assert found[1] == pytest.approx(found[0])


def test_the_rate_behind_the_last_interval_is_learned_from_whole_times_only() -> None:
    before = snapshot(400, AS_OF - 200 * DAY)
    days = np.concatenate([np.full(100, 20), np.full(100, 60), np.zeros(200)])
    won = np.where(days > 0, before.as_of + days.astype(np.int64) * DAY, NO_INSTANT)
    now = snapshot(400, won_at=won, is_open=won == NO_INSTANT)
    # 100 wins in 20 days, then 100 of 300 deals in 92 days.
    assert learn_tail([before], now, (10, 30)) == pytest.approx((100 / 300 / 92) / (100 / 400 / 20), rel=0.1)
    assert learn_tail([], now, (10, 30)) == pytest.approx(0.7, abs=0.05)
    recent = snapshot(400, AS_OF - 40 * DAY)
    assert learn_tail([recent], now, (10, 30)) == pytest.approx(0.7, abs=0.05)
