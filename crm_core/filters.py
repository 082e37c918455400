r"""Conditions on the fields of records, built in or custom, read from text and compiled to SQL.

A condition is `FIELD:OP` or `FIELD:OP:VALUE`, such as `amount:ge:1000`, `custom.grade:in:A,B` or
`expected_close_on:empty`. Commas part the values of `in`, `not_in` and `between`; `\,` is a comma inside of
one and `\\` a backslash. `segment:ID` stands for the conditions of a segment that the reader may use, and
`tag:eq:WORD` or `tag:ne:WORD` for a tag, put on by hand or by its rule. Values are always bound, never put
into SQL, and an operator that makes no sense for a field, a value of another kind or a field that the reader
may not see is refused by name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    ColumnElement,
    Float,
    Integer,
    String,
    Text,
    and_,
    not_,
    or_,
    select,
    true,
    type_coerce,
)
from sqlalchemy.types import TypeEngine

from crm_core.access import Reader
from crm_core.access import Scope as RightScope
from crm_core.clock import day_number, micros
from crm_core.columns import Day, Instant, Json, Money, check_text, money_units
from crm_core.declared import CustomField, declarations
from crm_core.errors import AccessDeniedError, FilterError, InvalidValueError, UnknownFieldError
from crm_core.fields import CUSTOM, FieldKind, model_of
from crm_core.members import is_present, member
from crm_core.phrases import Phrase, one_of
from crm_core.records import RECORD_TYPES, SCORE_COLUMNS, CustomRecord, Record, Tag
from crm_core.saved import Segment, get_segment, list_rules
from crm_core.validation import CHOICES, columns_of

MOST = 20
"""Conditions in one filter."""
SEGMENT = "segment"
TAG = "tag"
_LONGEST = 2_000
_MOST_VALUES = 200

_PIECES = re.compile(r"\\.|[^\\,]+|.", re.DOTALL)
"""What a list of values consists of; every letter is read once, whatever the text."""


class Op(StrEnum):
    """What is asked of a field."""

    EQ = "eq"
    NE = "ne"
    IN = "in"
    NOT_IN = "not_in"
    LT = "lt"
    LE = "le"
    GT = "gt"
    GE = "ge"
    BETWEEN = "between"
    CONTAINS = "contains"
    EMPTY = "empty"
    NOT_EMPTY = "not_empty"


_SAME = (Op.EQ, Op.NE, Op.IN, Op.NOT_IN)
_ORDERED = (Op.LT, Op.LE, Op.GT, Op.GE, Op.BETWEEN)
_GIVEN = (Op.EMPTY, Op.NOT_EMPTY)


class _Kind(StrEnum):
    TEXT = "text"
    CHOICE = "choice"
    NUMBER = "number"
    WHOLE = "whole"
    MONEY = "money"
    FLAG = "flag"
    INSTANT = "instant"
    DAY = "day"


OPS: dict[str, tuple[Op, ...]] = {
    _Kind.TEXT: (*_SAME, Op.CONTAINS, *_GIVEN),
    _Kind.CHOICE: (*_SAME, *_GIVEN),
    _Kind.NUMBER: (*_SAME, *_ORDERED, *_GIVEN),
    _Kind.WHOLE: (*_SAME, *_ORDERED, *_GIVEN),
    _Kind.MONEY: (*_SAME, *_ORDERED, *_GIVEN),
    _Kind.FLAG: (Op.EQ, Op.NE, *_GIVEN),
    _Kind.INSTANT: (*_ORDERED, *_GIVEN),
    _Kind.DAY: (*_SAME, *_ORDERED, *_GIVEN),
}
"""What may be asked of a field of each kind."""


@dataclass(frozen=True, kw_only=True)
class Condition:
    """One condition as it was written: the field's name, the operator, and the texts of its values."""

    field: str
    op: Op
    values: tuple[str, ...] = ()


def parse_condition(text: str) -> Condition:
    """Return the condition that a text says; raise FilterError with what was expected."""
    if len(text) > _LONGEST:
        raise FilterError(
            Phrase(
                "filter: expected at most {longest} characters, got {count}",
                longest=_LONGEST,
                count=len(text),
            )
        )
    check_text("filter", text)
    field, *rest = text.split(":", 2)
    if not field or not rest:
        raise FilterError(
            Phrase(
                "filter: expected FIELD:OP or FIELD:OP:VALUE, such as amount:ge:1000, got {text!r}", text=text
            )
        )
    if rest[0] not in list(Op):
        raise FilterError(
            Phrase(
                "filter {field}: expected one of {ops}, got {rest!r}",
                field=field,
                ops=tuple(Op),
                rest=rest[0],
            )
        )
    op, given = Op(rest[0]), rest[1] if len(rest) > 1 else None
    return Condition(field=field, op=op, values=_values(field, op, given))


def _values(field: str, op: Op, given: str | None) -> tuple[str, ...]:
    if op in _GIVEN:
        if given is not None:
            raise FilterError(
                Phrase(
                    "filter {field}:{op}: expected nothing after {op}, got {given!r}",
                    field=field,
                    op=op,
                    given=given,
                )
            )
        return ()
    if given is None:
        raise FilterError(
            Phrase("filter {field}:{op}: expected {field}:{op}:VALUE, got no value", field=field, op=op)
        )
    if op not in {Op.IN, Op.NOT_IN, Op.BETWEEN}:
        return (_plain(given),)
    values = _split(given)
    if op is Op.BETWEEN and len(values) != 2:
        raise FilterError(
            Phrase(
                "filter {field}:between: expected two values with a comma between, got {given!r}",
                field=field,
                given=given,
            )
        )
    if not 1 <= len(values) <= _MOST_VALUES:
        raise FilterError(
            Phrase(
                "filter {field}:{op}: expected 1 to {most} values, got {count}",
                field=field,
                op=op,
                most=_MOST_VALUES,
                count=len(values),
            )
        )
    return values


def _split(text: str) -> tuple[str, ...]:
    """Return the texts between commas; what a backslash stands before is part of its text."""
    parts = [""]
    for piece in _PIECES.findall(text):
        if piece == ",":
            parts.append("")
        else:
            parts[-1] += piece
    return tuple(map(_plain, parts))


def _plain(text: str) -> str:
    return re.sub(r"\\([,\\])", r"\1", text)


def compile_filter(reader: Reader, record_type: str, texts: Sequence[str]) -> ColumnElement[bool]:
    """Return the SQL condition that all of `texts` hold for a record of a type, built in or declared.

    Raises FilterError for what cannot be read or asked, UnknownFieldError for a field that there is not, and
    AccessDeniedError for one that the reader may not see: a filter would tell its values.
    """
    conditions = _conditions(reader, record_type, texts, _one)
    if record_type not in RECORD_TYPES:
        kind = declarations(reader.session).by_name[record_type]
        conditions.append(CustomRecord.type_id == kind.type_id)
    return and_(*conditions) if conditions else true()


_One = Callable[[Reader, type[Record], str, str], ColumnElement[bool]]
"""From one condition as it was written to SQL."""


def _conditions(
    reader: Reader, record_type: str, texts: Sequence[str], one: _One
) -> list[ColumnElement[bool]]:
    if len(texts) > MOST:
        raise FilterError(
            Phrase("filter: expected at most {most} conditions, got {count}", most=MOST, count=len(texts))
        )
    model = model_of(reader.session, record_type)
    return [one(reader, model, record_type, text) for text in texts]


def _one(reader: Reader, model: type[Record], record_type: str, text: str) -> ColumnElement[bool]:
    """Compile one condition: on a field, a tag or a segment."""
    name, _, rest = text.partition(":")
    if name == SEGMENT:
        return compile_segment(reader, record_type, segment_asked(reader, record_type, rest).filter)
    if name == TAG:
        return _tagged(reader, model, record_type, parse_condition(text), by_rule=True)
    return _compile(_asked(reader, model, record_type, parse_condition(text)))


def _one_of_segment(reader: Reader, model: type[Record], record_type: str, text: str) -> ColumnElement[bool]:
    """Compile one condition of a segment, which knows neither other segments nor their tags."""
    if text.startswith(f"{SEGMENT}:"):
        raise FilterError("filter: a segment cannot be made of another segment")
    if text.startswith(f"{TAG}:"):
        return _tagged(reader, model, record_type, parse_condition(text), by_rule=False)
    return _compile(_asked(reader, model, record_type, parse_condition(text)))


def compile_segment(reader: Reader, record_type: str, texts: Sequence[str]) -> ColumnElement[bool]:
    """Return the SQL condition that a record fits a segment; raises as `compile_filter` does."""
    return and_(true(), *_conditions(reader, record_type, texts, _one_of_segment))


def segment_asked(reader: Reader, record_type: str, rest: str) -> Segment:
    """Return the segment of a record type that a condition names by its number; raises FilterError."""
    if not (rest.isascii() and rest.isdigit() and len(rest) < 18):
        raise FilterError(
            Phrase(
                "filter segment: expected segment:ID with the number of a segment, got {rest!r}", rest=rest
            )
        )
    found = get_segment(reader.session, reader.user, int(rest))
    if found.record_type != record_type:
        raise FilterError(
            Phrase(
                "filter segment: {rest} is a segment of {found_record_type}s, not {record_type}s",
                rest=rest,
                found_record_type=found.record_type,
                record_type=record_type,
            )
        )
    return found


def check_asks_for_tag(reader: Reader, condition: Condition) -> None:
    """Raise FilterError or AccessDeniedError unless somebody may ask for records by a tag like that."""
    if condition.op not in {Op.EQ, Op.NE}:
        raise FilterError(Phrase("filter tag: expected eq or ne, got {op}", op=condition.op))
    if reader.right(Tag.record_type).read is RightScope.NONE or not reader.may_read_field("tag", "word"):
        raise AccessDeniedError(Phrase("the role {role} may not filter by tags", role=reader.user.role))


def _tagged(
    reader: Reader, model: type[Record], record_type: str, condition: Condition, *, by_rule: bool
) -> ColumnElement[bool]:
    """Return the condition that a record carries a tag: whoever sees the record sees its tags."""
    check_asks_for_tag(reader, condition)
    word = condition.values[0]
    by_hand = select(Tag.subject_id).where(
        Tag.subject_type == record_type, Tag.word == word, Tag.deleted_at.is_(None)
    )
    ways: list[ColumnElement[bool]] = [model.id.in_(by_hand)]
    if by_rule:
        rules = list_rules(reader.session, reader.user, record_type)
        ways += rules_met(reader, [rule for rule in rules if rule.tag == word])
    carries = or_(*ways)
    return not_(carries) if condition.op is Op.NE else carries


def rules_met(reader: Reader, rules: Sequence[Segment]) -> list[ColumnElement[bool]]:
    """Return the conditions of segments, without those that the reader may not ask, or nobody any more."""
    found = []
    for rule in rules:
        with suppress(AccessDeniedError, FilterError, UnknownFieldError):
            found.append(compile_segment(reader, rule.record_type, rule.filter))
    return found


@dataclass(frozen=True, kw_only=True)
class Test:
    """A condition on one field as SQL asks it of records, and what it says of a value in stored form."""

    field: str
    sql: ColumnElement[bool]
    op: Op
    values: tuple[Any, ...]

    def holds(self, held: Any) -> bool:  # noqa: ANN401  any stored value
        """Return whether a field that holds `held`, in its stored form, meets the condition."""
        if held is None:
            return self.op in {Op.EMPTY, Op.NE, Op.NOT_IN}
        return _HOLDS[self.op](held, self.values)


_HOLDS: dict[Op, Callable[[Any, tuple[Any, ...]], bool]] = {
    Op.EMPTY: lambda _held, _values: False,
    Op.NOT_EMPTY: lambda _held, _values: True,
    Op.EQ: lambda held, values: bool(held == values[0]),
    Op.NE: lambda held, values: bool(held != values[0]),
    Op.IN: lambda held, values: held in values,
    Op.NOT_IN: lambda held, values: held not in values,
    Op.LT: lambda held, values: bool(held < values[0]),
    Op.LE: lambda held, values: bool(held <= values[0]),
    Op.GT: lambda held, values: bool(held > values[0]),
    Op.GE: lambda held, values: bool(held >= values[0]),
    Op.BETWEEN: lambda held, values: bool(values[0] <= held <= values[1]),
    Op.CONTAINS: lambda held, values: str(values[0]).lower() in str(held).lower(),
}
"""What `_SQL` says, of a value that is there."""


def compile_test(reader: Reader, record_type: str, text: str) -> Test:
    """Return one condition on a field as a test; raises as `compile_filter` does."""
    model = model_of(reader.session, record_type)
    return _test(_asked(reader, model, record_type, parse_condition(text)))


def _test(asked: _Asked) -> Test:
    values = [_value(asked, each) for each in asked.condition.values]
    return Test(
        field=asked.condition.field,
        sql=_compile(asked),
        op=asked.condition.op,
        values=tuple(_in_stored_form(asked.kind, each) for each in values),
    )


def _in_stored_form(kind: _Kind, value: Any) -> Any:  # noqa: ANN401  of the column's type, or stored already
    return value if isinstance(value, int) else _stored(kind, value)


@dataclass(frozen=True, kw_only=True)
class Askable:
    """A field that the reader may filter by: what it holds, what may be asked, and its words if few fit."""

    name: str
    kind: str
    ops: tuple[Op, ...]
    words: tuple[str, ...] = ()


def list_askable(reader: Reader, record_type: str) -> list[Askable]:
    """Return the fields that the reader may filter by, in the order of the record type."""
    model = model_of(reader.session, record_type)
    names = [name for name in columns_of(model) if reader.may_read_field(record_type, name)]
    if reader.may_read_field(record_type, CUSTOM.removesuffix(".")):
        fields = declarations(reader.session).fields(record_type)
        names += [
            f"{CUSTOM}{name}" for name in fields if reader.may_read_field(record_type, f"{CUSTOM}{name}")
        ]
    return [found for name in names if (found := _askable(reader, model, record_type, name)) is not None]


def _askable(reader: Reader, model: type[Record], record_type: str, name: str) -> Askable | None:
    try:
        asked = _asked(reader, model, record_type, Condition(field=name, op=Op.EMPTY))
    except FilterError:
        return None  # a list
    return Askable(name=name, kind=asked.kind, ops=OPS[asked.kind], words=asked.words)


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """A condition with the column that it is about, in stored form."""

    condition: Condition
    kind: _Kind
    column: ColumnElement[Any]
    present: ColumnElement[bool]
    words: tuple[str, ...] = ()


def _asked(reader: Reader, model: type[Record], record_type: str, condition: Condition) -> _Asked:
    name = condition.field
    if name.startswith(CUSTOM):
        _check_readable(reader, record_type, "custom", name)
        field = declarations(reader.session).fields(record_type).get(name.removeprefix(CUSTOM))
        if field is None:
            raise UnknownFieldError(record_type, name)
        return _custom(reader, model, field, condition)
    columns = columns_of(model)
    if name not in columns:
        raise UnknownFieldError(record_type, name)
    _check_readable(reader, record_type, name)
    column: ColumnElement[Any] = columns[name]
    words = tuple(sorted(CHOICES[record_type, name])) if (record_type, name) in CHOICES else ()
    kind = _Kind.CHOICE if words else _kind_of(column.type)
    if kind is None:
        raise FilterError(Phrase("filter {name}: holds a list and cannot be filtered by", name=name))
    if kind is _Kind.WHOLE:
        column = type_coerce(column, BigInteger())  # numbers beyond 32 bits are just unequal
    return _Asked(condition=condition, kind=kind, column=column, present=column.is_not(None), words=words)


def _check_readable(reader: Reader, record_type: str, *fields: str) -> None:
    for field in fields:
        if not reader.may_read_field(record_type, field):
            raise AccessDeniedError(
                Phrase(
                    "the role {role} may not filter by {record_type}.{field}",
                    role=reader.user.role,
                    record_type=record_type,
                    field=field,
                )
            )


_CUSTOM_KINDS: dict[FieldKind, tuple[_Kind, TypeEngine[Any]]] = {
    FieldKind.TEXT: (_Kind.TEXT, String()),
    FieldKind.CHOICE: (_Kind.CHOICE, String()),
    FieldKind.NUMBER: (_Kind.NUMBER, Float()),
    FieldKind.FLAG: (_Kind.FLAG, Boolean()),
    FieldKind.INSTANT: (_Kind.INSTANT, BigInteger()),
    FieldKind.DAY: (_Kind.DAY, BigInteger()),
    FieldKind.MONEY: (_Kind.MONEY, BigInteger()),
    FieldKind.REFERENCE: (_Kind.WHOLE, BigInteger()),
}


def _custom(reader: Reader, model: type[Record], field: CustomField, condition: Condition) -> _Asked:
    kind, stored = _CUSTOM_KINDS[field.kind]
    column = columns_of(model)["custom"]
    return _Asked(
        condition=condition,
        kind=kind,
        column=member(reader.session, column, field.name, stored),
        present=is_present(reader.session, column, field.name),
        words=field.choices,
    )


def _kind_of(stored: TypeEngine[Any]) -> _Kind | None:
    if isinstance(stored, Json):
        return None
    kinds: tuple[tuple[type[TypeEngine[Any]], _Kind], ...] = (
        (Instant, _Kind.INSTANT),
        (Day, _Kind.DAY),
        (Money, _Kind.MONEY),
        (Boolean, _Kind.FLAG),
        (Integer, _Kind.WHOLE),
        (Float, _Kind.NUMBER),
        (Text, _Kind.TEXT),
        (String, _Kind.TEXT),
    )
    return next((kind for each, kind in kinds if isinstance(stored, each)), None)


def _compile(asked: _Asked) -> ColumnElement[bool]:
    condition, column = asked.condition, asked.column
    place = f"filter {condition.field}"
    if condition.op not in OPS[asked.kind]:
        ops = tuple(OPS[asked.kind])
        raise FilterError(
            Phrase(
                "{place}: a {asked_kind} can be asked for {ops}, not for {op}",
                place=place,
                asked_kind=asked.kind,
                ops=ops,
                op=condition.op,
            )
        )
    values = [_value(asked, text) for text in condition.values]
    return _SQL[condition.op](column, asked.present, values)


_SQL: dict[Op, Callable[[Any, Any, list[Any]], ColumnElement[bool]]] = {
    Op.EMPTY: lambda _column, present, _values: ~present,
    Op.NOT_EMPTY: lambda _column, present, _values: present,
    Op.EQ: lambda column, _present, values: column == values[0],
    Op.NE: lambda column, present, values: or_(~present, column != values[0]),
    Op.IN: lambda column, _present, values: column.in_(values),
    Op.NOT_IN: lambda column, present, values: or_(~present, column.not_in(values)),
    Op.LT: lambda column, _present, values: column < values[0],
    Op.LE: lambda column, _present, values: column <= values[0],
    Op.GT: lambda column, _present, values: column > values[0],
    Op.GE: lambda column, _present, values: column >= values[0],
    Op.BETWEEN: lambda column, _present, values: column.between(values[0], values[1]),
    Op.CONTAINS: lambda column, _present, values: column.icontains(values[0], autoescape=True),
}
"""By operator, the condition on a column, given whether it holds anything, and the values asked for."""


@dataclass(frozen=True, kw_only=True)
class Tested:
    """A condition on one field, to be asked of a value in the form in which the change log has it."""

    field: str
    fits: Callable[[Any], bool]


def read_tests(reader: Reader, record_type: str, texts: Sequence[str]) -> tuple[list[Tested], list[str]]:
    """Return conditions to be asked of values of any time, and those that only records of now can be asked.

    Segments are taken apart; tags, and what models write, are not in the change log as fields are. Raises
    what `compile_filter` raises.
    """
    tests: list[Tested] = []
    present: list[str] = []
    model = model_of(reader.session, record_type)
    for text in texts:
        name, _, rest = text.partition(":")
        if name == SEGMENT:
            within = segment_asked(reader, record_type, rest).filter
            compile_segment(reader, record_type, within)  # refuses what may not be used
            more, asked_now = read_tests(reader, record_type, within)
            tests, present = tests + more, present + asked_now
        elif name == TAG or name in SCORE_COLUMNS:
            present.append(text)
        else:
            tests.append(_tested(_asked(reader, model, record_type, parse_condition(text))))
    return tests, present


def _tested(asked: _Asked) -> Tested:
    test = _test(asked)
    return Tested(field=test.field, fits=test.holds)


def _value(asked: _Asked, text: str) -> Any:  # noqa: ANN401  of the column's type
    """Return the value that a text says, as the column takes it."""
    if asked.words and text not in asked.words:
        raise _refused(asked, text, one_of(asked.words))
    try:
        value = _READ[asked.kind](text)
    except (ValueError, InvalidOperation, InvalidValueError, OverflowError) as error:
        raise _refused(asked, text, _EXPECTED[asked.kind]) from error
    return _stored(asked.kind, value) if isinstance(asked.column.type, BigInteger) else value


def _refused(asked: _Asked, text: str, expected: str) -> FilterError:
    return FilterError(
        Phrase(
            "filter {field}: expected {expected}, got {text!r}",
            field=asked.condition.field,
            expected=expected,
            text=text,
        )
    )


def _stored(kind: _Kind, value: Any) -> Any:  # noqa: ANN401  as above
    """Return a value as custom fields and ids store it."""
    match kind:
        case _Kind.INSTANT:
            return micros(value)
        case _Kind.DAY:
            return day_number(value)
        case _Kind.MONEY:
            return money_units(value)
    return value


def _number(text: str) -> float:
    value = float(text)
    if not abs(value) < float("inf") or "_" in text:
        raise ValueError(text)
    return value


def _whole(text: str) -> int:
    if not re.fullmatch(r"[+-]?\d{1,19}", text, re.ASCII) or not -(2**63) <= int(text) < 2**63:
        raise ValueError(text)
    return int(text)


def _money(text: str) -> Decimal:
    if "_" in text:
        raise ValueError(text)
    value = Decimal(text)
    money_units(value)
    return value


def _flag(text: str) -> bool:
    if text.lower() not in {"true", "false"}:
        raise ValueError(text)
    return text.lower() == "true"


def _instant(text: str) -> datetime:
    """Read an instant; a day stands for its midnight, and without a zone it is UTC."""
    try:
        moment = datetime.combine(date.fromisoformat(text), time.min)
    except ValueError:
        moment = datetime.fromisoformat(text)
    moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    micros(moment)
    return moment


_READ: dict[_Kind, Callable[[str], Any]] = {
    _Kind.TEXT: str,
    _Kind.CHOICE: str,
    _Kind.NUMBER: _number,
    _Kind.WHOLE: _whole,
    _Kind.MONEY: _money,
    _Kind.FLAG: _flag,
    _Kind.INSTANT: _instant,
    _Kind.DAY: date.fromisoformat,
}

_EXPECTED: dict[_Kind, str] = {
    _Kind.TEXT: "a text",
    _Kind.CHOICE: "a word",
    _Kind.NUMBER: "a finite number",
    _Kind.WHOLE: "a whole number",
    _Kind.MONEY: "an amount such as 1000 or 99.50",
    _Kind.FLAG: "true or false",
    _Kind.INSTANT: "an instant such as 2026-03-02T09:00:00Z, or a day",
    _Kind.DAY: "a day such as 2026-03-02",
}
