"""What is shown of each task's champion: who put it in charge, on what it learned, how good it was."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flask_babel import lazy_gettext as _
from sqlalchemy.orm import Session

from crm_core.predictions import IN_THE_END_DAYS
from crm_core.promotions import Promotion, find_champion
from crm_core.records import User
from models.shown_horizon import shown_horizon
from serving.champions import RECORD_TYPE_OF, Champions, Trouble
from serving.home import Home
from serving.reports import in_order, read_backtest, read_report
from serving.web.judgement_card import Detail, ReplayCard, read_detail, read_replay
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
class Card:
    """The champion of one task."""

    task: str
    promotion: Promotion | None
    by: str | None
    trouble: Trouble | None
    trained: Mapping[str, Any]
    estimator: str | None
    judged: Judged | None
    detail: Detail | None
    replay: ReplayCard | None
    watch: Watch | None
    says_probability: bool
    next_step: Mapping[str, Any] | None


def read_cards(session: Session, home: Home, champions: Champions) -> list[Card]:
    """Return a card for every task."""
    return [_card(session, home, champions, task) for task in RECORD_TYPE_OF]


def _card(session: Session, home: Home, champions: Champions, task: str) -> Card:
    promotion = find_champion(session, task)
    by = session.get(User, promotion.actor_id) if promotion and promotion.actor_id else None
    report = read_report(home, promotion.model_version) if promotion else None
    return Card(
        task=task,
        promotion=promotion,
        by=by.name if by else None,
        trouble=champions.troubles.get(task),
        trained=_trained(home, promotion),
        estimator=(report or {}).get("estimator"),
        judged=_judged(report),
        detail=read_detail(report),
        replay=read_replay(read_backtest(home, task)),
        watch=read_watch_card(home, task, promotion.model_version) if promotion else None,
        says_probability=(report or {}).get("says_probability", True),
        next_step=_next_step(report),
    )


def _next_step(report: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """Return the step of the ladder above the one in use, and how many more outcomes it needs."""
    ahead: Mapping[str, Any] | None = (report or {}).get("selection", {}).get("next_step")
    return ahead if ahead and ahead["estimator"] else None


def _trained(home: Home, promotion: Promotion | None) -> Mapping[str, Any]:
    """Return on what a model learned, as its own file says; nothing where the file is elsewhere."""
    path = home.models / f"{promotion.sha256}.json" if promotion else None
    if path is None or not path.is_file():
        return {}
    try:
        trained: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))["trained"]
    except (ValueError, KeyError):  # a damaged file; the page says so elsewhere
        return {}
    return trained


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
