"""What a record's history costs to read grows with its changes, not with the table they lie in."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sqlalchemy import Connection, event, text

from crm_core.bulk import Update
from crm_core.history import read_histories, state_as_of, values_as_of
from crm_core.records import Lead
from crm_core.store import Store

LEADS, EDITS = 400, 10


@pytest.fixture
def filled(store: Store) -> Store:
    """A log with some thousands of changes, about which the database knows how they are spread."""
    with store.transaction() as transaction:
        ids = transaction.create_many(Lead, [{"name": "N", "status": "open"}] * LEADS)
        for edit in range(EDITS):
            values = {"employees": edit, "region": f"Region {edit}"}
            transaction.update_many(Lead, [Update(record_id=each, values=values) for each in ids])
    with store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("ANALYZE"))
    return store


def statements(store: Store, ask: Any) -> list[tuple[str, Any]]:
    """Return what is sent to the database while `ask` asks a session."""
    sent: list[tuple[str, Any]] = []

    def note(_c: Connection, _cursor: Any, statement: str, given: Any, *_rest: Any) -> None:
        sent.append((statement, given))

    event.listen(store.engine, "before_cursor_execute", note)
    with store.reading() as session:
        ask(session)
    event.remove(store.engine, "before_cursor_execute", note)
    return sent


def scans(store: Store, sent: list[tuple[str, Any]]) -> list[str]:
    """Return the lines of the plans of statements that go through a whole table or a whole index."""
    explain = "EXPLAIN QUERY PLAN " if store.engine.dialect.name == "sqlite" else "EXPLAIN "
    with store.engine.connect() as connection:
        plans = [
            " ".join(str(cell) for cell in row)
            for statement, given in sent
            if statement.lstrip().upper().startswith("SELECT")
            for row in connection.exec_driver_sql(explain + statement, given)
        ]
    assert any("ix_changes" in line for line in plans), plans
    return [line for line in plans if "Seq Scan" in line or " SCAN " in f" {line} "]


def test_the_history_of_a_few_records_is_looked_up_in_an_index(filled: Store) -> None:
    few = np.array([3, 200, 399])
    for ask in (
        lambda session: read_histories(session, Lead, ["employees"], few),
        lambda session: values_as_of(session, Lead, "employees", few, few),
        lambda session: state_as_of(session, Lead, 3, filled.clock.now()),
    ):
        sent = statements(filled, ask)
        assert scans(filled, sent) == []
        assert len(sent) <= 6, "one query a field would be another cost"


def test_a_history_holds_the_changes_of_those_asked_for_and_of_no_other(filled: Store) -> None:
    few = np.array([3, 200, 399])
    with filled.reading() as session:
        found = read_histories(session, Lead, ["employees"], few)["employees"]
    assert found.record_id.tolist() == np.repeat(few, EDITS).tolist()
