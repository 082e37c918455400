"""Which rules set off which, and refusing those that would set off themselves.

What is looked at is what rules may do, whatever their conditions say: a condition that stops a loop today
may hold tomorrow. A change to one value sets off a trigger that waits for it; to another value it does not.
Scores and alerts are left out: what a model makes of a change nobody can tell beforehand. For these the loop
that follows the log counts how deep it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from crm_core.automation.actions import Action, Assign, Mail, Pool, Renewal, Sequence, SetField, Tag, Task
from crm_core.automation.declaration import Scalar
from crm_core.automation.rules import Rule
from crm_core.automation.triggers import (
    CREATED,
    DateReached,
    FieldChanged,
    Idle,
    RecordCreated,
    StageEntered,
    StageOverdue,
)
from crm_core.errors import RuleLoopError
from crm_core.pipelines import PIPELINES
from crm_core.records import ActivityKind
from crm_core.ticket_clocks import CLOCK_FIELDS

FIRST_STAGE: Final = next(iter(PIPELINES["default"])).key


@dataclass(frozen=True, kw_only=True)
class Created:
    """A record comes to be; of an activity, of which kind."""

    record_type: str
    kind: ActivityKind | None = None


@dataclass(frozen=True, kw_only=True)
class Changed:
    """A field gets a value: `somebody` stands for any that is not empty."""

    record_type: str
    field: str
    value: Scalar = None
    somebody: bool = False


Effect = Created | Changed


def check_no_loop(rules: Mapping[int, Rule], new: Rule, new_id: int | None) -> None:
    """Raise RuleLoopError where a rule, beside those that are on, would set off itself, at once or later."""
    others = {rule_id: rule for rule_id, rule in rules.items() if rule_id != new_id}
    path = _way_back(new, others)
    if path is not None:
        raise RuleLoopError(new.name.en, tuple(rule.name.en for rule in path))


def _way_back(new: Rule, others: Mapping[int, Rule]) -> list[Rule] | None:
    """Return the rules through which one sets off itself, itself last; None if it does not."""
    waiting: list[tuple[Rule, list[Rule]]] = [(new, [])]
    seen: set[int] = set()
    while waiting:
        rule, path = waiting.pop(0)
        if sets_off(rule, new):
            return [*path, new]
        for rule_id, other in others.items():
            if rule_id not in seen and sets_off(rule, other):
                seen.add(rule_id)
                waiting.append((other, [*path, other]))
    return None


def sets_off(rule: Rule, other: Rule) -> bool:
    """Tell whether what one rule does may set off another."""
    return any(_is_waited_for(other, effect) for effect in effects_of(rule))


def effects_of(rule: Rule) -> Iterator[Effect]:
    """Yield what a rule may write."""
    for action in rule.actions:
        yield from _effects(rule.record_type, action)


def _effects(record_type: str, action: Action) -> Iterable[Effect]:
    match action:
        case SetField():
            changed = Changed(record_type=record_type, field=action.field, value=action.value)
            return [changed, *_along(record_type, action.field)]
        case Assign() | Pool():
            somebody = isinstance(action, Assign)
            return [Changed(record_type=record_type, field="owner_id", somebody=somebody)]
    return _CREATED.get(type(action), ())


def _along(record_type: str, field: str) -> Iterator[Effect]:
    """Yield what is written when a field is set by its verb: clocks of tickets, tasks of stages."""
    if record_type == "ticket" and field in {"status", "priority", "queue"}:
        for name in sorted(CLOCK_FIELDS | {"closed_at"}):
            yield Changed(record_type=record_type, field=name, somebody=True)
    if record_type == "deal" and field == "stage":
        yield Created(record_type="activity", kind=ActivityKind.TASK)


_MAIL: Final = Created(record_type="activity", kind=ActivityKind.MAIL)
_CREATED: Final[dict[type[Action], tuple[Effect, ...]]] = {
    Task: (Created(record_type="activity", kind=ActivityKind.TASK),),
    Mail: (_MAIL,),
    Sequence: (_MAIL,),
    Tag: (Created(record_type="tag"),),
    Renewal: (Created(record_type="deal"),),
}


def _is_waited_for(rule: Rule, effect: Effect) -> bool:
    if isinstance(effect, Created):
        return _waits_for_creation(rule, effect)
    return rule.record_type == effect.record_type and _waits_for_change(rule, effect)


def _waits_for_creation(rule: Rule, effect: Created) -> bool:
    match rule.trigger:
        case RecordCreated():
            return rule.record_type == effect.record_type
        case StageEntered(stage=stage, pipeline="default"):
            return effect.record_type == "deal" and stage == FIRST_STAGE
        case StageOverdue():
            return effect.record_type == "deal"
        case Idle(kinds=kinds, since=since):
            begun = since == CREATED and rule.record_type == effect.record_type
            return begun or effect.kind in kinds
    return False


def _waits_for_change(rule: Rule, effect: Changed) -> bool:
    filled = effect.somebody or effect.value is not None
    match rule.trigger:
        case FieldChanged(field=field, becomes=becomes):
            return field == effect.field and (not becomes or _may_become(becomes, effect))
        case StageEntered(stage=stage):
            return effect.field == "stage" and effect.value == stage
        case StageOverdue():
            return effect.field == "stage"
        case DateReached(field=field):
            return field == effect.field and filled
        case Idle(since=since):
            return since == effect.field and filled
    return False


def _may_become(becomes: tuple[Scalar, ...], effect: Changed) -> bool:
    if effect.somebody:
        return any(value is not None for value in becomes)
    return effect.value in becomes
