"""From when on somebody is told: the rules alone, by sequences of probabilities made by hand."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crm_core.alert_rules import (
    Kind,
    Over,
    Said,
    Signal,
    Step,
    Term,
    Thresholds,
    churn_jump,
    churn_level,
    churn_steps,
    contract_end,
    deal_at_risk,
    deal_fall,
    was_said,
)
from tests.conftest import MONDAY

LIMITS = Thresholds(churn_level=0.3, churn_jump=0.15, contract_days=60, renewal_below=0.8, deal_fall=0.15)
TODAY = MONDAY.date()


def said(probability: float | None, grade: str | None = None, at_risk: int | None = None) -> Said:
    money = None if at_risk is None else Decimal(at_risk)
    return Said(probability=probability, grade=grade, at_risk=money)


def levels(*probabilities: float | None, limits: Thresholds = LIMITS) -> list[str]:
    """Return what happens day by day: "+" for an alert that begins, "-" for one that ends."""
    running: dict[Kind, datetime] = {}
    told = []
    for day, probability in enumerate(probabilities):
        at = MONDAY + timedelta(days=day)
        signals = {Kind.CHURN_LEVEL: churn_level(said(probability), limits)}
        steps = churn_steps(signals, running, at, limits)
        told.append("".join("+" if step.why is None else "-" for step in steps))
        for step in steps:
            running = {Kind.CHURN_LEVEL: at} if step.why is None else {}
    return told


def test_a_rise_above_the_level_is_told_once() -> None:
    assert levels(0.1, 0.31, 0.5, 0.4, 0.9) == ["", "+", "", "", ""]


def test_trembling_around_the_level_is_one_cause() -> None:
    assert levels(0.31, 0.29, 0.31, 0.25, 0.3) == ["+", "", "", "", ""]


def test_back_above_the_level_after_a_real_fall_is_another_cause() -> None:
    assert levels(0.31, 0.23, 0.29, 0.3) == ["+", "-", "", "+"]


def test_not_enough_data_neither_begins_nor_ends_anything() -> None:
    assert levels(None, 0.4, None, 0.4, None, 0.1) == ["", "+", "", "", "", "-"]


@given(st.lists(st.none() | st.floats(0, 1), max_size=30))
def test_beginnings_and_ends_alternate(probabilities: list[float | None]) -> None:
    marks = "".join(levels(*probabilities))
    assert marks == ("+-" * len(marks))[: len(marks)]


def test_enough_money_raises_an_alert_below_the_level() -> None:
    limits = Thresholds(churn_level=0.3, churn_money=Decimal(50_000))
    assert churn_level(said(0.1, at_risk=50_000), limits) is Signal.ON
    assert churn_level(said(0.1, at_risk=41_000), limits) is Signal.BETWEEN
    assert churn_level(said(0.1, at_risk=39_000), limits) is Signal.OFF
    assert churn_level(said(0.1), limits) is Signal.OFF


def test_a_customer_with_little_at_risk_raises_no_alert_and_one_of_unknown_worth_does() -> None:
    limits = Thresholds(churn_level=0.3, least_money=Decimal(100))
    assert churn_level(said(0.9, at_risk=99), limits) is Signal.BETWEEN
    assert churn_level(said(0.9, at_risk=100), limits) is Signal.ON
    assert churn_level(said(0.9), limits) is Signal.ON
    assert churn_jump(said(0.9, at_risk=99), said(0.1), limits) is Signal.BETWEEN


@pytest.mark.parametrize(
    ("before", "now", "signal"),
    [
        (0.05, 0.20, Signal.ON),
        (0.05, 0.19, Signal.BETWEEN),
        (0.05, 0.12, Signal.OFF),
        (0.50, 0.05, Signal.OFF),
        (None, 0.90, Signal.BETWEEN),
    ],
)
def test_a_jump_is_measured_from_what_was_said_before(
    before: float | None, now: float, signal: Signal
) -> None:
    assert churn_jump(said(now), said(before), LIMITS) is signal


def test_without_anything_said_before_there_is_no_jump() -> None:
    assert churn_jump(said(0.9), None, LIMITS) is Signal.BETWEEN


def both(now: float, before: float) -> dict[Kind, Signal]:
    return {
        Kind.CHURN_LEVEL: churn_level(said(now), LIMITS),
        Kind.CHURN_JUMP: churn_jump(said(now), said(before), LIMITS),
    }


def test_a_jump_over_the_level_is_told_as_one() -> None:
    assert churn_steps(both(0.6, 0.1), {}, MONDAY, LIMITS) == [Step(kind=Kind.CHURN_LEVEL)]


def test_the_jump_that_led_over_the_level_is_not_told_the_days_after() -> None:
    yesterday = {Kind.CHURN_LEVEL: MONDAY - timedelta(days=1)}
    assert churn_steps(both(0.62, 0.1), yesterday, MONDAY, LIMITS) == []


def test_a_further_jump_of_a_customer_long_above_the_level_is_told() -> None:
    long_ago = {Kind.CHURN_LEVEL: MONDAY - timedelta(days=8)}
    assert churn_steps(both(0.6, 0.35), long_ago, MONDAY, LIMITS) == [Step(kind=Kind.CHURN_JUMP)]


def test_a_rise_that_goes_on_over_the_level_takes_the_place_of_the_jump() -> None:
    running = {Kind.CHURN_JUMP: MONDAY - timedelta(days=2)}
    assert churn_steps(both(0.5, 0.05), running, MONDAY, LIMITS) == [
        Step(kind=Kind.CHURN_LEVEL),
        Step(kind=Kind.CHURN_JUMP, why=Over.ABOVE_LEVEL),
    ]


def test_a_contract_that_ends_without_hope_is_told_and_not_the_level_too() -> None:
    ends = {**both(0.5, 0.05), Kind.CONTRACT_END: Signal.ON}
    assert churn_steps(ends, {}, MONDAY, LIMITS) == [Step(kind=Kind.CONTRACT_END)]
    running = {Kind.CONTRACT_END: MONDAY - timedelta(days=1)}
    assert churn_steps(both(0.6, 0.05), running, MONDAY, LIMITS) == []


def test_a_further_jump_of_a_customer_whose_contract_ends_is_told() -> None:
    running = {Kind.CONTRACT_END: MONDAY - timedelta(days=20)}
    assert churn_steps(both(0.6, 0.25), running, MONDAY, LIMITS) == [Step(kind=Kind.CHURN_JUMP)]


def test_an_end_that_draws_near_is_told_of_a_customer_long_above_the_level() -> None:
    running = {Kind.CHURN_LEVEL: MONDAY - timedelta(days=20)}
    ends = {**both(0.5, 0.5), Kind.CONTRACT_END: Signal.ON}
    assert churn_steps(ends, running, MONDAY, LIMITS) == [Step(kind=Kind.CONTRACT_END)]


def test_a_jump_that_has_settled_is_over_even_just_above_the_level() -> None:
    running = {Kind.CHURN_JUMP: MONDAY, Kind.CHURN_LEVEL: MONDAY}
    assert churn_steps(both(0.35, 0.34), running, MONDAY, LIMITS) == [
        Step(kind=Kind.CHURN_JUMP, why=Over.SETTLED)
    ]


@pytest.mark.parametrize(
    ("days", "probability", "signal"),
    [
        (0, 0.3, Signal.ON),
        (60, 0.3, Signal.ON),
        (61, 0.3, Signal.BETWEEN),
        (-1, 0.3, Signal.BETWEEN),
        (30, 0.2, Signal.BETWEEN),
        (30, 0.21, Signal.ON),
        (30, None, Signal.BETWEEN),
    ],
)
def test_a_contract_that_ends_soon_and_may_not_be_renewed(
    days: int, probability: float | None, signal: Signal
) -> None:
    term = Term(contract_id=1, ends_on=TODAY + timedelta(days=days))
    assert contract_end(said(probability), term, TODAY, LIMITS) is signal


def test_no_contract_no_end() -> None:
    assert contract_end(said(0.9), None, date(2026, 1, 1), LIMITS) is Signal.BETWEEN


@pytest.mark.parametrize(
    ("before", "now", "signal"),
    [
        (said(0.60, "B"), said(0.45, "B"), Signal.ON),
        (said(0.60, "B"), said(0.50, "B"), Signal.BETWEEN),
        (said(0.60, "B"), said(0.55, "B"), Signal.OFF),
        (said(0.12, "A"), said(0.05, "C"), Signal.ON),
        (said(0.12, "A"), said(0.05, "B"), Signal.OFF),
        (said(0.12, "A"), said(0.13, "C"), Signal.OFF),
        (None, said(0.1, "D"), Signal.BETWEEN),
    ],
)
def test_a_deal_falls_by_its_probability_or_by_its_grade(
    before: Said | None, now: Said, signal: Signal
) -> None:
    assert deal_fall(now, before, LIMITS) is signal


def test_what_a_fall_takes_is_the_part_of_the_amount_that_is_not_expected_any_more() -> None:
    assert deal_at_risk(Decimal(12_000), said(0.35), said(0.60)) == Decimal("3000.00")
    assert deal_at_risk(Decimal(12_000), said(0.60), said(0.35)) == Decimal(0)
    assert deal_at_risk(None, said(0.35), said(0.60)) is None
    assert deal_at_risk(Decimal(12_000), said(0.35), None) is None


def test_what_was_worked_out_about_the_past_was_never_said() -> None:
    assert was_said(MONDAY, MONDAY + timedelta(hours=5))
    assert not was_said(MONDAY, MONDAY + timedelta(days=7))
