"""Versions of models from the command line: list, show, promote, roll back."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import click

from crm_core.errors import ModelNotFoundError
from crm_core.promotions import list_promotions
from crm_core.store import Store
from serving.console import table
from serving.home import Home
from serving.modelling import open_registry
from serving.reports import save_report
from serving.training_runs import ladder_lines, show_judgement


def list_versions(home: Home, tasks: Sequence[str]) -> list[dict[str, Any]]:
    """Return the versions of tasks, the newest of each first."""
    registry = open_registry(home)
    return [
        {
            "task": task,
            "version": version.name,
            "alias": ", ".join(version.aliases),
            "trained": version.created_at.isoformat(timespec="minutes"),
            "as_of": version.tags.get("trained_as_of", "")[:10],
            "estimator": version.tags.get("estimator", ""),
        }
        for task in tasks
        for version in registry.list_versions(task)
    ]


def read_version(home: Home, store: Store, name: str) -> dict[str, Any]:
    """Return what is known of a version: its report, and when it was put in charge."""
    registry = open_registry(home)
    version = registry.get_version_by_name(name)
    report: dict[str, Any] = json.loads(registry.read_file(version.run_id, "report.json"))
    with store.reading() as session:
        promotions = [
            {"at": row.promoted_at.isoformat(), "reason": row.reason, "actor_id": row.actor_id}
            for row in list_promotions(session, version.task)
            if row.run_id == version.run_id
        ]
    return {
        **report,
        "version": version.name,
        "run_id": version.run_id,
        "aliases": list(version.aliases),
        "promotions": promotions,
    }


def show_version(found: Mapping[str, Any]) -> None:
    """Print what is known of a version."""
    training = found["training"]
    rows = [
        ("as of", found["as_of"]),
        ("estimator", found["estimator"]),
        ("learned from", f"{training['questions']:,} questions, {training['features']} features"),
        ("outcomes", f"{training['outcomes']:,} {found['outcome']}, {training['without_outcome']:,} not"),
        ("aliases", ", ".join(found["aliases"]) or "none"),
        ("SHA-256", found["sha256"]),
        ("MLflow run", found["run_id"]),
        *(("in charge since", f"{each['at'][:16]}: {each['reason']}") for each in found["promotions"]),
    ]
    table(found["version"], ("", ""), rows)
    for line in ladder_lines(found):
        click.echo(line)
    if found["judged"] is not None:
        show_judgement(found["judged"])


def promote_version(home: Home, store: Store, name: str, reason: str) -> dict[str, Any]:
    """Put a version in charge of its task."""
    from models.registry import promote

    registry = open_registry(home)
    version = registry.get_version_by_name(name)
    row = promote(store, registry, version.task, version, actor_id=None, reason=reason)
    _keep_report(home, store, row.model_version)
    return {"task": row.task, "version": row.model_version, "reason": row.reason}


def roll_back(home: Home, store: Store, task: str, reason: str) -> dict[str, Any]:
    """Put the version that served before in charge again."""
    from models.registry import rollback

    row = rollback(store, open_registry(home), task, actor_id=None, reason=reason)
    _keep_report(home, store, row.model_version)
    return {"task": row.task, "version": row.model_version, "reason": row.reason}


def _keep_report(home: Home, store: Store, name: str) -> None:
    """Lay the report beside the model, so that the page of models needs no MLflow."""
    try:
        save_report(home, name, read_version(home, store, name))
    except ModelNotFoundError:  # a run without a report can serve all the same
        return
