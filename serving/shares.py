"""Shares of small counts, with the interval that says how little they tell."""

from __future__ import annotations

import math
from dataclasses import dataclass

SMALL = 20
"""Of fewer, a share is marked as resting on few."""

_Z = 1.959964


@dataclass(frozen=True, kw_only=True)
class Share:
    """So many of so many, as a share in [0, 1] with Wilson's 95 % interval; None and [0, 1] of nothing.

    Source: E. B. Wilson (1927), the score interval.
    """

    count: int
    of: int

    @property
    def value(self) -> float | None:
        """Return the share itself."""
        return self.count / self.of if self.of else None

    @property
    def low(self) -> float:
        """Return the lower end of the interval."""
        return max(0.0, self._middle - self._half) if self.of else 0.0

    @property
    def high(self) -> float:
        """Return the upper end of the interval."""
        return min(1.0, self._middle + self._half) if self.of else 1.0

    @property
    def is_small(self) -> bool:
        """Say whether it rests on few."""
        return self.of < SMALL

    @property
    def _middle(self) -> float:
        return (self.count + _Z**2 / 2) / (self.of + _Z**2)

    @property
    def _half(self) -> float:
        share = self.count / self.of
        inner = share * (1 - share) * self.of + _Z**2 / 4
        return _Z * math.sqrt(inner) / (self.of + _Z**2)
