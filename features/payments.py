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
from features.events import AskedEvents
from features.facts import Facts
from features.windows import Flags, Ints
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
            ),
        )

    def compute(self, facts: Facts) -> Column:
        """Return the counts."""
        found = facts.events(self.of)
        count = np.zeros(facts.as_of.size)
        for question, version in found.pairs(self.length):
            late, open_still = _lateness(found, version, facts.as_of[question])
            count += np.bincount(question[(late >= 0) & open_still], minlength=count.size)
        return count


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
        found = facts.events(self.of)
        days = np.zeros(facts.as_of.size, dtype=np.int64)
        count = np.zeros(facts.as_of.size, dtype=np.int64)
        for question, version in found.pairs(self.length):
            as_of = facts.as_of[question]
            due = found.versions.columns["due_on"][version]
            counts = (due != NO_INSTANT) & (due + DAY <= as_of)
            late, _ = _lateness(found, version[counts], as_of[counts])
            np.add.at(days, question[counts], np.maximum(late, 0))
            count += np.bincount(question[counts], minlength=count.size)
        mean = np.full(count.size, np.nan)
        np.divide(days / DAY, count, out=mean, where=count > 0)
        return mean


def _lateness(found: AskedEvents, version: Ints, as_of: Ints) -> tuple[Ints, Flags]:
    """Return by how much each payment is late by the question (negative: not), and whether it is open."""
    columns = found.versions.columns
    due, paid = columns["due_on"][version], columns["paid_at"][version]
    open_still = (paid == NO_INSTANT) | (paid > as_of)
    # What has no day to be due on is never late.
    due = np.where(due == NO_INSTANT, as_of, due)
    return np.where(open_still, as_of, paid) - (due + DAY), open_still
