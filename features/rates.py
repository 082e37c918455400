"""How often records alike came to the wanted outcome, as far as that was known at the question.

Among the records of the same group that could be asked about at least a horizon ago, the share that came to
the outcome within that horizon: whole intervals only, resolved or not. The record asked about never counts.
Small groups are drawn towards the share of all:

    rate = (won in the group + strength * share of all) / (asked in the group + strength)

This is the only way in which an outcome may be looked at: of other records, in the past, through a declared
horizon. Which field tells it is not for the declaration to say, see `features.population.OUTCOMES`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property

import numpy as np
from sqlalchemy import Integer

from crm_core.errors import FeatureError
from crm_core.records import RECORD_TYPES
from crm_core.segments import expand_runs, runs_of
from crm_core.validation import columns_of
from features.compiled import loops
from features.declaration import Column, Meaning, Need, check_input
from features.events import Floats
from features.facts import Facts
from features.field_features import FieldFeature, is_empty
from features.population import ENTRY, OUTCOMES, RECORD, SETTLED
from features.windows import Ints, name_lookback, parse_lookback
from features.wording import Sentence, length_en, length_zh

STRENGTH = 20
"""How many records like all others a group is believed to have had before any of its own."""


@dataclass(frozen=True, kw_only=True)
class HistoricalRate(FieldFeature):
    """The share of other records with the same value of a field that were won, or converted, in time.

    `horizon` is the time in which the outcome had to come; `lookback`, if any, lets only those count whose
    horizon ended in that time before the question. `each` is `record`, asked when it became known, or
    `entry`, asked again whenever the field came to hold another value, as for stages.
    """

    horizon: str | timedelta
    lookback: str | timedelta | None = None
    each: str = RECORD
    strength: int = STRENGTH

    def __post_init__(self) -> None:
        """Refuse records without an outcome, fields that form no groups, and times without a unit."""
        if self.record not in OUTCOMES:
            raise FeatureError(f"a rate of {self.record}s: expected {' or '.join(OUTCOMES)}")
        check_groups(self.record, self.field, self.via)
        if self.each not in (RECORD, ENTRY) or self.strength < 1:
            raise FeatureError(
                f"rate of {self.field}: expected each {RECORD} or {ENTRY} and a strength of at least 1, "
                f"got {self.each!r} and {self.strength}"
            )
        object.__setattr__(self, "horizon", name_lookback(_length("horizon", self.horizon)))
        if self.lookback is not None:
            object.__setattr__(self, "lookback", name_lookback(parse_lookback(self.lookback)))

    @cached_property
    def lengths(self) -> tuple[int, int | None]:
        """Return the horizon and the lookback in microseconds."""
        lookback = None if self.lookback is None else parse_lookback(self.lookback)
        return parse_lookback(self.horizon), lookback

    @cached_property
    def meaning(self) -> Meaning:
        """Return what it says."""
        noun, outcome = self.words, OUTCOMES[self.record]
        rate = "conversion_rate" if self.record == "lead" else "win_rate"
        lately = "" if self.lookback is None else f"_over_{self.lookback}"
        missing = f"{noun.one} not given, or too few {self.record}s known for {self.horizon}"
        within_en, within_zh = length_en(self.lengths[0]), length_zh(self.lengths[0])
        return Meaning(
            name=f"{self.key}_{rate}_{self.horizon}{lately}",
            unit="share",
            nan=missing,
            group=self.key,
            sentence=Sentence(
                en=f"of {self.record}s with this {noun.one}, {{value}} were {outcome.en} within {within_en}",
                en_one=f"of {self.record}s with this {noun.one}, all were {outcome.en} within {within_en}",
                en_none=f"hardly any {self.record} with this {noun.one} was {outcome.en} within {within_en}",
                zh=f"相同{noun.zh}在 {within_zh}内{outcome.zh}的比例为 {{value}}",
                en_missing=f"too few {self.record}s with this {noun.one} known",
                zh_missing=f"尚无相同{noun.zh}的历史{outcome.zh}数据",
            ),
        )

    def needs(self) -> tuple[Need, ...]:
        """Return what has to be read of the record itself; of others, what became of them is counted."""
        return (Need(record=self.record, fields=(self.field,), each=self.each),)

    def compute(self, facts: Facts) -> Column:
        """Return the rates."""
        records, as_of = facts.records(None), facts.as_of
        values = records.values(self.field)
        population = facts.population(self.field, self.each)
        counted = population.counted(*self.lengths)
        code = population.code(values)
        counts = counted.at(code, as_of)
        rate: Floats = loops().rate(
            population.record_id,
            population.group,
            counted.start,
            counted.stop,
            counted.won,
            records.ids,
            code,
            as_of,
            counts,
            self.strength,
        )
        rate[is_empty(values)] = np.nan
        return rate

    def counts(self, facts: Facts) -> dict[str, Ints]:
        """Return how many others were asked and won in the group, and in all: what rates are made of."""
        records, population = facts.records(None), facts.population(self.field, self.each)
        counted, code = population.counted(*self.lengths), population.code(records.values(self.field))
        question, row = expand_runs(*runs_of(population.record_id, records.ids))
        seen = (counted.start[row] <= facts.as_of[question]) & (facts.as_of[question] < counted.stop[row])
        won = seen & (counted.won[row] <= facts.as_of[question])
        alike = population.group[row] == code[question]
        own = {"asked": seen & alike, "won": won & alike, "all_asked": seen, "all_won": won}
        return {
            name: every - np.bincount(question[own[name]], minlength=code.size)
            for name, every in zip(own, counted.at(code, facts.as_of), strict=True)
        }


def check_groups(record: str, field: str, via: str | None) -> None:
    """Raise FeatureError for a field whose values form no groups: numbers, instants, and another record's."""
    if via is not None:
        raise FeatureError(
            f"{record}.{via}: rates are of groups of {record}s themselves, not of what they name"
        )
    check_input(record, field)
    if field.startswith("custom."):
        return
    column = columns_of(RECORD_TYPES[record])[field]
    is_link = isinstance(column.type, Integer) and bool(column.foreign_keys)
    if not is_link and column.type.python_type is not str:
        raise FeatureError(f"{record}.{field} is neither a word nor a link and forms no groups")


def _length(what: str, value: str | timedelta) -> int:
    try:
        length = parse_lookback(value)
    except FeatureError as error:
        raise FeatureError(f"{what}: {error}") from None
    if length < SETTLED:
        raise FeatureError(f"{what}: expected at least a day, got {value!r}")
    return length
