"""Conditions on built-in and custom fields, on both databases."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from time import process_time

import pytest
from sqlalchemy import select

from crm_core.access import FieldRight, Reader
from crm_core.errors import AccessDeniedError, FilterError, UnknownFieldError
from crm_core.fields import Choice, FieldKind, Known, declare_field
from crm_core.filters import compile_filter, parse_condition
from crm_core.record_types import declare_record_type
from crm_core.records import CustomRecord, Deal, User
from crm_core.store import Store, Transaction
from tests.factories import declare_custom, make_deal, make_user


def fill(transaction: Transaction) -> User:
    declare_custom(
        transaction,
        "deal",
        note="text",
        size="number",
        tender="flag",
        visit="day",
        at="instant",
        cost="money",
    )
    declare_field(
        transaction.session,
        record_type="deal",
        name="custom.grade",
        kind=FieldKind.CHOICE,
        known=Known.HISTORY,
        choices=[Choice(value="A"), Choice(value="B"), Choice(value="C,D")],
    )
    day, at = date(2026, 2, 1), datetime(2026, 2, 1, 8, tzinfo=UTC)
    made = [
        (
            "one",
            1000,
            {"grade": "A", "size": 2, "tender": True, "visit": day, "at": at, "cost": Decimal("9.5")},
        ),
        ("two", 2000, {"grade": "B", "size": 2.5, "tender": False, "note": "50% 折扣_x"}),
        ("three", None, {"grade": "C,D", "size": -1, "visit": day + timedelta(days=1), "cost": Decimal(10)}),
        ("four", 2**40, None),
    ]
    for name, amount, custom in made:
        make_deal(transaction, name=name, amount=None if amount is None else Decimal(amount), custom=custom)
    return make_user(transaction, "Adam", role="admin")


CASES = {
    "amount:ge:1000": "one two four",
    "amount:between:1000,2000.00": "one two",
    "amount:empty": "three",
    "name:in:one,four": "one four",
    "name:contains:O": "one two four",
    "status:eq:open": "one two three four",
    "version:lt:99999999999": "one two three four",
    "custom.grade:eq:A": "one",
    "custom.grade:ne:A": "two three four",
    r"custom.grade:in:A,C\,D": "one three",
    "custom.grade:not_in:A,B": "three four",
    "custom.grade:not_empty": "one two three",
    "custom.tender:eq:true": "one",
    "custom.tender:ne:true": "two three four",
    "custom.size:gt:2": "two",
    "custom.size:between:-1,2": "one three",
    "custom.visit:le:2026-02-01": "one",
    "custom.at:ge:2026-02-01": "one",
    "custom.at:gt:2026-02-01T16:00:00+08:00": "",
    "custom.cost:lt:9.51": "one",
    "custom.note:contains:50% 折扣_": "two",
    "custom.note:contains:5_%": "",
}


def test_each_condition_lets_the_right_records_through(store: Store) -> None:
    with store.transaction() as transaction:
        adam = fill(transaction)
    with store.reading() as session:
        reader = Reader(session, adam)
        for text, expected in CASES.items():
            query = select(Deal.name).where(compile_filter(reader, "deal", [text])).order_by(Deal.id)
            assert " ".join(session.scalars(query)) == expected, text
        both = compile_filter(reader, "deal", ["custom.grade:in:A,B", "amount:gt:1000"])
        assert session.scalars(select(Deal.name).where(both)).all() == ["two"]


@pytest.mark.parametrize(
    ("text", "error", "said"),
    [
        ("amount", FilterError, "expected FIELD:OP"),
        ("amount:like:5", FilterError, "expected one of eq, ne"),
        ("amount:ge", FilterError, "got no value"),
        ("amount:ge:much", FilterError, r"amount: expected an amount such as 1000 or 99\.50, got 'much'"),
        ("amount:between:1", FilterError, "two values with a comma"),
        ("amount:empty:1", FilterError, "nothing after empty"),
        ("name:lt:a", FilterError, "a text can be asked for eq"),
        ("custom.grade:eq:Z", FilterError, "expected one of A, B, C,D, got 'Z'"),
        ("custom.tender:eq:1", FilterError, "true or false"),
        ("custom.size:gt:nan", FilterError, "a finite number"),
        ("custom.visit:eq:soon", FilterError, "a day such as"),
        ("custom.shoe:eq:1", UnknownFieldError, r"custom\.shoe"),
        ("reasons:eq:1", FilterError, "holds a list"),
        ("name'; drop table deals:eq:1", UnknownFieldError, "drop table"),
    ],
)
def test_a_condition_that_makes_no_sense_is_refused_with_what_was_expected(
    small_store: Store, text: str, error: type[Exception], said: str
) -> None:
    with small_store.reading() as session:
        reader = Reader(session, session.scalars(select(User)).one())
        with pytest.raises(error, match=said):
            compile_filter(reader, "deal", [text])


@pytest.fixture(scope="module")
def small_store(tmp_path_factory: pytest.TempPathFactory, empty_database: object) -> Store:
    """One store on SQLite for what is only read."""
    import shutil

    from crm_core.clock import FixedClock
    from tests.conftest import MONDAY

    path = tmp_path_factory.mktemp("filters") / "crm.db"
    shutil.copy(str(empty_database), path)
    made = Store(f"sqlite:///{path}", clock=FixedClock(MONDAY))
    with made.transaction() as transaction:
        fill(transaction)
    return made


def test_a_field_that_a_role_may_not_see_cannot_be_asked_for(store: Store) -> None:
    with store.transaction() as transaction:
        fill(transaction)
        ana = make_user(transaction, "Ana")
        hidden = FieldRight(role="rep", record_type="deal", field="custom.cost", read=False, write=False)
        transaction.session.add(hidden)
    with store.reading() as session, pytest.raises(AccessDeniedError, match=r"filter by deal\.custom\.cost"):
        compile_filter(Reader(session, ana), "deal", ["custom.cost:gt:1"])


def test_commas_and_backslashes_can_be_part_of_a_value() -> None:
    assert parse_condition(r"name:in:a\,b,c\\,,d").values == ("a,b", "c\\", "", "d")
    assert parse_condition("name:eq:a:b,c").values == ("a:b,c",)
    assert parse_condition("name:in:a\\\nb,c\\").values == ("a\\\nb", "c\\")


def test_no_list_of_values_takes_long_to_read() -> None:
    began = process_time()
    for _ in range(20):
        assert len(parse_condition("name:in:" + "a" * 1_900 + "\\\nb").values) == 1
    assert process_time() - began < 0.5


def test_records_of_all_declared_types_are_asked_for_together(store: Store) -> None:
    with store.transaction() as transaction:
        kinds = [
            declare_record_type(transaction.session, name=name, label_en=name, label_zh=name)
            for name in ("shop", "machine")
        ]
        made = [transaction.create(CustomRecord(type_id=kind.id, name="Harbour")) for kind in kinds]
        reader = Reader(transaction.session, make_user(transaction, "Adam", role="admin"))
        for record_type, expected in (("custom_record", made), ("shop", made[:1])):
            asked = compile_filter(reader, record_type, ["name:eq:Harbour"])
            found = transaction.session.scalars(select(CustomRecord.id).where(asked)).all()
            assert sorted(found) == [each.id for each in expected]
