"""Training, scoring and backtesting from the command line: progress while they run, reports at their end."""

from __future__ import annotations

import json
import time
from datetime import datetime
from typing import Any

from crm_core.changes import Source, newest_sequence
from crm_core.store import Store
from serving.champions import Champions
from serving.console import stage
from serving.home import Home
from serving.modelling import open_registry, scorer_loader
from serving.rescoring import note_full_scoring


def train_task(home: Home, store: Store, task: str, *, as_of: datetime | None = None) -> dict[str, Any]:
    """Train, judge and register a model of a task; return the report."""
    from models.simulation import load_truth
    from models.tasks import get_task
    from models.training import train

    with stage(f"training {task}") as update:
        report = train(
            store,
            get_task(task),
            as_of=as_of,
            registry=open_registry(home),
            truth=load_truth(home.truth),
            promote=True,
            progress=update,
        )
    told: dict[str, Any] = report.to_json()
    return told


def score_task(home: Home, store: Store, task: str) -> dict[str, Any]:
    """Score every open record of a task with its champion, and note that this was done."""
    from models.scoring import score_all

    began = time.perf_counter()
    scorer = Champions(store, scorer_loader(home, store)).get(task).scorer
    with store.reading() as session:
        position, as_of = newest_sequence(session), store.clock.now()
    with stage(f"scoring {task}") as update:
        scored = score_all(store, scorer.bundle, as_of, progress=update)
    with store.transaction(source=Source.MODEL) as transaction:
        note_full_scoring(transaction, task, as_of=as_of, position=position)
    return {
        "task": task,
        "model_version": scorer.model_version,
        "as_of": as_of.isoformat(),
        "scored": scored,
        "seconds": round(time.perf_counter() - began, 2),
    }
