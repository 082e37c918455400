"""Which deals will be won: asked of open deals every week and at stage changes."""

from __future__ import annotations

from features.cohort import deal_cohort
from features.labels import deal_labels
from models.task import Task

TASK = Task(
    name="win_probability",
    record_type="deal",
    outcome_en="won",
    outcome_zh="赢单",
    horizon_days=90,
    horizons_days=(30, 60, 90, 180),
    intervals_days=(7, 14, 30, 60, 90),
    ask=deal_cohort,
    ask_to_judge=deal_cohort,
    labels=deal_labels,
    simple_rules={"stage_rate": ("stage",)},
    segments=("pipeline", "owner_team"),
)
