"""The tasks of stores without dates, or without dates of the end, which ask how it ends, whenever that is.

- `undated`: the records came from a file without any date. One question about each, from what is declared
  as known when a record is created. There is no earlier and no later: a model is judged on records that it
  has not learned from (cross-validation), and everything that is said of it says so.
- `once`: records are dated, their ends only by a limit. One question about each, from when it became known;
  earlier ones teach, once their end was known, and later ones judge.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from crm_core.predictions import IN_THE_END_DAYS
from crm_core.store import Store
from features.asked_once import creation_cohort, ending_labels, undated_cohort
from features.endings import ONCE, UNDATED, ending_kind
from models.task import Task

NO_TIME_ORDER = (
    "no time order was possible: the records have no dates, so the model is judged on records that it has "
    "not learned from, not on later ones"
)
"""What is said wherever a model of undated records is reported."""

_WORDS = {"account": ("gone", "流失")}


def of_kind(task: Task, kind: str) -> Task:
    """Return the variant of a task that asks how a record ends: UNDATED or ONCE."""
    outcome_en, outcome_zh = _WORDS.get(task.record_type, (task.outcome_en, task.outcome_zh))
    ask = partial(undated_cohort if kind == UNDATED else creation_cohort, record_type=task.record_type)
    return replace(
        task,
        variant=kind,
        outcome_en=outcome_en,
        outcome_zh=outcome_zh,
        horizon_days=IN_THE_END_DAYS,
        horizons_days=(IN_THE_END_DAYS,),
        intervals_days=(IN_THE_END_DAYS,),
        absence=False,
        ask=ask,
        ask_to_judge=ask,
        labels=ending_labels,
        simple_rules={},
        asked_of=None,
        own_horizon=None,
        decided=None,
        plan_weights=None,
        structural=frozenset(),
        fresh=None,
        ages=None,
        only_at_creation=kind == UNDATED,
        no_time_order=kind == UNDATED,
        variants={},
        find_variant=None,
    )


def with_endings(task: Task) -> Task:
    """Return the task with the variants that ask how a record ends; what imports said chooses among them."""
    kinds = {kind: of_kind(task, kind) for kind in (UNDATED, ONCE)}
    find = partial(_variant, record_type=task.record_type, otherwise=task.find_variant)
    return replace(task, variants={**task.variants, **kinds}, find_variant=find)


def _variant(store: Store, *, record_type: str, otherwise: Callable[[Store], str] | None) -> str:
    kind = ending_kind(store, record_type)
    if kind or otherwise is None:
        return kind
    return otherwise(store)
