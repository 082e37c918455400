"""What the records allow to say is the mean of the truth over records that look alike."""

from __future__ import annotations

import numpy as np
import pandas as pd

from models.simulation.observer import Lookalikes, fit_observer


def _company(seed: int, many: int = 4000) -> Lookalikes:
    """Two kinds of records; half of each are in a hidden state that doubles the chance."""
    random = np.random.default_rng(seed)
    kind = random.integers(0, 2, many)
    hidden = random.random(many) < 0.5
    truth = np.where(kind == 1, 0.3, 0.1) * np.where(hidden, 2.0, 1.0)
    truth[:50] = np.nan
    frame = pd.DataFrame({"kind": kind.astype(float), "noise": random.normal(size=many)})
    return Lookalikes(frame=frame, probability=truth)


def test_hidden_states_are_averaged_and_questions_without_a_truth_teach_nothing() -> None:
    said = fit_observer([_company(1), _company(2)]).probabilities(_company(3).frame)
    kind = _company(3).frame["kind"].to_numpy()
    assert np.abs(said[kind == 0] - 0.15).mean() < 0.01
    assert np.abs(said[kind == 1] - 0.45).mean() < 0.02


def test_what_can_be_said_is_worse_than_the_truth_and_better_than_a_guess() -> None:
    company = _company(3)
    known = ~np.isnan(company.probability)
    truth = company.probability[known]
    said = fit_observer([_company(1), _company(2)]).probabilities(company.frame)[known]
    loss = [
        -(truth * np.log(one) + (1 - truth) * np.log1p(-one)).mean()
        for one in (truth, said, np.full(truth.size, truth.mean()))
    ]
    assert loss[0] < loss[1] < loss[2]
