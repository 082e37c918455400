"""Reasons as a picture: bars that lead from the average record to the probability shown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Reason = dict[str, Any]

SHOWN = 8
"""Bars shown singly; the rest is one bar."""

WIDTH = 400
"""Width of the picture, in its own units."""

TICKS = (0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999)
_CLOSEST = 44
"""Ticks nearer than this to one another would write over each other."""


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One reason: what it adds to the log-odds, and where its bar runs from and to."""

    reason: Reason | None
    others: int
    log_odds: float
    x: float
    width: float

    @property
    def raises(self) -> bool:
        """Whether it raises the probability."""
        return self.log_odds > 0


@dataclass(frozen=True, kw_only=True)
class Tick:
    """A probability on the axis."""

    probability: float
    x: float


@dataclass(frozen=True, kw_only=True)
class Picture:
    """All of it: the average's log-odds, then bars that end exactly where the probability shown is."""

    base: float
    base_x: float
    end: float
    end_x: float
    bars: Sequence[Bar]
    ticks: Sequence[Tick]
    width: int = WIDTH


def is_base(reason: Reason) -> bool:
    """Tell the starting point, the average record, from the reasons."""
    return reason.get("group") == "base" or reason.get("feature") == "base"


def top_reasons(reasons: Sequence[Reason] | None, count: int) -> list[Reason]:
    """Return the reasons that weigh most and weigh anything worth telling."""
    real = [reason for reason in reasons or [] if not is_base(reason) and abs(reason["log_odds"]) >= 0.005]
    return sorted(real, key=lambda reason: -abs(reason["log_odds"]))[:count]


def draw(reasons: Sequence[Reason] | None) -> Picture | None:
    """Return the picture of a prediction's reasons; None if there are none."""
    if not reasons:
        return None
    base = sum(reason["log_odds"] for reason in reasons if is_base(reason))
    real = sorted((r for r in reasons if not is_base(r)), key=lambda reason: -abs(reason["log_odds"]))
    steps: list[tuple[Reason | None, int, float]] = [(r, 1, r["log_odds"]) for r in real[:SHOWN]]
    if rest := real[SHOWN:]:
        steps.append((None, len(rest), sum(reason["log_odds"] for reason in rest)))
    stops = [base]
    for _, _, log_odds in steps:
        stops.append(stops[-1] + log_odds)
    low, high = _span(stops)

    def place(log_odds: float) -> float:
        return round((log_odds - low) / (high - low) * WIDTH, 1)

    bars = [
        Bar(
            reason=reason,
            others=count,
            log_odds=log_odds,
            x=min(place(start), place(stop)),
            width=max(abs(place(stop) - place(start)), 1.0),
        )
        for (reason, count, log_odds), start, stop in zip(steps, stops, stops[1:], strict=False)
    ]
    return Picture(
        base=_probability(base),
        base_x=place(base),
        end=_probability(stops[-1]),
        end_x=place(stops[-1]),
        bars=bars,
        ticks=_ticks(low, high),
    )


def _span(stops: Sequence[float]) -> tuple[float, float]:
    """Return the ends of the axis: a little beyond the outermost stops."""
    low, high = min(stops), max(stops)
    margin = max((high - low) * 0.06, 0.15)
    return low - margin, high + margin


def _ticks(low: float, high: float) -> list[Tick]:
    found: list[Tick] = []
    for probability in TICKS:
        x = round((_log_odds(probability) - low) / (high - low) * WIDTH, 1)
        if 12 <= x <= WIDTH - 12 and (not found or x - found[-1].x >= _CLOSEST):
            found.append(Tick(probability=probability, x=x))
    return found


def _probability(log_odds: float) -> float:
    return 1 / (1 + math.exp(-log_odds)) if log_odds > -700 else 0.0


def _log_odds(probability: float) -> float:
    return math.log(probability / (1 - probability))
