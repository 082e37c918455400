"""Choosing on a sample: which questions are in it, that no rate moves, and that it is told."""

from __future__ import annotations

import numpy as np
import pytest

from crm_core.clock import DAY
from models import estimators, logistic, sample, selection, trees
from models.fitting import Columns, Lesson, Recipe, Rung, fit_recipe
from models.hazard import Bools, Exposure, Floats, Ints
from models.sample import Sample, draw_sample
from models.selection import Asked, Choice, NextStep, choose_recipe

ACCOUNTS = 3000
TIMES = 4
NOW = 1000 * DAY


def asked_questions() -> tuple[Ints, Ints, Bools]:
    """Return account, instant and outcome of questions: one account in ten has the outcome, at its last."""
    account = np.repeat(np.arange(ACCOUNTS, dtype=np.int64), TIMES)
    as_of = np.tile(np.arange(TIMES, dtype=np.int64), ACCOUNTS) * 30 * DAY
    return account, as_of, (account % 10 == 0) & (as_of == (TIMES - 1) * 30 * DAY)


def draw(most: int, fewest: int, monkeypatch: pytest.MonkeyPatch) -> Sample:
    monkeypatch.setattr(sample, "FEWEST_WITH_OUTCOME", fewest)
    return draw_sample(*asked_questions(), most)


def test_accounts_are_drawn_whole_with_and_without_an_outcome_in_their_share(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    account, _, happened = asked_questions()
    drawn = draw(3000, 10, monkeypatch)
    assert drawn.share == 1.0
    assert set(np.bincount(account[drawn.rows], minlength=ACCOUNTS).tolist()) == {0, TIMES}
    assert drawn.rows.sum() == 3000
    assert happened[drawn.rows].mean() == happened.mean()


def test_the_same_accounts_are_drawn_in_whatever_order_they_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    account, as_of, happened = asked_questions()
    drawn = draw(3000, 10, monkeypatch)
    order = np.random.default_rng(1).permutation(len(account))
    again = draw_sample(account[order], as_of[order], happened[order], 3000)
    assert np.array_equal(again.rows, drawn.rows[order])


def test_where_outcomes_are_few_every_account_stays_and_is_asked_less_often(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    account, _, happened = asked_questions()
    drawn = draw(6000, 2000, monkeypatch)
    assert drawn.share == 0.5
    assert set(np.bincount(account[drawn.rows]).tolist()) == {TIMES // 2}
    assert happened[drawn.rows].mean() == pytest.approx(happened.mean(), rel=0.2)
    seen = exposure(len(account), happened[:, None])
    assert drawn.take(seen).weight.sum() == pytest.approx(seen.weight.sum(), rel=0.01)


def exposure(count: int, event: Bools) -> Exposure:
    return Exposure(
        at_risk=np.ones(event.shape, dtype=np.bool_),
        event=event,
        closed_at=np.full(event.shape, NOW - DAY, dtype=np.int64),
        weight=np.ones(count),
    )


def lesson_of(count: int) -> Lesson:
    """Return questions about two numbers, one of them at times missing, and a level."""
    random = np.random.default_rng(8)
    matrix = random.normal(size=(count, 3))
    matrix[:, 2] = matrix[:, 2] > 0
    chance = 1 / (1 + np.exp(1.5 - matrix[:, 0]))
    matrix[random.random(count) < 0.1, 1] = np.nan
    return Lesson(
        matrix=matrix,
        exposure=exposure(count, random.random((count, 2)) < chance[:, None] * [0.6, 0.4]),
        columns=Columns(is_number=np.array([True, True, False]), is_seasonal=np.zeros(3, dtype=np.bool_)),
        fading=np.array([1.0, 0.5]),
        until=NOW,
    )


@pytest.mark.parametrize("rung", [Rung.LOGISTIC, Rung.FULL_TREES])
def test_a_model_fitted_part_by_part_says_the_same(rung: Rung, monkeypatch: pytest.MonkeyPatch) -> None:
    lesson = lesson_of(2000)
    recipe = Recipe(rung=rung, penalty=10.0, rounds=5 if rung is Rung.FULL_TREES else None)
    whole = fit_recipe(recipe, lesson).log_odds(lesson.matrix)
    for module in (logistic, estimators):
        monkeypatch.setattr(module, "ROWS_IN_CACHE", 300)
    monkeypatch.setattr(logistic, "ROWS_AT_ONCE", 300)
    monkeypatch.setattr(trees, "AT_ONCE", 300)
    assert np.allclose(fit_recipe(recipe, lesson).log_odds(lesson.matrix), whole, atol=1e-6)


def test_a_choice_on_a_sample_says_of_how_many_questions(monkeypatch: pytest.MonkeyPatch) -> None:
    account, as_of, happened = asked_questions()
    matrix: Floats = np.random.default_rng(2).normal(size=(len(account), 2))
    asked = Asked(
        matrix=matrix,
        columns=Columns(is_number=np.ones(2, dtype=np.bool_), is_seasonal=np.zeros(2, dtype=np.bool_)),
        as_of=as_of,
        account=account,
        fading=np.ones(1),
    )
    looked_at: list[int] = []

    def choose(asked: Asked, *_: object) -> Choice:
        looked_at.append(len(asked.matrix))
        step = NextStep(rung=Rung.LOGISTIC, outcomes=7, reason="noise")
        return Choice(recipe=Recipe(rung=Rung.BASE_RATE), reason="base_rate", next_step=step)

    monkeypatch.setattr(selection, "_choose", choose)
    monkeypatch.setattr(selection, "MOST_TO_CHOOSE_ON", 3000)
    monkeypatch.setattr(sample, "FEWEST_WITH_OUTCOME", 10)
    choice = choose_recipe(asked, lambda _: exposure(len(account), happened[:, None]), NOW)
    assert looked_at == [3000]
    assert choice.reason == "base_rate; chosen on 3,000 of 12,000 questions"
    assert choice.to_json()["sampled"] == {"questions": 3000, "of": 12000}
    assert choice.next_step == NextStep(rung=Rung.LOGISTIC, outcomes=None, reason="noise")
