"""The only module that asks what time it is."""

from __future__ import annotations

import time
from datetime import UTC, date, datetime, timedelta
from typing import Protocol

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_DAY = date(1970, 1, 1)
_MICROSECOND = timedelta(microseconds=1)

SECOND = 1_000_000
"""Microseconds in a second."""
DAY = 86_400 * SECOND
"""Microseconds in a day."""


class Clock(Protocol):
    """Says what time it is."""

    def now(self) -> datetime:
        """Return the present instant, aware, in UTC."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """Return the machine's time in UTC."""
        return datetime.now(UTC)


class FixedClock:
    """A clock that moves only when told to."""

    def __init__(self, instant: datetime) -> None:
        self._now = _as_utc(instant)

    def now(self) -> datetime:
        """Return the instant it was set to."""
        return self._now

    def set(self, instant: datetime) -> None:
        """Move to `instant`."""
        self._now = _as_utc(instant)

    def advance(self, step: timedelta) -> None:
        """Move forward by `step`."""
        self._now += step


def _as_utc(instant: datetime) -> datetime:
    if instant.tzinfo is None:
        msg = f"expected an aware datetime, got {instant!r}"
        raise ValueError(msg)
    return instant.astimezone(UTC)


def micros(instant: datetime) -> int:
    """Return microseconds since 1970-01-01 UTC of an aware `instant`, exactly."""
    return (_as_utc(instant) - _EPOCH) // _MICROSECOND


def instant(value: int) -> datetime:
    """Return the aware UTC datetime of `value` microseconds since 1970-01-01."""
    return _EPOCH + timedelta(microseconds=value)


def ticks() -> float:
    """Return seconds since some instant, always growing: for how long something took, and never for when."""
    return time.monotonic()


def day_number(day: date) -> int:
    """Return days since 1970-01-01."""
    return (day - _EPOCH_DAY).days


def day_of(number: int) -> date:
    """Return the date `number` days after 1970-01-01."""
    return _EPOCH_DAY + timedelta(days=number)
