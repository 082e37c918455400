"""The probabilities of a chain are those by which it is simulated."""

from __future__ import annotations

import numpy as np
import pytest

from models.simulation import world
from models.simulation.chain import Chain, Entities, Jump, season_of
from models.simulation.course import Beginning, Course
from models.simulation.working_time import WORKING_DAYS_A_YEAR, instants, working_days

LAMP = Chain(
    states=("on", "dim", "off"),
    tick=1.0,
    jumps=(
        Jump(source="on", target="dim", rate=0.3),
        Jump(source="on", target="off", rate=0.1),
        Jump(source="dim", target="off", rate=0.5),
    ),
)


def entities(count: int, start: float = 0.0, quality: float = 0.0) -> Entities:
    return Entities(start=np.full(count, start), quality=np.full(count, quality), pace=np.zeros(count))


def occupancy(chain: Chain, state: int, now: float, until: float, *, moved: bool = False) -> list[float]:
    found = chain.occupancy(
        entities(1), np.array([state]), np.array([moved]), np.array([now]), np.array([until])
    )
    return [float(share) for share in found[0]]


def tick_matrix() -> np.ndarray:
    leave_on, leave_dim = 1 - np.exp(-0.4), 1 - np.exp(-0.5)
    return np.array(
        [
            [1 - leave_on, leave_on * 0.75, leave_on * 0.25],
            [0.0, 1 - leave_dim, leave_dim],
            [0.0, 0.0, 1.0],
        ]
    )


def test_whole_ticks_are_powers_of_the_matrix_of_one() -> None:
    expected = np.linalg.matrix_power(tick_matrix(), 7)[0]

    assert occupancy(LAMP, 0, 2.0, 9.0) == pytest.approx(expected.tolist())


def test_a_part_of_a_tick_holds_its_part_of_the_jumps() -> None:
    expected = 0.25 * tick_matrix()[0, 1]

    assert occupancy(LAMP, 0, 3.0, 3.25)[1] == pytest.approx(expected)


def test_having_waited_in_vain_makes_the_rest_of_a_tick_likelier_not_to_bring_a_jump() -> None:
    leave = 1 - np.exp(-0.4)
    stayed_until_now, stays_to_the_end = 1 - 0.6 * leave, 1 - leave

    assert occupancy(LAMP, 0, 0.6, 1.0)[0] == pytest.approx(stays_to_the_end / stayed_until_now)


def test_after_a_jump_nothing_more_happens_in_its_tick() -> None:
    assert occupancy(LAMP, 1, 0.6, 1.0, moved=True) == [0.0, 1.0, 0.0]


def test_where_it_has_stopped_it_stays() -> None:
    assert occupancy(LAMP, 2, 0.0, 50.0) == [0.0, 0.0, 1.0]


def test_nothing_happens_in_no_time() -> None:
    assert occupancy(LAMP, 0, 4.3, 4.3) == [1.0, 0.0, 0.0]


@pytest.mark.parametrize("name", ["LEAD", "DEAL", "CONTRACT"])
def test_shares_are_probabilities(name: str) -> None:
    chain: Chain = getattr(world, name)
    state = np.repeat(chain.open_states, 50)
    rng = np.random.default_rng(1)
    now = rng.uniform(0, 300, state.size)

    found = chain.occupancy(
        entities(state.size, quality=1.5),
        state,
        rng.random(state.size) < 0.5,
        now,
        now + rng.uniform(0, 90, state.size),
    )

    assert found.min() >= 0.0
    assert found.sum(axis=1) == pytest.approx(np.ones(state.size))


def spread(chain: Chain, size: int, seed: int) -> Course:
    rng = np.random.default_rng(seed)
    started = instants(14_000 + 200 * rng.random(size))
    beginning = Beginning(
        started=started,
        first=rng.choice(chain.open_states, size),
        quality=rng.normal(0, 0.8, size),
        pace=rng.normal(0, 0.3, size),
    )
    return Course.simulate(rng, chain, beginning, int(instants(np.array([14_600.0]))[0]))


@pytest.mark.parametrize("name", ["LEAD", "DEAL", "CONTRACT"])
@pytest.mark.parametrize("length", [0.4, 13.0, 64.3])
def test_what_is_simulated_comes_true_as_often_as_it_is_probable(name: str, length: float) -> None:
    chain: Chain = getattr(world, name)
    course = spread(chain, 40_000, seed=3)
    rng = np.random.default_rng(4)
    everyone = np.arange(40_000)
    now = instants(working_days(course.beginning.started) + rng.uniform(0, 120, everyone.size))
    until = instants(working_days(now) + length)
    before, _ = course.state_at(everyone, now)
    asked = np.flatnonzero(np.isin(before, chain.open_states))

    probable = course.occupancy(everyone[asked], now[asked], until[asked])
    came, _ = course.state_at(everyone[asked], until[asked])

    for state in range(len(chain.states)):
        surprise = (came == state) - probable[:, state]
        spread_of_it = np.sqrt((probable[:, state] * (1 - probable[:, state])).sum())
        assert abs(surprise.sum()) < 4.5 * spread_of_it + 1e-9, chain.states[state]


def test_any_week_holds_five_working_days() -> None:
    begin = np.random.default_rng(1).integers(0, 2_000_000_000, 1_000) * 1_000_000

    assert working_days(begin + 7 * 86_400_000_000) - working_days(begin) == pytest.approx(5 * np.ones(1_000))


def test_instants_and_working_days_undo_each_other() -> None:
    days = np.random.default_rng(1).uniform(14_000, 15_000, 1_000)

    assert working_days(instants(days)) == pytest.approx(days, abs=1e-9)


def test_nobody_works_at_night_or_at_the_weekend() -> None:
    at = instants(np.random.default_rng(1).uniform(14_000, 15_000, 1_000)).astype("datetime64[us]")
    hour = (at - at.astype("datetime64[D]")).astype("timedelta64[h]").astype(int)
    weekday = (at.astype("datetime64[D]").astype(int) + 3) % 7

    assert set(hour) <= set(range(1, 10))
    assert weekday.max() == 4


def test_the_busy_season_is_in_november() -> None:
    days = np.arange(14_000.0, 14_000.0 + WORKING_DAYS_A_YEAR)
    busiest = instants(days[[np.argmax(season_of(days))]]).astype("datetime64[us]")

    assert str(busiest[0])[5:7] == "11"
