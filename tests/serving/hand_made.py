"""A model made by hand, light enough for a process that is started to be killed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from crm_core.errors import NotEnoughDataError
from crm_core.predictions import NewPrediction, columns_of
from crm_core.store import Store
from crm_core.writing_back import PredictionColumns

if TYPE_CHECKING:
    from features.supposed import Supposed
    from models.missing_field import MissingField
    from models.next_step import Step, Steps
    from models.what_if import Hint, WhatIf


@dataclass
class HandMadeModel:
    """A model that says what it was told to say, and notes what it was asked."""

    model_version: str = "lead_scoring-1"
    horizon_days: int = 90
    probability: Callable[[int], float | None] = lambda record_id: 0.5
    asked: list[tuple[tuple[int, ...], datetime]] = field(default_factory=list)
    hints: tuple[Hint, ...] = ()
    supposed: list[Supposed] = field(default_factory=list)
    missing: tuple[MissingField, ...] = ()
    steps: tuple[Step, ...] = ()

    def score(self, store: Store, ids: Sequence[int], as_of: datetime) -> list[NewPrediction]:
        self.asked.append((tuple(ids), as_of))
        return [prediction(record_id, self.probability(record_id)) for record_id in ids]

    def score_many(self, store: Store, ids: Sequence[int], as_of: datetime) -> PredictionColumns:
        return columns_of(self.score(store, ids, as_of), horizon_days=self.horizon_days)

    def score_supposed(self, store: Store, supposed: Supposed, as_of: datetime) -> NewPrediction | None:
        self.asked.append(((supposed.record_id,), as_of))
        self.supposed.append(supposed)
        return prediction(supposed.record_id, self.probability(supposed.record_id))

    def what_would_change(self, store: Store, record_id: int, as_of: datetime) -> WhatIf:
        from models.what_if import WhatIf

        self.asked.append(((record_id,), as_of))
        probability = self.probability(record_id)
        if probability is None:
            raise NotEnoughDataError("it is not asked of this record at present")
        return WhatIf(
            task=self.model_version.rpartition("-")[0],
            horizon_days=self.horizon_days,
            high_is_good=not self.model_version.startswith("churn"),
            probability=probability,
            hints=self.hints,
        )

    def what_is_missing(self, store: Store, record_id: int, as_of: datetime) -> tuple[MissingField, ...]:
        return self.missing

    def measure_steps(self, store: Store, now: datetime) -> Steps:
        from models.next_step import Steps

        good = not self.model_version.startswith("churn")
        return Steps(found={"": self.steps}, horizon_days=self.horizon_days, high_is_good=good, by=None)


def prediction(record_id: int, probability: float | None) -> NewPrediction:
    """A prediction with one reason."""
    score = None if probability is None else round(probability * 100)
    reasons: list[dict[str, Any]] = [
        {
            "group": "base",
            "feature": "base",
            "value": None,
            "log_odds": -2.0,
            "en": "an average lead",
            "zh": "平均线索",
        },
        {
            "group": "contact",
            "feature": "calls_count_30d",
            "value": 2,
            "log_odds": 1.5,
            "en": "2 calls in the last 30 days",
            "zh": "近 30 天通话 2 次",
        },
    ]
    return NewPrediction(
        record_id=record_id,
        probability=probability,
        score=score,
        grade=None if probability is None else "ABCD"[min(3, int((1 - probability) * 4))],
        reasons=[] if probability is None else reasons,
    )
