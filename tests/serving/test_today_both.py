"""Today and the board on SQLite and on PostgreSQL: the same order, the same figures."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

from flask import Flask

from crm_core.access import FieldRight
from crm_core.clock import FixedClock
from crm_core.store import Store
from tests.factories import make_account, make_activity, make_deal, make_lead
from tests.serving.both_databases import *  # noqa: F403  its fixtures
from tests.serving.conftest import Cast, logged_in
from tests.serving.test_board import board_of
from tests.serving.test_pages import show
from tests.serving.test_today import day_of, order_of, show_customer


def test_the_day_and_the_board(app: Flask, store: Store, cast: Cast, clock: FixedClock) -> None:
    mine = cast["Ana"].id
    with store.transaction() as transaction:
        account = make_account(transaction, owner_id=mine).id
        lead = make_lead(transaction, owner_id=mine).id
        deal = make_deal(transaction, owner_id=mine, account_id=account).id
        unscored = make_deal(transaction, owner_id=mine, amount=Decimal(10)).id
        make_activity(transaction, lead_id=lead, kind="mail", direction="inbound")
        due_at = clock.now() + timedelta(hours=2)
        make_activity(transaction, deal_id=unscored, kind="task", direction=None, due_at=due_at)
    show(store, "lead", {lead: 0.5})
    show(store, "deal", {deal: 0.5})
    show_customer(store, account, 0.5, "8000")
    clock.advance(timedelta(days=1))
    for name in ("Ana", "Mara"):
        day = day_of(store, cast[name])
        assert order_of(day) == [("deal", unscored), ("deal", deal), ("account", account), ("lead", lead)]
        assert [ranked.place.standing.waiting for ranked in day.to_do] == [False, False, False, True]
        (total,) = board_of(store, cast[name]).columns[0].totals
        assert (total.amount, total.weighted) == (Decimal(12_010), Decimal(6_000))
        browser = logged_in(app, cast[name])
        assert browser.get("/today").status_code == 200
        assert browser.get("/deals/board").status_code == 200
    with store.transaction() as transaction:
        transaction.session.add(
            FieldRight(role="rep", record_type="deal", field="currency", read=False, write=False)
        )
    assert board_of(store, cast["Ana"]).columns[0].count == 2
