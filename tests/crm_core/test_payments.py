"""Plans that sum to the value, money that comes in, and what is late: each number counted again plainly."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from crm_core.access import Reader
from crm_core.clock import FixedClock
from crm_core.contracts import Terms, end_contract, next_terms, renew_contract, start_renewal
from crm_core.errors import FutureEventError, InvalidValueError
from crm_core.notifications import list_notifications
from crm_core.payments import (
    AGES,
    Planned,
    amounts_of,
    list_overdue,
    money_about,
    read_plan,
    receive,
    receive_payment,
    remind_of_payments,
    set_plan,
    sum_overdue,
)
from crm_core.records import Account, Contract, Deal, Payment, Quote, User
from crm_core.store import Store, Transaction
from tests.factories import make_account, make_deal, make_order, make_team, make_user

D = Decimal
TODAY = date(2026, 3, 2)


def contract(transaction: Transaction, **given: Any) -> Contract:
    said = {
        "value": Decimal(1000),
        "currency": "EUR",
        "starts_on": date(2026, 1, 1),
        "ends_on": date(2026, 12, 31),
    }
    return transaction.create(Contract(**{**said, "status": "active", **given}))


def thirds(*days: int) -> list[Planned]:
    return [Planned(due_on=TODAY + timedelta(days=day)) for day in days]


@given(
    value=st.decimals(200, 10_000_000, places=2),
    percents=st.lists(st.integers(1, 40), min_size=1, max_size=8),
    currency=st.sampled_from(["EUR", "JPY", "KWD"]),
)
@settings(max_examples=100, deadline=None)
def test_percentages_sum_to_the_value(value: Decimal, percents: list[int], currency: str) -> None:
    said = [Decimal(each) for each in percents]
    said[-1] += 100 - sum(said)
    if said[-1] <= 0:
        said = [Decimal(100)]
    plan = [Planned(due_on=TODAY, percent=each) for each in said]
    amounts = amounts_of(value, plan, currency=currency)
    assert sum(amounts) == value
    assert all(abs(one - value * each / 100) <= 1 for one, each in zip(amounts, said, strict=True))


@given(value=st.decimals(100, 10_000, places=2), first=st.decimals(1, 50, places=2), share=st.integers(1, 40))
@settings(max_examples=50, deadline=None)
def test_an_amount_a_percentage_and_the_rest_sum_to_the_value(
    value: Decimal, first: Decimal, share: int
) -> None:
    plan = [
        Planned(due_on=TODAY, amount=first),
        Planned(due_on=TODAY, percent=Decimal(share)),
        Planned(due_on=TODAY),
    ]
    amounts = amounts_of(value, plan, currency="EUR")
    assert (amounts[0], sum(amounts)) == (first, value)


@pytest.mark.parametrize(
    ("plan", "why"),
    [
        ([Planned(due_on=TODAY, percent=Decimal(60))], "sum to 100"),
        ([Planned(due_on=TODAY, amount=Decimal(999))], "sum to 1000"),
        ([Planned(due_on=TODAY), Planned(due_on=TODAY)], "at most one part"),
        ([Planned(due_on=TODAY, amount=Decimal(2000)), Planned(due_on=TODAY)], "above zero"),
        ([Planned(due_on=TODAY, amount=Decimal(1), percent=Decimal(1))], "not both"),
        (
            [Planned(due_on=TODAY + timedelta(days=1)), Planned(due_on=TODAY, amount=Decimal(1))],
            "in their order",
        ),
    ],
)
def test_a_plan_that_does_not_come_to_the_value_is_refused(plan: list[Planned], why: str) -> None:
    with pytest.raises(InvalidValueError, match=why):
        amounts_of(Decimal(1000), plan, currency="EUR")


def test_money_pays_what_is_due_first_and_divides_a_claim_that_it_does_not_reach(store: Store) -> None:
    with store.transaction() as transaction:
        about = contract(transaction, account_id=make_account(transaction).id)
        plan = [
            Planned(due_on=TODAY + timedelta(days=30 * n), percent=Decimal(p))
            for n, p in enumerate((30, 30, 40))
        ]
        set_plan(transaction, about, plan)
        paid = receive(transaction, about, Decimal("450.5"), reference="TT-1")
        assert [(one.part, one.amount) for one in paid] == [(1, Decimal(300)), (2, Decimal("150.5"))]
        found = read_plan(transaction.session, about, TODAY + timedelta(days=31))
        assert [(part.received, part.open) for part in found.parts] == [
            (Decimal(300), Decimal(0)),
            (Decimal("150.5"), Decimal("149.5")),
            (Decimal(0), Decimal(400)),
        ]
        assert (found.received, found.open, found.overdue, found.unplanned) == (
            Decimal("450.5"),
            Decimal("549.5"),
            Decimal("149.5"),
            Decimal(0),
        )
        with pytest.raises(InvalidValueError, match=r"up to the 549\.5"):
            receive(transaction, about, Decimal(600))
        with pytest.raises(FutureEventError):
            receive(transaction, about, Decimal(1), paid_at=transaction.now + timedelta(days=1))
        set_plan(transaction, about, [Planned(due_on=TODAY + timedelta(days=90))])
        again = read_plan(transaction.session, about, TODAY)
        assert [(part.number, part.amount) for part in again.parts] == [
            (1, Decimal(300)),
            (2, Decimal("150.5")),
            (3, Decimal("549.5")),
        ]
        receive(transaction, about, Decimal("549.5"))
        assert read_plan(transaction.session, about, TODAY).open == 0


@given(takes=st.lists(st.decimals("0.01", 400, places=2), min_size=1, max_size=6))
@settings(max_examples=15, deadline=None)
def test_however_it_comes_in_nothing_is_lost(takes: list[Decimal]) -> None:
    store = Store("sqlite://")
    from crm_core.records import Base

    Base.metadata.create_all(store.engine)
    with store.transaction() as transaction:
        about = contract(transaction, account_id=make_account(transaction).id)
        set_plan(transaction, about, [Planned(due_on=TODAY, percent=Decimal(each)) for each in (20, 30, 50)])
        came = Decimal(0)
        for amount in takes:
            if came + amount > 1000:
                break
            receive(transaction, about, amount)
            came += amount
        plan = read_plan(transaction.session, about, TODAY)
        assert (plan.received, plan.received + plan.open) == (came, Decimal(1000))
        assert [part.amount for part in plan.parts] == [Decimal(200), Decimal(300), Decimal(500)]
    store.close()


def test_one_claim_may_be_paid_by_itself(store: Store) -> None:
    with store.transaction() as transaction:
        order = make_order(
            transaction, account_id=make_account(transaction).id, amount=Decimal(90), currency="EUR"
        )
        first, second = set_plan(
            transaction, order, [Planned(due_on=TODAY, amount=Decimal(30)), Planned(due_on=TODAY)]
        )
        assert (first.order_id, second.amount) == (order.id, Decimal(60))
        receive_payment(transaction, second, Decimal(20))
        receive_payment(transaction, second)
        plan = read_plan(transaction.session, order, TODAY)
        assert [(part.received, part.open) for part in plan.parts] == [(D(0), D(30)), (D(60), D(0))]
        with pytest.raises(InvalidValueError, match="that is open"):
            receive_payment(transaction, second)


@pytest.fixture
def people(store: Store) -> tuple[User, User]:
    with store.transaction() as transaction:
        team = make_team(transaction).id
        ana = make_user(transaction, "Ana", team_id=team)
        mara = make_user(transaction, "Mara", team_id=team, role="manager")
    return ana, mara


def test_sums_are_by_currency_and_those_of_the_rows(store: Store, people: tuple[User, User]) -> None:
    ana, mara = people
    with store.transaction() as transaction:
        account = make_account(transaction, owner_id=ana.id)
        deal = make_deal(transaction, owner_id=mara.id, account_id=account.id)
        other = make_account(transaction, owner_id=make_user(transaction, "Otto").id)
        for number, (currency, late) in enumerate(
            [("EUR", 1), ("EUR", 45), ("CNY", 200), ("EUR", 0), ("CNY", -5), ("EUR", 31)]
        ):
            owner = {"deal_id": deal.id} if number % 2 else {}
            transaction.create(
                Payment(
                    account_id=account.id,
                    amount=Decimal(100 + number),
                    currency=currency,
                    due_on=TODAY - timedelta(days=late),
                    paid_at=transaction.now if number == 5 else None,
                    **owner,
                )
            )
        transaction.create(
            Payment(account_id=other.id, amount=Decimal(7), currency="EUR", due_on=date(2020, 1, 1))
        )
        transaction.create(
            Quote(
                number="Q", status="sent", owner_id=ana.id, account_id=account.id, amount=D(5), currency="EUR"
            )
        )
        contract(transaction, account_id=account.id)
        contract(transaction, account_id=account.id, status="cancelled")
        make_order(transaction, account_id=account.id, amount=Decimal(3), currency="CNY")
    with store.reading() as session:
        reader = Reader(session, mara)
        rows = list_overdue(reader, TODAY, limit=10)
        assert [(row.payment.amount, row.owner_id, row.days) for row in rows] == [
            (Decimal(102), ana.id, 200),
            (Decimal(101), mara.id, 45),
            (Decimal(100), ana.id, 1),
        ]
        sums = {
            (each.currency, each.owner_id, AGES[each.age][0]): (each.amount, each.count)
            for each in sum_overdue(reader, TODAY)
        }
        assert sums == {
            ("CNY", ana.id, 91): (Decimal(102), 1),
            ("EUR", ana.id, 1): (Decimal(100), 1),
            ("EUR", mara.id, 31): (Decimal(101), 1),
        }
        found = {
            each.currency: each for each in money_about(reader, session.get_one(Account, account.id), TODAY)
        }
        assert (found["EUR"].quoted, found["EUR"].contracted, found["CNY"].ordered) == (D(5), D(1000), D(3))
        assert (found["EUR"].received, found["EUR"].open, found["EUR"].overdue) == (D(105), D(304), D(201))
        assert (found["CNY"].received, found["CNY"].open, found["CNY"].overdue) == (D(0), D(206), D(102))
        of_deal = money_about(reader, session.get_one(Deal, deal.id), TODAY)
        assert [(each.currency, each.open, each.received) for each in of_deal] == [("EUR", D(204), D(105))]


def test_people_are_reminded_once_a_level(store: Store, people: tuple[User, User], clock: FixedClock) -> None:
    ana, mara = people

    def told() -> list[list[int]]:
        with store.transaction() as transaction:
            day = clock.now().date()
            remind_of_payments(transaction, day)
            assert remind_of_payments(transaction, day) == 0
            return [
                [
                    (each.params or {})["level"]
                    for each in list_notifications(transaction.session, one.id, limit=9)
                ]
                for one in (ana, mara)
            ]

    with store.transaction() as transaction:
        account = make_account(transaction, owner_id=ana.id).id
        late = {"account_id": account, "currency": "EUR", "amount": Decimal(5)}
        transaction.create(Payment(**late, due_on=TODAY))
        transaction.create(Payment(**late, due_on=TODAY, paid_at=transaction.now))
    assert told() == [[], []]
    clock.advance(timedelta(days=1))
    assert told() == [[1], []]
    clock.advance(timedelta(days=12))
    assert told() == [[1], []]
    clock.advance(timedelta(days=1))
    assert told() == [[14, 1], [14]]
    clock.advance(timedelta(days=100))
    assert told() == [[30, 14, 1], [30, 14]]
    with store.transaction() as transaction:
        transaction.create(Payment(**late, due_on=TODAY))  # learned of long after: told of once
    assert told() == [[30, 30, 14, 1], [30, 30, 14]]


# ------------------------------------------------------------------------------------------- renewing


@pytest.mark.parametrize(
    ("starts", "ends", "next_ends"),
    [
        (date(2026, 1, 1), date(2026, 12, 31), date(2027, 12, 31)),
        (date(2026, 1, 15), date(2026, 4, 14), date(2026, 7, 14)),
        (date(2024, 2, 29), date(2025, 2, 27), date(2026, 2, 27)),
        (date(2026, 1, 1), date(2026, 1, 10), date(2026, 1, 20)),
    ],
)
def test_the_next_contract_lasts_as_long(starts: date, ends: date, next_ends: date) -> None:
    terms = next_terms(Contract(starts_on=starts, ends_on=ends))
    assert (terms.starts_on, terms.ends_on) == (ends + timedelta(days=1), next_ends)


def test_a_renewal_is_linked_and_hangs_on_its_deal(store: Store) -> None:
    with store.transaction() as transaction:
        account = make_account(transaction)
        first = contract(transaction, account_id=account.id, number="C1")
        deal = start_renewal(transaction, first)
        assert start_renewal(transaction, first) is deal
        assert (deal.amount, deal.expected_close_on, deal.account_id) == (
            D(1000),
            date(2026, 12, 31),
            account.id,
        )
        second = renew_contract(transaction, first)
        assert renew_contract(transaction, first) is second
        assert (first.status, first.renewed_by_id, second.deal_id) == ("renewed", second.id, deal.id)
        assert (second.value, second.starts_on, second.number) == (D(1000), date(2027, 1, 1), "C-2026-0001")
        end_contract(transaction, second)
        with pytest.raises(InvalidValueError, match="a contract that runs"):
            renew_contract(transaction, second)
        third = contract(transaction, account_id=account.id)
        with pytest.raises(InvalidValueError, match="a day after"):
            renew_contract(transaction, third, Terms(starts_on=date(2025, 1, 1), ends_on=date(2027, 1, 1)))
        assert len(transaction.session.scalars(select(Contract)).all()) == 3
