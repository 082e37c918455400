"""Tickets, marks, payments, responses and the age of a stage are told as reasons where they matter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal

import numpy as np
import pytest

from crm_core.changes import Source
from crm_core.clock import micros
from crm_core.records import Account, Activity, Deal, Lead, Order, Payment, Record, Ticket
from crm_core.store import Store, Transaction
from features.cohort import Cohort
from features.feature_set import feature_set_for
from models.ablation import PLAIN
from models.building import build_bundle, gather
from models.explain import explain_rows
from models.questions import questions_of
from models.tasks import get_task
from tests.models.conftest import NOW

MANY = 120
ASKED = NOW - timedelta(days=120)
"""When all are asked about: two in three of those with a sign have the outcome then, few of the others."""

Sign = Callable[[Transaction, int], object]


def ago(days: float) -> dict[str, datetime]:
    """The two instants of what happened so long before the question, and was known at once."""
    when = ASKED - timedelta(days=days)
    return {"occurred_at": when, "recorded_at": when}


def open_ticket(transaction: Transaction, account: int) -> None:
    transaction.create(Ticket(account_id=account, subject="Broken", **ago(9)))


def bad_mark(transaction: Transaction, account: int) -> None:
    _ticket(transaction, account, 1)


def good_mark(transaction: Transaction, account: int) -> None:
    _ticket(transaction, account, 5)


def _ticket(transaction: Transaction, account: int, mark: int) -> None:
    closed = {"status": "closed", "satisfaction": mark}
    transaction.create(Ticket(account_id=account, subject="Broken", **closed, **ago(20)))


def late_payment(transaction: Transaction, account: int) -> None:
    due = date.fromordinal(ASKED.date().toordinal() - 40)
    transaction.create(Payment(account_id=account, amount=Decimal(900), due_on=due, **ago(70)))


def answer(transaction: Transaction, lead: int) -> None:
    transaction.create(Activity(lead_id=lead, kind="mail", direction="inbound", **ago(2)))


def move_of_late(transaction: Transaction, deal: int) -> None:
    _move(transaction, deal, 1)


def move_of_long_ago(transaction: Transaction, deal: int) -> None:
    _move(transaction, deal, 80)


def _move(transaction: Transaction, deal: int, days: float) -> None:
    moved = transaction.session.get_one(Deal, deal)
    transaction.update(moved, {"stage": "needs"}, **ago(days))


def nothing(transaction: Transaction, record: int) -> None:
    """Those without a sign."""


@dataclass(frozen=True, kw_only=True)
class Told:
    """What a sign is to be told by."""

    task: str
    sign: Sign
    other: Sign = nothing
    group: str
    features: tuple[str, ...]
    en: str
    zh: str


CASES = {
    "tickets": Told(
        task="churn",
        sign=open_ticket,
        group="tickets",
        features=("open_tickets_count", "tickets_count_30d", "tickets_count_90d", "days_since_last_ticket"),
        en="ticket",
        zh="工单",
    ),
    "satisfaction": Told(
        task="churn",
        sign=bad_mark,
        other=good_mark,
        group="tickets",
        features=("tickets_satisfaction_mean_365d", "last_ticket_satisfaction"),
        en="satisfaction",
        zh="满意度",
    ),
    "payments": Told(
        task="churn",
        sign=late_payment,
        group="payments",
        features=("overdue_payments_count", "payments_delay_days_mean_365d"),
        en="payment",
        zh="付款",
    ),
    "responses": Told(
        task="lead_scoring",
        sign=answer,
        group="contacts",
        features=("days_since_last_response", "last_contact_direction"),
        en="the customer",
        zh="客户",
    ),
    "age of the stage": Told(
        task="win_probability",
        sign=move_of_late,
        other=move_of_long_ago,
        group="stage",
        features=("stage_age_days", "stage_age_ratio"),
        en="stage",
        zh="阶段",
    ),
}


@pytest.mark.parametrize("kind", CASES)
def test_what_matters_is_a_reason_in_both_languages(kind: str, store: Store) -> None:
    told = CASES[kind]
    store.clock.set(NOW)  # type: ignore[attr-defined]  # the clock of tests
    ids = _fill(store, told)
    task = get_task(told.task).of_variant("orders")
    features = feature_set_for(store, task.name)
    cohort = Cohort.of(task.record_type, ids, np.full(len(ids), micros(ASKED)))
    questions = questions_of(store, task, features, cohort)
    bundle = build_bundle(gather(questions, store, features, micros(NOW)), recipe=PLAIN).bundle

    with_sign, without = explain_rows(bundle, features, questions.frame.iloc[[0, 1]])

    reason = next(each for each in with_sign if each["group"] == told.group)
    assert with_sign.index(reason) <= 5
    assert reason["feature"] in told.features
    assert told.en in reason["en"]
    assert told.zh in reason["zh"]
    against = [each["log_odds"] for each in without if each["group"] == told.group]
    assert reason["log_odds"] > 0.1 > max(against, default=0.0)


def _fill(store: Store, told: Told) -> np.ndarray:
    """Write MANY records, every other one with the sign, and what came of them."""
    make, come = {
        "churn": (_customer, _order_again),
        "lead_scoring": (_lead, _convert),
        "win_probability": (_deal, _win),
    }[told.task]
    ids = []
    with store.transaction(source=Source.IMPORT) as transaction:
        for number in range(MANY):
            record = transaction.create(make(number))
            transaction.session.flush()
            ids.append(record.id)
            has_sign = number % 2 == 0
            (told.sign if has_sign else told.other)(transaction, record.id)
            happens = number % 3 != 1 if has_sign else number % 9 == 1
            if happens == (told.task != "churn"):
                come(transaction, record)
            if told.task == "churn":
                transaction.create(Order(account_id=record.id, amount=Decimal(100), **ago(12)))
    return np.array(ids)


def _customer(number: int) -> Record:
    return Account(name=f"Customer {number}", **ago(300))


def _lead(number: int) -> Record:
    return Lead(company=f"Company {number}", source="web", **ago(14))


def _deal(number: int) -> Record:
    return Deal(name=f"Deal {number}", stage="first_contact", **ago(90))


def _order_again(transaction: Transaction, customer: Record) -> None:
    transaction.create(Order(account_id=customer.id, amount=Decimal(100), **ago(-20)))


def _convert(transaction: Transaction, lead: Record) -> None:
    transaction.update(lead, {"status": "converted", "converted_at": ago(-9)["occurred_at"]}, **ago(-9))


def _win(transaction: Transaction, deal: Record) -> None:
    transaction.update(deal, {"status": "won", "closed_at": ago(-9)["occurred_at"]}, **ago(-9))
