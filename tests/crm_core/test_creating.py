"""Many records at once are what the same records are one by one, in every table and every error."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from sqlalchemy import func, select, text

from crm_core.access import Reader
from crm_core.arrays import NO_INSTANT, read_arrays
from crm_core.changes import Change, Source
from crm_core.clock import DAY, FixedClock, day_number, micros
from crm_core.errors import (
    CRMError,
    DuplicateExternalIdError,
    FutureEventError,
    InvalidValueError,
    UnknownFieldError,
)
from crm_core.fields import FieldKind, Known, declare_field
from crm_core.record_types import declare_record_type
from crm_core.records import Activity, CustomRecord, Deal, Lead, Record
from crm_core.search import search
from crm_core.search_index import Fresh
from crm_core.store import Store, Transaction
from crm_core.validation import columns_of
from tests.factories import declare_custom, make_account, make_lead, make_user

THEN = datetime(2026, 1, 5, 8, tzinfo=UTC)
ROWS: list[dict[str, Any]] = [
    {"name": "方达阀门", "external_id": "1", "status": "open", "employees": 7, "occurred_at": THEN},
    {"name": "Nordwind", "external_id": "2", "employees": None, "recorded_at": THEN, "occurred_at": THEN},
    {"name": "\U0001f600", "email": "a@b.example", "scoring_opt_out": True, "custom": {"tier": "金"}},
    {"name": "Last", "status": None, "probability": 0.25, "reasons": [{"en": "x"}]},
]


def contents(store: Store, model: type[Record]) -> tuple[list[Any], list[Any]]:
    """Return all records of a type and all that the log says of them, without what differs by nature."""
    logged = [column for column in Change.__table__.columns if column.name not in {"id", "sequence"}]
    with store.reading() as session:
        records = session.execute(select(*columns_of(model).values()).order_by(columns_of(model)["id"])).all()
        changes = session.execute(
            select(*logged).where(Change.record_type == model.record_type).order_by(Change.id)
        ).all()
    return [tuple(row) for row in records], [tuple(row) for row in changes]


def one_by_one(transaction: Transaction, model: type[Record], rows: Sequence[Mapping[str, Any]]) -> None:
    for row in rows:
        transaction.create(model(**{name: value for name, value in row.items() if value is not None}))


def as_columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    return {name: [row.get(name) for row in rows] for name in {name: None for row in rows for name in row}}


def forget(store: Store, *tables: str) -> None:
    with store.engine.begin() as connection:
        for table in tables:
            connection.execute(text(f"DELETE FROM {table}"))
        if connection.dialect.name == "postgresql":
            for table in tables:
                connection.execute(text(f"ALTER SEQUENCE {table}_id_seq RESTART"))


def test_rows_and_columns_give_what_one_by_one_gives(store: Store) -> None:
    found = []
    for way in ("single", "rows", "columns"):
        with store.transaction(source=Source.IMPORT) as transaction:
            declare_custom(transaction, "lead", tier="text")
            if way == "single":
                one_by_one(transaction, Lead, ROWS)
            elif way == "rows":
                assert transaction.create_many(Lead, ROWS) == [1, 2, 3, 4]
            else:
                assert transaction.create_columns(Lead, as_columns(ROWS)).tolist() == [1, 2, 3, 4]
        found.append(contents(store, Lead))
        forget(store, "leads", "changes")
    assert len(found[0][0]) == len(found[0][1]) == 4
    assert found[0] == found[1] == found[2]


def test_what_was_read_as_arrays_can_be_written_as_it_is(store: Store) -> None:
    with store.transaction() as transaction:
        account_id = make_account(transaction).id
    rows = [
        {
            "name": f"阀门 {number}",
            "account_id": account_id,
            "stage": "needs",
            "amount": Decimal(number) / 10_000 if number % 3 else None,
            "expected_close_on": date(2026, 1, number) if number % 2 else None,
            "rep_probability": number / 10 if number % 2 else None,
            "occurred_at": THEN,
            "recorded_at": THEN + timedelta(seconds=number),
        }
        for number in range(1, 9)
    ]
    with store.transaction(source=Source.IMPORT) as transaction:
        transaction.create_many(Deal, rows)
    written = contents(store, Deal)
    names = list(rows[0])
    with store.reading() as session:
        columns = read_arrays(session, select(*(columns_of(Deal)[name] for name in names)).order_by(Deal.id))
    forget(store, "deals", "changes")
    with store.transaction(source=Source.IMPORT) as transaction:
        transaction.create_columns(Deal, columns)
    assert contents(store, Deal) == written


def test_all_change_rows_of_a_transaction_have_its_sequence(store: Store) -> None:
    with store.transaction() as transaction:
        make_lead(transaction)
        transaction.create_columns(Lead, {"name": ["One"] * 25_000})
    with store.reading() as session:
        log = read_arrays(session, select(Change.sequence, Change.record_id).order_by(Change.id))
    assert np.unique(log["sequence"]).size == 1
    assert log["record_id"].tolist() == list(range(1, 25_002))


def test_many_new_texts_are_found(store: Store) -> None:
    names = [f"Company {number}" for number in range(600)]
    with store.transaction() as transaction:
        admin = make_user(transaction, role="admin")
        ids = transaction.create_columns(Lead, {"name": np.array([*names, "方达阀门"], dtype=object)})
    with store.reading() as session:
        assert session.scalar(select(func.count()).select_from(Fresh)) == 1  # the admin
        hits = search(Reader(session, admin), "方达")
    assert [hit.record_id for hit in hits] == [int(ids[-1])]


BAD: list[tuple[dict[str, Any], type[CRMError]]] = [
    ({"name": 7}, InvalidValueError),
    ({"name": "a\x00b"}, InvalidValueError),
    ({"name": "half \ud800 pair"}, InvalidValueError),
    ({"name": "x" * 201}, InvalidValueError),
    ({"status": "sleeping"}, InvalidValueError),
    ({"status": ["open"]}, InvalidValueError),
    ({"employees": -1}, InvalidValueError),
    ({"employees": True}, InvalidValueError),
    ({"employees": "9"}, InvalidValueError),
    ({"account_id": 2**63}, InvalidValueError),
    ({"scoring_opt_out": 1}, InvalidValueError),
    ({"custom": {"ratio": float("nan")}}, InvalidValueError),
    ({"occurred_at": datetime(2026, 1, 1)}, InvalidValueError),  # noqa: DTZ001  naive on purpose
    ({"occurred_at": "yesterday"}, InvalidValueError),
    ({"occurred_at": datetime(2030, 1, 1, tzinfo=UTC)}, FutureEventError),
    ({"recorded_at": THEN}, InvalidValueError),
    ({"shoe_size": 43}, UnknownFieldError),
]


@pytest.mark.parametrize(("bad", "error"), BAD)
def test_the_first_bad_record_is_named_by_the_same_error_in_each_way(
    store: Store, bad: dict[str, Any], error: type[CRMError]
) -> None:
    with store.transaction() as transaction:
        declare_custom(transaction, "lead", ratio="number")
    rows = [{"name": "Good"}, {"name": "Good", **bad}, {"name": "Good", **bad}, {"name": 8}]
    ways: list[Callable[[Transaction], object]] = [
        lambda transaction: transaction.create_many(Lead, [rows[1]]),
        lambda transaction: transaction.create_many(Lead, rows),
        lambda transaction: transaction.create_columns(Lead, as_columns(rows)),
    ]
    messages = []
    for way in ways:
        with pytest.raises(error) as caught, store.transaction() as transaction:
            way(transaction)
        messages.append(str(caught.value))
    assert len(set(messages)) == 1
    assert contents(store, Lead) == ([], [])


@pytest.mark.parametrize(
    ("column", "error"),
    [
        ({"occurred_at": np.array([2**62, 0])}, InvalidValueError),
        ({"occurred_at": np.array([micros(datetime(2030, 1, 1, tzinfo=UTC)), 0])}, FutureEventError),
        ({"duration_seconds": np.array([5, -5])}, InvalidValueError),
        ({"kind": np.array([5, 6])}, InvalidValueError),
        ({"owner_id": np.array([0.5, np.inf])}, InvalidValueError),
    ],
)
def test_a_number_that_does_not_fit_is_refused_in_an_array_too(
    store: Store, column: dict[str, Any], error: type[CRMError]
) -> None:
    columns = {"kind": ["call", "call"], **column}
    with pytest.raises(error, match=next(iter(column))), store.transaction() as transaction:
        transaction.create_columns(Activity, columns)
    assert contents(store, Activity) == ([], [])


def test_a_day_in_an_array_is_a_midnight(store: Store) -> None:
    with store.transaction() as transaction:
        account_id = make_account(transaction).id
        columns: dict[str, Any] = {
            "name": ["One"],
            "account_id": [account_id],
            "stage": ["needs"],
            "expected_close_on": np.array([day_number(date(2026, 5, 1)) * DAY]),
        }
        transaction.create_columns(Deal, columns)
        with pytest.raises(InvalidValueError, match="expected_close_on"):
            transaction.create_columns(Deal, {**columns, "expected_close_on": np.array([DAY + 1])})


def test_what_a_new_record_must_have_is_missed_in_columns_too(store: Store) -> None:
    with store.transaction() as transaction:
        field = declare_field(
            transaction.session,
            record_type="lead",
            name="custom.tier",
            kind=FieldKind.TEXT,
            known=Known.CREATION,
            required=True,
        )
        assert field.required
    with pytest.raises(InvalidValueError, match="required"), store.transaction() as transaction:
        transaction.create_columns(Lead, {"name": ["One"]})


def test_nothing_ends_before_it_began_in_columns_either(store: Store) -> None:
    with store.transaction() as transaction:
        account_id = make_account(transaction).id
    columns: dict[str, Any] = {
        "name": ["One"] * 2,
        "account_id": [account_id] * 2,
        "stage": ["needs"] * 2,
        "occurred_at": [THEN] * 2,
        "closed_at": np.array([NO_INSTANT, micros(THEN) - 1]),
    }
    with (
        pytest.raises(InvalidValueError, match=r"deal\.closed_at"),
        store.transaction(source=Source.IMPORT) as transaction,
    ):
        transaction.create_columns(Deal, columns)


def test_columns_of_different_lengths_are_refused(store: Store) -> None:
    with (
        pytest.raises(InvalidValueError, match=r"lead\.email"),
        store.transaction() as transaction,
    ):
        transaction.create_columns(Lead, {"name": ["One", "Two"], "email": ["a@b.example"]})


def test_no_columns_are_no_records(store: Store) -> None:
    with store.transaction() as transaction:
        assert transaction.create_columns(Lead, {}).size == 0
        assert transaction.create_columns(Lead, {"name": []}).size == 0
        assert transaction.create_many(Lead, []) == []
    assert contents(store, Lead) == ([], [])


@pytest.mark.parametrize("external_ids", [["A", "B", "B"], ["A", "old", None]])
def test_an_external_id_that_is_taken_is_named(store: Store, external_ids: list[str | None]) -> None:
    with store.transaction() as transaction:
        make_lead(transaction, external_id="old")
    with (
        pytest.raises(DuplicateExternalIdError, match=r"'(B|old)'"),
        store.transaction() as transaction,
    ):
        transaction.create_columns(Lead, {"name": ["One"] * 3, "external_id": external_ids})
    assert len(contents(store, Lead)[0]) == 1


def test_nothing_said_of_when_is_now_and_a_moment_ahead_is_too(store: Store, clock: FixedClock) -> None:
    now = micros(clock.now())
    with store.transaction() as transaction:
        transaction.create_columns(
            Activity, {"kind": ["call"] * 3, "occurred_at": np.array([NO_INSTANT, now + 1_000_000, now - 1])}
        )
    with store.reading() as session:
        found = read_arrays(session, select(Activity.occurred_at, Activity.recorded_at).order_by(Activity.id))
    assert found["occurred_at"].tolist() == [now, now, now - 1]
    assert found["recorded_at"].tolist() == [now] * 3


@pytest.mark.parametrize("employees", [[2**70, 1], [2**63, -1], [-(2**64), None]])
def test_an_integer_beyond_64_bits_is_named(store: Store, employees: list[int | None]) -> None:
    with store.transaction() as transaction, pytest.raises(InvalidValueError, match="employees"):
        transaction.create_columns(Lead, {"name": ["One"] * 2, "employees": employees})


def test_the_external_id_named_is_taken_in_its_own_declared_type(store: Store) -> None:
    with store.transaction() as transaction:
        shop, machine = (
            declare_record_type(transaction.session, name=name, label_en=name, label_zh=name).id
            for name in ("shop", "machine")
        )
        transaction.create(CustomRecord(type_id=shop, name="x", external_id="X"))
        transaction.create(CustomRecord(type_id=machine, name="y", external_id="Y"))
        rows = [{"type_id": machine, "name": each, "external_id": each} for each in ("X", "Y")]
        with pytest.raises(DuplicateExternalIdError, match="'Y'"):
            transaction.create_many(CustomRecord, rows)
