"""Quotes from the first line to the order, and who has to approve what."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import delete, select

from crm_core.access import FieldRight, Reader
from crm_core.approvals import (
    Approval,
    ask_for_approval,
    decide_approval,
    find_newest,
    list_asked,
    list_waiting,
    readdress,
)
from crm_core.changes import Change
from crm_core.clock import FixedClock
from crm_core.contracts import Terms, sign_contract
from crm_core.deals import close_deal
from crm_core.errors import (
    AccessDeniedError,
    ApprovalDecidedError,
    ApprovalNeededError,
    InvalidValueError,
    QuoteStateError,
    RecordNotFoundError,
)
from crm_core.handover import hand_over, has_open
from crm_core.notifications import list_notifications
from crm_core.quotes import (
    accept_quote,
    add_line,
    change_line,
    edit_quote,
    expire_quotes,
    reject_quote,
    remove_line,
    revise_quote,
    send_quote,
    write_quote,
)
from crm_core.records import Comment, Contract, Deal, Line, Order, Product, Quote, User
from crm_core.sales_settings import SalesSettings, sales_settings, set_sales
from crm_core.store import Store, Transaction
from tests.factories import make_account, make_contract, make_deal, make_team, make_user


@dataclass(frozen=True, kw_only=True)
class House:
    """Ana sells, Mara leads her, Otto leads others, Adam is the administrator."""

    ana: User
    mara: User
    otto: User
    adam: User
    deal: int
    account: int
    pump: int


@pytest.fixture
def house(store: Store) -> House:
    with store.transaction() as transaction:
        top = make_team(transaction).id
        sales, others = (make_team(transaction, parent_id=top).id for _ in range(2))
        people = {
            "ana": make_user(transaction, "Ana", team_id=sales),
            "mara": make_user(transaction, "Mara", role="manager", team_id=sales),
            "otto": make_user(transaction, "Otto", role="manager", team_id=others),
            "adam": make_user(transaction, "Adam", role="admin"),
        }
        account = make_account(transaction, owner_id=people["ana"].id).id
        deal = make_deal(
            transaction, owner_id=people["ana"].id, account_id=account, currency="EUR", amount=Decimal(500)
        ).id
        pump = transaction.create(Product(name="Pump", price=Decimal(100), currency="EUR")).id
    return House(**people, deal=deal, account=account, pump=pump)


def draft(transaction: Transaction, house: House, **given: Any) -> Quote:
    return write_quote(
        transaction, Quote(deal_id=house.deal, owner_id=house.ana.id, **{"status": "draft", **given})
    )


def with_pumps(
    transaction: Transaction, house: House, *, discount: float | None = None, count: int = 10
) -> Quote:
    quote = draft(transaction, house)
    add_line(
        transaction, Line(quote_id=quote.id, product_id=house.pump, quantity=float(count), discount=discount)
    )
    return quote


def told(transaction: Transaction, user: User) -> list[str]:
    return [each.text for each in list_notifications(transaction.session, user.id, limit=9)]


def test_a_quote_takes_customer_currency_and_the_next_number(store: Store, house: House) -> None:
    with store.transaction() as transaction:
        first, second = draft(transaction, house), draft(transaction, house)
        assert (first.number, second.number) == ("Q-2026-0001", "Q-2026-0002")
        assert (first.account_id, first.currency, first.revision) == (house.account, "EUR", 1)


def test_a_number_that_was_undone_is_given_to_the_next_one(store: Store, house: House) -> None:
    with contextlib.suppress(ZeroDivisionError), store.transaction() as transaction:
        draft(transaction, house)
        _ = 1 / 0
    with store.transaction() as transaction:
        transaction.create(Quote(number="Q-2026-0002", status="draft"))  # from another system
        assert [draft(transaction, house).number for _ in range(2)] == ["Q-2026-0001", "Q-2026-0003"]


def test_the_amount_follows_the_lines_and_is_written_in_the_log(store: Store, house: House) -> None:
    with store.transaction() as transaction:
        quote = with_pumps(transaction, house, discount=0.05)
        assert quote.amount == Decimal(950)
        text = add_line(
            transaction, Line(quote_id=quote.id, text="Fitting", quantity=1.5, unit_price=Decimal("33.33"))
        )
        assert quote.amount == Decimal("1000.00")  # 49.995, rounded up
        change_line(transaction, text, {"quantity": 2.0})
        assert quote.amount == Decimal("1016.66")
        edit_quote(transaction, quote, {"discount": 0.5}, house.ana)
        assert quote.amount == Decimal("508.33")
        remove_line(transaction, text)
        assert quote.amount == Decimal("475.00")
        wrote = transaction.session.scalars(
            select(Change.new)
            .where(Change.record_type == "quote", Change.field == "amount")
            .order_by(Change.id)
        )
        assert list(wrote) == [9500000, 10000000, 10166600, 5083300, 4750000]


def test_an_amount_cannot_be_typed_over_the_lines(store: Store, house: House) -> None:
    with store.transaction() as transaction:
        quote = with_pumps(transaction, house)
        for values in ({"amount": Decimal(1)}, {"currency": "CNY"}):
            with pytest.raises(InvalidValueError):
                edit_quote(transaction, quote, values, house.ana)


def test_a_product_brings_its_list_price_and_only_in_the_currency_of_the_quote(
    store: Store, house: House
) -> None:
    with store.transaction() as transaction:
        quote = draft(transaction, house, currency="CNY")
        with pytest.raises(InvalidValueError, match="priced in CNY"):
            add_line(transaction, Line(quote_id=quote.id, product_id=house.pump, quantity=1.0))
        line = add_line(
            transaction,
            Line(quote_id=quote.id, product_id=house.pump, quantity=1.0, unit_price=Decimal(800)),
        )
        assert (line.list_price, quote.amount) == (None, Decimal(800))
        with pytest.raises(InvalidValueError, match="a product, or what"):
            add_line(transaction, Line(quote_id=quote.id, quantity=1.0, unit_price=Decimal(1)))
        with pytest.raises(InvalidValueError, match="a price"):
            add_line(transaction, Line(quote_id=quote.id, text="Fitting", quantity=1.0))


def test_what_was_sent_is_changed_by_its_next_revision_only(store: Store, house: House) -> None:
    with store.transaction() as transaction:
        quote = with_pumps(transaction, house)
        send_quote(transaction, quote, house.ana)
        assert (quote.status, quote.sent_at) == ("sent", transaction.now)
        line = transaction.session.scalars(select(Line)).one()
        with pytest.raises(QuoteStateError):
            change_line(transaction, line, {"quantity": 1.0})
        with pytest.raises(QuoteStateError):
            edit_quote(transaction, quote, {"discount": 0.1}, house.ana)
        revised = revise_quote(transaction, quote)
        assert (quote.status, revised.status, revised.revision) == ("superseded", "draft", 2)
        assert (revised.number, revised.amount) == (quote.number, quote.amount)
        copied = transaction.session.scalars(select(Line).where(Line.quote_id == revised.id)).one()
        assert (copied.product_id, copied.list_price, copied.quantity) == (house.pump, Decimal(100), 10.0)
        for each in (quote, revised):
            with pytest.raises(QuoteStateError):
                revise_quote(transaction, each)


def test_an_accepted_quote_becomes_an_order_with_its_lines_and_a_contract(store: Store, house: House) -> None:
    with store.transaction() as transaction:
        quote = with_pumps(transaction, house, discount=0.1)
        send_quote(transaction, quote, house.ana)
        terms = Terms(starts_on=date(2026, 4, 1), ends_on=date(2027, 3, 31))
        made = accept_quote(transaction, quote, house.ana, contract=terms)
        assert made.order is not None
        assert made.contract is not None
        assert (made.order.number, made.order.amount, made.order.quote_id) == (
            "O-2026-0001",
            Decimal(900),
            quote.id,
        )
        assert (made.contract.number, made.contract.value, made.contract.deal_id) == (
            "C-2026-0001",
            Decimal(900),
            house.deal,
        )
        copied = transaction.session.scalars(select(Line).where(Line.order_id == made.order.id)).one()
        assert (copied.unit_price, copied.discount) == (Decimal(100), 0.1)
        assert accept_quote(transaction, quote, house.ana) == made
        with pytest.raises(QuoteStateError):
            reject_quote(transaction, quote, "too late")


def accepted(store: Store, house: House, user: User, count: int, **given: Any) -> Quote:
    with store.transaction(actor_id=user.id) as transaction:
        quote = with_pumps(transaction, house, count=count, **given)
        send_quote(transaction, quote, house.ana)
        accept_quote(transaction, quote, user)
    return quote


def comes_to(store: Store, house: House, **typed: Any) -> tuple[Decimal | None, str | None]:
    with store.transaction() as transaction:
        deal = transaction.get(Deal, house.deal)
        transaction.update(deal, typed)
        return deal.amount, deal.currency


def test_an_open_deal_comes_to_what_was_accepted_and_the_log_says_who_and_with_what(
    store: Store, house: House
) -> None:
    first = accepted(store, house, house.ana, 9)
    assert comes_to(store, house) == (Decimal(900), "EUR")
    with store.reading() as session:
        log = session.scalars(select(Change).where(Change.actor_id == house.ana.id).order_by(Change.id)).all()
        amount = next(each for each in log if (each.record_type, each.field) == ("deal", "amount"))
        cause = next(each for each in log if (each.record_type, each.new) == ("quote", "accepted"))
    assert (amount.old, amount.new, amount.sequence) == (5_000_000, 9_000_000, cause.sequence)
    assert cause.record_id == first.id
    accepted(store, house, house.ana, 1)
    assert comes_to(store, house) == (Decimal(1000), "EUR"), "both are sold"
    assert comes_to(store, house, amount=Decimal(7)) == (Decimal(7), "EUR")
    with store.transaction() as transaction:
        accept_quote(transaction, transaction.get(Quote, first.id), house.ana)
    assert comes_to(store, house) == (Decimal(7), "EUR"), "accepted again, it says nothing new"


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_deal_stays_as_it_was_where_an_accepted_quote_has_no_say(store: Store, house: House) -> None:
    comes_to(store, house, currency="USD")
    with store.transaction() as transaction:
        quote = write_quote(
            transaction, Quote(deal_id=house.deal, owner_id=house.ana.id, status="draft", amount=Decimal(3))
        )
        send_quote(transaction, quote, house.ana)
        edit_quote(transaction, quote, {"status": "accepted"}, house.ana)
    assert comes_to(store, house, currency="EUR") == (Decimal(3), "EUR"), "by either way of accepting"
    accepted(store, house, house.ana, 2)
    assert comes_to(store, house) == (Decimal(3), "EUR"), "dollars and euros have no sum"
    with store.transaction() as transaction:
        transaction.update(transaction.get(Quote, quote.id), {"status": "rejected"})
    accepted(store, house, house.otto, 3)
    assert comes_to(store, house) == (Decimal(3), "EUR"), "of another team"
    with store.transaction() as transaction:
        right = FieldRight(role="rep", record_type="deal", field="amount", read=True, write=False)
        transaction.session.add(right)
    accepted(store, house, house.ana, 4)
    assert comes_to(store, house) == (Decimal(3), "EUR"), "may not write it"
    with store.transaction() as transaction:
        transaction.session.execute(delete(FieldRight))
        close_deal(transaction, transaction.get(Deal, house.deal), won=True)
    accepted(store, house, house.ana, 5)
    assert comes_to(store, house) == (Decimal(3), "EUR"), "closed"


def test_a_rejected_quote_says_why_and_may_be_revised(store: Store, house: House) -> None:
    with store.transaction() as transaction:
        quote = with_pumps(transaction, house)
        send_quote(transaction, quote, house.ana)
        reject_quote(transaction, quote, "too dear")
        assert (quote.status, quote.rejected_reason, quote.decided_at) == (
            "rejected",
            "too dear",
            transaction.now,
        )
        assert revise_quote(transaction, quote).revision == 2
        assert quote.status == "rejected"


def test_a_quote_expires_when_its_last_day_is_over(store: Store, house: House, clock: FixedClock) -> None:
    with store.transaction() as transaction:
        quote = draft(transaction, house, amount=Decimal(10), valid_until=date(2026, 3, 3))
        send_quote(transaction, quote, house.ana)
    clock.advance(timedelta(days=1, hours=14))  # it is the third, late
    with store.transaction() as transaction:
        assert expire_quotes(transaction) == 0
    clock.advance(timedelta(hours=1))
    with store.transaction() as transaction:
        assert expire_quotes(transaction) == 1
        assert transaction.get(Quote, quote.id).status == "expired"
        assert expire_quotes(transaction) == 0
        late = draft(transaction, house, amount=Decimal(10), valid_until=date(2026, 3, 3))
        with pytest.raises(InvalidValueError, match="a day to come"):
            send_quote(transaction, late, house.ana)


# ------------------------------------------------------------------------------------------------ approvals


def test_a_rep_gives_a_tenth_away_alone_and_more_with_the_managers_word(store: Store, house: House) -> None:
    with store.transaction(actor_id=house.ana.id) as transaction:
        send_quote(transaction, with_pumps(transaction, house, discount=0.1), house.ana)
        quote = with_pumps(transaction, house, discount=0.11)
        with pytest.raises(ApprovalNeededError, match=r"11\.00%"):
            send_quote(transaction, quote, house.ana)
        asked = ask_for_approval(transaction, quote, house.ana, note="their third order")
        assert (asked.approver_id, quote.approval) == (house.mara.id, "waiting")
        assert ask_for_approval(transaction, quote, house.ana) is asked
        assert told(transaction, house.mara) == ["approval_asked"]
        with pytest.raises(ApprovalNeededError):
            send_quote(transaction, quote, house.ana)
    with store.transaction(actor_id=house.mara.id) as transaction:
        assert [each.id for each, _ in list_waiting(Reader(transaction.session, house.mara))] == [asked.id]
        decide_approval(transaction, house.mara, asked.id, approve=True, note="fine")
        assert told(transaction, house.ana) == ["approval_given"]
        assert list_waiting(Reader(transaction.session, house.mara)) == []
    with store.transaction(actor_id=house.ana.id) as transaction:
        send_quote(transaction, transaction.get(Quote, quote.id), house.ana)
        said = transaction.session.scalars(select(Comment.body).where(Comment.subject_type == "quote"))
        assert sorted(said) == ["fine", "their third order"]
        assert [each.state for each, _ in list_asked(Reader(transaction.session, house.ana))] == ["approved"]


@pytest.mark.parametrize("change", ["line", "price", "discount", "terms", "new line", "removed"])
def test_a_changed_quote_loses_its_approval(store: Store, house: House, change: str) -> None:
    with store.transaction() as transaction:
        quote = with_pumps(transaction, house, discount=0.2)
        add_line(transaction, Line(quote_id=quote.id, text="Fitting", quantity=1.0, unit_price=Decimal(9)))
        asked = ask_for_approval(transaction, quote, house.ana)
        decide_approval(transaction, house.mara, asked.id, approve=True)
        line = transaction.session.scalars(select(Line).order_by(Line.id).limit(1)).one()
        changes: dict[str, Callable[[], object]] = {
            "line": lambda: change_line(transaction, line, {"quantity": 11.0}),
            "price": lambda: change_line(transaction, line, {"unit_price": Decimal(99)}),
            "discount": lambda: edit_quote(transaction, quote, {"discount": 0.01}, house.ana),
            "terms": lambda: edit_quote(transaction, quote, {"terms": "90 days"}, house.ana),
            "new line": lambda: add_line(
                transaction, Line(quote_id=quote.id, text="Oil", quantity=1.0, unit_price=Decimal(1))
            ),
            "removed": lambda: remove_line(
                transaction, transaction.session.scalars(select(Line).where(Line.text == "Fitting")).one()
            ),
        }
        changes[change]()
        assert quote.approval == "lapsed"
        assert transaction.session.get_one(Approval, asked.id, populate_existing=True).state == "lapsed"
        with pytest.raises(ApprovalNeededError):
            send_quote(transaction, quote, house.ana)


def test_a_line_below_the_price_list_is_given_away_too(store: Store, house: House) -> None:
    with store.transaction() as transaction:
        quote = draft(transaction, house)
        cheap = {"product_id": house.pump, "quantity": 1.0, "unit_price": Decimal(50)}
        add_line(transaction, Line(quote_id=quote.id, **cheap))
        with pytest.raises(ApprovalNeededError, match=r"50\.00%"):
            send_quote(transaction, quote, house.ana)


def test_nobody_approves_their_own_nor_what_is_none_of_their_team(store: Store, house: House) -> None:
    with store.transaction() as transaction:
        quote = with_pumps(transaction, house, discount=0.3)
        asked = ask_for_approval(transaction, quote, house.mara)  # for Ana's quote
        assert asked.approver_id == house.adam.id
        for person, error in (
            (house.ana, AccessDeniedError),
            (house.mara, AccessDeniedError),
            (house.otto, RecordNotFoundError),
        ):
            with pytest.raises(error):
                decide_approval(transaction, person, asked.id, approve=True)
        with pytest.raises(InvalidValueError, match="why it is refused"):
            decide_approval(transaction, house.adam, asked.id, approve=False)
        decide_approval(transaction, house.adam, asked.id, approve=False, note="no")
        assert quote.approval == "refused"
        with pytest.raises(ApprovalDecidedError):
            decide_approval(transaction, house.adam, asked.id, approve=True)


def test_limits_are_set_by_role_and_hold_for_who_approves(store: Store, house: House) -> None:
    with store.transaction() as transaction:
        limits = {"rep": Decimal("0.05"), "manager": Decimal("0.25")}
        set_sales(transaction, house.adam, SalesSettings(company=" Hill ", limits=limits))
        assert sales_settings(transaction.session).company == "Hill"
        quote = with_pumps(transaction, house, discount=0.3)
        asked = ask_for_approval(transaction, quote, house.ana)
        assert asked.approver_id == house.adam.id
        assert list_waiting(Reader(transaction.session, house.mara)) == []
        with pytest.raises(AccessDeniedError):
            decide_approval(transaction, house.mara, asked.id, approve=True)
        with pytest.raises(ApprovalNeededError, match=r"limit of 5\.00%"):
            send_quote(transaction, with_pumps(transaction, house, discount=0.06), house.mara)


def test_a_contract_far_below_its_quote_needs_a_word_of_its_own(store: Store, house: House) -> None:
    terms: dict[str, Any] = {"starts_on": date(2026, 4, 1), "ends_on": date(2027, 3, 31)}
    with store.transaction() as transaction:
        quote = with_pumps(transaction, house, discount=0.05)
        send_quote(transaction, quote, house.ana)
        accept_quote(transaction, quote, house.ana)
        order = transaction.session.scalars(select(Order)).one()
        sign_contract(transaction, order, house.ana, Terms(**terms, value=Decimal(900)))
        for source in (quote, order):
            with pytest.raises(ApprovalNeededError, match=r"20\.00%"):
                sign_contract(transaction, source, house.ana, Terms(**terms, value=Decimal(800)))
        asked = ask_for_approval(transaction, quote, house.ana, value=Decimal(800))
        decide_approval(transaction, house.mara, asked.id, approve=True)
        with pytest.raises(ApprovalNeededError):
            sign_contract(transaction, quote, house.ana, Terms(**terms, value=Decimal(799)))
        signed = sign_contract(transaction, quote, house.ana, Terms(**terms, value=Decimal("800.00")))
        assert (signed.value, signed.quote_id) == (Decimal(800), quote.id)


def test_a_leavers_quotes_contracts_and_approvals_are_handed_over(store: Store, house: House) -> None:
    with store.transaction() as transaction:
        ben = make_user(transaction, "Ben", team_id=house.ana.team_id)
        waiting = with_pumps(transaction, house, discount=0.2)
        asked = ask_for_approval(transaction, waiting, house.ana)
        accepted = with_pumps(transaction, house)
        send_quote(transaction, accepted, house.ana)
        accept_quote(transaction, accepted, house.ana)
        contract = make_contract(transaction, account_id=house.account).id
    with store.transaction() as transaction:
        assert has_open(transaction.session, house.mara)
        assert hand_over(transaction, house.mara, [house.adam]) == {"approval": 1}
        assert not has_open(transaction.session, house.mara)
        moved = hand_over(transaction, house.ana, [ben])
        assert moved == {"account": 1, "deal": 1, "quote": 1}
    with store.reading() as session:
        assert session.get_one(Quote, waiting.id).owner_id == ben.id
        assert session.get_one(Quote, accepted.id).owner_id == house.ana.id  # who sold it
        assert session.get_one(Approval, asked.id).approver_id == house.adam.id
        assert Reader(session, ben).get(Contract, contract).id == contract
        with pytest.raises(RecordNotFoundError):
            Reader(session, house.ana).get(Contract, contract)


def test_two_at_once_get_numbers_without_gaps_and_doubles(store: Store, house: House) -> None:
    def write(number: int) -> None:
        for turn in range(5):
            with contextlib.suppress(ZeroDivisionError), store.transaction() as transaction:
                draft(transaction, house)
                _ = 1 / ((turn + number) % 3)  # every third is undone

    crew = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for each in crew:
        each.start()
    for each in crew:
        each.join()
    with store.reading() as session:
        numbers = sorted(session.scalars(select(Quote.number)))
    kept = sum((turn + number) % 3 != 0 for turn in range(5) for number in range(4))
    assert numbers == [f"Q-2026-{number:04}" for number in range(1, kept + 1)]


def test_what_waits_for_somebody_who_leaves_waits_for_who_else_may(store: Store, house: House) -> None:
    with store.transaction() as transaction:
        asked = ask_for_approval(transaction, with_pumps(transaction, house, discount=0.3), house.ana)
        assert readdress(transaction, house.mara) == 1
        assert asked.approver_id == house.adam.id
        found = find_newest(transaction.session, asked.quote_id)
        assert found is asked
