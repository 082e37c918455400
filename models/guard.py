"""A gate before training: no input may know the outcome.

Fields declared as written at the outcome are refused where features are declared. What is declared wrongly
shows here: a single feature, or its mere presence, that tells the answers apart nearly alone; what the
whole history tells of a field (`models.whole_history`); and rows that would teach and judge at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from crm_core.errors import LeakageError
from crm_core.phrases import Phrase
from crm_core.store import Store
from features.declaration import Feature
from features.feature_set import FeatureSet
from models.encoding import is_missing
from models.evaluation import area_under_curve
from models.hazard import Bools, Floats, Ints
from models.whole_history import find_telling_fields

if TYPE_CHECKING:
    from pandas import DataFrame

TOO_GOOD = 0.9
"""An AUC of one feature alone from which on it is believed to know the answer."""

FEWEST = 15
"""Entities with each answer, and with a value, below which nothing is said of a feature."""

TELLTALE_ODDS = 30.0
"""Odds of the answer with a value, as a multiple of those without one, from which on its presence tells."""

REPEATED = "repeated_rows"
"""The name by which repeated rows are overruled."""

MANY_REPEATS = 0.01
"""Share of accounts with rows that are those of others from which on something is wrong."""

RARE_NUMBERS = 2
"""Rare numbers that two rows must share before it is believed that one is a copy of the other."""

_FOLDS = 5


@dataclass(frozen=True, kw_only=True)
class Suspicion:
    """Why a feature is believed to know the outcome; a `doubtful` one is warned of and not refused."""

    feature: str
    fields: tuple[str, ...]
    evidence: str
    check: str = "single feature"
    doubtful: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "feature": self.feature,
            "fields": list(self.fields),
            "check": self.check,
            "evidence": self.evidence,
            "doubtful": self.doubtful,
        }

    @property
    def names(self) -> frozenset[str]:
        """Return by what it may be overruled: the feature, or a field with or without its record."""
        short = (field.split(".", 1)[-1] for field in self.fields)
        bare = (field.rsplit(".", 1)[-1] for field in self.fields)
        return frozenset({self.feature, *self.fields, *short, *bare})


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


def find_telling_features(store: Store, feature_set: FeatureSet) -> list[Suspicion]:
    """Return the features that read a field against which the whole history of the store tells."""
    return [
        Suspicion(
            feature=feature.name,
            fields=(finding.field,),
            evidence=finding.evidence,
            check=finding.check,
            doubtful=finding.doubtful,
        )
        for finding in find_telling_fields(store, feature_set.record_type)
        for feature in _readers(feature_set, finding.field)
    ]


def _readers(feature_set: FeatureSet, field: str) -> list[Feature]:
    """Return the first feature that reads a field, if any does: one name is enough to refuse it."""
    return [feature for feature in feature_set.features if field in feature.source_fields][:1]


def join_suspicions(*found: Sequence[Suspicion]) -> list[Suspicion]:
    """Return all suspicions, one a field; what refuses comes before what only warns."""
    ordered = sorted((each for some in found for each in some), key=lambda each: each.doubtful)
    kept: dict[tuple[str, ...], Suspicion] = {}
    for each in ordered:
        kept.setdefault(each.fields or (each.feature,), each)
    return list(kept.values())


def find_repeats(frame: DataFrame, account: Ints) -> list[Suspicion]:
    """Return a suspicion where many rows repeat those of other accounts throughout, in rare numbers too.

    Such rows would teach and judge at once.
    """
    found = count_repeats(frame, account)
    if found.accounts < FEWEST or found.accounts < MANY_REPEATS * found.of_accounts:
        return []
    evidence = (
        f"{found.rows:,} rows, of {found.accounts:,} of {found.of_accounts:,} accounts or records, are those "
        "of another one throughout, in rare numbers too: duplicates, which would teach and judge at once"
    )
    return [Suspicion(feature=REPEATED, fields=(), evidence=evidence, check="repeated rows")]


@dataclass(frozen=True, kw_only=True)
class Repeats:
    """How many rows repeat one of another account throughout, and of how many accounts these are."""

    rows: int
    accounts: int
    of_accounts: int


def count_repeats(frame: DataFrame, account: Ints) -> Repeats:
    """Count rows that are those of another account throughout and hold at least RARE_NUMBERS rare numbers.

    Rare: held by at most one row in a thousand, or by three. Without them, that two records are alike is no
    wonder: many leads came from the same page.
    """
    accounts = len(np.unique(account))
    rare = _rare_numbers(frame) >= RARE_NUMBERS
    if not rare.any():
        return Repeats(rows=0, accounts=0, of_accounts=accounts)
    kept = frame[rare]
    rows = kept.groupby(list(kept.columns), dropna=False, sort=False, observed=True).ngroup().to_numpy()
    pairs = np.unique(np.stack((rows, account[rare]), axis=1), axis=0)
    row, times = np.unique(pairs[:, 0], return_counts=True)
    twins = np.isin(rows, row[times > 1])
    return Repeats(rows=int(twins.sum()), accounts=len(np.unique(account[rare][twins])), of_accounts=accounts)


def _rare_numbers(frame: DataFrame) -> Ints:
    count = np.zeros(len(frame), dtype=np.int64)
    most = max(3, len(frame) // 1000)
    for name in frame.columns:
        values = frame[name].to_numpy()
        if values.dtype.kind == "f":
            _, place, times = np.unique(values, return_inverse=True, return_counts=True)
            count += (times[place] <= most) & ~np.isnan(values)
    return count


def check_no_leaks(suspicions: Sequence[Suspicion], *, overruled: Sequence[str] = ()) -> None:
    """Raise LeakageError naming every suspicion that is not `overruled` by its or its field's name."""
    left = [each for each in suspicions if not each.doubtful and not each.names.intersection(overruled)]
    if left:
        told = "; ".join(
            f"{found.feature} (reads {', '.join(found.fields) or 'nothing declared'}): {found.evidence}"
            for found in left
        )
        msg = Phrase(
            "an input seems to know the outcome: {told}. If it is known at the time all the same,"
            " overrule by name; if not, declare its field as known at the outcome",
            told=told,
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
    if area < TOO_GOOD:
        return None
    return f"its value alone tells the answers apart with an AUC of {area:.3f}: " + _in_counts(
        score[known],
        happened[known],
        entity[known],
        "value" if is_number else "share among others of its kind",
    )


def _in_counts(score: Floats, happened: Bools, entity: Ints, what: str) -> str:
    high = score > score.mean()
    (many, yes), (few, also) = (
        (_entities(entity[rows]), _entities(entity[rows & happened])) for rows in (high, ~high)
    )
    return (
        f"of {many:,} records with a {what} above the mean {yes:,} had the outcome, "
        f"of {few:,} with one below {also:,}"
    )


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
