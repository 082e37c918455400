"""A database that is lent again is like a new one."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from crm_core.clock import FixedClock
from crm_core.store import Store
from tests import postgres
from tests.factories import make_lead


@pytest.fixture
def databases(postgres_url: str) -> Iterator[postgres.Databases]:
    made = postgres.Databases(server=postgres_url, template="template_crm")
    yield made
    made.close()


def dump(url: str) -> dict[str, object]:
    """Return everything a database holds."""
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        clean = postgres._look(connection)
        return {"rows": clean.rows, "sequences": clean.sequences, "layout": clean.layout}


def test_what_was_written_changed_and_deleted_is_as_it_was(
    databases: postgres.Databases, clock: FixedClock
) -> None:
    with databases.lend() as first:
        before = dump(first)
        store = Store(first, clock=clock)
        with store.transaction() as transaction:
            lead = make_lead(transaction)
        with psycopg.connect(first.replace("+psycopg", "")) as connection:
            for table in before["rows"]:  # type: ignore[attr-defined]  # a mapping
                connection.execute(f"DELETE FROM {table}")
        assert dump(first)["rows"] != before["rows"]
    with databases.lend() as second:
        assert second == first
        assert dump(second) == before
        again = Store(second, clock=clock)
        with again.transaction() as transaction:
            assert make_lead(transaction).id == lead.id
        again.close()
    store.close()


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE leads ADD COLUMN shoe_size int",
        "CREATE TABLE more (id int)",
        "DROP INDEX ix_leads_owner_id",
        "GRANT SELECT ON leads TO PUBLIC",
        "ALTER DATABASE {name} SET work_mem = '1MB'",
        "REVOKE CONNECT ON DATABASE {name} FROM PUBLIC",
        "CREATE FUNCTION one() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    ],
)
def test_one_that_is_not_laid_out_as_it_was_is_not_lent_again(
    databases: postgres.Databases, statement: str
) -> None:
    with (
        databases.lend() as first,
        psycopg.connect(first.replace("+psycopg", ""), autocommit=True) as connection,
    ):
        connection.execute(statement.format(name=first.rsplit("/", 1)[1]))
    with databases.lend() as second:
        assert second != first


def test_whoever_stays_connected_is_sent_away(databases: postgres.Databases) -> None:
    with databases.lend() as first:
        left = psycopg.connect(first.replace("+psycopg", ""))
        left.execute("LOCK TABLE leads")
    with databases.lend() as second:
        assert second == first
        with pytest.raises(psycopg.OperationalError):
            left.execute("SELECT 1")
    left.close()
