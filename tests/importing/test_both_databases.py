"""The same import leaves the same rows on SQLite and on PostgreSQL."""

from __future__ import annotations

import csv
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from crm_core.clock import FixedClock
from crm_core.exporting import export_records
from crm_core.importing.mapping import SHIPPED
from crm_core.records import Base
from crm_core.store import Store
from tests.importing.conftest import Workbench
from tests.importing.test_events import CONVERSIONS, DEALS, write_deals, write_leads, write_won
from tests.importing.test_presets import write_salesforce
from tests.importing.test_records import GROUPED, LINKED, write_shops

Import = tuple[str, Callable[[Workbench], None]]


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
    "salesforce": ((SHIPPED / "salesforce.toml").read_text(encoding="utf-8"), write_salesforce),
}


@pytest.mark.parametrize("name", IMPORTS)
def test_both_databases_hold_the_same_after_the_same_import(
    bench: Workbench, clock: FixedClock, postgres_database: str, name: str
) -> None:
    mapping, write = IMPORTS[name]
    other = Workbench(folder=bench.folder, store=Store(postgres_database, clock=clock))
    write(bench)
    first = [bench.run(mapping).to_json()["steps"], other.run(mapping).to_json()["steps"]]
    again = [bench.run(mapping).to_json()["steps"], other.run(mapping).to_json()["steps"]]
    found = [contents(bench.store.engine), contents(other.store.engine)]
    other.store.close()
    assert first[0] == first[1]
    assert again[0] == again[1]
    assert found[0] == found[1]
    assert found[0]["changes"]


def test_a_dry_run_and_an_export_are_the_same_on_both_databases(
    bench: Workbench, clock: FixedClock, postgres_database: str, tmp_path: Path
) -> None:
    mapping, write = IMPORTS["salesforce"]
    other = Workbench(folder=bench.folder, store=Store(postgres_database, clock=clock))
    write(bench)
    dry = other.run(mapping, dry_run=True).to_json()["steps"]
    assert not any(contents(other.store.engine).values())
    assert dry == bench.run(mapping).to_json()["steps"] == other.run(mapping).to_json()["steps"]

    kept = []
    for each in (bench, other):
        out = tmp_path / each.store.engine.dialect.name
        export_records(each.store, out, format="csv")
        names = [path.name for path in out.glob("*.csv") if path.name != "change.csv"]
        rows = {name: list(csv.DictReader(StringIO((out / name).read_text("utf-8-sig")))) for name in names}
        # A dry run uses up ids of PostgreSQL's sequences.
        kept.append(
            {
                name: [{k: v for k, v in row.items() if k != "id" and not k.endswith("_id")} for row in found]
                for name, found in rows.items()
            }
        )
    other.store.close()
    assert kept[0] == kept[1]
    assert kept[0]["deal.csv"]


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
