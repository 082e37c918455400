"""When contracts run, as known at a question, and what follows from it.

A contract runs from the midnight (UTC) of `starts_on` to that of `ends_on`, unless it is known as cancelled
or ended before; one that follows it without a gap starts on the day the other ends.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from crm_core.arrays import NO_INSTANT
from crm_core.clock import DAY
from crm_core.columns import MONEY_SCALE
from crm_core.records import ContractStatus
from features.declaration import Column, Meaning, Need
from features.event_features import EventFeature
from features.events import Versions
from features.facts import Facts
from features.windows import Flags
from features.wording import Sentence

_IN_FORCE = (ContractStatus.ACTIVE.value, ContractStatus.RENEWED.value)

RUNNING_FIELDS = ("ends_on", "starts_on", "status")
"""Fields of a contract that tell when it runs."""


def stands(versions: Versions) -> Flags:
    """Tell which contracts are not known as cancelled or ended."""
    return versions.holding("status", _IN_FORCE)


def standing(versions: Versions) -> Versions:
    """Return the contracts not known as cancelled or ended."""
    return versions.take(stands(versions))


def running(versions: Versions) -> Versions:
    """Return the contracts with their visibility cut to the time in which they run."""
    stand = standing(versions)
    return replace(
        stand,
        start=np.maximum(stand.start, stand.columns["starts_on"]),
        stop=np.minimum(stand.stop, stand.columns["ends_on"]),
    ).in_order()


@dataclass(frozen=True, kw_only=True)
class ContractFeature(EventFeature):
    """A feature of contracts that stand at the question."""


@dataclass(frozen=True, kw_only=True)
class DaysToContractEnd(ContractFeature):
    """Days until the last of the known contracts ends, renewals that are signed already included."""

    @cached_property
    def meaning(self) -> Meaning:
        """Return what it says."""
        return Meaning(
            name="days_to_contract_end",
            unit="days",
            nan="no contract that runs on",
            group="contracts",
            sentence=Sentence(
                en="contract ends in {value} days",
                en_one="contract ends in 1 day",
                en_none="contract ends today",
                zh="合同 {value} 天后到期",
                zh_none="合同今天到期",
                en_missing="no running contract",
                zh_missing="没有在期合同",
            ),
        )

    def needs(self) -> tuple[Need, ...]:
        """Return what has to be read."""
        (need,) = self.of.need("ends_on")
        return (replace(need, guards=("status",)),)

    def compute(self, facts: Facts) -> Column:
        """Return the days."""
        found = facts.events(self.of)
        ends_on = found.versions.columns["ends_on"]
        last = found.largest(np.where(stands(found.versions), ends_on, NO_INSTANT))
        return np.where(last > facts.as_of, (last - facts.as_of) / DAY, np.nan)


@dataclass(frozen=True, kw_only=True)
class RunningContractsValue(ContractFeature):
    """The summed value of the contracts that run at the question."""

    @cached_property
    def meaning(self) -> Meaning:
        """Return what it says."""
        return Meaning(
            name="running_contracts_value",
            unit="currency",
            nan="never missing",
            group="contracts",
            sentence=Sentence(
                en="running contracts worth {value}",
                en_none="no running contract of any value",
                zh="在期合同金额 {value}",
                zh_none="没有计价的在期合同",
                en_missing="no running contract",
                zh_missing="没有在期合同",
            ),
        )

    def needs(self) -> tuple[Need, ...]:
        """Return what has to be read."""
        (need,) = self.of.need("ends_on", "starts_on", "value")
        return (replace(need, guards=("status",)),)

    def compute(self, facts: Facts) -> Column:
        """Return the sums."""
        found = facts.events(self.of)
        value = found.versions.columns["value"]
        return found.running(stands(found.versions), value) / MONEY_SCALE
