"""Updating many at once leaves what updating one by one leaves."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from crm_core.bulk import Update
from crm_core.changes import Change, Source
from crm_core.clock import FixedClock
from crm_core.errors import FutureEventError, InvalidValueError, RecordNotFoundError
from crm_core.records import Lead
from crm_core.store import Store, Transaction
from tests.factories import declare_custom, make_lead

VALUES: dict[str, list[Any]] = {
    "source": ["fair", "web_form", None],
    "employees": [1, 20, None],
    "custom.size": ["small", "large", None],
    "custom.score": [1.5, 2],
}


def _random_updates(seed: int, ids: list[int], clock: FixedClock) -> list[Update]:
    dice = random.Random(seed)
    return [
        Update(
            record_id=dice.choice(ids),
            values={field: dice.choice(VALUES[field]) for field in dice.sample(list(VALUES), 2)},
            occurred_at=dice.choice([None, clock.now() - timedelta(days=dice.randrange(4))]),
            recorded_at=dice.choice([None, clock.now() - timedelta(days=1)]),
        )
        for _ in range(40)
    ]


def _one_by_one(transaction: Transaction, updates: list[Update]) -> list[int]:
    return [
        len(
            transaction.update(
                transaction.get(Lead, each.record_id),
                each.values,
                occurred_at=each.occurred_at,
                recorded_at=each.recorded_at,
            )
        )
        for each in updates
    ]


def _log(transaction: Transaction, ids: list[int]) -> list[tuple[Any, ...]]:
    of_leads = select(Change).where(Change.record_type == "lead", Change.record_id.in_(ids))
    rows = transaction.session.scalars(of_leads.order_by(Change.id))
    first = ids[0]
    return [
        (row.record_id - first, row.field, row.old, row.new, row.occurred_at, row.recorded_at, row.source)
        for row in rows
    ]


def _states(transaction: Transaction, ids: list[int]) -> list[tuple[Any, ...]]:
    leads = [transaction.get(Lead, record_id) for record_id in ids]
    return [(lead.source, lead.employees, lead.custom, lead.version) for lead in leads]


@pytest.mark.parametrize("seed", range(8))
def test_many_updates_equal_the_same_updates_one_by_one(store: Store, clock: FixedClock, seed: int) -> None:
    with store.transaction(source=Source.IMPORT) as transaction:
        declare_custom(transaction, "lead", size="text", score="number")
        born = clock.now() - timedelta(days=9)
        one = [make_lead(transaction, occurred_at=born, recorded_at=born).id for _ in range(4)]
        many = [make_lead(transaction, occurred_at=born, recorded_at=born).id for _ in range(4)]

        expected = _one_by_one(transaction, _random_updates(seed, one, clock))
        found = transaction.update_many(Lead, _random_updates(seed, many, clock))

        assert expected == found
        assert _states(transaction, one) == _states(transaction, many)
        assert _log(transaction, one) == _log(transaction, many)


@pytest.mark.parametrize(
    ("update", "error"),
    [
        (Update(record_id=1, values={"employees": -1}), InvalidValueError),
        (Update(record_id=99, values={"source": "fair"}), RecordNotFoundError),
    ],
)
def test_one_bad_update_among_many_writes_nothing(
    store: Store, update: Update, error: type[Exception]
) -> None:
    with store.transaction() as transaction:
        lead_id = make_lead(transaction).id

    with pytest.raises(error), store.transaction() as transaction:
        transaction.update_many(Lead, [Update(record_id=lead_id, values={"source": "fair"}), update])

    with store.reading() as session:
        assert [lead.source for lead in session.scalars(select(Lead))] == ["web_form"]


def test_many_updates_cannot_lie_in_the_future(store: Store, clock: FixedClock) -> None:
    with store.transaction() as transaction:
        lead = make_lead(transaction)
        later = Update(
            record_id=lead.id, values={"source": "fair"}, occurred_at=clock.now() + timedelta(days=1)
        )
        with pytest.raises(FutureEventError):
            transaction.update_many(Lead, [later])
