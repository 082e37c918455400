"""The form of a rule: which inputs each trigger and action has, read into a declaration and filled from one.

Every input is a plain one. Which there are depends on the kinds that are chosen; choosing another one and
pressing "show its fields" asks for the form again, with everything that was typed so far.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from typing import Any, Final

from flask_babel import lazy_gettext as _
from sqlalchemy import Boolean, Float, Integer, select
from sqlalchemy.orm import Session
from werkzeug.datastructures import MultiDict

from crm_core.access import Reader
from crm_core.alert_rules import Kind as AlertKind
from crm_core.automation import actions, triggers
from crm_core.automation.keeping import PEOPLE, TASKS
from crm_core.errors import CRMError, InvalidValueError, UnknownRecordTypeError
from crm_core.fields import CUSTOM, model_of
from crm_core.filters import Askable, Op, list_askable, parse_condition
from crm_core.mail_templates import list_templates
from crm_core.messages import MessageKind
from crm_core.pipelines import DEFAULT_PIPELINE
from crm_core.records import RECORD_TYPES, ActivityKind, Role, Team, User
from crm_core.saved import list_segments
from crm_core.sequences import list_sequences
from crm_core.tokens import works_here
from crm_core.validation import columns_of
from serving.web.facts import labels_of
from serving.web.refusals import expected_of, refusal
from serving.web.value_words import Choices, choices_held, value_read, value_said, values_read, values_said
from serving.web.words import word

Form = Mapping[str, Any]

EMPTY: Final = "null"
"""What is typed for no value at all."""

_NO_FORM: Final = frozenset({"custom_record", "user", "team", "tag", "comment", "attachment"})
"""Record types that rules of the page are not about; the API takes them."""

_BLANK_CONDITIONS: Final = 2


class Input(StrEnum):
    """How something is asked for."""

    TEXT = "text"
    WORDS = "words"
    NUMBER = "number"
    WHOLE = "whole"
    TIME = "time"
    FLAG = "flag"
    ONE = "one"
    SOME = "some"
    PEOPLE = "people"
    VALUE = "value"
    VALUES = "values"
    TABLE = "table"


@dataclass(frozen=True, kw_only=True)
class Part:
    """One input: `words` is the group of words that choices are shown by, or what offers them."""

    name: str
    label: object
    input: Input
    choices: Sequence[str] = ()
    words: str = ""
    hint: object = ""
    needed: bool = False


_FIELD: Final = Part(name="field", label=_("Field"), input=Input.ONE, words="fields", needed=True)
_TO: Final = Part(name="to", label=_("For whom"), input=Input.PEOPLE, hint=_("Several with Ctrl or ⌘."))
_TEXT: Final = Part(name="text", label=_("Text"), input=Input.WORDS)
_UNIT: Final = Part(
    name="unit",
    label=_("Unit"),
    input=Input.ONE,
    words="time_unit",
    choices=tuple(triggers.Unit),
    needed=True,
)
_IMPORTS: Final = Part(name="imports", label=_("Also what imports bring"), input=Input.FLAG)
_COMMAS: Final = _("Several with commas; null for nothing. Empty: any.")

TRIGGERS: Final[dict[str, tuple[Part, ...]]] = {
    "record_created": (_IMPORTS,),
    "field_changed": (
        _FIELD,
        Part(name="from", label=_("From"), input=Input.VALUES, hint=_COMMAS),
        Part(name="to", label=_("To"), input=Input.VALUES, hint=_COMMAS),
        _IMPORTS,
    ),
    "stage_entered": (
        Part(
            name="stage",
            label=_("Stage"),
            input=Input.ONE,
            words="stage",
            choices=tuple(stage.key for stage in DEFAULT_PIPELINE),
            needed=True,
        ),
        _IMPORTS,
    ),
    "score_crossed": (
        Part(name="task", label=_("Score"), input=Input.ONE, words="task", choices=tuple(TASKS), needed=True),
        Part(name="level", label=_("Level, from 0 to 1"), input=Input.NUMBER, needed=True),
        Part(
            name="direction",
            label=_("Which way"),
            input=Input.ONE,
            words="direction_of_score",
            choices=tuple(triggers.Direction),
            needed=True,
        ),
    ),
    "alert_raised": (
        Part(
            name="alerts",
            label=_("Which alerts; none: all"),
            input=Input.SOME,
            words="alert_kind",
            choices=tuple(AlertKind),
        ),
    ),
    "date": (
        Part(name="field", label=_("Date"), input=Input.ONE, words="dates", needed=True),
        Part(name="days", label=_("Days after it; with a minus before it"), input=Input.WHOLE),
        Part(name="at", label=_("At what time"), input=Input.TIME),
        Part(name="yearly", label=_("Every year"), input=Input.FLAG),
    ),
    "idle": (
        Part(name="amount", label=_("For how long"), input=Input.NUMBER, needed=True),
        _UNIT,
        Part(name="since", label=_("Counted since"), input=Input.ONE, words="since"),
        Part(
            name="kinds",
            label=_("What counts as contact"),
            input=Input.SOME,
            words="kind",
            choices=tuple(kind for kind in ActivityKind if kind is not ActivityKind.TASK),
        ),
        Part(name="customers", label=_("Only customers that have bought"), input=Input.FLAG),
    ),
    "stage_overdue": (
        Part(
            name="times",
            label=_("Times as long as three quarters of the won deals took"),
            input=Input.NUMBER,
        ),
    ),
}

ACTIONS: Final[dict[str, tuple[Part, ...]]] = {
    "task": (
        _TEXT,
        _TO,
        Part(name="amount", label=_("Due after"), input=Input.NUMBER),
        _UNIT,
    ),
    "notice": (_TEXT, _TO),
    "mail": (
        Part(name="template", label=_("Template"), input=Input.ONE, words="templates", needed=True),
        Part(
            name="purpose",
            label=_("Purpose"),
            input=Input.ONE,
            words="message_kind",
            choices=tuple(MessageKind),
            needed=True,
        ),
    ),
    "message": (
        _TEXT,
        Part(name="channel", label=_("Channel, such as sms"), input=Input.TEXT),
    ),
    "set": (_FIELD, Part(name="value", label=_("Value; null for nothing"), input=Input.VALUE)),
    "assign": (
        _TO,
        Part(
            name="by",
            label=_("By the team called as this field says"),
            input=Input.ONE,
            words="fields",
        ),
        Part(
            name="table",
            label=_("Or by this table"),
            input=Input.TABLE,
            hint=_("A line each: value = team:3"),
        ),
        Part(name="most", label=_("Most open records a person"), input=Input.WHOLE),
        Part(name="again", label=_("Also if it has an owner"), input=Input.FLAG),
    ),
    "pool": (),
    "tag": (Part(name="word", label=_("Tag"), input=Input.TEXT),),
    "sequence": (
        Part(name="sequence", label=_("Sequence"), input=Input.ONE, words="sequences", needed=True),
    ),
    "renewal": (_TEXT,),
}


@dataclass(frozen=True, kw_only=True)
class Offered:
    """What can be chosen for records of one type, as (value, label)."""

    record_types: Sequence[tuple[str, str]]
    triggers: Sequence[str]
    actions: Sequence[str]
    fields: Sequence[tuple[str, str]]
    dates: Sequence[tuple[str, str]]
    since: Sequence[tuple[str, str]]
    people: Sequence[tuple[str, str]]
    templates: Sequence[tuple[str, str]]
    sequences: Sequence[tuple[str, str]]
    segments: Sequence[tuple[str, str]]
    names: Mapping[int | None, str]
    held: Callable[[str], Choices]
    ops: Sequence[str] = field(default_factory=lambda: tuple(Op))

    def of(self, part: Part) -> list[tuple[str, str]]:
        """Return the choices of an input."""
        offered: dict[str, Sequence[tuple[str, str]]] = {
            "fields": self.fields,
            "dates": self.dates,
            "since": self.since,
            "templates": self.templates,
            "sequences": self.sequences,
        }
        if part.words in offered:
            return list(offered[part.words])
        return [(str(value), word(part.words, value)) for value in part.choices]


def offered(session: Session, user: User, record_type: str, kinds: Collection[str] = ()) -> Offered:
    """Return what a rule about records of a type may be made of; `kinds` are those of its actions so far."""
    reader = Reader(session, user)
    askable = list_askable(reader, record_type)
    names = [each.name for each in askable]
    labels = dict(zip(names, labels_of(session, record_type, names), strict=True))
    users = session.scalars(select(User).order_by(User.name, User.id)).all()
    return Offered(
        record_types=[(name, word("record_type", name)) for name in RECORD_TYPES if name not in _NO_FORM],
        triggers=[kind for kind in TRIGGERS if _is_for(kind, record_type)],
        actions=[kind for kind in ACTIONS if _does(kind, record_type)],
        fields=list(labels.items()),
        dates=[(each.name, labels[each.name]) for each in askable if _is_date(each)],
        since=[(triggers.CREATED, str(_("it was created"))), *labels.items()],
        people=_people(session, users),
        templates=_templates(session, user) if "mail" in kinds else [],
        sequences=_sequences(session, record_type) if "sequence" in kinds else [],
        names={each.id: each.name for each in users},
        held=partial(choices_held, session, record_type),
        segments=[(str(each.id), each.name) for each in list_segments(session, user, record_type)],
    )


def known_type(name: str) -> str:
    """Return a record type that the form knows; raise UnknownRecordTypeError for any other."""
    if name not in RECORD_TYPES or name in _NO_FORM:
        raise UnknownRecordTypeError(name)
    return name


def _is_for(kind: str, record_type: str) -> bool:
    needs = {
        "stage_entered": {"deal"},
        "stage_overdue": {"deal"},
        "alert_raised": {"account", "deal"},
        "score_crossed": set(TASKS.values()),
    }
    return record_type in needs.get(kind, {record_type})


def _does(kind: str, record_type: str) -> bool:
    owned = "owner_id" in columns_of(RECORD_TYPES[record_type])
    fits = {
        "renewal": record_type == "contract",
        "mail": record_type in PEOPLE,
        "sequence": record_type in PEOPLE,
        "assign": owned,
        "pool": owned,
    }
    return fits.get(kind, True)


def _is_date(each: Askable) -> bool:
    return each.kind in {"day", "instant"}


def _templates(session: Session, user: User) -> list[tuple[str, str]]:
    return [(str(each.id), each.name) for each in list_templates(session, user)]


def _sequences(session: Session, record_type: str) -> list[tuple[str, str]]:
    kind = "lead" if record_type == "lead" else "contact"  # whom a deal or customer is written to
    return [(str(each.id), each.name) for each in list_sequences(session) if each.record_type == kind]


def _people(session: Session, users: Sequence[User]) -> list[tuple[str, str]]:
    fixed = [(actions.OWNER, str(_("Owner"))), (actions.MANAGER, str(_("Manager of the owner")))]
    roles = [(f"role:{role}", word("role", role)) for role in Role]
    rows = session.execute(select(Team.id, Team.name).where(Team.deleted_at.is_(None)).order_by(Team.name))
    teams = [(f"team:{key}", f"{_('Team')} {name}") for key, name in rows]
    return [*fixed, *roles, *teams, *((f"user:{user.id}", user.name) for user in users if works_here(user))]


# ---------------------------------------------------------------- from what was typed


def read_form(session: Session, form: MultiDict[str, str]) -> dict[str, Any]:
    """Return the declaration that was typed, as it is: whether it means anything is for others to say."""
    record_type = known_type(form.get("record_type", ""))
    return {
        "name": _words(form, "name"),
        "record_type": record_type,
        "trigger": _read_parts(session, record_type, form, "trigger", TRIGGERS),
        "condition": _conditions(form, partial(choices_held, session, record_type)),
        "actions": [
            _read_parts(session, record_type, form, f"action-{number}", ACTIONS)
            for number in range(actions_in(form))
            if form.get(f"action-{number}-kind")
        ],
    }


def actions_in(form: Form) -> int:
    """Return how many actions a form has room for."""
    numbers = [name.split("-")[1] for name in form if name.startswith("action-") and name.endswith("-kind")]
    return max((int(each) + 1 for each in numbers if each.isdecimal() and len(each) < 3), default=0)


def _words(form: MultiDict[str, str], prefix: str) -> dict[str, str]:
    en, zh = (form.get(f"{prefix}-{language}", "").strip() for language in ("en", "zh"))
    return {"en": en or zh, "zh": zh or en}


def _conditions(form: MultiDict[str, str], held: Callable[[str], Choices]) -> list[str]:
    asked = zip(*(form.getlist(f"condition-{name}") for name in ("field", "op", "value")), strict=False)
    found = []
    for name, op, value in asked:
        if name:
            meant = "" if op in {Op.EMPTY, Op.NOT_EMPTY} else f":{values_read(held(name), op, value.strip())}"
            found.append(f"{name}:{op}{meant}")
    segments = [f"segment:{number}" for number in form.getlist("segment") if number]
    kept = [text for text in form.getlist("condition-text") if text]
    return [*found, *segments, *kept]


def _read_parts(
    session: Session,
    record_type: str,
    form: MultiDict[str, str],
    prefix: str,
    parts: Mapping[str, Sequence[Part]],
) -> dict[str, Any]:
    kind = form.get(f"{prefix}-kind", "")
    read: dict[str, Any] = {"kind": kind}
    for part in parts.get(kind, ()):
        value = _read(form, f"{prefix}-{part.name}", part)
        if value is not None:
            read[part.name] = value
    choices = choices_held(session, record_type, str(told)) if (told := _told_by(read)) else []
    if "table" in read:
        read["table"] = {value_read(choices, value): who for value, who in read["table"].items()}
    if "field" in read:
        for name in ("from", "to", "value"):
            if name in read:
                values = [value_read(choices, each) for each in read[name]]
                read[name] = _as_held(session, record_type, str(read["field"]), values)
    return read


def _told_by(declared: Mapping[str, Any]) -> Any:  # noqa: ANN401  as declared
    """Return the field that the values of a trigger or an action are of."""
    return declared.get("field") or declared.get("by")


def _read(form: MultiDict[str, str], name: str, part: Part) -> Any:  # noqa: ANN401, PLR0911  as it is declared
    match part.input:
        case Input.WORDS:
            return _words(form, name)
        case Input.FLAG:
            return True if form.get(name) else None
        case Input.SOME | Input.PEOPLE:
            chosen = [each for each in form.getlist(name) if each]
            return chosen or None
        case Input.TABLE:
            return _table(form.get(name, "")) or None
        case Input.VALUES:
            return [each.strip() for each in form.get(name, "").split(",") if each.strip()] or None
        case Input.VALUE:
            return [form.get(name, "").strip()]
    said = form.get(name, "").strip()
    if part.input in {Input.NUMBER, Input.WHOLE} or part.words in {"templates", "sequences"}:
        return _number(said)
    return said or None


def _number(said: str) -> int | float | str | None:
    """Return a number, or the text that was typed, which is refused then by name."""
    try:
        found = float(said)
    except ValueError:
        return said or None
    return int(found) if found.is_integer() and abs(found) < 2**53 else found


def _table(said: str) -> dict[str, str]:
    rows = (line.rpartition("=") for line in said.splitlines() if "=" in line)
    return {value.strip(): who.strip() for value, _, who in rows}


def _as_held(session: Session, record_type: str, name: str, values: Sequence[str]) -> list[Any]:
    """Return typed values as the field holds them, as far as that can be told."""
    column = columns_of(model_of(session, record_type)).get(name)
    stored = None if column is None or name.startswith(CUSTOM) else column.type
    return [_one_as_held(stored, value) for value in values]


def _one_as_held(stored: object, value: str) -> Any:  # noqa: ANN401  as the field has it
    if value == EMPTY:
        return None
    if isinstance(stored, Boolean):
        return {"true": True, "false": False}.get(value.lower(), value)
    return _number(value) if isinstance(stored, Integer | Float) else value


# ---------------------------------------------------------------- what is shown


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One input as it is shown: its name in the form, what it holds, and what can be chosen."""

    part: Part
    name: str
    value: Any = None
    choices: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True, kw_only=True)
class Block:
    """The inputs of a trigger or an action of some kind."""

    name: str
    kind: str
    asked: Sequence[Asked] = ()


@dataclass(frozen=True, kw_only=True)
class Row:
    """One condition, in parts."""

    field: str = ""
    op: str = ""
    value: str = ""
    words: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A rule's form."""

    name: Mapping[str, str]
    record_type: str
    trigger: Block
    rows: Sequence[Row]
    segments: Sequence[str]
    kept: Sequence[str]
    actions: Sequence[Block]


def shown(declared: Mapping[str, Any], choices: Offered) -> Shown:
    """Return the form that a declaration fills, with room for one more action and two more conditions."""
    condition = [str(text) for text in declared.get("condition", [])]
    rows, segments, kept = _rows(condition, choices)
    blocks = [*declared.get("actions", []), {"kind": ""}]
    return Shown(
        name=_both(declared.get("name", "")),
        record_type=str(declared.get("record_type", "")),
        trigger=_block("trigger", declared.get("trigger", {}), TRIGGERS, choices),
        rows=[*rows, *(Row() for _ in range(_BLANK_CONDITIONS))],
        segments=segments,
        kept=kept,
        actions=[_block(f"action-{number}", each, ACTIONS, choices) for number, each in enumerate(blocks)],
    )


def _rows(condition: Sequence[str], choices: Offered) -> tuple[list[Row], list[str], list[str]]:
    """Return conditions as rows, those that are segments, and those that no row can show."""
    rows, segments, kept = [], [], []
    known = {name for name, _ in choices.fields}
    for text in condition:
        name, _, rest = text.partition(":")
        if name == "segment":
            segments.append(rest)
        elif name in known:
            parsed = parse_condition(text) if text.count(":") else None
            op, _, value = rest.partition(":")
            held = choices.held(name)
            said = values_said(held, op, value)
            words = [each for _value, each in held]
            rows.append(Row(field=name, op=parsed.op if parsed else op, value=said, words=words))
        else:
            kept.append(text)
    return rows, segments, kept


def _block(
    name: str, declared: Mapping[str, Any], parts: Mapping[str, Sequence[Part]], choices: Offered
) -> Block:
    kind, told = str(declared.get("kind", "")), _told_by(declared)
    held = choices.held(str(told)) if told else []
    asked = [
        Asked(
            part=part,
            name=f"{name}-{part.name}",
            value=_filled(part, declared.get(part.name), held),
            choices=_offered_for(part, declared.get(part.name), choices),
        )
        for part in parts.get(kind, ())
    ]
    return Block(name=name, kind=kind, asked=asked)


def _offered_for(part: Part, value: Any, choices: Offered) -> list[tuple[str, str]]:  # noqa: ANN401  as declared
    if part.input is not Input.PEOPLE:
        return choices.of(part)
    named = [str(each) for each in value or ()]
    known = {who for who, _ in choices.people}
    return [*((who, _called(who)) for who in named if who not in known), *choices.people]


def _called(who: str) -> str:
    return (
        f"{_('Team')} {who.removeprefix('called:').replace('|', ' / ')}" if who.startswith("called:") else who
    )


def _filled(part: Part, value: Any, held: Choices) -> Any:  # noqa: ANN401  as declared
    match part.input:
        case Input.WORDS:
            return _both(value or "")
        case Input.SOME | Input.PEOPLE:
            return [str(each) for each in value or ()]
        case Input.TABLE:
            return "\n".join(f"{value_said(held, each)} = {who}" for each, who in (value or {}).items())
        case Input.VALUES | Input.VALUE:
            values = (
                value
                if isinstance(value, list)
                else []
                if value is None and part.input is Input.VALUES
                else [value]
            )
            return ", ".join(EMPTY if each is None else value_said(held, each) for each in values)
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _both(said: object) -> dict[str, str]:
    return dict(said) if isinstance(said, Mapping) else {"en": str(said), "zh": str(said)}


# ---------------------------------------------------------------- what is refused


_EMPTY: Final = frozenset({repr(None), repr(""), repr([]), repr({})})


def rule_refusal(error: CRMError, declared: Mapping[str, Any]) -> str:
    """Say why a rule is refused, by the names that its inputs have on the page."""
    if not isinstance(error, InvalidValueError) or not error.field.startswith("rule."):
        return refusal(error)
    where = _input_at(error.field.removeprefix("rule.").split("."), declared)
    if error.value in _EMPTY:
        return str(_("%(where)s: fill this in.", where=where))
    return str(_("%(where)s: %(value)s does not fit.", where=where, value=error.value)) + (
        f" {_('Expected: %(expected)s', expected=expected_of(error))}"
    )


def _input_at(place: Sequence[str], declared: Mapping[str, Any]) -> str:
    match place:
        case ["actions", number, *rest] if number.isdigit() and int(number) < len(declared["actions"]):
            block = str(_("Action %(number)s", number=int(number) + 1))
            return _label(block, ACTIONS, declared["actions"][int(number)], rest)
        case ["trigger", *rest]:
            return _label(str(_("What sets it off")), TRIGGERS, declared["trigger"], rest)
        case ["name", *rest]:
            return str(_("Name")) + _language(rest)
    return ".".join(place)


def _label(
    block: str, parts: Mapping[str, Sequence[Part]], given: Mapping[str, Any], rest: Sequence[str]
) -> str:
    labels = {part.name: part.label for part in parts.get(str(given.get("kind")), ())}
    return f"{block}: {labels[rest[0]]}{_language(rest[1:])}" if rest and rest[0] in labels else block


def _language(rest: Sequence[str]) -> str:
    names = {"en": _("English"), "zh": _("Chinese")}
    return f" ({names[rest[0]]})" if rest and rest[0] in names else ""
