"""What a rule may say, and that it says the same again."""

from __future__ import annotations

from typing import Any

import pytest

from crm_core.automation.rules import read_rule
from crm_core.automation.triggers import FieldChanged
from crm_core.errors import CRMError

BIG: dict[str, Any] = {
    "name": "Big deals",
    "record_type": "deal",
    "trigger": {"kind": "stage_entered", "stage": "proposal"},
    "condition": ["amount:ge:50000"],
    "actions": [{"kind": "notice", "to": ["manager"], "text": "A big deal"}],
}
TRIGGERS: list[dict[str, Any]] = [
    {"kind": "record_created", "imports": True},
    {"kind": "field_changed", "field": "custom.tier", "from": [None, "b"], "to": "a"},
    {"kind": "stage_entered", "stage": "proposal", "pipeline": "default"},
    {"kind": "score_crossed", "task": "churn", "level": 0.0, "direction": "rises"},
    {"kind": "alert_raised", "alerts": ["churn_level"]},
    {"kind": "date", "field": "ends_on", "days": -30, "at": "08:30"},
    {"kind": "date", "field": "birthday", "yearly": True},
    {"kind": "idle", "amount": 4, "unit": "working_hours", "since": "owner_id", "kinds": ["call"]},
    {"kind": "stage_overdue", "times": 1.5},
]
ACTIONS: list[dict[str, Any]] = [
    {"kind": "task", "text": {"en": "Call", "zh": "致电"}, "to": ["called:Presales|售前"], "amount": 0},
    {"kind": "mail", "template": 3},
    {"kind": "message", "text": "Hello", "channel": "sms"},
    {"kind": "set", "field": "region", "value": None},
    {"kind": "assign", "to": ["team:3"], "by": "region", "table": {"North": "user:2"}, "most": 30},
    {"kind": "pool"},
    {"kind": "tag", "word": "hot"},
    {"kind": "sequence", "sequence": 2},
    {"kind": "renewal", "text": "Renewal"},
]


@pytest.mark.parametrize("trigger", TRIGGERS, ids=str)
def test_a_trigger_is_read_as_it_is_written(trigger: dict[str, Any]) -> None:
    rule = read_rule({**BIG, "trigger": trigger})
    again = read_rule(rule.as_json())
    assert again == rule
    said = rule.as_json()["trigger"]
    assert {
        name: said[name] for name in trigger.keys() - {"imports", "yearly", "to"}
    }.items() <= trigger.items()


@pytest.mark.parametrize("action", ACTIONS, ids=str)
def test_an_action_is_read_as_it_is_written(action: dict[str, Any]) -> None:
    rule = read_rule({**BIG, "actions": [action]})
    assert read_rule(rule.as_json()) == rule
    assert action.items() <= rule.as_json()["actions"][0].items()


def test_nothing_said_of_a_value_is_any_and_null_is_none() -> None:
    def changed(**said: Any) -> object:
        return read_rule({**BIG, "trigger": {"kind": "field_changed", "field": "source", **said}}).trigger

    assert changed() == FieldChanged(field="source")
    assert changed(to=None) == FieldChanged(field="source", becomes=(None,))


@pytest.mark.parametrize(
    ("wrong", "place"),
    [
        ({"name": " "}, "rule.name"),
        ({"trigger": {"kind": "sometimes"}}, "rule.trigger.kind"),
        ({"trigger": {"kind": "record_created", "when": "now"}}, "rule.trigger.when"),
        ({"trigger": {"kind": "score_crossed", "task": "churn", "level": 3, "direction": "rises"}}, "level"),
        ({"trigger": {"kind": "idle", "amount": 1, "unit": "days", "kinds": ["task"]}}, "rule.trigger.kinds"),
        ({"trigger": {"kind": "date", "field": "ends_on", "at": "nine"}}, "rule.trigger.at"),
        ({"record_type": "lead"}, "rule.record_type"),
        ({"condition": ["amount"]}, "filter"),
        ({"actions": []}, "rule.actions"),
        ({"actions": [{"kind": "task", "text": "Call", "to": ["everybody"]}]}, "rule.actions.0.to"),
        ({"actions": [{"kind": "assign"}]}, "rule.actions.0.to"),
        ({"actions": [{"kind": "assign", "table": {"North": "team:1"}}]}, "rule.actions.0.table"),
        ({"actions": [{"kind": "set", "field": "region"}]}, "rule.actions.0.value"),
        ({"shipped": True}, "rule.shipped"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(wrong: dict[str, Any], place: str) -> None:
    with pytest.raises(CRMError, match=place):
        read_rule({**BIG, **wrong})
