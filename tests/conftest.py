"""What every test may ask for: a migrated store of its own, and a clock that stands still."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from crm_core import migrations
from crm_core.clock import FixedClock
from crm_core.store import Store

MONDAY = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


@pytest.fixture
def clock() -> FixedClock:
    """A clock at nine on a Monday."""
    return FixedClock(MONDAY)


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated database without records, to be copied."""
    path = tmp_path_factory.mktemp("template") / "crm.db"
    migrations.upgrade(f"sqlite:///{path}")
    return path


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An empty home folder."""
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


@pytest.fixture
def store(home: Path, empty_database: Path, clock: FixedClock) -> Iterator[Store]:
    """An empty store in `home`, on the fixed clock."""
    shutil.copy(empty_database, home / "crm.db")
    opened = Store(f"sqlite:///{home / 'crm.db'}", clock=clock)
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with the public data sets; the test is skipped where it is absent."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("CRM_REAL_DATA", beside))
    if not (folder / "olist").is_dir():
        pytest.skip(f"public data sets are not in {folder}; set CRM_REAL_DATA to their folder")
    return folder
