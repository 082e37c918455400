"""Custom fields and declared record types: what can be declared, and what every write is checked against."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from sqlalchemy import event, select

from crm_core.access import Reader, RoleRight
from crm_core.bulk import Update
from crm_core.changes import Change, Source
from crm_core.clock import FixedClock, micros
from crm_core.errors import (
    CRMError,
    DeclarationError,
    FieldRetiredError,
    InvalidValueError,
    UnknownFieldError,
    UnknownRecordTypeError,
)
from crm_core.fields import (
    Choice,
    FieldKind,
    Known,
    change_field,
    declare_field,
    list_fields,
    restore_field,
    retire_field,
)
from crm_core.filters import compile_filter
from crm_core.history import state_as_of, values_as_of
from crm_core.merging import merge_records
from crm_core.record_types import change_record_type, declare_record_type, retire_record_type
from crm_core.records import Account, CustomRecord, Lead
from crm_core.store import Store, Transaction
from tests.factories import declare_custom, make_account, make_deal, make_lead, make_user

GRADES = [
    Choice(value="A", label_en="Key account", label_zh="重点客户"),
    Choice(value="B", label_en="Ordinary", label_zh="普通客户"),
]


def declare_grade(transaction: Transaction, **given: Any) -> None:
    """客户等级: customer grade."""
    defaults: dict[str, Any] = {
        "record_type": "lead",
        "name": "custom.grade",
        "kind": FieldKind.CHOICE,
        "known": Known.HISTORY,
        "choices": GRADES,
        "label_en": "Customer grade",
        "label_zh": "客户等级",
    }
    declare_field(transaction.session, **{**defaults, **given})


def declare_shops(transaction: Transaction) -> tuple[int, int]:
    """门店 of accounts, and 设备 in shops; return the ids of the types."""
    session = transaction.session
    shop = declare_record_type(
        session, name="shop", label_en="Shop", label_zh="门店", links=["account", "deal"]
    )
    machine = declare_record_type(
        session, name="machine", label_en="Machine", label_zh="设备", links=["shop"]
    )
    declare_custom(transaction, "shop", area="number", opened="day")
    declare_custom(transaction, "machine", price="money")
    return shop.id, machine.id


# ------------------------------------------------------------------------------------------------ values


def created(transaction: Transaction, custom: dict[str, Any]) -> None:
    make_lead(transaction, custom=custom)


def created_with_many(transaction: Transaction, custom: dict[str, Any]) -> None:
    transaction.create_many(Lead, [{"name": "x", "custom": {"grade": "B"}}, {"name": "y", "custom": custom}])


def updated(transaction: Transaction, custom: dict[str, Any]) -> None:
    lead = make_lead(transaction, custom={"grade": "A"})
    transaction.update(lead, {f"custom.{name}": value for name, value in custom.items()})


def updated_with_many(transaction: Transaction, custom: dict[str, Any]) -> None:
    lead = make_lead(transaction, custom={"grade": "A"})
    values = {f"custom.{name}": value for name, value in custom.items()}
    transaction.update_many(Lead, [Update(record_id=lead.id, values=values)])


BAD: list[tuple[dict[str, Any], type[CRMError], str]] = [
    ({"grade": "C"}, InvalidValueError, r"lead\.custom\.grade: expected one of A, B, got 'C'"),
    ({"grade": "A", "shoe": 1}, UnknownFieldError, r"custom\.shoe"),
    ({"grade": "A", "tender": "yes"}, InvalidValueError, "true or false, got 'yes'"),
    ({"grade": "A", "boss": 999}, InvalidValueError, "the id of a lead that exists, got 999"),
    ({"grade": "A", "old": 1}, FieldRetiredError, r"custom\.old is retired"),
    ({"grade": None}, InvalidValueError, r"lead\.custom\.grade: .*the field is required"),
]


@pytest.mark.parametrize("write", [created, created_with_many, updated, updated_with_many])
def test_every_way_of_writing_refuses_what_a_field_cannot_hold(
    store: Store, write: Callable[[Transaction, dict[str, Any]], None]
) -> None:
    with store.transaction() as transaction:
        declare_grade(transaction, required=True)
        declare_custom(transaction, "lead", tender="flag", old="text")
        declare_field(
            transaction.session,
            record_type="lead",
            name="custom.boss",
            kind=FieldKind.REFERENCE,
            known=Known.HISTORY,
            target="lead",
        )
        retire_field(transaction.session, "lead", "custom.old")
        restore_field(transaction.session, "lead", "custom.old")
        retire_field(transaction.session, "lead", "custom.old")
    if write in (created, created_with_many):
        with pytest.raises(InvalidValueError, match="required"), store.transaction() as transaction:
            write(transaction, {"tender": True})
    for custom, error, said in BAD:
        with pytest.raises(error, match=said), store.transaction() as transaction:
            write(transaction, custom)
    with store.reading() as session:
        assert session.scalars(select(Lead)).all() == []


def test_programs_may_give_dates_and_amounts_and_the_store_keeps_numbers(store: Store) -> None:
    with store.transaction() as transaction:
        declare_custom(transaction, "lead", visit="day", at="instant", cost="money")
        at = datetime(2026, 1, 2, 3, tzinfo=UTC)
        lead = make_lead(transaction, custom={"visit": date(1970, 1, 3), "at": at, "cost": Decimal("1.5")})
        assert lead.custom == {"visit": 2, "at": micros(at), "cost": 15_000}
        changes = transaction.update(lead, {"custom.visit": date(1970, 1, 4), "custom.cost": Decimal("1.50")})
        assert [(change.field, change.old, change.new) for change in changes] == [("custom.visit", 2, 3)]


def test_checking_a_thousand_rows_asks_the_database_no_more_than_one(store: Store) -> None:
    with store.transaction() as transaction:
        declare_grade(transaction)

    def queries(count: int) -> int:
        asked = []
        with store.transaction() as transaction:
            connection = transaction.session.connection()
            event.listen(connection, "before_cursor_execute", lambda *said: asked.append(said[2]))
            rows = [{"name": "x", "custom": {"grade": "A"}}] * count
            ids = transaction.create_many(Lead, rows)
            updates = [Update(record_id=each, values={"custom.grade": "B"}) for each in ids]
            transaction.update_many(Lead, updates)
        return len(asked)

    assert queries(1000) - queries(1) < 10  # the index for searching takes a few more


# ------------------------------------------------------------------------------------------ declarations


def test_the_log_says_who_declared_what_and_what_it_was_before(store: Store) -> None:
    with store.transaction() as transaction:
        ana = make_user(transaction)
    with store.transaction(source=Source.API, actor_id=ana.id) as transaction:
        declare_grade(transaction)
        declare_grade(transaction)
        change_field(transaction.session, "lead", "custom.grade", label_zh="等级")
        extended = [Choice(value="C"), Choice(value="A", label_en="Key")]
        change_field(transaction.session, "lead", "custom.grade", choices=extended)
        retire_field(transaction.session, "lead", "custom.grade")
    with store.reading() as session:
        rows = session.scalars(select(Change).where(Change.record_type == "field").order_by(Change.id)).all()
        assert [(row.action, row.field) for row in rows] == [
            ("created", None),
            ("updated", "label_zh"),
            ("updated", "choices"),
            ("updated", "retired_at"),
        ]
        assert {(row.actor_id, row.source) for row in rows} == {(ana.id, "api")}
        assert (rows[1].old, rows[1].new) == ("客户等级", "等级")
        (grade,) = list_fields(session, "lead")
        assert [(each["value"], each["label_en"]) for each in grade.choices or ()] == [
            ("A", "Key"),
            ("B", "Ordinary"),
            ("C", None),
        ]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"name": "custom.Grade"}, "small letters"),
        ({"choices": []}, "declared with its values"),
        ({"choices": [*GRADES, Choice(value="A")]}, "two choices have the value 'A'"),
        ({"kind": FieldKind.TEXT}, "a choice, and only that"),
        ({"target": "lead"}, "a reference, and only that"),
        ({"kind": FieldKind.REFERENCE, "choices": [], "target": "shoe"}, "no record type 'shoe'"),
        ({"record_type": "shoe"}, "no record type 'shoe'"),
        ({"label_en": "customer GRADE"}, r"custom\.grade is called 'customer GRADE' already"),
    ],
)
def test_what_cannot_be_declared_is_refused_by_name(store: Store, given: dict[str, Any], said: str) -> None:
    with store.transaction() as transaction:
        declare_grade(transaction)
    other = {"name": "custom.rank", "label_en": None, "label_zh": None, **given}
    refused = pytest.raises((DeclarationError, UnknownRecordTypeError), match=said)
    with refused, store.transaction() as transaction:
        declare_grade(transaction, **other)


def test_a_kind_changes_only_while_there_are_no_values(store: Store) -> None:
    with store.transaction() as transaction:
        declare_custom(transaction, "lead", size="text")
        change_field(transaction.session, "lead", "custom.size", kind=FieldKind.NUMBER)
        lead = make_lead(transaction, custom={"size": 4})
    with store.transaction() as transaction:
        transaction.update(transaction.get(Lead, lead.id), {"custom.size": None})
    with pytest.raises(DeclarationError, match="is a number and has values"), store.transaction() as step:
        change_field(step.session, "lead", "custom.size", kind=FieldKind.TEXT)


def test_a_merge_takes_over_what_fields_still_take(store: Store) -> None:
    with store.transaction() as transaction:
        declare_custom(transaction, "account", tier="text", old="text")
        keep = make_account(transaction)
        gone = make_account(transaction, custom={"tier": "gold", "old": "x"})
        retire_field(transaction.session, "account", "custom.old")
        merge_records(transaction, keep, gone)
        assert keep.custom == {"tier": "gold"}
        assert gone.custom == {"tier": "gold", "old": "x"}


# ------------------------------------------------------------------------------------------- record types


def test_a_declared_record_has_a_history_like_any_other(store: Store, clock: FixedClock) -> None:
    with store.transaction() as transaction:
        shop, _ = declare_shops(transaction)
        account = make_account(transaction)
        record = transaction.create(
            CustomRecord(type_id=shop, name="Harbour", account_id=account.id, custom={"area": 80})
        )
    opened = clock.now()
    clock.advance(timedelta(days=1))
    with store.transaction() as transaction:
        found = transaction.get(CustomRecord, record.id, version=1)
        transaction.update(found, {"custom.area": 120, "name": "Harbour 2"})
    clock.advance(timedelta(days=1))
    with store.transaction() as transaction:
        transaction.delete(transaction.get(CustomRecord, record.id))
    with store.reading() as session:
        states = [
            state_as_of(session, CustomRecord, record.id, opened + timedelta(days=days)) for days in (0, 1, 2)
        ]
        assert [state and (state["name"], state["custom.area"]) for state in states] == [
            ("Harbour", 80),
            ("Harbour 2", 120),
            None,
        ]
        when = np.array([micros(opened), micros(clock.now())])
        ids = np.full(2, record.id)
        assert values_as_of(session, CustomRecord, "custom.area", ids, when).tolist() == [80, 120]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"lead_id": 1}, r"shop\.lead_id: expected nothing: a shop is linked to account, deal"),
        ({"parent_id": 1}, r"shop\.parent_id: expected nothing"),
        ({"custom": {"price": 1}}, r"shop has no field 'custom\.price'"),
        ({"custom": {"area": "big"}}, r"shop\.custom\.area: expected a finite number, got 'big'"),
    ],
)
def test_a_declared_record_is_checked_by_its_own_type(
    store: Store, values: dict[str, Any], said: str
) -> None:
    with store.transaction() as transaction:
        shop, _ = declare_shops(transaction)
        record = transaction.create(CustomRecord(type_id=shop, name="Harbour"))
    with pytest.raises(CRMError, match=said), store.transaction() as transaction:
        transaction.create(CustomRecord(type_id=shop, name="Other", **values))
    plain = {key: value for key, value in values.items() if key != "custom"}
    plain |= {f"custom.{key}": value for key, value in values.get("custom", {}).items()}
    with pytest.raises(CRMError, match=said), store.transaction() as transaction:
        transaction.update(transaction.get(CustomRecord, record.id), plain)


def test_a_machine_stands_in_a_shop_and_nowhere_else(store: Store) -> None:
    with store.transaction() as transaction:
        shop, machine = declare_shops(transaction)
        change_record_type(transaction.session, "shop", links=["shop"])
        harbour, hill = (transaction.create(CustomRecord(type_id=shop, name=name)) for name in ("a", "b"))
        mill = transaction.create(CustomRecord(type_id=machine, name="Mill", parent_id=harbour.id))
        transaction.update(hill, {"parent_id": harbour.id})
    for record_id, parent, said in (
        (mill.id, mill.id, "the id of a shop"),
        (harbour.id, hill.id, f"does not belong to shop {harbour.id} itself"),
        (mill.id, 99, "the id of a shop, got 99"),
    ):
        with pytest.raises(InvalidValueError, match=said), store.transaction() as transaction:
            transaction.update(transaction.get(CustomRecord, record_id), {"parent_id": parent})


def test_a_retired_type_takes_no_records_and_its_names_are_its_own(store: Store) -> None:
    with store.transaction() as transaction:
        shop, _ = declare_shops(transaction)
        retire_record_type(transaction.session, "shop")
    with pytest.raises(InvalidValueError, match="not retired"), store.transaction() as transaction:
        transaction.create(CustomRecord(type_id=shop, name="Harbour"))
    for name, label, links, said in (
        ("order", "x", [], "taken by the program"),
        ("Shop", "x", [], "small letters"),
        ("a__b", "x", [], "single _"),
        ("store", "Shop", [], "shop is called 'Shop' already"),
        ("store", "x", ["shoe"], "expected links to lead, deal"),
    ):
        with pytest.raises(DeclarationError, match=said), store.transaction() as step:
            declare_record_type(step.session, name=name, label_en=label, label_zh="x", links=links)


def test_who_has_the_customer_sees_its_shops_and_the_machines_in_them(store: Store) -> None:
    with store.transaction() as transaction:
        shop, machine = declare_shops(transaction)
        ana, ben = make_user(transaction, "Ana"), make_user(transaction, "Ben")
        account = make_account(transaction, owner_id=ana.id)
        harbour = transaction.create(CustomRecord(type_id=shop, name="Harbour", account_id=account.id))
        mill = transaction.create(CustomRecord(type_id=machine, name="Mill", parent_id=harbour.id))
        own = transaction.create(CustomRecord(type_id=machine, name="Own", owner_id=ben.id))

    def seen(user: Any) -> set[int]:
        with store.reading() as session:
            return {each.id for each in session.scalars(Reader(session, user).select(CustomRecord))}

    assert seen(ana) == {harbour.id, mill.id}
    assert seen(ben) == {own.id}
    with store.transaction() as transaction:
        transaction.session.add(RoleRight(role="rep", record_type="machine", read="all", write="none"))
        transaction.session.add(RoleRight(role="rep", record_type="shop", read="none", write="none"))
    assert seen(ben) == {mill.id, own.id}
    assert seen(ana) == {mill.id, own.id}


def test_records_of_two_types_may_have_the_same_external_id(store: Store) -> None:
    with store.transaction() as transaction:
        shop, machine = declare_shops(transaction)
        for kind in (shop, machine):
            transaction.create(CustomRecord(type_id=kind, name="x", external_id="1"))
        with pytest.raises(CRMError, match="external id '1' exists already"):
            transaction.create(CustomRecord(type_id=shop, name="y", external_id="1"))
        assert make_deal(transaction).id
        assert transaction.session.get(Account, 1) is None


def test_below_a_deleted_record_or_a_denied_type_nothing_is_reached(store: Store) -> None:
    with store.transaction() as transaction:
        shop, machine = declare_shops(transaction)
        ana = make_user(transaction, "Ana")
        harbour = transaction.create(CustomRecord(type_id=shop, name="Harbour", owner_id=ana.id))
        closed = transaction.create(CustomRecord(type_id=shop, name="Closed", owner_id=ana.id))
        below = [
            transaction.create(CustomRecord(type_id=machine, name="Lathe", parent_id=above.id))
            for above in (harbour, closed)
        ]
        transaction.delete(closed)
        seen = select(CustomRecord.id).where(Reader(transaction.session, ana).readable(CustomRecord))
        assert set(transaction.session.scalars(seen)) == {harbour.id, closed.id, below[0].id}
        transaction.session.add(RoleRight(role="rep", record_type="shop", read="none", write="none"))
        transaction.session.flush()
        assert Reader(transaction.session, ana).count(CustomRecord) == 0


def test_a_reason_from_a_denied_type_is_hidden_and_from_another_told(store: Store) -> None:
    with store.transaction() as transaction:
        declare_shops(transaction)
        ana = make_user(transaction, "Ana")
        transaction.session.add(RoleRight(role="rep", record_type="shop", read="none", write="none"))
        transaction.session.flush()
        said = [
            {"group": kind, "log_odds": 1.0, "en": kind, "zh": kind, "fields": [f"{kind}.custom.{field}"]}
            for kind, field in (("shop", "area"), ("machine", "price"))
        ]
        told = Reader(transaction.session, ana).readable_reasons(said)
        assert [each["group"] for each in told] == ["hidden", "machine"]


@pytest.mark.parametrize(("kind", "number"), [("instant", 2**62), ("day", 2**40), ("day", -(2**30))])
def test_an_instant_or_a_day_beyond_the_calendar_is_refused(store: Store, kind: str, number: int) -> None:
    with store.transaction() as transaction:
        declare_custom(transaction, "lead", opened=kind)
        with pytest.raises(InvalidValueError, match=r"lead\.custom\.opened"):
            make_lead(transaction, custom={"opened": number})


def test_a_field_that_is_no_choice_any_more_offers_no_choices(store: Store) -> None:
    with store.transaction() as transaction:
        declare_grade(transaction)
        changed = change_field(transaction.session, "lead", "custom.grade", kind=FieldKind.TEXT)
        assert changed.choices is None
        lead, user = make_lead(transaction, custom={"grade": "C"}), make_user(transaction, role="admin")
        asked = compile_filter(Reader(transaction.session, user), "lead", ["custom.grade:eq:C"])
        assert transaction.session.scalars(select(Lead.id).where(asked)).all() == [lead.id]


def test_references_are_looked_for_however_many_are_written(store: Store) -> None:
    with store.transaction() as transaction:
        declare_field(
            transaction.session,
            record_type="lead",
            name="custom.dealer",
            kind=FieldKind.REFERENCE,
            known=Known.HISTORY,
            target="account",
        )
        lead = make_lead(transaction)
        # More than PostgreSQL takes parameters, none of them there.
        missing = [Update(record_id=lead.id, values={"custom.dealer": 1_000 + n}) for n in range(66_000)]
        with pytest.raises(InvalidValueError, match="the id of a account that exists"):
            transaction.update_many(Lead, missing)
