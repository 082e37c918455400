"""One period: what is expected is the sum of probability times amount, and the draws agree with it."""

from __future__ import annotations

import numpy as np
import pytest

from crm_core.clock import DAY
from crm_core.errors import NotEnoughDataError
from models.forecasting.amounts import learn_ratios, worth_of
from models.forecasting.forecast import list_deals
from models.forecasting.outlook import draw_futures, place_of
from models.forecasting.replaying import Correction
from models.forecasting.shock import learn_shock, no_shock
from tests.forecasting.made_up import AS_OF, QUARTER, new_wins, outlook, snapshot


def test_what_is_expected_is_what_the_draws_come_to() -> None:
    rng = np.random.default_rng(1)
    said = outlook(
        rng.gamma(1.0, 0.4, 40),
        amounts=np.exp(rng.normal(4.6, 0.6, 40)),
        new=new_wins(6.0, variance=0.05, amounts=np.array([50.0, 150.0, 300.0])),
        ratios=np.array([0.5, 1.0, 1.0, 1.2]),
        won=snapshot(2),
    )
    shock = learn_shock([], AS_OF)
    lines = list_deals(said, Correction(shock=shock, widening=1.0))
    expected = sum(line.probability * line.amount for line in lines) + said.new_amount(shock)
    futures = draw_futures(said, shock, draws=40_000).total
    error = futures.std() / np.sqrt(futures.size)
    assert abs(futures.mean() - expected) < 4 * error
    assert error < 0.01 * expected


def test_a_deal_alone_can_be_reckoned_by_hand() -> None:
    said = outlook(np.array([np.log(2.0)]))
    (line,) = list_deals(said, Correction(shock=no_shock(), widening=1.0))
    assert line.probability == pytest.approx(0.5)
    assert line.expected == pytest.approx(50.0)
    futures = draw_futures(said, no_shock()).total
    assert set(futures) == {0.0, 100.0}


def test_of_the_next_period_only_wins_within_it_count() -> None:
    later = outlook(np.array([1.0, 1.0]))
    later = type(later)(**{**vars(later), "before": np.array([0.0, 1.0])})
    chance = later.chances_at(0.0)
    assert chance[0] == pytest.approx(1 - np.exp(-1.0))
    assert chance[1] == 0.0


def test_the_same_question_gives_the_same_bytes() -> None:
    said = outlook(np.full(30, 0.4), new=new_wins(3.0, variance=0.1))
    first, second = (draw_futures(said, learn_shock([], AS_OF)).by_owner for _ in range(2))
    assert first.tobytes() == second.tobytes()


def test_owners_share_the_futures_so_that_their_draws_add_up_and_their_ranges_do_not() -> None:
    owner = np.repeat([1, 2], 25)
    draws = draw_futures(outlook(np.full(50, 0.4), owner=owner), no_shock())
    parts = [draws.of(np.array([one])) for one in (1, 2)]
    assert np.allclose(parts[0] + parts[1], draws.total)
    low = [np.quantile(part, 0.1) for part in parts]
    assert sum(low) < np.quantile(draws.total, 0.1)


def test_the_part_of_an_owner_has_their_deals_and_their_share_of_new_ones() -> None:
    owner = np.array([1, 1, 2])
    said = outlook(np.full(3, 0.4), owner=owner, new=new_wins(6.0))
    shares = type(said.new)(
        **{**vars(said.new), "owners": np.array([1, 2]), "shares": np.array([0.25, 0.75])}
    )
    said = type(said)(**{**vars(said), "new": shares})
    mine = said.owned_by(np.array([1]))
    assert mine.open.ids.tolist() == [1, 2]
    assert mine.new_count(no_shock()) == pytest.approx(1.5)
    assert said.owned_by(np.array([9])).new_count(no_shock()) == 0.0


def test_amounts_drift_as_they_did_for_deals_that_were_won() -> None:
    before = snapshot(40, AS_OF - 60 * DAY)
    won = np.full(40, AS_OF - 5 * DAY)
    now = snapshot(40, amount=np.full(40, 80.0), won_at=won, is_open=np.zeros(40, dtype=bool))
    ratios = learn_ratios([before], now)
    # Ten deals that kept their amount are added to the forty that lost a fifth.
    assert ratios.mean() == pytest.approx((40 * 0.8 + 10) / 50)
    assert learn_ratios([], now).mean() == 1.0


def test_a_missing_amount_is_guessed_from_its_pipeline_with_the_spread_of_amounts() -> None:
    amount = np.array([100.0] * 30 + [1_000.0] * 30 + [np.nan])
    pipeline = np.array(["small"] * 30 + ["large"] * 31, dtype=object)
    known = snapshot(61, amount=amount, pipeline=pipeline)
    worth = worth_of(known.take(np.arange(60, 61)), known, np.ones(1))
    assert 500.0 < worth.base[0] < 1_000.0
    assert worth.spread[0] > 0.5
    drawn = worth.draw(np.random.default_rng(1), np.zeros(200_000, dtype=np.int64))
    assert drawn.mean() == pytest.approx(worth.expected[0], rel=0.03)


def test_an_amount_is_not_invented_where_a_currency_has_none() -> None:
    known = snapshot(1, amount=np.array([np.nan]))
    with pytest.raises(NotEnoughDataError, match="no deal in EUR has an amount"):
        worth_of(known, known, np.ones(1))


def test_the_place_of_a_value_counts_equal_futures_half() -> None:
    assert place_of(0.0, np.array([0.0, 0.0, 1.0, 2.0])) == 0.25
    assert QUARTER.name == "2026-Q1"
