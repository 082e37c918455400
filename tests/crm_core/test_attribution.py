"""Dividing a deal among its touches: exactly, and as each model says."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crm_core.attribution import WHOLE, Model, divide, weigh
from crm_core.clock import DAY
from crm_core.errors import InvalidValueError
from crm_core.touches import Touch, collapse

instants = st.lists(st.integers(0, 400 * DAY), min_size=1, max_size=12).map(sorted)
models = st.sampled_from(list(Model))


@given(instants, models, st.integers(0, 10**17), st.integers(1, 365))
def test_what_is_divided_adds_up_exactly(at: list[int], model: Model, whole: int, half_life: int) -> None:
    weights = weigh(model, at, half_life_days=half_life)
    for each in (whole, -whole, WHOLE):
        assert sum(divide(each, weights)) == each
    exact = [Fraction(whole * weight, sum(weights)) for weight in weights]
    assert all(abs(part - share) < 1 for part, share in zip(divide(whole, weights), exact, strict=True))


@given(instants, models)
def test_a_model_knows_when_touches_were_and_nothing_else_of_them(at: list[int], model: Model) -> None:
    shifted = [each + 5 * DAY for each in at]
    assert weigh(model, at) == weigh(model, shifted)
    if model is Model.LINEAR:
        assert len(set(weigh(model, at))) == 1
    if model is Model.DECAY:
        assert weigh(model, at) == sorted(weigh(model, at))  # the later, the more
    if model is Model.POSITION:
        assert weigh(model, at) == weigh(model, at)[::-1]


@pytest.mark.parametrize(
    ("model", "count", "shares"),
    [
        (Model.FIRST, 3, [1, 0, 0]),
        (Model.LAST, 3, [0, 0, 1]),
        (Model.LINEAR, 4, [0.25] * 4),
        (Model.POSITION, 1, [1]),
        (Model.POSITION, 2, [0.5, 0.5]),
        (Model.POSITION, 3, [0.4, 0.2, 0.4]),
        (Model.POSITION, 6, [0.4, 0.05, 0.05, 0.05, 0.05, 0.4]),
        (Model.DECAY, 3, [1 / 7, 2 / 7, 4 / 7]),
    ],
)
def test_each_model_by_hand(model: Model, count: int, shares: list[float]) -> None:
    at = [place * 14 * DAY for place in range(count)]
    weights = weigh(model, at, half_life_days=14)
    assert [weight / sum(weights) for weight in weights] == pytest.approx(shares)


def test_a_touch_of_years_ago_leaves_all_to_the_newest() -> None:
    assert divide(100, weigh(Model.DECAY, [0, 9_000 * DAY], half_life_days=1)) == [0, 100]


def test_what_is_left_over_goes_to_the_largest_remainders_and_then_to_the_first() -> None:
    assert divide(100, [1, 1, 1]) == [34, 33, 33]
    assert divide(10, [3, 3, 2]) == [4, 4, 2]
    assert divide(5, [1, 9]) == [1, 4]


def test_weights_of_nothing_are_refused() -> None:
    for weights in ([0, 0], [1, -1], [2, -1]):
        with pytest.raises(InvalidValueError):
            divide(1, weights)


def test_of_a_day_with_the_same_campaign_or_source_the_first_counts() -> None:
    fair = Touch(at=DAY, kind="origin", source="trade show", campaign="#1")
    same_day = Touch(at=DAY + 5, kind="response", source="campaign", campaign="#1")
    same_instant = Touch(at=DAY, kind="form", source="web form", campaign="#1")
    next_day = Touch(at=2 * DAY, kind="response", source="campaign", campaign="#1")
    visit = Touch(at=DAY + 6, kind="visit", source="website")
    again = Touch(at=DAY + 7, kind="visit", source="website")
    found = collapse([again, next_day, same_day, visit, same_instant, fair])
    assert found == [fair, visit, next_day]


@given(st.permutations(range(5)))
def test_the_order_in_which_touches_are_read_does_not_matter(order: list[int]) -> None:
    touches = [Touch(at=(place // 2) * DAY, kind="visit", source=f"s{place}") for place in range(5)]
    assert collapse([touches[place] for place in order]) == touches
