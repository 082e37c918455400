"""Parts of time in a zone: days, weeks, months, quarters and years, with days on which clocks change."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import cached_property
from itertools import pairwise
from typing import Final
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from crm_core.arrays import NO_INSTANT
from crm_core.clock import DAY, day_of, micros

Ints = npt.NDArray[np.int64]
_ONE_DAY: Final = timedelta(days=1)


def midnight(day: date, zone: ZoneInfo) -> int:
    """Return the instant at which a day begins, in microseconds."""
    return micros(datetime.combine(day, time(), zone).astimezone(UTC))


def starts_of_days(days: Ints, zone: ZoneInfo) -> Ints:
    """Return when days, given as microseconds of their midnight UTC, begin in a zone."""
    known = {
        each: midnight(day_of(each // DAY), zone) for each in np.unique(days).tolist() if each != NO_INSTANT
    }
    return np.array([known.get(each, NO_INSTANT) for each in days.tolist()], dtype=np.int64)


def ends_of_days(days: Ints, zone: ZoneInfo) -> Ints:
    """Return when such days are over: on those on which clocks change, not 24 hours after they begin."""
    return starts_of_days(np.where(days == NO_INSTANT, NO_INSTANT, days + DAY), zone)


def first_day(span: str, day: date) -> date:
    """Return the first day of the part of time that a day is in."""
    match span:
        case "week":
            return day - timedelta(days=day.weekday())
        case "month":
            return day.replace(day=1)
        case "quarter":
            return day.replace(month=(day.month - 1) // 3 * 3 + 1, day=1)
        case "year":
            return day.replace(month=1, day=1)
    return day


def next_first(span: str, first: date) -> date:
    """Return the first day of the part after one that begins on `first`."""
    longest = {"day": 1, "week": 7, "month": 31, "quarter": 92, "year": 366}[span]
    return first_day(span, first + timedelta(days=longest))


def key_of(span: str, first: date) -> str:
    """Return what a part of time is called: 2026-03-02, 2026-W10, 2026-03, 2026-Q1, 2026."""
    match span:
        case "week":
            year, week, _ = first.isocalendar()
            return f"{year}-W{week:02}"
        case "month":
            return f"{first:%Y-%m}"
        case "quarter":
            return f"{first.year}-Q{(first.month - 1) // 3 + 1}"
        case "year":
            return f"{first:%Y}"
    return first.isoformat()


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The parts of time between two days (both included), cut at these; `starts` has one more at the end."""

    span: str
    since: date
    until: date
    zone: ZoneInfo

    @cached_property
    def firsts(self) -> list[date]:
        """Return the first day of each part."""
        return list(self._firsts())

    def _firsts(self) -> Iterator[date]:
        day = self.since
        while day <= self.until:
            yield day
            day = next_first(self.span, first_day(self.span, day))

    @cached_property
    def keys(self) -> list[str]:
        """Return what each part is called."""
        return [key_of(self.span, first_day(self.span, day)) for day in self.firsts]

    @cached_property
    def starts(self) -> Ints:
        """Return when each part begins, and when the last one is over."""
        return np.array(
            [midnight(day, self.zone) for day in (*self.firsts, self.until + _ONE_DAY)], dtype=np.int64
        )

    @property
    def bounds(self) -> list[tuple[int, int]]:
        """Return the beginning and the end of each part."""
        starts = self.starts.tolist()
        return list(pairwise(starts))

    def place(self, at: Ints) -> Ints:
        """Return in which part each instant lies; -1 for none."""
        place = np.searchsorted(self.starts, at, side="right") - 1
        return np.where((place >= 0) & (place < len(self.firsts)) & (at != NO_INSTANT), place, -1)
