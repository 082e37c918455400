"""How often somebody may ask: a budget that fills up again evenly, kept in memory by this process."""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass
from datetime import datetime
from ipaddress import IPv6Network
from typing import Final

from serving.settings import Settings

PERIOD: Final = 60.0
"""Seconds in which a budget fills up from nothing."""

_MOST_KEPT: Final = 10_000
"""Callers remembered at most."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How a caller stands after asking once more."""

    limit: int
    remaining: int
    reset: float
    retry_after: float

    @property
    def refused(self) -> bool:
        """Whether it was once too often."""
        return self.retry_after > 0

    def headers(self) -> dict[str, str]:
        """Return what a client is told of it."""
        told = {
            "RateLimit-Limit": str(self.limit),
            "RateLimit-Remaining": str(self.remaining),
            "RateLimit-Reset": str(math.ceil(self.reset)),
        }
        if self.refused:
            told["Retry-After"] = str(math.ceil(self.retry_after))
        return told


class Limit:
    """So many requests a minute for each caller, all at once or one after another; 0 is no limit.

    The generic cell rate algorithm: of each caller only the instant is kept at which the budget is full.
    """

    def __init__(self, per_minute: int) -> None:
        self.per_minute = per_minute
        self._full_at: dict[object, float] = {}
        self._guard = threading.Lock()

    def ask(self, caller: object, now: datetime) -> Standing | None:
        """Count a request of a caller; None without a limit. What is refused costs nothing."""
        if not self.per_minute:
            return None
        at, step = now.timestamp(), PERIOD / self.per_minute
        with self._guard:
            full = self._full_at.get(caller, at)
            # A clock that was set back must not lock anybody out.
            full = at if full < at or full > at + PERIOD else full
            after = full + step
            wait = after - PERIOD - at
            if wait > 1e-6:
                return Standing(self.per_minute, 0, full - at, wait)
            self._full_at[caller] = after
            if len(self._full_at) > _MOST_KEPT:
                self._forget(at)
        return Standing(self.per_minute, int((PERIOD - after + at) / step + 1e-6), after - at, 0.0)

    def _forget(self, at: float) -> None:
        """Forget whose budget is full again, and if that is not enough, who has spent the least."""
        spent = {caller: full for caller, full in self._full_at.items() if full > at}
        if len(spent) > _MOST_KEPT // 2:
            most = sorted(spent.items(), key=lambda each: each[1], reverse=True)
            spent = dict(most[: _MOST_KEPT // 2])
        self._full_at = spent


def place_of(address: str | None) -> str | None:
    """Return what counts as one place on the network: of IPv6, a whole network that somebody is given."""
    if address is None or ":" not in address:
        return address
    try:
        return str(IPv6Network((address.partition("%")[0], 64), strict=False))
    except ValueError:
        return address


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The limits of an application."""

    keys: Limit
    anonymous: Limit
    logins: Limit
    forms: Limit

    @classmethod
    def of(cls, settings: Settings) -> Limits:
        """Return the limits that the settings name."""
        return cls(
            keys=Limit(settings.api_rate),
            anonymous=Limit(settings.anonymous_rate),
            logins=Limit(settings.login_rate),
            forms=Limit(settings.form_rate),
        )
