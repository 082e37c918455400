"""Targets broken down over people and months, and what is reached of money: counted again from the rows."""

from __future__ import annotations

import random
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from flask import Flask
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from crm_core.access import FieldRight, Reader
from crm_core.clock import FixedClock
from crm_core.errors import InvalidValueError, RecordNotFoundError
from crm_core.records import Contract, Payment, User
from crm_core.store import Store
from crm_core.targets import (
    Measure,
    Over,
    Target,
    Wanted,
    Whose,
    gaps_of,
    months_of,
    set_target,
    split_target,
)
from crm_core.totals import parts_of
from serving.owners import Staff
from serving.team import Attained, TeamQuestion, read_team
from tests.factories import make_account, make_contract, make_deal
from tests.serving.conftest import Cast, csrf_of, logged_in


def put(store: Store, user: User, **given: Any) -> Target:
    said: dict[str, Any] = {"period": "2026-Q1", "measure": Measure.WON_AMOUNT, "currency": "EUR", **given}
    with store.transaction() as transaction:
        found = set_target(transaction, user, Wanted(**said))
    assert found is not None
    return found


def split(store: Store, user: User, target: Target, over: Over) -> list[Target]:
    with store.transaction() as transaction:
        return split_target(transaction, user, transaction.session.get_one(Target, target.id), over)


def attained(store: Store, user: User) -> list[Attained]:
    with store.reading() as session:
        question = TeamQuestion(now=store.clock.now(), zone="UTC")
        return list(read_team(Reader(session, user), Staff.read(session), question).targets)


@given(value=st.integers(1, 10_000), count=st.integers(1, 12))
@settings(max_examples=50, deadline=None)
def test_a_count_is_divided_into_whole_numbers_that_sum_to_it(value: int, count: int) -> None:
    parts = parts_of(Decimal(value), [Decimal(1) / count] * count, digits=0)
    assert sum(parts) == value
    assert all(part % 1 == 0 and abs(part - Decimal(value) / count) < 1 for part in parts)


def test_a_team_is_split_over_its_reps_and_a_quarter_over_its_months(store: Store, cast: Cast) -> None:
    of_team = put(store, cast["Mara"], whose=Whose.TEAM, whose_id=cast.north.id, value=Decimal(1001))
    people = split(store, cast["Mara"], of_team, Over.PEOPLE)
    assert {one.whose_id: one.value for one in people} == {
        cast["Ana"].id: Decimal("500.5"),
        cast["Ben"].id: Decimal("500.5"),
    }
    months = split(store, cast["Mara"], people[0], Over.MONTHS)
    assert [(one.period, one.value) for one in months] == [
        ("2026-01", Decimal("166.83")),
        ("2026-02", Decimal("166.84")),
        ("2026-03", Decimal("166.83")),
    ]
    assert months_of("2026-03") == []
    with pytest.raises(InvalidValueError, match="a team with people, or a quarter"):
        split(store, cast["Mara"], months[0], Over.MONTHS)
    elsewhere = put(store, cast["Adam"], whose=Whose.TEAM, whose_id=cast.south.id, value=Decimal(5))
    with pytest.raises(RecordNotFoundError):
        split(store, cast["Mara"], elsewhere, Over.PEOPLE)


def test_parts_that_do_not_sum_are_told(store: Store, cast: Cast) -> None:
    team = put(store, cast["Mara"], whose=Whose.TEAM, whose_id=cast.north.id, value=Decimal(900))
    assert [one.gaps for one in attained(store, cast["Mara"])] == [[]]
    split(store, cast["Mara"], team, Over.PEOPLE)
    assert [one.gaps for one in attained(store, cast["Mara"]) if one.target.whose == Whose.TEAM] == [[]]
    put(store, cast["Mara"], whose=Whose.USER, whose_id=cast["Ana"].id, value=Decimal(500))
    told = next(one for one in attained(store, cast["Mara"]) if one.target.whose == Whose.TEAM)
    assert [(gap.over, gap.parts, gap.count) for gap in told.gaps] == [(Over.PEOPLE, Decimal(950), 2)]
    other = put(
        store, cast["Mara"], whose=Whose.USER, whose_id=cast["Ana"].id, value=Decimal(9), currency="CNY"
    )
    assert gaps_of(other, [told.target, other], []) == []


def test_money_reached_is_that_of_the_rows(store: Store, clock: FixedClock, cast: Cast) -> None:
    """Ana's customers and deals, Ben's deals with her customers, two currencies, two periods."""
    clock.advance(timedelta(days=20))
    chance = random.Random(3)
    with store.transaction() as transaction:
        account = make_account(transaction, owner_id=cast["Ana"].id).id
        deals: list[int | None] = [
            make_deal(transaction, owner_id=cast[name].id, account_id=account).id for name in ("Ana", "Ben")
        ]
        for _ in range(120):
            about: dict[str, Any] = {
                "account_id": account,
                "deal_id": chance.choice([*deals, None]),
                "currency": chance.choice(["EUR", "CNY"]),
                "occurred_at": transaction.now - timedelta(days=chance.randrange(90)),
            }
            make_contract(transaction, **about, value=Decimal(chance.randrange(1, 1000)))
            paid = transaction.now - timedelta(days=chance.randrange(90))
            when = paid if chance.random() < 0.7 else None
            about["occurred_at"] = transaction.now - timedelta(days=90)
            transaction.create(Payment(**about, amount=Decimal(chance.randrange(1, 1000)), paid_at=when))
    targets = [
        put(store, cast["Mara"], whose=whose, whose_id=key, period=period, measure=measure, value=Decimal(9))
        for whose, key in ((Whose.USER, cast["Ben"].id), (Whose.TEAM, cast.north.id))
        for period in ("2026-03", "2026-Q1")
        for measure in (Measure.CONTRACT_VALUE, Measure.PAYMENTS_RECEIVED)
    ]
    found = {one.target.id: one.reached for one in attained(store, cast["Mara"])}
    assert set(found) == {one.id for one in targets}
    with store.reading() as session:
        contracts, payments = session.scalars(select(Contract)).all(), session.scalars(select(Payment)).all()
    for target in targets:
        of_contracts = target.measure == Measure.CONTRACT_VALUE
        rows = (
            [(one, one.occurred_at, one.value) for one in contracts]
            if of_contracts
            else [(one, one.paid_at, one.amount) for one in payments]
        )
        expected = Decimal(0)
        for row, at, amount in rows:
            bens = row.deal_id == deals[1]
            in_time = (
                at is not None
                and at.year == 2026
                and at.month in ({3} if "Q" not in target.period else {1, 2, 3})
            )
            if in_time and row.currency == "EUR" and (bens or target.whose == Whose.TEAM):
                expected += amount or 0
        assert found[target.id] == expected
        assert expected > 0


def test_who_may_not_see_payments_is_told_of_no_target_of_payments(store: Store, cast: Cast) -> None:
    put(
        store,
        cast["Mara"],
        whose=Whose.USER,
        whose_id=cast["Ana"].id,
        measure=Measure.PAYMENTS_RECEIVED,
        value=Decimal(5),
    )
    assert len(attained(store, cast["Ana"])) == 1
    with store.transaction() as transaction:
        hidden = {"role": "rep", "record_type": "payment", "field": "amount", "read": False, "write": False}
        transaction.session.add(FieldRight(**hidden))
    assert attained(store, cast["Ana"]) == []


def test_the_page_breaks_down_and_tells_what_does_not_sum(app: Flask, store: Store, cast: Cast) -> None:
    team = put(store, cast["Mara"], whose=Whose.TEAM, whose_id=cast.north.id, value=Decimal(900))
    mara = logged_in(app, cast["Mara"])
    token = {"csrf_token": csrf_of(mara.get("/team").text)}
    path = f"/team/targets/{team.id}/split"
    assert mara.post(path, data={**token, "over": "weeks"}).status_code == 422
    assert mara.post(path, data={**token, "over": "people"}).status_code == 302
    put(store, cast["Mara"], whose=Whose.USER, whose_id=cast["Ben"].id, value=Decimal(400))
    shown = mara.get("/team").text
    assert "people sum to €850" in shown
    assert mara.post(path, data={**token, "over": "months"}).status_code == 302
    assert logged_in(app, cast["Ana"]).post(path, data={**token, "over": "people"}).status_code in {400, 403}
