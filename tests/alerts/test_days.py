"""What happens from day to day: contracts draw near, deals are closed, mails come when they are wanted."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from crm_core.alert_rules import Over, Thresholds
from crm_core.alerts import AlertReceiver, ByMail, set_mail_wish
from crm_core.clock import FixedClock
from crm_core.records import Deal, User
from crm_core.store import Store
from serving.alerting import QUIET, Alerting, alerting_loop, thresholds
from serving.settings import Settings
from tests.alerts.test_alerting import mails
from tests.alerts.world import DAY, alerts, say
from tests.factories import make_account, make_contract, make_deal


def test_a_contract_that_draws_near_while_models_are_silent_is_told(
    store: Store, clock: FixedClock, customer: int
) -> None:
    with store.transaction() as transaction:
        make_contract(transaction, account_id=customer, ends_on=clock.now().date() + timedelta(days=62))
    say(store, customer, 0.25)
    alerting = Alerting(store)
    told = []
    for _ in range(4):
        alerting.run_until_done()
        told.append(len(alerts(store)))
        clock.advance(DAY)
    assert told == [0, 0, 1, 1]


def test_a_deal_that_is_won_closes_its_alert_without_another_prediction(
    store: Store, clock: FixedClock
) -> None:
    with store.transaction() as transaction:
        deal_id = make_deal(transaction).id
    for probability in (0.6, 0.2):
        say(store, deal_id, probability, of="deal")
        clock.advance(timedelta(hours=1))
    alerting = Alerting(store)
    alerting.run_until_done()
    with store.transaction() as transaction:
        transaction.update(transaction.get(Deal, deal_id), {"status": "won"})
    alerting.run_until_done()
    (alert,) = alerts(store)
    assert alert.closed_why == Over.WON


def test_what_comes_in_short_order_is_told_in_one_more_mail(
    store: Store, clock: FixedClock, people: dict[str, User]
) -> None:
    ana = people["Ana"]
    with store.transaction() as transaction:
        ids = [make_account(transaction, owner_id=ana.id).id for _ in range(4)]
    alerting = Alerting(store, by_mail=True)
    for record_id in ids:
        say(store, record_id, 0.5)
        alerting.run_until_done()
        clock.advance(QUIET / 4)
    clock.advance(QUIET)
    alerting.run_until_done()
    assert [count for user, count in mails(store) if user == ana.id] == [1, 3]


def test_mails_come_once_a_day_or_never_for_those_who_want_it_so(
    store: Store, clock: FixedClock, people: dict[str, User]
) -> None:
    ana, mara = people["Ana"], people["Mara"]
    with store.transaction() as transaction:
        set_mail_wish(transaction.session, ana.id, ByMail.DAILY)
        set_mail_wish(transaction.session, mara.id, ByMail.NEVER)
        ids = [make_account(transaction, owner_id=ana.id).id for _ in range(2)]
    alerting = Alerting(store, by_mail=True)
    for record_id in ids:
        say(store, record_id, 0.5)
        alerting.run_until_done()
        clock.advance(timedelta(hours=2))
    assert mails(store) == []
    clock.advance(DAY)
    alerting.run_until_done()
    assert mails(store) == [(ana.id, 2)]


def test_without_mail_nothing_waits_to_be_sent_later(
    store: Store, people: dict[str, User], customer: int
) -> None:
    say(store, customer, 0.5)
    Alerting(store, by_mail=False).run_until_done()
    Alerting(store, by_mail=True).run_until_done()
    assert mails(store) == []
    with store.reading() as session:
        assert all(session.scalars(select(AlertReceiver.told_at)))


def test_settings_say_from_when_on_somebody_is_told(home: Path, store: Store) -> None:
    assert thresholds(Settings(home=home)) == Thresholds()
    assert thresholds(Settings(home=home, alert_churn_level=0.5)).churn_level == 0.5
    assert alerting_loop(Settings(home=home, alerting=False), store) is None
    loop = alerting_loop(Settings(home=home), store)
    assert loop is not None
    assert loop.name == "alerting"


def test_the_thread_raises_what_is_due(store: Store, home: Path, customer: int) -> None:
    say(store, customer, 0.5)
    loop = alerting_loop(Settings(home=home), store)
    assert loop is not None
    loop.start()
    for _ in range(200):
        if alerts(store):
            break
        loop.join(0.05)
    loop.stop()
    assert len(alerts(store)) == 1


@pytest.mark.parametrize("day", [date(2026, 4, 30), date(2026, 5, 2)])
def test_only_contracts_within_the_days_asked_for_are_told(store: Store, customer: int, day: date) -> None:
    with store.transaction() as transaction:
        make_contract(transaction, account_id=customer, ends_on=day)
    say(store, customer, 0.25)
    Alerting(store).run_until_done()
    assert len(alerts(store)) == (day <= date(2026, 5, 1))
