"""A folder of files to import, a mapping written next to the test, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from sqlalchemy import select

from crm_core.changes import Action, Change
from crm_core.importing import ImportReport, load_mapping, run_import
from crm_core.records import RECORD_TYPES, Record
from crm_core.store import Store

LEADS = """
name = "test"
recorded_at = "as_occurred"

[files.leads]
path = "leads.csv"

[[records]]
name = "leads"
record = "lead"
file = "leads"
external_id = "id"
occurred_at = "created"

[records.fields]
company = "company"
source = { column = "source", known = "creation" }
"""
"""A plain mapping of leads, to be extended."""


@dataclass(frozen=True, kw_only=True)
class Workbench:
    """A folder and a store to import it into."""

    folder: Path
    store: Store

    def write(self, name: str, content: str | bytes) -> Path:
        """Write a file to import; texts may be indented."""
        path = self.folder / name
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(dedent(content).lstrip("\n"), encoding="utf-8")
        return path

    def run(self, mapping: str, **options: Any) -> ImportReport:
        """Import the folder by a mapping given as text."""
        path = self.write("mapping.toml", mapping)
        return run_import(self.store, load_mapping(path), self.folder, **options)

    def records(self, record_type: str) -> list[Any]:
        """Return all records of a type in the order of their ids."""
        model: type[Record] = RECORD_TYPES[record_type]
        with self.store.reading() as session:
            return list(session.scalars(select(model).order_by(model.id)))

    def updates(self, field: str) -> list[Change]:
        """Return the change rows of a field."""
        query = select(Change).where(Change.field == field, Change.action == Action.UPDATED)
        with self.store.reading() as session:
            return list(session.scalars(query.order_by(Change.id)))

    def count_changes(self) -> int:
        """Return how many rows about records the change log has."""
        with self.store.reading() as session:
            return len(session.scalars(select(Change.id).where(Change.record_type != "field")).all())


@pytest.fixture
def bench(tmp_path: Path, store: Store) -> Workbench:
    """An empty folder and an empty store."""
    folder = tmp_path / "export"
    folder.mkdir()
    return Workbench(folder=folder, store=store)


def counts(report: ImportReport, step: str) -> dict[str, int]:
    """Return the counts of one step that are not zero."""
    found = next(each for each in report.steps if each.step == step)
    names = ("written", "updated", "unchanged", "refused")
    told = {name: getattr(found, name) for name in names}
    told |= dict(found.left_out)
    assert found.records == sum(told.values()), "every record is accounted for once"
    return {name: count for name, count in told.items() if count}
