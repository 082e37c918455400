"""All horizons at once, when it is expected, and what is not said because too little is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from crm_core.clock import DAY
from models.bundle import ModelBundle, load_bundle
from models.hazard import Bools, Exposure, Floats, expected_days, expit
from models.later import Later, fit_later, going_on
from tests.models.test_bundle import RECIPES, make_bundle, make_frame

ENDS = (7, 14, 30, 60, 90)
LATER = Later(start_days=60, end_days=180, last_days=30, level=-0.4, slope=0.8)


@pytest.fixture(params=("logistic", "trees"), scope="module")
def bundle(request: pytest.FixtureRequest) -> ModelBundle:
    made = make_bundle(make_frame(), RECIPES[request.param])
    start, end = made.intervals_days[-1], 180
    later = replace(LATER, start_days=start, end_days=end)
    return replace(made, horizons_days=(30, 60, 90, 180), later=later)


def slow_mean_days(log_odds: Floats, ends: tuple[int, ...], *, many: int = 200_000) -> float:
    """Return the mean day of events that are drawn day by day's small steps, of those that come in time."""
    random = np.random.default_rng(4)
    rates = []
    start = 0
    for hazard, end in zip(log_odds, ends, strict=True):
        rates.append(np.full((end - start) * 4, -np.log1p(-expit(np.array(hazard))) / ((end - start) * 4)))
        start = end
    surviving = np.exp(-np.cumsum(np.concatenate(rates)))
    step = np.searchsorted(-surviving, -random.random(many))
    return float((step[step < len(surviving)] + 0.5).mean() / 4)


@pytest.mark.parametrize(
    "log_odds",
    [(-3.0, -2.5, -2.0, -2.2, -3.0), (1.0, 0.5, -1.0, -2.0, -2.0), (-9.0, -9.0, -9.0, -9.0, 2.0)],
    ids=["ordinary", "soon", "late"],
)
def test_the_expected_time_is_what_drawing_events_gives(log_odds: tuple[float, ...]) -> None:
    hazards = np.array([log_odds])
    said = expected_days(hazards, ENDS)[0]
    assert said == pytest.approx(slow_mean_days(hazards[0], ENDS), abs=0.5)


def test_the_expected_time_of_hardly_anything_is_the_middle_of_the_time() -> None:
    np.testing.assert_allclose(expected_days(np.array([[-13.8]]), (30,)), 15.0, atol=1e-4)
    np.testing.assert_allclose(expected_days(np.array([[-600.0]]), (30,)), 15.0, atol=1e-4)


def test_the_expected_time_lies_within_the_horizon_whatever_the_hazards() -> None:
    hazards = np.random.default_rng(5).uniform(-40, 40, (20_000, 5))
    days = expected_days(hazards, ENDS)
    assert ((days > 0) & (days < ENDS[-1])).all()


def test_horizons_never_cross(bundle: ModelBundle) -> None:
    random = np.random.default_rng(6)
    for _ in range(50):
        wild = replace(bundle, levels=random.uniform(-30, 30, len(bundle.levels)))
        within = wild.predict(make_frame(seed=9)).within
        for shorter, longer in ((30, 60), (60, 90), (90, 180)):
            assert (within[shorter] <= within[longer]).all()
        np.testing.assert_array_equal(within[90], wild.predict(make_frame(seed=9)).probability)


def test_what_comes_later_has_no_say_in_what_is_shown(bundle: ModelBundle) -> None:
    without = replace(bundle, horizons_days=(30, 60, 90), later=None)
    frame = make_frame(seed=9)
    np.testing.assert_array_equal(bundle.predict(frame).probability, without.predict(frame).probability)
    assert (bundle.predict(frame).expected_days > without.predict(frame).expected_days).all()


def test_a_model_with_a_later_horizon_is_read_back_the_same(bundle: ModelBundle) -> None:
    unsure = replace(bundle, not_reported={365: 12})
    again = load_bundle(unsure.to_bytes(), unsure.sha256)
    assert (again.later, again.not_reported) == (unsure.later, {365: 12})
    np.testing.assert_array_equal(
        again.predict(make_frame()).within[180], unsure.predict(make_frame()).within[180]
    )


def test_a_model_that_does_not_tell_when_gives_no_expected_time(bundle: ModelBundle) -> None:
    first = bundle.intervals_days[0]
    short = replace(bundle, horizons_days=(first,), horizon_days=first, later=None)
    assert np.isnan(short.predict(make_frame(seed=9)).expected_days).all()


def _followed(event: Floats | Bools, at_risk: Floats) -> Exposure:
    return Exposure(
        at_risk=at_risk[:, None].astype(bool),
        event=(event * at_risk)[:, None].astype(bool),
        closed_at=np.full((len(event), 1), DAY),
        weight=np.ones(len(event)),
    )


def test_the_later_interval_learns_how_often_and_how_much_the_last_one_tells() -> None:
    random = np.random.default_rng(7)
    last = random.normal(-3, 1, 60_000)
    truth = Later(start_days=90, end_days=180, last_days=30, level=-1.2, slope=0.6)
    event = random.random(len(last)) < expit(truth.hazard(last))
    found = fit_later(last, _followed(event, np.ones_like(last)), start_days=90, end_days=180, last_days=30)
    assert found.level == pytest.approx(truth.level, abs=0.15)
    assert found.slope == pytest.approx(truth.slope, abs=0.08)


def test_with_few_outcomes_the_later_interval_keeps_the_order_and_learns_the_level() -> None:
    random = np.random.default_rng(8)
    last = random.normal(-2, 1, 80)
    event = random.random(80) < 0.05
    found = fit_later(last, _followed(event, np.ones(80)), start_days=90, end_days=180, last_days=30)
    assert 0.6 < found.slope < 1.4
    assert expit(found.hazard(last)).mean() == pytest.approx(event.mean(), abs=0.03)


def test_a_hazard_that_goes_on_three_times_as_long_leaves_the_cube() -> None:
    once = np.array([-2.0, 0.0, 3.0])
    np.testing.assert_allclose(1 - expit(going_on(once, 3)), (1 - expit(once)) ** 3, rtol=1e-12)
