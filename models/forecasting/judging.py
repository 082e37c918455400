"""How good forecasts were: ranges against what came, and errors next to those of simple rules."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np

from crm_core.store import Store
from models.forecasting.periods import Span
from models.forecasting.replaying import LEVELS, Case, Replay, Say, read_past
from models.forecasting.simple import SIMPLE_RULES
from models.hazard import Floats

LAST_QUARTERS = 8
"""Whole quarters that are judged of each company."""

_RESAMPLES = 1000

Company = dict[str, list[Replay]]
"""The judged replays of one company, by the name of what was asked."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One kind of forecast: of which period, and how many months into the one at hand."""

    title: str
    case: Case
    months_in: int = 0


ASKED = (
    Asked(title="the quarter, from its first day", case=Case(span=Span.QUARTER, ahead=0)),
    Asked(title="the quarter, after a month", case=Case(span=Span.QUARTER, ahead=0), months_in=1),
    Asked(title="the quarter, after two months", case=Case(span=Span.QUARTER, ahead=0), months_in=2),
    Asked(title="the next quarter", case=Case(span=Span.QUARTER, ahead=1)),
    Asked(title="the month, from its first day", case=Case(span=Span.MONTH, ahead=0)),
    Asked(title="the next month", case=Case(span=Span.MONTH, ahead=1)),
)


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What was found of one kind of forecast, over all companies.

    `inside`: by percent, the share of ranges that held what came, with a 95 % interval from drawing companies
    again; `independent`: the same for deals that share nothing. `error`: by who says it, the median of the
    absolute error over what came. `pinball`: the mean loss over the quantiles 0.1 to 0.9, over the mean of
    what came; a single figure stands for all its quantiles. `level`: what was expected over what came.
    """

    title: str
    forecasts: int
    inside: dict[int, tuple[float, float, float]]
    independent: dict[int, float]
    error: dict[str, float]
    pinball: dict[str, float]
    level: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return vars(self)


def judge_company(store: Store, as_of: datetime, *, say: Say = lambda _: None) -> Company:
    """Return the replays of a company's last whole quarters, judged by what is known at `as_of`.

    Every replay knows only what was known when it was made, its corrections included.
    """
    past = read_past(store, as_of, compare=True, say=say)
    now = past.book.at(past.as_of)
    found = {}
    for asked in ASKED:
        most = LAST_QUARTERS * 3 // asked.case.span.months
        replays = past.replays(asked.case, now, months_in=asked.months_in)
        found[asked.title] = [one for one in replays if _in_last_quarters(one, past.as_of)][-most:]
    return found


def _in_last_quarters(replay: Replay, as_of: int) -> bool:
    last = Case(span=Span.QUARTER, ahead=-1).period(as_of)
    return last.moved(1 - LAST_QUARTERS).start <= replay.period.start and replay.period.end <= last.end


def sum_up(companies: Sequence[Company]) -> list[Figures]:
    """Return the figures of all kinds of forecasts."""
    return [_figures(asked.title, [company[asked.title] for company in companies]) for asked in ASKED]


def _figures(title: str, companies: Sequence[Sequence[Replay]]) -> Figures:
    replays = [one for company in companies for one in company]
    said = _sayers()
    came = np.array([one.came for one in replays])
    return Figures(
        title=title,
        forecasts=len(replays),
        inside={level: _share(companies, level) for level in LEVELS},
        independent={level: float(np.mean([_held(one, level) for one in replays])) for level in LEVELS},
        error={name: _median_error(replays, say) for name, say in said.items()},
        pinball={
            "model": float(np.mean([_pinball(one, one.quantiles) for one in replays]) / came.mean()),
            **{name: _point_pinball(replays, said[name]) for name in SIMPLE_RULES},
        },
        level={name: _level(replays, say) for name, say in said.items()},
    )


def _sayers() -> dict[str, Callable[[Replay], float | None]]:
    """Return who says what, by name."""
    rules = {name: (lambda one, name=name: getattr(one.simple, name)) for name in SIMPLE_RULES}
    return {"model": lambda one: one.expected, **rules}


def _share(companies: Sequence[Sequence[Replay]], level: int) -> tuple[float, float, float]:
    """Return the share of ranges that held what came, and its interval from drawing companies again."""
    inside = np.array([sum(one.inside(level) for one in company) for company in companies], dtype=np.float64)
    count = np.array([len(company) for company in companies], dtype=np.float64)
    drawn = np.random.default_rng(0).integers(0, len(companies), (_RESAMPLES, len(companies)))
    shares = inside[drawn].sum(axis=1) / count[drawn].sum(axis=1)
    low, high = np.quantile(shares, [0.025, 0.975]).tolist()
    return float(inside.sum() / count.sum()), low, high


def _held(one: Replay, level: int) -> bool:
    low, high = one.independent[level]
    return low <= one.came <= high


def _told(replays: Sequence[Replay], say: Callable[[Replay], float | None]) -> tuple[Floats, Floats]:
    """Return what was said and what came, where something was said."""
    pairs = [(said, one.came) for one in replays if (said := say(one)) is not None]
    both = np.array(pairs, dtype=np.float64).reshape(-1, 2)
    return both[:, 0], both[:, 1]


def _median_error(replays: Sequence[Replay], say: Callable[[Replay], float | None]) -> float:
    said, came = _told(replays, say)
    sold = came > 0
    return float(np.median(np.abs(said[sold] - came[sold]) / came[sold])) if sold.any() else float("nan")


def _level(replays: Sequence[Replay], say: Callable[[Replay], float | None]) -> float:
    said, came = _told(replays, say)
    return float(said.sum() / came.sum()) if came.sum() else float("nan")


def _pinball(one: Replay, quantiles: dict[float, float]) -> float:
    losses = [max(q * (one.came - said), (q - 1) * (one.came - said)) for q, said in quantiles.items()]
    return float(np.mean(losses))


def _point_pinball(replays: Sequence[Replay], say: Callable[[Replay], float | None]) -> float:
    told = [(one, said) for one in replays if (said := say(one)) is not None]
    if not told:
        return float("nan")
    losses = [_pinball(one, dict.fromkeys(one.quantiles, said)) for one, said in told]
    return float(np.mean(losses) / np.mean([one.came for one, _ in told]))


def render(figures: Sequence[Figures]) -> Iterator[str]:
    """Yield the lines of two tables: ranges against what came, and errors next to those of simple rules."""
    heads = (
        "forecast of",
        "forecasts",
        *(f"in the {level} % range" for level in LEVELS),
        "80 %, deals alone",
    )
    yield f"| {' | '.join(heads)} |"
    yield "|---|---|---|---|---|---|"
    for one in figures:
        inside = " | ".join(f"{at:.1%} ({low:.0%} to {high:.0%})" for at, low, high in one.inside.values())
        yield f"| {one.title} | {one.forecasts} | {inside} | {one.independent[80]:.1%} |"
    yield ""
    yield "| forecast of | by | median error | pinball loss | said over came |"
    yield "|---|---|---|---|---|"
    for one in figures:
        for name in one.error:
            shown = "**model**" if name == "model" else _TITLES[name]
            loss = one.pinball[name]
            yield f"| {one.title} | {shown} | {one.error[name]:.1%} | {loss:.3f} | {one.level[name]:.2f} |"


_TITLES = {
    "stages": "stage's win rate x amount, due in the period",
    "reps": "reps' own probability x amount, due in the period",
    "last_period": "the last whole period",
    "last_year": "the same period a year ago",
}
