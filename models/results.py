"""Figures of trainings as Markdown: what docs/results.md is made of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

Report = Mapping[str, Any]

_COLUMNS = {
    "auc": "AUC",
    "log_loss": "log loss",
    "brier": "Brier",
    "calibration_error": "calibration error",
    "lift_top_decile": "lift, top tenth",
    "mean_probability": "said",
    "base_rate": "came",
}
"""Metrics shown, and what they are called."""

_WIDE = ("auc", "log_loss")
"""Metrics shown with their interval."""


def render_report(title: str, report: Report) -> str:
    """Return a section on one training: what was chosen, how right it was, and beside what."""
    return "\n".join((f"### {title}", "", *_facts(report), "", *_tables(report), ""))


def _facts(report: Report) -> Iterator[str]:
    training, chosen = report["training"], report["selection"]["chosen"]
    kind = f", {report['variant']}" if report["variant"] else ""
    yield (
        f"Asked as of {report['as_of'][:10]} ({report['task']}{kind}): {training['questions']:,} questions, "
        f"{training['outcomes']:,} {report['outcome']}, {training['without_outcome']:,} not. "
        f"Chosen: **{report['estimator'].replace('_', ' ')}**{_recipe(chosen)}."
    )
    judged = report["judged"]
    if judged is None:
        yield f"Not judged: {report['not_judged']}."
        return
    made, first, last = (judged[name][:10] for name in ("model_as_of", "first_asked", "last_asked"))
    form = judged["estimator"].replace("_", " ")
    yield f"Judged: a model of {made} ({form}) on questions asked from {first} to {last}."


def _recipe(chosen: Mapping[str, Any]) -> str:
    told = []
    if chosen["penalty"] is not None:
        told.append(f"penalty {chosen['penalty']:g}")
    if chosen["rounds"] is not None:
        told.append(f"{chosen['rounds']} trees")
    told.append(f"learns from {_days(chosen['window_days'])}")
    told.append(f"level from {_days(chosen['level_days'])}")
    return f" ({', '.join(told)})"


def _days(days: int | None) -> str:
    return "all history" if days is None else f"the last {days} days"


def _tables(report: Report) -> Iterator[str]:
    if report["judged"] is None:
        return
    yield from _row(("within", "", "questions", *_COLUMNS.values()))
    yield from _row(("---",) * (len(_COLUMNS) + 3))
    for horizon in report["judged"]["horizons"]:
        for name, metrics in horizon["metrics"].items():
            yield from _line(horizon, name, horizon["answered"][name], metrics)
        unseen = horizon["unseen_accounts"]
        if unseen["metrics"] is not None:
            yield from _line(horizon, "model, new accounts", unseen["questions"], unseen["metrics"])


def _line(
    horizon: Mapping[str, Any], name: str, questions: int, metrics: Mapping[str, Mapping[str, float | None]]
) -> Iterator[str]:
    cells = [_cell(metric, metrics[metric]) for metric in _COLUMNS]
    shown = f"**{name}**" if name == "model" else name.replace("_", " ")
    yield from _row((f"{horizon['horizon_days']} days", shown, f"{questions:,}", *cells))


def _cell(metric: str, estimate: Mapping[str, float | None]) -> str:
    value, low, high = (estimate[name] for name in ("value", "low", "high"))
    if value is None:
        return "–"  # noqa: RUF001  an en dash stands for nothing
    if metric == "lift_top_decile":
        return f"{value:.1f}"
    if metric in _WIDE and low is not None and high is not None:
        return f"{value:.3f} ({low:.3f} to {high:.3f})"
    return f"{value:.3f}"


def _row(cells: Iterable[str]) -> Iterator[str]:
    yield f"| {' | '.join(cells)} |"
