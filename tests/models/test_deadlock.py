"""A lot of scores that is in a deadlock with somebody's change is written all the same."""

from __future__ import annotations

import threading
import time
from datetime import timedelta

import pytest
from sqlalchemy import text

from crm_core.clock import FixedClock
from crm_core.records import Lead
from crm_core.store import Store
from crm_core.writing_back import PredictionColumns
from models import bulk_scoring
from models.bundle import ModelBundle
from tests.factories import make_lead


def scores_of(*ids: int) -> PredictionColumns:
    many = len(ids)
    return PredictionColumns(
        record_id=list(ids),
        horizon_days=[90] * many,
        probability=[0.5] * many,
        score=[50] * many,
        grade=["B"] * many,
        reasons=[b"[]"] * many,
        within=['{"90":0.5}'] * many,
        expected_days=[30.0] * many,
        yearly_value=[None] * many,
        cause_change_id=[None] * many,
    )


def wait_until_blocked(store: Store) -> None:
    waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
    for _ in range(600):
        with store.reading() as session:
            if session.scalar(waiting):
                return
        time.sleep(0.05)
    pytest.fail("nobody waits for a lock")


def test_both_who_wait_for_each_other_end_well(
    postgres_database: str, clock: FixedClock, bundle: ModelBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(postgres_database, clock=clock)
    with store.transaction() as transaction:
        first, second = (make_lead(transaction).id for _ in range(2))
    clock.advance(timedelta(hours=1))
    tries: list[BaseException | None] = []
    try_once = bulk_scoring._Run._try

    def noted(run: bulk_scoring._Run, *asked: object) -> float:
        try:
            took = try_once(run, *asked)  # type: ignore[arg-type]  # as it was called
        except BaseException as error:
            tries.append(error)
            raise
        tries.append(None)
        return took

    monkeypatch.setattr(bulk_scoring._Run, "_try", noted)
    held = threading.Event()

    def change() -> None:
        """Change the second lead and then the first, the other way round than scores are written."""
        with store.transaction() as transaction:
            transaction.session.execute(text("SET LOCAL deadlock_timeout = '60s'"))  # the other one gives in
            transaction.update(transaction.get(Lead, second), {"company": "Hill"})
            transaction.session.flush()
            held.set()
            wait_until_blocked(store)
            transaction.update(transaction.get(Lead, first), {"company": "Hill"})

    person = threading.Thread(target=change)
    person.start()
    assert held.wait(30)
    run = bulk_scoring._Run(store=store, bundle=bundle, watch=bulk_scoring.Watch(), seconds=1.0, pause=0.0)
    assert list(run.write(scores_of(first, second), clock.now())) == [2]
    person.join(30)
    assert [type(error).__name__ for error in tries] == ["OperationalError", "NoneType"]
    with store.reading() as session:
        leads = [session.get_one(Lead, lead) for lead in (first, second)]
        assert [(lead.company, lead.probability) for lead in leads] == [("Hill", 0.5)] * 2
    store.close()
