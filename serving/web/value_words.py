"""The words for what a field holds, where it holds one of a few: to be read, and to be typed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from sqlalchemy import Boolean
from sqlalchemy.orm import Session

from crm_core.errors import CRMError
from crm_core.fields import CUSTOM, FieldKind
from crm_core.filters import SEGMENT, TAG, Op, parse_condition
from crm_core.stage_settings import stages_of
from crm_core.validation import CHOICES, columns_of
from features.choices import choices_of
from serving.editing import kind_of
from serving.web.facts import choice_word, choices_in, declared_fields, labels_of
from serving.web.language import choose_language, gettext
from serving.web.words import WORDS, word

Choices = Sequence[tuple[str, str]]
"""Values, each with what people read for it."""

_WORDED: Final = frozenset({"source", "lost_reason", "disqualified_reason", "pipeline"})
_LISTS: Final = frozenset({Op.IN, Op.NOT_IN, Op.BETWEEN})


def choices_held(session: Session, record_type: str, name: str) -> Choices:
    """Return all that a field may hold; nothing where that may be anything."""
    model = kind_of(session, record_type).model
    if name.startswith(CUSTOM):
        field = next((each for each in declared_fields(session, record_type) if each.name == name), None)
        if field is None:
            return []
        return _flag() if field.kind == FieldKind.FLAG else choices_in(field)
    words = CHOICES.get((model.record_type, name))
    if words:
        return [(str(each), choice_word(model.record_type, name, each)) for each in sorted(words)]
    if name == "stage":
        return [(stage.key, word("stage", stage.key)) for stage in stages_of(session)]
    column = columns_of(model).get(name)
    return _flag() if column is not None and isinstance(column.type, Boolean) else []


def _usual(name: str) -> Choices:
    """Return what a field of free text usually holds: to be read, for what is typed is meant as it is."""
    if name in _WORDED:
        return [(value, str(said)) for value, said in WORDS.get(name, {}).items()]
    place = 1 if choose_language() == "zh" else 0
    return [(value, said[place]) for value, said in choices_of(name).items()]


def _flag() -> Choices:
    return [("true", gettext("yes")), ("false", gettext("no"))]


def value_said(choices: Choices, value: object) -> str:
    """Return what people read for a value; the value itself where reading that back gave another one."""
    held = str(value).lower() if isinstance(value, bool) else str(value)
    said = dict(choices).get(held, held)
    return said if "," not in said and value_read(choices, said) == held else held


def value_read(choices: Choices, typed: str) -> str:
    """Return the value that somebody typed, as it is held or as it is read."""
    if typed in dict(choices):
        return typed
    meant = typed.casefold()
    return next((value for value, said in choices if said.casefold() == meant), typed)


def values_said(choices: Choices, op: str, text: str) -> str:
    """Return the values of a condition as people read them."""
    return text if not choices else ", ".join(value_said(choices, each.strip()) for each in _split(op, text))


def values_read(choices: Choices, op: str, text: str) -> str:
    """Return the values of a condition that somebody typed, as they are held."""
    return text if not choices else ",".join(value_read(choices, each.strip()) for each in _split(op, text))


def _split(op: str, text: str) -> list[str]:
    return text.replace("\uff0c", ",").split(",") if op in _LISTS else [text]


def condition_said(
    session: Session, record_type: str, text: str, segments: Mapping[str, str] | None = None
) -> str:
    """Return a condition as people read it; what is none as it stands."""
    name, _, rest = text.partition(":")
    if name == SEGMENT:
        return f"{gettext('Segment')} {(segments or {}).get(rest, rest)}"
    try:
        condition = parse_condition(text)
    except CRMError:
        return text
    label = gettext("Tag") if name == TAG else labels_of(session, record_type, [name])[0]
    choices = [] if name == TAG else choices_held(session, record_type, name) or _usual(name)
    values = ", ".join(value_said(choices, each) for each in condition.values)
    return f"{label} {word('op', condition.op)} {values}".strip()
