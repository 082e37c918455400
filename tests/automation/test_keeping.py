"""Which rules are kept: not those that would set off themselves, nor those that cannot mean anything here."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select

from crm_core.automation.kept import AutomationRule, list_versions
from crm_core.errors import CRMError, RuleLoopError, StaleRecordError
from crm_core.mail_templates import Draft, save_template
from crm_core.operations import OperationRow
from crm_core.records import User
from crm_core.store import Store
from tests.automation.conftest import TOLD, Automation

CREATED = {"kind": "record_created"}


@pytest.mark.parametrize(
    ("trigger", "action"),
    [
        ({"kind": "field_changed", "field": "region"}, {"kind": "set", "field": "region", "value": "North"}),
        ({"kind": "field_changed", "field": "owner_id"}, {"kind": "pool"}),
        (
            {"kind": "idle", "amount": 2, "unit": "days", "since": "owner_id"},
            {"kind": "assign", "to": ["team:1"], "again": True},
        ),
        ({"kind": "idle", "amount": 2, "unit": "days"}, {"kind": "mail", "template": 1}),
    ],
    ids=str,
)
def test_a_rule_that_would_set_off_itself_is_refused(
    automation: Automation, trigger: dict[str, Any], action: dict[str, Any]
) -> None:
    with automation.store.transaction() as transaction:
        admin = transaction.session.get_one(User, automation.admin)
        save_template(transaction, admin, Draft(name="First", subject="Hello", body="Hello"))
    with pytest.raises(RuleLoopError, match="would set off itself"):
        automation.save("lead", trigger, action)


def test_a_ticket_that_is_solved_again_because_it_was_solved_is_a_loop(automation: Automation) -> None:
    trigger = {"kind": "field_changed", "field": "solved_at"}
    with pytest.raises(RuleLoopError):
        automation.save("ticket", trigger, {"kind": "set", "field": "status", "value": "solved"})


def test_rules_that_set_off_one_another_in_a_circle_are_refused(automation: Automation) -> None:
    def waits(of: str, sets: str) -> tuple[dict[str, Any], dict[str, Any]]:
        trigger = {"kind": "field_changed", "field": of, "to": ["b"]}
        return trigger, {"kind": "set", "field": sets, "value": "b"}

    automation.rule("lead", *waits("region", "industry"), name="One")
    second = automation.save("lead", *waits("industry", "territory"), name="Two")
    third = automation.rule("lead", *waits("territory", "region"), name="Three")
    with pytest.raises(RuleLoopError, match="Two -> Three -> One -> Two"):
        automation.turn(second, on=True)
    automation.turn(third, on=False)
    automation.turn(second, on=True)


def test_a_rule_that_writes_another_value_than_it_waits_for_is_no_loop(automation: Automation) -> None:
    trigger = {"kind": "field_changed", "field": "region", "to": ["South"]}
    automation.rule("lead", trigger, {"kind": "set", "field": "region", "value": "North"})


# ---------------------------------------------------------------- keeping


def test_each_change_is_a_new_version_and_logged(store: Store, automation: Automation) -> None:
    rule = automation.rule("lead", CREATED)
    automation.save("lead", CREATED, name="Other", rule_id=rule, version=1)
    with pytest.raises(StaleRecordError):
        automation.save("lead", CREATED, rule_id=rule, version=1)
    with store.reading() as session:
        assert [version.declared["name"] for version in list_versions(session, rule)] == ["Other", "A rule"]
        assert session.get_one(AutomationRule, rule).active, "and it stays on"
        details = session.scalars(select(OperationRow.detail).order_by(OperationRow.id)).all()
    assert details == [
        f"automation rule {rule}: version 1",
        f"automation rule {rule}: on",
        f"automation rule {rule}: version 2",
    ]


@pytest.mark.parametrize(
    ("record_type", "trigger", "action", "more"),
    [
        ("lead", {"kind": "field_changed", "field": "colour"}, TOLD, {}),
        ("deal", {"kind": "stage_entered", "stage": "dreaming"}, TOLD, {}),
        ("deal", {"kind": "score_crossed", "task": "churn", "level": 0.5, "direction": "rises"}, TOLD, {}),
        ("contact", {"kind": "date", "field": "name"}, TOLD, {}),
        ("lead", CREATED, {"kind": "set", "field": "status", "value": "converted"}, {}),
        ("lead", CREATED, {"kind": "set", "field": "employees", "value": "many"}, {}),
        ("quote", CREATED, {"kind": "set", "field": "approval", "value": "approved"}, {}),
        ("quote", CREATED, {"kind": "set", "field": "status", "value": "sent"}, {}),
        ("payment", CREATED, {"kind": "set", "field": "paid_at", "value": 0}, {}),
        ("ticket", CREATED, {"kind": "set", "field": "solve_due_at", "value": None}, {}),
        ("user", CREATED, {"kind": "set", "field": "role", "value": "admin"}, {}),
        ("lead", CREATED, {"kind": "assign", "to": ["team:77"]}, {}),
        ("contract", CREATED, {"kind": "pool"}, {}),
        ("lead", CREATED, {"kind": "renewal", "text": "Renew"}, {}),
        ("lead", CREATED, TOLD, {"condition": ["segment:77"]}),
        ("nothing", CREATED, TOLD, {}),
    ],
    ids=str,
)
def test_what_is_not_there_is_refused_when_saved(
    automation: Automation, record_type: str, trigger: Any, action: Any, more: Any
) -> None:
    with pytest.raises(CRMError):
        automation.save(record_type, trigger, action, **more)
