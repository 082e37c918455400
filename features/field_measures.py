"""More measures of what a record's fields held: time in a state, whether a field is filled, growth."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property

import numpy as np

from crm_core.clock import DAY
from crm_core.columns import Json
from crm_core.errors import FeatureError
from crm_core.pipelines import PIPELINES
from crm_core.records import RECORD_TYPES
from crm_core.validation import CHOICES, columns_of
from features.choices import choices_of, read_as
from features.declaration import Column, Meaning
from features.event_features import as_number, unit_of
from features.events import AskedEvents, Values
from features.facts import Facts
from features.field_features import FieldFeature, is_empty, starts
from features.windows import Ints, name_lookback, parse_lookback
from features.wording import Sentence, last_en, last_zh

FREE_MAIL = (
    "126", "139", "163", "aliyun", "aol", "foxmail", "gmail", "gmx", "googlemail", "hotmail", "icloud",
    "live", "msn", "outlook", "proton", "protonmail", "qq", "sina", "sohu", "uol", "yahoo", "yandex", "yeah",
)  # fmt: skip
"""First labels of the hosts of providers that give mailboxes to anybody: gmail.com, yahoo.co.uk, qq.com."""


@dataclass(frozen=True, kw_only=True)
class DaysHeld(FieldFeature):
    """Days for which a field held a word: within the lookback, or since the record exists."""

    value: str
    lookback: str | timedelta | None = None

    def __post_init__(self) -> None:
        """Refuse a number, a word that the field cannot hold, and a lookback without a unit."""
        super().__post_init__()
        if not self.field.startswith("custom.") and unit_of(self.owner, self.field) != "category":
            raise FeatureError(f"{self.owner}.{self.field} holds no word: there is no state to be in")
        choices = _words(self.owner, self.field)
        if choices and self.value not in choices:
            raise FeatureError(f"{self.owner}.{self.field} holds no {self.value!r}")
        if self.lookback is not None:
            object.__setattr__(self, "lookback", name_lookback(parse_lookback(self.lookback)))

    @cached_property
    def length(self) -> int | None:
        """Return the lookback in microseconds."""
        return None if self.lookback is None else parse_lookback(self.lookback)

    @cached_property
    def meaning(self) -> Meaning:
        """Return what it says."""
        noun, en, zh = self.words, last_en(self.length), last_zh(self.length)
        suffix = "" if self.lookback is None else f"_{self.lookback}"
        word_en, word_zh = (read_as(self.value, choices_of(self.field), each) for each in ("en", "zh"))
        return Meaning(
            name=f"{self.key}_{self.value.replace(' ', '_')}_days{suffix}",
            unit="days",
            nan="never missing" if self.via is None else "no such record",
            group=self.key,
            sentence=Sentence(
                en=f"{{value}} days with {noun.one} {word_en}{en}",
                en_one=f"1 day with {noun.one} {word_en}{en}",
                en_none=f"hardly ever {noun.one} {word_en}{en}",
                zh=f"{zh}{noun.zh}为{word_zh}共 {{value}} 天",
                zh_none=f"{zh}{noun.zh}几乎从未为{word_zh}",
                en_missing=f"{noun.one} not known",
                zh_missing=f"{noun.zh}未知",
            ),
        )

    def compute(self, facts: Facts) -> Column:
        """Return the days."""
        records, changes = facts.records(self.via), facts.changes(self.via, self.field)
        begin = records.occurred_at
        if self.length is not None:
            begin = np.maximum(begin, facts.as_of - self.length)
        begin = np.minimum(begin, facts.as_of)
        spent = np.where(_equal(records.values(self.field), self.value), facts.as_of - begin, 0)
        changed = changes.count() > 0
        spent[changed] = self._spent(changes, begin, facts.as_of)[changed]
        return np.where(records.known, spent / DAY, np.nan)

    def _spent(self, changes: AskedEvents, begin: Ints, as_of: Ints) -> Ints:
        """Return the microseconds in the state of those whose field is known to have changed."""
        spent = np.zeros(as_of.size, dtype=np.int64)
        new, first = changes.versions.columns["new"], changes.versions.columns["first"]
        happened = changes.versions.occurred_at
        for question, change in changes.pairs():
            fresh = starts(question)
            since = np.where(fresh, begin[question], np.roll(happened[change], 1))
            before = np.where(fresh, first[change], np.roll(new[change], 1))
            _add(spent, question, since, happened[change], begin, _equal(before, self.value))
            last = np.roll(fresh, -1)
            _add(
                spent,
                question[last],
                happened[change][last],
                as_of[question[last]],
                begin,
                _equal(new[change][last], self.value),
            )
        return spent


@dataclass(frozen=True, kw_only=True)
class Filled(FieldFeature):
    """Whether a field was filled in: 1 or 0."""

    @cached_property
    def meaning(self) -> Meaning:
        """Return what it says."""
        noun = self.words
        return Meaning(
            name=f"has_{self.key}",
            unit="flag",
            nan="never missing" if self.via is None else "no such record",
            group=f"has_{self.key}",
            sentence=Sentence(
                en=f"{noun.one} given",
                en_none=f"no {noun.one}",
                zh=f"已填写{noun.zh}",
                zh_none=f"未填写{noun.zh}",
                en_missing=f"{noun.one} not known",
                zh_missing=f"{noun.zh}未知",
            ),
        )

    def compute(self, facts: Facts) -> Column:
        """Return the flags."""
        records = facts.records(self.via)
        filled = 1.0 - is_empty(records.values(self.field)).astype(np.float64)
        return np.where(records.known, filled, np.nan)


@dataclass(frozen=True, kw_only=True)
class FreeMail(FieldFeature):
    """Whether a mail address is one that anybody gets, rather than a company's own: 1 or 0."""

    field: str = "email"
    providers: tuple[str, ...] = FREE_MAIL

    @cached_property
    def meaning(self) -> Meaning:
        """Return what it says."""
        noun = self.words
        return Meaning(
            name=f"{self.key}_is_free",
            unit="flag",
            nan=f"{noun.one} not given",
            group=f"has_{self.key}",
            sentence=Sentence(
                en=f"{noun.one} with a free provider",
                en_none=f"{noun.one} of a company of its own",
                zh=f"{noun.zh}为免费邮箱",
                zh_none=f"{noun.zh}为企业邮箱",
                en_missing=f"{noun.one} not given",
                zh_missing=f"未填写{noun.zh}",
            ),
        )

    def compute(self, facts: Facts) -> Column:
        """Return the flags."""
        values = facts.records(self.via).values(self.field).tolist()
        free = frozenset(self.providers)
        return np.array([_is_free(value, free) for value in values], dtype=np.float64)


@dataclass(frozen=True, kw_only=True)
class ListLength(FieldFeature):
    """How many entries a field that holds a list had: competitors named."""

    def __post_init__(self) -> None:
        """Refuse a field that holds no list."""
        super().__post_init__()
        column = columns_of(RECORD_TYPES[self.owner]).get(self.field)
        if column is None or not isinstance(column.type, Json):
            raise FeatureError(f"{self.owner}.{self.field} holds no list")

    @cached_property
    def meaning(self) -> Meaning:
        """Return what it says."""
        noun = self.words
        return Meaning(
            name=f"{self.key}_count",
            unit="count",
            nan="never missing",
            group=self.key,
            sentence=Sentence(
                en=f"{{value}} {noun.many}",
                en_one=f"1 {noun.one}",
                en_none=f"no {noun.one} known",
                zh=f"{{value}} {noun.measure}{noun.zh}",
                zh_none=f"没有已知{noun.zh}",
                en_missing=f"no {noun.one} known",
                zh_missing=f"没有已知{noun.zh}",
                measure=noun.measure,
            ),
        )

    def compute(self, facts: Facts) -> Column:
        """Return the counts."""
        values = facts.records(self.via).values(self.field).tolist()
        return np.array([len(value) if value else 0 for value in values], dtype=np.float64)


@dataclass(frozen=True, kw_only=True)
class Growth(FieldFeature):
    """What a number is over what it was at first: 1 is unchanged, below 1 is less."""

    def __post_init__(self) -> None:
        """Refuse a field that holds no number."""
        super().__post_init__()
        if self.field.startswith("custom.") or unit_of(self.owner, self.field) == "category":
            raise FeatureError(f"{self.owner}.{self.field} is no number and cannot grow")

    @cached_property
    def meaning(self) -> Meaning:
        """Return what it says."""
        noun = self.words
        return Meaning(
            name=f"{self.key}_growth",
            unit="ratio",
            nan=f"{noun.one} not given, or nothing at first",
            group=self.key,
            sentence=Sentence(
                en=f"{noun.one} {{value}} times what it was at first",
                en_one=f"{noun.one} as at first",
                zh=f"{noun.zh}为最初的 {{value}} 倍",
                compared=False,
                en_missing=f"{noun.one} not given at first",
                zh_missing=f"最初未填写{noun.zh}",
            ),
        )

    def compute(self, facts: Facts) -> Column:
        """Return the ratios."""
        now = as_number(facts.records(self.via).values(self.field), 1)
        changes = facts.changes(self.via, self.field)
        first = now.copy()
        for question, change in changes.pairs():
            first[question] = as_number(changes.versions.columns["first"], 1)[change]
        ratio = np.full(now.size, np.nan)
        np.divide(now, first, out=ratio, where=first > 0)
        return ratio


def _words(record: str, field: str) -> frozenset[str]:
    """Return the words that a field can hold; none for a field that holds any."""
    if (record, field) == ("deal", "stage"):
        return frozenset(stage.key for stages in PIPELINES.values() for stage in stages)
    return frozenset(CHOICES.get((record, field)) or ())


def _equal(values: Values, word: str) -> Values:
    return np.fromiter((value == word for value in values.tolist()), dtype=np.bool_, count=values.size)


def _add(spent: Ints, question: Ints, since: Ints, until: Ints, begin: Ints, held: Values) -> None:
    """Add to each question the part of [since, until) after it begins, where the state was held."""
    length = np.maximum(until, begin[question]) - np.maximum(since, begin[question])
    np.add.at(spent, question[held], np.maximum(length, 0)[held])


def _is_free(address: str | None, providers: frozenset[str]) -> float:
    if not address or "@" not in address:
        return np.nan
    host = address.rpartition("@")[2].strip().lower()
    return float(host.partition(".")[0] in providers)
