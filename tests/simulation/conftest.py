"""One small company, written once, and a medium one in memory, for all tests that only look at them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from crm_core.clock import FixedClock, micros
from crm_core.store import Store
from models.simulation import Truth, simulate_company
from models.simulation.company import Company, imagine_company

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
END = micros(datetime(2026, 3, 2, tzinfo=UTC))


@dataclass(frozen=True, kw_only=True)
class Written:
    """A company in a store, and the truth about it."""

    store: Store
    truth: Truth


@dataclass(frozen=True, kw_only=True)
class Imagined:
    """A company in memory, and the truth about it; ids are positions plus one."""

    company: Company
    truth: Truth


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Iterator[Written]:
    """A small company in a store."""
    path = tmp_path_factory.mktemp("simulation") / "crm.db"
    shutil.copy(empty_database, path)
    store = Store(f"sqlite:///{path}", clock=FixedClock(NOW))
    yield Written(store=store, truth=simulate_company(store, size="small", seed=7))
    store.close()


@pytest.fixture(scope="session")
def imagined() -> Imagined:
    """A medium company in memory."""
    company = imagine_company(size="medium", seed=7, end=END)
    ids = {name: np.arange(1, len(table) + 1) for name, table in company.tables.items()}
    return Imagined(company=company, truth=company.truth(ids))
