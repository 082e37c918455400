"""Reading columns gives what reading records gives, from the state that the session sees."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Select,
    func,
    insert,
    literal_column,
    select,
    text,
    type_coerce,
)
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session
from sqlalchemy.types import Text

from crm_core.arrays import NO_INSTANT, among, read_arrays
from crm_core.clock import DAY, FixedClock, day_number, micros
from crm_core.columns import money_units
from crm_core.records import Account, Activity, Deal, Lead
from crm_core.store import Store
from tests.factories import declare_custom, make_account, make_deal, make_lead

WORDS = ("方达阀门", "\U0001f600 and é", "plain", "", 'quote " and \\N \t line\n', "%s %(x)s")
MANY = 17_000
"""Enough rows for several bunches of either database."""


def write_deals(store: Store) -> None:
    """Write deals with every kind of column, each of them empty somewhere."""
    with store.transaction() as transaction:
        declare_custom(transaction, "deal", tier="text", size="number")
        for number, word in enumerate(WORDS):
            full = number % 2 == 0
            make_deal(
                transaction,
                name=word,
                amount=Decimal(number) - Decimal("0.0001") if full else None,
                expected_close_on=date(1969, 12, 30) + timedelta(days=number) if full else None,
                rep_probability=number / 7 if full else None,
                custom={"tier": word, "size": number} if full else None,
            )


def all_kinds() -> Select[*tuple[Any, ...]]:
    return select(
        Deal.id,
        Deal.name,
        Deal.amount,
        Deal.expected_close_on,
        Deal.rep_probability,
        Deal.recorded_at,
        Deal.deleted_at,
        Deal.custom,
    ).order_by(Deal.id)


def expected(deals: Sequence[Deal]) -> dict[str, list[Any]]:
    """Return what the arrays must hold, by way of the records."""
    return {
        "id": [deal.id for deal in deals],
        "name": [deal.name for deal in deals],
        "amount": [NO_INSTANT if deal.amount is None else money_units(deal.amount) for deal in deals],
        "expected_close_on": [
            NO_INSTANT if deal.expected_close_on is None else day_number(deal.expected_close_on) * DAY
            for deal in deals
        ],
        "rep_probability": [
            np.nan if deal.rep_probability is None else deal.rep_probability for deal in deals
        ],
        "recorded_at": [micros(deal.recorded_at) for deal in deals],
        "deleted_at": [NO_INSTANT for _ in deals],
        "custom": [deal.custom for deal in deals],
    }


def write_activities(store: Store, count: int = MANY) -> None:
    """Write many activities straight into their table."""
    when = micros(store.clock.now())
    query = text(
        "INSERT INTO activities (occurred_at, recorded_at, version, kind, subject, duration_seconds) "
        "VALUES (:at, :at, 1, :kind, :subject, :duration)"
    )
    rows = [
        {
            "at": when + number,
            "kind": ("call", "mail")[number % 2],
            "subject": f"第 {number} 次",
            "duration": None if number % 3 else number,
        }
        for number in range(count)
    ]
    with store.transaction() as transaction:
        transaction.session.execute(query, rows)


def test_arrays_hold_what_the_records_hold(store: Store) -> None:
    write_deals(store)
    with store.reading() as session:
        found = read_arrays(session, all_kinds())
        records = session.scalars(select(Deal).order_by(Deal.id)).all()
        for name, values in expected(records).items():
            np.testing.assert_array_equal(found[name], np.array(values, dtype=found[name].dtype), name)


def test_a_query_for_a_few_and_one_for_all_give_the_same(store: Store) -> None:
    write_deals(store)
    with store.reading() as session:
        everything = read_arrays(session, all_kinds())
        few = read_arrays(session, all_kinds().where(among(Deal.id, everything["id"])))
    for name, values in everything.items():
        np.testing.assert_array_equal(few[name], values, name)
        assert few[name].dtype == values.dtype


def test_many_rows_come_whole_and_in_order(store: Store) -> None:
    write_activities(store)
    columns = (Activity.id, Activity.kind, Activity.subject, Activity.duration_seconds)
    with store.reading() as session:
        found = read_arrays(session, select(*columns).order_by(Activity.id.desc()))
        rows = session.execute(select(*columns).order_by(Activity.id.desc())).all()
    assert len(rows) == MANY
    for column, cells in zip(columns, zip(*rows, strict=True), strict=True):
        held = [NO_INSTANT if cell is None else cell for cell in cells]
        assert found[column.key].tolist() == held


def test_no_rows_are_arrays_of_the_same_types(store: Store) -> None:
    write_deals(store)
    with store.reading() as session:
        some = read_arrays(session, all_kinds())
        none = read_arrays(session, all_kinds().where(Deal.name == "nobody"))
    assert {name: (array.dtype, array.size) for name, array in none.items()} == {
        name: (array.dtype, 0) for name, array in some.items()
    }


def test_a_column_without_any_value_is_nothing_throughout(store: Store) -> None:
    with store.transaction() as transaction:
        make_lead(transaction, employees=None)
        make_lead(transaction, employees=None)
    with store.reading() as session:
        found = read_arrays(session, select(Lead.employees, Lead.probability, Lead.phone, Lead.deleted_at))
    assert found["employees"].tolist() == found["deleted_at"].tolist() == [NO_INSTANT] * 2
    assert np.isnan(found["probability"]).all()
    assert found["phone"].tolist() == [None, None]


@pytest.mark.parametrize("big", [2**63 - 1, -(2**63) + 1, 2**53 + 1, -1, 0])
def test_an_integer_of_64_bits_keeps_its_last_bit(store: Store, big: int) -> None:
    with store.transaction() as transaction:
        transaction.session.execute(
            insert(Activity),
            [
                {
                    "kind": "call",
                    "occurred_at": store.clock.now(),
                    "recorded_at": store.clock.now(),
                    "subject_id": big,
                }
            ],
        )
    with store.reading() as session:
        assert read_arrays(session, select(Activity.subject_id))["subject_id"].tolist() == [big]


def test_what_is_computed_has_the_type_that_the_query_says(store: Store) -> None:
    write_deals(store)
    query = select(
        func.count().label("count"),
        func.sum(Deal.amount).label("sum"),
        func.max(Deal.occurred_at).label("last"),
        func.max(Deal.rep_probability).label("most"),
        (Deal.amount > 1).label("big"),
        type_coerce(Deal.custom, Text).label("custom"),
    ).group_by(Deal.id)
    with store.reading() as session:
        found = read_arrays(session, query.where(Deal.amount.is_not(None)).order_by(func.sum(Deal.amount)))
    assert found["count"].tolist() == [1, 1, 1]
    assert found["sum"].tolist() == [-1, 19_999, 39_999]
    assert found["last"].tolist() == [micros(store.clock.now())] * 3
    assert found["most"].tolist() == [0, 2 / 7, 4 / 7]
    assert found["big"].tolist() == [0.0, 1.0, 1.0]
    assert found["custom"][0] == '{"size":0,"tier":"方达阀门"}'


def test_different_rows_may_be_asked_for_in_order(store: Store) -> None:
    write_deals(store)
    query = select(Deal.account_id, Deal.amount).distinct().order_by(Deal.amount.desc(), Deal.account_id)
    with store.reading() as session:
        assert read_arrays(session, query.where(Deal.amount.is_not(None)))["amount"].tolist() == [
            39_999,
            19_999,
            -1,
        ]


def test_reading_columns_leaves_reading_records_as_it_was(store: Store) -> None:
    write_deals(store)
    with store.reading() as session:
        read_arrays(session, all_kinds())
        assert session.execute(all_kinds()).first() == session.execute(all_kinds().limit(1)).one()
        amounts = session.scalars(select(Deal.amount).order_by(Deal.id)).all()
        assert read_arrays(session, select(Deal.amount).order_by(Deal.id))["amount"].size == len(amounts)


def test_values_in_conditions_are_values_and_not_sql(store: Store) -> None:
    write_deals(store)
    with store.reading() as session:
        for word in WORDS:
            assert read_arrays(session, select(Deal.name).where(Deal.name == word))["name"].tolist() == [word]
        odd = read_arrays(session, select(Deal.id).where(Deal.name.like("%'; DROP TABLE deals; --%")))
    assert odd["id"].size == 0


def test_a_writer_reads_what_it_has_written(store: Store) -> None:
    with store.transaction() as transaction:
        lead = make_lead(transaction, name="Before")
        transaction.update(lead, {"name": "After"})
        found = read_arrays(transaction.session, select(Lead.id, Lead.name))
    assert (found["id"].tolist(), found["name"].tolist()) == ([lead.id], ["After"])


def test_a_reader_sees_one_state_while_others_commit(store: Store) -> None:
    write_activities(store, 1_000)
    query = select(Activity.id, Activity.kind)
    with store.reading() as session:
        before = count_accounts(session)
        with store.transaction() as transaction:
            make_account(transaction)
        write_activities(store, 1_000)
        seen = read_arrays(session, query)["id"].size, count_accounts(session)
    with store.reading() as session:
        later = read_arrays(session, query)["id"].size, count_accounts(session)
    assert (before, seen, later) == (0, (1_000, 0), (2_000, 1))


def count_accounts(session: Session) -> int:
    return int(read_arrays(session, select(func.count(Account.id).label("count")))["count"][0])


def test_a_query_that_fails_says_why_and_the_store_goes_on(store: Store) -> None:
    write_activities(store, 50)
    dividing = select((Activity.id / (Activity.id - 40)).label("ratio"), Activity.kind).order_by(Activity.id)
    if store.engine.dialect.name == "sqlite":
        pytest.skip("SQLite divides by zero: the result is NULL")
    with pytest.raises(DBAPIError, match="division by zero"), store.reading() as session:
        read_arrays(session, dividing)
    with store.reading() as session:
        assert read_arrays(session, select(Activity.id))["id"].size == 50


def test_a_copy_that_breaks_off_in_the_middle_says_why(store: Store, clock: FixedClock) -> None:
    write_activities(store)
    late_zero = (Activity.id / (Activity.id - MANY + 10)).label("ratio")
    if store.engine.dialect.name == "sqlite":
        pytest.skip("SQLite divides by zero: the result is NULL")
    with store.reading() as session:
        with pytest.raises(DBAPIError, match="division by zero"):
            read_arrays(session, select(late_zero, Activity.subject))
        session.rollback()
        assert read_arrays(session, select(Activity.id))["id"].size == MANY


def test_other_threads_run_while_a_copy_waits_in_the_middle(store: Store) -> None:
    write_activities(store)
    if store.engine.dialect.name == "sqlite":
        pytest.skip("SQLite has no server to wait for")
    locks: ColumnElement[int] = literal_column(
        f"CASE WHEN id = {MANY - 10} THEN length(CAST(pg_advisory_xact_lock(7) AS text)) ELSE id END"
    )
    query = select(type_coerce(locks, BigInteger).label("id")).select_from(Activity)
    with store.reading() as holder, store.reading() as session:
        holder.execute(text("SELECT pg_advisory_xact_lock(7)"))
        session.execute(
            text("SET LOCAL statement_timeout = '10s'")
        )  # what nobody lets go of ends in an error
        timer = threading.Timer(0.3, holder.rollback)
        timer.start()
        assert read_arrays(session, query)["id"].size == MANY
        timer.join()
