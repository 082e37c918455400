"""The counts at every cut are those of the questions, whatever is equal and however many there are."""

from __future__ import annotations

import numpy as np
import pytest

from models.cuts import MOST_STEPS, cut_steps
from models.evaluation import Judged


def judged(happened: list[bool]) -> Judged:
    return Judged(happened=np.array(happened), entity=np.arange(len(happened)))


def test_the_counts_by_hand() -> None:
    said = np.array([0.2, 0.9, 0.5, 0.5])
    found = cut_steps(said, judged([False, True, True, False]))
    assert found == {"from": [0.9, 0.5, 0.2], "questions": [1, 2, 1], "outcomes": [1, 1, 0]}


@pytest.mark.parametrize("digits", [1, 2, 17])
def test_every_cut_holds_what_lies_at_or_above_it(digits: int) -> None:
    random = np.random.default_rng(4)
    said = np.round(random.beta(1, 5, 3_000), digits)
    happened = random.random(3_000) < said
    found = cut_steps(said, judged(happened.tolist()))
    assert len(found["from"]) <= MOST_STEPS
    questions, outcomes = np.cumsum(found["questions"]), np.cumsum(found["outcomes"])
    for cut, count, came in zip(found["from"], questions, outcomes, strict=True):
        assert (count, came) == ((said >= cut).sum(), happened[said >= cut].sum())
    assert questions[-1] == 3_000


def test_nothing_judged_has_no_cuts() -> None:
    assert cut_steps(np.empty(0), judged([])) == {"from": [], "questions": [], "outcomes": []}
