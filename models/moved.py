"""Why a probability is another than before: how much time, what was learned, and the model each moved it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from crm_core.clock import micros
from crm_core.store import Store
from features.blocks import columns_from
from features.cohort import Cohort
from features.feature_set import check_usable
from features.frame import frame_of
from features.known_by import known_by
from features.population import read_all
from models.bundle import ModelBundle
from models.questions import asked_of
from models.scoring import features_of
from models.tasks import get_task

if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass(frozen=True, kw_only=True)
class Question:
    """A record, and the two instants between which its probability moved."""

    record_id: int
    before: datetime
    after: datetime


@dataclass(frozen=True, kw_only=True)
class Moved:
    """What the model of before says of the same record later.

    `by_time`: with nothing learned since; `by_data`: with all that was learned. None where it gives no
    probability.
    """

    by_time: float | None
    by_data: float | None


def ask_model_of_before(store: Store, bundle: ModelBundle, question: Question) -> Moved:
    """Ask the model of an earlier prediction about the later instant, without and with what came since.

    Time rule: both ask from `after`; the first sees only what was known at `before`, see `features.known_by`.

    Raises FeatureSetMismatchError where the store has not the features of the model any more.
    """
    feature_set = features_of(store, bundle)
    cohort = Cohort.single(bundle.record_type, question.record_id, question.after)
    with store.reading() as session:
        check_usable(session, feature_set)
        tables = read_all(session, feature_set.plan, cohort.ids)
    found = []
    for each in (known_by(tables, micros(question.before)), tables):
        frame = frame_of(columns_from(each, cohort, feature_set), feature_set, 1)
        found.append(_probability(bundle, cohort, frame))
    return Moved(by_time=found[0], by_data=found[1])


def _probability(bundle: ModelBundle, cohort: Cohort, frame: DataFrame) -> float | None:
    task = get_task(bundle.task).of_variant(bundle.variant)
    cohort, frame = asked_of(task, cohort, frame)
    if len(cohort) == 0 or not bundle.says_probability or bundle.familiar.unlike(frame)[0]:
        return None
    return float(bundle.predict(frame).probability[0])
