"""Tasks, versions and cards of models, from what lies beside the records; MLflow only where told to."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from crm_core.errors import ModelNotFoundError
from crm_core.feedback import count_verdicts
from crm_core.phrases import Phrase
from crm_core.promotions import Challenger, Promotion, find_challenger, find_champion, list_promotions
from crm_core.store import Store
from serving.champions import RECORD_TYPE_OF, Champions, Trouble
from serving.home import Home
from serving.model_versions import list_versions, read_history, read_version
from serving.reports import read_report

_NAME = re.compile(r"([a-z_]{1,40})-([0-9]{1,9})(?:-[0-9a-f]{8})?")


@dataclass(frozen=True, kw_only=True)
class TaskState:
    """What serves a task here, what is to serve it, and what may serve it next."""

    task: str
    record_type: str
    serving: str | None
    since: datetime | None
    promoted: str | None
    challenger: str | None
    trouble: Trouble | None


@dataclass(frozen=True, kw_only=True)
class VersionLine:
    """A version in few words; what no report tells is None."""

    version: str
    number: int
    state: str
    trained_as_of: str | None
    estimator: str | None
    says_probability: bool | None
    promoted: bool


def list_tasks(store: Store, champions: Champions) -> list[TaskState]:
    """Return the state of every task, as this process serves it."""
    champions.look()
    with store.reading() as session:
        return [_state(session, champions, task) for task in RECORD_TYPE_OF]


def _state(session: Session, champions: Champions, task: str) -> TaskState:
    promotion, challenger = find_champion(session, task), find_challenger(session, task)
    serving = champions.find(task)
    return TaskState(
        task=task,
        record_type=RECORD_TYPE_OF[task],
        serving=None if serving is None else serving.scorer.model_version,
        since=None if serving is None else serving.promoted_at,
        promoted=None if promotion is None else promotion.model_version,
        challenger=None if challenger is None else challenger.model_version,
        trouble=champions.troubles.get(task),
    )


def list_task_versions(
    home: Home, store: Store, task: str, *, limit: int, before: int | None, registry: bool
) -> tuple[list[VersionLine], int | None]:
    """Return versions of a task, newest first, and the number to go on from; None on the last page.

    They are those that were trained here, served, or were to serve; with `registry`, all that MLflow has.
    """
    states = _states(store, task)
    more = {each["version"] for each in list_versions(home, [task])} if registry else ()
    numbered, following = number_versions(home, task, {*states, *more}, limit=limit, before=before)
    return [_line(home, number, name, states) for number, name in numbered], following


def number_versions(
    home: Home, task: str, named: Iterable[str], *, limit: int, before: int | None
) -> tuple[list[tuple[int, str]], int | None]:
    """Return (number, name) of versions with a report here and of those named, newest first.

    With them comes the number to go on from; None on the last page.
    """
    kept = (path.name.removesuffix(".report.json") for path in home.models.glob(f"{task}-*.report.json"))
    names = {name for name in (*kept, *named) if _is_of(name, task)}
    numbered = sorted(((_number(name), name) for name in names), reverse=True)
    if before is not None:
        numbered = [each for each in numbered if each[0] < before]
    shown = numbered[:limit]
    return shown, shown[-1][0] if len(numbered) > limit else None


def _states(store: Store, task: str) -> Mapping[str, str]:
    with store.reading() as session:
        return states_of(session, task, list_promotions(session, task))


def states_of(session: Session, task: str, promotions: Sequence[Promotion]) -> Mapping[str, str]:
    """Return what became of each version that serves, served, or was to serve, in a word."""
    served = [row.model_version for row in promotions]
    query = select(Challenger.model_version).where(Challenger.task == task)
    states = dict.fromkeys(session.scalars(query), "named")
    challenger = find_challenger(session, task)
    if challenger is not None:
        states[challenger.model_version] = "challenger"
    states |= dict.fromkeys(served, "served")
    return states | dict.fromkeys(served[:1], "champion")


def _line(home: Home, number: int, name: str, states: Mapping[str, str]) -> VersionLine:
    report = read_report(home, name) or {}
    state = states.get(name, "trained")
    return VersionLine(
        version=name,
        number=number,
        state=state,
        trained_as_of=report.get("as_of"),
        estimator=report.get("estimator"),
        says_probability=report.get("says_probability"),
        promoted=state in {"champion", "served"},
    )


def read_card(home: Home, store: Store, task: str, version: str, *, registry: bool) -> dict[str, Any]:
    """Return the card of a version: what it learned from, how right it was, and when it served.

    Raises ModelNotFoundError for a version that is not of the task, or of which nothing is known here; with
    `registry`, MLflow is asked then.
    """
    check_of_task(version, task)
    report = read_report(home, version)
    if report is None and registry:
        report = read_version(home, store, version)
    states = _states(store, task)
    if report is None and version not in states:
        raise ModelNotFoundError(
            Phrase(
                "no version {version!r} of {task} here; registry=true asks MLflow", version=version, task=task
            )
        )
    with store.reading() as session:
        verdicts = count_verdicts(session, task, version)
    served = [each for each in read_history(store, task)["served"] if each["version"] == version]
    return {**_card(report or {}), "task": task, "version": version, "served": served} | {
        "state": states.get(version, "trained"),
        "feedback": verdicts,
    }


_PLAIN = ("outcome", "horizon_days", "horizons_days", "as_of", "estimator", "says_probability", "not_judged")


def _card(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a report tells, by the names of a card; None where it tells nothing."""
    judged = report.get("judged") or {}
    return {
        **{name: report.get(name) for name in _PLAIN},
        "sha256": report.get("sha256"),
        "run_id": report.get("run_id"),
        "learned_from": report.get("training"),
        "metrics": [_metrics(each) for each in judged.get("horizons", ())],
        "importances": judged.get("importances", []),
        "calibration": report.get("calibration"),
        "guard": report.get("guard"),
        "gate": report.get("gate"),
        "selection": report.get("selection"),
    }


def _metrics(horizon: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was found for one horizon: the model beside its baselines, calibration, and by segment."""
    return {
        "horizon_days": horizon["horizon_days"],
        "questions": horizon["questions"],
        "outcomes": horizon["outcomes"],
        "figures": horizon["metrics"],
        "calibration_table": horizon.get("bins", []),
        "segments": horizon.get("parts", []),
    }


def check_of_task(version: str, task: str) -> None:
    """Raise ModelNotFoundError for a name that is none of the task's versions."""
    if not _is_of(version, task):
        raise ModelNotFoundError(Phrase("no version {version!r} of {task}", version=version, task=task))


def _is_of(name: str, task: str) -> bool:
    found = _NAME.fullmatch(name)
    return found is not None and found[1] == task


def _number(name: str) -> int:
    found = _NAME.fullmatch(name)
    return int(found[2]) if found else 0
