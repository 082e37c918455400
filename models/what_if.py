"""What goes with another score: a record asked about again as if something had just been done.

The answer is what the model has learned goes together, not what would follow: who has meetings with whom
was nobody's experiment.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from crm_core.errors import NotEnoughDataError
from crm_core.phrases import Phrase
from crm_core.store import Store
from features.blocks import columns_from
from features.cohort import Cohort
from features.feature_set import FeatureSet, check_usable
from features.frame import frame_of
from features.population import read_all
from features.supposing import suppose
from models.actions import ACTIONS, Action, Situation
from models.bundle import ModelBundle
from models.explain import plain
from models.hazard import Bools, Floats
from models.horizons import within, within_zh
from models.questions import own_days
from models.scoring import features_of
from models.task import Task
from models.tasks import get_task
from models.usual import Usual

if TYPE_CHECKING:
    from pandas import DataFrame

FEW_RECORDS = 20
"""Records in a situation below which it says little."""

ALIKE = 0.05
"""Odds that differ by a smaller share are as good as the same."""

_MARGIN = {"days": 7.0, "hours": 48.0, "share": 0.05, "ratio": 0.05}
"""How far beyond its experience a model may be asked, by unit: what was just done is newer than most."""

NOTE = {
    "en": "This is what went together in the past, not a promise: it does not show that doing it helps.",
    "zh": "以上只是过去同时出现的情况，并非承诺：不能说明这样做就会有效。",
}
"""What has to be said beside every such answer."""


@dataclass(frozen=True, kw_only=True)
class Hint:
    """One thing to do, and the probability with it.

    `done_en` and `done_zh` name it, `en` and `zh` say all of it. `change` is the difference to the record as
    it stands, in probability; `alike` where that is too little to tell anything. `fields` are those that the
    changed features read, for whoever may not see them. A `caution` says what the model has hardly seen.
    """

    action: str
    done_en: str
    done_zh: str
    probability: float
    change: float
    log_odds: float
    alike: bool
    en: str
    zh: str
    caution_en: str | None
    caution_zh: str | None
    fields: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class WhatIf:
    """A record's probability as it stands, and what goes with another, the best for the company first."""

    task: str
    horizon_days: int
    high_is_good: bool
    probability: float
    hints: tuple[Hint, ...]


def what_would_change(store: Store, bundle: ModelBundle, record_id: int, as_of: datetime) -> WhatIf:
    """Return what goes with another score of a record; nothing is written.

    Time rule: that of `features.windows`; what is supposed happens, and is known, at `as_of` itself. What
    leaves every feature as it is comes with nothing and is left out.

    Raises NotEnoughDataError for a record that the task is not asked of, RecordNotFoundError, and
    FeatureSetMismatchError as scoring does.
    """
    feature_set = features_of(store, bundle)
    cohort = Cohort.single(bundle.record_type, record_id, as_of)
    actions, frame = _asked_with(store, bundle, cohort, feature_set)
    task = get_task(bundle.task).of_variant(bundle.variant)
    unlike = bundle.familiar.unlike(frame)
    _check_answers(bundle, task, frame, record_id, unlike=bool(unlike[0]))
    scores = bundle.predict(frame)
    days = own_days(task, frame)
    said = _Said(bundle, feature_set, task, bundle.horizon_days if days is None else int(days[0]))
    hints = [
        _with_caution(hint) if strange else hint
        for hint, strange in _hints(actions, frame, (scores.probability, scores.log_odds), unlike, said)
    ]
    better = 1 if bundle.high_is_good else -1
    return WhatIf(
        task=bundle.task,
        horizon_days=said.horizon_days,
        high_is_good=bundle.high_is_good,
        probability=float(scores.probability[0]),
        hints=tuple(sorted(hints, key=lambda hint: -better * hint.change)),
    )


def _check_answers(
    bundle: ModelBundle, task: Task, frame: DataFrame, record_id: int, *, unlike: bool
) -> None:
    """Raise NotEnoughDataError where scoring gives no probability either, and say why."""
    if task.asked_of is not None and not task.asked_of(frame)[0]:
        raise NotEnoughDataError(
            Phrase(
                "{task} is not asked of {record_type} {record_id} at present",
                task=task.name,
                record_type=task.record_type,
                record_id=record_id,
            )
        )
    if not bundle.says_probability:
        raise NotEnoughDataError(
            Phrase("{version} knows too few outcomes to say how likely anything is", version=bundle.version)
        )
    if unlike:
        raise NotEnoughDataError(
            Phrase(
                "{record_type} {record_id} is unlike any record that {version} learned from",
                record_type=task.record_type,
                record_id=record_id,
                version=bundle.version,
            )
        )


def _with_caution(hint: Hint) -> Hint:
    return replace(
        hint,
        caution_en="the record would be unlike any that the model learned from",
        caution_zh="那样的记录与模型学过的都不同",
    )


def _asked_with(
    store: Store, bundle: ModelBundle, cohort: Cohort, feature_set: FeatureSet
) -> tuple[list[Action], DataFrame]:
    """Return the actions that make sense, and a frame of the record as it stands and with each of them."""
    with store.reading() as session:
        check_usable(session, feature_set)
        tables = read_all(session, feature_set.plan, cohort.ids)
    rows = [columns_from(tables, cohort, feature_set)]
    known = {name: plain(column[0]) for name, column in rows[0].items()}
    situation = Situation(as_of=int(cohort.as_of[0]), known=known, usual=bundle.usual.middle)
    actions: list[Action] = []
    for action in ACTIONS[bundle.record_type]:
        supposition = action.makes(situation)
        if supposition is not None:
            actions.append(action)
            rows.append(columns_from(suppose(tables, cohort, supposition), cohort, feature_set))
    columns = {name: np.concatenate([row[name] for row in rows]) for name in feature_set.names}
    return actions, frame_of(columns, feature_set, len(rows))


@dataclass(frozen=True)
class _Said:
    """What sentences about suppositions are made with."""

    bundle: ModelBundle
    feature_set: FeatureSet
    task: Task
    horizon_days: int


def _hints(
    actions: list[Action], frame: DataFrame, scores: tuple[Floats, Floats], unlike: Bools, said: _Said
) -> Iterator[tuple[Hint, bool]]:
    """Yield a hint for each action that changes anything, and whether it leads beyond all that was seen."""
    probability, log_odds = (column.tolist() for column in scores)
    rows = _rows(frame)
    for place, action in enumerate(actions, start=1):
        values, chance, odds = rows[place], probability[place], log_odds[place]
        changed = [name for name in said.bundle.encoder.features if values[name] != rows[0][name]]
        if not changed:
            continue
        caution_en, caution_zh = _caution(changed, values, said)
        fields = {field for name in changed for field in said.feature_set.get(name).source_fields}
        hint = Hint(
            action=action.key,
            done_en=action.en,
            done_zh=action.zh,
            probability=chance,
            change=chance - probability[0],
            log_odds=odds - log_odds[0],
            alike=_alike(probability[0], chance),
            en=_sentence_en(action, probability[0], chance, said),
            zh=_sentence_zh(action, probability[0], chance, said),
            caution_en=caution_en,
            caution_zh=caution_zh,
            fields=tuple(sorted(fields)),
        )
        yield hint, bool(unlike[place])


def _rows(frame: DataFrame) -> list[dict[str, Any]]:
    """Return each row as plain values by name; a missing one is None, which equals itself."""
    columns = {name: [plain(value) for value in frame[name].to_numpy()] for name in frame.columns}
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


_RECORDS = {"lead": ("leads", "线索"), "deal": ("deals", "商机"), "account": ("customers", "客户")}


def _sentence_en(action: Action, before: float, after: float, said: _Said) -> str:
    records, _ = _RECORDS[said.bundle.record_type]
    old, new = percentages(before, after)
    such = f"{records.capitalize()} like this one with {action.en} are {said.task.outcome_en}"
    when = within(said.horizon_days)
    if _alike(before, after):
        return f"{such} about as often {when}: {percentage(after)}"
    often = "more often" if after > before else "less often"
    return f"{such} {often} {when}: {new} instead of {old}"


def _sentence_zh(action: Action, before: float, after: float, said: _Said) -> str:
    _, records = _RECORDS[said.bundle.record_type]
    old, new = percentages(before, after)
    outcome = said.task.outcome_zh.replace(", ", "、")
    when = within_zh(said.horizon_days).removeprefix("在 ")
    such = f"与此类似、{action.zh}的{records}，{when}{outcome}"
    if _alike(before, after):
        return f"{such}的可能差别不大：{percentage(after)}"
    return f"{such}的可能{'更高' if after > before else '更低'}：{new}，而非 {old}"


def _alike(before: float, after: float) -> bool:
    """Tell whether two probabilities differ by so little that it says nothing."""
    odds = after * (1 - before), before * (1 - after)
    return abs(odds[0] - odds[1]) < ALIKE * max(odds)


def percentages(before: float, after: float) -> tuple[str, str]:
    """Return two probabilities in percent, with a decimal where they would look alike without."""
    old, new = percentage(before), percentage(after)
    return (old, new) if old != new else (f"{before:.1%}", f"{after:.1%}")


def percentage(value: float) -> str:
    """Return a probability in whole percent, below one with a decimal."""
    return f"{value:.0%}" if value >= 0.0095 else f"{value:.1%}"


def _caution(changed: list[str], values: Mapping[str, Any], said: _Said) -> tuple[str | None, str | None]:
    """Return, in both languages, in what the model would be asked beyond what it has seen."""
    usual = said.bundle.usual
    situation = usual.situation(values)
    records_en, records_zh = _RECORDS[said.bundle.record_type]
    like_en, like_zh = _like(usual, records_en, records_zh)
    seen = usual.records.get(situation)
    if usual.records and (seen or 0) < FEW_RECORDS:
        return (
            f"learned from only {seen or 0} {like_en}",
            f"仅从 {seen or 0} 个{like_zh}中学得",
        )
    for name in changed:
        if _is_odd(name, values[name], situation, said):
            feature = said.feature_set.get(name)
            told = [feature.say(values[name], language) for language in ("en", "zh")]
            return f"hardly ever seen among {like_en}: {told[0]}", f"{like_zh}中几乎未见：{told[1]}"
    return None, None


def _like(usual: Usual, records_en: str, records_zh: str) -> tuple[str, str]:
    match usual.by:
        case "stage":
            return f"{records_en} at such a stage", f"该阶段的{records_zh}"
        case "age_days":
            return f"{records_en} of such an age", f"同龄{records_zh}"
    return records_en, records_zh


def _is_odd(name: str, value: Any, situation: str, said: _Said) -> bool:  # noqa: ANN401  any feature's value
    """Tell whether a value lies beyond what was seen; a word without a column of its own hardly was."""
    feature = said.feature_set.get(name)
    if feature.dtype == "category":
        levels = {column.level for column in said.bundle.encoder.columns if column.feature == name}
        return value is not None and str(value) not in levels
    reach = said.bundle.usual.reach.get(situation, {}).get(name)
    if reach is None or value is None or not math.isfinite(value):
        return False
    margin = _MARGIN.get(feature.unit, 0.0)
    return not reach[0] - margin <= value <= reach[1] + margin
