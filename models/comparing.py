"""Two versions on the same questions: what the gate says of one, and how any two differ, as known now."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from crm_core.clock import instant
from crm_core.errors import DamagedModelError, ModelNotFoundError, NoChampionError
from crm_core.phrases import Phrase
from crm_core.store import Store
from features.feature_set import feature_set_for
from models.bundle import ModelBundle
from models.evaluation import (
    Judged,
    auc,
    calibration_bins,
    calibration_error,
    compare_losses,
    compare_metric,
    lift_top_decile,
    loss_of,
    measure,
    rank_correlation,
)
from models.gate import FEWEST_OUTCOMES, GateResult, compare_models
from models.judging import importances_of
from models.questions import Questions, answers, ask
from models.scoring import features_of, load_champion
from models.shadowing import compare_shadows
from models.task import Task
from models.tasks import get_task

if TYPE_CHECKING:
    from models.registry import Registry, Version


def gate_of(store: Store, registry: Registry, version: Version) -> dict[str, Any]:
    """Return what is to be said before a version is promoted, as plain data.

    The two are compared on questions asked after both were made, if enough of those are answered by now.
    Until then what its training found counts, if that was against the champion of the moment. What was seen
    while it scored beside the champion is told with either.

    Raises FeatureSetMismatchError for a model that cannot serve here.
    """
    challenger = registry.load(version)
    features_of(store, challenger)
    try:
        champion = load_champion(store, version.task, registry.models_folder, lambda: registry)
    except NoChampionError:
        return GateResult(passed=True, reason="first model of the task").to_json()
    except (DamagedModelError, ModelNotFoundError) as error:
        return GateResult(passed=True, reason=f"the champion cannot be read: {error}").to_json()
    if champion.sha256 == challenger.sha256:
        return GateResult(passed=True, reason="it serves already", champion=champion.version).to_json()
    shadow = _shadow(store, version, champion)
    found = replace(_compare(store, challenger, champion), shadow=shadow)
    trained = _of_training(registry, version)
    if not found.decided and not found.passed and trained.get("champion") == champion.version:
        return {**trained, "shadow": shadow}
    return found.to_json()


def _compare(store: Store, challenger: ModelBundle, champion: ModelBundle) -> GateResult:
    task = get_task(champion.task).in_store(store)
    if champion.variant != task.variant:
        reason = f"the champion answers another question: {champion.variant}"
        return GateResult(passed=True, reason=reason, champion=champion.version)
    return compare_models(store, challenger, champion, _asked_after_both(store, task, challenger, champion))


def _asked_after_both(store: Store, task: Task, *bundles: ModelBundle) -> Questions:
    """Return the questions that models of a task are judged by, asked after all of these were made."""
    made = max(bundle.trained["as_of"] for bundle in bundles)
    features = feature_set_for(store, task.name, retired=True)
    names = {name for bundle in bundles for name in bundle.features} & set(features.names)
    return ask(
        store,
        task,
        features.select(tuple(name for name in features.names if name in names)),
        task.ask_to_judge,
        start=instant(made),
        until=store.clock.now(),
    )


def compare_versions(
    store: Store,
    registry: Registry,
    first: str,
    second: str,
    *,
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Return how two versions of a task differ, as plain data.

    Time rule: only questions asked after both were made count, and only with an answer by now: neither can
    have learned from them. Where the whole horizon has enough of those it is taken, else the longest that
    has; `why` says where none has, and then nothing is compared but what each reads.
    `difference` is the second's figure less the first's, with its interval.

    Raises ModelNotFoundError for a version that is not there or two of different tasks, DamagedModelError.
    """
    progress("reading both models")
    one, other = (registry.load(registry.get_version_by_name(name)) for name in (first, second))
    if one.task != other.task:
        raise ModelNotFoundError(
            Phrase(
                "{one_version} serves {one_task}, {other_version} serves {other_task}",
                one_version=one.version,
                one_task=one.task,
                other_version=other.version,
                other_task=other.task,
            )
        )
    return compare_bundles(store, one, other, progress=progress)


def compare_bundles(
    store: Store, one: ModelBundle, other: ModelBundle, *, progress: Callable[[str], None] = lambda _: None
) -> dict[str, Any]:
    """Return the same of two models of a task that have been read."""
    gained = [name for name in other.features if name not in one.features]
    lost = [name for name in one.features if name not in other.features]
    told: dict[str, Any] = {
        "task": one.task,
        "first": one.version,
        "second": other.version,
        "made": [instant(bundle.trained["as_of"]).isoformat() for bundle in (one, other)],
        "asked_at": store.clock.now().isoformat(),
        "features": {"gained": gained, "lost": lost, "kept": len(one.features) - len(lost)},
        "why": _why_not(store, one, other),
        "compared": None,
    }
    if told["why"] is None:
        progress("asking both")
        told |= _side_by_side(store, one, other, progress)
    return told


def _why_not(store: Store, one: ModelBundle, other: ModelBundle) -> dict[str, Any] | None:
    for bundle in (one, other):
        features_of(store, bundle)
        if not bundle.says_probability:
            return {"kind": "no_probability", "version": bundle.version}
    if one.variant != other.variant:
        return {"kind": "other_question"}
    if get_task(one.task).of_variant(one.variant).no_time_order:
        return {"kind": "no_dates"}
    return None


def _side_by_side(
    store: Store, one: ModelBundle, other: ModelBundle, progress: Callable[[str], None]
) -> dict[str, Any]:
    asked = _asked_after_both(store, get_task(one.task).of_variant(one.variant), one, other)
    common = sorted({*one.horizons_days} & {*other.horizons_days}, reverse=True)
    most = (0, 0)
    for days in common:
        answer = answers(store, asked, days)
        outcomes, many = int(answer.happened[answer.over].sum()), int(answer.over.sum())
        most = max(most, (outcomes, many))
        if min(outcomes, many - outcomes) < FEWEST_OUTCOMES:
            continue
        progress("measuring")
        rows = asked.take(answer.over)
        judged = Judged(happened=answer.happened[answer.over], entity=rows.account, record=rows.cohort.ids)
        return {"compared": _differences(store, (one, other), rows, judged, days)}
    few = {"questions": most[1], "outcomes": most[0], "needed": FEWEST_OUTCOMES}
    return {"why": {"kind": "too_few", **few}}


def _differences(
    store: Store, bundles: tuple[ModelBundle, ModelBundle], asked: Questions, judged: Judged, days: int
) -> dict[str, Any]:
    frames = [asked.frame[list(bundle.features)] for bundle in bundles]
    said = [bundle.predict(frame).within[days] for bundle, frame in zip(bundles, frames, strict=True)]
    losses = [loss_of(each, judged.happened) for each in said]
    squares = [(each - judged.happened) ** 2 for each in said]
    difference = {
        "auc": compare_metric(auc, said[1], said[0], judged),
        "log_loss": compare_losses(losses[1], losses[0], judged.entity),
        "brier": compare_losses(squares[1], squares[0], judged.entity),
        "calibration_error": compare_metric(calibration_error, said[1], said[0], judged),
        "lift_top_decile": compare_metric(lift_top_decile, said[1], said[0], judged),
        "mean_probability": compare_losses(said[1], said[0], judged.entity),
    }
    return {
        "horizon_days": days,
        "questions": len(judged),
        "records": len(np.unique(judged.records)),
        "outcomes": int(judged.happened.sum()),
        "first_asked": instant(int(asked.as_of.min())).isoformat(),
        "last_asked": instant(int(asked.as_of.max())).isoformat(),
        "metrics": [
            {name: estimate.to_json() for name, estimate in measure(each, judged).items()} for each in said
        ],
        "difference": {name: estimate.to_json() for name, estimate in difference.items()},
        "bins": [[vars(one) for one in calibration_bins(each, judged)] for each in said],
        "rank_correlation": rank_correlation(said[0], said[1]),
        "mean_distance": float(np.abs(said[1] - said[0]).mean()),
        "importances": [
            dict(importances_of(bundle, replace(asked, frame=frame), store, retired=True))
            for bundle, frame in zip(bundles, frames, strict=True)
        ],
    }


def _of_training(registry: Registry, version: Version) -> Mapping[str, Any]:
    try:
        report = json.loads(registry.read_file(version.run_id, "report.json"))
    except ModelNotFoundError:
        return {}
    gate: Mapping[str, Any] = report.get("gate") or {}
    return gate


def _shadow(store: Store, version: Version, champion: ModelBundle) -> dict[str, Any] | None:
    report = compare_shadows(store, version.task, challenger=version.name, champion=champion.version)
    return report.to_json() if report.questions else None
