"""What the demonstration adds to its company: every step of selling, and nothing that is sent to anybody."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest
from sqlalchemy import func, select

from crm_core.access import Reader
from crm_core.changes import Change
from crm_core.clock import FixedClock
from crm_core.messages import Message
from crm_core.payments import sum_overdue
from crm_core.records import Account, CampaignMember, Contract, Deal, Payment, Quote, Ticket, User
from crm_core.sequences import MailSequence
from crm_core.store import Store, Transaction
from serving.demo_campaigns import make_campaigns
from serving.demo_mailing import make_mailing
from serving.demo_sales import SCENES, make_sales
from serving.demo_service import make_service_desk
from tests.factories import (
    make_account,
    make_contract,
    make_deal,
    make_lead,
    make_team,
    make_ticket,
    make_user,
)

MAKERS = (make_campaigns, make_service_desk, make_sales, make_mailing)


@pytest.fixture
def furnished(store: Store, clock: FixedClock) -> Store:
    """A company of half a year, furnished."""
    with store.transaction() as transaction:
        _sell(transaction)
    clock.advance(timedelta(days=200))
    with store.transaction() as transaction:
        ana = transaction.session.scalars(select(User).where(User.name == "Ana")).one()
        for number in range(len(SCENES)):
            ours = {"owner_id": ana.id, "account_id": 1, "currency": "CNY", "amount": Decimal(60_000)}
            make_deal(transaction, name=f"Hill: platform {number}", stage="proposal", **ours)
        make_ticket(transaction, account_id=1, owner_id=ana.id, subject="It is slow")
    clock.advance(timedelta(days=40))
    for make in MAKERS:
        assert make(store)
    return store


def _sell(transaction: Transaction) -> None:
    team = make_team(transaction)
    ana = make_user(transaction, "Ana", team_id=team.id)
    make_user(transaction, "Mara", role="manager", team_id=team.id)
    make_user(transaction, "Alex", role="admin")
    account = make_account(transaction, owner_id=ana.id)
    for _ in range(3):
        day = transaction.now.date()
        terms = {"starts_on": day, "ends_on": day + timedelta(days=365), "value": Decimal(40_000)}
        make_contract(transaction, account_id=account.id, currency="CNY", **terms)
    make_lead(transaction, campaign="spring fair", email="jo@hill.example")


def test_a_second_time_nothing_is_made(furnished: Store) -> None:
    before = count(furnished)
    assert [bool(make(furnished)) for make in MAKERS] == [False] * len(MAKERS)
    assert count(furnished) == before


def count(store: Store) -> int:
    with store.reading() as session:
        return session.scalar(select(func.count(Change.id))) or 0


def test_there_is_a_quote_at_every_step_and_a_payment_that_is_late(furnished: Store) -> None:
    with furnished.reading() as session:
        statuses = set(session.scalars(select(Quote.status)))
        assert {"draft", "sent", "rejected", "superseded"} <= statuses
        assert {"waiting", "approved"} <= set(session.scalars(select(Quote.approval)))
        mara = session.scalars(select(User).where(User.name == "Mara")).one()
        assert sum_overdue(Reader(session, mara), furnished.clock.now().date())
        assert session.scalar(select(func.count(CampaignMember.id))) == 1


def test_nothing_is_sent_and_nobody_is_in_a_sequence(furnished: Store) -> None:
    with furnished.reading() as session:
        assert set(session.scalars(select(Message.direction))) == {"inbound"}
        assert [each.active for each in session.scalars(select(MailSequence))] == [False]


def test_what_people_did_is_written_as_of_when_they_did_it(furnished: Store) -> None:
    with furnished.reading() as session:
        now = furnished.clock.now()
        for model in (Quote, Payment):
            learned = session.scalars(select(model.recorded_at)).all()
            assert min(learned) < now - timedelta(days=5)
            assert max(learned) <= now
        ticket = session.scalars(select(Ticket)).one()
        assert ticket.first_answered_at is not None
        assert ticket.first_answered_at < now - timedelta(days=39)


def test_what_the_company_has_is_left_as_it_was(furnished: Store) -> None:
    with furnished.reading() as session:
        for model in (Account, Contract, Deal):
            assert set(session.scalars(select(model.version))) == {1}
