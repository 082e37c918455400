"""The same import leaves the same rows on SQLite and on PostgreSQL."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, text

from crm_core import migrations
from crm_core.clock import FixedClock
from crm_core.records import Base
from crm_core.store import Store
from tests import postgres
from tests.importing.conftest import Workbench
from tests.importing.test_events import CONVERSIONS, DEALS, write_deals, write_leads, write_won
from tests.importing.test_records import GROUPED, LINKED, write_shops

Import = tuple[str, Callable[[Workbench], None]]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """A PostgreSQL server with a migrated database called `template_crm`."""
    # Not below pytest's own folder: PostgreSQL's user must be able to enter every folder above.
    folder = Path(tempfile.mkdtemp(prefix="crm-postgres-"))
    try:
        with postgres.server(folder) as url:
            create(url, "template_crm")
            migrations.upgrade(f"{url}/template_crm")
            yield url
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def create(url: str, name: str, template: str = "template1") -> None:
    engine = create_engine(f"{url}/postgres", isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name} TEMPLATE {template}"))
    engine.dispose()


def write_lines(bench: Workbench) -> None:
    bench.write(
        "lines.csv",
        "deal,month,price,currency,product,flag\nD2,202402,5,EUR,pump,0\nD1,202401,1.5,EUR,阀门,1\nD2,202403,6,EUR,x,0\n",
    )


def write_conversions(bench: Workbench) -> None:
    write_leads(bench)
    write_won(bench, "L1,A1,2024-05-09 15:30,pets", "L2,A1,2024-05-08,")


IMPORTS: dict[str, Import] = {
    "conversions": (CONVERSIONS, write_conversions),
    "deals": (DEALS, write_deals),
    "shops": (LINKED, write_shops),
    "groups": (GROUPED, write_lines),
}


@pytest.mark.parametrize("name", IMPORTS)
def test_both_databases_hold_the_same_after_the_same_import(
    bench: Workbench, clock: FixedClock, server: str, name: str
) -> None:
    mapping, write = IMPORTS[name]
    create(server, f"import_{name}", "template_crm")
    other = Workbench(folder=bench.folder, store=Store(f"{server}/import_{name}", clock=clock))
    write(bench)
    first = [bench.run(mapping).to_json()["steps"], other.run(mapping).to_json()["steps"]]
    again = [bench.run(mapping).to_json()["steps"], other.run(mapping).to_json()["steps"]]
    found = [contents(bench.store.engine), contents(other.store.engine)]
    other.store.close()
    assert first[0] == first[1]
    assert again[0] == again[1]
    assert found[0] == found[1]
    assert found[0]["changes"]


def contents(engine: Engine) -> dict[str, list[tuple[Any, ...]]]:
    """Return all rows of all tables; which transaction wrote a row is the database's own affair."""
    found = {}
    with engine.connect() as connection:
        for table in Base.metadata.sorted_tables:
            columns = [column for column in table.columns if column.name != "sequence"]
            if columns:
                query = table.select().with_only_columns(*columns)
                found[table.name] = sorted((tuple(row) for row in connection.execute(query)), key=repr)
    return found
