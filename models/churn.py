"""Which customers will leave: asked of active customers every month.

A company with contracts loses a customer when the last contract ends without renewal; one without loses
those who stop ordering.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from crm_core.store import Store
from features.cohort import ACTIVE_DAYS, Cohort, account_cohort, churn_kind
from features.labels import contract_labels, order_labels
from models.hazard import Bools
from models.task import Task

if TYPE_CHECKING:
    from pandas import DataFrame


def ask_customers(store: Store, *, start: datetime, until: datetime, kind: str) -> Cohort:
    """Return active customers at month ends."""
    return account_cohort(store, start=start, until=until, kind=kind)


def have_ordered(frame: DataFrame) -> Bools:
    """Tell who ordered lately enough to be a customer still."""
    return np.asarray(frame[f"orders_count_{ACTIVE_DAYS}d"].to_numpy() > 0)


def have_contract(frame: DataFrame) -> Bools:
    """Tell who has a contract that runs on."""
    return np.asarray(frame["days_to_contract_end"].notna().to_numpy())


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

TASK = replace(ORDERS, variants={"orders": ORDERS, "contracts": CONTRACTS}, find_variant=churn_kind)
