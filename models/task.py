"""What a prediction problem is: of whom, asked when, which outcome, how far ahead."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from crm_core.predictions import IN_THE_END_DAYS
from crm_core.store import Store
from features.cohort import Cohort
from features.labels import Labels
from models.hazard import Bools, Floats

if TYPE_CHECKING:
    from pandas import DataFrame

    from features.rows import Frame
    from models.scorecard import Scorecard


class BuildCohort(Protocol):
    """Returns the questions with start < as_of <= until."""

    def __call__(self, store: Store, *, start: datetime, until: datetime) -> Cohort:
        """Build them."""
        ...


class ReadLabels(Protocol):
    """Returns what came of each question, as known at an instant in microseconds (None: now)."""

    def __call__(self, store: Store, cohort: Cohort, *, known_at: int | None = None) -> Labels:
        """Read it."""
        ...


@dataclass(frozen=True, kw_only=True)
class Task:
    """A prediction problem.

    Attributes
    ----------
    name, record_type
        `name` is also that of its feature set.
    variant
        Which of several kinds of the same task; empty where there is one.
    outcome_en, outcome_zh
        What the probability is of, as it stands after "chance to be" and "会".
    horizon_days, horizons_days
        The horizon of the probability shown, and all that are reported where enough is known of them.
    intervals_days
        Ends of the intervals that the hazard is cut into. A horizon beyond the last is told by one more
        interval, which has no say in the others: see `models.later`.
    absence
        The outcome is that nothing happens within the horizon.
    high_is_good
        Whether a high probability is what the company wants.
    ask, ask_to_judge
        Questions to learn from, and those a model is judged on.
    labels
        What came of them.
    simple_rules
        Baselines by name: the features each may look at.
    own_horizon
        How far ahead each record is looked at, in whole days, from its features: float64[n]. Only for an
        absence; `horizon_days` stands for it where one number is needed. None: the same for all.
    asked_of
        Tells from a frame of which records the question makes sense; None: of all.
    plan_weights
        How much each question counts, from what was known when it was asked; None: all the same.
    fresh
        A number, and the limit below which a record counts as new, so that other things may matter.
    only_at_creation
        Look only at fields declared as known when a record is created.
    no_time_order
        The records have no dates: what is learned from one part of them is judged on another, and rows that
        are the same throughout stay together.
    decided
        A number of days: what matters most may matter only in the interval that this day falls into.
    ages
        A number of days since something, and the limits beyond which, reached in an interval, its hazard is
        another.
    structural
        Features that decide the outcome by what they are, as when a contract may end: no leak.
    segments
        Categories whose levels borrow strength from the whole, however few records they have.
    scorecards
        The company's own, by section, see `models.scorecard`; the one that comes with the program otherwise.
    """

    name: str
    record_type: str
    variant: str = ""
    outcome_en: str
    outcome_zh: str
    horizon_days: int
    horizons_days: tuple[int, ...]
    intervals_days: tuple[int, ...]
    absence: bool = False
    high_is_good: bool = True
    ask: BuildCohort
    ask_to_judge: BuildCohort
    labels: ReadLabels
    simple_rules: Mapping[str, tuple[str, ...]]
    own_horizon: Callable[[Frame], Floats] | None = None
    asked_of: Callable[[Frame], Bools] | None = None
    plan_weights: Callable[[DataFrame], Floats] | None = None
    structural: frozenset[str] = frozenset()
    fresh: tuple[str, float] | None = None
    only_at_creation: bool = False
    no_time_order: bool = False
    decided: str | None = None
    ages: tuple[str, tuple[float, ...]] | None = None
    segments: tuple[str, ...] = ()
    scorecards: Mapping[str, Scorecard] = field(default_factory=dict)
    variants: Mapping[str, Task] = field(default_factory=dict)
    find_variant: Callable[[Store], str] | None = None

    @property
    def gap_days(self) -> int:
        """Return how long an answer takes to come: questions about the end may be over at any time."""
        return 0 if self.horizon_days == IN_THE_END_DAYS else self.horizon_days

    @property
    def later_days(self) -> int | None:
        """Return the end of the interval after those that teach; None where there is none."""
        last = max(self.horizons_days)
        return last if last > self.intervals_days[-1] else None

    def in_store(self, store: Store) -> Task:
        """Return the variant that fits what the store holds."""
        if self.find_variant is None:
            return self
        return self.of_variant(self.find_variant(store))

    def of_variant(self, variant: str) -> Task:
        """Return a variant by its name."""
        found = self.variants.get(variant)
        return self if found is None else replace(found, scorecards=self.scorecards)
