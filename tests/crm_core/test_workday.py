"""The order of a day's work, on records made by hand."""

from __future__ import annotations

from typing import Any

import pytest

from crm_core.workday import (
    Standing,
    freshness_of,
    place_of,
    plan_day,
    rhythm_of,
    rhythm_of_others,
    usual_a_day,
)


def standing(record_id: int = 1, **given: Any) -> Standing:
    """A deal of 100 that is half won, last touched a rhythm ago."""
    defaults = {"probability": 0.5, "value": 100.0, "touched_days": 7, "rhythm_days": 7.0}
    return Standing(record_type="deal", record_id=record_id, **{**defaults, **given})


def test_what_decides_is_probability_times_value_times_freshness() -> None:
    place = place_of(standing(probability=0.31, value=42_000.0, touched_days=14, waiting=True))
    assert place.expected == pytest.approx(13_020)
    assert place.worth == pytest.approx(13_020 * 1.5 * 1.5)


@pytest.mark.parametrize(
    ("given", "rhythm", "waiting", "planned"),
    [
        ({}, 1.0, 1.0, 1.0),
        ({"touched_days": 0}, 0.5, 1.0, 1.0),
        ({"touched_days": 14}, 1.5, 1.0, 1.0),
        ({"touched_days": 400}, 1.5, 1.0, 1.0),
        ({"touched_days": None}, 1.5, 1.0, 1.0),
        ({"rhythm_days": None}, 1.0, 1.0, 1.0),
        ({"waiting": True}, 1.0, 1.5, 1.0),
        ({"due_days": 3}, 1.0, 1.0, 0.5),
        ({"due_days": 3, "waiting": True}, 1.0, 1.5, 1.0),
        ({"due_days": 0}, 1.0, 1.0, 1.0),
    ],
)
def test_freshness(given: dict[str, Any], rhythm: float, waiting: float, planned: float) -> None:
    fresh = freshness_of(standing(**given))
    assert (fresh.rhythm, fresh.waiting, fresh.planned) == (rhythm, waiting, planned)


def test_what_is_due_comes_first_and_what_was_done_today_last() -> None:
    rich = standing(1, value=1_000_000.0)
    due = standing(2, value=1.0, due_days=0)
    overdue = standing(3, value=2.0, due_days=-4)
    done = standing(4, value=9_000_000.0, touched_days=0, done_today=True, due_days=0)
    poor = standing(5, value=5.0)
    order = [place.standing.record_id for place in plan_day([done, poor, due, rich, overdue])]
    assert order == [3, 2, 1, 5, 4]


def test_what_has_no_known_worth_stands_behind_what_has_one() -> None:
    likely, unlikely = standing(1, value=None, probability=0.9), standing(2, value=None, probability=0.2)
    worth_little = standing(3, value=0.01, probability=0.01)
    order = [place.standing.record_id for place in plan_day([unlikely, likely, worth_little])]
    assert order == [3, 1, 2]


def test_equals_are_told_apart_so_that_pages_do_not_mix() -> None:
    order = [place.standing.record_id for place in plan_day([standing(3), standing(1), standing(2)])]
    assert order == [1, 2, 3]


def test_a_records_own_rhythm_counts_the_more_the_longer_it_is_known() -> None:
    assert rhythm_of(0, 0.0, others=9.0) == 9.0
    assert rhythm_of(3, 9.0, others=9.0) == pytest.approx((9 + 27) / 6)
    assert rhythm_of(300, 600.0, others=9.0) == pytest.approx(2.07, abs=0.01)


def test_the_rhythm_of_others_is_their_median_or_a_plain_guess_for_too_few() -> None:
    assert rhythm_of_others("deal", [(2, 4.0), (4, 20.0), (3, 27.0), (1, 99.0)]) == 5.0
    assert rhythm_of_others("deal", [(2, 4.0)]) == 7.0


def test_a_usual_day_is_the_median_of_those_with_work() -> None:
    assert usual_a_day([4, 0, 6, 10, 8, 0, 30]) == 8
    assert usual_a_day([4, 6, 8, 10]) is None
