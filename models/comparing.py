"""What the gate says of a version that somebody wants to promote, on what is known now."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from crm_core.clock import instant
from crm_core.errors import DamagedModelError, ModelNotFoundError, NoChampionError
from crm_core.store import Store
from features.feature_set import feature_set_for
from models.bundle import ModelBundle
from models.gate import GateResult, compare_models
from models.questions import ask
from models.scoring import features_of, load_champion
from models.shadowing import compare_shadows
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
    made = max(bundle.trained["as_of"] for bundle in (challenger, champion))
    features = feature_set_for(store, task.name, retired=True)
    names = {*challenger.features, *champion.features} & set(features.names)
    asked = ask(
        store,
        task,
        features.select(tuple(name for name in features.names if name in names)),
        task.ask_to_judge,
        start=instant(made),
        until=store.clock.now(),
    )
    return compare_models(store, challenger, champion, asked)


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
