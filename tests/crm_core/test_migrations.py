"""The migrations make the schema that the code expects, on both databases."""

from __future__ import annotations

from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from crm_core import access, migrations, promotions, tokens  # noqa: F401  their tables belong to Base
from crm_core.errors import StoreNotInitialisedError
from crm_core.records import Base, Lead
from crm_core.store import Store
from tests.factories import make_lead


def test_the_migrated_schema_is_the_one_in_the_code(store: Store) -> None:
    with store.engine.connect() as connection:
        options = {"version_table": migrations.VERSION_TABLE, "compare_type": True}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, Base.metadata) == []


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
