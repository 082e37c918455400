"""A small business with known chances, and a registry to train it into."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crm_core.bulk import Update
from crm_core.changes import Source
from crm_core.clock import FixedClock, micros
from crm_core.packing import unpack_json
from crm_core.records import Lead
from crm_core.store import Store, Transaction
from crm_core.writing_back import PredictionColumns
from features.feature_set import feature_set_for
from models.building import build_bundle, gather
from models.bundle import ModelBundle, load_bundle
from models.fitting import Recipe, Rung
from models.lead_scoring import TASK
from models.questions import ask, first_instant
from models.registry import Registry
from models.selection import Choice, choose_recipe
from tests.conftest import tracking_template

__all__ = ["tracking_template"]
"""It is every test's; some have it from here."""

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
DAYS = 400

CHANCES = {"referral": 0.45, "web": 0.15, "list": 0.03}
"""True chance of a lead's conversion within 60 days, by its source; afterwards nothing happens."""


PLAIN = Recipe(rung=Rung.LOGISTIC, penalty=30.0)
"""A recipe of a model that comes out in no time."""


@dataclass(frozen=True, kw_only=True)
class Business:
    """A store, the ids of its leads, and the source of each."""

    store: Store
    ids: list[int]
    sources: list[str]


def start_business(store: Store, *, leads: int = 1500, seed: int = 3, **custom: Any) -> Business:
    """Fill a store with leads over some 400 days and convert them by CHANCES, at even times within 60 days.

    `custom` are functions from (random, converted) to a value, by the name of a custom field declared before.
    """
    random = np.random.default_rng(seed)
    born = [NOW - timedelta(days=float(days)) for days in np.sort(random.uniform(0, DAYS, leads))[::-1]]
    sources = random.choice(list(CHANCES), leads).tolist()
    wins = [random.random() < CHANCES[source] for source in sources]
    converted = [
        when + timedelta(days=float(random.uniform(0, 60))) if win else None
        for when, win in zip(born, wins, strict=True)
    ]
    rows = [
        {
            "company": f"Company {number}",
            "source": source,
            "region": str(random.choice(["north", "south"])),
            "custom": {name: make(random, win) for name, make in custom.items()} or None,
            "occurred_at": when,
            "recorded_at": when,
        }
        for number, (source, when, win) in enumerate(zip(sources, born, wins, strict=True))
    ]
    with store.transaction(source=Source.IMPORT) as transaction:
        ids = transaction.create_many(Lead, rows)
        convert(transaction, ids, [when if when is not None and when <= NOW else None for when in converted])
    return Business(store=store, ids=ids, sources=sources)


def convert(transaction: Transaction, ids: Sequence[int], converted: Sequence[datetime | None]) -> None:
    """Convert leads, each when it says; None leaves one open."""
    updates = [
        Update(
            record_id=record_id,
            values={"status": "converted", "converted_at": when},
            occurred_at=when,
            recorded_at=when,
        )
        for record_id, when in zip(ids, converted, strict=True)
        if when is not None
    ]
    transaction.update_many(Lead, updates)


def choose_nothing(patch: pytest.MonkeyPatch) -> None:
    """Have every model made by one recipe: choosing is most of a training, and other tests look at it."""

    def chosen(*given: Any, only: Recipe | None = None, **options: Any) -> Choice:
        return choose_recipe(*given, only=only or PLAIN, **options)

    patch.setattr("models.building.choose_recipe", chosen)


def copy_store(store: Store, path: Path) -> Store:
    """Return a store on a copy of a SQLite database, with the clock at NOW."""
    with (
        closing(sqlite3.connect(store.engine.url.database or "")) as source,
        closing(sqlite3.connect(path)) as copy,
    ):
        source.backup(copy)
    return Store(f"sqlite:///{path}", clock=FixedClock(NOW))


def open_registry(home: Path, template: Path) -> Registry:
    """Return a registry of its own in `home`."""
    shutil.copy(template, home / "mlflow.db")
    return Registry(f"sqlite:///{home / 'mlflow.db'}", home / "mlartifacts")


@pytest.fixture
def registry(home: Path, tracking_template: Path) -> Registry:
    """An empty registry."""
    return open_registry(home, tracking_template)


@pytest.fixture(scope="session")
def business(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Iterator[Business]:
    """The small business, to be looked at and not changed."""
    path = tmp_path_factory.mktemp("business") / "crm.db"
    shutil.copy(empty_database, path)
    store = Store(f"sqlite:///{path}", clock=FixedClock(NOW))
    yield start_business(store)
    store.close()


@pytest.fixture
def copied(business: Business, tmp_path: Path) -> Iterator[Store]:
    """A copy of the business, to be changed."""
    store = copy_store(business.store, tmp_path / "copy.db")
    yield store
    store.close()


@pytest.fixture(scope="session")
def bundle(business: Business) -> ModelBundle:
    """A model of the business as of now."""
    store = business.store
    features = feature_set_for(store, TASK.name)
    questions = ask(store, TASK, features, TASK.ask, start=first_instant(store, TASK), until=NOW)
    made = build_bundle(gather(questions, store, features, micros(NOW))).bundle
    return load_bundle(made.to_bytes(), made.sha256, version="lead_scoring-1-00000000")


def unpacked(columns: PredictionColumns) -> dict[str, list[Any]]:
    """Return columns with the text of their reasons, which may be packed in either form."""
    return columns.lists() | {"reasons": [unpack_json(told or b"") for told in columns.reasons]}
