"""The only way from the service to the models; everything heavy is imported when it is first needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from crm_core.predictions import NewPrediction
from crm_core.promotions import Promotion
from crm_core.store import Store
from serving.champions import LoadScorer, Scorer
from serving.home import Home

if TYPE_CHECKING:
    from models.bundle import ModelBundle
    from models.registry import Registry


@dataclass(frozen=True, kw_only=True)
class BundleScorer:
    """A champion's model, ready to score."""

    bundle: ModelBundle

    @property
    def model_version(self) -> str:
        """Its name in the registry."""
        return self.bundle.version

    @property
    def horizon_days(self) -> int:
        """How far ahead its probability looks."""
        return self.bundle.horizon_days

    def score(self, store: Store, ids: Sequence[int], as_of: datetime) -> list[NewPrediction]:
        """Return its predictions for the records that the task is asked of."""
        from models.scoring import score_records

        return score_records(store, self.bundle, ids, as_of)


def open_registry(home: Home) -> Registry:
    """Return the registry of models; this is what imports MLflow."""
    from models.registry import Registry

    return Registry(home.tracking_uri, str(home.artifacts))


def scorer_loader(home: Home, store: Store) -> LoadScorer:
    """Return what loads the model of a promotion, from the home folder or from where it is tracked."""

    def load(task: str, _promotion: Promotion) -> Scorer:
        from models.scoring import load_champion

        return BundleScorer(bundle=load_champion(store, task, home.models, lambda: open_registry(home)))

    return load


def prepare_tracking(folder: str, tracking_uri: str) -> None:
    """Make MLflow's database if it is not there."""
    open_registry(Home.at(Path(folder), tracking_uri=tracking_uri)).prepare()
