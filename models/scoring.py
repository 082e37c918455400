"""Scores for records: the one way from a model to predictions, for a batch of all and for one alone.

Nothing that a model wrote is read here: features see what people and programs wrote, as it was known at
`as_of`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy.orm import Session

from crm_core.changes import Source
from crm_core.errors import FeatureSetMismatchError, NoChampionError
from crm_core.opting_out import list_opted_out
from crm_core.predictions import SCORED_TYPES, NewPrediction, write_predictions
from crm_core.promotions import find_champion
from crm_core.recall import recalled
from crm_core.store import Store
from features.cohort import Cohort
from features.feature_set import FeatureSet, feature_set_for
from features.frame import build_rows
from features.supposed import Supposed
from features.worth import yearly_values
from models.bundle import ModelBundle, Scores
from models.explain import Reason, explain_rows, explain_unlike
from models.hazard import Ints
from models.kept import read_kept
from models.questions import asked_of, own_days
from models.tasks import get_task

if TYPE_CHECKING:
    from models.registry import Registry

Progress = Callable[[str, int | None, int | None], None]
"""Told what is being done, how much of it is done, and how much there is."""


def score_records(
    store: Store, bundle: ModelBundle, ids: Sequence[int], as_of: datetime
) -> list[NewPrediction]:
    """Return a prediction for each of the records that the task is asked of, as they were known at `as_of`.

    A model with too few outcomes behind it gives a place and reasons, and no probability.
    Who asks not to be scored is left out. About a record unlike any that the model learned from nothing is
    said but why: its probability, score and grade are None.
    Raises FeatureSetMismatchError where the store's features are not those that the model learned from.
    """
    return _answers(store, bundle, ids, as_of, willing=True)


def score_supposed(
    store: Store, bundle: ModelBundle, supposed: Supposed, as_of: datetime
) -> NewPrediction | None:
    """Return what a record that does not exist would get, to the bit; None if the task is not asked of it.

    Nothing is written, and no lock is taken.
    """
    return next(iter(answer_records(store, bundle, [supposed.record_id], as_of, supposed)), None)


def answer_records(
    store: Store,
    bundle: ModelBundle,
    ids: Sequence[int],
    as_of: datetime,
    supposed: Supposed | None = None,
) -> list[NewPrediction]:
    """Return the same for whoever is named, to be looked at and not to be written.

    A record gets the same bits alone as among others; one that is supposed to exist those of a real one.
    """
    return _answers(store, bundle, ids, as_of, supposed)


def _answers(
    store: Store,
    bundle: ModelBundle,
    ids: Sequence[int],
    as_of: datetime,
    supposed: Supposed | None = None,
    *,
    willing: bool = False,
) -> list[NewPrediction]:
    """Return what a model says of records; of those alone who are `willing`, if only they are meant."""
    with store.reading() as session:
        asked = _willing(session, bundle.record_type, ids) if willing else ids
        if not len(asked):
            return []
        feature_set = features_of(store, bundle)
        cohort = Cohort.at(bundle.record_type, asked, as_of)
        frame = build_rows(session, cohort, feature_set, supposed)
    task = get_task(bundle.task).of_variant(bundle.variant)
    cohort, frame = asked_of(task, cohort, frame)
    if len(cohort) == 0:
        return []
    unlike = bundle.familiar.unlike(frame)
    worth = (
        yearly_values(store, cohort.ids.tolist(), as_of, supposed) if bundle.record_type == "account" else {}
    )
    matrix = bundle.encoder.encode(frame)
    parts = bundle.estimator.parts(matrix)
    said = _Said(
        bundle=bundle,
        scores=bundle.predict_encoded(matrix, parts),
        reasons=explain_rows(bundle, feature_set, frame, bundle.explain_encoded(matrix, parts)),
        own_days=own_days(task, frame),
    )
    return [
        NewPrediction(record_id=record_id, yearly_value=worth.get(record_id), **said.of(row))
        if not unlike[row]
        else _not_enough(record_id, explain_unlike(bundle, feature_set, frame, row))
        for row, record_id in enumerate(cohort.ids.tolist())
    ]


@dataclass(frozen=True, kw_only=True)
class _Said:
    """What a model says of the rows of a frame."""

    bundle: ModelBundle
    scores: Scores
    reasons: list[list[Reason]]
    own_days: Ints | None

    def of(self, row: int) -> dict[str, Any]:
        """Return what a prediction holds; without outcomes to go by there is a rank and no probability."""
        scores, rank = self.scores, int(self.scores.rank[row])
        held: dict[str, Any] = {
            "probability": None,
            "score": rank,
            "grade": self.bundle.grade(rank),
            "reasons": self.reasons[row],
        }
        if not self.bundle.says_probability:
            return held
        within = {days: _number(values[row]) for days, values in scores.within.items()}
        within |= dict.fromkeys(self.bundle.not_reported)
        if self.own_days is not None:
            held["horizon_days"] = int(self.own_days[row])
            within = {held["horizon_days"]: float(scores.probability[row])}
        return held | {
            "probability": float(scores.probability[row]),
            "within": within,
            "expected_days": _number(scores.expected_days[row]),
        }


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _not_enough(record_id: int, reasons: list[Reason]) -> NewPrediction:
    return NewPrediction(record_id=record_id, probability=None, score=None, grade=None, reasons=reasons)


def _willing(session: Session, record_type: str, ids: Sequence[int]) -> list[int]:
    silent = set(list_opted_out(session, SCORED_TYPES[record_type], ids)) if len(ids) else set()
    return [record_id for record_id in ids if record_id not in silent]


def score_all(store: Store, bundle: ModelBundle, as_of: datetime, progress: Progress | None = None) -> int:
    """Score every record that is open, or active, at `as_of`, write it on the record, and return how many."""
    from models.bulk_scoring import Rescored, rescore

    def tell(done: Rescored) -> None:
        if progress is not None:
            progress(f"{bundle.record_type}s", done.resumed + done.scored, done.total)

    return rescore(store, bundle, as_of=as_of, tell=tell).scored


def write_scores(
    store: Store, bundle: ModelBundle, predictions: Sequence[NewPrediction], as_of: datetime
) -> int:
    """Append predictions and show them on their records, in one transaction; return how many were new."""
    with store.transaction(source=Source.MODEL) as transaction:
        return write_predictions(
            transaction,
            task=bundle.task,
            record_type=bundle.record_type,
            as_of=as_of,
            model_version=bundle.version,
            horizon_days=bundle.horizon_days,
            predictions=predictions,
        )


def features_of(store: Store, bundle: ModelBundle) -> FeatureSet:
    """Return the features that a model reads; raise FeatureSetMismatchError if the store has others.

    Features that were added since are no obstacle; one that is gone or means something else is.
    """
    with store.reading() as session:
        seen = store.seen_by(session)
        found = recalled(session, ("features", bundle.sha256), lambda: _read_features_of(seen, bundle))
    if isinstance(found, str):
        raise FeatureSetMismatchError(found)
    return found


def _read_features_of(store: Store, bundle: ModelBundle) -> FeatureSet | str:
    """Return the features, or what speaks against them: that is worth keeping as well."""
    present = feature_set_for(store, bundle.task, retired=True)
    gone = [name for name in bundle.features if name not in present.names]
    if gone:
        return (
            f"{bundle.version} reads {', '.join(gone)}, which the store has no more: "
            f"train {bundle.task} again"
        )
    feature_set = present.select(bundle.features)
    if feature_set.fingerprint != bundle.feature_set_fingerprint:
        return (
            f"{bundle.version} was made for features {bundle.feature_set_fingerprint[:12]}, the program has "
            f"{feature_set.fingerprint[:12]}: train {bundle.task} again"
        )
    return feature_set


def load_champion(
    store: Store, task_name: str, home_models: Path, registry_factory: Callable[[], Registry]
) -> ModelBundle:
    """Return the model in charge of a task, verified; MLflow is asked only if it is not in the folder.

    Raises NoChampionError, or DamagedModelError if the bytes are not those that were promoted, here or in
    MLflow.
    """
    with store.reading() as session:
        promotion = find_champion(session, task_name)
        session.expunge_all()
    if promotion is None:
        raise NoChampionError(task_name)
    return read_kept(promotion, home_models, registry_factory)
