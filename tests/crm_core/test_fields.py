"""Custom fields, when fields are known, and how far knowledge reaches."""

from __future__ import annotations

from datetime import timedelta

import pytest

from crm_core.declared import check_custom
from crm_core.errors import FieldAlreadyDeclaredError, InvalidValueError, UnknownFieldError
from crm_core.fields import (
    FieldKind,
    Known,
    declare_field,
    known_at,
    list_fields,
    observed_until,
    set_observed_until,
)
from crm_core.store import Store


def declare_tier(store: Store, *, known: Known = Known.CREATION) -> None:
    with store.transaction() as transaction:
        declare_field(
            transaction.session,
            record_type="lead",
            name="custom.tier",
            kind=FieldKind.TEXT,
            known=known,
            label_zh="客户等级",
        )


def test_a_field_declared_twice_alike_is_one_field(store: Store) -> None:
    declare_tier(store)
    declare_tier(store)
    with store.reading() as session:
        assert [(f.name, f.known, f.label_zh) for f in list_fields(session, "lead")] == [
            ("custom.tier", "creation", "客户等级")
        ]


def test_a_field_declared_with_another_meaning_is_refused(store: Store) -> None:
    declare_tier(store)
    with pytest.raises(
        FieldAlreadyDeclaredError, match="known at creation; this asks for text, known at out"
    ):
        declare_tier(store, known=Known.OUTCOME)


def test_each_field_says_when_it_is_known(store: Store) -> None:
    declare_tier(store)
    with store.transaction() as transaction:
        declare_field(transaction.session, record_type="deal", name="amount", known=Known.UNKNOWN)
    with store.reading() as session:
        assert known_at(session, "lead", "custom.tier") is Known.CREATION
        assert known_at(session, "lead", "source") is Known.HISTORY
        assert known_at(session, "lead", "converted_at") is Known.OUTCOME
        assert known_at(session, "deal", "amount") is Known.UNKNOWN
        for name in ("shoe_size", "custom.shoe_size"):
            with pytest.raises(UnknownFieldError, match="shoe_size"):
                known_at(session, "lead", name)


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (FieldKind.TEXT, "gold", 7),
        (FieldKind.NUMBER, 2.5, "2.5"),
        (FieldKind.NUMBER, 2, float("inf")),
        (FieldKind.NUMBER, 2, True),
        (FieldKind.FLAG, False, 0),
        (FieldKind.INSTANT, 1, "now"),
        (FieldKind.DAY, 1, 1.5),
    ],
)
def test_a_custom_value_must_be_of_its_fields_kind(
    store: Store, kind: FieldKind, good: object, bad: object
) -> None:
    with store.transaction() as transaction:
        declare_field(
            transaction.session, record_type="lead", name="custom.x", kind=kind, known=Known.CREATION
        )
    with store.reading() as session:
        check_custom(session, "lead", {"x": good})
        check_custom(session, "lead", {"x": None})
        with pytest.raises(InvalidValueError, match=r"lead\.custom\.x"):
            check_custom(session, "lead", {"x": bad})
        with pytest.raises(UnknownFieldError, match=r"custom\.y"):
            check_custom(session, "lead", {"y": 1})


def test_knowledge_reaches_until_now_unless_an_extract_ended_before(store: Store) -> None:
    now = store.clock.now()
    with store.transaction() as transaction:
        set_observed_until(transaction.session, "order", now - timedelta(days=9))
        set_observed_until(transaction.session, "lead", now + timedelta(days=9))
    with store.reading() as session:
        assert observed_until(session, "order", now=now) == now - timedelta(days=9)
        assert observed_until(session, "lead", now=now) == now
        assert observed_until(session, "deal", now=now) == now
