"""When somebody is reached: by day of the week and part of the day, from what was tried and answered.

Attempts of one way (calls, or mails) are compared within each person, so that people who always answer and
happen to be called in the morning say nothing of mornings. A person's own difference is drawn towards that of
people like them (empirical Bayes): little of their own says little, much says much. Windows are looked at in
dozens, and the intervals are as wide as that asks for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final, Literal, get_args

import numpy as np
import numpy.typing as npt

from models.stratified import difference, z_of

Flags = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

PARTS: Final = ("morning", "afternoon", "evening")
"""Until noon, until five, and after."""

_NOON, _FIVE = 12, 17
_WORKDAYS: Final = 5

FEWEST_OWN: Final = 6
"""Attempts inside a window, and outside, below which a person's own answers are not told."""

FEWEST_OTHERS: Final = 40
"""The same of many people's."""

FEWEST_PEOPLE: Final = 15
"""People of whom many are."""

Whose = Literal["own", "similar", "all"]


@dataclass(frozen=True, kw_only=True)
class Window:
    """Days of the week from `first` to `last`, Monday is 0, and a part of the day; "" is all of it."""

    first: int
    last: int
    part: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Attempts:
    """n attempts to reach people: who, which group they are in (-1: none), when, and whether they answered.

    `weekday`: int64[n], Monday is 0. `hour`: int64[n], 0-23, both where the organisation is.
    """

    person: Ints
    group: Ints
    weekday: Ints
    hour: Ints
    answered: Flags

    def take(self, kept: Flags) -> Attempts:
        """Return those that are kept."""
        return Attempts(
            person=self.person[kept],
            group=self.group[kept],
            weekday=self.weekday[kept],
            hour=self.hour[kept],
            answered=self.answered[kept],
        )


@dataclass(frozen=True, kw_only=True)
class BestTime:
    """A window with more answers than at other times, and whose answers say so: counts are theirs.

    `expected` and `expected_else` are the shares that are expected of this person then and at other times,
    [0, 1]; `low` and `high` bound their difference.
    """

    window: Window
    whose: Whose
    answered: int
    tried: int
    answered_else: int
    tried_else: int
    expected: float
    expected_else: float
    low: float
    high: float


@cache
def windows() -> tuple[Window, ...]:
    """Return all windows: runs of working days, with a part of the day or all of it."""
    return tuple(
        Window(first=first, last=last, part=part)
        for first in range(_WORKDAYS)
        for last in range(first, _WORKDAYS)
        for part in ("", *PARTS)
        if (first, last, part) != (0, _WORKDAYS - 1, "")
    )


def inside(window: Window, weekday: Ints, hour: Ints) -> Flags:
    """Return which attempts were made in a window."""
    day = (weekday >= window.first) & (weekday <= window.last)
    if not window.part:
        return day
    part = np.where(hour < _NOON, 0, np.where(hour < _FIVE, 1, 2))
    same: Flags = day & (part == PARTS.index(window.part))
    return same


@dataclass(frozen=True, kw_only=True)
class _Others:
    """What many people's answers say of a window: the difference, its error, and how people differ in it."""

    difference: float
    error: float
    between: float


def find_best_time(attempts: Attempts, person: int, group: int = -1) -> BestTime | None:
    """Return the time at which a person is reached most surely more often; None where nothing is sure.

    A person's own answers are asked first, then those of their group, then everybody's.
    """
    own = attempts.take(attempts.person == person)
    others = attempts.take(attempts.person != person)
    alike = others.take(others.group == group) if group >= 0 else others
    if (found := _own_time(own, alike if alike.person.size >= FEWEST_OTHERS else others)) is not None:
        return found
    if group >= 0 and (found := _time_of_many(alike, "similar")) is not None:
        return found
    return _time_of_many(others, "all")


def _own_time(own: Attempts, others: Attempts) -> BestTime | None:
    z, rate = _z(), _rate(own.answered)
    candidates: list[BestTime] = []
    for window in windows():
        then = inside(window, own.weekday, own.hour)
        tried, tried_else = int(then.sum()), int((~then).sum())
        if min(tried, tried_else) < FEWEST_OWN:
            continue
        hits, hits_else = int(own.answered[then].sum()), int(own.answered[~then].sum())
        prior = _others(window, others)
        noise = rate * (1 - rate) * (1 / tried + 1 / tried_else)
        spread = prior.between + prior.error**2
        share = spread / (spread + noise)
        middle = share * (hits / tried - hits_else / tried_else) + (1 - share) * prior.difference
        reach = z * np.sqrt(share * noise)
        if middle - reach <= 0:
            continue
        base = min(max((hits + hits_else) / (tried + tried_else), 0.0), 1.0)
        candidates.append(
            BestTime(
                window=window,
                whose="own",
                answered=hits,
                tried=tried,
                answered_else=hits_else,
                tried_else=tried_else,
                expected=float(min(1.0, base + middle * tried_else / (tried + tried_else))),
                expected_else=float(max(0.0, base - middle * tried / (tried + tried_else))),
                low=float(middle - reach),
                high=float(min(1.0, middle + reach)),
            )
        )
    return _surest(candidates)


def _z() -> float:
    """Return how far intervals reach: every window is asked about of one's own, of the like and of all."""
    return z_of(len(get_args(Whose)) * len(windows()))


def _rate(answered: Flags) -> float:
    """Return the share of answers, never none and never all: who answered twice of two is not certain to."""
    return (float(answered.sum()) + 1) / (answered.size + 2)


def _others(window: Window, attempts: Attempts) -> _Others:
    """Return how answers differ in a window from other times, over many people."""
    then = inside(window, attempts.weekday, attempts.hour)
    if not then.any() or then.all():
        return _Others(difference=0.0, error=0.0, between=_UNKNOWN)
    code, person = _coded(attempts.person)
    found = difference(code, code, then, attempts.answered, z=1.0)
    inner, outer = np.bincount(code, then, person), np.bincount(code, ~then, person)
    told = (inner > 0) & (outer > 0)
    if told.sum() < FEWEST_OTHERS:
        return _Others(difference=0.0, error=0.0, between=_UNKNOWN)
    hits = np.bincount(code, then & attempts.answered, person)[told] / inner[told]
    misses = np.bincount(code, ~then & attempts.answered, person)[told] / outer[told]
    rate = _rate(attempts.answered)
    noise = rate * (1 - rate) * (1 / inner[told] + 1 / outer[told])
    weight = 1 / noise
    off = (hits - misses - found.difference) ** 2 - noise
    between = max(_LEAST, float((weight * off).sum() / weight.sum()))
    return _Others(difference=found.difference, error=found.high - found.difference, between=between)


_UNKNOWN: Final = 0.15**2
"""How far people differ in a window, where too few were asked to say: variance of the difference."""

_LEAST: Final = 0.05**2
"""People are never quite alike."""


def _coded(person: Ints) -> tuple[Ints, int]:
    known, code = np.unique(person, return_inverse=True)
    return code, known.size


def _time_of_many(attempts: Attempts, whose: Whose) -> BestTime | None:
    if np.unique(attempts.person).size < FEWEST_PEOPLE:
        return None
    z = _z()
    candidates: list[BestTime] = []
    for window in windows():
        then = inside(window, attempts.weekday, attempts.hour)
        if min(then.sum(), (~then).sum()) < FEWEST_OTHERS:
            continue
        found = difference(attempts.person, attempts.person, then, attempts.answered, z=z)
        if found.low <= 0:
            continue
        candidates.append(
            BestTime(
                window=window,
                whose=whose,
                answered=found.with_happened,
                tried=found.with_count,
                answered_else=found.without_happened,
                tried_else=found.without_count,
                expected=found.with_share,
                expected_else=found.without_share,
                low=found.low,
                high=found.high,
            )
        )
    return _surest(candidates)


def _surest(candidates: Sequence[BestTime]) -> BestTime | None:
    return max(candidates, key=lambda each: (each.low, each.tried), default=None)
