"""Charts of a judgement, as SVG with real text; errors are those of drawing entities again."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from models.breakdown import PERIOD
from models.judging import HorizonJudgement, Judgement

_MOST_GROUPS = 15
_INK, _PALE, _GUIDE = "#1f4e79", "#9db8d2", "#999999"


def draw_calibration(judgement: HorizonJudgement) -> bytes:
    """Return a chart of what was said against what came, in bins of equal count."""
    figure, axes = _figure(f"Said and came, within {judgement.horizon_days} days")
    said = np.array([one.said for one in judgement.bins])
    came = np.array([one.happened for one in judgement.bins])
    error = np.array([one.give_or_take for one in judgement.bins])
    top = float(max(said.max(), (came + error).max())) * 1.05
    axes.plot([0, top], [0, top], color=_GUIDE, linewidth=1)
    axes.errorbar(said, came, yerr=error, fmt="o", color=_INK, ecolor=_PALE)
    axes.set(xlim=(0, top), ylim=(0, top), xlabel="said", ylabel="came true")
    return _as_svg(figure)


def draw_lift(judgement: HorizonJudgement) -> bytes:
    """Return a chart of the share of events found among the questions called most likely."""
    figure, axes = _figure(f"Events found by working down the list, within {judgement.horizon_days} days")
    axes.plot([0, 1], [0, 1], color=_GUIDE, linewidth=1)
    axes.plot(np.linspace(0, 1, len(judgement.found)), judgement.found, color=_INK)
    axes.set(xlim=(0, 1), ylim=(0, 1.01), xlabel="share of questions", ylabel="share of events")
    return _as_svg(figure)


def draw_periods(judgement: HorizonJudgement) -> bytes | None:
    """Return a chart of what was said and what came by time of asking; None where no period has figures."""
    told = [
        (part.level, part.metrics["model"])
        for part in judgement.parts
        if part.field == PERIOD and part.metrics
    ]
    if not told:
        return None
    figure, axes = _figure(f"Said and came by time of asking, within {judgement.horizon_days} days")
    place = np.arange(len(told))
    came = [metrics["base_rate"] for _, metrics in told]
    middle = np.array([one.value for one in came])
    error = np.abs(np.array([[one.low, one.high] for one in came]).T - middle)
    axes.errorbar(place, middle, yerr=error, fmt="o", color=_INK, ecolor=_PALE, label="came true")
    axes.plot(place, [metrics["mean_probability"].value for _, metrics in told], color=_GUIDE, label="said")
    axes.set_xticks(place, [level for level, _ in told], rotation=30)
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    return _as_svg(figure)


def draw_importances(judgement: Judgement) -> bytes:
    """Return a chart of the mean absolute contribution of the groups of features that weigh most."""
    figure, axes = _figure("Mean absolute contribution, log-odds")
    shown = judgement.importances[:_MOST_GROUPS][::-1]
    axes.barh([group.replace("_", " ") for group, _ in shown], [size for _, size in shown], color=_INK)
    return _as_svg(figure)


def _figure(title: str) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 4), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure, axes


def _as_svg(figure: Any) -> bytes:  # noqa: ANN401  matplotlib's Figure, imported late
    from matplotlib import rc_context

    buffer = io.BytesIO()
    # Text stays text, and the same figure is the same bytes.
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "crm"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()
