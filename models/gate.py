"""Whether a new model may replace the one that serves: compared on rows that neither has learned from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from crm_core.errors import ModelError
from crm_core.store import Store
from models.bundle import ModelBundle
from models.evaluation import Estimate, Judged, compare_losses, loss_of
from models.hazard import Bools, Floats
from models.questions import Questions, answers
from models.scoring import features_of

FEWEST_OUTCOMES = 20
"""Outcomes that neither model knew, below which nothing is decided."""

NEGLIGIBLE = 0.01
"""Share of the champion's loss that a challenger may be worse by even if that is no noise."""


@dataclass(frozen=True, kw_only=True)
class GateResult:
    """Whether the challenger may serve, why, and how much lower its log loss was (None: not compared)."""

    passed: bool
    reason: str
    questions: int = 0
    outcomes: int = 0
    gain: Estimate | None = None

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "passed": self.passed,
            "reason": self.reason,
            "questions": self.questions,
            "outcomes": self.outcomes,
            "gain": None if self.gain is None else self.gain.to_json(),
        }


def compare_models(
    store: Store, challenger: ModelBundle, champion: ModelBundle, judged: Questions
) -> GateResult:
    """Compare two models on questions asked after one, and answered after the other, was made.

    The challenger passes unless it is worse by more than noise and by more than is negligible.
    """
    try:
        features_of(store, champion)
    except ModelError as error:
        return GateResult(passed=True, reason=f"the champion cannot serve any more: {error}")
    days = min(challenger.horizon_days, champion.horizon_days)
    answer = answers(store, judged, days)
    rows = answer.over & _not_known(store, judged, champion, days)
    outcomes = int(answer.happened[rows].sum())
    if min(outcomes, int(rows.sum()) - outcomes) < FEWEST_OUTCOMES:
        return GateResult(
            passed=False,
            reason=f"only {outcomes} outcomes that neither model knew; {FEWEST_OUTCOMES} are needed",
            questions=int(rows.sum()),
            outcomes=outcomes,
        )
    asked = judged.take(rows)
    seen = Judged(happened=answer.happened[rows], entity=asked.account)
    losses = _losses(champion, asked, seen, days)
    gain = compare_losses(losses, _losses(challenger, asked, seen, days), seen.entity)
    passed = gain.high >= 0 or gain.value > -NEGLIGIBLE * float(losses.mean())
    reason = "no worse than the champion" if passed else "worse than the champion by more than noise"
    return GateResult(passed=passed, reason=reason, questions=len(asked), outcomes=outcomes, gain=gain)


def _not_known(store: Store, judged: Questions, champion: ModelBundle, days: int) -> Bools:
    """Return which questions had no answer yet when the champion was made."""
    return ~answers(store, judged, days, known_at=champion.trained["as_of"]).over


def _losses(bundle: ModelBundle, asked: Questions, seen: Judged, days: int) -> Floats:
    return loss_of(bundle.predict(asked.frame[list(bundle.features)]).within[days], seen.happened)
