"""What each version of a rule says, and what it changed, in the words of the rule's form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from flask_babel import gettext as _
from sqlalchemy.orm import Session

from crm_core.automation.kept import AutomationVersion
from crm_core.records import User
from serving.web import shown_as
from serving.web.admin.automation_form import (
    Asked,
    Block,
    Input,
    Offered,
    known_type,
    offered,
    shown,
)
from serving.web.language import in_language
from serving.web.value_words import condition_said
from serving.web.words import word


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One thing that a version says otherwise than the one before; None where one of them says nothing."""

    label: str
    before: str | None
    after: str | None


@dataclass(frozen=True, kw_only=True)
class Version:
    """A version of a rule as its page tells of it."""

    number: int
    saved_at: datetime
    saved_by_id: int | None
    differences: Sequence[Difference]


Known = tuple[str, frozenset[str]]
"""What choices are read for: a record type, and the kinds of actions."""


def tell_versions(
    session: Session, user: User, versions: Sequence[AutomationVersion], read: Mapping[Known, Offered]
) -> list[Version]:
    """Return what versions changed, the newest first, as they are given; the oldest changed everything.

    `read` are the choices that the page has read for its form; those of other types are read here, once each.
    """
    choices = dict(read)
    for each in versions:
        known = known_of(each.declared)
        if known not in choices:
            choices[known] = offered(session, user, *known)
    said = [_said(session, each.declared, choices[known_of(each.declared)]) for each in versions]
    return [
        Version(
            number=each.version,
            saved_at=each.saved_at,
            saved_by_id=each.saved_by_id,
            differences=_differences(before, after),
        )
        for each, after, before in zip(versions, said, [*said[1:], {}], strict=True)
    ]


def _differences(before: Mapping[str, str], after: Mapping[str, str]) -> list[Difference]:
    return [
        Difference(label=label, before=before.get(label), after=after.get(label))
        for label in dict.fromkeys((*after, *before))
        if before.get(label) != after.get(label)
    ]


def known_of(declared: Mapping[str, Any]) -> Known:
    """Return what the choices of a declaration are read for."""
    kinds = frozenset(str(each.get("kind")) for each in declared.get("actions", ()))
    return known_type(str(declared.get("record_type", "lead"))), kinds


def _said(session: Session, declared: Mapping[str, Any], choices: Offered) -> dict[str, str]:
    """Return all that a declaration says, by what the form calls it."""
    record_type = known_type(str(declared.get("record_type", "lead")))
    form = shown(declared, choices)
    segments = dict(choices.segments)
    conditions = [
        condition_said(session, record_type, str(text), segments) for text in declared.get("condition", ())
    ]
    said = {
        str(_("Name")): in_language(form.name),
        str(_("About")): word("record_type", record_type),
        str(_("What sets it off")): word("trigger", form.trigger.kind),
        **_inputs("", form.trigger),
        **{str(_("Condition %(number)s", number=at)): each for at, each in enumerate(conditions, start=1)},
    }
    for at, block in enumerate(form.actions, start=1):
        if block.kind:
            label = str(_("Action %(number)s", number=at))
            said |= {label: word("automation_action", block.kind), **_inputs(f"{label}: ", block)}
    return said


def _inputs(before: str, block: Block) -> dict[str, str]:
    texts = {f"{before}{each.part.label}": _held(each) for each in block.asked}
    return {label: text for label, text in texts.items() if text}


def _held(asked: Asked) -> str:
    words = dict(asked.choices)
    match asked.part.input:
        case Input.FLAG:
            return shown_as.plain(True) if asked.value else ""  # noqa: FBT003  it is what is shown
        case Input.WORDS:
            return in_language(asked.value)
        case Input.SOME | Input.PEOPLE:
            return ", ".join(words.get(each, each) for each in asked.value)
    held = "" if asked.value is None else str(asked.value)
    return words.get(held, held)
