"""Whether the other side still answers: how long ago it last did, and what was tried since.

A response is an event of any of several kinds, as an inbound mail or a call that was taken: what one filter
cannot say alone. Silence after several tries tells more than the number of contacts does.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from crm_core.arrays import NO_INSTANT
from crm_core.clock import DAY
from crm_core.errors import FeatureError
from features.asks import Ask, Measure
from features.declaration import Column, Meaning, Need
from features.event_features import EventFeature, Events
from features.facts import Facts
from features.windows import Ints
from features.wording import Sentence


@dataclass(frozen=True, kw_only=True)
class _Answering(EventFeature):
    """A feature of the last response: the last event of any of `answers`, all of one type."""

    answers: tuple[Events, ...]

    def __post_init__(self) -> None:
        """Refuse responses of other records than the events, of another type, and a lookback."""
        super().__post_init__()
        whole = {(one.record, one.event, one.via) for one in (self.of, *self.answers)}
        if len(whole) > 1 or not self.answers:
            raise FeatureError(f"responses to {self.of.noun.many} must be events of the same type, and given")
        if self.lookback is not None:
            raise FeatureError("the last response is looked for without a lookback")

    def needs(self) -> tuple[Need, ...]:
        """Return what has to be read."""
        return tuple(need for one in (self.of, *self.answers) for need in one.need())

    @cached_property
    def _last(self) -> tuple[Ask, ...]:
        return tuple(Ask(one.kind, Measure.LAST) for one in self.answers)

    def asks(self) -> tuple[Ask, ...]:
        """Return what is asked of events."""
        return self._last

    def last_response(self, facts: Facts) -> Ints:
        """Return when the other side last responded: microseconds, NO_INSTANT for never."""
        happened = facts.linked(self.of.via, self.of.event).occurred_at
        last = np.full(facts.as_of.size, NO_INSTANT)
        if happened.size == 0:
            return last
        for ask in self._last:
            found = facts.event(ask)
            np.maximum(last, np.where(found < 0, NO_INSTANT, happened[found]), out=last)
        return last


@dataclass(frozen=True, kw_only=True)
class DaysSinceResponse(_Answering):
    """Days since the other side last responded in any way."""

    @cached_property
    def meaning(self) -> Meaning:
        """Return what it says."""
        return Meaning(
            name="days_since_last_response",
            unit="days",
            nan="no response yet",
            group=self.of.reason,
            sentence=Sentence(
                en="{value} days since the last response",
                en_one="1 day since the last response",
                zh="距对方上次回应 {value} 天",
                en_missing="no response yet",
                zh_missing="对方尚无回应",
            ),
        )

    def compute(self, facts: Facts) -> Column:
        """Return the days."""
        last = self.last_response(facts)
        return np.where(last == NO_INSTANT, np.nan, (facts.as_of - last) / DAY)


@dataclass(frozen=True, kw_only=True)
class TriesSinceResponse(_Answering):
    """How many events, as outbound contacts, there were since the other side last responded in any way."""

    @cached_property
    def meaning(self) -> Meaning:
        """Return what it says."""
        noun = self.of.noun
        return Meaning(
            name=f"{noun.key_many}_since_response_count",
            unit="count",
            nan="never missing",
            group=self.of.reason,
            sentence=Sentence(
                en=f"{{value}} {noun.many} without a response since",
                en_one=f"1 {noun.one} without a response since",
                en_none=f"no {noun.many} without a response since",
                zh=f"对方上次回应后{noun.zh} {{value}} {noun.measure},未获回应",
                zh_none=f"对方上次回应后没有未获回应的{noun.zh}",
                en_missing=f"no {noun.many}",
                zh_missing=f"没有{noun.zh}",
            ),
        )

    def compute(self, facts: Facts) -> Column:
        """Return the counts."""
        return facts.events(self.of).count_after(self.last_response(facts)).astype(np.float64)
