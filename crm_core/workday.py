"""In which order the records of a day are worth working: what is at stake, times how much it is time.

    expected = probability x value                 what is at stake, in one currency
    worth    = expected x freshness                what decides

Freshness is a product of three: how long nobody has been in touch against the usual rhythm (0.5 for just
now, 1 at the rhythm, at most 1.5), whether the customer waits for an answer (1.5), and whether the next step
is planned for a later day (0.5). A step that is due comes first whatever it is worth; what was worked today
comes last.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

JUST_NOW, LONGEST_WAIT = 0.5, 1.5
"""Freshness of what was touched just now, and of what nobody has touched for twice its rhythm or ever."""
WAITING = 1.5
"""The customer came back since we were last in touch."""
PLANNED = 0.5
"""The next step is on a later day: it was decided when."""

USUAL_A_DAY = 15
"""Records a day for somebody of whom no working days are known."""
FEWEST_DAYS = 5
"""Working days below which somebody's own median says nothing."""
MOST_A_DAY = 200

RHYTHM_DAYS = {"lead": 4.0, "deal": 7.0, "account": 30.0}
"""Days between contacts where nothing is known of others."""
_GAPS_LIKE_OTHERS = 3
"""A record's own gaps count as much as those of others once there are so many."""

NEARLY_NEVER = 0.1
"""The shortest rhythm in days: several contacts on one day are one conversation."""


@dataclass(frozen=True, kw_only=True)
class Standing:
    """What is known of a record when a day is planned; days are whole calendar days.

    `probability` is None where it has no score, `value` where no money is known or may be used (both in the
    order's one currency). `touched_days` is None where nobody was ever in touch, `rhythm_days` where contacts
    are not known at all. `due_days` is that of the next open step: 0 today, negative overdue.
    """

    record_type: str
    record_id: int
    probability: float | None
    value: float | None
    touched_days: int | None = None
    rhythm_days: float | None = None
    waiting: bool = False
    due_days: int | None = None
    done_today: bool = False


@dataclass(frozen=True, kw_only=True)
class Freshness:
    """How much it is time for a record, in its three parts."""

    rhythm: float
    waiting: float
    planned: float

    @property
    def product(self) -> float:
        """All three together."""
        return self.rhythm * self.waiting * self.planned


@dataclass(frozen=True, kw_only=True)
class Place:
    """A record in the order, with the arithmetic that put it there."""

    standing: Standing
    freshness: Freshness
    expected: float | None
    worth: float

    @property
    def is_due(self) -> bool:
        """Whether its next step is due today or overdue, and nobody has been in touch today."""
        due = self.standing.due_days
        return due is not None and due <= 0 and not self.standing.done_today

    @property
    def key(self) -> tuple[int, int, int, float, str, int]:
        """What the order sorts by; the same record never stands twice in a list."""
        standing = self.standing
        return (
            int(standing.done_today),
            int(not self.is_due),
            int(self.expected is None),  # what has no known worth stands behind what has one
            -self.worth,
            standing.record_type,
            standing.record_id,
        )


def freshness_of(standing: Standing) -> Freshness:
    """Return how much it is time for a record."""
    later = standing.due_days is not None and standing.due_days > 0
    return Freshness(
        rhythm=_rhythm_part(standing.touched_days, standing.rhythm_days),
        waiting=WAITING if standing.waiting else 1.0,
        planned=PLANNED if later and not standing.waiting else 1.0,
    )


def _rhythm_part(touched_days: int | None, rhythm_days: float | None) -> float:
    if rhythm_days is None:
        return 1.0
    if touched_days is None:
        return LONGEST_WAIT
    return min(LONGEST_WAIT, JUST_NOW + 0.5 * touched_days / max(rhythm_days, NEARLY_NEVER))


def place_of(standing: Standing) -> Place:
    """Return a record with its arithmetic; without a known value, the probability alone is what counts."""
    freshness = freshness_of(standing)
    chance = standing.probability or 0.0
    expected = None if standing.value is None else chance * standing.value
    stake = chance if expected is None else expected
    return Place(standing=standing, freshness=freshness, expected=expected, worth=stake * freshness.product)


def plan_day(standings: Iterable[Standing]) -> list[Place]:
    """Return records in the order worth working."""
    return sorted(map(place_of, standings), key=lambda place: place.key)


def rhythm_of(gaps: int, days: float, others: float) -> float:
    """Return the usual days between contacts of a record that had so many gaps over so many days."""
    return (days + _GAPS_LIKE_OTHERS * others) / (gaps + _GAPS_LIKE_OTHERS)


def rhythm_of_others(record_type: str, each: Sequence[tuple[int, float]]) -> float:
    """Return the median days between contacts of records of a type, from the gaps and days of each."""
    known = [days / gaps for gaps, days in each if gaps >= 2]
    return median(known) if len(known) >= _GAPS_LIKE_OTHERS else RHYTHM_DAYS[record_type]


def usual_a_day(by_day: Sequence[int]) -> int | None:
    """Return how many records somebody works on a day, by the days on which they worked any; None for few."""
    worked = [count for count in by_day if count > 0]
    return max(1, round(median(worked))) if len(worked) >= FEWEST_DAYS else None
