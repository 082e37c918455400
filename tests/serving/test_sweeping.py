"""Sweeps share their way of scoring and writing with the full rescore, and give way to changes."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from crm_core.clock import FixedClock
from crm_core.predictions import list_predictions
from crm_core.records import Lead
from crm_core.rescoring import Lot, Sweep
from crm_core.store import Store
from serving import sweeping
from serving.champions import Champions
from serving.rescoring import Rescorer
from tests.factories import make_activity, make_lead
from tests.serving.both_databases import *  # noqa: F403  its fixtures
from tests.serving.hand_made import HandMadeModel
from tests.serving.test_rescoring import rising, run_dry

Promote = Callable[..., HandMadeModel]


@pytest.fixture
def halves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lots of two records are written one record at a time."""
    monkeypatch.setattr(sweeping, "SMALLEST_LOT", 2)
    monkeypatch.setattr(sweeping._Said, "next", _one_by_one)


def _one_by_one(said: sweeping._Said, _size: int) -> tuple[object, int]:
    start = sum(each <= said.written for each in said.columns.record_id)
    some = said.columns.part(start, start + 1)
    last = start + 1 >= len(said.columns)
    return some, said.taken.lot.until_id if last else some.record_id[-1]


def leads_of(store: Store, count: int) -> list[int]:
    with store.transaction() as transaction:
        return [make_lead(transaction).id for _ in range(count)]


def test_a_change_goes_between_two_parts_of_one_lot(
    store: Store, champions: Champions, promote: Promote, clock: FixedClock, halves: None
) -> None:
    model = promote(probability=rising())
    ids = leads_of(store, 4)
    rescorer = Rescorer(store, champions, swept_at_once=4)
    assert rescorer.run_once() == 1
    with store.transaction() as transaction:
        make_activity(transaction, lead_id=ids[3])
    assert rescorer.run_once() == 1
    assert [asked for asked, _ in model.asked] == [tuple(ids[:2]), (ids[3],)]
    run_dry(rescorer)
    with store.reading() as session:
        assert [len(list_predictions(session, "lead", lead_id)) for lead_id in ids] == [1, 1, 1, 1]
        assert session.get_one(Sweep, "lead_scoring").ended_at is not None


def test_what_is_left_of_a_lot_is_not_written_once_another_worker_has_it(
    store: Store, champions: Champions, promote: Promote, halves: None
) -> None:
    promote(probability=rising())
    ids = leads_of(store, 2)
    first, second = (Rescorer(store, champions, swept_at_once=2) for _ in range(2))
    assert first.run_once() == 1
    with store.transaction() as transaction:
        for lot in transaction.session.query(Lot):
            lot.leased_by = None
    assert run_dry(second) == 1, "the record that was written is not asked about again"
    first.step()
    with store.reading() as session:
        assert [len(list_predictions(session, "lead", lead_id)) for lead_id in ids] == [1, 1]
        assert session.get_one(Lead, ids[1]).probability == pytest.approx(0.003)
