"""Reasons: why a record has its probability, in words and in log-odds that add up."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from features.declaration import Feature
from features.feature_set import FeatureSet, Group
from features.rows import Frame, column_of
from features.wording import show
from models.bundle import Explanation, ModelBundle
from models.hazard import expit
from models.horizons import within, within_zh
from models.tasks import get_task
from models.usual import Usual

BASE = "base"
"""Group and feature of the reason that says where all records start."""

Reason = dict[str, Any]


def explain_rows(
    bundle: ModelBundle, feature_set: FeatureSet, frame: Frame, explanation: Explanation | None = None
) -> list[list[Reason]]:
    """Return the reasons of each row of a frame, those that weigh most first.

    A reason is {"group", "feature", "value", "usual", "log_odds", "en", "zh", "fields"}. The features of a
    group are one reason, told by the one that weighs most in the direction of all together, beside what is
    usual for it, and `fields` names what that one reads ("deal.amount"), for whoever may not see it; a group
    that adds nothing is no reason. One item of group "base" is the average record. The items add up to the
    log-odds of the probability shown, to within 1e-9.
    """
    explanation = explanation or bundle.explain(frame)
    groups = feature_set.grouped(explanation.features)
    base = base_reason(bundle, explanation.base)
    values = {name: column_of(frame, name) for name in explanation.features}
    return [
        _in_order([base, *_reasons_of(row, groups, parts, values, bundle.usual)])
        for row, parts in enumerate(explanation.parts.tolist())
    ]


NOT_ENOUGH_DATA = "not_enough_data"
"""Group and feature of the reason that says that a record is unlike any that the model learned from."""


def explain_unlike(bundle: ModelBundle, feature_set: FeatureSet, frame: Frame, row: int) -> list[Reason]:
    """Return why nothing is said of a row: that it is unlike any seen, and what is strange in it.

    The form is that of reasons; none of them weighs anything.
    """
    strange = bundle.familiar.strange_features(frame, row)
    many = len(strange)
    first = {
        "group": NOT_ENOUGH_DATA,
        "feature": NOT_ENOUGH_DATA,
        "value": many,
        "log_odds": 0.0,
        "en": f"{many} things are unlike any record that the model learned from",
        "zh": f"有 {many} 项与模型学过的记录都不同",
        "fields": [],
    }
    return [
        first,
        *(_strange(bundle, feature_set.get(name), column_of(frame, name)[row]) for name in strange),
    ]


def _strange(bundle: ModelBundle, feature: Feature, cell: object) -> Reason:
    value = plain(cell)
    seen = bundle.familiar.seen[feature.name]
    en, zh = feature.say(value, "en"), feature.say(value, "zh")
    if value is None:
        en, zh = f"{en}: it never was missing before", f"{zh}，以前从未缺失"
    elif seen.low is not None and seen.high is not None:
        low, high = show(seen.low, feature.unit), show(seen.high, feature.unit)
        en, zh = f"{en}: only {low} to {high} were ever seen", f"{zh}，以前只见过 {low} 至 {high}"
    else:
        en, zh = f"{en}: hardly ever seen before", f"{zh}，以前几乎没有见过"
    return {
        "group": feature.group,
        "feature": feature.name,
        "value": value,
        "log_odds": 0.0,
        "en": en,
        "zh": zh,
        "fields": list(feature.source_fields),
    }


def _reasons_of(
    row: int,
    groups: list[Group],
    parts: list[float],
    values: dict[str, np.ndarray[Any, Any]],
    usual: Usual,
) -> Iterator[Reason]:
    for group in groups:
        shares = [parts[position] for position in group.positions]
        if not any(shares):
            continue
        total = math.fsum(shares)
        strongest = group.features[_strongest(shares, total)]
        value, middle = plain(values[strongest.name][row]), usual.middle.get(strongest.name)
        yield {
            "group": group.name,
            "feature": strongest.name,
            "value": value,
            "usual": middle,
            "log_odds": total,
            "en": strongest.say(value, "en", middle),
            "zh": strongest.say(value, "zh", middle),
            "fields": list(strongest.source_fields),
        }


def _strongest(shares: list[float], total: float) -> int:
    """Return which share tells the reason: the largest that goes the way that all go together.

    The largest of all may go the other way, and "4 meetings" would stand as a reason against.
    """
    along = shares if total >= 0 else [-share for share in shares]
    return along.index(max(along))


def base_reason(bundle: ModelBundle, log_odds: float) -> Reason:
    """Return the reason that says where all records start."""
    task = get_task(bundle.task).of_variant(bundle.variant)
    average, days = float(expit(np.array(log_odds))), bundle.horizon_days
    own = task.own_horizon is not None
    in_time = "within the time that their rhythm allows" if own else within(days)
    in_time_zh = "在自身节奏所允许的时间内" if own else within_zh(days)
    english = f"{average:.0%} of such records are {task.outcome_en} {in_time} on average"
    chinese = f"这类记录平均 {average:.0%} {in_time_zh}{task.outcome_zh}"
    if task.no_time_order:
        english += "; learned from records without dates, so no time order was possible"
        chinese += "；模型所学的记录没有日期，无法按时间顺序检验"
    if not bundle.says_probability:
        english = "Points by opinion: too few outcomes are known to say how likely it is"
        chinese = "按经验打分：已知结果太少，无法给出概率"
    return {
        "group": BASE,
        "feature": BASE,
        "value": average,
        "usual": None,
        "log_odds": log_odds,
        "en": english,
        "zh": chinese,
        "fields": [],
    }


def _in_order(reasons: list[Reason]) -> list[Reason]:
    return sorted(reasons, key=lambda reason: -abs(reason["log_odds"]))


def plain(value: object) -> float | str | None:
    """Return a cell as JSON holds it; a missing one is None."""
    if value is None or isinstance(value, str):
        return value
    number = float(value)  # type: ignore[arg-type]  # a numpy float
    return None if math.isnan(number) else number
