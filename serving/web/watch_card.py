"""What is shown of the watch over a champion: what has moved, in money where it can be, and what to do."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from serving.home import Home
from serving.reports import read_watch
from serving.web.language import gettext as _
from serving.web.shown_as import money, percent
from serving.web.words import word

_MOST_FEATURES = 3
_LEVELS = {"missing": "(not given)", "other": "(other)"}
_NUMBER = r"[-+.e\d]+"
_RANGE = re.compile(rf"(?:up to |({_NUMBER}) to )({_NUMBER})|above ({_NUMBER})")


@dataclass(frozen=True, kw_only=True)
class WatchLine:
    """One finding; the figures are None where nothing could be said."""

    kind: str
    state: str
    value: float | None
    low: float | None
    high: float | None
    watch_from: float | None
    act_from: float | None
    lines: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Watch:
    """The newest report on a champion."""

    asked_at: datetime
    state: str
    new_outcomes: int
    findings: Sequence[WatchLine]
    shadow: Mapping[str, Any] | None
    report: Mapping[str, Any]


def read_watch_card(home: Home, task: str, model_version: str) -> Watch | None:
    """Return the newest report on a version; None where there is none on that one."""
    report = read_watch(home, task)
    if report is None or report["model_version"] != model_version:
        return None
    return Watch(
        asked_at=datetime.fromisoformat(report["asked_at"]),
        state=report["state"],
        new_outcomes=report["new_outcomes"],
        findings=[_line(task, finding) for finding in report["findings"]],
        shadow=report.get("shadow"),
        report=report,
    )


def _line(task: str, finding: Mapping[str, Any]) -> WatchLine:
    value = finding["value"] or {"value": None, "low": None, "high": None}
    return WatchLine(
        kind=finding["kind"],
        state=finding["state"],
        value=value["value"],
        low=value["low"],
        high=value["high"],
        watch_from=finding["watch_from"],
        act_from=finding["act_from"],
        lines=list(_said(task, finding)),
    )


def _said(task: str, finding: Mapping[str, Any]) -> Iterator[str]:
    if finding["state"] == "unknown":
        yield _("Too little has been seen since the model was made.")
    if finding["state"] not in ("watch", "act"):
        return
    for feature in finding["evidence"].get("features", ())[:_MOST_FEATURES]:
        yield _shift(feature)
    for currency, amount in (finding["money"] or {}).items():
        said = money(Decimal(round(abs(amount))), currency or None)
        yield _money_at_risk(said, amount) if task == "churn" else _money_expected(said, amount)
    yield _advice(finding["kind"])


def _money_expected(said: str, amount: float) -> str:
    if amount > 0:
        return _("What is expected of open records is %(money)s too high.", money=said)
    return _("What is expected of open records is %(money)s too low.", money=said)


def _money_at_risk(said: str, amount: float) -> str:
    if amount > 0:
        return _("The money at risk is stated %(money)s too high.", money=said)
    return _("The money at risk is stated %(money)s too low.", money=said)


def _shift(shift: Mapping[str, Any]) -> str:
    moved = [abs(after - before) for before, after in zip(shift["before"], shift["after"], strict=True)]
    place = moved.index(max(moved))
    return _(
        "%(feature)s, %(bin)s: from %(before)s to %(after)s of the records",
        feature=word("feature_group", shift["feature"]),
        bin=bin_name(shift["bins"][place]),
        before=percent(shift["before"][place]),
        after=percent(shift["after"][place]),
    )


def bin_name(name: str) -> str:
    """Return a bin of a feature as both languages read it."""
    if name in _LEVELS:
        return word("level", _LEVELS[name])
    if match := _RANGE.fullmatch(name):
        low, high, least = match.groups()
        if least is not None:
            return f"> {least}"
        return f"≤ {high}" if low is None else f"{low} – {high}"  # noqa: RUF001  a dash, as one sets it
    return name


def _advice(kind: str) -> str:
    if kind == "inputs":
        return _("The records are of another kind; that alone is no fault.")
    if kind == "outcomes":
        return _("Ask what changed in the business; the model may know it already.")
    return _("Train again.")
