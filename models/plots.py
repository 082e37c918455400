"""Charts of a judgement, as SVG with real text."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from models.judging import HorizonJudgement

_INK, _PALE, _GUIDE = "#1f4e79", "#9db8d2", "#999999"


def draw_calibration(judgement: HorizonJudgement) -> bytes:
    """Return a chart of what was said against what came, in bins of equal count."""
    figure, axes = _figure(f"Said and came, within {judgement.horizon_days} days")
    said = np.array([one.said for one in judgement.bins])
    came = np.array([one.happened for one in judgement.bins])
    count = np.array([one.count for one in judgement.bins])
    error = 1.96 * np.sqrt(np.maximum(came * (1 - came), 1e-4) / count)
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
