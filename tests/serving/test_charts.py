"""Pictures: what is drawn where, and that the table tells the same."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.web.charts import Axis, Band, Bars, Chart, Dots, Level, Line, Mark, draw, nice_steps

DAYS = [date(2026, 11, 2) + timedelta(days=7 * week) for week in range(12)]
PERCENT = Axis(label="share", show=lambda value: f"{float(value):.0%}", low=0, high=1)


def drawn(*marks: Mark, x: Axis | None = None, y: Axis = PERCENT, stacked: bool = False) -> Chart:
    chart = draw("A picture", x=x or Axis(label="week"), y=y, marks=marks, stacked=stacked)
    assert chart is not None
    return chart


def test_nothing_to_show_is_no_picture() -> None:
    nothing: list[Mark] = [Line(name="a", points=[(1, None)]), Level(name="goal", value=3)]
    assert draw("x", x=Axis(label="x"), y=Axis(label="y"), marks=nothing) is None


@given(st.floats(-1e9, 1e9), st.floats(1e-6, 1e9))
def test_steps_are_even_and_hold_both_ends(low: float, span: float) -> None:
    steps = nice_steps(low, low + span)
    assert 2 <= len(steps) <= 12
    slack = 1e-6 * max(1.0, abs(low), span)
    assert steps[0] <= low + slack
    assert steps[-1] >= low + span - slack


def test_what_is_counted_has_no_halves_at_its_axis() -> None:
    shown = Axis(label="y", show=lambda value: f"{value:g}")
    few, more = (
        draw("x", x=Axis(label="x"), y=shown, marks=[Bars(name="won", points=[("Ana", 1), ("Ben", most)])])
        for most in (2, 11)
    )
    assert few is not None
    assert more is not None
    assert [tick.text for tick in few.y_ticks] == ["0", "1", "2"]
    assert [tick.text for tick in more.y_ticks] == ["0", "5", "10", "15"]


def test_a_probability_fills_its_axis_from_floor_to_top() -> None:
    chart = drawn(Line(name="said", points=[(DAYS[0], 0.0), (DAYS[1], 1.0)]))
    first, last = [shape for shape in chart.shapes if shape.kind == "dot"]
    assert (first.y, last.y) == (chart.floor, chart.top)
    assert (first.x, last.x) == (chart.left, chart.right)


def test_days_stand_as_far_apart_as_they_are() -> None:
    chart = drawn(Line(name="said", points=[(DAYS[0], 0.1), (DAYS[1], 0.2), (DAYS[5], 0.3)]))
    x = [shape.x for shape in chart.shapes if shape.kind == "dot"]
    assert (x[2] - x[1]) == pytest.approx(4 * (x[1] - x[0]), abs=0.3)


def test_instants_and_gaps_break_the_line() -> None:
    at = [datetime(2026, 11, day, tzinfo=UTC) for day in (1, 2, 3, 4)]
    chart = drawn(Line(name="a", points=[(at[0], 0.1), (at[1], None), (at[2], 0.2), (at[3], 0.3)]))
    (path,) = [shape.path for shape in chart.shapes if shape.kind == "path"]
    assert path.count("M") == 2
    assert [row[1] for row in chart.rows] == ["10%", "–", "20%", "30%"]


def test_an_interval_is_drawn_and_told() -> None:
    chart = drawn(
        Band(name="range", points=[(1, 0.2, 0.4), (2, 0.3, 0.5)]),
        Dots(name="came", points=[(1, 0.25, 0.1, 0.6), (2, 0.6, None, None)]),
    )
    assert {shape.kind for shape in chart.shapes} == {"area", "whisker", "dot"}
    assert chart.rows[0] == ["1", "20% – 40%", "25% (10% – 60%)"]
    assert "came, 1: 25% (10% – 60%)" in {shape.title for shape in chart.shapes}


def test_bars_stand_beside_each_other_or_on_each_other() -> None:
    won = Bars(name="won", points=[("Q1", 2), ("Q2", 4)])
    open_ = Bars(name="open", points=[("Q1", 3), ("Q2", 6)])
    count = Axis(label="deals")
    beside = [shape for shape in drawn(won, open_, y=count).shapes if shape.kind == "bar"]
    assert beside[0].x + beside[0].width <= beside[2].x
    chart = drawn(won, open_, y=count, stacked=True)
    on = [shape for shape in chart.shapes if shape.kind == "bar"]
    assert on[0].x == on[2].x
    assert on[2].y + on[2].height == pytest.approx(on[0].y, abs=0.2)
    assert on[3].y >= chart.top


def test_what_falls_below_zero_hangs_from_the_line_of_zero() -> None:
    chart = drawn(Bars(name="moved", points=[("a", 5), ("b", -5)]), y=Axis(label="money"))
    up, down = [shape for shape in chart.shapes if shape.kind == "bar"]
    assert up.y + up.height == pytest.approx(chart.zero, abs=0.2)
    assert down.y == pytest.approx(chart.zero, abs=0.2)


def test_long_names_leave_each_other_room() -> None:
    names = [f"a rather long name {number}" for number in range(20)]
    chart = drawn(Bars(name="n", points=[(name, 0.5) for name in names]))
    ticks = chart.x_ticks
    assert 1 <= len(ticks) < 8
    assert all(later.at - tick.at > 100 for tick, later in pairwise(ticks))
    assert len(chart.rows) == 20


def test_a_single_value_is_a_picture_too() -> None:
    chart = drawn(Line(name="a", points=[(DAYS[0], 0.5)]))
    (dot,) = [shape for shape in chart.shapes if shape.kind == "dot"]
    assert chart.left <= dot.x <= chart.right


def test_names_stand_half_a_slot_from_both_ends() -> None:
    chart = drawn(Dots(name="share", points=[("a", 0.1, None, None), ("b", 0.2, None, None)]))
    slot = (chart.right - chart.left) / 2
    assert [shape.x for shape in chart.shapes] == pytest.approx(
        [chart.left + slot / 2, chart.right - slot / 2], abs=0.1
    )


@pytest.mark.parametrize("days", [[0, 7, 14, 21, 28], [0, 1, 2, 200, 201, 202], [0, 300, 301]])
def test_the_texts_of_days_never_meet(days: list[int]) -> None:
    points = [(DAYS[0] + timedelta(days=day), 0.1) for day in days]
    x = Axis(label="week", show=lambda day: f"the week of {day:%d %B}")
    ends = [tick.ends() for tick in drawn(Line(name="said", points=points), x=x).x_ticks]
    assert ends
    assert all(left[1] < right[0] for left, right in pairwise(ends))
