"""More measures of what happened: extremes, different values, shares, trends."""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import field as declared
from datetime import timedelta
from functools import cached_property

import numpy as np

from crm_core.columns import MONEY_SCALE
from crm_core.errors import FeatureError
from crm_core.records import RECORD_TYPES
from crm_core.validation import columns_of
from features.asks import Ask, Measure
from features.declaration import Column, Meaning, Need, check_input
from features.event_features import EventFeature, Events, as_number, unit_of
from features.events import Values, ratio
from features.facts import Facts
from features.windows import Ints, name_lookback, parse_lookback
from features.wording import Noun, Sentence, last_en, last_zh


@dataclass(frozen=True, kw_only=True)
class EventLargest(EventFeature):
    """The largest value of a number over the events in the window."""

    field: str
    noun: Noun = declared(metadata={"words": True})

    def __post_init__(self) -> None:
        """Refuse a field that is no number."""
        super().__post_init__()
        check_input(self.of.event, self.field)
        if self.field.startswith("custom.") or unit_of(self.of.event, self.field) == "category":
            raise FeatureError(f"{self.of.event}.{self.field} is no number and has no largest value")

    @cached_property
    def meaning(self) -> Meaning:
        """Return what it says."""
        return self._extreme("max", "largest", "最大")

    def needs(self) -> tuple[Need, ...]:
        """Return what has to be read."""
        return self.of.need(self.field)

    def compute(self, facts: Facts) -> Column:
        """Return the values."""
        found = facts.events(self.of)
        scale = MONEY_SCALE if self.unit == "currency" else 1
        values = as_number(found.versions.columns[self.field], scale)
        result = np.full(facts.as_of.size, np.nan)
        for question, version in found.pairs(self.length):
            # Empty values come out of fmax and fmin as if they were not there.
            self._keep(result, question, values[version])
        return result

    def _keep(self, result: Column, question: Ints, values: Values) -> None:
        np.fmax.at(result, question, values)

    def _extreme(self, name: str, en: str, zh: str) -> Meaning:
        what, window, window_zh = self.of.noun, last_en(self.length), last_zh(self.length)
        return Meaning(
            name=f"{what.key_many}_{self.noun.key_one}_{name}{self.suffix}",
            unit=unit_of(self.of.event, self.field),
            nan=f"no {self.noun.one} known{window}",
            group=self.of.reason,
            sentence=Sentence(
                en=f"{en} {self.noun.one} of {what.many}{window}: {{value}}",
                zh=f"{window_zh}{what.zh}{zh}{self.noun.zh}：{{value}}",
                en_missing=f"no {what.many}{window} with a known {self.noun.one}",
                zh_missing=f"{window_zh}没有已知{self.noun.zh}的{what.zh}",
            ),
        )


@dataclass(frozen=True, kw_only=True)
class EventSmallest(EventLargest):
    """The smallest value of a number over the events in the window."""

    @cached_property
    def meaning(self) -> Meaning:
        """Return what it says."""
        return self._extreme("min", "smallest", "最小")

    def _keep(self, result: Column, question: Ints, values: Values) -> None:
        np.fmin.at(result, question, values)


@dataclass(frozen=True, kw_only=True)
class EventDistinct(EventFeature):
    """How many different values of a field the events in the window have: contacts engaged, kinds used."""

    field: str
    noun: Noun = declared(metadata={"words": True})

    def __post_init__(self) -> None:
        """Refuse a field that can be no input, and instants, which are all different."""
        super().__post_init__()
        check_input(self.of.event, self.field)
        column = None if self.field.startswith("custom.") else _column(self.of.event, self.field)
        if (
            column is not None
            and not column.foreign_keys
            and unit_of(self.of.event, self.field) != "category"
        ):
            raise FeatureError(f"{self.of.event}.{self.field} is neither a word nor a link to a record")

    @cached_property
    def meaning(self) -> Meaning:
        """Return what it says."""
        what, noun, en, zh = self.of.noun, self.noun, last_en(self.length), last_zh(self.length)
        return Meaning(
            name=f"{what.key_many}_{noun.key_many}_distinct{self.suffix}",
            unit="count",
            nan="never missing",
            group=self.of.reason,
            sentence=Sentence(
                en=f"{{value}} different {noun.many} in {what.many}{en}",
                en_one=f"1 {noun.one} in {what.many}{en}",
                en_none=f"no {noun.one} in {what.many}{en}",
                zh=f"{zh}{what.zh}涉及 {{value}} {noun.measure}{noun.zh}",
                zh_none=f"{zh}{what.zh}没有{noun.zh}",
                en_missing=f"no {noun.one} in {what.many}{en}",
                zh_missing=f"{zh}{what.zh}没有{noun.zh}",
                measure=noun.measure,
            ),
        )

    def needs(self) -> tuple[Need, ...]:
        """Return what has to be read."""
        return self.of.need(self.field)

    @cached_property
    def ask(self) -> Ask:
        """Return the number that is asked for."""
        return Ask(self.of.kind, Measure.DISTINCT, self.length, self.field)

    def compute(self, facts: Facts) -> Column:
        """Return the counts."""
        return facts.number(self.ask)


@dataclass(frozen=True, kw_only=True)
class EventShare(EventFeature):
    """The share of the events in the window that have a property: those that `part` lets in."""

    part: Events

    def __post_init__(self) -> None:
        """Refuse a part that is not among the events it is to be a share of."""
        super().__post_init__()
        whole, part = self.of, self.part
        same = (whole.record, whole.event, whole.via) == (part.record, part.event, part.via)
        wanted = dict(part.where)
        if not same or any(not set(wanted.get(name, ("",))) <= set(kept) for name, kept in whole.where):
            raise FeatureError(f"{part.noun.many} are not all {whole.noun.many} and can be no share of them")

    @cached_property
    def meaning(self) -> Meaning:
        """Return what it says."""
        whole, part, en, zh = self.of.noun, self.part.noun, last_en(self.length), last_zh(self.length)
        return Meaning(
            name=f"{part.key_many}_share_of_{whole.key_many}{self.suffix}",
            unit="share",
            nan=f"no {whole.many}{en}",
            group=self.part.reason,
            sentence=Sentence(
                en=f"{part.many} are {{value}} of the {whole.many}{en}",
                en_one=f"all {whole.many}{en} are {part.many}",
                en_none=f"no {part.many} among the {whole.many}{en}",
                zh=f"{zh}{part.zh}占{whole.zh}的 {{value}}",
                zh_none=f"{zh}{whole.zh}中没有{part.zh}",
                en_missing=f"no {whole.many}{en}",
                zh_missing=f"{zh}没有{whole.zh}",
            ),
        )

    def needs(self) -> tuple[Need, ...]:
        """Return what has to be read."""
        return (*self.of.need(), *self.part.need())

    @cached_property
    def _both(self) -> tuple[Ask, Ask]:
        part, whole = (Ask(kind, Measure.COUNT, self.length) for kind in (self.part.kind, self.of.kind))
        return part, whole

    def asks(self) -> tuple[Ask, ...]:
        """Return what is asked of events."""
        return self._both

    def compute(self, facts: Facts) -> Column:
        """Return the shares."""
        part, whole = self._both
        return ratio(facts.number(part), facts.number(whole))


@dataclass(frozen=True, kw_only=True)
class EventTrend(EventFeature):
    """How many more events the window holds than is usual for one so long in the time `before` it.

    With equal lengths it is a difference of two counts; another time before is scaled to the window's.
    """

    before: str | timedelta | None = None

    def __post_init__(self) -> None:
        """Refuse windows without a unit or a length; without `before`, both are equally long."""
        super().__post_init__()
        if self.lookback is None:
            raise FeatureError(f"a trend of {self.of.noun.many} needs a lookback with a unit, as '30d'")
        length = parse_lookback(self.lookback if self.before is None else self.before)
        object.__setattr__(self, "before", name_lookback(length))

    @cached_property
    def lengths(self) -> tuple[int, int]:
        """Return the window and the time before it, in microseconds."""
        return parse_lookback(self.lookback or ""), parse_lookback(self.before or "")

    @property
    def reach(self) -> int:
        """Return how far back it looks, in microseconds."""
        return sum(self.lengths)

    @cached_property
    def meaning(self) -> Meaning:
        """Return what it says."""
        noun = self.of.noun
        (_, before), window = self.lengths, name_lookback(self.lengths[0])
        en = f"{last_en(self.length)} than in the {last_en(before).removeprefix(' in the last ')} before"
        zh = f"{last_zh(self.length)}{noun.zh}比此前 {last_zh(before).removeprefix('近 ')}"
        return Meaning(
            name=f"{noun.key_many}_trend_{window}_vs_{name_lookback(before)}_before",
            unit="value",
            nan="never missing",
            group=self.of.reason,
            sentence=Sentence(
                en=f"{{value}} more {noun.many}{en}",
                en_one=f"1 more {noun.one}{en}",
                en_negative=f"{{value}} fewer {noun.many}{en}",
                en_minus_one=f"1 {noun.one} fewer{en}",
                en_none=f"as many {noun.many}{en.replace(' than in', ' as in')}",
                zh=f"{zh}多 {{value}} {noun.measure}",
                zh_negative=f"{zh}少 {{value}} {noun.measure}",
                zh_none=f"{zh}持平",
                en_missing=f"no {noun.many}",
                zh_missing=f"没有{noun.zh}",
                compared=False,
            ),
        )

    def compute(self, facts: Facts) -> Column:
        """Return the differences."""
        found = facts.events(self.of)
        length, before = self.lengths
        lately = found.count(length)
        earlier = found.count(length + before) - lately
        hours = np.gcd(length, before)
        more = lately * (before // hours) - earlier * (length // hours)
        return np.asarray(more / (before // hours), dtype=np.float64)


def _column(record: str, name: str):  # type: ignore[no-untyped-def]  # noqa: ANN202  a Column of SQLAlchemy
    return columns_of(RECORD_TYPES[record])[name]
