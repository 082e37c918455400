"""Which customers will leave: asked of active customers every month.

A company with contracts loses a customer when the last contract ends without renewal; one without loses
those who stop ordering: for longer than their own rhythm allows, or in a variant to compare with for a fixed
number of days.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from functools import partial

import numpy as np

from crm_core.store import Store
from features.cohort import ACTIVE_DAYS, LONGEST_RHYTHM_DAYS, Cohort, account_cohort, churn_kind
from features.labels import contract_labels, order_labels
from features.rows import Frame, column_of
from models.hazard import Bools, Floats
from models.task import Task


def ask_customers(store: Store, *, start: datetime, until: datetime, kind: str) -> Cohort:
    """Return active customers at month ends."""
    return account_cohort(store, start=start, until=until, kind=kind)


def have_ordered(frame: Frame) -> Bools:
    """Tell who ordered lately enough to be a customer still."""
    return np.asarray(column_of(frame, f"orders_count_{ACTIVE_DAYS}d") > 0)


def have_contract(frame: Frame) -> Bools:
    """Tell who has a contract that runs on."""
    return np.asarray(~np.isnan(column_of(frame, "days_to_contract_end")))


ORDERS = Task(
    name="churn",
    record_type="account",
    variant="orders",
    outcome_en="gone without another order",
    outcome_zh="流失, 不再下单",
    horizon_days=60,
    horizons_days=(60,),
    intervals_days=(60,),
    absence=True,
    high_is_good=False,
    ask=partial(ask_customers, kind="orders"),
    ask_to_judge=partial(ask_customers, kind="orders"),
    labels=order_labels,
    simple_rules={"recency": ("days_since_last_order",)},
    asked_of=have_ordered,
)

TIMES_THE_GAP = 4.0
"""Who usually orders every ten days is gone after forty without an order."""

SHORTEST_DAYS, LONGEST_DAYS = 60, LONGEST_RHYTHM_DAYS
"""But nobody before two months, and everybody after half a year."""

UNKNOWN_DAYS = 90
"""How long a customer may be silent who ordered on one day only."""


def rhythm_days(frame: Frame) -> Floats:
    """Return how long each customer may be silent before they are gone, in whole days: float64[n].

    TIMES_THE_GAP times the median days between their days with an order in the last year, within bounds.
    """
    gap = column_of(frame, "orders_gap_median_days_365d")
    allowed = np.clip(TIMES_THE_GAP * gap, SHORTEST_DAYS, LONGEST_DAYS)
    days = np.round(np.where(np.isnan(gap), UNKNOWN_DAYS, allowed))
    return np.asarray(days, dtype=np.float64)


def not_gone_yet(frame: Frame) -> Bools:
    """Tell who has not been silent for longer than their rhythm allows."""
    return np.asarray(column_of(frame, "days_since_last_order") <= rhythm_days(frame))


RHYTHM = replace(
    ORDERS,
    variant="rhythm",
    horizon_days=UNKNOWN_DAYS,
    horizons_days=(UNKNOWN_DAYS,),
    intervals_days=(UNKNOWN_DAYS,),
    ask=partial(ask_customers, kind="rhythm"),
    ask_to_judge=partial(ask_customers, kind="rhythm"),
    simple_rules={
        "recency": ("days_since_last_order",),
        "recency_by_rhythm": ("orders_gap_ratio_365d",),
    },
    own_horizon=rhythm_days,
    asked_of=not_gone_yet,
)

CONTRACTS = Task(
    name="churn",
    record_type="account",
    variant="contracts",
    outcome_en="gone without renewal",
    outcome_zh="流失, 合同不续",
    horizon_days=90,
    horizons_days=(30, 60, 90),
    intervals_days=(30, 60, 90),
    high_is_good=False,
    ask=partial(ask_customers, kind="contracts"),
    ask_to_judge=partial(ask_customers, kind="contracts"),
    labels=contract_labels,
    simple_rules={"contract_end": ("days_to_contract_end",), "recency": ("days_since_last_activity",)},
    asked_of=have_contract,
    structural=frozenset({"days_to_contract_end"}),
    decided="days_to_contract_end",
)


def find_kind(store: Store) -> str:
    """Return the variant of a company: by contracts where there are any, else by each customer's rhythm."""
    return "contracts" if churn_kind(store) == "contracts" else "rhythm"


TASK = replace(
    ORDERS, variants={"orders": ORDERS, "rhythm": RHYTHM, "contracts": CONTRACTS}, find_variant=find_kind
)
