"""The recipe is chosen by what would have been right later."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from crm_core.arrays import NO_INSTANT
from crm_core.clock import DAY
from models.estimators import Card
from models.fitting import Columns, Prior, Rung
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

    def asked(self, prior: Prior | None = None) -> Asked:
        columns = Columns(is_number=np.ones(3, dtype=bool), is_seasonal=np.zeros(3, dtype=bool), prior=prior)
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

    def choose(self, prior: Prior | None = None) -> Choice:
        return choose_recipe(self.asked(prior), self.expose_at, UNTIL)


def _opinion(*weights: float) -> Prior:
    """Return a scorecard that gives log-odds to each column from 1 on."""
    many = len(weights)
    card = Card(
        column=np.arange(many),
        at_least=np.ones(many),
        below=np.full(many, np.inf),
        missing=np.zeros(many, dtype=bool),
        weight=np.array(weights),
        mean=np.zeros(many),
    )
    return Prior(card=card, levels=np.array([-2.0, -2.0]))


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


def _steps(matrix: Any, day: Any) -> Any:
    return expit(-2.2 + 1.5 * (matrix[:, 0] >= 1))


def test_with_few_outcomes_a_right_opinion_is_kept_and_a_wrong_one_gives_way_to_the_base_rate() -> None:
    world = _World(_steps, many=220)
    right, wrong = world.choose(_opinion(1.5)), world.choose(_opinion(-2.0))
    assert right.recipe.rung is Rung.SCORECARD
    assert wrong.recipe.rung is Rung.BASE_RATE
    for choice, taken in ((right, False), (wrong, True)):
        (step,) = [each for each in choice.steps if each.above is Rung.BASE_RATE]
        assert (step.below, step.taken) == (Rung.SCORECARD, taken)


def test_with_many_outcomes_the_logistic_model_takes_the_place_of_any_opinion() -> None:
    world = _World(lambda matrix, day: expit(-2 + matrix[:, 0] + 0.7 * matrix[:, 1]))
    for prior in (_opinion(1.0), _opinion(-1.0, -1.0)):
        assert world.choose(prior).recipe.rung is Rung.LOGISTIC


def test_a_step_that_was_refused_for_noise_says_how_many_outcomes_would_lift_it_above() -> None:
    world = _World(lambda matrix, day: expit(-1.8 + 0.5 * matrix[:, 0]), many=600)
    found = world.choose()
    ahead, (step, *_) = found.next_step, found.steps
    assert ahead is not None
    assert (found.recipe.rung, ahead.rung) == (Rung.BASE_RATE, Rung.LOGISTIC)
    noise = step.gain.value - step.gain.low
    assert 0 < step.gain.value < noise
    known = int((world.event_at != NO_INSTANT).sum())
    assert ahead.outcomes is not None
    assert 0 < ahead.outcomes < 1.2 * known * ((noise / step.gain.value) ** 2 - 1)
    assert "within the noise" in ahead.reason


def test_a_step_that_gained_nothing_promises_nothing() -> None:
    found = _World(lambda matrix, day: np.full(len(matrix), 0.15)).choose()
    assert found.next_step is not None
    assert found.next_step.outcomes is None
    assert found.to_json()["next_step"]["more_outcomes"] is None


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
