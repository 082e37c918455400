"""What a rule is: on records of one type, when something happens and conditions hold, do something.

A rule is declared as JSON, by the API and by the pages alike:

    {"name": "Big deals",
     "record_type": "deal",
     "trigger": {"kind": "stage_entered", "stage": "proposal"},
     "condition": ["amount:ge:50000"],
     "actions": [{"kind": "notice", "to": ["manager"], "text": "A big deal is being offered"}]}

`read_rule` checks what can be checked by itself; `crm_core.automation.keeping` asks the database the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from crm_core.automation.actions import Action, action_json, read_action
from crm_core.automation.declaration import Given, Words
from crm_core.automation.triggers import (
    AlertRaised,
    StageEntered,
    StageOverdue,
    Trigger,
    read_trigger,
    trigger_json,
)
from crm_core.errors import FilterError
from crm_core.filters import MOST, SEGMENT, parse_condition
from crm_core.phrases import Phrase

MOST_ACTIONS: Final = 10
LONGEST_NAME: Final = 120


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A rule as it was declared."""

    name: Words
    record_type: str
    trigger: Trigger
    condition: tuple[str, ...] = ()
    actions: tuple[Action, ...]

    def as_json(self) -> dict[str, Any]:
        """Return it as it is declared."""
        return {
            "name": self.name.as_json(),
            "record_type": self.record_type,
            "trigger": trigger_json(self.trigger),
            "condition": list(self.condition),
            "actions": [action_json(each) for each in self.actions],
        }


def read_rule(declared: Mapping[str, Any]) -> Rule:
    """Return the rule that was declared; raise InvalidValueError or FilterError with the part at fault."""
    given = Given("rule", declared)
    name = given.words("name")
    record_type = given.name_of("record_type")
    trigger = read_trigger(Given("rule.trigger", given.take("trigger")))
    _check_type(given, record_type, trigger)
    condition = tuple(_condition(each) for each in given.some("condition", []))
    if len(condition) > MOST:
        raise given.refused("condition", len(condition), Phrase("at most {most} conditions", most=MOST))
    declared_actions = given.some("actions", [])
    if not 1 <= len(declared_actions) <= MOST_ACTIONS:
        raise given.refused(
            "actions", len(declared_actions), Phrase("1 to {most} actions", most=MOST_ACTIONS)
        )
    actions = tuple(
        read_action(Given(f"rule.actions.{number}", each)) for number, each in enumerate(declared_actions)
    )
    given.end()
    return Rule(name=name, record_type=record_type, trigger=trigger, condition=condition, actions=actions)


def _condition(text: object) -> str:
    if not isinstance(text, str):
        raise FilterError(f"rule.condition: expected texts such as amount:ge:1000, got {text!r}"[:200])
    if not text.startswith(f"{SEGMENT}:"):
        parse_condition(text)
    return text


def _check_type(given: Given, record_type: str, trigger: Trigger) -> None:
    if isinstance(trigger, StageEntered | StageOverdue) and record_type != "deal":
        raise given.refused("record_type", record_type, "deal: only deals have stages")
    if isinstance(trigger, AlertRaised) and record_type not in {"account", "deal"}:
        raise given.refused("record_type", record_type, "account or deal: alerts are about these")
