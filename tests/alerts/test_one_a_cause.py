"""One alert a cause on both databases, however predictions arrive and however many look."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta

import pytest

from crm_core.alert_rules import Over
from crm_core.alerting import close_what_is_over
from crm_core.alerts import Did, State
from crm_core.clock import FixedClock
from crm_core.records import Contract, User
from crm_core.store import Store
from tests.alerts.world import DAY, act, actions, alerts, in_threads, look, say
from tests.factories import make_account, make_contract
from tests.serving.both_databases import *  # noqa: F403  its fixtures


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (2, 0, 3, 1), (3, 3, 0, 0, 1, 2)])
def test_predictions_out_of_order_and_twice_raise_one_alert(
    store: Store, clock: FixedClock, customer: int, order: Sequence[int]
) -> None:
    start = clock.now()
    clock.advance(timedelta(hours=5))
    said = [0.1, 0.35, 0.5, 0.6]
    told = []
    for hour in order:
        say(store, customer, said[hour], as_of=start + timedelta(hours=hour))
        told += look(store, customer) + look(store, customer)
    assert told == ["churn_level"]


def test_many_who_look_at_once_raise_one_alert_a_cause(
    store: Store, clock: FixedClock, people: dict[str, User]
) -> None:
    with store.transaction() as transaction:
        ids = [make_account(transaction, owner_id=people["Ana"].id).id for _ in range(6)]
    for probability in (0.1, 0.5, 0.1, 0.5):
        for record_id in ids:
            say(store, record_id, probability)
        in_threads(4, lambda: [look(store, record_id) for record_id in ids])
        clock.advance(DAY)
    found = alerts(store)
    assert len({alert.cause for alert in found}) == len(found) == 12
    for record_id in ids:
        first, second = (alert for alert in found if alert.record_id == record_id)
        assert (first.state, second.state) == (State.CLOSED, State.OPEN)


def test_acknowledging_at_once_by_several_leaves_one_row(
    store: Store, people: dict[str, User], alert: int
) -> None:
    in_threads(4, lambda: act(store, people["Ana"], "acknowledge", alert))
    assert [did for did, _, _ in actions(store, alert)] == [Did.RAISED, Did.ACKNOWLEDGED]


def test_a_jump_is_measured_from_a_week_ago_and_told_once(
    store: Store, clock: FixedClock, customer: int
) -> None:
    told = []
    for probability in (0.05, 0.06, 0.1, 0.15, 0.22, 0.23):
        say(store, customer, probability)
        told.append(look(store, customer))
        clock.advance(DAY)
    assert told == [[], [], [], [], ["churn_jump"], []]
    for _ in range(9):
        say(store, customer, 0.23)
        told.append(look(store, customer))
        clock.advance(DAY)
    assert [each for each in told if each] == [["churn_jump"], [Over.SETTLED]]


def test_a_contract_is_told_once_a_term(store: Store, clock: FixedClock, customer: int) -> None:
    with store.transaction() as transaction:
        first = make_contract(transaction, account_id=customer, ends_on=date(2026, 4, 1)).id
    told = []
    for probability in (0.15, 0.25, 0.15, 0.25):
        say(store, customer, probability)
        told.append(look(store, customer))
        clock.advance(DAY)
    assert told == [[], ["contract_end"], [], []]
    with store.transaction() as transaction:
        renewal = make_contract(transaction, account_id=customer, ends_on=date(2026, 4, 20)).id
        transaction.update(transaction.get(Contract, first), {"status": "renewed", "renewed_by_id": renewal})
        assert [alert.closed_why for alert in close_what_is_over(transaction)] == [Over.RENEWED]
    assert look(store, customer) == ["contract_end"]
    assert [alert.contract_id for alert in alerts(store)] == [first, renewal]
