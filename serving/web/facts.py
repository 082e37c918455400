"""The facts of a record: each field with its name, its value as it is shown, and how it is edited.

What may be edited is what the API takes in a change of the record (`serving.api.records_schemas`), less what
has a place of its own on the page, and by the rights of whoever looks. A field that they may not see is no
fact. What somebody types is read here, in their language and time zone; the store checks it once more.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import Boolean, Column, Float, Integer, String, Text, select
from sqlalchemy.orm import Session

from crm_core.access import Reader, Scope
from crm_core.clock import day_of, instant
from crm_core.columns import MONEY_SCALE, Day, Instant, Json, Money
from crm_core.errors import InvalidValueError
from crm_core.fields import CUSTOM, FieldDeclaration, FieldKind, list_fields
from crm_core.recall import recalled
from crm_core.records import RECORD_TYPES, SCORE_COLUMNS, Record, Role, User
from crm_core.sources import LEAD_SOURCES
from crm_core.validation import CHOICES, RANGES, columns_of
from features.choices import choices_of, read_as
from serving.api.records_schemas import COLLECTIONS
from serving.editing import Kind
from serving.web import shown_as
from serving.web.language import choose_language, choose_time_zone, gettext
from serving.web.places import Key, Shown, find_titled, shown_records
from serving.web.words import field_word, word

NO_FACTS = SCORE_COLUMNS | {
    *("id", "version", "recorded_at", "deleted_at", "custom", "merged_into_id", "erased_at", "type_id"),
    *("scoring_opt_out", "external_id", "subject_type", "subject_id", "password_hash", "uri", "sha256"),
    "stage",
}
"""Columns that are shown elsewhere on the page, or to nobody."""

FIRST = (
    *(
        "name",
        "company",
        "title",
        "subject",
        "number",
        "revision",
        "code",
        "family",
        "amount",
        "value",
        "price",
        "currency",
    ),
    *("cost", "budget", "status", "priority", "email", "phone", "website", "expected_close_on"),
    *("rep_probability", "starts_on", "ends_on", "valid_until", "due_on", "paid_at", "discount", "source"),
    *("campaign", "channel", "industry", "region", "territory", "employees", "birthday", "owner_id"),
    *("account_id", "contact_id", "deal_id", "campaign_id", "lead_id", "quote_id", "order_id", "contract_id"),
    *("parent_id", "pipeline", "competitors", "consent", "consent_at", "occurred_at"),
)
"""The order of facts; what is not named here follows."""

BY_VERBS = frozenset({("quote", "amount"), ("quote", "status"), ("line", "quote_id")})
"""What follows from what is done on the page, and is not typed there."""

SUGGESTED = frozenset({"source", "industry", "region"})
"""Texts of which the program knows the usual ones."""

_MAIL = re.compile(r"[^@\x00-\x20]+@[^@\x00-\x20]+")
_ID_AT_END = re.compile(r"#(\d{1,18})\s*$", re.ASCII)
_TYPE_OF_TABLE = {model.__tablename__: name for name, model in RECORD_TYPES.items()}
_CANDIDATES = 6


class Input(StrEnum):
    """How a field is typed."""

    TEXT = "text"
    LONG = "long"
    NUMBER = "number"
    SHARE = "share"
    MONEY = "money"
    DAY = "day"
    INSTANT = "instant"
    CHOICE = "choice"
    FLAG = "flag"
    REFERENCE = "reference"
    LIST = "list"


@dataclass(frozen=True, kw_only=True)
class Fact:
    """One field of a record: `text` is how it is read, `raw` how it stands in its input."""

    name: str
    label: str
    input: Input
    value: Any
    text: str
    raw: str
    editable: bool
    required: bool = False
    whole: bool = False
    longest: int | None = None
    low: float | None = None
    high: float | None = None
    options: Sequence[tuple[str, str]] = ()
    suggestions: Sequence[str] = ()
    target: str | None = None
    path: str | None = None
    with_currency: bool = False

    @property
    def is_empty(self) -> bool:
        """Return whether it holds nothing."""
        return self.value is None or self.value == []


def read_facts(
    reader: Reader,
    kind: Kind,
    record: Record,
    people: Mapping[int | None, str],
    *,
    with_currency: bool = False,
) -> list[Fact]:
    """Return the facts of a record that the reader sees, in the order of the page.

    The currency stands with the amount, and is a fact of its own only `with_currency`.
    """
    maker = _Facts(reader, kind, people, writes=may_write(reader, kind, record), with_currency=with_currency)
    return maker.of(record, shown_records(reader, maker.links(record)))


def read_facts_of_many(
    reader: Reader, kind: Kind, records: Sequence[Record], people: Mapping[int | None, str]
) -> Iterator[tuple[Record, list[Fact]]]:
    """Yield records with their facts, none of which is to be edited; one query for all that they name."""
    maker = _Facts(reader, kind, people)
    links = shown_records(reader, {key for record in records for key in maker.links(record)})
    for record in records:
        yield record, maker.of(record, links)


def declared_fields(session: Session, record_type: str) -> Sequence[FieldDeclaration]:
    """Return the custom fields of a record type, as they were a moment ago; they are not to be changed."""

    def read() -> Sequence[FieldDeclaration]:
        return [
            FieldDeclaration(
                **{column.key: getattr(field, column.key) for column in FieldDeclaration.__table__.columns}
            )
            for field in list_fields(session, record_type)
            if field.name.startswith(CUSTOM) and field.kind is not None
        ]

    return recalled(session, ("declared fields", record_type), read)


def names_of_people(session: Session) -> Mapping[int | None, str]:
    """Return what everybody is called, by id, as it was a moment ago."""

    def read() -> Mapping[int | None, str]:
        rows = session.execute(select(User.id, User.name))
        return {user_id: name for user_id, name in rows}  # noqa: C416  rows are no pairs to mypy

    return recalled(session, ("names of people",), read)


def may_write(reader: Reader, kind: Kind, record: Record) -> bool:
    """Return whether the reader may change a record that they see; a query only where rights differ."""
    right = reader.right(kind.name)
    if right.write is Scope.NONE:
        return False
    if right.read is right.write:
        return True
    query = select(kind.model.id).where(kind.model.id == record.id, reader.writable(kind.model))
    return reader.session.scalar(query) is not None


class _Facts:
    """Makes the facts of records of one type."""

    def __init__(
        self,
        reader: Reader,
        kind: Kind,
        people: Mapping[int | None, str],
        *,
        writes: bool = False,
        with_currency: bool = False,
    ) -> None:
        self._reader, self._kind, self._people = reader, kind, people
        self._writes, self._with_currency = writes, with_currency
        self._declared = declared_fields(reader.session, kind.name)
        self._taken = COLLECTIONS[kind.model.record_type].patched.model_fields
        self._seen = frozenset(reader.fields_shown(kind.model, kind.name))

    def of(self, record: Record, links: Mapping[Key, Shown]) -> list[Fact]:
        """Return the facts of a record; `links` are the records that it names."""
        columns = columns_of(self._kind.model)
        names = [name for name in columns if name in self._seen and name not in NO_FACTS]
        order = {name: place for place, name in enumerate(FIRST)}
        names.sort(key=lambda name: order.get(name, len(order)))
        if not self._with_currency and any(isinstance(columns[name].type, Money) for name in names):
            names = [name for name in names if name != "currency"]
        return [self._plain(record, columns[name], links) for name in names] + [
            self._custom(record, field, links)
            for field in self._declared
            if self._reader.may_read_field(self._kind.name, field.name)
        ]

    def links(self, record: Record) -> list[Key]:
        """Return the records that one names, but for people."""
        found: list[Key] = []
        for name, column in columns_of(self._kind.model).items():
            target, value = target_of(column, self._kind), getattr(record, name)
            if target and value is not None and name in self._seen and target != "user":
                found.append((target, value))
        for field in self._declared:
            value = held(record, field)
            if field.kind == FieldKind.REFERENCE and field.target and isinstance(value, int):
                found.append((field.target, value))
        return [key for key in found if key[0] != "custom_record"]

    def _plain(self, record: Record, column: Column[Any], links: Mapping[Key, Shown]) -> Fact:
        name = str(column.key)
        value = getattr(record, name)
        record_type = self._kind.model.record_type
        way = input_of(record_type, column)
        target = target_of(column, self._kind)
        link = links.get((target or "", value)) if value is not None else None
        low, high = RANGES.get((record_type, name), (None, None))
        return Fact(
            name=name,
            label=field_word(record_type, name),
            input=way,
            value=value,
            text=self._text(record, name, way, value, link),
            raw=str(value or "") if name == "owner_id" else raw_of(way, value, link),
            editable=self._may_edit(name, target),
            required=not column.nullable,
            whole=isinstance(column.type, Integer),
            longest=getattr(column.type, "length", None) if isinstance(column.type, String) else None,
            low=low,
            high=high,
            options=self._options(record_type, name),
            suggestions=_suggestions(name),
            target=target,
            path=None if link is None else link.path,
            with_currency=way is Input.MONEY and "currency" in self._taken,
        )

    def _may_edit(self, name: str, target: str | None) -> bool:
        if (self._kind.name, name) in BY_VERBS:
            return False
        if (
            not self._writes
            or name not in self._taken
            or not self._reader.may_write_field(self._kind.name, name)
        ):
            return False
        if target == "user":  # a rep's records are theirs: there is nobody else to choose
            return self._reader.user.role != Role.REP
        return target is None or target != "custom_record"

    def _text(self, record: Record, name: str, way: Input, value: Any, link: Shown | None) -> str:  # noqa: ANN401  any value
        if name == "owner_id":
            return self._people.get(value) or gettext("nobody")
        if value is None or value == []:
            return ""
        if way is Input.REFERENCE:
            return _titled(link)
        if way is Input.MONEY:
            return shown_as.money(value, getattr(record, "currency", None))
        return self._worded(name, way, value)

    def _worded(self, name: str, way: Input, value: Any) -> str:  # noqa: ANN401  any value
        if way is Input.CHOICE:
            return choice_word(self._kind.model.record_type, name, value)
        if name in {"industry", "region"}:
            return read_as(str(value), choices_of(name), choose_language())
        return (
            word(name, value)
            if name in {"source", "lost_reason", "disqualified_reason", "pipeline"}
            else text_of(way, value)
        )

    def _options(self, record_type: str, name: str) -> Sequence[tuple[str, str]]:
        words = CHOICES.get((record_type, name), ())
        return [(each.value, choice_word(record_type, name, each.value)) for each in words]

    def _custom(self, record: Record, field: FieldDeclaration, links: Mapping[Key, Shown]) -> Fact:
        way = CUSTOM_INPUTS[FieldKind(str(field.kind))]
        value = loaded(FieldKind(str(field.kind)), held(record, field))
        link = links.get((field.target or "", value)) if isinstance(value, int) else None
        options = choices_in(field)
        text = "" if value is None else (dict(options).get(str(value)) or text_of(way, value))
        return Fact(
            name=field.name,
            label=label_of(field),
            input=way,
            value=value,
            text=_titled(link) if way is Input.REFERENCE and value is not None else text,
            raw=raw_of(way, value, link),
            editable=self._writes
            and field.retired_at is None
            and self._reader.may_write_field(self._kind.name, field.name),
            required=field.required,
            options=options,
            target=field.target,
            path=None if link is None else link.path,
        )


# ------------------------------------------------------------------------------------------------ showing


def input_of(record_type: str, column: Column[Any]) -> Input:
    """Return how a column is typed."""
    name, kind = str(column.key), column.type
    if (record_type, name) in CHOICES:
        return Input.CHOICE
    if column.foreign_keys:
        return Input.REFERENCE
    if RANGES.get((record_type, name)) == (0, 1):
        return Input.SHARE
    return next((way for each, way in _INPUTS if isinstance(kind, each)), Input.TEXT)


_INPUTS: tuple[tuple[Any, Input], ...] = (
    (Day, Input.DAY),
    (Instant, Input.INSTANT),
    (Money, Input.MONEY),
    (Json, Input.LIST),
    (Boolean, Input.FLAG),
    (Integer | Float, Input.NUMBER),
    (Text, Input.LONG),
)
"""How columns are typed by what they hold, the first that fits; any other is a text."""


def text_of(way: Input, value: Any) -> str:  # noqa: ANN401  any value
    """Return a value as people read it."""
    return _TEXTS.get(way, str)(value)


_TEXTS: Mapping[Input, Callable[[Any], str]] = {
    Input.DAY: shown_as.day,
    Input.INSTANT: shown_as.moment,
    Input.SHARE: shown_as.percent,
    Input.MONEY: lambda value: shown_as.number(float(value)),
    Input.NUMBER: shown_as.number,
    Input.FLAG: lambda value: gettext("yes") if value else gettext("no"),
    Input.LIST: lambda value: ", ".join(map(str, value)),
}


def raw_of(way: Input, value: Any, link: Shown | None = None) -> str:  # noqa: ANN401  any value
    """Return a value as it stands in its input."""
    if value is None:
        return ""
    return f"{_titled(link)} #{value}" if way is Input.REFERENCE else _RAW.get(way, str)(value)


def _plain_number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)


_RAW: Mapping[Input, Callable[[Any], str]] = {
    Input.INSTANT: lambda value: value.astimezone(ZoneInfo(choose_time_zone())).strftime("%Y-%m-%dT%H:%M"),
    Input.DAY: lambda value: value.isoformat(),
    Input.MONEY: lambda value: format(Decimal(value).normalize(), "f"),
    Input.SHARE: lambda value: _plain_number(round(value * 100, 4)),
    Input.FLAG: lambda value: "yes" if value else "no",
    Input.LIST: lambda value: ", ".join(map(str, value)),
    Input.NUMBER: _plain_number,
}


def choice_word(record_type: str, name: str, value: str) -> str:
    """Return one of the few words that a field holds."""
    kind = f"{record_type}_{name}" if name in {"status", "state"} else name
    return word(kind, value)


def label_of(field: FieldDeclaration) -> str:
    """Return what a custom field was declared to be called."""
    label = field.label_zh if choose_language() == "zh" else field.label_en
    return label or field.label_en or word("custom", field.name.removeprefix(CUSTOM))


def labels_of(session: Session, record_type: str, names: Sequence[str]) -> list[str]:
    """Return what fields of a record type are called, the declared ones as they were declared."""
    declared = {field.name: field for field in declared_fields(session, record_type)}
    return [
        label_of(declared[name]) if name in declared else word("field", name.removeprefix(CUSTOM))
        for name in names
    ]


def held(record: Record, field: FieldDeclaration) -> Any:  # noqa: ANN401  any JSON value
    """Return what a record holds in a custom field, in its stored form."""
    return (record.custom or {}).get(field.name.removeprefix(CUSTOM))


def _titled(link: Shown | None) -> str:
    return gettext("not for you to see") if link is None else link.title


def target_of(column: Column[Any], kind: Kind) -> str | None:
    """Return the record type that a column names records of."""
    for key in column.foreign_keys:
        found = _TYPE_OF_TABLE.get(key.column.table.name)
        return None if found == "custom_record" and kind.type_id is None else found
    return None


def _suggestions(name: str) -> Sequence[str]:
    if name == "source":
        return [source.key for source in LEAD_SOURCES]
    return sorted(choices_of(name)) if name in SUGGESTED else ()


def choices_in(field: FieldDeclaration) -> list[tuple[str, str]]:
    """Return the values of a choice, each with what people read for it."""
    chinese = choose_language() == "zh"
    return [
        (
            each["value"],
            each.get("label_zh" if chinese else "label_en") or each.get("label_en") or each["value"],
        )
        for each in field.choices or ()
    ]


CUSTOM_INPUTS = {
    FieldKind.TEXT: Input.TEXT,
    FieldKind.NUMBER: Input.NUMBER,
    FieldKind.FLAG: Input.FLAG,
    FieldKind.INSTANT: Input.INSTANT,
    FieldKind.DAY: Input.DAY,
    FieldKind.CHOICE: Input.CHOICE,
    FieldKind.MONEY: Input.MONEY,
    FieldKind.REFERENCE: Input.REFERENCE,
}


def loaded(kind: FieldKind, stored: Any) -> Any:  # noqa: ANN401  any JSON value
    """Return the value of a custom field as programs have it: days, instants and amounts."""
    if stored is None or isinstance(stored, str | bool):
        return stored
    match kind:
        case FieldKind.DAY:
            return day_of(stored)
        case FieldKind.INSTANT:
            return instant(stored)
        case FieldKind.MONEY:
            return Decimal(stored) / MONEY_SCALE
    return stored


# ------------------------------------------------------------------------------------------------ reading


class NotReadableError(Exception):
    """What somebody typed cannot be what the field holds; the text says why, in their language."""


def read_typed(reader: Reader, fact: Fact, typed: str) -> Any:  # noqa: ANN401  any value
    """Return what somebody typed into a field as the store takes it; NotReadableError says why not."""
    text = typed.strip()
    if not text:
        if fact.required:
            raise NotReadableError(gettext("This cannot be empty."))
        return None
    read = _READ.get(fact.input)
    if fact.input is Input.REFERENCE:
        return _read_reference(reader, fact, text)
    return _read_text(fact, text) if read is None else read(fact, text)


def _read_text(fact: Fact, text: str) -> str:
    if fact.longest is not None and len(text) > fact.longest:
        raise NotReadableError(gettext("This is longer than %(most)s letters.", most=fact.longest))
    if fact.name == "email" and not _MAIL.fullmatch(text):
        raise NotReadableError(gettext("This is no mail address, such as name@example.com."))
    return text


def _read_number(fact: Fact, text: str) -> float | int:
    try:
        number = float(text.replace(",", "").replace(" ", ""))
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise NotReadableError(gettext("This is no number."))
    _check_range(fact, number, 1)
    if fact.whole and number != int(number):
        raise NotReadableError(gettext("This is no whole number."))
    return int(number) if fact.whole or number == int(number) else number


def _read_share(fact: Fact, text: str) -> float:
    number = float(_read_number(_unbounded(fact), text.removesuffix("%")))
    _check_range(fact, number / 100, 100)
    return round(number / 100, 8)


def _unbounded(fact: Fact) -> Fact:
    return Fact(**{**vars(fact), "low": None, "high": None, "whole": False})


def _check_range(fact: Fact, number: float, times: int) -> None:
    if fact.low is None or fact.high is None or fact.low <= number <= fact.high:
        return
    low, high = (shown_as.number(each * times) for each in (fact.low, fact.high))
    raise NotReadableError(gettext("This is not between %(low)s and %(high)s.", low=low, high=high))


_AMOUNT = re.compile(r"-?\d{1,15}(\.\d{1,4})?", re.ASCII)


def _read_money(_fact: Fact, text: str) -> Decimal:
    plain = text.replace(",", "").replace(" ", "").replace("\u00a0", "").replace("'", "")
    if not _AMOUNT.fullmatch(plain):
        raise NotReadableError(gettext("This is no amount, such as 1250.50."))
    return Decimal(plain)


def _read_day(_fact: Fact, text: str) -> date:
    try:
        found = date.fromisoformat(text)
    except ValueError:
        found = date.min
    if found.year < 1900:
        raise NotReadableError(gettext("This is no day, such as 2026-03-02."))
    return found


def _read_instant(_fact: Fact, text: str) -> datetime:
    found: datetime | None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        found = None
    if found is None or found.year < 1900:
        raise NotReadableError(gettext("This is no day and time, such as 2026-03-02T09:30."))
    return found.replace(tzinfo=ZoneInfo(choose_time_zone())) if found.tzinfo is None else found


def _read_choice(fact: Fact, text: str) -> str:
    if text not in dict(fact.options):
        raise NotReadableError(gettext("This is none of the choices."))
    return text


def _read_flag(_fact: Fact, text: str) -> bool:
    if text not in {"yes", "no"}:
        raise NotReadableError(gettext("This is none of the choices."))
    return text == "yes"


def _read_list(_fact: Fact, text: str) -> list[str]:
    return [part for each in re.split("[,\n;\uff0c\u3001\uff1b]", text) if (part := each.strip())][:50]


_READ = {
    Input.NUMBER: _read_number,
    Input.SHARE: _read_share,
    Input.MONEY: _read_money,
    Input.DAY: _read_day,
    Input.INSTANT: _read_instant,
    Input.CHOICE: _read_choice,
    Input.FLAG: _read_flag,
    Input.LIST: _read_list,
}


def _read_reference(reader: Reader, fact: Fact, text: str) -> int:
    """Return the id of the record that a text names: by the number at its end, or by its name."""
    if told := _ID_AT_END.search(text):
        return int(told[1])
    if fact.name == "owner_id" and text.isascii() and text.isdigit():
        return int(text)
    found = find_titled(reader, fact.target or "", text, limit=_CANDIDATES)
    exact = [each for each in found if each.title.lower() == text.lower()]
    if len(exact) == 1 or len(found) == 1:
        return (exact or found)[0].key[1]
    if not found:
        raise NotReadableError(gettext("There is nothing called that which you may see."))
    names = ", ".join(f"{each.title} #{each.key[1]}" for each in found)
    raise NotReadableError(gettext("Which one? %(names)s", names=names))


def as_sent(facts: Sequence[Fact], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return read values as `serving.editing` takes them: custom ones in their plain form below `custom`."""
    inputs = {fact.name: fact.input for fact in facts}
    sent = {name: value for name, value in values.items() if not name.startswith(CUSTOM)}
    custom = {
        name.removeprefix(CUSTOM): _plain_value(inputs[name], value)
        for name, value in values.items()
        if name.startswith(CUSTOM)
    }
    return {**sent, "custom": custom} if custom else sent


def _plain_value(way: Input, value: Any) -> Any:  # noqa: ANN401  any value
    if value is None or way not in {Input.DAY, Input.INSTANT, Input.MONEY}:
        return value
    return format(value, "f") if way is Input.MONEY else value.isoformat()


def field_of(error: InvalidValueError) -> str:
    """Return the field that an error of the store is about, as facts name it."""
    return error.field.split(".", 1)[1] if "." in error.field else error.field
