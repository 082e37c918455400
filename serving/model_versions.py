"""Versions of models: list, show, compare, promote, roll back, and what served when."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import click
from sqlalchemy.orm import Session

from crm_core.access import check_may_promote
from crm_core.changes import Source
from crm_core.errors import GateNotPassedError, ModelNotFoundError
from crm_core.operations import Done, Operation, Origin, Via, write_operations
from crm_core.promotions import Promotion, find_champion, find_served, list_promotions
from crm_core.records import User
from crm_core.store import Store, Transaction
from serving.console import table
from serving.home import Home
from serving.modelling import open_registry
from serving.reports import save_report
from serving.training_runs import ladder_lines, show_judgement

if TYPE_CHECKING:
    from models.registry import Writing


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
            {
                "at": row.promoted_at.isoformat(),
                "reason": row.reason,
                "actor_id": row.actor_id,
                "gate": row.gate,
            }
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
        (
            "time order",
            "none was possible: the records have no dates" if found.get("no_time_order") else "yes",
        ),
        ("aliases", ", ".join(found["aliases"]) or "none"),
        ("SHA-256", found["sha256"]),
        ("MLflow run", found["run_id"]),
        *(("in charge since", f"{each['at'][:16]}: {each['reason']}") for each in found["promotions"]),
    ]
    table(found["version"], ("", ""), rows)
    for line in ladder_lines(found):
        click.echo(line)
    if found["judged"] is not None:
        show_judgement(found["judged"], no_time_order=bool(found.get("no_time_order")))
    gates = [each["gate"] for each in found["promotions"] if each["gate"] and "passed" in each["gate"]]
    for gate in gates[:1] or [found.get("gate")]:
        if gate:
            show_gate(gate)


def promote_version(  # noqa: PLR0913  all that a decision consists of
    home: Home,
    store: Store,
    user: User,
    name: str,
    reason: str,
    *,
    overrule: bool = False,
    instead_of: int | None = None,
    origin: Origin | None = None,
    writing: Writing | None = None,
) -> dict[str, Any]:
    """Put a version in charge of its task, if the gate lets it pass or `user` overrules it by name.

    `instead_of` is the promotion in force when it was decided (0: none), `origin` which way `user` came,
    and `writing` opens the transaction, where the caller has more to write in it.
    Raises GateNotPassedError, saying why, for one that does not pass, and ChampionChangedError where another
    model was put in charge meanwhile.
    """
    from models.comparing import gate_of
    from models.registry import promote

    check_may_promote(user)
    registry = open_registry(home)
    version = registry.get_version_by_name(name)
    gate = gate_of(store, registry, version)
    if not gate["passed"] and not overrule:
        raise GateNotPassedError(version.name, gate["reason"])
    gate |= {"overruled": not gate["passed"]}
    row = promote(
        store,
        registry,
        version.task,
        version,
        actor_id=user.id,
        reason=reason,
        gate=gate,
        instead_of=instead_of,
        writing=_noting(store, version.task, Done.MODEL_PROMOTED, origin or _at_the_console(user), writing),
    )
    _keep_report(home, store, row.model_version)
    return {"task": row.task, "version": row.model_version, "reason": row.reason, "gate": gate}


def roll_back(
    home: Home,
    store: Store,
    user: User,
    task: str,
    reason: str,
    *,
    instead_of: int | None = None,
    origin: Origin | None = None,
    writing: Writing | None = None,
) -> dict[str, Any]:
    """Put the version that served before in charge again; the rest is as for `promote_version`."""
    from models.registry import rollback

    check_may_promote(user)
    row = rollback(
        store,
        open_registry(home),
        task,
        actor_id=user.id,
        reason=reason,
        instead_of=instead_of,
        writing=_noting(store, task, Done.MODEL_ROLLED_BACK, origin or _at_the_console(user), writing),
    )
    _keep_report(home, store, row.model_version)
    return {"task": row.task, "version": row.model_version, "reason": row.reason}


def _at_the_console(user: User) -> Origin:
    return Origin(via=Via.COMMAND, user_id=user.id)


def _noting(store: Store, task: str, done: Done, origin: Origin, writing: Writing | None) -> Writing:
    """Return what opens a transaction, at whose end the operation log is told who put whom in charge.

    Why stands in the promotion.
    """
    own = partial(store.transaction, source=Source.API, actor_id=origin.user_id)

    @contextmanager
    def noting() -> Iterator[Transaction]:
        with (writing or own)() as transaction:
            yield transaction
            row = find_champion(transaction.session, task)
            ids = () if row is None else (row.id,)
            note = Operation(at=transaction.now, done=done, origin=origin, record_type="promotion", ids=ids)
            write_operations(transaction.session, [note])

    return noting


def read_history(store: Store, task: str, at: datetime | None = None) -> dict[str, Any]:
    """Return what served when, newest first, with who decided it and why; with `at`, what served then."""
    with store.reading() as session:
        if at is not None:
            found = find_served(session, task, at)
            rows: Sequence[Promotion] = [] if found is None else [found]
            ends: Sequence[datetime | None] = [_served_until(session, row) for row in rows]
        else:
            rows = list_promotions(session, task)
            ends = [None, *(row.promoted_at for row in rows)][: len(rows)]
        return {
            "task": task,
            "at": None if at is None else at.isoformat(),
            "served": [_told(session, row, end) for row, end in zip(rows, ends, strict=True)],
        }


def _served_until(session: Session, row: Promotion) -> datetime | None:
    later = [each.promoted_at for each in list_promotions(session, row.task) if each.id > row.id]
    return later[-1] if later else None


def _told(session: Session, row: Promotion, until: datetime | None) -> dict[str, Any]:
    by = session.get(User, row.actor_id) if row.actor_id is not None else None
    gate = row.gate or {}
    return {
        "version": row.model_version,
        "sha256": row.sha256,
        "run_id": row.run_id,
        "since": row.promoted_at.isoformat(),
        "until": None if until is None else until.isoformat(),
        "by": None if by is None else by.email,
        "reason": row.reason,
        "rollback_of": gate.get("rollback_of"),
        "gate": row.gate,
    }


def show_history(told: Mapping[str, Any]) -> None:
    """Print what served when."""
    rows = [
        (
            each["since"][:19],
            (each["until"] or "now")[:19],
            each["version"],
            each["by"] or "the program",
            each["reason"],
        )
        for each in told["served"]
    ]
    title = f"What served {told['task']}" + (f" at {told['at']}" if told["at"] else "")
    table(title if rows else f"{title}: nothing", ("from", "until", "version", "by", "why"), rows)


def read_shadow(store: Store, task: str) -> dict[str, Any]:
    """Return how the challenger of a task does beside its champion, on the same records."""
    from models.shadowing import compare_shadows

    return compare_shadows(store, task).to_json()


def show_shadow(told: Mapping[str, Any]) -> None:
    """Print how a challenger does beside the champion."""
    gain = told["gain"]
    rows = [
        ("champion", told["champion"]),
        ("questions", f"{told['questions']:,} about {told['records']:,} records"),
        ("asked", f"{told['first'][:10]} to {told['last'][:10]}" if told["first"] else "nothing yet"),
        ("rank correlation", _figure(told["rank_correlation"], ".3f")),
        ("mean difference", _figure(told["mean_difference"], "+.4f")),
        ("mean distance", _figure(told["mean_distance"], ".4f")),
        ("grades that would change", _figure(told["grades_changed"], ".1%")),
        ("outcomes known", f"{told['outcomes']:,} of {told['matured']:,} questions whose time is over"),
        ("log loss saved", "not enough outcomes yet" if gain is None else estimate_in_words(gain)),
    ]
    table(f"{told['challenger']} beside the champion, unseen", ("", ""), rows)


def _figure(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def estimate_in_words(estimate: Mapping[str, float]) -> str:
    """Return a figure with its 95 % interval."""
    return f"{estimate['value']:+.4f} ({estimate['low']:+.4f} to {estimate['high']:+.4f})"


def show_gate(gate: Mapping[str, Any]) -> None:
    """Print what the gate compared, and what came of it."""
    rows = [
        ("verdict", ("passed: " if gate["passed"] else "not passed: ") + gate["reason"]),
        ("overruled", "yes" if gate.get("overruled") else ""),
        ("compared with", gate.get("champion") or ""),
        ("on", f"{gate.get('questions', 0):,} questions, {gate.get('outcomes', 0):,} came true"),
        ("log loss saved", estimate_in_words(gate["gain"]) if gate.get("gain") else ""),
        (
            "calibration error saved",
            estimate_in_words(gate["calibration"]) if gate.get("calibration") else "",
        ),
    ]
    rows += [
        (
            f"{each['field']} = {each['level']}",
            f"{each['gain']:+.4f}, p {each['p']:.3f}{', worse' if each['worse'] else ''}",
        )
        for each in gate.get("segments", ())
    ]
    table("The gate", ("", ""), [row for row in rows if row[1]])


def _keep_report(home: Home, store: Store, name: str) -> None:
    """Lay the report beside the model, so that the page of models needs no MLflow."""
    try:
        save_report(home, name, read_version(home, store, name))
    except ModelNotFoundError:  # a run without a report can serve all the same
        return
