"""A company with as many open leads as wanted, each with about ten activities, and a model for them.

A small simulated company is drawn once; its open leads, their activities and their changes are then repeated,
each repetition a little earlier than the one before, so that no two leads are alike in their times. The model
is trained on the simulated company itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from sqlalchemy import Connection, create_engine, inspect, text

from crm_core import migrations
from crm_core.clock import FixedClock, micros
from crm_core.store import Store
from features.feature_set import feature_set_for
from models.building import build_bundle, gather
from models.bundle import ModelBundle, load_bundle
from models.lead_scoring import TASK
from models.questions import ask, first_instant
from models.simulation import simulate_company

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
_AT_ONCE = 20_000
"""Leads that are written by one statement."""

_EARLIER = "CAST(n % 5000 AS BIGINT) * 61000003"
"""By how much a repetition is earlier, in microseconds."""

_MOVED = ("occurred_at", "recorded_at")


def make(url: str, leads: int) -> ModelBundle:
    """Make a company at an empty database; return a model for its leads."""
    migrations.upgrade(url)
    store = Store(url, clock=FixedClock(NOW))
    simulate_company(store, size="small", seed=1)
    bundle = train(store)
    store.close()
    fill(url, leads)
    return bundle


def train(store: Store) -> ModelBundle:
    """Return a model of a company's leads as of now."""
    features = feature_set_for(store, TASK.name)
    questions = ask(store, TASK, features, TASK.ask, start=first_instant(store, TASK), until=NOW)
    made = build_bundle(gather(questions, store, features, micros(NOW))).bundle
    return load_bundle(made.to_bytes(), made.sha256, version="lead_scoring-1-00000000")


def fill(url: str, leads: int) -> None:
    """Repeat the open leads of a company until there are so many."""
    engine = create_engine(url)
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text("SET session_replication_role = replica"))
        indexes = _without_indexes(connection, ("activities", "changes"))
        _prepare(connection)
        tile = connection.execute(text("SELECT count(*) FROM template")).scalar_one()
        times = -(-leads // tile)
        step = max(1, _AT_ONCE // tile)
        for first in range(0, times, step):
            _repeat(connection, first, min(first + step, times), tile)
        if engine.dialect.name == "postgresql":
            for table in ("leads", "activities", "changes"):
                greatest = f"(SELECT max(id) FROM {table})"
                connection.execute(
                    text(f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), {greatest})")
                )
        for statement in indexes:
            connection.execute(text(statement))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("ANALYZE"))
    engine.dispose()


def _without_indexes(connection: Connection, tables: Sequence[str]) -> list[str]:
    """Drop indexes that are not unique; return what makes them again."""
    made = []
    for table in tables:
        for index in inspect(connection).get_indexes(table):
            if not index["unique"]:
                columns = ", ".join(name or "" for name in index["column_names"])
                made.append(f"CREATE INDEX {index['name']} ON {table} ({columns})")
                connection.execute(text(f"DROP INDEX {index['name']}"))
    return made


def _prepare(connection: Connection) -> None:
    """Number the leads that are repeated, beginning at 0, and begin their ids after all others."""
    for statement in (
        (
            "CREATE TEMPORARY TABLE template AS SELECT id, row_number() OVER (ORDER BY id) - 1 AS place, "
            "(SELECT max(id) FROM leads) + 1 AS base FROM leads WHERE status = 'open'"
        ),
        (
            "CREATE TEMPORARY TABLE one_activity AS SELECT activities.*, place, base FROM activities "
            "JOIN template ON template.id = activities.lead_id ORDER BY place, activities.id"
        ),
        (
            "CREATE TEMPORARY TABLE one_change AS SELECT changes.*, place, base FROM changes "
            "JOIN template ON template.id = changes.record_id WHERE record_type = 'lead'"
        ),
    ):
        connection.execute(text(statement))


def _repeat(connection: Connection, first: int, last: int, tile: int) -> None:
    numbers = (
        f"WITH RECURSIVE numbers(n) AS (SELECT {first} UNION ALL SELECT n + 1 FROM numbers "
        f"WHERE n + 1 < {last})"
    )
    lead = f"base + n * {tile} + place"
    for table, source, changed in (
        ("leads", "leads JOIN template ON template.id = leads.id", {"id": lead, "external_id": "NULL"}),
        ("activities", "one_activity", {"id": None, "lead_id": lead, "external_id": "NULL"}),
        ("changes", "one_change", {"id": None, "record_id": lead}),
    ):
        told = source.split(" ")[0]
        cells = {
            column["name"]: f"{told}.{column['name']}" for column in inspect(connection).get_columns(table)
        }
        cells |= {name: f"{told}.{name} - {_EARLIER}" for name in _MOVED}
        cells = {name: cell for name, cell in (cells | changed).items() if cell is not None}
        connection.execute(
            text(
                f"INSERT INTO {table} ({', '.join(cells)}) {numbers} SELECT {', '.join(cells.values())} "
                f"FROM numbers CROSS JOIN {source} ORDER BY n, place"
            )
        )
