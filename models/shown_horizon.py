"""Of a report's judgement, the part about the horizon that records show: read by pages without a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def shown_horizon(judged: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """Return the judgement, from a report's `judged`, of the horizon that is shown on records.

    The longest where a report names none; empty where the training was not judged.
    """
    if not judged:
        return {}
    horizons: Sequence[Mapping[str, Any]] = judged["horizons"]
    shown = judged.get("horizon_days", horizons[-1]["horizon_days"])
    return next(one for one in horizons if one["horizon_days"] == shown)
