"""A dry run says what an import would do, and does not do it."""

from __future__ import annotations

import json

from sqlalchemy import text

from crm_core.importing import ImportReport
from tests.importing.conftest import LEADS, Workbench

TWO_STEPS = (
    LEADS
    + """
[files.customers]
path = "customers.csv"

[[records]]
name = "customers"
record = "account"
file = "customers"
external_id = "id"
occurred_at = "since"
fields = { name = "name" }

[[events]]
name = "conversions"
event = "convert"
record = "lead"
file = "customers"
external_id = "lead"
occurred_at = "since"
fields = { account_id = { external_id = "id" } }

[events.custom.discount]
column = "discount"
kind = "number"
known = "outcome"

[coverage]
lead = { newest_of = "conversions" }
"""
)


def fill(bench: Workbench) -> None:
    bench.write("leads.csv", "id,company,source,created\nL1,Hill,fair,2024-05-01\nL2,Dale,web,never\n")
    bench.write(
        "customers.csv", "id,name,lead,since,discount\nC1,Hill,L1,2024-06-01,5\nC2,Dale,L2,2024-06-02,\n"
    )


def dump(bench: Workbench) -> dict[str, list[str]]:
    """Return the content of every table."""
    with bench.store.reading() as session:
        tables = session.execute(text("SELECT name FROM sqlite_master WHERE type = 'table'")).scalars().all()
        return {
            name: [str(row) for row in session.execute(text(f'SELECT * FROM "{name}"'))]
            for name in tables
            if not name.startswith("sqlite_")
        }


def told(report: ImportReport) -> str:
    return json.dumps({**report.to_json(), "seconds": 0, "dry_run": None})


def test_a_dry_run_reports_what_the_import_then_does_and_writes_nothing(bench: Workbench) -> None:
    fill(bench)
    before = dump(bench)
    dry = bench.run(TWO_STEPS, dry_run=True)
    assert dump(bench) == before
    assert dry.in_words()[-1] == "dry run: nothing was written"

    real = bench.run(TWO_STEPS)
    assert told(dry) == told(real)
    assert real.refused == 2
    assert dump(bench) != before


def test_a_dry_run_of_what_is_there_finds_nothing_to_do(bench: Workbench) -> None:
    fill(bench)
    bench.run(TWO_STEPS)
    before = dump(bench)
    again = bench.run(TWO_STEPS, dry_run=True)
    assert dump(bench) == before
    assert [(step.written, step.updated) for step in again.steps] == [(0, 0)] * 3
    with bench.store.transaction():
        pass  # the lock is free again
