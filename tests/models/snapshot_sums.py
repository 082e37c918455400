"""Print the sums of models of one snapshot: run in processes that differ in all but the data."""

from __future__ import annotations

import json
import sys
from datetime import timedelta

import numpy as np

from crm_core.clock import FixedClock, micros
from crm_core.store import Store
from features.feature_set import feature_set_for
from models.building import build_bundle, gather
from models.bundle import Calibration
from models.calibration import fit_isotonic
from models.fitting import Recipe, Rung
from models.hazard import Exposure, expit
from models.lead_scoring import TASK
from models.questions import ask, first_instant
from tests.models.conftest import NOW

RECIPES = {
    "scorecard": Recipe(rung=Rung.SCORECARD),
    "logistic": Recipe(rung=Rung.LOGISTIC, penalty=10.0, expert=True),
    "full trees": Recipe(rung=Rung.FULL_TREES, rounds=15),
    "chosen": None,
}


def sums_of(url: str) -> dict[str, str]:
    """Return the SHA-256 of a model by each recipe, of the store at an address, and of steps."""
    store = Store(url, clock=FixedClock(NOW))
    features = feature_set_for(store, TASK.name)
    as_of = NOW - timedelta(days=150)
    asked = ask(store, TASK, features, TASK.ask, start=first_instant(store, TASK), until=as_of)
    material = gather(asked, store, features, micros(as_of))
    found = {name: build_bundle(material, recipe=recipe).bundle.sha256 for name, recipe in RECIPES.items()}
    store.close()
    return found | {"steps": json.dumps(steps().to_json())}


def steps() -> Calibration:
    """Return a correction by rising steps."""
    random = np.random.default_rng(6)
    said = random.normal(-1.5, 1, (3000, 2))
    seen = Exposure(
        at_risk=np.ones(said.shape, dtype=bool),
        event=random.random(said.shape) < expit(np.minimum(said, -1)),
        closed_at=np.zeros(said.shape, dtype=np.int64),
        weight=np.ones(len(said)),
    )
    return fit_isotonic(said, seen)


if __name__ == "__main__":
    json.dump(sums_of(sys.argv[1]), sys.stdout)
