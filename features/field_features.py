"""Features of what a record's fields held at the question, and of how they came to hold it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from dataclasses import field as declared
from datetime import timedelta
from functools import cache, cached_property

import numpy as np

from crm_core.arrays import NO_INSTANT
from crm_core.clock import DAY
from crm_core.columns import MONEY_SCALE, Day, Instant
from crm_core.errors import FeatureError
from crm_core.fields import FieldKind
from crm_core.pipelines import PIPELINES, Stage
from crm_core.records import RECORD_TYPES
from crm_core.validation import columns_of
from features.choices import Choices, choices_of
from features.compiled import loops
from features.declaration import Column, Feature, Meaning, Need, check_input, reached
from features.event_features import as_number, unit_of
from features.events import Floats, Values
from features.facts import Facts
from features.windows import Flags, Ints, name_lookback, parse_lookback
from features.wording import Noun, Sentence, last_en, last_zh


@dataclass(frozen=True, kw_only=True)
class FieldFeature(Feature):
    """A feature of one field of the record asked about, or of the record it names in `via`."""

    field: str
    via: str | None = None
    noun: Noun | None = declared(default=None, metadata={"words": True})

    def __post_init__(self) -> None:
        """Refuse a field that can be no input."""
        check_input(reached(self.record, self.via), self.field)

    @property
    def owner(self) -> str:
        """Return the type of the record that has the field."""
        return reached(self.record, self.via)

    @property
    def key(self) -> str:
        """Return the field as it stands in names."""
        plain = self.field.replace("custom.", "custom_")
        if plain == self.field:
            plain = plain.removesuffix("_id").removesuffix("_on")
        if self.via is None:
            return plain
        way = "_".join(step.removesuffix("_id") for step in self.via.split("."))
        return way if plain == "name" else f"{way}_{plain}"

    @property
    def words(self) -> Noun:
        """Return what the field is called; without a noun, its own name."""
        plain = self.key.replace("_", " ")
        return self.noun or Noun(one=plain, many=plain, zh=plain)

    def needs(self) -> tuple[Need, ...]:
        """Return what has to be read."""
        return (Need(record=self.record, via=self.via, fields=(self.field,)),)


@dataclass(frozen=True, kw_only=True)
class FieldValue(FieldFeature):
    """What a field held: a word or a number. `kind` is that of a custom field.

    `labels` are the words of a choice field with what they are called in English and Chinese.
    """

    kind: FieldKind | None = None
    labels: tuple[tuple[str, str, str], ...] = declared(default=(), metadata={"words": True})

    def __post_init__(self) -> None:
        """Refuse a field that holds neither a word nor a number."""
        super().__post_init__()
        if self.field.startswith("custom.") != (self.kind is not None):
            raise FeatureError(
                f"{self.record}.{self.field}: a custom field, and only such, is declared with a kind"
            )
        if self.kind in (FieldKind.INSTANT, FieldKind.DAY):
            raise FeatureError(f"{self.record}.{self.field} is an instant: declare the days until it")
        _ = self.meaning

    @cached_property
    def meaning(self) -> Meaning:
        """Return what it says."""
        noun = self.words
        return Meaning(
            name=self.key,
            unit=self._unit(),
            nan=f"{noun.one} not given",
            group=self.key,
            sentence=Sentence(
                en=f"{noun.one}: {{value}}",
                zh=f"{noun.zh}：{{value}}",
                en_missing=f"{noun.one} not given",
                zh_missing=f"未填写{noun.zh}",
                choices=self._choices(),
            ),
        )

    def compute(self, facts: Facts) -> Column:
        """Return the values."""
        values = facts.records(self.via).values(self.field)
        if self.dtype == "category":
            return values
        return as_number(values, MONEY_SCALE if self.unit == "currency" else 1)

    def _choices(self) -> Choices:
        """Return how the words of the field are read: by their labels, where the company declared some."""
        return {word: (en, zh) for word, en, zh in self.labels} or (
            choices_of(self.field) if self.kind is None else {}
        )

    def _unit(self) -> str:
        if self.kind is None:
            return unit_of(self.owner, self.field)
        words = (FieldKind.TEXT, FieldKind.CHOICE)
        units = {**dict.fromkeys(words, "category"), FieldKind.FLAG: "flag", FieldKind.MONEY: "currency"}
        return units.get(self.kind, "value")


@dataclass(frozen=True, kw_only=True)
class DaysUntil(FieldFeature):
    """Days from the question to the day or instant that a field held; negative once it has passed."""

    kind: FieldKind | None = None

    def __post_init__(self) -> None:
        """Refuse a field that holds no day and no instant."""
        super().__post_init__()
        custom = self.kind in (FieldKind.INSTANT, FieldKind.DAY)
        if not custom and not _is_time(self.owner, self.field):
            raise FeatureError(f"{self.owner}.{self.field} holds no day and no instant")

    @cached_property
    def meaning(self) -> Meaning:
        """Return what it says."""
        noun = self.words
        return Meaning(
            name=f"days_until_{self.key}",
            unit="days",
            nan=f"{noun.one} not given",
            group=self.key,
            sentence=Sentence(
                en=f"{{value}} days until the {noun.one}",
                en_one=f"1 day until the {noun.one}",
                en_none=f"{noun.one} today",
                en_negative=f"{noun.one} passed {{value}} days ago",
                en_minus_one=f"{noun.one} passed 1 day ago",
                zh=f"距{noun.zh} {{value}} 天",
                zh_none=f"{noun.zh}就在今天",
                zh_negative=f"{noun.zh}已过 {{value}} 天",
                en_missing=f"{noun.one} not given",
                zh_missing=f"未填写{noun.zh}",
            ),
        )

    def compute(self, facts: Facts) -> Column:
        """Return the days."""
        held = facts.records(self.via).values(self.field)
        if held.dtype.kind == "i":
            return days_between(facts.as_of, held)
        unit = DAY if self.kind is FieldKind.DAY else 1
        return (as_number(held, 1) * unit - facts.as_of) / DAY


@dataclass(frozen=True, kw_only=True)
class FieldAge(FieldFeature):
    """Days for which a field has held what it held, since the record exists if it never changed."""

    @cached_property
    def meaning(self) -> Meaning:
        """Return what it says."""
        noun = self.words
        return Meaning(
            name=f"{self.key}_age_days",
            unit="days",
            nan="never missing" if self.via is None else "no such record",
            group=self.key,
            sentence=Sentence(
                en=f"{noun.one} unchanged for {{value}} days",
                en_one=f"{noun.one} unchanged for 1 day",
                en_none=f"{noun.one} unchanged for less than a day",
                zh=f"{noun.zh}已有 {{value}} 天未变",
                zh_none=f"{noun.zh}不到一天前才变更",
                en_missing=f"{noun.one} not known",
                zh_missing=f"{noun.zh}未知",
            ),
        )

    def compute(self, facts: Facts) -> Column:
        """Return the days."""
        return _age(facts, self.via, self.field)


@dataclass(frozen=True, kw_only=True)
class DaysSinceChange(FieldFeature):
    """Days since a field came to hold what it held."""

    @cached_property
    def meaning(self) -> Meaning:
        """Return what it says."""
        noun = self.words
        return Meaning(
            name=f"days_since_{self.key}_change",
            unit="days",
            nan=f"{noun.one} never changed",
            group=self.key,
            sentence=Sentence(
                en=f"{noun.one} changed {{value}} days ago",
                en_one=f"{noun.one} changed 1 day ago",
                en_none=f"{noun.one} changed less than a day ago",
                zh=f"{noun.zh}在 {{value}} 天前变更",
                zh_none=f"{noun.zh}不到一天前变更",
                en_missing=f"{noun.one} never changed",
                zh_missing=f"{noun.zh}从未变更",
            ),
        )

    def compute(self, facts: Facts) -> Column:
        """Return the days."""
        changed = facts.records(self.via).changed_at(self.field)
        return days_between(changed, facts.as_of)


@dataclass(frozen=True, kw_only=True)
class ChangesCount(FieldFeature):
    """How often a field changed."""

    lookback: str | timedelta | None = None

    def __post_init__(self) -> None:
        """Refuse a lookback without a unit."""
        super().__post_init__()
        if self.lookback is not None:
            object.__setattr__(self, "lookback", name_lookback(parse_lookback(self.lookback)))

    @cached_property
    def length(self) -> int | None:
        """Return the lookback in microseconds."""
        return None if self.lookback is None else parse_lookback(self.lookback)

    @cached_property
    def meaning(self) -> Meaning:
        """Return what it says."""
        suffix = "" if self.lookback is None else f"_{self.lookback}"
        return self._counted(f"{self.key}_changes_count{suffix}", "changed", "变更")

    def compute(self, facts: Facts) -> Column:
        """Return the counts."""
        found = facts.changes(self.via, self.field)
        count = np.zeros(facts.as_of.size)
        if found.versions.key.size == 0:
            return count
        first, new = found.versions.columns["first"], found.versions.columns["new"]
        for question, change, earlier in found.steps(self.length):
            # A change replaced what was known before it: the log's own `old` may itself be known only later.
            before = np.where(earlier < 0, first[change], new[earlier])
            counts = np.asarray(self.counts(before, new[change]), dtype=np.bool_)
            loops().tally(count, question, counts)
        return count

    def counts(self, old: Values, new: Values) -> Values:
        """Tell which steps from one known value to the next count."""
        return np.asarray(old != new)

    def _counted(self, name: str, verb_en: str, verb_zh: str) -> Meaning:
        noun, en, zh = self.words, last_en(self.length), last_zh(self.length)
        never_en, never_zh = f"{noun.one} not {verb_en}{en}", f"{zh}{noun.zh}没有{verb_zh}"
        if self.length is None:
            never_en, never_zh = f"{noun.one} never {verb_en}", f"{noun.zh}从未{verb_zh}"
        return Meaning(
            name=name,
            unit="count",
            nan="never missing",
            group=self.key,
            sentence=Sentence(
                en=f"{noun.one} {verb_en} {{value}} times{en}",
                en_one=f"{noun.one} {verb_en} once{en}",
                en_none=never_en,
                zh=f"{zh}{noun.zh}{verb_zh} {{value}} 次",
                zh_none=never_zh,
                en_missing=never_en,
                zh_missing=never_zh,
                measure="次",
            ),
        )


@dataclass(frozen=True, kw_only=True)
class PushesCount(ChangesCount):
    """How often a day was put off: changes to a later one."""

    def __post_init__(self) -> None:
        """Refuse a field that holds no day and no instant."""
        super().__post_init__()
        if not _is_time(self.owner, self.field):
            raise FeatureError(f"{self.owner}.{self.field} holds no day and no instant that could be put off")

    @cached_property
    def meaning(self) -> Meaning:
        """Return what it says."""
        suffix = "" if self.lookback is None else f"_{self.lookback}"
        return self._counted(f"{self.key}_pushes_count{suffix}", "put off", "推迟")

    def counts(self, old: Values, new: Values) -> Values:
        """Tell which steps lead to a later day."""
        return np.asarray((old != NO_INSTANT) & (new > old))


@dataclass(frozen=True, kw_only=True)
class AgeDays(Feature):
    """Days since the record came to exist."""

    noun: Noun = declared(metadata={"words": True})

    @cached_property
    def meaning(self) -> Meaning:
        """Return what it says."""
        return Meaning(
            name="age_days",
            unit="days",
            nan="never missing",
            group="age",
            sentence=Sentence(
                en=f"{self.noun.one} {{value}} days old",
                en_one=f"{self.noun.one} 1 day old",
                en_none=f"{self.noun.one} less than a day old",
                zh=f"{self.noun.zh}建档已有 {{value}} 天",
                zh_none=f"{self.noun.zh}建档不到一天",
                compared=False,
                en_missing=f"age of the {self.noun.one} not known",
                zh_missing=f"{self.noun.zh}时长未知",
            ),
        )

    def needs(self) -> tuple[Need, ...]:
        """Return what has to be read: nothing that is not read anyway."""
        return ()

    def compute(self, facts: Facts) -> Column:
        """Return the days."""
        return (facts.as_of - facts.records(None).occurred_at) / DAY


@dataclass(frozen=True, kw_only=True)
class MissingCount(Feature):
    """How many of some fields were empty."""

    fields: tuple[str, ...]

    def __post_init__(self) -> None:
        """Refuse a field that can be no input."""
        for field in self.fields:
            check_input(self.record, field)

    @cached_property
    def meaning(self) -> Meaning:
        """Return what it says."""
        return Meaning(
            name="missing_fields_count",
            unit="count",
            nan="never missing",
            group="missing_fields",
            sentence=Sentence(
                en="{value} fields left empty",
                en_one="1 field left empty",
                en_none="no field left empty",
                zh="{value} 个字段留空",
                zh_none="没有字段留空",
                en_missing="fields not known",
                zh_missing="字段未知",
                measure="个",
            ),
        )

    def needs(self) -> tuple[Need, ...]:
        """Return what has to be read."""
        return (Need(record=self.record, fields=self.fields),)

    def compute(self, facts: Facts) -> Column:
        """Return the counts."""
        records = facts.records(None)
        empty = [is_empty(records.values(field)) for field in self.fields]
        count: Floats = np.array(empty).reshape(len(empty), facts.as_of.size).sum(axis=0, dtype=np.float64)
        return count

    def without_fields(self, unusable: frozenset[str]) -> Feature | None:
        """Return the count of the fields that are left."""
        left = tuple(field for field in self.fields if f"{self.record}.{field}" not in unusable)
        return replace(self, fields=left) if left else None


@dataclass(frozen=True, kw_only=True)
class Season(Feature):
    """The month of the question (UTC) on a circle: `part` is "sin" or "cos"."""

    part: str

    def __post_init__(self) -> None:
        """Refuse another part."""
        if self.part not in {"sin", "cos"}:
            raise FeatureError(f"season: expected part sin or cos, got {self.part!r}")

    @cached_property
    def meaning(self) -> Meaning:
        """Return what it says."""
        return Meaning(
            name=f"month_{self.part}",
            unit="value",
            nan="never missing",
            group="season",
            sentence=Sentence(
                en="the time of the year",
                zh="所处季节",
                en_missing="time not known",
                zh_missing="时间未知",
                compared=False,
            ),
        )

    def needs(self) -> tuple[Need, ...]:
        """Return what has to be read: nothing."""
        return ()

    def compute(self, facts: Facts) -> Column:
        """Return the coordinate."""
        return _TURNS[self.part][facts.months % 12]


@dataclass(frozen=True, kw_only=True)
class StageIndex(Feature):
    """How far along its pipeline the deal was: 0 is the first stage."""

    record: str = "deal"

    @cached_property
    def meaning(self) -> Meaning:
        """Return what it says."""
        return Meaning(
            name="stage_index",
            unit="count",
            nan="a stage that its pipeline does not have",
            group="stage",
            sentence=Sentence(
                en="{value} stages passed",
                en_one="1 stage passed",
                en_none="in the first stage",
                zh="已过 {value} 个阶段",
                zh_none="处于首个阶段",
                en_missing="stage not in its pipeline",
                zh_missing="阶段不在流程中",
                compared=False,
            ),
        )

    def needs(self) -> tuple[Need, ...]:
        """Return what has to be read."""
        return (Need(record="deal", fields=("pipeline", "stage")),)

    def compute(self, facts: Facts) -> Column:
        """Return the positions."""
        return _per_stage(facts, {key: float(index) for key, (index, _) in _stages().items()})


@dataclass(frozen=True, kw_only=True)
class StageAgeRatio(Feature):
    """Days in the stage over the days after which a deal counts as stuck there."""

    record: str = "deal"

    @cached_property
    def meaning(self) -> Meaning:
        """Return what it says."""
        return Meaning(
            name="stage_age_ratio",
            unit="ratio",
            nan="a stage that its pipeline does not have",
            group="stage",
            sentence=Sentence(
                en="in this stage for {value} times its time limit",
                en_one="in this stage for as long as its time limit",
                en_none="new in this stage",
                zh="停留时间为该阶段限期的 {value} 倍",
                zh_none="刚进入该阶段",
                en_missing="stage not in its pipeline",
                zh_missing="阶段不在流程中",
            ),
        )

    def needs(self) -> tuple[Need, ...]:
        """Return what has to be read."""
        return (Need(record="deal", fields=("pipeline", "stage")),)

    def compute(self, facts: Facts) -> Column:
        """Return the ratios."""
        limit = _per_stage(facts, {key: float(stage.rotting_days) for key, (_, stage) in _stages().items()})
        return _age(facts, None, "stage") / limit


@dataclass(frozen=True, kw_only=True)
class StageMovesBack(ChangesCount):
    """How often the deal was moved to an earlier stage of a pipeline."""

    record: str = "deal"
    field: str = "stage"

    @cached_property
    def meaning(self) -> Meaning:
        """Return what it says."""
        suffix = "" if self.lookback is None else f"_{self.lookback}"
        return self._counted(f"stage_moves_back_count{suffix}", "moved back", "倒退")

    def counts(self, old: Values, new: Values) -> Values:
        """Tell which steps lead to an earlier stage of a pipeline that has both."""
        pairs = list(zip(old.tolist(), new.tolist(), strict=True))
        back = {pair: _is_back(*pair) for pair in set(pairs)}
        return np.array([back[pair] for pair in pairs], dtype=np.bool_)


def starts(question: Ints) -> Flags:
    """Tell where the pairs of a question begin."""
    fresh = np.ones(question.size, dtype=np.bool_)
    fresh[1:] = question[1:] != question[:-1]
    return fresh


def _age(facts: Facts, via: str | None, field: str) -> Floats:
    return days_between(facts.records(via).held_since(field), facts.as_of)


def _per_stage(facts: Facts, value: dict[tuple[str, str], float]) -> Floats:
    records = facts.records(None)
    pairs = zip(records.values("pipeline").tolist(), records.values("stage").tolist(), strict=True)
    return np.array([value.get(pair, math.nan) for pair in pairs], dtype=np.float64)


@cache
def _stages() -> dict[tuple[str, str], tuple[int, Stage]]:
    return {
        (pipeline, stage.key): (index, stage)
        for pipeline, stages in PIPELINES.items()
        for index, stage in enumerate(stages)
    }


@cache
def _is_back(old: str | None, new: str | None) -> bool:
    orders = ([stage.key for stage in stages] for stages in PIPELINES.values())
    return any(old in order and new in order and order.index(new) < order.index(old) for order in orders)


def _is_time(record: str, field: str) -> bool:
    column = columns_of(RECORD_TYPES[record]).get(field)
    return column is not None and isinstance(column.type, Day | Instant)


def days_between(since: Ints, until: Ints) -> Floats:
    """Return the days from one instant to another; NaN where one is not known."""
    days: Floats = loops().days_between(since, until)
    return days


def is_empty(values: Values) -> Values:
    """Tell which values are empty, in whatever form they are held."""
    if values.dtype.kind == "i":
        return np.asarray(values == NO_INSTANT)
    if values.dtype.kind == "f":
        return np.isnan(values)
    return np.array([value is None or value == "" for value in values.tolist()], dtype=np.bool_)


_TURNS = {
    # Twelve values from one table: a vector's sine may differ in its last bit from that of one number.
    part: np.array([turn(2 * math.pi * month / 12) for month in range(12)])
    for part, turn in (("sin", math.sin), ("cos", math.cos))
}
