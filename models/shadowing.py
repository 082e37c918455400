"""Challenger and champion on the same records: how alike they are now, and who was right once it is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from crm_core.clock import micros
from crm_core.errors import ModelNotFoundError
from crm_core.phrases import Phrase
from crm_core.promotions import find_challenger, find_champion
from crm_core.shadows import ShadowPrediction, list_shadows
from crm_core.store import Store
from features.cohort import Cohort
from features.feature_set import feature_set_for
from features.frame import build_frame
from models.evaluation import Estimate, Judged, compare_losses, loss_of, rank_correlation
from models.gate import FEWEST_OUTCOMES
from models.hazard import Floats, Ints, expose
from models.questions import accounts_of, own_days
from models.task import Task
from models.tasks import get_task


@dataclass(frozen=True, kw_only=True)
class ShadowReport:
    """What two models said of the same questions.

    `rank_correlation` is Spearman's, `mean_difference` the challenger's probability less the champion's,
    `grades_changed` the share of questions with another grade, all of each record's newest question.
    `matured` questions have an answer by now; `gain` is how much lower the challenger's log loss is on
    them, by drawing customers again; None where too few outcomes are known.
    """

    task: str
    challenger: str
    champion: str
    questions: int = 0
    records: int = 0
    first: str | None = None
    last: str | None = None
    rank_correlation: float | None = None
    mean_difference: float | None = None
    mean_distance: float | None = None
    grades_changed: float | None = None
    matured: int = 0
    outcomes: int = 0
    gain: Estimate | None = None

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {**vars(self), "gain": None if self.gain is None else self.gain.to_json()}


def compare_shadows(
    store: Store, task: str, *, challenger: str | None = None, champion: str | None = None
) -> ShadowReport:
    """Return what the challenger of a task said beside its champion; by default those of the moment.

    Time rule: both answered from the same `as_of`, and an answer counts as known once its whole horizon is
    over, whatever came. Raises ModelNotFoundError where there is nobody to compare.
    """
    with store.reading() as session:
        one, other = find_challenger(session, task), find_champion(session, task)
        challenger = challenger or (one.model_version if one else None)
        champion = champion or (other.model_version if other else None)
        if challenger is None or champion is None:
            missing = "champion" if champion is None else "challenger"
            raise ModelNotFoundError(
                Phrase(
                    "{task} has no {missing} at present: there is nothing to compare",
                    task=task,
                    missing=missing,
                )
            )
        rows = list_shadows(session, task, challenger, champion)
        session.expunge_all()
    found = ShadowReport(task=task, challenger=challenger, champion=champion)
    return _with_outcomes(store, _with_agreement(found, rows), rows) if rows else found


def _with_agreement(found: ShadowReport, rows: Sequence[ShadowPrediction]) -> ShadowReport:
    """Add how alike the two are, on the newest question of each record."""
    newest = list({row.record_id: row for row in rows}.values())
    mine, theirs = _probabilities(newest)
    return replace(
        found,
        questions=len(rows),
        records=len(newest),
        first=rows[0].as_of.isoformat(),
        last=rows[-1].as_of.isoformat(),
        rank_correlation=rank_correlation(mine, theirs),
        mean_difference=float((mine - theirs).mean()),
        mean_distance=float(np.abs(mine - theirs).mean()),
        grades_changed=float(np.mean([row.grade != row.champion_grade for row in newest])),
    )


def _probabilities(rows: Sequence[ShadowPrediction]) -> tuple[Floats, Floats]:
    return (
        np.array([row.probability for row in rows], dtype=np.float64),
        np.array([row.champion_probability for row in rows], dtype=np.float64),
    )


def _with_outcomes(store: Store, found: ShadowReport, rows: Sequence[ShadowPrediction]) -> ShadowReport:
    """Add what came of the questions whose horizon is over."""
    days = rows[0].horizon_days
    ids = np.array([row.record_id for row in rows], dtype=np.int64)
    as_of = np.array([micros(row.as_of) for row in rows], dtype=np.int64)
    cohort = Cohort.of(rows[0].record_type, ids, as_of)
    task = get_task(found.task).in_store(store)
    labels = task.labels(store, cohort, known_at=None)
    seen = expose(
        as_of=as_of,
        event_at=labels.event_at,
        known_until=np.minimum(labels.known_until, micros(store.clock.now())),
        weight=np.ones(len(rows)),
        ends_days=(days,),
        absence=task.absence,
        own_days=_own_days(store, task, cohort),
    )
    over, happened = seen.at_risk[:, 0], seen.event[:, 0]
    outcomes = int(happened[over].sum())
    matured = int(over.sum())
    gain = None
    if min(outcomes, matured - outcomes) >= FEWEST_OUTCOMES:
        judged = Judged(happened=happened, entity=accounts_of(store, cohort)).take(over)
        mine, theirs = (values[over] for values in _probabilities(rows))
        losses = loss_of(theirs, judged.happened), loss_of(mine, judged.happened)
        gain = compare_losses(*losses, judged.entity)
    return replace(found, matured=matured, outcomes=outcomes, gain=gain)


def _own_days(store: Store, task: Task, cohort: Cohort) -> Ints | None:
    """Return how far ahead each question looks, as its features tell; None where all look as far."""
    if task.own_horizon is None:
        return None
    return own_days(task, build_frame(store, cohort, feature_set_for(store, task.name)))
