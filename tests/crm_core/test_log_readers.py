"""Whoever follows the change log misses nothing, however late a transaction commits."""

from __future__ import annotations

import time
from collections import Counter

import pytest
from sqlalchemy import select

from crm_core.changes import Change, list_changes
from crm_core.store import Store
from tests.conftest import so_many
from tests.crm_core.writers import Crew, edit_leads, writers
from tests.factories import make_lead

WRITERS, LEADS_EACH = 8, 16
ROWS_EACH = {"sqlite": so_many(1250, 300), "postgresql": so_many(1250, 800)}


class Follower:
    """Follows the log while others write, by its contract and, next to that, from the last id on."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.seen: list[int] = []
        self.naive: list[int] = []
        self._position = 0

    def follow(self, crew: Crew) -> None:
        """Read on until the writers are done and nothing is left."""
        while True:
            over = not crew.at_work()
            if not self._read_on():
                if over:
                    return
                time.sleep(0.005)

    def _read_on(self) -> bool:
        with self.store.reading() as session:
            found = list_changes(session, after=self._position, limit=50)
            last_id = self.naive[-1] if self.naive else 0
            query = select(Change.id).where(Change.id > last_id).order_by(Change.id)
            self.naive.extend(session.scalars(query))
        if found:
            self._position = found[-1].sequence
            self.seen.extend(change.id for change in found)
        return bool(found)


@pytest.mark.timeout(240)
def test_a_follower_sees_every_change_once_while_eight_writers_commit_late(
    store: Store, database: str
) -> None:
    with store.transaction() as transaction:
        ids = [make_lead(transaction).id for _ in range(WRITERS * LEADS_EACH)]
    rows = ROWS_EACH[store.engine.dialect.name]
    work = [(database, seed, ids[seed::WRITERS], rows) for seed in range(WRITERS)]
    follower = Follower(store)
    with writers(edit_leads, work) as crew:
        follower.follow(crew)
        crew.join()

    with store.reading() as session:
        written = list(session.scalars(select(Change.id)))
    assert len(written) == WRITERS * rows + len(ids)
    assert Counter(follower.seen) == Counter(written)
    if store.engine.dialect.name == "postgresql":
        assert set(follower.naive) < set(written), "reading on from the last id was expected to miss rows"
    else:
        # One writer at a time: an id is taken and committed before the next writer may take one, so the
        # order of ids is that of commits and there is nothing to miss.
        assert follower.naive == sorted(written)
