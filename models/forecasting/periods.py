"""Calendar months and quarters, which begin at 00:00 UTC."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from crm_core.clock import instant, micros


class Span(StrEnum):
    """How long a period is."""

    MONTH = "month"
    QUARTER = "quarter"

    @property
    def months(self) -> int:
        """Return how many months it has."""
        return 1 if self is Span.MONTH else 3


@dataclass(frozen=True, kw_only=True, order=True)
class Period:
    """A month or quarter: the instants `start <= t < end`, in microseconds."""

    span: Span
    start: int
    end: int

    @property
    def name(self) -> str:
        """Return it as people write it: 2026-03 or 2026-Q1."""
        first = instant(self.start)
        if self.span is Span.MONTH:
            return f"{first:%Y-%m}"
        return f"{first:%Y}-Q{(first.month + 2) // 3}"

    def moved(self, periods: int) -> Period:
        """Return the period so many after this one (before it, for a negative number)."""
        return _from_month(self.span, _month_of(self.start) + periods * self.span.months)

    def holds(self, at: int) -> bool:
        """Say whether an instant lies in it."""
        return self.start <= at < self.end


def period_at(span: Span, at: int) -> Period:
    """Return the period that an instant lies in."""
    month = _month_of(at)
    return _from_month(span, month - month % span.months)


def month_starts(after: int, until: int) -> list[int]:
    """Return the first instants of months in `after < t <= until`."""
    found = []
    period = period_at(Span.MONTH, until)
    while period.start > after:
        found.append(period.start)
        period = period.moved(-1)
    return found[::-1]


def _month_of(at: int) -> int:
    when = instant(at)
    return when.year * 12 + when.month - 1


def _first_of(month: int) -> int:
    return micros(datetime(month // 12, month % 12 + 1, 1, tzinfo=UTC))


def _from_month(span: Span, month: int) -> Period:
    return Period(span=span, start=_first_of(month), end=_first_of(month + span.months))
