"""The record store's own tests run on both databases."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from crm_core.clock import FixedClock
from crm_core.store import Store


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database without any table, once of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'empty.db'}"
    return str(request.getfixturevalue("empty_postgres"))


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, home: Path) -> str:
    """The URL of an empty, migrated database, once of each kind."""
    if request.param == "postgresql":
        return str(request.getfixturevalue("postgres_database"))
    shutil.copy(request.getfixturevalue("empty_database"), home / "crm.db")
    return f"sqlite:///{home / 'crm.db'}"


@pytest.fixture
def store(database: str, clock: FixedClock) -> Iterator[Store]:
    """An empty store on the fixed clock, once on each database."""
    opened = Store(database, clock=clock)
    yield opened
    opened.close()
