"""Many edit the same records at once, and no edit is lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import timedelta

import numpy as np
import pytest
from sqlalchemy import select, text

from crm_core.bulk import Update
from crm_core.changes import Change
from crm_core.clock import FixedClock, micros
from crm_core.errors import StaleRecordError
from crm_core.history import values_as_of
from crm_core.records import Lead
from crm_core.store import Store
from tests.conftest import so_many
from tests.crm_core.writers import count_up, writers
from tests.factories import declare_custom, make_lead

WRITERS, RECORDS = 8, 5
EDITS = {"sqlite": so_many(500, 125), "postgresql": so_many(500, 200)}


@pytest.mark.timeout(240)
def test_eight_writers_with_version_checks_lose_no_edit(store: Store, database: str) -> None:
    with store.transaction() as transaction:
        ids = [make_lead(transaction, employees=0).id for _ in range(RECORDS)]
    each = EDITS[store.engine.dialect.name]
    with writers(count_up, [(database, seed, ids, each) for seed in range(WRITERS)]) as crew:
        refused = crew.join()

    steps: dict[int, list[tuple[int, int]]] = {lead_id: [] for lead_id in ids}
    with store.reading() as session:
        leads = [session.get_one(Lead, lead_id) for lead_id in ids]
        query = select(Change.record_id, Change.old, Change.new).where(Change.field.is_not(None))
        for record_id, old, new in session.execute(query.order_by(Change.id)):
            steps[record_id].append((old, new))
    assert sum(lead.employees or 0 for lead in leads) == WRITERS * each
    assert sum(refused) > 0, "somebody was expected to come second"
    for lead in leads:
        edits = lead.employees or 0
        assert lead.version == edits + 1
        assert steps[lead.id] == [(step, step + 1) for step in range(edits)]


@pytest.fixture
def shared(postgres_database: str, clock: FixedClock) -> Iterator[Store]:
    """A store in which two can write at the same time, which SQLite does not let them."""
    opened = Store(postgres_database, clock=clock)
    yield opened
    opened.close()


def make(store: Store) -> int:
    with store.transaction() as transaction:
        declare_custom(transaction, "lead", tier="text", size="text")
        return make_lead(transaction, custom={"tier": "gold"}).id


def edit(store: Store, lead_id: int, **values: object) -> None:
    with store.transaction() as transaction:
        transaction.update(transaction.get(Lead, lead_id), values)


def test_a_version_is_checked_against_the_record_as_it_is_and_not_as_it_was_first_read(shared: Store) -> None:
    lead_id = make(shared)
    with shared.transaction() as transaction:
        seen = transaction.session.get_one(Lead, lead_id)
        edit(shared, lead_id, region="North")
        with pytest.raises(StaleRecordError):
            transaction.get(Lead, lead_id, version=1)
        assert transaction.get(Lead, lead_id) is seen
        assert (seen.version, seen.region) == (2, "North")


def test_who_began_first_and_wrote_second_wrote_second(shared: Store, clock: FixedClock) -> None:
    for bulk in (False, True):
        lead_id = make(shared)
        began = clock.now()
        with shared.transaction() as transaction:
            clock.advance(timedelta(minutes=1))
            edit(shared, lead_id, region="North")
            if bulk:
                transaction.update_many(Lead, [Update(record_id=lead_id, values={"region": "South"})])
            else:
                transaction.update(transaction.get(Lead, lead_id), {"region": "South"})
        as_of = np.array([micros(began), micros(clock.now())])
        with shared.reading() as session:
            assert session.get_one(Lead, lead_id).region == "South"
            found = values_as_of(session, Lead, "region", np.full(2, lead_id), as_of)
        assert found.tolist() == [None, "South"]


def test_editing_many_waits_for_who_edits_one_of_them(shared: Store) -> None:
    lead_id = make(shared)

    def edit_many() -> None:
        with shared.transaction() as transaction:
            transaction.update_many(Lead, [Update(record_id=lead_id, values={"custom.size": "big"})])

    with shared.transaction() as transaction:
        transaction.update(transaction.get(Lead, lead_id), {"custom.tier": "silver"})
        other = threading.Thread(target=edit_many)
        other.start()
        await_waiting(shared)
    other.join()
    with shared.reading() as session:
        lead = session.get_one(Lead, lead_id)
    assert (lead.custom, lead.version) == ({"tier": "silver", "size": "big"}, 3)


def await_waiting(store: Store) -> None:
    """Return once somebody waits for a lock."""
    with store.engine.connect() as connection:
        while not connection.scalar(text("SELECT count(*) FROM pg_locks WHERE NOT granted")):
            time.sleep(0.005)
            connection.rollback()
