"""How long a record has been in a state against how long others were: a stage against its norm."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property

import numpy as np

from crm_core.clock import DAY
from crm_core.errors import FeatureError
from features.declaration import Column, Meaning, Need
from features.events import Floats
from features.facts import Facts
from features.field_features import FieldAge, FieldFeature
from features.population import ENTRY, OUTCOMES, Population
from features.rates import STRENGTH, check_groups
from features.windows import Ints, name_lookback, parse_lookback
from features.wording import Sentence


@dataclass(frozen=True, kw_only=True)
class AgeAgainstNorm(FieldFeature):
    """Days for which a field has held what it held, over the median of those that others held it for.

    Counted are all stays that began at least `within` before the month of the question; one that went on for
    longer counts as that long, whether it is over or not. So stays that are not over are not left out, which
    would show the norm too short, and the median is right as long as it is below `within`.
    """

    within: str | timedelta = "90d"

    def __post_init__(self) -> None:
        """Refuse records that do not close, fields that hold no states, and a length without a unit."""
        if self.record not in OUTCOMES:
            raise FeatureError(f"a norm of {self.record}s: expected {' or '.join(OUTCOMES)}")
        check_groups(self.record, self.field, self.via)
        object.__setattr__(self, "within", name_lookback(parse_lookback(self.within)))

    @cached_property
    def meaning(self) -> Meaning:
        """Return what it says."""
        noun = self.words
        missing = f"{noun.one} not given, or too few {self.record}s had it"
        return Meaning(
            name=f"{self.key}_age_against_norm_{self.within}",
            unit="ratio",
            nan=missing,
            group=self.key,
            sentence=Sentence(
                en=f"{noun.one} unchanged for {{value}} times its norm",
                en_one=f"{noun.one} unchanged for as long as its norm",
                en_none=f"{noun.one} changed just now",
                zh=f"{noun.zh}停留时间为常态的 {{value}} 倍",
                zh_none=f"{noun.zh}刚刚变更",
                compared=False,
                en_missing=missing,
                zh_missing=f"{noun.zh}的通常停留时间未知",
            ),
        )

    def needs(self) -> tuple[Need, ...]:
        """Return what has to be read of the record itself; of others, how long they stayed is looked at."""
        return (Need(record=self.record, fields=(self.field,), each=ENTRY),)

    def compute(self, facts: Facts) -> Column:
        """Return the ratios."""
        population = facts.population(self.field, ENTRY)
        code = population.code(facts.records(None).values(self.field))
        month = facts.as_of.astype("datetime64[us]").astype("datetime64[M]").astype("datetime64[us]")
        asked = np.stack((code, month.astype(np.int64)))
        pairs, which = np.unique(asked, axis=1, return_inverse=True)
        norms = _norms(population, pairs, parse_lookback(self.within))
        age = FieldAge(record=self.record, field=self.field).compute(facts)
        return np.asarray(age / norms[which.reshape(-1)], dtype=np.float64)


def _norms(population: Population, pairs: Ints, within: int) -> Floats:
    """Return the median days of the stays in each (group, as known at an instant); NaN for too few."""
    over = population.asked_at + within
    length = np.minimum(population.left_at, over) - population.asked_at
    norms = np.full(pairs.shape[1], np.nan)
    for number, (group, instant) in enumerate(pairs.T.tolist()):
        counts = (population.group == group) & (over <= instant) & (population.until > instant)
        if counts.sum() >= STRENGTH:
            norms[number] = np.median(length[counts]) / DAY
    return np.where(norms > 0, norms, np.nan)
