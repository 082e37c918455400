"""The migrations make the schema that the code expects, on both databases."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Column, Connection, MetaData, insert, select, text

from crm_core import (  # noqa: F401  their tables belong to Base
    access,
    alerts,
    duplicates,
    jobs,
    logins,
    migrations,
    promotions,
    rescoring,
    shadows,
    tokens,
    webhooks,
)
from crm_core.database import open_engine, without_foreign_keys
from crm_core.errors import StoreNotInitialisedError
from crm_core.fields import list_fields
from crm_core.record_types import list_record_types
from crm_core.records import Base, CustomRecord, Deal, Lead, likeliest_first
from crm_core.store import Store
from tests.conftest import THOROUGH
from tests.factories import make_lead

Row = tuple[tuple[str, Any], ...]
"""The cells of a row with the names of their columns, in the order of the names."""

VERSIONS = migrations.list_versions()

pytestmark = [
    pytest.mark.filterwarnings("ignore:Skipped unsupported reflection of expression-based index"),
    pytest.mark.filterwarnings("ignore:autogenerate skipping metadata-specified expression-based index"),
]
"""SQLAlchemy cannot read such an index of SQLite; the test of the order of lists finds it in use."""


def test_the_migrated_schema_is_the_one_in_the_code(store: Store) -> None:
    with store.engine.connect() as connection:
        options = {"version_table": migrations.VERSION_TABLE, "compare_type": True}
        context = MigrationContext.configure(connection, opts=options)
        found = compare_metadata(context, Base.metadata)
    assert found == []


@pytest.mark.parametrize("model", [Lead, Deal])
def test_a_list_is_read_in_the_order_of_its_index(store: Store, model: type[Lead | Deal]) -> None:
    dialect = store.engine.dialect
    query = select(model.id).where(model.status == "open")
    query = query.order_by(*likeliest_first(model.probability), model.id).limit(50)
    asked = query.compile(dialect=dialect, compile_kwargs={"literal_binds": True})
    explain = "EXPLAIN QUERY PLAN" if dialect.name == "sqlite" else "EXPLAIN"
    with store.engine.connect() as connection:
        if dialect.name == "postgresql":  # whose plans are about how much there is
            connection.execute(text("SET LOCAL enable_seqscan = off"))
            connection.execute(text("SET LOCAL enable_bitmapscan = off"))
            connection.execute(text("SET LOCAL enable_sort = off"))
        plan = str(connection.execute(text(f"{explain} {asked}")).all())
    assert f"ix_{model.__tablename__}_status_step" in plan
    whole_sorted = "B-TREE FOR ORDER BY" in plan if dialect.name == "sqlite" else "Presorted Key" not in plan
    assert not whole_sorted


def fill(url: str, number: int = 1) -> dict[str, Row]:
    """Put a row into every table, whatever its columns, and return what it holds."""
    engine = without_foreign_keys(open_engine(url))
    with engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SET session_replication_role = replica"))
        metadata = MetaData()
        metadata.reflect(connection)
        tables = [table for table in metadata.sorted_tables if table.name != migrations.VERSION_TABLE]
        before = {table.name: set(read(connection, table.name)) for table in tables}
        for table in tables:
            row = {column.name: filler(column, number) for column in table.columns}
            connection.execute(insert(table), row)
        added = {name: set(read(connection, name)) - rows for name, rows in before.items()}
    engine.dispose()
    return {name: row for name, (row,) in added.items()}


def filler(column: Column[Any], number: int) -> object:
    """Return a value that fits and is another one in each row; every link points at the row with this id."""
    if column.name == "id" or column.foreign_keys:
        return number
    letter = chr(ord("@") + number)  # the shortest columns take one
    kinds = {str: letter, int: 6 + number, float: number / 2, bool: True, bytes: letter.encode()}
    return kinds[column.type.python_type]


def read_all(url: str, tables: Iterable[str]) -> dict[str, list[Row]]:
    engine = open_engine(url)
    with engine.connect() as connection:
        found = {table: read(connection, table) for table in tables}
    engine.dispose()
    return found


def read(connection: Connection, table: str) -> list[Row]:
    rows = connection.execute(text(f"SELECT * FROM {table}")).mappings()
    return [tuple(sorted((name, as_text(cell)) for name, cell in row.items())) for row in rows]


def as_text(cell: object) -> object:
    """Return bytes as text: what was one may be the other after a migration."""
    return bytes(cell).decode() if isinstance(cell, bytes | memoryview) else cell


def test_every_version_comes_up_to_date_with_all_that_it_holds(empty_url: str) -> None:
    """One database goes through all versions, and each adds a row to every table that there is by then."""
    written: list[tuple[str, Row]] = []
    for number, version in enumerate(VERSIONS, start=1):
        migrations.upgrade(empty_url, version)
        written += fill(empty_url, number).items()
    migrations.upgrade(empty_url)
    after = read_all(empty_url, {table for table, _ in written})
    many = {table: len(rows) for table, rows in after.items()}
    del many["search_fresh"]  # into which comes what was written before there was a search
    assert Counter(table for table, _ in written if table in many) == many
    kept = {table: [set(row) for row in rows] for table, rows in after.items()}
    assert [(table, row) for table, row in written if not any(set(row) <= new for new in kept[table])] == []


@pytest.mark.parametrize("version", VERSIONS if THOROUGH else VERSIONS[:1])
def test_a_version_comes_up_to_date_at_once_with_all_that_it_holds(empty_url: str, version: str) -> None:
    migrations.upgrade(empty_url, version)
    before = fill(empty_url)
    migrations.upgrade(empty_url)
    after = read_all(empty_url, before)
    for table, row in before.items():
        assert [set(row) <= set(new) for new in after[table]] == [True], table


def test_fields_and_records_of_declared_types_from_before_are_read_as_ever(empty_url: str) -> None:
    migrations.upgrade(empty_url, "0002")
    engine = open_engine(empty_url)
    with engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO fields (record_type, name, kind, known) "
                "VALUES ('project', 'custom.phase', 'text', 'history')"
            )
        )
        connection.execute(
            text(
                "INSERT INTO custom_record_types (id, name, label_en, label_zh) "
                "VALUES (1, 'project', 'x', 'y')"
            )
        )
        connection.execute(
            text(
                "INSERT INTO custom_records "
                "(external_id, type_id, name, occurred_at, recorded_at, version, custom) "
                "VALUES ('P1', 1, 'Mill', 0, 0, 1, '{\"phase\":\"design\"}')"
            )
        )
    engine.dispose()
    migrations.upgrade(empty_url)
    store = Store(empty_url)
    with store.transaction() as transaction:
        record = transaction.get(CustomRecord, 1)
        transaction.update(record, {"custom.phase": "built"})
        assert (record.external_id, record.custom, record.parent_id) == ("P1", {"phase": "built"}, None)
        (kind,) = list_record_types(transaction.session)
        (field,) = list_fields(transaction.session, "project")
        assert (kind.links, field.required, field.retired_at) == (["account", "deal"], False, None)
    store.close()


def test_upgrading_again_changes_nothing(store: Store, database: str) -> None:
    with store.transaction() as transaction:
        lead_id = make_lead(transaction).id
    migrations.upgrade(database)
    migrations.check(database)
    with store.reading() as session:
        assert session.get_one(Lead, lead_id).name == "Wang Fang"


def test_an_empty_database_is_named_as_such(tmp_path: Path) -> None:
    with pytest.raises(StoreNotInitialisedError, match=r"is empty, expected version \d{4}; run: crm init"):
        migrations.check(f"sqlite:///{tmp_path / 'nothing.db'}")
