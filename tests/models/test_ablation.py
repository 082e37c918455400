"""What a group of features gains: a true signal something, noise nothing."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest

from crm_core.clock import DAY, micros
from models.ablation import Said, gain_of, try_groups
from models.lead_scoring import TASK
from tests.models.conftest import NOW, Business

NONE, SIGNAL = frozenset[str](), frozenset({"signal"})


def made(*said: float, truth: float) -> Said:
    """What was said of four questions about two accounts without and with a signal."""
    return Said(
        by_looking_at={NONE: np.full(4, said[0]), SIGNAL: np.full(4, said[1])},
        happened=np.array([True, False, False, False]),
        account=np.array([1, 1, 2, 2]),
        truth=np.full(4, truth),
    )


def test_what_decides_gains_and_what_says_nothing_does_not(business: Business) -> None:
    groups = {"source": ("source",), "noise": ("region",)}
    as_of = NOW - timedelta(days=190)

    said = try_groups(business.store, TASK, as_of, groups)

    every = frozenset(groups)
    source, noise = (gain_of(said, every - {name}, every) for name in groups)
    assert source.log_loss.low > 0.01
    assert source.auc.low > 0.05
    assert noise.log_loss.value < 0.005
    assert noise.auc.value < 0.005
    assert source.expected is None
    later = TASK.ask(business.store, start=as_of, until=NOW)
    assert len(said.happened) == (later.as_of + TASK.horizon_days * DAY <= micros(NOW)).sum()


def test_what_is_to_be_expected_is_told_by_the_truth_and_not_by_what_came() -> None:
    gain = gain_of(made(0.25, 0.5, truth=0.5), NONE, SIGNAL)

    assert gain.log_loss.value == pytest.approx((np.log(0.5) * 4 - np.log(0.25) - 3 * np.log(0.75)) / 4)
    assert gain.log_loss.value < 0
    assert gain.expected is not None
    assert gain.expected.value == pytest.approx(np.log(0.5) - np.log(0.25) / 2 - np.log(0.75) / 2)
    assert gain.expected.value > 0


def test_companies_are_judged_together_and_their_accounts_kept_apart() -> None:
    joined = made(0.25, 0.5, truth=0.5).joined_to(made(0.3, 0.6, truth=np.nan))

    assert joined.account.tolist() == [1, 1, 2, 2, 4, 4, 5, 5]
    assert joined.by_looking_at[SIGNAL].tolist() == [0.5] * 4 + [0.6] * 4
    assert np.isnan(joined.truth[4:]).all()
