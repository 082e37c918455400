"""The only way from the service to the models; everything heavy is imported when it is first needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from crm_core.errors import DamagedModelError
from crm_core.predictions import NewPrediction
from crm_core.promotions import Challenger, Promotion
from crm_core.store import Store
from serving.champions import RECORD_TYPE_OF, LoadScorer, Scorer
from serving.home import Home
from serving.shadowing import LoadChallenger

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from crm_core.arrays import Arrays, Keyed
    from crm_core.writing_back import PredictionColumns
    from features.feature_set import FeatureSet
    from features.supposed import Supposed
    from models.bulk_scoring import Answering
    from models.bundle import ModelBundle
    from models.missing_field import MissingField
    from models.next_step import Steps
    from models.registry import Registry
    from models.what_if import WhatIf


@dataclass(frozen=True, kw_only=True)
class BundleScorer:
    """A champion's model, ready to score."""

    bundle: ModelBundle
    _answering: list[Answering] = field(default_factory=list, repr=False, compare=False)
    """What answers for many, once it was asked: it remembers the words of reasons."""

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

    def reads_at_once(self, store: Store) -> bool:
        """Tell whether that is nearly always all."""
        from features.reading import is_read_at_once
        from models.scoring import features_of

        return is_read_at_once(features_of(store, self.bundle).plan)

    def read_ahead(
        self, store: Store, session: Session, record_id: int, also: Sequence[Keyed]
    ) -> list[Arrays]:
        """Read what scoring a record will read; return the answers to what is asked `also` in the same go."""
        import numpy as np

        from features.population import populations_ahead
        from features.reading import read_tables_ahead
        from features.worth import yearly_values_ahead
        from models.scoring import features_of

        plan = features_of(store, self.bundle).plan
        worth = yearly_values_ahead() if self.bundle.record_type == "account" else ()
        ids = np.array([record_id], dtype=np.int64)
        also = [*also, *populations_ahead(session, plan)]
        return read_tables_ahead(session, plan, ids, also, worth)

    def score_many(self, store: Store, ids: Sequence[int], as_of: datetime) -> PredictionColumns:
        """Return the same by record, as columns in stored form."""
        from models.bulk_scoring import Answering
        from models.scoring import features_of

        features = features_of(store, self.bundle)
        known = [each for each in self._answering if each.store is store and each.feature_set == features]
        if not known:
            self._answering[:] = known = [Answering.of(store, self.bundle)]
        return known[0].score(ids, as_of)

    def score_supposed(self, store: Store, supposed: Supposed, as_of: datetime) -> NewPrediction | None:
        """Return what a record that does not exist would get; nothing is written."""
        from models.scoring import score_supposed

        return score_supposed(store, self.bundle, supposed, as_of)

    def what_would_change(self, store: Store, record_id: int, as_of: datetime) -> WhatIf:
        """Return what goes with another score of a record; nothing is written."""
        from models.what_if import what_would_change

        return what_would_change(store, self.bundle, record_id, as_of)

    def what_is_missing(self, store: Store, record_id: int, as_of: datetime) -> tuple[MissingField, ...]:
        """Return the empty fields of a record that would sharpen its score; nothing is written."""
        from models.missing_field import find_missing

        return find_missing(store, self.bundle, record_id, as_of)

    def measure_steps(self, store: Store, now: datetime) -> Steps:
        """Return which steps went with better ends among records that stood alike, as known at `now`."""
        from models.next_step import measure_steps

        return measure_steps(store, self.bundle, now)


def open_registry(home: Home) -> Registry:
    """Return the registry of models; using it imports MLflow."""
    from models.registry import Registry

    return Registry(home.tracking_uri, home.artifacts, home.models)


def load_bundle_of(home: Home, store: Store, task: str) -> ModelBundle:
    """Return the model in charge of a task, if its bytes and its features are those it was promoted with."""
    from models.scoring import features_of, load_champion

    bundle = load_champion(store, task, home.models, lambda: open_registry(home))
    features_of(store, bundle)
    return bundle


def scorer_loader(home: Home, store: Store) -> LoadScorer:
    """Return what loads the model of a promotion, from the home folder or from where it is tracked.

    With it come the loops that features and reasons are made of, so that the first score waits for nothing.
    """

    def load(_task: str, promotion: Promotion) -> Scorer:
        from features import compiled
        from models import contributions
        from models.kept import read_kept
        from models.scoring import features_of

        compiled.warm()
        contributions.warm()
        bundle = read_kept(promotion, home.models, lambda: open_registry(home))
        _check_answers(bundle, features_of(store, bundle))
        return BundleScorer(bundle=bundle)

    return load


def _check_answers(bundle: ModelBundle, features: FeatureSet) -> None:
    """Raise DamagedModelError for a model that cannot answer about a record of whom nothing is known."""
    import numpy as np
    import pandas as pd

    from models.explain import explain_rows

    if bundle.record_type != RECORD_TYPE_OF.get(bundle.task):
        raise DamagedModelError(
            f"{bundle.version} answers about a {bundle.record_type!r}, not for {bundle.task}"
        )
    nothing = pd.DataFrame(
        {
            feature.name: pd.Series([None], dtype=object) if feature.unit == "category" else [np.nan]
            for feature in features.features
        }
    )
    try:
        probability = bundle.predict(nothing).probability
        explain_rows(bundle, features, nothing)
    except Exception as error:  # whatever it fails on, the model before is to go on serving
        raise DamagedModelError(f"{bundle.version} cannot answer: {type(error).__name__}: {error}") from error
    if not ((probability > 0) & (probability < 1)).all():
        raise DamagedModelError(f"{bundle.version} answers {probability[0]!r}, which is no probability")


def challenger_loader(home: Home) -> LoadChallenger:
    """Return what loads a challenger, verified, from the home folder or from where it is tracked."""

    def load(challenger: Challenger) -> Scorer:
        from models.kept import read_kept

        bundle = read_kept(challenger, home.models, lambda: open_registry(home))
        return BundleScorer(bundle=bundle)

    return load


def prepare_tracking(folder: str, tracking_uri: str) -> None:
    """Make MLflow's database if it is not there."""
    open_registry(Home.at(Path(folder), tracking_uri=tracking_uri)).prepare()
