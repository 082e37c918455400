"""Alerts on both databases: one a cause however predictions arrive, told to whom they concern."""

from __future__ import annotations

from datetime import date
from itertools import pairwise
from typing import Any

import pytest
from sqlalchemy import select, update

from crm_core.access import FieldRight, Reader
from crm_core.alert_rules import Kind, Over
from crm_core.alerting import close_what_is_over, due_steps, list_to_look_at
from crm_core.alerts import (
    AlertReceiver,
    ByMail,
    Did,
    State,
    Why,
    count_open,
    get_alert,
    mail_wish,
    select_alerts,
    set_mail_wish,
)
from crm_core.clock import FixedClock
from crm_core.errors import AccessDeniedError, AlertClosedError, InvalidValueError, RecordNotFoundError
from crm_core.opting_out import set_scoring_opt_out
from crm_core.records import Account, Contract, Deal, User
from crm_core.store import Store
from tests.alerts.world import DAY, LIMITS, act, actions, alerts, look, say
from tests.factories import make_account, make_contract, make_deal


def test_a_rise_is_raised_once_with_its_money_at_risk(store: Store, clock: FixedClock, customer: int) -> None:
    say(store, customer, 0.1)
    assert look(store, customer) == []
    clock.advance(DAY)
    say(store, customer, 0.4)
    assert look(store, customer) == ["churn_level"]
    assert look(store, customer) == []

    (alert,) = alerts(store)
    assert (alert.probability, alert.previous, alert.state) == (0.4, 0.1, State.OPEN)
    assert alert.money == [{"currency": "EUR", "of": "contract", "whole": "10000", "at_risk": "4000.00"}]
    assert alert.at_risk == 4000


def test_what_falls_back_is_closed_and_its_next_rise_is_another_cause(
    store: Store, clock: FixedClock, customer: int
) -> None:
    told = []
    for probability in (0.4, 0.25, 0.1, 0.4):
        say(store, customer, probability)
        told += look(store, customer)
        clock.advance(DAY)
    assert told == ["churn_level", Over.BELOW_LEVEL, "churn_level"]
    assert [alert.cause for alert in alerts(store)] == [
        f"churn_level:account:{customer}:1",
        f"churn_level:account:{customer}:2",
    ]


def test_another_model_that_says_more_is_no_jump(store: Store, clock: FixedClock, customer: int) -> None:
    say(store, customer, 0.02)
    clock.advance(DAY)
    say(store, customer, 0.25, version="2")
    assert look(store, customer) == []


def test_what_was_worked_out_about_the_past_is_neither_an_alarm_nor_a_place_to_jump_from(
    store: Store, clock: FixedClock, customer: int
) -> None:
    say(store, customer, 0.9, as_of=clock.now() - 7 * DAY)
    assert look(store, customer) == []
    say(store, customer, 0.01, as_of=clock.now() - 3 * DAY)
    say(store, customer, 0.25)
    assert look(store, customer) == []


def test_a_contract_that_is_covered_by_a_longer_one_is_no_end(store: Store, customer: int) -> None:
    with store.transaction() as transaction:
        make_contract(transaction, account_id=customer, ends_on=date(2026, 4, 1))
        make_contract(transaction, account_id=customer, ends_on=date(2026, 12, 31))
    say(store, customer, 0.25)
    assert look(store, customer) == []


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"status": "ended"}, Over.LEFT),
        ({"ends_on": date(2027, 1, 31)}, Over.EXTENDED),
    ],
)
def test_what_becomes_of_the_contract_closes_its_alert(
    store: Store, customer: int, values: dict[str, Any], why: Over
) -> None:
    with store.transaction() as transaction:
        contract = make_contract(transaction, account_id=customer, ends_on=date(2026, 4, 1))
    say(store, customer, 0.25)
    assert look(store, customer) == ["contract_end"]
    with store.transaction() as transaction:
        transaction.update(transaction.get(Contract, contract.id), values)
        assert [alert.closed_why for alert in close_what_is_over(transaction)] == [why]
        assert close_what_is_over(transaction) == []


def make_falling_deal(store: Store, clock: FixedClock, owner_id: int | None = None) -> int:
    with store.transaction() as transaction:
        deal_id = make_deal(transaction, owner_id=owner_id).id
    for probability in (0.6, 0.35):
        say(store, deal_id, probability, of="deal")
        clock.advance(DAY)
    return deal_id


@pytest.mark.parametrize(("status", "why"), [("won", Over.WON), ("lost", Over.LOST)])
def test_a_deal_that_falls_is_told_until_it_is_closed(
    store: Store, clock: FixedClock, status: str, why: Over
) -> None:
    deal_id = make_falling_deal(store, clock)
    assert look(store, deal_id, "deal") == ["deal_fall"]
    (alert,) = alerts(store)
    assert (alert.previous, alert.probability, alert.at_risk) == (0.6, 0.35, 3000)
    with store.transaction() as transaction:
        transaction.update(transaction.get(Deal, deal_id), {"status": status})
        assert [each.closed_why for each in close_what_is_over(transaction)] == [why]
    assert look(store, deal_id, "deal") == []


def test_a_deleted_record_closes_its_alerts(store: Store, customer: int) -> None:
    say(store, customer, 0.9)
    look(store, customer)
    with store.transaction() as transaction:
        transaction.delete(transaction.get(Account, customer))
        assert [alert.closed_why for alert in close_what_is_over(transaction)] == [Over.DELETED]


def test_who_opts_out_is_not_told_of_any_more(store: Store, people: dict[str, User], customer: int) -> None:
    say(store, customer, 0.9)
    look(store, customer)
    with store.transaction() as transaction:
        set_scoring_opt_out(transaction, transaction.get(Account, customer), opted_out=True)
    with store.reading() as session:
        assert count_open(Reader(session, people["Ana"]), store.clock.now()) == 0
    assert look(store, customer) == [Over.OPTED_OUT]


def test_every_record_with_a_probability_or_a_running_alert_is_looked_at(store: Store, customer: int) -> None:
    with store.transaction() as transaction:
        never_scored = make_account(transaction).id
    say(store, customer, 0.9)
    look(store, customer)
    with store.transaction() as transaction:
        transaction.session.execute(update(Account).values(probability=None))
    with store.reading() as session:
        assert list_to_look_at(session, "account", after=0, limit=10) == [customer]
    assert never_scored != customer


# ---------------------------------------------------------------- however they arrive


def test_looking_without_writing_tells_the_same(store: Store, customer: int) -> None:
    say(store, customer, 0.9)
    with store.reading() as session:
        (due,) = due_steps(session, "account", [customer], LIMITS, store.clock.now())
    assert [step.kind for step in due.steps] == [Kind.CHURN_LEVEL]
    assert alerts(store) == []


# ---------------------------------------------------------------- whom to tell


def receivers(store: Store) -> dict[int, str]:
    with store.reading() as session:
        return {row.user_id: row.why for row in session.scalars(select(AlertReceiver))}


def test_the_owner_and_their_manager_are_told(store: Store, people: dict[str, User], customer: int) -> None:
    say(store, customer, 0.9)
    look(store, customer)
    assert receivers(store) == {people["Ana"].id: Why.OWNER, people["Mara"].id: Why.MANAGER}


def test_where_the_team_has_no_manager_the_one_above_is_told(
    store: Store, people: dict[str, User], customer: int
) -> None:
    with store.transaction() as transaction:
        transaction.update(transaction.get(User, people["Mara"].id), {"active": False})
    say(store, customer, 0.9)
    look(store, customer)
    assert receivers(store) == {people["Ana"].id: Why.OWNER, people["Vera"].id: Why.MANAGER}


def test_who_may_not_see_scores_is_not_told(store: Store, people: dict[str, User], customer: int) -> None:
    with store.transaction() as transaction:
        hidden = FieldRight(role="rep", record_type="account", field="probability", read=False, write=False)
        transaction.session.add(hidden)
    say(store, customer, 0.9)
    look(store, customer)
    assert receivers(store) == {people["Mara"].id: Why.MANAGER}


def test_a_customer_of_nobody_is_told_to_nobody_and_seen_by_managers(
    store: Store, people: dict[str, User]
) -> None:
    with store.transaction() as transaction:
        nobodys = make_account(transaction).id
    say(store, nobodys, 0.9)
    look(store, nobodys)
    assert receivers(store) == {}
    assert seen_by(store, people) == {"Ana": 0, "Ben": 0, "Mara": 1, "Dana": 1, "Otto": 0, "Vera": 1}


def seen_by(store: Store, people: dict[str, User]) -> dict[str, int]:
    with store.reading() as session:
        return {
            name: len(session.scalars(select_alerts(Reader(session, user))).all())
            for name, user in people.items()
        }


def test_an_alert_is_seen_by_whoever_sees_the_record(
    store: Store, people: dict[str, User], customer: int
) -> None:
    say(store, customer, 0.9)
    look(store, customer)
    assert seen_by(store, people) == {"Ana": 1, "Ben": 0, "Mara": 1, "Dana": 1, "Otto": 0, "Vera": 1}


# ---------------------------------------------------------------- acting


def test_an_alert_is_acknowledged_once(store: Store, people: dict[str, User], alert: int) -> None:
    ana, mara = people["Ana"], people["Mara"]
    assert act(store, ana, "acknowledge", alert, note="called them")
    assert not act(store, ana, "acknowledge", alert, note="called them")
    assert not act(store, mara, "acknowledge", alert)
    assert actions(store, alert) == [(Did.RAISED, None, None), (Did.ACKNOWLEDGED, ana.id, "called them")]
    (found,) = alerts(store)
    assert (found.state, found.acknowledged_by_id) == (State.ACKNOWLEDGED, ana.id)


def test_another_note_is_kept_without_a_second_effect(
    store: Store, people: dict[str, User], alert: int
) -> None:
    assert act(store, people["Ana"], "acknowledge", alert)
    assert not act(store, people["Mara"], "acknowledge", alert, note="  good  ")
    assert actions(store, alert)[-1] == (Did.ACKNOWLEDGED, people["Mara"].id, "good")
    assert alerts(store)[0].acknowledged_by_id == people["Ana"].id


def test_a_snoozed_alert_is_open_again_by_itself(
    store: Store, clock: FixedClock, people: dict[str, User], alert: int
) -> None:
    ana, until = people["Ana"], clock.now() + DAY

    def open_ones() -> int:
        with store.reading() as session:
            return count_open(Reader(session, ana), clock.now())

    assert act(store, ana, "snooze", alert, until)
    assert not act(store, ana, "snooze", alert, until)
    assert open_ones() == 0
    clock.advance(DAY)
    assert open_ones() == 1
    assert alerts(store)[0].state_at(clock.now()) is State.OPEN


@pytest.mark.parametrize("days", [0, -1, 400])
def test_nobody_snoozes_into_the_past_or_for_ever(
    store: Store, clock: FixedClock, people: dict[str, User], alert: int, days: int
) -> None:
    with pytest.raises(InvalidValueError, match="an instant after now"):
        act(store, people["Ana"], "snooze", alert, clock.now() + days * DAY)


def test_whoever_an_alert_is_assigned_to_is_told_and_may_act(
    store: Store, people: dict[str, User], alert: int
) -> None:
    vera = people["Vera"]
    assert act(store, people["Ana"], "assign", alert, vera.id, note="please")
    assert not act(store, people["Ana"], "assign", alert, vera.id)
    assert receivers(store)[vera.id] == Why.ASSIGNEE
    assert act(store, vera, "acknowledge", alert)


def test_nothing_is_assigned_to_who_may_not_see_it(store: Store, people: dict[str, User], alert: int) -> None:
    with pytest.raises(InvalidValueError, match="somebody who may see"):
        act(store, people["Mara"], "assign", alert, people["Otto"].id)
    with pytest.raises(RecordNotFoundError):
        act(store, people["Mara"], "assign", alert, 999)
    with store.transaction() as transaction:
        ben = transaction.get(User, people["Ben"].id)
        transaction.update(ben, {"left_at": transaction.now})
    with pytest.raises(RecordNotFoundError):
        act(store, people["Mara"], "assign", alert, people["Ben"].id)


def test_what_was_acknowledged_may_be_opened_again(store: Store, people: dict[str, User], alert: int) -> None:
    assert not act(store, people["Ana"], "reopen", alert)
    act(store, people["Ana"], "acknowledge", alert)
    assert act(store, people["Mara"], "reopen", alert)
    found = alerts(store)[0]
    assert (found.state, found.acknowledged_by_id, found.acknowledged_at) == (State.OPEN, None, None)


def test_a_reader_does_not_act_unless_it_is_theirs(store: Store, people: dict[str, User], alert: int) -> None:
    dana = people["Dana"]
    with pytest.raises(AccessDeniedError):
        act(store, dana, "acknowledge", alert)
    act(store, people["Mara"], "assign", alert, dana.id)
    assert act(store, dana, "acknowledge", alert)


def test_who_does_not_see_the_record_does_not_see_the_alert(
    store: Store, people: dict[str, User], alert: int
) -> None:
    for name in ("Ben", "Otto"):
        with pytest.raises(RecordNotFoundError):
            act(store, people[name], "acknowledge", alert)
        with store.reading() as session, pytest.raises(RecordNotFoundError):
            get_alert(Reader(session, people[name]), alert)


def test_nothing_is_done_about_what_is_over(
    store: Store, clock: FixedClock, people: dict[str, User], customer: int, alert: int
) -> None:
    clock.advance(DAY)
    say(store, customer, 0.1)
    assert look(store, customer) == [Over.BELOW_LEVEL]
    with pytest.raises(AlertClosedError, match="below_level"):
        act(store, people["Ana"], "acknowledge", alert)


def test_everybody_says_when_they_want_mails(store: Store, people: dict[str, User]) -> None:
    ana = people["Ana"].id
    wishes = []
    for wish in (ByMail.DAILY, ByMail.NEVER):
        with store.transaction() as transaction:
            wishes.append(mail_wish(transaction.session, ana))
            set_mail_wish(transaction.session, ana, wish)
    with store.reading() as session:
        assert [*wishes, mail_wish(session, ana)] == [ByMail.AT_ONCE, ByMail.DAILY, ByMail.NEVER]


def test_causes_of_a_record_follow_one_another(store: Store, clock: FixedClock, customer: int) -> None:
    for turn in range(10):
        say(store, customer, 0.5 if turn % 2 else 0.1)
        look(store, customer)
        clock.advance(8 * DAY)
    found = [alert for alert in alerts(store) if alert.kind == Kind.CHURN_LEVEL]
    assert len(found) == 5
    assert all(first.closed_at and first.closed_at < then.raised_at for first, then in pairwise(found))
