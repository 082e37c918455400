"""Features of records of declared types (projects, shops, machines) that are linked to what is asked about.

They are events like orders and tickets: counted, dated, and read by the time rule. Names begin with
`linked_` and the type's name, so that no field of one's own can be called alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from dataclasses import field as declared
from functools import cached_property

import numpy as np
from sqlalchemy.orm import Session

from crm_core.clock import DAY
from crm_core.columns import MONEY_SCALE
from crm_core.errors import FeatureError
from crm_core.fields import FieldDeclaration, FieldKind, Known, list_fields
from crm_core.record_types import list_record_types
from crm_core.records import CustomRecordType
from features.declaration import VIA, Column, Feature, Meaning, Need, reached
from features.event_features import DaysSinceLast, EventCount, EventFeature, Events, as_number
from features.facts import Facts
from features.wording import Noun, Sentence, last_en, last_zh

_LOOKBACKS = ("90d", "365d")


@dataclass(frozen=True, kw_only=True)
class TypeNoun(Noun):
    """What records of a declared type are called; names of features are made of `key`."""

    key: str

    @property
    def key_one(self) -> str:
        """Return the type as it stands in a feature's name."""
        return self.key

    @property
    def key_many(self) -> str:
        """Return the same: labels are free text, and only the type's name lasts."""
        return self.key


@dataclass(frozen=True, kw_only=True)
class LinkedRecords(Events):
    """All records of a declared type that are linked to the record asked about, or to the one in `via`."""

    def __post_init__(self) -> None:
        """Refuse a field that leads nowhere; which types are declared only the store knows."""
        reached(self.record, self.via)
        if self.where:
            raise FeatureError(f"{self.event}: linked records are counted as a whole, got {self.where}")


@dataclass(frozen=True, kw_only=True)
class LastLinkedValue(EventFeature):
    """A custom field of the linked record that came last: a word, a number, or the days until its day."""

    field: str
    kind: FieldKind
    noun: Noun = declared(metadata={"words": True})

    def __post_init__(self) -> None:
        """Refuse references: the id of a record says nothing."""
        super().__post_init__()
        if self.kind is FieldKind.REFERENCE or not self.field.startswith("custom."):
            raise FeatureError(f"{self.of.event}.{self.field} is neither a word, a number nor a day")

    @cached_property
    def meaning(self) -> Meaning:
        """Return what it says."""
        noun, zh, en = self.of.noun, last_zh(self.length), last_en(self.length)
        until = "_days_until" if self._is_time else ""
        value_en, value_zh = ("{value} days ahead", "还有 {value} 天") if self._is_time else ("{value}",) * 2
        return Meaning(
            name=f"last_{noun.key_one}__{self.field.removeprefix('custom.')}{until}{self.suffix}",
            unit=_UNITS.get(self.kind, "value"),
            nan=f"no {noun.one}{en}, or its {self.noun.one} is not known",
            group=self.of.reason,
            sentence=Sentence(
                en=f"{self.noun.one} of the last {noun.one}: {value_en}",
                zh=f"最近一{noun.measure}{noun.zh}的{self.noun.zh}：{value_zh}",
                en_missing=f"no {noun.one}{en}, or its {self.noun.one} is not known",
                zh_missing=f"{zh}没有{noun.zh}，或其{self.noun.zh}未知",
            ),
        )

    @property
    def _is_time(self) -> bool:
        return self.kind in (FieldKind.INSTANT, FieldKind.DAY)

    def needs(self) -> tuple[Need, ...]:
        """Return what has to be read."""
        return self.of.need(self.field)

    def compute(self, facts: Facts) -> Column:
        """Return the values."""
        found = facts.events(self.of)
        newest = found.newest(self.length)
        held = np.full(newest.size, None, dtype=object)
        held[newest >= 0] = found.versions.columns[self.field][newest[newest >= 0]]
        if self.dtype == "category":
            return held
        if self._is_time:
            unit = DAY if self.kind is FieldKind.DAY else 1
            return (as_number(held, 1) * unit - facts.as_of) / DAY
        return as_number(held, 1) / (MONEY_SCALE if self.kind is FieldKind.MONEY else 1)


_UNITS = {
    FieldKind.TEXT: "category",
    FieldKind.CHOICE: "category",
    FieldKind.FLAG: "flag",
    FieldKind.MONEY: "currency",
    FieldKind.INSTANT: "days",
    FieldKind.DAY: "days",
}


def linked_features(session: Session, record: str, *, retired: bool = False) -> Iterator[Feature]:
    """Return the features of `record` over all declared types that are linked to it or to what it names."""
    for kind in list_record_types(session):
        if kind.retired_at is None or retired:
            fields = [
                each
                for each in list_fields(session, kind.name)
                if each.known in (Known.CREATION, Known.HISTORY) and (retired or each.retired_at is None)
            ]
            for via in _ways(record, kind):
                yield from _features_of(_linked(record, via, kind), fields)


def _ways(record: str, kind: CustomRecordType) -> Iterator[str | None]:
    if record in kind.links:
        yield None
    if record == "deal":
        yield from (via for via, owner in VIA.items() if owner in kind.links)


def _linked(record: str, via: str | None, kind: CustomRecordType) -> LinkedRecords:
    english, chinese = kind.label_en, kind.label_zh
    if via is not None:
        english, chinese = f"{english} of the {VIA[via]}", f"客户的{chinese}"
    key = f"linked_{kind.name}" if via is None else f"{VIA[via]}_linked_{kind.name}"
    noun = TypeNoun(one=english, many=f"{english} (records)", zh=chinese, measure="条", key=key)
    return LinkedRecords(record=record, event=kind.name, noun=noun, via=via, group=key)


def _features_of(of: LinkedRecords, fields: Iterable[FieldDeclaration]) -> Iterator[Feature]:
    yield EventCount(of=of)
    yield from (EventCount(of=of, lookback=lookback) for lookback in _LOOKBACKS)
    yield DaysSinceLast(of=of)
    for each in fields:
        if each.kind is not None and each.kind != FieldKind.REFERENCE:
            plain = each.name.removeprefix("custom.").replace("_", " ")
            english = each.label_en or plain
            noun = Noun(one=english, many=english, zh=each.label_zh or english)
            yield LastLinkedValue(of=of, field=each.name, kind=FieldKind(each.kind), noun=noun)
