"""The probability of a record over time, as a line so small that it has no axes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

THUMB_WIDTH, THUMB_HEIGHT = 72, 22


@dataclass(frozen=True, kw_only=True)
class Thumb:
    """A line so small that it has no axes: from the lowest to the highest, but never steeper than it is."""

    path: str
    end: tuple[float, float]
    low: float
    high: float
    first: datetime
    width: int = THUMB_WIDTH
    height: int = THUMB_HEIGHT


def thumb(points: Sequence[tuple[datetime, float | None]]) -> Thumb | None:
    """Return the line through (instant, probability), oldest first; None for fewer than two probabilities."""
    known = [(at, value) for at, value in points if value is not None]
    if len(known) < 2 or known[0][0] == known[-1][0]:
        return None
    first, last = known[0][0], known[-1][0]
    low, high = min(value for _, value in known), max(value for _, value in known)
    # A move of less than a tenth does not fill the height: a flat line is to look flat.
    middle, span = (low + high) / 2, max(high - low, 0.1)

    def place(at: datetime, value: float) -> tuple[float, float]:
        x = 2 + (at - first) / (last - first) * (THUMB_WIDTH - 5)
        y = THUMB_HEIGHT / 2 - (value - middle) / span * (THUMB_HEIGHT - 6)
        return round(x, 1), round(y, 1)

    dots = [place(at, value) for at, value in known]
    steps = [f"M{dots[0][0]} {dots[0][1]}", *(f"H{x}V{y}" for x, y in dots[1:])]
    return Thumb(path="".join(steps), end=dots[-1], low=low, high=high, first=first)
