"""The recipe is chosen by what would have been right later."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from crm_core.arrays import NO_INSTANT
from crm_core.clock import DAY
from models.fitting import Columns, Rung
from models.hazard import Exposure, expit, expose, fading_of
from models.selection import Asked, Choice, choose_recipe
from models.splits import deal_accounts, list_origins, list_splits

ENDS = (30, 90)
UNTIL = 720 * DAY


class _World:
    """Questions over 720 days whose event comes within 30 days with a chance that `chance_of` gives."""

    def __init__(self, chance_of: Callable[[Any, Any], Any], many: int = 4000, seed: int = 1) -> None:
        random = np.random.default_rng(seed)
        self.as_of = np.sort(random.integers(0, UNTIL, many))
        self.matrix = random.normal(size=(many, 3))
        chance = chance_of(self.matrix, self.as_of / DAY)
        happens = random.random(many) < chance
        when = self.as_of + random.integers(1, 30 * DAY, many)
        self.event_at = np.where(happens, when, NO_INSTANT)

    def asked(self) -> Asked:
        columns = Columns(is_number=np.ones(3, dtype=bool), is_seasonal=np.zeros(3, dtype=bool))
        return Asked(
            matrix=self.matrix,
            columns=columns,
            as_of=self.as_of,
            account=np.arange(len(self.as_of)),
            fading=fading_of(ENDS),
        )

    def expose_at(self, known_at: int) -> Exposure:
        known = np.where(self.event_at <= known_at, self.event_at, NO_INSTANT)
        return expose(
            as_of=self.as_of,
            event_at=known,
            known_until=np.full(len(self.as_of), known_at),
            weight=np.ones(len(self.as_of)),
            ends_days=ENDS,
        )

    def choose(self) -> Choice:
        return choose_recipe(self.asked(), self.expose_at, UNTIL)


def test_where_nothing_matters_the_base_rate_is_used_with_all_history() -> None:
    found = _World(lambda matrix, day: np.full(len(matrix), 0.15)).choose().recipe
    assert (found.rung, found.level_days) == (Rung.BASE_RATE, None)


def test_where_something_matters_the_logistic_model_is_used() -> None:
    found = _World(lambda matrix, day: expit(-2 + matrix[:, 0])).choose()
    assert (found.recipe.rung, found.recipe.window_days) == (Rung.LOGISTIC, None)
    assert found.steps[0].taken


def test_after_a_jump_in_the_level_only_what_came_after_it_teaches_the_level() -> None:
    found = _World(lambda matrix, day: expit(np.where(day > 560, -1.2, -3.5) + matrix[:, 0])).choose().recipe
    assert found.level_days is not None
    assert found.level_days <= 120
    assert found.window_days is None


def test_trees_are_used_where_a_line_does_not_do() -> None:
    found = _World(lambda matrix, day: np.where(np.abs(matrix[:, 0]) > 1, 0.5, 0.05), many=8000).choose()
    assert found.recipe.rung is Rung.ADDITIVE_TREES
    assert found.recipe.rounds is not None


def test_without_outcomes_to_judge_by_nothing_but_the_base_rate_is_tried() -> None:
    found = _World(lambda matrix, day: np.full(len(matrix), 0.004)).choose()
    assert found.recipe.rung is Rung.BASE_RATE
    assert "20 are needed" in found.reason
    assert found.candidates == ()


def test_questions_teach_before_the_origin_and_judge_from_it_on() -> None:
    as_of = np.arange(0, 200) * DAY
    judgeable = np.ones(200, dtype=bool)
    origins = list_origins(as_of, judgeable, 200 * DAY, 30)
    assert [origin // DAY for origin in origins] == [170, 140, 110, 80]
    for split in list_splits(as_of, np.arange(200), 140 * DAY, 30):
        assert as_of[split.teaches].max() <= 140 * DAY
        assert as_of[split.judges].min() >= 140 * DAY
        assert as_of[split.judges].max() < 170 * DAY


def test_an_account_never_sits_on_both_sides() -> None:
    account = np.random.default_rng(2).integers(-50, 50, 500)
    as_of = np.random.default_rng(3).integers(0, 100 * DAY, 500)
    for split in list_splits(as_of, account, 50 * DAY, 30):
        assert not set(account[split.teaches]) & set(account[split.judges])


@pytest.mark.parametrize("parts", [2, 4])
def test_accounts_are_dealt_evenly_and_always_alike(parts: int) -> None:
    account = np.arange(-2000, 2000)
    dealt = deal_accounts(account, parts)
    assert np.bincount(dealt).tolist() == pytest.approx([4000 / parts] * parts, rel=0.1)
    np.testing.assert_array_equal(deal_accounts(account[::-1], parts), dealt[::-1])
