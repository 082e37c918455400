"""What groups of features gain: the same model with and without them, judged on what was asked later.

Everything but what is looked at stays the same: the questions, the recipe, and those that judge. Nothing
here is used by a training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np

from crm_core.clock import micros
from crm_core.store import Store
from features.feature_set import FeatureSet, feature_set_for
from models.building import Material, build_bundle, gather
from models.evaluation import Estimate, Judged, auc, compare_losses, compare_metric, loss_of
from models.fitting import Recipe, Rung
from models.hazard import Bools, Floats, Ints
from models.questions import Questions, answers, ask, first_instant
from models.task import Task

if TYPE_CHECKING:
    from features.declaration import Feature
    from models.simulation import Truth

PLAIN = Recipe(rung=Rung.LOGISTIC, penalty=10.0)
"""How all of them are fitted, so that they differ by nothing but what they look at."""

Groups = Mapping[str, tuple[str, ...]]
"""Names of features by what they are of."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Said:
    """What models that look at more or less said of the same n questions.

    `by_looking_at`: probabilities float64[n] by the groups looked at besides all else. `truth`: float64[n],
    the true probabilities, NaN where none is known.
    """

    by_looking_at: Mapping[frozenset[str], Floats]
    happened: Bools
    account: Ints
    truth: Floats

    def joined_to(self, other: Said) -> Said:
        """Return both as one, the accounts kept apart."""
        return Said(
            by_looking_at={
                groups: np.concatenate([said, other.by_looking_at[groups]])
                for groups, said in self.by_looking_at.items()
            },
            happened=np.concatenate([self.happened, other.happened]),
            account=np.concatenate([self.account, other.account + self.account.max() + 1]),
            truth=np.concatenate([self.truth, other.truth]),
        )


@dataclass(frozen=True, kw_only=True)
class Gain:
    """By how much what was said is better with some groups than without: above 0 they help.

    `log_loss`: as it came. `expected`: as it is to be expected under the true probabilities, which takes the
    chance out of what came; None without a truth. `auc`: as it came.
    """

    log_loss: Estimate
    expected: Estimate | None
    auc: Estimate


def try_groups(
    store: Store,
    task: Task,
    as_of: datetime,
    groups: Groups,
    *,
    offered: Sequence[Feature] = (),
    truth: Truth | None = None,
) -> Said:
    """Return what is said with none of the groups, with all, and with all but each.

    `offered` are features that the task does not look at by itself. Judged are all questions asked after
    `as_of` that the task learns from, so at every age of a record, whose horizon is over.
    """
    found = task.in_store(store)
    whole = feature_set_for(store, task.name)
    whole = replace(whole, features=(*whole.features, *offered))
    asked = ask(store, found, whole, found.ask, start=first_instant(store, found), until=as_of)
    later = ask(store, found, whole, found.ask, start=as_of, until=store.clock.now())
    answer = answers(store, later, found.horizon_days)
    judged = later.take(answer.over)
    material = gather(asked, store, whole, micros(as_of))
    true = np.full(len(judged), np.nan)
    if truth is not None:
        true = truth.probabilities(task.name, judged.cohort.ids, judged.as_of, found.horizon_days)
    every = frozenset(groups)
    wanted = {frozenset[str](), every, *(every - {one} for one in groups)}
    return Said(
        by_looking_at={
            looked_at: _say(material, judged, _left_out(groups, every - looked_at)) for looked_at in wanted
        },
        happened=answer.happened[answer.over],
        account=judged.account,
        truth=true,
    )


def gain_of(said: Said, less: frozenset[str], more: frozenset[str]) -> Gain:
    """Return what `more` groups gain over `less`, with 95 % intervals from drawing accounts."""
    one, other = said.by_looking_at[less], said.by_looking_at[more]
    judged = Judged(happened=said.happened, entity=said.account)
    known = ~np.isnan(said.truth)
    return Gain(
        log_loss=compare_losses(loss_of(one, said.happened), loss_of(other, said.happened), said.account),
        expected=compare_losses(
            _expected(one[known], said.truth[known]),
            _expected(other[known], said.truth[known]),
            said.account[known],
        )
        if known.any()
        else None,
        auc=compare_metric(auc, other, one, judged),
    )


def _say(material: Material, judged: Questions, left_out: frozenset[str]) -> Floats:
    kept = [name for name in material.feature_set.names if name not in left_out]
    part: FeatureSet = material.feature_set.select(kept)
    questions = replace(material.questions, frame=material.questions.frame[kept])
    less = replace(material, feature_set=part, questions=questions)
    bundle = build_bundle(less, recipe=PLAIN).bundle
    return bundle.predict(judged.frame[kept]).probability


def _left_out(groups: Groups, names: frozenset[str]) -> frozenset[str]:
    return frozenset(feature for name in names for feature in groups[name])


def _expected(said: Floats, truth: Floats) -> Floats:
    """Return the log loss to be expected of each probability said: float64[n]."""
    held = np.clip(said, 1e-9, 1 - 1e-9)
    return np.asarray(-(truth * np.log(held) + (1 - truth) * np.log1p(-held)))
