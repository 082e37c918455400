"""What is shown of how right a champion was: in counts, in money, by period and segment, week by week."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from itertools import groupby
from typing import Any

from models.shown_horizon import shown_horizon
from serving.reports import in_order
from serving.web.shown_as import choice, money
from serving.web.words import WORDS, word

Estimate = Mapping[str, float | None]

_MOST_GROUPS = 12
_PART_METRICS = ("mean_probability", "base_rate", "auc", "log_loss")
_BRIER = ("brier", "brier_reliability", "brier_resolution", "brier_uncertainty")


@dataclass(frozen=True, kw_only=True)
class PartLine:
    """One period or segment: its figures in the order of their columns; none where there were too few."""

    field: str
    level: str
    questions: int
    records: int
    records_with_outcome: int
    cells: Sequence[Estimate]
    base_rate_loss: float | None


@dataclass(frozen=True, kw_only=True)
class MoneyCard:
    """What was expected and what came, and by name the shares of it that the first tenth of a list held."""

    expected: str
    came: str
    times: Estimate
    lines: Sequence[tuple[str, Estimate, Estimate]]
    by_amount: Estimate


@dataclass(frozen=True, kw_only=True)
class Detail:
    """The judgement of a champion, beyond the table of its metrics."""

    called: Sequence[Mapping[str, Any]]
    brier: Sequence[Estimate]
    slope: Estimate | None
    precision: Estimate | None
    parts: Sequence[PartLine]
    money: MoneyCard | None
    importances: Sequence[tuple[str, float, int]]
    ages: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True, kw_only=True)
class MondayLine:
    """What was said on a Monday of all records open then, and what came of it."""

    day: date
    asked: int
    said: float
    came: int | None
    expected: str | None
    money_came: str | None
    running: Estimate | None


@dataclass(frozen=True, kw_only=True)
class ReplayCard:
    """History replayed: by model, when it was made, and its Mondays."""

    horizon_days: int
    has_money: bool
    models: Sequence[tuple[datetime, Sequence[MondayLine]]]
    called: Sequence[Mapping[str, Any]]


def read_detail(report: Mapping[str, Any] | None) -> Detail | None:
    """Return what a report says beyond the metrics; None for one that was not judged, or long ago."""
    judged: Mapping[str, Any] = (report or {}).get("judged") or {}
    main = shown_horizon(judged)
    if not main.get("called"):
        return None
    metrics = main["metrics"]["model"]
    return Detail(
        called=main["called"],
        brier=[metrics[name] for name in _BRIER if name in metrics],
        slope=metrics.get("calibration_slope"),
        precision=metrics.get("average_precision"),
        parts=[_part(part) for part in main.get("parts") or ()],
        money=_money(main["money"]) if main.get("money") else None,
        importances=_importances(judged.get("importances") or ()),
        ages=judged.get("ages") or (),
    )


def _part(part: Mapping[str, Any]) -> PartLine:
    metrics = part["metrics"] or {}
    model = metrics.get("model", {})
    return PartLine(
        field=part["field"],
        level=_level(part["field"], part["level"]),
        questions=part["questions"],
        records=part["records"],
        records_with_outcome=part.get("records_with_outcome", 0),
        cells=[model[name] for name in _PART_METRICS] if model else [],
        base_rate_loss=metrics.get("base_rate", {}).get("log_loss", {}).get("value"),
    )


def _level(field: str, level: str) -> str:
    """Return a level in the page's language where it is a word of the program."""
    if field == "stage" and not level.startswith("("):
        return word("stage", level)
    for kind in ("level", field):
        if level in WORDS.get(kind, {}):
            return word(kind, level)
    return str(choice(level, field))


def _money(found: Mapping[str, Any]) -> MoneyCard:
    shares = found["top_tenth"]
    return MoneyCard(
        expected=_amount(found["expected"], found["currency"]),
        came=_amount(found["came"], found["currency"]),
        times=found["came_to_expected"],
        lines=[
            (name, shares[name]["by_probability"], shares[name]["by_expected"])
            for name in in_order(shares)
            if name != "amount"
        ],
        by_amount=shares["amount"]["by_amount"],
    )


def _amount(value: float, currency: str | None) -> str:
    return money(Decimal(round(value)), currency or None)


def _importances(found: Sequence[Mapping[str, Any]]) -> list[tuple[str, float, int]]:
    """Return groups with their mean absolute contribution, and that in percent of the largest."""
    shown = [(each["group"], each["mean_abs_log_odds"]) for each in found[:_MOST_GROUPS]]
    largest = shown[0][1] if shown else 0.0
    return [(group, size, round(100 * size / largest)) for group, size in shown if size > 0]


def read_replay(report: Mapping[str, Any] | None) -> ReplayCard | None:
    """Return what the newest replay of a task says; None without one."""
    if not report or not report.get("mondays"):
        return None
    mondays: Sequence[Mapping[str, Any]] = report["mondays"]
    currency = report.get("currency")
    return ReplayCard(
        horizon_days=report["horizon_days"],
        has_money=any(monday["money_expected"] is not None for monday in mondays),
        models=[
            (datetime.fromisoformat(made), [_monday(each, currency) for each in group])
            for made, group in groupby(mondays, key=lambda monday: str(monday["model_as_of"]))
        ],
        called=report["called"],
    )


def _monday(monday: Mapping[str, Any], currency: str | None) -> MondayLine:
    expected, came = monday["money_expected"], monday["money_came"]
    return MondayLine(
        day=date.fromisoformat(monday["monday"]),
        asked=monday["asked"],
        said=monday["said"],
        came=monday["came"],
        expected=None if expected is None else _amount(expected, currency),
        money_came=None if came is None else _amount(came, currency),
        running=monday["running"],
    )
