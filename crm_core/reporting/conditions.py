"""The conditions of lists, asked of what records held at an instant."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
import numpy.typing as npt
from sqlalchemy import ColumnElement, and_, not_, or_, select, true

from crm_core.access import Reader
from crm_core.errors import AccessDeniedError, FilterError, UnknownFieldError
from crm_core.fields import model_of
from crm_core.filters import (
    MOST,
    SEGMENT,
    TAG,
    Op,
    check_asks_for_tag,
    compile_test,
    parse_condition,
    segment_asked,
)
from crm_core.phrases import Phrase
from crm_core.records import Tag
from crm_core.saved import list_rules

Bools = npt.NDArray[np.bool_]
Held = Mapping[str, npt.NDArray[np.object_]]
"""By field, what the records held, in stored form."""


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """Conditions that must all hold: as SQL of what records hold now, and of values that they held.

    `fields` are those that the conditions are on; of records that hold in all of them what they held at the
    instant, the SQL says the truth.
    """

    fields: tuple[str, ...] = ()
    sql: ColumnElement[bool] = field(default_factory=true)
    test: Callable[[npt.NDArray[np.int64], Held], Bools] | None = None

    def hold(self, ids: npt.NDArray[np.int64], held: Held) -> Bools:
        """Say of each record whether the conditions held."""
        return np.ones(ids.size, dtype=np.bool_) if self.test is None else self.test(ids, held)


ALWAYS = Conditions()


def read_conditions(reader: Reader, record_type: str, texts: Sequence[str], as_of: datetime) -> Conditions:
    """Return the conditions that a filter asks; raises as `crm_core.filters.compile_filter` does.

    Segments and rules of tags are asked as they are now, of what records held then; tags put on by hand as
    they were then.
    """
    if len(texts) > MOST:
        raise FilterError(
            Phrase("filter: expected at most {most} conditions, got {count}", most=MOST, count=len(texts))
        )
    return _all([_one(reader, record_type, text, as_of, inner=False) for text in texts])


def _one(reader: Reader, record_type: str, text: str, as_of: datetime, *, inner: bool) -> Conditions:
    name, _, rest = text.partition(":")
    if name == SEGMENT:
        if inner:
            raise FilterError("filter: a segment cannot be made of another segment")
        return _segment(reader, record_type, rest, as_of)
    if name == TAG:
        return _tag(reader, record_type, text, as_of, inner=inner)
    test = compile_test(reader, record_type, text)

    def holds(_ids: npt.NDArray[np.int64], held: Held) -> Bools:
        return np.array([test.holds(value) for value in held[test.field].tolist()], dtype=np.bool_)

    return Conditions(fields=(test.field,), sql=test.sql, test=holds)


def _segment(reader: Reader, record_type: str, rest: str, as_of: datetime) -> Conditions:
    found = segment_asked(reader, record_type, rest)
    return _all([_one(reader, record_type, text, as_of, inner=True) for text in found.filter])


def _tag(reader: Reader, record_type: str, text: str, as_of: datetime, *, inner: bool) -> Conditions:
    condition = parse_condition(text)
    check_asks_for_tag(reader, condition)
    word = condition.values[0]
    ways = [_by_hand(reader, record_type, word, as_of)]
    rules = [] if inner else list_rules(reader.session, reader.user, record_type)
    for rule in rules:
        if rule.tag == word:
            with suppress(AccessDeniedError, FilterError, UnknownFieldError):
                ways.append(
                    _all([_one(reader, record_type, each, as_of, inner=True) for each in rule.filter])
                )
    carries = _any(ways)
    return _not(carries) if condition.op is Op.NE else carries


def _by_hand(reader: Reader, record_type: str, word: str, as_of: datetime) -> Conditions:
    tagged = select(Tag.subject_id).where(
        Tag.subject_type == record_type,
        Tag.word == word,
        Tag.occurred_at <= as_of,
        Tag.recorded_at <= as_of,
        or_(Tag.deleted_at.is_(None), Tag.deleted_at > as_of),
    )
    model = model_of(reader.session, record_type)

    def holds(ids: npt.NDArray[np.int64], _held: Held) -> Bools:
        return np.isin(ids, np.array(reader.session.scalars(tagged).all(), dtype=np.int64))

    return Conditions(sql=model.id.in_(tagged), test=holds)


def _fields(parts: Sequence[Conditions]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(field for part in parts for field in part.fields))


def _all(parts: Sequence[Conditions]) -> Conditions:
    if not parts:
        return ALWAYS

    def hold(ids: npt.NDArray[np.int64], held: Held) -> Bools:
        return np.asarray(np.logical_and.reduce([part.hold(ids, held) for part in parts]))

    return Conditions(fields=_fields(parts), sql=and_(true(), *(part.sql for part in parts)), test=hold)


def _any(parts: Sequence[Conditions]) -> Conditions:
    def hold(ids: npt.NDArray[np.int64], held: Held) -> Bools:
        return np.asarray(np.logical_or.reduce([part.hold(ids, held) for part in parts]))

    return Conditions(fields=_fields(parts), sql=or_(*(part.sql for part in parts)), test=hold)


def _not(part: Conditions) -> Conditions:
    def hold(ids: npt.NDArray[np.int64], held: Held) -> Bools:
        return ~part.hold(ids, held)

    return Conditions(fields=part.fields, sql=not_(part.sql), test=hold)
