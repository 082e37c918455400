"""What the program refuses, in the language of the page.

Errors say in English what was expected, for the API and the command line, and keep the parts of what they say
(`crm_core.phrases`). Here the pattern is looked up in the catalogue `refusals`, and the parts are said as
pages say them: fields, record types, roles, stages and values by their names, days and numbers as one writes
them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import date, datetime
from decimal import Decimal
from functools import cache, lru_cache
from pathlib import Path
from string import Formatter
from typing import Final

from babel.support import NullTranslations, Translations

from crm_core.errors import InvalidValueError
from crm_core.fields import CUSTOM
from crm_core.phrases import Phrase
from crm_core.record_types import find_record_type
from crm_core.records import RECORD_TYPES
from crm_core.validation import CHOICES
from serving.report_words import DIMENSION, MEASURE, pick
from serving.service import page_session
from serving.web import shown_as
from serving.web.facts import declared_fields, labels_of
from serving.web.gate_words import gate_reason
from serving.web.language import choose_language
from serving.web.value_words import choices_held
from serving.web.words import WORDS, word

DOMAIN: Final = "refusals"
FOLDER: Final = Path(__file__).parent / "translations"
PLACE: Final = "place"
"""The context under which the catalogue has what inputs are called that are no fields of records."""

Parts = Mapping[str, object]


def refusal(error: BaseException) -> str:
    """Return why something was refused, as whoever looks at the page reads it."""
    said = error.args[0] if error.args and isinstance(error.args[0], str) else str(error)
    if isinstance(error, InvalidValueError) and _speaks():
        return _of_value(error)
    return worded(said)


def worded(text: str, about: str = "") -> str:
    """Return a sentence of the program in the language of the page; one that it does not know, as it stands.

    `about` is the field whose values are spoken of, such as `deal.stage`.
    """
    if not text or not _speaks():
        return str(text)
    pattern, parts = (text.pattern, text.parts) if isinstance(text, Phrase) else (text, {})
    said = catalogue(choose_language()).ugettext(pattern)
    if said == pattern:
        return str(text)
    if not isinstance(text, Phrase):
        return said
    return said.format(**{name: _part(name, value, parts, about) for name, value in parts.items()})


def expected_of(error: InvalidValueError) -> str:
    """Return what a field expects, in the language of the page."""
    return worded(error.expected, error.field)


def read_back(text: str | None) -> str:
    """Return a refusal that was put away as a text, of an import or a job, in the language of the page.

    It is told by the pattern that it was made of; where none fits, it stays as it is. So does a long one:
    looking for several parts in it takes a power of its length.
    """
    if not text or len(text) > LONGEST or not _speaks():
        return text or ""
    return worded(_phrase_of(text))


LONGEST: Final = 400
"""Characters of what is read back; a value in a refusal has at most 80."""


@lru_cache(maxsize=2_048)
def _phrase_of(text: str) -> str:
    if text in _patterns():
        return text
    for pattern, shape in _patterns().items():
        found = shape.fullmatch(text) if shape is not None else None
        if found is not None:
            parts = {name: _part_of(name, each) for name, each in found.groupdict().items()}
            return Phrase.made(text, pattern, parts)
    return text


def _part_of(name: str, text: str) -> object:
    if name in _LISTED:
        return tuple(text.split(", "))
    plain = text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" else text
    return _phrase_of(plain) if name in _PHRASES else plain


_LISTED: Final = frozenset({"choices", "targets", "ops", "stages", "deal_fields", "roots", "dimensions"})
_PHRASES: Final = frozenset({"expected", "why", "what", "error", "quote_status"})


@cache
def _patterns() -> Mapping[str, re.Pattern[str] | None]:
    """Return what the catalogue knows, and how it is told: what says the most itself comes first."""
    known = [key for key in catalogue("zh").__dict__["_catalog"] if key and "\x04" not in key]
    shapes = {key: _shape(key) for key in known}
    plain = {key: sum(map(str.isalpha, re.sub(r"{\w+[^}]*}", "", key))) for key in known}
    return {key: shapes[key] for key in sorted(known, key=lambda key: -plain[key]) if plain[key] >= _TELLING}


_TELLING: Final = 4
"""Letters of its own that a pattern must have, to be told by."""


def _shape(pattern: str) -> re.Pattern[str] | None:
    pieces = list(Formatter().parse(pattern))
    if all(name is None for _, name, _, _ in pieces):
        return None
    seen: set[str] = set()
    shape = ""
    for plain, name, _, _ in pieces:
        shape += re.escape(plain)
        if name is not None:
            shape += f"(?P={name})" if name in seen else f"(?P<{name}>.+?)"
            seen.add(name)
    return re.compile(shape, re.DOTALL)


@cache
def catalogue(language: str) -> NullTranslations:
    """Return the sentences of the program in a language; none are needed for its own."""
    return Translations.load(FOLDER, [language], domain=DOMAIN)


def _speaks() -> bool:
    return isinstance(catalogue(choose_language()), Translations)


def _of_value(error: InvalidValueError) -> str:
    where, expected = place_said(error.field), _apart(expected_of(error))
    if error.value is None or error.value == "":
        return worded(Phrase("{where}: expected {expected}", where=where, expected=expected))
    shown = _value(error.value, error.field)
    return worded(
        Phrase("{where}: expected {expected}, got {shown}", where=where, expected=expected, shown=shown)
    )


# ---------------------------------------------------------------- what things are called


def place_said(field: str) -> str:
    """Return what a field is called that an error names, with or without its record type; else its name."""
    head, _, rest = field.partition(".")
    if rest and _is_type(head):
        return field_said(head, rest)
    known = _place(field)
    if known is not None:
        return known
    pieces = [_piece(each) for each in field.split(".") if each not in _CONTAINERS]
    return " ".join(pieces)


_CONTAINERS: Final = frozenset({"rule", "custom", "activity"})


def _piece(name: str) -> str:
    if name.isdigit():
        return str(int(name) + 1)
    return _place(name) or (word("field", name) if name in WORDS["field"] else name)


def _place(name: str) -> str | None:
    said = catalogue(choose_language()).upgettext(PLACE, name)
    return None if said == name else str(said)


def field_said(record_type: str, name: str) -> str:
    """Return what a field of a record type is called."""
    if name.startswith(CUSTOM) or record_type in RECORD_TYPES:
        known = _place(f"{record_type}.{name}") or (None if name in WORDS["field"] else _place(name))
        return known or _label(record_type, name)
    return _piece(name)


def _label(record_type: str, name: str) -> str:
    """Return the label of a field; a name that no field has stays as it was typed."""
    declared = any(each.name == name for each in declared_fields(page_session(), record_type))
    if declared or name in WORDS["field"]:
        return labels_of(page_session(), record_type, [name])[0]
    return name.removeprefix(CUSTOM)


def _is_type(name: str) -> bool:
    return name in RECORD_TYPES or find_record_type(page_session(), name) is not None


def type_said(name: object) -> str:
    """Return what a record type is called, or what else the program keeps, such as a report."""
    known = str(name)
    if known in WORDS["record_type"]:
        return word("record_type", known)
    said = worded(known)
    if said != known:
        return said
    found = find_record_type(page_session(), known)
    if found is None:
        return known
    return str((found.label_zh if choose_language() == "zh" else found.label_en) or known)


def _types(names: Iterable[object]) -> str:
    return _together(type_said(each) for each in names)


def _together(words: Iterable[str]) -> str:
    return worded(_COMMA).join(words)


_COMMA: Final = ", "


# ---------------------------------------------------------------- parts of sentences


def _part(name: str, value: object, parts: Parts, about: str) -> str:
    say = _SAID.get(name)
    if say is not None:
        return say(value, parts, about)
    return _plain(value)


def _plain(value: object) -> str:  # noqa: PLR0911  one return a type
    match value:
        case str():
            return worded(value)
        case None | bool():
            return shown_as.plain(value)
        case datetime():
            return shown_as.moment(value)
        case date():
            return shown_as.day(value)
        case int():
            return shown_as.number(value)
        case float() | Decimal():
            return shown_as.number(float(value))
        case tuple() | list():
            return _together(map(_plain, value))
    return str(value)


def _value(value: object, about: str) -> str:
    """Return a value that was refused, as it was typed, or by its word; long ones are cut."""
    typed = isinstance(value, str) and not isinstance(value, Phrase)
    said = _typed(str(value), about) if typed else _plain(value)
    return said if len(said) <= _LONGEST else said[:_LONGEST] + "…"


_LONGEST: Final = 80


def _typed(value: str, about: str) -> str:
    if _INSTANT.match(value):
        with suppress(ValueError):
            return shown_as.moment(datetime.fromisoformat(value))
    return _words_of([value], about)[0]


_INSTANT: Final = re.compile(r"\d{4}-\d\d-\d\dT")


def _choices(value: object, _parts: Parts, about: str) -> str:
    values = value if isinstance(value, tuple | list) else [value]
    return _together(_words_of([str(each) for each in values], about))


def _words_of(values: Sequence[str], about: str) -> list[str]:
    """Return values by the words that pages have for them, where the field says which those are."""
    head, _, name = about.partition(".")
    name = name or head
    if name != head and _is_type(head):
        held = dict(choices_held(page_session(), head, name))
    else:
        held = {str(key): str(said) for key, said in _known_words(name, values).items()}
    return [held.get(value) or worded(value) for value in values]


def _known_words(name: str, values: Sequence[str]) -> Mapping[str, object]:
    if name in _REPORTED:
        return {key: pick(said, choose_language()) for key, said in _REPORTED[name].items()}
    kind = _KINDS.get(name, name)
    if kind in WORDS and set(values) & WORDS[kind].keys():
        return WORDS[kind]
    for record_type, field in CHOICES:
        if field == name and set(values) <= set(CHOICES[record_type, field]):
            return WORDS.get(f"{record_type}_{field}", {})
    return WORDS["field_kind"] if name == "kind" else {}


_KINDS: Final = {
    "types": "record_type",
    "target": "record_type",
    "type": "record_type",
    "limits": "role",
    "scopes": "scope",
    "kinds": "happened",
    "right": "field_right",
    "write": "reach",
    "read": "reach",
    "reason": "why_wrong",
}
_REPORTED: Final = {"measure": MEASURE, "rows": DIMENSION, "columns": DIMENSION, "by": DIMENSION}


def _in_context(context: str) -> Callable[[object, Parts, str], str]:
    return lambda value, _parts, _about: str(catalogue(choose_language()).upgettext(context, str(value)))


def _of_words(kind: str) -> Callable[[object, Parts, str], str]:
    return lambda value, _parts, _about: word(kind, value)


def _of_type(value: object, _parts: Parts, _about: str) -> str:
    return type_said(value)


def _of_types(value: object, _parts: Parts, _about: str) -> str:
    names = value.split(" or ") if isinstance(value, str) else value
    return _types(names if isinstance(names, list | tuple) else [names])


def _of_field(value: object, parts: Parts, about: str) -> str:
    record_type = parts.get("record_type") or about.partition(".")[0]
    return field_said(str(record_type), str(value)) if _is_type(str(record_type)) else place_said(str(value))


def _of_stages(value: object, _parts: Parts, _about: str) -> str:
    return _together(word("stage", each) for each in (value if isinstance(value, tuple) else [value]))


def _of_ops(value: object, _parts: Parts, _about: str) -> str:
    return _together(word("op", each) for each in (value if isinstance(value, tuple) else [value]))


def _of_deal_fields(value: object, _parts: Parts, _about: str) -> str:
    names = value if isinstance(value, tuple) else ()
    return _together(f"“{field_said('deal', str(each))}”" for each in names)


def _reported(said: Mapping[str, tuple[str, str]]) -> Callable[[object, Parts, str], str]:
    def say(value: object, _parts: Parts, _about: str) -> str:
        names = value if isinstance(value, tuple) else [value]
        return _together(
            pick(said[str(each)], choose_language()) if str(each) in said else worded(str(each))
            for each in names
        )

    return say


def _percent(value: object, _parts: Parts, _about: str) -> str:
    return shown_as.percent(value, 2) if isinstance(value, int | float) else str(value)


def _as_it_is(value: object, _parts: Parts, _about: str) -> str:
    return str(value)


def _nested(value: object, parts: Parts, about: str) -> str:
    return _apart(
        worded(value if isinstance(value, str) else str(value), about or str(parts.get("field", "")))
    )


def _apart(said: str) -> str:
    """Return words that follow Chinese ones: Latin letters and digits stand apart from them."""
    return f" {said}" if said[:1].isascii() and said[:1].isalnum() else said


_SAID: Final[Mapping[str, Callable[[object, Parts, str], str]]] = {
    **dict.fromkeys(("record_type", "found_record_type", "target", "found_target", "link"), _of_type),
    **dict.fromkeys(("targets", "or_targets"), _of_types),
    **dict.fromkeys(("field", "other_field"), _of_field),
    "place": lambda value, _parts, _about: place_said(str(value)),
    "deal_fields": _of_deal_fields,
    "role": _of_words("role"),
    "stage": _of_words("stage"),
    "stages": _of_stages,
    **dict.fromkeys(("op", "ops"), _of_ops),
    **dict.fromkeys(
        ("field_kind", "field_kind_too", "found_field_kind", "asked_kind"), _of_words("field_kind")
    ),
    **dict.fromkeys(("known", "found_known"), _of_words("known")),
    "lead_status": _of_words("lead_status"),
    "deal_status": _of_words("deal_status"),
    "quote_status": lambda value, _parts, _about: (
        worded(value) if isinstance(value, Phrase) else word("quote_status", value)
    ),
    "approval_state": _of_words("approval"),
    **dict.fromkeys(("task", "one_task", "other_task", "bundle_task"), _of_words("task")),
    "why": lambda value, _parts, _about: (
        worded(value) if isinstance(value, Phrase) else read_back(str(value))
    ),
    "closed_why": _in_context("closed_why"),
    "gate": lambda value, _parts, _about: gate_reason(str(value)),
    "measure": _reported(MEASURE),
    **dict.fromkeys(("dimensions", "by"), _reported(DIMENSION)),
    "read": _of_words("reach"),
    **dict.fromkeys(("share", "given_away", "limit"), _percent),
    "choices": _choices,
    "expected": _nested,
    **dict.fromkeys(
        ("id", "record_id", "lead_id", "deal_id", "quote_id", "alert_id", "approval_id", "report_id"),
        _as_it_is,
    ),
    **dict.fromkeys(("keep_id", "gone_id", "account_id", "owner_id", "merged_into_id", "type_id"), _as_it_is),
    **dict.fromkeys(("where", "shown", "first_year", "last_year", "year", "years", "years_too"), _as_it_is),
}
"""How a part is said, by its name; others as values are shown."""
