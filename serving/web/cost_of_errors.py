"""What a cut costs: who would be contacted from a probability on, who of them needlessly, who was missed.

Counted on the questions that the model was judged by, all asked later than what it knew. Plain arithmetic on
the counts that its report keeps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Prices:
    """What the reader entered: prices in any one currency, the cut and the capacity as shares in [0, 1]."""

    missed: float
    contact: float
    capacity: float | None = None
    cut: float | None = None

    @property
    def break_even(self) -> float | None:
        """Return from which probability on a contact pays, if the probabilities are right."""
        whole = self.missed + self.contact
        return self.contact / whole if whole > 0 else None


@dataclass(frozen=True, kw_only=True)
class Cut:
    """A cut at probability `at` (None: nobody is contacted): counts of questions, and what they cost."""

    at: float | None
    contacted: int
    caught: int
    needless: int
    missed: int
    rest: int
    cost: float

    @property
    def questions(self) -> int:
        """Return of how many questions."""
        return self.contacted + self.missed + self.rest

    @property
    def share(self) -> float:
        """Return the share of the questions that is contacted."""
        return self.contacted / self.questions

    @property
    def precision(self) -> float | None:
        """Return the share of the contacted with the outcome."""
        return self.caught / self.contacted if self.contacted else None

    @property
    def recall(self) -> float | None:
        """Return the share of the outcomes that is caught."""
        outcomes = self.caught + self.missed
        return self.caught / outcomes if outcomes else None


@dataclass(frozen=True, kw_only=True)
class CostOfErrors:
    """All cuts by falling probability, the cheapest that the capacity allows, and the one that was chosen."""

    prices: Prices
    cuts: Sequence[Cut]
    best: Cut
    chosen: Cut | None
    coarse: bool

    @property
    def nobody(self) -> Cut:
        """Return what it costs to contact nobody."""
        return self.cuts[0]

    @property
    def everybody(self) -> Cut:
        """Return what it costs to contact everybody."""
        return self.cuts[-1]


def cost_of_errors(horizon: Mapping[str, Any], prices: Prices) -> CostOfErrors | None:
    """Return what every cut costs, from the counts in a report's horizon; None where it keeps none.

    A report from before the counts were kept has them in tenths only: `coarse`.
    """
    steps, coarse = _steps(horizon)
    if not steps:
        return None
    cuts = _cuts(steps, prices)
    allowed = [cut for cut in cuts if prices.capacity is None or cut.share <= prices.capacity]
    return CostOfErrors(
        prices=prices,
        cuts=cuts,
        # Of cuts that cost the same, the one that asks for the fewest contacts.
        best=min(allowed, key=lambda cut: (cut.cost, cut.contacted)),
        chosen=None if prices.cut is None else cut_at(cuts, prices.cut),
        coarse=coarse,
    )


def cut_at(cuts: Sequence[Cut], probability: float) -> Cut:
    """Return what is contacted from a probability on: the last cut that is not below it."""
    return [cut for cut in cuts if cut.at is None or cut.at >= probability][-1]


def _steps(horizon: Mapping[str, Any]) -> tuple[list[tuple[float, int, int]], bool]:
    """Return (lowest probability, questions, outcomes) of groups by falling probability."""
    kept = horizon.get("cuts")
    if kept:
        return list(zip(kept["from"], kept["questions"], kept["outcomes"], strict=True)), False
    called = sorted(horizon.get("called") or (), key=lambda one: -float(one["low"]))
    return [
        (one["low"], int(one["questions"]), round(one["happened"] * one["questions"])) for one in called
    ], True


def _cuts(steps: Sequence[tuple[float, int, int]], prices: Prices) -> list[Cut]:
    questions, outcomes = sum(step[1] for step in steps), sum(step[2] for step in steps)
    contacted, caught = accumulate(step[1] for step in steps), accumulate(step[2] for step in steps)
    counts = [(None, 0, 0), *zip((step[0] for step in steps), contacted, caught, strict=True)]
    return [_cut(at, contacted, caught, questions, outcomes, prices) for at, contacted, caught in counts]


def _cut(at: float | None, contacted: int, caught: int, questions: int, outcomes: int, prices: Prices) -> Cut:
    needless, missed = contacted - caught, outcomes - caught
    return Cut(
        at=at,
        contacted=contacted,
        caught=caught,
        needless=needless,
        missed=missed,
        rest=questions - contacted - missed,
        cost=missed * prices.missed + needless * prices.contact,
    )
