"""What sets a rule off.

| kind | when |
|---|---|
| `record_created` | a record is created |
| `field_changed` | a field gets another value; `from` and `to` may say which |
| `stage_entered` | a deal is moved to a stage, or created in it |
| `score_crossed` | what a model says passes a level |
| `alert_raised` | somebody is warned, of a customer about to leave for example |
| `date` | so many days before or after a date that a field holds, or every year |
| `idle` | nothing has happened for so long |
| `stage_overdue` | a deal is longer in its stage than three quarters of those won were |

What imports bring sets nothing off unless a trigger says `imports`: whoever imports ten thousand leads does
not want ten thousand calls to be planned by tomorrow.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import time
from enum import StrEnum
from typing import Any, Final

from crm_core.alert_rules import Kind as AlertKind
from crm_core.automation.declaration import Given, Scalar
from crm_core.errors import InvalidValueError
from crm_core.phrases import one_of
from crm_core.records import ActivityKind

CONTACT: Final = (ActivityKind.CALL, ActivityKind.MAIL, ActivityKind.MEETING, ActivityKind.VISIT)
"""What counts as having been in touch, unless a rule says otherwise."""

MOST_DAYS: Final = 3_660
MORNING: Final = time(9)
_TASKS: Final = 80


class Direction(StrEnum):
    """Which way a score passes a level."""

    RISES = "rises"
    FALLS = "falls"


class Unit(StrEnum):
    """What time is counted in."""

    HOURS = "hours"
    WORKING_HOURS = "working_hours"
    DAYS = "days"


CREATED: Final = "created"
"""In place of a field: since the record was created."""


@dataclass(frozen=True, kw_only=True)
class RecordCreated:
    """A record is created."""

    imports: bool = False


@dataclass(frozen=True, kw_only=True)
class FieldChanged:
    """A field gets another value; of `was` and `becomes`, nothing said means any."""

    field: str
    was: tuple[Scalar, ...] = ()
    becomes: tuple[Scalar, ...] = ()
    imports: bool = False


@dataclass(frozen=True, kw_only=True)
class StageEntered:
    """A deal comes into a stage of a pipeline."""

    stage: str
    pipeline: str = "default"
    imports: bool = False


@dataclass(frozen=True, kw_only=True)
class ScoreCrossed:
    """What a task's model says rises to a level, or falls below it; the level is in [0, 1]."""

    task: str
    level: float
    direction: Direction


@dataclass(frozen=True, kw_only=True)
class AlertRaised:
    """Somebody is warned; of `alerts`, nothing said means any that is about the record type."""

    alerts: tuple[AlertKind, ...] = ()


@dataclass(frozen=True, kw_only=True)
class DateReached:
    """The day `days` after the date in a field has come, at an hour of the day; with a minus, before it.

    What was to happen before a date happens until the date, however late it is known; what was to happen
    after one, up to a week late. With `yearly` the day comes every year.
    """

    field: str
    days: int = 0
    yearly: bool = False
    at: time = MORNING


@dataclass(frozen=True, kw_only=True)
class Idle:
    """Nothing of some kinds has happened for so long, since then or since a field changed last.

    `customers` asks only for accounts that have ever bought.
    """

    amount: float
    unit: Unit
    kinds: tuple[ActivityKind, ...] = CONTACT
    since: str = CREATED
    customers: bool = False


@dataclass(frozen=True, kw_only=True)
class StageOverdue:
    """A deal is `times` as long in its stage as three quarters of the won deals were at most."""

    times: float = 1.0


OnLog = RecordCreated | FieldChanged | StageEntered
"""What the change log tells."""

OnTime = DateReached | Idle | StageOverdue
"""What comes with time alone."""

Trigger = OnLog | ScoreCrossed | AlertRaised | OnTime


def read_trigger(given: Given) -> Trigger:
    """Return the trigger that was declared; raise InvalidValueError for what is none."""
    kind = given.take("kind")
    read = _READ.get(kind) if isinstance(kind, str) else None
    if read is None:
        raise given.refused("kind", kind, one_of(_READ))
    found = read(given)
    given.end()
    return found


def trigger_json(trigger: Trigger) -> dict[str, Any]:
    """Return a trigger as it is declared."""
    said = {"kind": kind_of(trigger), **vars(trigger)}
    names = {"was": "from", "becomes": "to"}
    plain = {names.get(name, name): _plain(value) for name, value in said.items()}
    return {name: value for name, value in plain.items() if value is not False and value != []}


def kind_of(trigger: Trigger) -> str:
    """Return the word that a kind of trigger is declared by."""
    return _KINDS[type(trigger)]


def _plain(value: object) -> object:
    if isinstance(value, time):
        return f"{value:%H:%M}"
    return list(value) if isinstance(value, tuple) else value


def _field_changed(given: Given) -> FieldChanged:
    return FieldChanged(
        field=given.name_of("field"),
        was=given.scalars("from"),
        becomes=given.scalars("to"),
        imports=given.flag("imports"),
    )


def _stage_entered(given: Given) -> StageEntered:
    pipeline = given.text("pipeline") if given.has("pipeline") else "default"
    return StageEntered(stage=given.text("stage"), pipeline=pipeline, imports=given.flag("imports"))


def _score_crossed(given: Given) -> ScoreCrossed:
    return ScoreCrossed(
        task=given.text("task", longest=_TASKS),
        level=given.number("level", least=0, most=1),
        direction=given.choice("direction", Direction),
    )


def _date(given: Given) -> DateReached:
    days = given.whole("days", least=-MOST_DAYS, most=MOST_DAYS) if given.has("days") else 0
    return DateReached(field=given.name_of("field"), days=days, yearly=given.flag("yearly"), at=_at(given))


def _at(given: Given) -> time:
    said = given.take("at", f"{MORNING:%H:%M}")
    try:
        return time.fromisoformat(said)
    except (TypeError, ValueError):
        raise given.refused("at", said, "an hour of the day such as 09:00") from None


def _idle(given: Given) -> Idle:
    kinds = given.choices("kinds", ActivityKind, CONTACT)
    if ActivityKind.TASK in kinds:
        raise InvalidValueError(f"{given.place}.kinds", "task", "what was done: a task is only planned")
    return Idle(
        amount=given.number("amount", least=0.01, most=MOST_DAYS * 24),
        unit=given.choice("unit", Unit),
        kinds=kinds,
        since=given.name_of("since", CREATED),
        customers=given.flag("customers"),
    )


def _overdue(given: Given) -> StageOverdue:
    return StageOverdue(times=given.number("times", least=0.1, most=100) if given.has("times") else 1.0)


_READ: Final[dict[str, Callable[[Given], Trigger]]] = {
    "record_created": lambda given: RecordCreated(imports=given.flag("imports")),
    "field_changed": _field_changed,
    "stage_entered": _stage_entered,
    "score_crossed": _score_crossed,
    "alert_raised": lambda given: AlertRaised(alerts=given.choices("alerts", AlertKind)),
    "date": _date,
    "idle": _idle,
    "stage_overdue": _overdue,
}

_KINDS: Final[dict[type[Any], str]] = {
    RecordCreated: "record_created",
    FieldChanged: "field_changed",
    StageEntered: "stage_entered",
    ScoreCrossed: "score_crossed",
    AlertRaised: "alert_raised",
    DateReached: "date",
    Idle: "idle",
    StageOverdue: "stage_overdue",
}

KINDS: Final = tuple(_READ)
"""The words that triggers are declared by."""
