"""Nothing ends before it began, whoever writes and by whatever way."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from crm_core.bulk import Update
from crm_core.columns import Day
from crm_core.errors import InvalidValueError
from crm_core.records import RECORD_TYPES, Contract, Quote
from crm_core.store import Store
from crm_core.validation import ORDERED, check_order, check_values, columns_of
from tests.factories import make_account, make_contract

MONDAY = datetime(2026, 3, 2, 9, tzinfo=UTC)

PAIRS = [(record_type, *pair) for record_type, pairs in ORDERED.items() for pair in pairs]


@pytest.mark.parametrize(("record_type", "first", "second"), PAIRS)
def test_what_ends_before_it_began_is_refused_with_both_values(
    record_type: str, first: str, second: str
) -> None:
    model = RECORD_TYPES[record_type]
    before, after = (
        value.date() if isinstance(columns_of(model)[name].type, Day) else value
        for name, value in ((second, MONDAY - timedelta(days=7)), (first, MONDAY))
    )
    with pytest.raises(InvalidValueError) as refused:
        check_values(model, {first: after, second: before})
    assert refused.value.field == f"{record_type}.{second}"
    assert before.isoformat() in str(refused.value)
    assert f"nothing before {first} ({after.isoformat()})" in str(refused.value)


def test_an_edit_is_checked_against_what_the_record_holds(store: Store) -> None:
    with store.transaction() as tx:
        contract = make_contract(tx, account_id=make_account(tx).id)  # the year 2026
    for values in ({"ends_on": date(2025, 12, 31)}, {"starts_on": date(2027, 1, 1)}):
        with pytest.raises(InvalidValueError, match=r"got '202[57]-") as one, store.transaction() as tx:
            tx.update(tx.get(Contract, contract.id), values)
        with pytest.raises(InvalidValueError) as many, store.transaction() as tx:
            tx.update_many(Contract, [Update(record_id=contract.id, values=values)])
        assert str(one.value) == str(many.value)
    with store.transaction() as tx:
        tx.update(tx.get(Contract, contract.id), {"starts_on": date(2028, 1, 1), "ends_on": date(2028, 6, 1)})


def test_many_updates_are_checked_one_after_the_other(store: Store) -> None:
    with store.transaction() as tx:
        contract = make_contract(tx, account_id=make_account(tx).id)
        changed = tx.update_many(
            Contract,
            [
                Update(record_id=contract.id, values={"ends_on": date(2028, 1, 1)}),
                Update(record_id=contract.id, values={"starts_on": date(2027, 1, 1)}),
            ],
        )
    assert changed == [1, 1]


def test_a_fault_that_was_there_before_does_not_stop_other_edits() -> None:
    held = {"starts_on": date(2026, 1, 2), "ends_on": date(2026, 1, 1), "number": "A"}
    check_order(Contract, held, changed=["number"])


@pytest.mark.parametrize("zone", [-12, 0, 14])
def test_a_quote_may_end_on_the_day_it_was_made_wherever_that_was(zone: int) -> None:
    for hour in (0, 23):
        made = datetime(2026, 3, 2, hour, tzinfo=UTC) - timedelta(hours=zone)
        check_order(Quote, {"occurred_at": made, "valid_until": date(2026, 3, 2)})


def test_a_record_made_now_cannot_have_ended_before(store: Store) -> None:
    values: dict[str, Any] = {"subject": "Pump leaks", "closed_at": MONDAY - timedelta(days=1)}
    refused = pytest.raises(InvalidValueError, match=r"ticket.closed_at: expected nothing before occurred_at")
    with refused, store.transaction() as tx:
        tx.create(RECORD_TYPES["ticket"](account_id=make_account(tx).id, **values))
