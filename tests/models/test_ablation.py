"""What a group of features gains: a true signal something, noise nothing."""

from __future__ import annotations

from datetime import timedelta

from models.ablation import gain_of, try_groups
from models.lead_scoring import TASK
from tests.models.conftest import NOW, Business


def test_what_decides_gains_and_what_says_nothing_does_not(business: Business) -> None:
    groups = {"source": ("source",), "noise": ("region",)}

    said = try_groups(business.store, TASK, NOW - timedelta(days=190), groups)

    every = frozenset(groups)
    source, noise = (gain_of(said, every - {name}, every) for name in groups)
    assert source.log_loss.low > 0.01
    assert source.auc.low > 0.05
    assert noise.log_loss.value < 0.005
    assert noise.auc.value < 0.005
    assert source.expected is None


def test_judged_are_only_questions_asked_later_whose_horizon_is_over(business: Business) -> None:
    said = try_groups(business.store, TASK, NOW - timedelta(days=110), {"source": ("source",)})
    later = try_groups(business.store, TASK, NOW - timedelta(days=190), {"source": ("source",)})

    assert 0 < len(said.happened) < len(later.happened)
    joined = said.joined_to(later)
    assert len(joined.happened) == len(said.happened) + len(later.happened)
    assert len(set(joined.account)) == len(set(said.account)) + len(set(later.account))
