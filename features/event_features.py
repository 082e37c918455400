"""Features of what happened: activities, orders, tickets and contracts in a window before the question."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field as declared
from datetime import timedelta
from functools import cached_property
from typing import ClassVar

import numpy as np
from sqlalchemy import Integer

from crm_core.clock import DAY
from crm_core.columns import MONEY_SCALE, Day, Money
from crm_core.errors import FeatureError
from crm_core.records import RECORD_TYPES, TicketStatus
from crm_core.validation import CHOICES, columns_of
from features.asks import Ask, Kind, Measure
from features.choices import choices_of
from features.columns import picked, stored_in
from features.compiled import loops
from features.declaration import Column, Feature, Meaning, Need, check_input, reached
from features.events import Floats, Values
from features.facts import Facts
from features.windows import name_lookback, parse_lookback
from features.wording import Noun, Sentence, last_en, last_zh

NO_ANSWER = ("no answer", "no_answer")
"""What the outcome of a call is called when nobody took it."""

UNSOLVED = (TicketStatus.OPEN.value, TicketStatus.PENDING.value)
"""What the status of a ticket is until it is solved: it waits for us or for the customer."""

FILLED = ""
"""Stands in `where` for an instant, a day or a link that is given, whichever; None stands for none."""

_HOUR = DAY // 24
"""Microseconds in an hour."""


@dataclass(frozen=True, kw_only=True)
class Events:
    """A kind of event of a record, or of the one it names in `via`: every `event` that `where` lets in."""

    record: str
    event: str
    noun: Noun = declared(metadata={"words": True})
    via: str | None = None
    where: tuple[tuple[str, tuple[str | None, ...]], ...] = ()
    group: str | None = None

    def __post_init__(self) -> None:
        """Refuse what links to no such record, unknown fields and words that a field cannot hold."""
        check_linked(self.record, self.via, self.event)
        for name, wanted in self.where:
            check_input(self.event, name)
            choices = CHOICES.get((self.event, name))
            unknown = set(wanted) - set(choices or wanted)
            if unknown or not wanted:
                raise FeatureError(f"{self.event}.{name} holds none of {sorted(map(str, unknown))}")

    @property
    def reason(self) -> str:
        """Return the group that its features are explained with."""
        return self.group or self.noun.key_many

    @cached_property
    def kind(self) -> Kind:
        """Return which events these are, whatever they are called."""
        return Kind(self.via, self.event, self.where)

    def need(self, *fields: str) -> tuple[Need, ...]:
        """Return what has to be read to tell these events, and `fields` of them."""
        wanted = (*(name for name, _ in self.where), *fields)
        return (Need(record=self.record, via=self.via, event=self.event, fields=wanted),)


def events(
    record: str,
    event: str,
    noun: Noun,
    *,
    via: str | None = None,
    group: str | None = None,
    where: Mapping[str, str | tuple[str | None, ...]] | None = None,
) -> Events:
    """Declare a kind of event; `where={"kind": "call"}` or `{"kind": ("call", "visit")}` keep only these.

    `{"deal_id": (None,)}` keeps those in which the field is empty, `{"responded_at": FILLED}` those in which
    it is not.
    """
    chosen = tuple(
        (name, (wanted,) if isinstance(wanted, str) else tuple(wanted))
        for name, wanted in sorted((where or {}).items())
    )
    return Events(record=record, event=event, noun=noun, via=via, where=chosen, group=group)


def check_linked(record: str, via: str | None, event: str) -> None:
    """Raise FeatureError for an event type that does not exist or has no link to the record."""
    owner = reached(record, via)
    if event not in RECORD_TYPES or f"{owner}_id" not in columns_of(RECORD_TYPES[event]):
        linked = [name for name, model in RECORD_TYPES.items() if f"{owner}_id" in columns_of(model)]
        if not linked:
            raise FeatureError(f"{record}.{via} leads to no record that events are linked to")
        raise FeatureError(f"{event!r} is linked to no {owner}; expected one of {', '.join(linked)}")


@dataclass(frozen=True, kw_only=True)
class EventFeature(Feature):
    """A feature of one kind of event."""

    of: Events
    lookback: str | timedelta | None = None
    record: str = ""

    def __post_init__(self) -> None:
        """Refuse a lookback without a unit; a record follows from the events."""
        object.__setattr__(self, "record", self.of.record)
        if self.lookback is not None:
            object.__setattr__(self, "lookback", name_lookback(parse_lookback(self.lookback)))

    @cached_property
    def length(self) -> int | None:
        """Return the lookback in microseconds."""
        return None if self.lookback is None else parse_lookback(self.lookback)

    @property
    def reach(self) -> int | None:
        """Return how far back it looks, in microseconds; None for without end."""
        return self.length

    @property
    def suffix(self) -> str:
        """Return the lookback as it ends the name."""
        return "" if self.length is None else f"_{name_lookback(self.length)}"

    def needs(self) -> tuple[Need, ...]:
        """Return what has to be read."""
        return self.of.need()

    @cached_property
    def ask(self) -> Ask | None:
        """Return what is asked of the events of the one kind, if a loop answers it."""
        return None

    def asks(self) -> tuple[Ask, ...]:
        """Return what is asked of events, so that all of it is answered together."""
        return () if self.ask is None else (self.ask,)


@dataclass(frozen=True, kw_only=True)
class _Answered(EventFeature):
    """A feature that is one number asked of events."""

    measure: ClassVar[Measure]

    @cached_property
    def ask(self) -> Ask:
        """Return the number that is asked for."""
        return Ask(self.of.kind, self.measure, self.length)

    def compute(self, facts: Facts) -> Column:
        """Return the numbers."""
        return facts.number(self.ask)


@dataclass(frozen=True, kw_only=True)
class EventCount(_Answered):
    """How many events the window holds."""

    measure = Measure.COUNT

    @cached_property
    def meaning(self) -> Meaning:
        """Return what it says."""
        noun, en, zh = self.of.noun, last_en(self.length), last_zh(self.length)
        return Meaning(
            name=f"{noun.key_many}_count{self.suffix}",
            unit="count",
            nan="never missing",
            group=self.of.reason,
            sentence=Sentence(
                en=f"{{value}} {noun.many}{en}",
                en_one=f"1 {noun.one}{en}",
                en_none=f"no {noun.many}{en}",
                zh=f"{zh} {{value}} {noun.measure}{noun.zh}",
                zh_none=f"{zh}没有{noun.zh}",
                en_missing=f"no {noun.many}{en}",
                zh_missing=f"{zh}没有{noun.zh}",
                measure=noun.measure,
            ),
        )


@dataclass(frozen=True, kw_only=True)
class EventSum(_Answered):
    """The sum of a whole-numbered field over the events in the window; empty values add nothing."""

    measure = Measure.TOTAL

    field: str
    noun: Noun = declared(metadata={"words": True})

    def __post_init__(self) -> None:
        """Refuse a field that cannot be summed exactly."""
        super().__post_init__()
        check_summable(self.of.event, self.field)

    @cached_property
    def meaning(self) -> Meaning:
        """Return what it says."""
        what, en, zh = self.of.noun, last_en(self.length), last_zh(self.length)
        return Meaning(
            name=f"{what.key_many}_{self.noun.key_one}_sum{self.suffix}",
            unit=unit_of(self.of.event, self.field),
            nan="never missing",
            group=self.of.reason,
            sentence=Sentence(
                en=f"{what.many}{en} with a total {self.noun.one} of {{value}}",
                en_none=f"no {what.many}{en}",
                zh=f"{zh}{what.zh}{self.noun.zh}合计 {{value}}",
                zh_none=f"{zh}没有{what.zh}",
                en_missing=f"no {what.many}{en}",
                zh_missing=f"{zh}没有{what.zh}",
            ),
        )

    def needs(self) -> tuple[Need, ...]:
        """Return what has to be read."""
        return self.of.need(self.field)

    @cached_property
    def ask(self) -> Ask:
        """Return the number that is asked for."""
        return Ask(self.of.kind, self.measure, self.length, self.field, _scale(self.of.event, self.field))


@dataclass(frozen=True, kw_only=True)
class EventMean(EventSum):
    """The mean of a whole-numbered field over the events in the window that have a value."""

    measure = Measure.MEAN

    @cached_property
    def meaning(self) -> Meaning:
        """Return what it says."""
        what, en, zh = self.of.noun, last_en(self.length), last_zh(self.length)
        return Meaning(
            name=f"{what.key_many}_{self.noun.key_one}_mean{self.suffix}",
            unit=unit_of(self.of.event, self.field),
            nan=f"no {self.noun.one} known{en}",
            group=self.of.reason,
            sentence=Sentence(
                en=f"{what.many}{en} with a mean {self.noun.one} of {{value}}",
                zh=f"{zh}{what.zh}平均{self.noun.zh} {{value}}",
                en_missing=f"no {what.many}{en} with a known {self.noun.one}",
                zh_missing=f"{zh}没有已知{self.noun.zh}的{what.zh}",
            ),
        )


@dataclass(frozen=True, kw_only=True)
class DaysSinceLast(_Answered):
    """Days since the event in the window that happened last."""

    measure = Measure.DAYS_SINCE_LAST

    @cached_property
    def meaning(self) -> Meaning:
        """Return what it says."""
        noun, en, zh = self.of.noun, last_en(self.length), last_zh(self.length)
        never = f"no {noun.one}" + (" yet" if self.length is None else en)
        return Meaning(
            name=f"days_since_last_{noun.key_one}{self.suffix}",
            unit="days",
            nan=never,
            group=self.of.reason,
            sentence=Sentence(
                en=f"{{value}} days since the last {noun.one}",
                en_one=f"1 day since the last {noun.one}",
                en_none=f"less than a day since the last {noun.one}",
                zh=f"距上次{noun.zh} {{value}} 天",
                zh_none=f"距上次{noun.zh}不到一天",
                en_missing=never,
                zh_missing=f"尚无{noun.zh}" if self.length is None else f"{zh}没有{noun.zh}",
            ),
        )


@dataclass(frozen=True, kw_only=True)
class DaysSinceFirst(_Answered):
    """Days since the first event of all."""

    measure = Measure.DAYS_SINCE_FIRST

    def __post_init__(self) -> None:
        """Refuse a lookback: the first of a window would move with it."""
        super().__post_init__()
        if self.lookback is not None:
            raise FeatureError("the first event is looked for without a lookback")

    @cached_property
    def meaning(self) -> Meaning:
        """Return what it says."""
        noun = self.of.noun
        return Meaning(
            name=f"days_since_first_{noun.key_one}",
            unit="days",
            nan=f"no {noun.one} yet",
            group=self.of.reason,
            sentence=Sentence(
                en=f"{{value}} days since the first {noun.one}",
                en_one=f"1 day since the first {noun.one}",
                en_none=f"less than a day since the first {noun.one}",
                zh=f"距首次{noun.zh} {{value}} 天",
                zh_none=f"距首次{noun.zh}不到一天",
                en_missing=f"no {noun.one} yet",
                zh_missing=f"尚无{noun.zh}",
            ),
        )


@dataclass(frozen=True, kw_only=True)
class HoursToFirst(DaysSinceFirst):
    """Hours from when the record came to exist to the first event of all; negative if that came before."""

    measure = Measure.FIRST

    @cached_property
    def meaning(self) -> Meaning:
        """Return what it says."""
        noun = self.of.noun
        return Meaning(
            name=f"hours_to_first_{noun.key_one}",
            unit="hours",
            nan=f"no {noun.one} yet",
            group=self.of.reason,
            sentence=Sentence(
                en=f"{{value}} hours to the first {noun.one}",
                en_one=f"1 hour to the first {noun.one}",
                en_none=f"first {noun.one} at once",
                en_negative=f"first {noun.one} {{value}} hours before it was entered",
                en_minus_one=f"first {noun.one} 1 hour before it was entered",
                zh=f"{{value}} 小时后首次{noun.zh}",
                zh_none=f"随即首次{noun.zh}",
                zh_negative=f"录入前 {{value}} 小时首次{noun.zh}",
                en_missing=f"no {noun.one} yet",
                zh_missing=f"尚无{noun.zh}",
            ),
        )

    def compute(self, facts: Facts) -> Column:
        """Return the hours."""
        first = facts.event(self.ask)
        born = facts.records(self.of.via).occurred_at
        happened = facts.linked(self.of.via, self.of.event).occurred_at
        hours: Floats = loops().hours_from(born, happened, first)
        return hours


@dataclass(frozen=True, kw_only=True)
class LastValue(_Answered):
    """A field of the event in the window that happened last."""

    measure = Measure.LAST

    field: str
    noun: Noun = declared(metadata={"words": True})

    def __post_init__(self) -> None:
        """Refuse a field that can be no input, or an instant, whose age is wanted instead."""
        super().__post_init__()
        check_input(self.of.event, self.field)

    @cached_property
    def meaning(self) -> Meaning:
        """Return what it says."""
        noun, zh = self.of.noun, last_zh(self.length)
        return Meaning(
            name=f"last_{noun.key_one}_{self.noun.key_one}{self.suffix}",
            unit=unit_of(self.of.event, self.field),
            nan=f"no {noun.one}, or its {self.noun.one} is not known",
            group=self.of.reason,
            sentence=Sentence(
                en=f"{self.noun.one} of the last {noun.one}: {{value}}",
                zh=f"上次{noun.zh}的{self.noun.zh}：{{value}}",
                choices=choices_of(self.field),
                en_missing=f"no {noun.one}, or its {self.noun.one} is not known",
                zh_missing=f"{zh}没有{noun.zh}，或其{self.noun.zh}未知",
            ),
        )

    def needs(self) -> tuple[Need, ...]:
        """Return what has to be read."""
        return self.of.need(self.field)

    def compute(self, facts: Facts) -> Column:
        """Return the values."""
        versions = facts.linked(self.of.via, self.of.event)
        held = picked(stored_in(versions.columns, self.field), facts.event(self.ask))
        if self.dtype == "category":
            return held
        return as_number(held, _scale(self.of.event, self.field))


@dataclass(frozen=True, kw_only=True)
class MedianGap(_Answered):
    """The median days between successive days with an event: the record's own cadence."""

    measure = Measure.MEDIAN_GAP

    @cached_property
    def meaning(self) -> Meaning:
        """Return what it says."""
        noun, en, zh = self.of.noun, last_en(self.length), last_zh(self.length)
        return Meaning(
            name=f"{noun.key_many}_gap_median_days{self.suffix}",
            unit="days",
            nan=f"fewer than two days with {noun.many}{en}",
            group=self.of.reason,
            sentence=Sentence(
                en=f"{{value}} days between {noun.many} as a rule",
                en_one=f"1 day between {noun.many} as a rule",
                zh=f"平均每 {{value}} 天一{noun.measure}{noun.zh}",
                en_missing=f"too few {noun.many}{en} to tell a rhythm",
                zh_missing=f"{zh}{noun.zh}太少，看不出规律",
            ),
        )


@dataclass(frozen=True, kw_only=True)
class GapRatio(EventFeature):
    """Days since the last event over the median gap between days with events: above 1 is later than usual."""

    @cached_property
    def meaning(self) -> Meaning:
        """Return what it says."""
        noun, en, zh = self.of.noun, last_en(self.length), last_zh(self.length)
        return Meaning(
            name=f"{noun.key_many}_gap_ratio{self.suffix}",
            unit="ratio",
            nan=f"fewer than two days with {noun.many}{en}",
            group=self.of.reason,
            sentence=Sentence(
                en=f"time since the last {noun.one} is {{value}} times their own rhythm",
                en_one=f"time since the last {noun.one} is their own rhythm",
                zh=f"距上次{noun.zh}的时间是自身节奏的 {{value}} 倍",
                en_missing=f"too few {noun.many}{en} to tell a rhythm",
                zh_missing=f"{zh}{noun.zh}太少，看不出规律",
            ),
        )

    @cached_property
    def _both(self) -> tuple[Ask, Ask]:
        last = Ask(self.of.kind, Measure.DAYS_SINCE_LAST)
        return last, Ask(self.of.kind, Measure.MEDIAN_GAP, self.length)

    def asks(self) -> tuple[Ask, ...]:
        """Return what is asked of events."""
        return self._both

    def compute(self, facts: Facts) -> Column:
        """Return the ratios."""
        last, gap = self._both
        return facts.number(last) / facts.number(gap)


def check_summable(event: str, name: str) -> None:
    """Raise FeatureError for a field whose sums would not be exact."""
    check_input(event, name)
    kind = None if name.startswith("custom.") else columns_of(RECORD_TYPES[event])[name].type
    if not isinstance(kind, Money) and (not isinstance(kind, Integer) or name.endswith("_id")):
        raise FeatureError(f"{event}.{name} is neither money nor a whole number and cannot be summed exactly")


def unit_of(record: str, name: str) -> str:
    """Return the unit of a built-in field; refuse instants and days: declare the distance to them."""
    column = columns_of(RECORD_TYPES[record])[name]
    if isinstance(column.type, Money):
        return "currency"
    if isinstance(column.type, Day) or column.type.python_type is not str:
        if column.foreign_keys or column.type.python_type not in (int, float, bool):
            raise FeatureError(f"{record}.{name} is neither a number nor a word")
        return "value"
    return "category"


def as_number(column: Values, scale: int) -> Floats:
    """Return stored numbers as float64, NaN where empty."""
    if column.dtype.kind == "i":
        numbers: Floats = loops().scaled(column.astype(np.int64, copy=False), float(scale))
        return numbers
    given = [np.nan if value is None else value for value in column.tolist()]
    return np.asarray(given, dtype=np.float64) / (scale if column.dtype.kind == "O" else 1)


def _scale(event: str, name: str) -> int:
    return MONEY_SCALE if unit_of(event, name) == "currency" else 1
