"""What every test may ask for: a migrated store of its own, and a clock that stands still."""

from __future__ import annotations

import fcntl
import gc
import itertools
import os
import pickle
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Dialect, Engine, create_engine, event
from sqlalchemy.util import LRUCache

from crm_core import database, migrations
from crm_core.clock import FixedClock
from crm_core.importing import ImportReport, load_mapping, run_import
from crm_core.store import Store
from tests import postgres

MONDAY = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
_numbers = itertools.count(1)


THOROUGH = bool(os.environ.get("CRM_THOROUGH"))
"""Whether tests that try much at random, or for long, are to try all of it."""


def so_many(full: int, usual: int) -> int:
    """Return how much to try: `full` where CRM_THOROUGH is set, else `usual`."""
    return full if THOROUGH else usual


LONGEST = (
    "tests/serving/test_conformance.py",
    "tests/serving/test_every_page.py",
    "tests/serving/test_story.py",
    "tests/crm_core/test_random_histories.py",
    "tests/models/test_training.py",
    "tests/serving/test_browser.py",
    "tests/serving/test_once.py",
    "tests/test_erasing_a_home.py",
    "tests/test_notebooks.py",
    "tests/test_walk.py",
    "tests/serving/test_access.py",
    "tests/crm_core/test_personal.py",
    "tests/serving/test_jobs.py",
    "tests/serving/test_demo.py",
    "tests/models/test_olist.py",
    "tests/crm_core/test_many_writers.py",
    "tests/serving/test_page_access.py",
    "tests/simulation/test_forecast.py",
    "tests/features/test_every_feature.py",
    "tests/importing/test_real_data.py",
    "tests/models/test_simulated.py",
)
"""Where to begin, longest first: no core is to wait for another one at the end."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session: pytest.Session) -> None:
    """Have each process of a run that takes all tests begin to import elsewhere.

    Rewriting their asserts is half of collecting: what one process has rewritten, others find on the disk.
    """
    folder = Path(__file__).parent
    if "PYTEST_XDIST_WORKER" not in os.environ or session.config.args != session.config.getini("testpaths"):
        return
    files = sorted(folder.rglob("test_*.py"))
    number, count = os.environ["PYTEST_XDIST_WORKER"][2:], os.environ["PYTEST_XDIST_WORKER_COUNT"]
    begin = len(files) * int(number) // int(count)
    # What cannot be imported is told when it is collected.
    with suppress(Exception):
        for path in files[begin:] + files[:begin]:
            import_module(".".join(path.relative_to(folder.parent).with_suffix("").parts))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first; `make test` gives each process a whole file at a time."""
    places = {path: place for place, path in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.nodeid.split("::")[0], len(places)))


def pytest_collection_finish() -> None:
    """Leave what was imported out of every look for garbage: that took a third of the time of tests."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 100)


@pytest.fixture(scope="session", autouse=True)
def pragmas() -> Iterator[tuple[str, ...]]:
    """What SQLite is told outside of tests; here it does not wait for the disk.

    What would be lost with the machine's power is lost with the tests' folder anyway: a process that is
    killed loses nothing by it.
    """
    told = database._PRAGMAS
    with pytest.MonkeyPatch.context() as patch:
        quick = (each.replace("synchronous = FULL", "synchronous = OFF") for each in told)
        patch.setattr(database, "_PRAGMAS", tuple(quick))
        yield told


@pytest.fixture(scope="session", autouse=True)
def quick_statements() -> Iterator[None]:
    """Write every statement as SQL once: all engines of a database share what was written.

    An engine keeps it by its dialect, so that they share the first one that was connected as well.
    """
    written: LRUCache[Any, Any] = LRUCache(2_000)
    dialects: dict[str, Dialect] = {}

    def make_alike(url: str, **given: Any) -> Engine:
        engine = create_engine(url, **given)
        engine._compiled_cache = written
        name = engine.url.drivername
        if name in dialects:
            engine.dialect = dialects[name]
        else:
            own = engine.dialect
            event.listen(engine, "connect", lambda *_: dialects.setdefault(name, own), once=True)
        return engine

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(database, "create_engine", make_alike)
        yield


@pytest.fixture
def clock() -> FixedClock:
    """A clock at nine on a Monday."""
    return FixedClock(MONDAY)


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """Return a folder that is filled once for all processes of a run."""
    own = factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / name
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "made").exists():
            make(folder)
            (folder / "made").touch()
    return folder


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated database without records, to be copied."""

    def make(folder: Path) -> None:
        migrations.upgrade(f"sqlite:///{folder / 'crm.db'}")

    return made_once(tmp_path_factory, "template", make) / "crm.db"


@pytest.fixture(scope="session")
def olist_imported(
    real_data: Path, empty_database: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, ImportReport]:
    """A database with the whole of Olist, which takes long, to be copied, and the report on its import."""

    def make(folder: Path) -> None:
        shutil.copy(empty_database, folder / "crm.db")
        store = Store(f"sqlite:///{folder / 'crm.db'}", clock=FixedClock(MONDAY))
        report = run_import(store, load_mapping("olist"), real_data / "olist")
        store.close()
        (folder / "report").write_bytes(pickle.dumps(report))

    folder = made_once(tmp_path_factory, "olist", make)
    return folder / "crm.db", pickle.loads((folder / "report").read_bytes())  # noqa: S301  our own


@pytest.fixture(scope="session")
def tracking_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty MLflow database, which takes seconds to make, to be copied."""
    from models.registry import Registry

    def make(folder: Path) -> None:
        Registry(f"sqlite:///{folder / 'mlflow.db'}", folder / "mlartifacts").prepare()

    return made_once(tmp_path_factory, "tracking", make) / "mlflow.db"


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
def postgres_url() -> Iterator[str]:
    """The one PostgreSQL server of this run, with a migrated database called `template_crm`.

    Only here: pytest starts another server for every module that imports this fixture.
    """
    # Not below pytest's own folder: PostgreSQL's user must be able to enter every folder above.
    folder = Path(tempfile.mkdtemp(prefix="crm-postgres-"))
    try:
        with postgres.server(folder, **postgres.QUICK) as url:
            postgres.execute(url, "CREATE DATABASE template_crm")
            migrations.upgrade(f"{url}/template_crm")
            yield url
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def make_postgres_database(url: str, template: str = "template_crm") -> str:
    """Return the URL of a new database on this server, migrated unless told otherwise."""
    name = f"crm_{next(_numbers)}"
    postgres.execute(url, f"CREATE DATABASE {name} TEMPLATE {template}")
    return f"{url}/{name}"


@pytest.fixture(scope="session")
def postgres_databases(postgres_url: str) -> Iterator[postgres.Databases]:
    """Empty, migrated PostgreSQL databases."""
    databases = postgres.Databases(server=postgres_url, template="template_crm")
    yield databases
    databases.close()


@pytest.fixture
def postgres_database(postgres_databases: postgres.Databases) -> Iterator[str]:
    """The URL of an empty, migrated PostgreSQL database."""
    with postgres_databases.lend() as url:
        yield url


@pytest.fixture
def empty_postgres(postgres_url: str) -> str:
    """The URL of a PostgreSQL database without any table."""
    return make_postgres_database(postgres_url, "template1")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with the public data sets; the test is skipped where it is absent."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("CRM_REAL_DATA", beside))
    if not (folder / "olist").is_dir():
        pytest.skip(f"public data sets are not in {folder}; set CRM_REAL_DATA to their folder")
    return folder
