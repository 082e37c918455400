"""What is drawn the short way is what Hypothesis would have drawn."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from hypothesis import strategies as st

from tests.serving.drawing import draw_some


def test_the_simplest_comes_first_and_none_twice() -> None:
    drawn = list(draw_some(st.integers(0, 1_000), 100, Random(1)))
    assert (drawn[0], len(drawn), len(set(drawn))) == (0, 100, 100)
    assert max(drawn) > 500


def test_the_same_seed_draws_the_same() -> None:
    strategy = st.lists(st.text() | st.floats() | st.booleans())
    first, again, other = (repr(list(draw_some(strategy, 50, Random(seed)))) for seed in (1, 1, 2))
    assert first == again != other


def test_where_there_are_few_all_are_drawn() -> None:
    assert sorted(draw_some(st.sampled_from("abc"), 25, Random(1))) == ["a", "b", "c"]


@pytest.mark.parametrize("strategy", [st.nothing(), st.booleans().filter(lambda _: False)], ids=repr)
def test_where_there_is_nothing_nothing_is_drawn(strategy: st.SearchStrategy[Any]) -> None:
    assert list(draw_some(strategy, 25, Random(1))) == []


@st.composite
def _pairs(draw: st.DrawFn) -> tuple[int, list[int]]:
    bound = draw(st.integers(1, 9))
    return bound, draw(st.lists(st.integers(0, bound), min_size=bound, unique=True).map(sorted))


def _fits(value: Any) -> bool:
    """Tell whether a value is one of those that are asked for below."""
    match value:
        case (int(bound), [*held]):
            return len(held) >= bound and held == sorted(set(held)) and held[0] >= 0 and held[-1] <= bound
        case str():
            return len(value) == 4 and value[:2].isdigit() and value[2:].isupper()
        case {"a": [*inner], **rest}:
            return set(rest) <= {"b"} and all(map(_fits, inner))
        case _:
            return value is None


def test_what_is_composed_filtered_and_nested_fits() -> None:
    leaves = st.none() | _pairs() | st.from_regex(r"[0-9]{2}[A-Z]{2}", fullmatch=True)
    strategy = st.recursive(
        leaves,
        lambda inner: st.fixed_dictionaries(
            {"a": st.lists(inner)}, optional={"b": st.nothing() | st.floats()}
        ),
    )
    drawn = list(draw_some(strategy, 300, Random(1)))
    assert [value for value in drawn if not _fits(value)] == []
    assert {type(value) for value in drawn} == {type(None), tuple, str, dict}


def test_what_fails_while_it_is_made_is_told() -> None:
    with pytest.raises(ZeroDivisionError):
        list(draw_some(st.integers().map(lambda each: 1 // (each - each)), 25, Random(1)))
