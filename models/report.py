"""What a training has to say for itself."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from crm_core.clock import instant
from crm_core.errors import NotEnoughDataError
from models.bundle import ModelBundle
from models.evaluation import Estimate
from models.gate import GateResult
from models.guard import Suspicion
from models.judging import HorizonJudgement, Judgement
from models.selection import Choice
from models.task import Task


@dataclass(frozen=True, kw_only=True)
class TrainingReport:
    """A training: of what, on what, what was chosen, how right it was, and what became of it.

    `judgement` is None where no later outcomes were known, and `not_judged` says so. `registered` has
    version, run_id and sha256. `overruled` are features that the guard suspected and somebody let through
    by name.
    """

    task: Task
    bundle: ModelBundle
    choice: Choice
    judgement: Judgement | None
    not_judged: str | None
    suspicions: tuple[Suspicion, ...]
    overruled: tuple[str, ...]
    gate: GateResult
    promoted: bool
    registered: Mapping[str, Any]
    seconds: Mapping[str, float]
    overruled_by: str | None = None

    @property
    def judged(self) -> Judgement:
        """Return the judgement; raise NotEnoughDataError where there is none."""
        if self.judgement is None:
            raise NotEnoughDataError(self.not_judged or "not judged")
        return self.judgement

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain data."""
        trained = self.bundle.trained
        return {
            "task": self.task.name,
            "variant": self.task.variant or None,
            "outcome": self.task.outcome_en,
            "horizon_days": self.bundle.horizon_days,
            "horizons_days": list(self.bundle.horizons_days),
            "not_reported": {str(days): count for days, count in self.bundle.not_reported.items()},
            "as_of": instant(trained["as_of"]).isoformat(),
            **self.registered,
            "no_time_order": self.task.no_time_order,
            "promoted": self.promoted,
            "estimator": str(self.choice.recipe.rung),
            "says_probability": self.bundle.says_probability,
            "minimum": self.bundle.minimum,
            "scorecard": trained.get("scorecard"),
            "training": {
                "questions": trained["questions"],
                "outcomes": trained["outcomes"],
                "without_outcome": trained["without_outcome"],
                "data_sha256": trained["data"],
                "features": len(self.bundle.features),
                "columns": len(self.bundle.encoder.columns),
                "feature_set": self.bundle.feature_set_fingerprint,
                "feature_names": list(self.bundle.features),
            },
            "selection": self.choice.to_json(),
            "calibration": self.bundle.calibration.to_json() | {"method": self.bundle.calibration.method},
            "judged": None if self.judgement is None else self.judgement.to_json(),
            "not_judged": self.not_judged,
            "guard": {
                "suspicions": [suspicion.to_json() for suspicion in self.suspicions],
                "overruled": list(self.overruled),
                "overruled_by": self.overruled_by,
            },
            "gate": self.gate.to_json(),
            "seconds": dict(self.seconds),
        }


def flat_metrics(judgement: Judgement | None) -> dict[str, float]:
    """Return the values of all metrics by name, as MLflow charts them: `auc_90d`, `recency.auc_60d`."""
    if judgement is None:
        return {}
    found = {
        f"{'' if name == 'model' else f'{name}.'}{metric}_{horizon.horizon_days}d": estimate.value
        for horizon in judgement.horizons
        for name, metrics in (*horizon.metrics.items(), *_money_of(horizon).items())
        for metric, estimate in metrics.items()
    }
    return {name: value for name, value in found.items() if not math.isnan(value)}


def _money_of(horizon: HorizonJudgement) -> dict[str, dict[str, Estimate]]:
    """Return the metrics about money, by name of who spoke."""
    if horizon.money is None:
        return {}
    shares = {
        name: {f"money_in_top_tenth_{order}": share for order, share in found.items()}
        for name, found in horizon.money.top_tenth.items()
    }
    shares["model"]["money_came_to_expected"] = horizon.money.came_to_expected
    return shares
