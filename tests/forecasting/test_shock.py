"""What deals share: learned from past periods, near a prior while they are few."""

from __future__ import annotations

import numpy as np

from crm_core.clock import DAY
from models.forecasting.outlook import draw_futures
from models.forecasting.replaying import ranges_of
from models.forecasting.shock import (
    CENTRE_SPREAD,
    NODES,
    Evidence,
    learn_shock,
    learn_widening,
    log_likelihood_of,
    no_shock,
    widened,
)
from models.hazard import Floats
from tests.forecasting.made_up import AS_OF, Quarter, make_quarter


def evidence_of(quarter: Quarter) -> Evidence:
    mean, variance = quarter.outlook.counts_by_z()
    return Evidence(
        log_likelihood=log_likelihood_of(quarter.wins, mean, variance),
        middle=AS_OF,
        weight=1.0,
        months_ago=0.0,
    )


def held(quarters: list[Quarter], spreads: str) -> float:
    """How many of the quarters ended inside their 80 % range: with what they share learned, or without it."""
    shock = (
        learn_shock([evidence_of(one) for one in quarters[:40]], AS_OF)
        if spreads == "learned"
        else no_shock()
    )
    inside = 0
    for one in quarters[40:]:
        low, high = ranges_of(draw_futures(one.outlook, shock, draws=1000).total, 1.0)[80]
        inside += low <= one.revenue <= high
    return inside / len(quarters[40:])


def test_with_a_learned_shock_ranges_hold_what_comes_and_independent_deals_are_far_too_narrow() -> None:
    rng = np.random.default_rng(11)
    quarters = [make_quarter(rng, 0.4) for _ in range(160)]
    assert 0.72 <= held(quarters, "learned") <= 0.88
    assert held(quarters, "none") < 0.65


def test_a_spread_is_found_again_from_many_periods() -> None:
    rng = np.random.default_rng(5)
    for true in (0.0, 0.4):
        shock = learn_shock([evidence_of(make_quarter(rng, true)) for _ in range(60)], AS_OF)
        assert abs(shock.spread - true) < 0.12, true
        assert abs(shock.centre) < 0.12


def test_without_a_past_the_prior_is_wide_and_centred() -> None:
    shock = learn_shock([], AS_OF)
    assert abs(shock.centre) < 1e-9
    assert shock.spread > CENTRE_SPREAD
    assert shock.periods == 0


def test_periods_that_brought_twice_the_wins_move_the_centre() -> None:
    mean, variance = 10.0 * np.exp(NODES), 10.0 * np.exp(NODES)
    one = Evidence(
        log_likelihood=log_likelihood_of(20, mean, variance), middle=AS_OF, weight=1.0, months_ago=0.0
    )
    centres = [learn_shock([one] * count, AS_OF).centre for count in (0, 1, 4, 20)]
    assert centres == sorted(centres)
    assert 0.3 < centres[-1] < np.log(2.0)


def test_a_season_seen_twice_moves_its_own_half_of_the_year_and_not_the_other() -> None:
    mean, variance = 200.0 * np.exp(NODES), 200.0 * np.exp(NODES)
    day = {wins: AS_OF + turn * 91 * DAY for wins, turn in ((240, 0), (200, 1), (165, 2), (200, 3))}
    seen = [
        Evidence(
            log_likelihood=log_likelihood_of(wins, mean, variance), middle=at, weight=1.0, months_ago=0.0
        )
        for wins, at in day.items()
        for _ in range(2)
    ]
    winter, summer = (learn_shock(seen, day[wins]) for wins in (240, 165))
    assert winter.centre > 0.08
    assert summer.centre < -0.08
    assert learn_shock(seen[:2], day[165]).spread > summer.spread


def test_an_old_period_teaches_less() -> None:
    mean, variance = 10.0 * np.exp(NODES), 10.0 * np.exp(NODES)

    def centre(months_ago: float) -> float:
        likelihood: Floats = log_likelihood_of(20, mean, variance)
        one = Evidence(log_likelihood=likelihood, middle=AS_OF, weight=1.0, months_ago=months_ago)
        return learn_shock([one] * 3, AS_OF).centre

    assert centre(0.0) > centre(24.0) > 0


def test_ranges_are_widened_where_past_periods_lay_outside_and_hardly_by_one() -> None:
    assert learn_widening([], []) == 1.0
    assert learn_widening([0.01, 0.99] * 10, [1.0] * 20) > 1.4
    assert 1.0 < learn_widening([0.01], [1.0]) < 1.3
    assert learn_widening([0.5] * 20, [1.0] * 20) < 0.9
    assert widened(0.9, 1.0) == 0.9
    assert widened(0.9, 1.5) > 0.95
    assert widened(0.5, 1.5) == 0.5
