"""Which leads will be converted: asked of open leads at creation and at fixed ages."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np

from crm_core.store import Store
from features.cohort import Cohort, lead_cohort
from features.labels import lead_labels
from models.hazard import Floats
from models.task import Task

if TYPE_CHECKING:
    from pandas import DataFrame

AGES_DAYS = (0, 7, 14, 30, 60, 120, 240)
"""When a lead is asked about, in days after it came to exist."""


NEW_DAYS = 3.5
"""Younger leads are judged by where they came from; of older ones it tells more what they did since."""


AGE_LIMITS_DAYS = (7.0, 30.0, 60.0, 90.0, 180.0)
"""Ages beyond each of which leads may be converted at another rate. Nine limits tell
the public Olist leads no better than these, and those of a small company worse."""


def ask_leads(store: Store, *, start: datetime, until: datetime) -> Cohort:
    """Return open leads at creation and at fixed ages."""
    return lead_cohort(store, start=start, until=until, ages_days=AGES_DAYS)


def ask_new_leads(store: Store, *, start: datetime, until: datetime) -> Cohort:
    """Return leads at creation."""
    return lead_cohort(store, start=start, until=until, ages_days=AGES_DAYS[:1])


def weigh_ages(frame: DataFrame) -> Floats:
    """Let the question at creation count as much as all later ones of a lead together."""
    later = 1.0 / (len(AGES_DAYS) - 1)
    return np.where(frame["age_days"].to_numpy() < NEW_DAYS, 1.0, later)


TASK = Task(
    name="lead_scoring",
    record_type="lead",
    outcome_en="converted",
    outcome_zh="转化",
    horizon_days=90,
    horizons_days=(30, 60, 90, 180),
    intervals_days=(7, 14, 30, 60, 90),
    ask=ask_leads,
    ask_to_judge=ask_new_leads,
    labels=lead_labels,
    simple_rules={"source_rate": ("source",)},
    plan_weights=weigh_ages,
    fresh=("age_days", NEW_DAYS),
    segments=("owner_team",),
    ages=("age_days", AGE_LIMITS_DAYS),
)
