"""What a rule does.

| kind | what |
|---|---|
| `task` | plans a task for somebody, due after some time |
| `notice` | tells people, under the bell of the pages |
| `mail` | sends a mail made from a template, to the person that the record is about |
| `message` | has webhooks told of a text, for SMS and chat |
| `set` | sets a field |
| `assign` | gives the record to somebody: in turn within a team, or by a table of what a field holds |
| `pool` | takes the record's owner away, so that it waits for whoever takes it |
| `tag` | puts a tag on it |
| `sequence` | begins a sequence of mails |
| `renewal` | opens a deal about going on with a contract |

People are named by texts: `owner`, `manager` (of the owner), `role:admin`, `team:3`, `user:7`, or
`called:Presales|售前` for the team with one of these names. Where nobody is found, the manager is tried and
then whoever administers; but where a record has no owner, there is nobody to be told as its owner.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from crm_core.automation.declaration import LONGEST_WORDS, Given, Scalar, Words
from crm_core.automation.triggers import Unit
from crm_core.columns import check_text
from crm_core.errors import InvalidValueError
from crm_core.messages import MessageKind
from crm_core.phrases import Phrase, one_of
from crm_core.records import Role
from crm_core.saved import LONGEST_WORD

OWNER: Final = "owner"
MANAGER: Final = "manager"
MOST_PEOPLE: Final = 20
MOST_IN_TABLE: Final = 500

_WHO = re.compile(r"owner|manager|role:(\w+)|(team|user):([1-9]\d{0,17})|called:(.{1,200})", re.ASCII)
_CHANNEL = re.compile(r"[a-z][a-z0-9_]{0,39}", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Task:
    """A task for each of some people, due so long after the cause; of a team one gets it, in turn."""

    text: Words
    to: tuple[str, ...] = (OWNER,)
    amount: float = 1
    unit: Unit = Unit.DAYS


@dataclass(frozen=True, kw_only=True)
class Notice:
    """Something that people are told."""

    text: Words
    to: tuple[str, ...] = (OWNER,)


@dataclass(frozen=True, kw_only=True)
class Mail:
    """A mail from a template to the person that the record is about, from its owner and with their rights.

    Unless said otherwise it is marketing, and goes only to those who agreed to be written to.
    """

    template: int
    purpose: MessageKind = MessageKind.MARKETING


@dataclass(frozen=True, kw_only=True)
class Message:
    """A text for webhooks that asked for `automation.message`, on a channel such as `sms`."""

    text: Words
    channel: str = "chat"


@dataclass(frozen=True, kw_only=True)
class SetField:
    """A field gets a value, in the form in which a change of it is logged; None empties it."""

    field: str
    value: Scalar


@dataclass(frozen=True, kw_only=True)
class Assign:
    """The record gets an owner.

    `to` names people: one of a team is chosen in turn, without those who are away and those who have `most`
    open records of the type already. With `by`, what that field holds decides who it is: by `table`, or where
    there is none, the team that is called as the field says. `to` is for all the rest.
    """

    to: tuple[str, ...] = ()
    by: str | None = None
    table: tuple[tuple[str, str], ...] = ()
    most: int | None = None
    again: bool = False
    """Whether a record that has an owner gets another one."""


@dataclass(frozen=True, kw_only=True)
class Pool:
    """The record has no owner any more."""


@dataclass(frozen=True, kw_only=True)
class Tag:
    """The record carries a tag."""

    word: str


@dataclass(frozen=True, kw_only=True)
class Sequence:
    """The person that the record is about gets a sequence of mails."""

    sequence: int


@dataclass(frozen=True, kw_only=True)
class Renewal:
    """A deal about going on with a contract, for its customer's owner; one a contract."""

    text: Words


Action = Task | Notice | Mail | Message | SetField | Assign | Pool | Tag | Sequence | Renewal


def read_action(given: Given) -> Action:
    """Return the action that was declared; raise InvalidValueError for what is none."""
    kind = given.take("kind")
    read = _READ.get(kind) if isinstance(kind, str) else None
    if read is None:
        raise given.refused("kind", kind, one_of(_READ))
    found = read(given)
    given.end()
    return found


def action_json(action: Action) -> dict[str, Any]:
    """Return an action as it is declared."""
    said: dict[str, Any] = {"kind": kind_of(action)}
    for name, value in vars(action).items():
        if isinstance(value, Words):
            said[name] = value.as_json()
        elif name == "table":
            said[name] = dict(value)
        else:
            said[name] = list(value) if isinstance(value, tuple) else value
    empty: tuple[object, ...] = ([], {})
    return {
        name: value
        for name, value in said.items()
        if name == "value" or not (value is None or value is False or value in empty)
    }


def kind_of(action: Action) -> str:
    """Return the word that a kind of action is declared by."""
    return _KINDS[type(action)]


def check_who(place: str, who: object) -> str:
    """Return a text that names people; raise InvalidValueError for any other."""
    found = _WHO.fullmatch(who) if isinstance(who, str) else None
    if found is None or (found[1] is not None and found[1] not in list(Role)):
        known = "owner, manager, role:ROLE, team:ID, user:ID or called:NAME|NAME"
        raise InvalidValueError(place, repr(who)[:80], known)
    return check_text(place, str(who), longest=LONGEST_WORDS)


def _people(given: Given, name: str, default: tuple[str, ...]) -> tuple[str, ...]:
    people = given.some(name, default)
    if len(people) > MOST_PEOPLE:
        raise given.refused(name, len(people), Phrase("at most {most}", most=MOST_PEOPLE))
    return tuple(dict.fromkeys(check_who(f"{given.place}.{name}", each) for each in people))


def _somebody(given: Given) -> tuple[str, ...]:
    found = _people(given, "to", (OWNER,))
    if not found:
        raise given.refused("to", [], "at least one")
    return found


def _task(given: Given) -> Task:
    return Task(
        text=given.words("text"),
        to=_somebody(given),
        amount=given.number("amount", least=0, most=24 * 366) if given.has("amount") else 1.0,
        unit=given.choice("unit", Unit, Unit.DAYS),
    )


def _message(given: Given) -> Message:
    channel = given.take("channel", "chat")
    if not isinstance(channel, str) or not _CHANNEL.fullmatch(channel):
        raise given.refused("channel", channel, "a word of small letters, such as sms")
    return Message(text=given.words("text"), channel=channel)


def _set(given: Given) -> SetField:
    values = given.scalars("value")
    if len(values) != 1:
        raise given.refused("value", list(values), "one value")
    return SetField(field=given.name_of("field"), value=values[0])


def _assign(given: Given) -> Assign:
    by = given.name_of("by") if given.has("by") else None
    table = given.take("table", {})
    if not isinstance(table, Mapping) or len(table) > MOST_IN_TABLE:
        raise given.refused(
            "table", table, Phrase("a mapping of at most {most} values to people", most=MOST_IN_TABLE)
        )
    rows = tuple((_key(given, key), check_who(f"{given.place}.table", who)) for key, who in table.items())
    found = Assign(
        to=_people(given, "to", ()),
        by=by,
        table=rows,
        most=given.whole("most", least=1, most=100_000) if given.has("most") else None,
        again=given.flag("again"),
    )
    if rows and by is None:
        raise given.refused("table", dict(rows), "a table together with `by`, the field that it is about")
    if by is None and not found.to:
        raise given.refused("to", [], "people, or a field that they are chosen by")
    return found


def _key(given: Given, key: object) -> str:
    if not isinstance(key, str) or not key.strip():
        raise given.refused("table", key, "texts that the field may hold")
    return check_text(f"{given.place}.table", key.strip(), longest=LONGEST_WORDS)


_READ: Final[dict[str, Callable[[Given], Action]]] = {
    "task": _task,
    "notice": lambda given: Notice(text=given.words("text"), to=_somebody(given)),
    "mail": lambda given: Mail(
        template=given.whole("template", least=1),
        purpose=given.choice("purpose", MessageKind, MessageKind.MARKETING),
    ),
    "message": _message,
    "set": _set,
    "assign": _assign,
    "pool": lambda _given: Pool(),
    "tag": lambda given: Tag(word=given.text("word", longest=LONGEST_WORD)),
    "sequence": lambda given: Sequence(sequence=given.whole("sequence", least=1)),
    "renewal": lambda given: Renewal(text=given.words("text")),
}

_KINDS: Final[dict[type[Any], str]] = {
    Task: "task",
    Notice: "notice",
    Mail: "mail",
    Message: "message",
    SetField: "set",
    Assign: "assign",
    Pool: "pool",
    Tag: "tag",
    Sequence: "sequence",
    Renewal: "renewal",
}

KINDS: Final = tuple(_READ)
"""The words that actions are declared by."""
