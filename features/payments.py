"""How a customer pays: what is overdue at the question, and how late money used to come.

A payment is late from the midnight (UTC) after the day it was due. One that is open counts as late as it is
by then: leaving open ones out would show those who do not pay at all as punctual.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from crm_core.clock import DAY
from crm_core.errors import FeatureError
from features.declaration import Column, Meaning, Need
from features.event_features import EventFeature
from features.events import ratio
from features.facts import Facts
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
