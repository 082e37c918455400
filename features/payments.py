"""How a customer pays: what is overdue at the question, and how late money used to come.

A payment is late from the midnight (UTC) after the day it was due. One that is open counts as late as it is
by then: leaving open ones out would show those who do not pay at all as punctual.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from crm_core.arrays import NO_INSTANT
from crm_core.clock import DAY
from crm_core.errors import FeatureError
from features.declaration import Column, Meaning, Need
from features.event_features import EventFeature
from features.events import AskedEvents, ratio
from features.facts import Facts
from features.windows import Ints
from features.wording import Sentence, last_en, last_zh


@dataclass(frozen=True, kw_only=True)
class PaymentFeature(EventFeature):
    """A feature of payments that were due."""

    def __post_init__(self) -> None:
        """Refuse events that are no payments."""
        super().__post_init__()
        if self.of.event != "payment":
            raise FeatureError(f"{self.of.event}: expected payments")

    def needs(self) -> tuple[Need, ...]:
        """Return what has to be read."""
        return self.of.need("due_on", "paid_at")


@dataclass(frozen=True, kw_only=True)
class OverdueCount(PaymentFeature):
    """How many payments are overdue at the question."""

    @cached_property
    def meaning(self) -> Meaning:
        """Return what it says."""
        noun = self.of.noun
        return Meaning(
            name=f"overdue_{noun.key_many}_count{self.suffix}",
            unit="count",
            nan="never missing",
            group=self.of.reason,
            sentence=Sentence(
                en=f"{{value}} overdue {noun.many}",
                en_one=f"1 overdue {noun.one}",
                en_none=f"no overdue {noun.many}",
                zh=f"{{value}} {noun.measure}逾期{noun.zh}",
                zh_none=f"没有逾期{noun.zh}",
                en_missing=f"no overdue {noun.many}",
                zh_missing=f"没有逾期{noun.zh}",
                measure=noun.measure,
            ),
        )

    def compute(self, facts: Facts) -> Column:
        """Return the counts."""
        overdue, _, _ = facts.events(self.of).payments(self.length)
        return overdue.astype(np.float64)


@dataclass(frozen=True, kw_only=True)
class PaymentDelay(PaymentFeature):
    """The mean days by which due payments of the window were late; punctual ones count 0."""

    @cached_property
    def meaning(self) -> Meaning:
        """Return what it says."""
        noun, en, zh = self.of.noun, last_en(self.length), last_zh(self.length)
        return Meaning(
            name=f"{noun.key_many}_delay_days_mean{self.suffix}",
            unit="days",
            nan=f"no {noun.one} due{en}",
            group=self.of.reason,
            sentence=Sentence(
                en=f"{noun.many} {{value}} days late on average{en}",
                en_one=f"{noun.many} 1 day late on average{en}",
                en_none=f"{noun.many} on time{en}",
                zh=f"{zh}{noun.zh}平均晚 {{value}} 天",
                zh_none=f"{zh}{noun.zh}按时",
                en_missing=f"no {noun.one} due{en}",
                zh_missing=f"{zh}没有到期{noun.zh}",
            ),
        )

    def compute(self, facts: Facts) -> Column:
        """Return the means."""
        _, late, count = facts.events(self.of).payments(self.length)
        return ratio(late / DAY, count.astype(np.float64))


@dataclass(frozen=True, kw_only=True)
class LastPaymentDelay(PaymentFeature):
    """The days by which the payment that was due last is late; of several of one day, the latest."""

    @cached_property
    def meaning(self) -> Meaning:
        """Return what it says."""
        noun, en, zh = self.of.noun, last_en(self.length), last_zh(self.length)
        never = f"no {noun.one} due" + (" yet" if self.length is None else en)
        return Meaning(
            name=f"last_{noun.key_one}_delay_days{self.suffix}",
            unit="days",
            nan=never,
            group=self.of.reason,
            sentence=Sentence(
                en=f"last {noun.one} {{value}} days late",
                en_one=f"last {noun.one} 1 day late",
                en_none=f"last {noun.one} on time",
                zh=f"最近一{noun.measure}{noun.zh}晚 {{value}} 天",
                zh_none=f"最近一{noun.measure}{noun.zh}按时",
                en_missing=never,
                zh_missing=f"尚无到期{noun.zh}" if self.length is None else f"{zh}没有到期{noun.zh}",
            ),
        )

    def compute(self, facts: Facts) -> Column:
        """Return the days."""
        found = facts.events(self.of)
        late = np.full(facts.as_of.size, np.nan)
        for question, version in found.pairs(self.length):
            due = found.versions.columns["due_on"][version]
            is_due = (due != NO_INSTANT) & (due + DAY <= facts.as_of[question])
            _keep_last(late, found, facts.as_of, (question[is_due], version[is_due]))
        return late


def _keep_last(late: Column, found: AskedEvents, as_of: Ints, pairs: tuple[Ints, Ints]) -> None:
    """Write down by how many days the payment of each question that was due last is late."""
    question, version = pairs
    columns = found.versions.columns
    due, paid, now = columns["due_on"][version], columns["paid_at"][version], as_of[question]
    last = np.full(as_of.size, NO_INSTANT)
    np.maximum.at(last, question, due)
    is_last = due == last[question]
    came = np.where((paid == NO_INSTANT) | (paid > now), now, paid)
    days = np.maximum(came - (due + DAY), 0) / DAY
    np.fmax.at(late, question[is_last], days[is_last])
