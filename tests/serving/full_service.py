"""A service on a store that holds every record type with every field filled, and a model for every task."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from flask_openapi.openapi import OpenAPI

from crm_core.clock import FixedClock
from crm_core.promotions import Promotion
from crm_core.store import Store
from serving.app import create_app
from serving.champions import RECORD_TYPE_OF, Champions
from serving.settings import Settings
from tests.conftest import MONDAY
from tests.filled import Filler
from tests.serving.conftest import Cast, make_cast
from tests.serving.hand_made import HandMadeModel


@dataclass(frozen=True, kw_only=True)
class FullService:
    """The service, its store, and who works there."""

    app: OpenAPI
    store: Store
    cast: Cast


@contextmanager
def full_service(home: Path, empty_database: Path, password_hash: str) -> Iterator[FullService]:
    """Fill a store in `home` and give the service on it."""
    shutil.copy(empty_database, home / "crm.db")
    clock = FixedClock(MONDAY)
    store = Store(f"sqlite:///{home / 'crm.db'}", clock=clock)
    cast = make_cast(store, password_hash)
    Filler(store, seed=1).fill()
    with store.transaction() as transaction:
        for task in RECORD_TYPE_OF:
            transaction.session.add(
                Promotion(
                    task=task,
                    model_version=f"{task}-1",
                    sha256="0" * 64,
                    run_id="hand",
                    promoted_at=transaction.now,
                    reason="made by hand",
                )
            )
    clock.advance(timedelta(days=1))
    champions = Champions(store, lambda task, promotion: HandMadeModel(model_version=promotion.model_version))
    settings = Settings(home=home, api_rate=0, anonymous_rate=0, login_rate=0)
    yield FullService(app=create_app(settings, store, champions), store=store, cast=cast)
    store.close()
