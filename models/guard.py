"""A gate before training: no input may know the outcome.

Fields declared as written at the outcome are refused where features are declared. What is declared wrongly
shows here: a single feature, or its mere presence, that tells the answers apart nearly alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from crm_core.errors import LeakageError
from models.encoding import is_missing
from models.evaluation import area_under_curve
from models.hazard import Bools, Floats, Ints

if TYPE_CHECKING:
    from pandas import DataFrame

TOO_GOOD = 0.9
"""An AUC of one feature alone from which on it is believed to know the answer."""

FEWEST = 15
"""Entities with each answer, and with a value, below which nothing is said of a feature."""

TELLTALE_ODDS = 30.0
"""Odds of the answer with a value, as a multiple of those without one, from which on its presence tells."""

_FOLDS = 5


@dataclass(frozen=True, kw_only=True)
class Suspicion:
    """Why a feature is believed to know the outcome."""

    feature: str
    fields: tuple[str, ...]
    evidence: str

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {"feature": self.feature, "fields": list(self.fields), "evidence": self.evidence}


def find_leaks(
    frame: DataFrame, happened: Bools, entity: Ints, fields: Mapping[str, Sequence[str]]
) -> list[Suspicion]:
    """Return the features of `frame` that nearly decide `happened` (bool[n]), with the evidence.

    `fields` names the record fields that each feature reads. Evidence is out of fold, with all questions of
    an entity in one fold.
    """
    if min(_entities(entity[happened]), _entities(entity[~happened])) < FEWEST:
        return []
    found = []
    for feature in frame.columns:
        evidence = _evidence(frame[feature].to_numpy(), happened, entity)
        if evidence is not None:
            found.append(Suspicion(feature=feature, fields=tuple(fields.get(feature, ())), evidence=evidence))
    return found


def check_no_leaks(suspicions: Sequence[Suspicion], *, overruled: Sequence[str] = ()) -> None:
    """Raise LeakageError naming every suspected feature that is not `overruled` by name."""
    left = [found for found in suspicions if found.feature not in overruled]
    if left:
        told = "; ".join(
            f"{found.feature} (reads {', '.join(found.fields) or 'nothing declared'}): {found.evidence}"
            for found in left
        )
        msg = (
            f"an input seems to know the outcome: {told}. If it is known at the time all the same, "
            "overrule by name; if not, declare its field as known at the outcome"
        )
        raise LeakageError(msg)


def _evidence(values: np.ndarray[Any, Any], happened: Bools, entity: Ints) -> str | None:
    is_number = values.dtype.kind == "f"
    missing = np.isnan(values) if is_number else np.array([is_missing(value) for value in values])
    told = _of_presence(missing, happened, entity)
    if told is not None:
        return told
    score = values if is_number else _rate_out_of_fold(values, missing, happened, entity)
    known = ~missing
    if min(_entities(entity[known & happened]), _entities(entity[known & ~happened])) < FEWEST:
        return None
    area = area_under_curve(score[known], happened[known])
    area = max(area, 1 - area) if is_number else area
    return f"its value alone tells the answers apart with an AUC of {area:.3f}" if area >= TOO_GOOD else None


def _of_presence(missing: Bools, happened: Bools, entity: Ints) -> str | None:
    present = ~missing
    if min(_entities(entity[present]), _entities(entity[missing])) < FEWEST:
        return None
    area = area_under_curve(present.astype(np.float64), happened)
    if max(area, 1 - area) >= TOO_GOOD:
        return f"that it has a value at all tells the answers apart with an AUC of {max(area, 1 - area):.3f}"
    odds_with, odds_without = (_odds(happened[rows], entity[rows]) for rows in (present, missing))
    multiple = max(odds_with / odds_without, odds_without / odds_with)
    if multiple < TELLTALE_ODDS:
        return None
    return (
        f"of {present.sum()} questions with a value {happened[present].mean():.1%} came true, "
        f"of {missing.sum()} without one {happened[missing].mean():.1%}"
    )


def _odds(happened: Bools, entity: Ints) -> float:
    """Return the odds, with half an answer added on both sides so that nothing is certain.

    Entities are counted, not questions: one deal asked fifty times without a win is one piece of evidence.
    """
    yes = _entities(entity[happened])
    return (yes + 0.5) / (_entities(entity) - yes + 0.5)


def _rate_out_of_fold(values: np.ndarray[Any, Any], missing: Bools, happened: Bools, entity: Ints) -> Floats:
    """Return the share of events among other entities with the same level, drawn towards the share of all."""
    _, level = np.unique(np.where(missing, "", values).astype(str), return_inverse=True)
    _, owner = np.unique(entity, return_inverse=True)
    fold = np.random.default_rng(7).integers(0, _FOLDS, owner.max() + 1)[owner]
    share = np.empty(len(values))
    for held in range(_FOLDS):
        seen, asked = fold != held, fold == held
        count = np.bincount(level[seen], minlength=level.max() + 1)
        events = np.bincount(level[seen], weights=happened[seen], minlength=level.max() + 1)
        overall = happened[seen].mean() if seen.any() else 0.5
        share[asked] = ((events + 2 * overall) / (count + 2))[level[asked]]
    return share


def _entities(entity: Ints) -> int:
    return len(np.unique(entity))
