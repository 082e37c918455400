"""What is shown of a version of a task: who put it in charge, on what it learned, how good it was."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from flask_babel import lazy_gettext as _
from sqlalchemy.orm import Session

from crm_core.clock import micros
from crm_core.predictions import IN_THE_END_DAYS
from crm_core.promotions import Promotion
from models.shown_horizon import shown_horizon
from serving.champions import Champions, Trouble
from serving.home import Home
from serving.reports import in_order, read_report
from serving.web.judgement_card import Detail, PartLine, read_detail
from serving.web.standing import Standing, read_standings
from serving.web.watch_card import Watch, read_watch_card

COLUMNS: Mapping[str, object] = {
    "auc": _("AUC"),
    "log_loss": _("Log loss"),
    "brier": _("Brier score"),
    "calibration_error": _("Calibration error"),
    "lift_top_decile": _("Lift, top 10 percent"),
    "mean_probability": _("Mean probability"),
    "base_rate": _("Came true"),
}
"""The metrics shown, each with its title."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """How good the model, a baseline or the truth was."""

    name: str
    cells: Sequence[Mapping[str, float | None] | None]


@dataclass(frozen=True, kw_only=True)
class Judged:
    """How good a model was on questions asked later than all it knew, or on records set aside."""

    questions: int
    outcomes: int
    horizon_days: int
    first_asked: str
    last_asked: str
    lines: Sequence[Line]
    no_time_order: bool = False

    @property
    def in_the_end(self) -> bool:
        """Return whether it was asked how a record ends, whenever that is."""
        return self.horizon_days == IN_THE_END_DAYS


@dataclass(frozen=True, kw_only=True)
class Headline:
    """One figure of the model with its interval, beside the best of what it had to beat."""

    metric: str
    found: Mapping[str, float | None]
    beside: str | None
    best: float | None


@dataclass(frozen=True, kw_only=True)
class Card:
    """What is known of a version of a task: as a rule its champion."""

    task: str
    version: str | None
    promotion: Promotion | None
    by: str | None
    challenger: str | None
    trouble: Trouble | None
    report: Mapping[str, Any]
    trained: Mapping[str, Any]
    estimator: str | None
    judged: Judged | None
    headlines: Sequence[Headline]
    detail: Detail | None
    watch: Watch | None
    says_probability: bool
    next_step: Mapping[str, Any] | None

    @property
    def horizon(self) -> Mapping[str, Any]:
        """Return what the report says of the horizon that is shown."""
        return shown_horizon(self.report.get("judged"))

    @property
    def weak_parts(self) -> Sequence[PartLine]:
        """Return the segments in which what was said lies outside of the interval of what came."""
        told = [part for part in self.detail.parts if part.cells] if self.detail else []
        return [part for part in told if _is_off(part)]

    @property
    def thin_parts(self) -> Sequence[PartLine]:
        """Return the segments with too few records for figures."""
        return [part for part in self.detail.parts if not part.cells] if self.detail else []

    @property
    def verdict(self) -> str:
        """Return in a word whether the champion is still right: one of `verdict` of the words."""
        if self.promotion is None:
            return "none"
        if self.trouble is not None:
            return "trouble"
        return self.watch.state if self.watch else "unasked"


def read_cards(session: Session, home: Home, champions: Champions) -> list[Card]:
    """Return a card for the champion of every task."""
    return [card_of(home, champions, each) for each in read_standings(session)]


def card_of(home: Home, champions: Champions, standing: Standing, version: str | None = None) -> Card:
    """Return the card of a version of a task: of its champion, unless another is named."""
    promotion, task = standing.promotion, standing.task
    shown = version or (promotion.model_version if promotion else None)
    report = (read_report(home, shown) if shown else None) or {}
    return Card(
        task=task,
        version=shown,
        promotion=promotion,
        by=standing.by,
        challenger=standing.challenger,
        trouble=champions.troubles.get(task),
        report=report,
        trained=_trained(home, report, promotion if promotion and promotion.model_version == shown else None),
        estimator=report.get("estimator"),
        judged=_judged(report),
        headlines=_headlines(report),
        detail=read_detail(report),
        watch=read_watch_card(home, task, promotion.model_version) if promotion else None,
        says_probability=report.get("says_probability", True),
        next_step=_next_step(report),
    )


HEADLINES = {"auc": True, "log_loss": False, "calibration_error": False, "lift_top_decile": True}
"""The metrics told first, and whether more is better."""


def _is_off(part: PartLine) -> bool:
    said, came = part.cells[0]["value"], part.cells[1]
    low, high = came["low"], came["high"]
    return said is not None and low is not None and high is not None and not low <= said <= high


def _headlines(report: Mapping[str, Any]) -> list[Headline]:
    metrics = shown_horizon(report.get("judged")).get("metrics") or {}
    ours = metrics.get("model", {})
    return [
        _headline(metric, metrics, more_is_better=more)
        for metric, more in HEADLINES.items()
        if (ours.get(metric) or {}).get("value") is not None
    ]


def _headline(metric: str, metrics: Mapping[str, Any], *, more_is_better: bool) -> Headline:
    beside = {
        name: found[metric]["value"]
        for name, found in metrics.items()
        if name not in ("model", "truth") and (found.get(metric) or {}).get("value") is not None
    }
    choose = max if more_is_better else min
    best = choose(beside, key=lambda name: beside[name]) if beside else None
    return Headline(
        metric=metric,
        found=metrics["model"][metric],
        beside=best,
        best=beside[best] if best is not None else None,
    )


def _next_step(report: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the step of the ladder above the one in use, and how many more outcomes it needs."""
    ahead: Mapping[str, Any] | None = report.get("selection", {}).get("next_step")
    return ahead if ahead and ahead["estimator"] else None


def _trained(home: Home, report: Mapping[str, Any], promotion: Promotion | None) -> Mapping[str, Any]:
    """Return on what a model learned, as its own file says; its report where the file is elsewhere."""
    path = home.models / f"{promotion.sha256}.json" if promotion else None
    if path is None or not path.is_file():
        return _told_of_training(report)
    try:
        trained: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))["trained"]
    except (ValueError, KeyError):  # a damaged file; the page says so elsewhere
        return {}
    return trained


def _told_of_training(report: Mapping[str, Any]) -> Mapping[str, Any]:
    training = report.get("training") or {}
    if not report.get("as_of") or not {"questions", "outcomes", "without_outcome"} <= training.keys():
        return {}
    return {**training, "as_of": micros(datetime.fromisoformat(report["as_of"]))}


def _judged(report: Mapping[str, Any] | None) -> Judged | None:
    judged_on = (report or {}).get("judged")
    if not judged_on:
        return None
    main = shown_horizon(judged_on)
    lines = [
        Line(name=name, cells=[main["metrics"][name].get(column) for column in COLUMNS])
        for name in in_order(main["metrics"])
    ]
    return Judged(
        questions=main["questions"],
        outcomes=main["outcomes"],
        horizon_days=main["horizon_days"],
        first_asked=judged_on["first_asked"],
        last_asked=judged_on["last_asked"],
        lines=lines,
        no_time_order=bool((report or {}).get("no_time_order")),
    )
