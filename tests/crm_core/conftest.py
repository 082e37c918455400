"""The record store's own tests run on both databases."""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from crm_core import migrations
from crm_core.clock import FixedClock
from crm_core.store import Store
from tests import postgres

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A PostgreSQL server with a migrated database called `template_crm`."""
    # Not below pytest's own folder: PostgreSQL's user must be able to enter every folder above.
    folder = Path(tempfile.mkdtemp(prefix="crm-postgres-"))
    try:
        with postgres.server(folder) as url:
            execute(url, "CREATE DATABASE template_crm")
            migrations.upgrade(f"{url}/template_crm")
            yield url
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def execute(url: str, statement: str) -> None:
    """Run one statement outside of any transaction, as creating databases asks for."""
    engine = create_engine(f"{url}/postgres", isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(statement))
    engine.dispose()


@pytest.fixture
def postgres_database(postgres_url: str) -> str:
    """The URL of an empty, migrated PostgreSQL database."""
    name = f"crm_{next(_numbers)}"
    execute(postgres_url, f"CREATE DATABASE {name} TEMPLATE template_crm")
    return f"{postgres_url}/{name}"


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database without any table, once of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'empty.db'}"
    url, name = request.getfixturevalue("postgres_url"), f"empty_{next(_numbers)}"
    execute(url, f"CREATE DATABASE {name}")
    return f"{url}/{name}"


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
