"""Reading and writing activities in bulk, on both databases.

Reading: every activity's lead, instants, kind and duration, beside `pandas.read_sql` of the same SQLAlchemy
query; and, marked `stored`, beside pandas reading the integers that instants are stored as, which leaves it
less to do. Each way in a process of its own, memory above what the process held before.

Writing: activities with a short subject through the store, which checks them, reserves their ids, logs each
and makes its words findable, beside the database's own bulk path (`executemany` in one transaction on
SQLite, COPY on PostgreSQL), which is given checked rows with ids and writes the activities alone; and, marked
`logged`, beside the same path writing their change rows too. Indexes and foreign keys are the same for all.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import create_engine, inspect, text

from crm_core import migrations
from crm_core.arrays import NO_INSTANT
from crm_core.changes import Source
from crm_core.clock import FixedClock, micros
from crm_core.database import COPY_IN
from crm_core.records import Activity, Lead
from crm_core.store import Store
from tests import postgres
from tests.bench.harness import Aspect, Benchmark, Contest, SidesDisagreeError, seconds
from tests.bench.reading import Reading

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
LEADS = 1_000
TO_READ = 10_000_000
TO_WRITE = 1_000_000
SUBJECTS = ("Call about the offer", "Sent the price list", "Visited the shop page", "方达阀门 报价")

_numbers = count(1)


@contextmanager
def databases(name: str, folder: Path) -> Iterator["Databases"]:
    """Give what makes databases of one kind in an empty folder."""
    if name == "sqlite":
        yield Databases(folder)
        return
    if postgres.find_binaries() is None:
        raise FileNotFoundError("PostgreSQL is not installed: initdb was not found")
    with postgres.server(folder) as url:
        yield Databases(folder, url)


class Databases:
    """Makes databases, files in a folder or databases of a server."""

    def __init__(self, folder: Path, server: str | None = None) -> None:
        self._folder = folder
        self._server = server

    def make_empty(self) -> str:
        """Make a database without any table; return its URL."""
        name = f"bench_{next(_numbers)}"
        if self._server:
            self._run(f"CREATE DATABASE {name}")
        return f"{self._server}/{name}" if self._server else f"sqlite:///{self._folder / name}"

    def make(self, like: str | None = None) -> str:
        """Make a database, migrated and with leads or like another one; return its URL."""
        name = f"bench_{next(_numbers)}"
        url = f"{self._server}/{name}" if self._server else f"sqlite:///{self._folder / name}"
        if self._server:
            template = f" TEMPLATE {like.rpartition('/')[2]}" if like else ""
            self._run(f"CREATE DATABASE {name}{template}")
        elif like:
            shutil.copy(like.removeprefix("sqlite:///"), self._folder / name)
        if not like:
            migrations.upgrade(url)
            write_leads(url)
        return url

    def drop(self, url: str) -> None:
        """Drop a database that nobody uses any more."""
        if self._server:
            self._run(f"DROP DATABASE {url.rpartition('/')[2]}")
        else:
            Path(url.removeprefix("sqlite:///")).unlink()

    def _run(self, statement: str) -> None:
        engine = create_engine(f"{self._server}/postgres", isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(statement))
        engine.dispose()


def write_leads(url: str) -> None:
    """Write the leads that the activities belong to."""
    store = Store(url, clock=FixedClock(NOW))
    with store.transaction(source=Source.IMPORT) as transaction:
        transaction.create_columns(Lead, {"name": [f"Lead {number}" for number in range(LEADS)]})
    store.close()


def fill(url: str, size: int) -> None:
    """Write activities as fast as it goes, without indexes: nobody asks for a few of them."""
    engine = create_engine(url)
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text("SET session_replication_role = replica"))
        for index in inspect(connection).get_indexes("activities"):
            if not index["unique"]:
                connection.execute(text(f"DROP INDEX {index['name']}"))
        connection.execute(
            text(
                "WITH RECURSIVE numbers(n) AS "
                "(SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < :size) "
                "INSERT INTO activities "
                "(occurred_at, recorded_at, version, kind, lead_id, duration_seconds) "
                "SELECT :now - 6000000 * CAST(n AS BIGINT), "
                ":now + 60000000 - 6000000 * CAST(n AS BIGINT), 1, "
                "CASE n % 3 WHEN 0 THEN 'call' WHEN 1 THEN 'mail' ELSE 'web' END, "
                "n % 1000 + 1, CASE WHEN n % 4 = 0 THEN NULL ELSE n % 900 END FROM numbers"
            ),
            {"size": size, "now": micros(NOW)},
        )
    engine.dispose()


def reading(folder: Path, *, database: str, size: int = TO_READ) -> Contest:
    """Compare ways to read every activity."""
    stack = ExitStack()
    url = stack.enter_context(databases(database, folder)).make()
    fill(url, size)
    answers: list[dict[str, int]] = []

    def read(way: str) -> tuple[float, float]:
        command = [sys.executable, "-m", "tests.bench.reading", way, url]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        found = Reading(**json.loads(done.stdout))
        answers.append(found.digest)
        if found.digest["rows"] != size or answers[0] != found.digest:
            raise SidesDisagreeError(f"{way} read {found.digest}, and what was read before is {answers[0]}")
        return found.seconds, found.megabytes

    return Contest(
        ours=lambda: read("arrays") * 2,
        peer=lambda: read("pandas") + read("pandas of stored integers"),
        close=stack.close,
    )


def columns_of_activities(size: int) -> dict[str, Any]:
    """Return activities as they come from outside, by column."""
    number = np.arange(size)
    occurred_at = micros(NOW) - number[::-1] * 6_000_000
    return {
        "external_id": [f"A-{each}" for each in range(size)],
        "kind": [("call", "mail", "web")[each % 3] for each in range(size)],
        "subject": [f"{SUBJECTS[each % 4]} {each % 5000}" for each in range(size)],
        "lead_id": number % LEADS + 1,
        "duration_seconds": np.where(number % 4 == 0, NO_INSTANT, number % 900),
        "occurred_at": occurred_at,
        "recorded_at": np.minimum(occurred_at + 60_000_000, micros(NOW)),
    }


def rows_of_activities(columns: dict[str, Any]) -> list[tuple[Any, ...]]:
    """Return activities as a driver takes them, with ids and versions."""
    size = len(columns["kind"])
    plain = [cells if isinstance(cells, list) else cells.tolist() for cells in columns.values()]
    cells = [[None if cell == NO_INSTANT else cell for cell in column] for column in plain]
    return list(zip(range(1, size + 1), [1] * size, *cells, strict=True))


def rows_of_changes(columns: dict[str, Any]) -> list[tuple[Any, ...]]:
    """Return the change rows of activities as a driver takes them."""
    instants = zip(columns["occurred_at"].tolist(), columns["recorded_at"].tolist(), strict=True)
    return [
        (LEADS + 1, "activity", number, "created", occurred_at, recorded_at, "import")
        for number, (occurred_at, recorded_at) in enumerate(instants, start=1)
    ]


CHANGE = ("sequence", "record_type", "record_id", "action", "occurred_at", "recorded_at", "source")


def write_rows(store: Store, tables: dict[str, tuple[tuple[str, ...], list[tuple[Any, ...]]]]) -> None:
    """Write rows into tables by the database's own bulk path, in one transaction."""
    with store.transaction(source=Source.IMPORT) as transaction:
        connection = transaction.session.connection()
        for table, (names, rows) in tables.items():
            listed = ", ".join(names)
            if connection.dialect.name == "postgresql":
                copy = {COPY_IN: rows}
                connection.exec_driver_sql(f"COPY {table} ({listed}) FROM STDIN", execution_options=copy)
            else:
                marks = ", ".join("?" * len(names))
                connection.exec_driver_sql(f"INSERT INTO {table} ({listed}) VALUES ({marks})", rows)


def writing(folder: Path, *, database: str, size: int = TO_WRITE) -> Contest:
    """Compare ways to write activities that are in memory into a database that has none."""
    stack = ExitStack()
    made = stack.enter_context(databases(database, folder))
    empty = made.make()
    columns = columns_of_activities(size)
    activities = {"activities": (("id", "version", *columns), rows_of_activities(columns))}
    logged = {**activities, "changes": (CHANGE, rows_of_changes(columns))}

    def write(way: Any) -> float:
        url = made.make(like=empty)
        store = Store(url, clock=FixedClock(NOW))
        took = seconds(lambda: way(store))
        check_written(store, size)
        store.close()
        made.drop(url)
        return took

    def ours() -> tuple[float, float]:
        took = write(partial(write_columns, columns=columns))
        return took, took

    return Contest(
        ours=ours,
        peer=lambda: (
            write(partial(write_rows, tables=activities)),
            write(partial(write_rows, tables=logged)),
        ),
        close=stack.close,
    )


def write_columns(store: Store, columns: dict[str, Any]) -> None:
    """Write activities through the store."""
    with store.transaction(source=Source.IMPORT) as transaction:
        transaction.create_columns(Activity, columns)


def check_written(store: Store, size: int) -> None:
    """Raise SidesDisagreeError unless the activities are what they should be."""
    query = text(
        "SELECT count(*), count(duration_seconds), sum(lead_id), min(occurred_at), max(recorded_at), "
        "count(DISTINCT external_id) FROM activities"
    )
    with store.engine.connect() as connection:
        found = tuple(map(int, connection.execute(query).one()))
    number = np.arange(size)
    expected = (
        size,
        int((number % 4 != 0).sum()),
        int((number % LEADS + 1).sum()),
        micros(NOW) - (size - 1) * 6_000_000,
        micros(NOW),
        size,
    )
    if found != expected:
        raise SidesDisagreeError(f"of the activities, {found} was found and {expected} is right")


def benchmarks(database: str, bulk_path: str) -> tuple[Benchmark, Benchmark]:
    """Return the comparisons on one database."""
    stored = "pandas.read_sql of stored integers"
    return (
        Benchmark(
            name=f"bulk_read_{database}",
            peer_name="pandas.read_sql",
            prepare=partial(reading, database=database),
            asked=5,
            also=(
                Aspect(name="memory", peer_name="pandas.read_sql", unit="MB", asked=3),
                Aspect(name="stored", peer_name=stored, unit="s"),
                Aspect(name="stored_memory", peer_name=stored, unit="MB"),
            ),
            rounds=1,
            warm=False,
        ),
        Benchmark(
            name=f"bulk_import_{database}",
            peer_name=bulk_path,
            prepare=partial(writing, database=database),
            asked=1 / 3,
            also=(Aspect(name="logged", peer_name=f"{bulk_path}, change rows too", unit="s"),),
            rounds=3,
            warm=False,
        ),
    )


BENCHMARKS = (*benchmarks("sqlite", "executemany"), *benchmarks("postgresql", "COPY"))
