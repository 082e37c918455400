"""Who is in charge of the tasks, who was, and who may be next: read in a handful of queries for any page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from crm_core.promotions import Challenger, Promotion, list_promotions, standing
from crm_core.records import User
from models.shown_horizon import shown_horizon
from serving.champions import RECORD_TYPE_OF
from serving.home import Home
from serving.model_list import number_versions, states_of
from serving.reports import read_report

VERSIONS_ON_A_PAGE = 20
METRICS_OF_A_VERSION = ("auc", "log_loss", "calibration_error")


@dataclass(frozen=True, kw_only=True)
class Standing:
    """The champion of a task, who put it in charge, and the challenger."""

    task: str
    promotion: Promotion | None
    by: str | None
    challenger: str | None


@dataclass(frozen=True, kw_only=True)
class Term:
    """A time in charge: from when until when, by whom and why; `rollback_of` is what it replaced again."""

    since: datetime
    until: datetime | None
    by: str | None
    reason: str
    rollback_of: str | None
    overruled: bool


@dataclass(frozen=True, kw_only=True)
class VersionRow:
    """A version, its figures on what it was judged by, and its times in charge."""

    name: str
    state: str
    as_of: datetime | None
    estimator: str | None
    cells: Sequence[Mapping[str, float | None] | None]
    terms: Sequence[Term]


@dataclass(frozen=True, kw_only=True)
class History:
    """The versions of a task, newest first, and what a rollback would put in charge again."""

    standing: Standing
    rows: Sequence[VersionRow]
    before: str | None
    following: int | None

    @property
    def decided_on(self) -> int:
        """Return the promotion in force that whoever reads this decides by; 0 for none."""
        return self.standing.promotion.id if self.standing.promotion else 0


def read_standings(session: Session) -> list[Standing]:
    """Return who is in charge of every task."""
    promotions = _newest(session, Promotion)
    challengers = _newest(session, Challenger)
    hashes = [each.sha256 for each in challengers.values()]
    served = set(session.scalars(select(Promotion.sha256).where(Promotion.sha256.in_(hashes))))
    names = names_of(session, (each.actor_id for each in promotions.values()))
    return [
        Standing(
            task=task,
            promotion=(promotion := promotions.get(task)),
            by=names.get(promotion.actor_id or 0) if promotion else None,
            challenger=(
                next_one.model_version
                if (next_one := challengers.get(task)) and next_one.sha256 not in served
                else None
            ),
        )
        for task in RECORD_TYPE_OF
    ]


def _newest(session: Session, model: type[Any]) -> dict[str, Any]:
    newest = select(func.max(model.id)).group_by(model.task)
    return {row.task: row for row in session.scalars(select(model).where(model.id.in_(newest)))}


def names_of(session: Session, ids: Iterable[int | None]) -> dict[int, str]:
    """Return the names of users."""
    query = select(User.id, User.name).where(User.id.in_({each for each in ids if each is not None}))
    names: dict[int, str] = dict(session.execute(query).all())
    return names


def read_history_of(session: Session, home: Home, task: str, *, before: int | None = None) -> History:
    """Return the versions of a task below number `before`, with who promoted them when and why."""
    promotions = list_promotions(session, task)
    names = names_of(session, (each.actor_id for each in promotions))
    states = states_of(session, task, promotions)
    shown, following = number_versions(home, task, states, limit=VERSIONS_ON_A_PAGE, before=before)
    terms = _terms(promotions, names)
    stands = standing(promotions)
    return History(
        standing=Standing(
            task=task,
            promotion=promotions[0] if promotions else None,
            by=names.get(promotions[0].actor_id or 0) if promotions else None,
            challenger=next((name for name, state in states.items() if state == "challenger"), None),
        ),
        rows=[_row(home, name, states.get(name, "trained"), terms.get(name, [])) for _, name in shown],
        before=stands[-2].model_version if len(stands) > 1 else None,
        following=following,
    )


def _terms(newest_first: Sequence[Promotion], names: Mapping[int, str]) -> dict[str, list[Term]]:
    found: dict[str, list[Term]] = {}
    until = None
    for row in newest_first:
        gate = row.gate or {}
        term = Term(
            since=row.promoted_at,
            until=until,
            by=names.get(row.actor_id or 0),
            reason=row.reason,
            rollback_of=gate.get("rollback_of"),
            overruled=bool(gate.get("overruled")),
        )
        found.setdefault(row.model_version, []).append(term)
        until = row.promoted_at
    return found


def _row(home: Home, name: str, state: str, terms: Sequence[Term]) -> VersionRow:
    report = read_report(home, name) or {}
    metrics = shown_horizon(report.get("judged")).get("metrics", {}).get("model", {})
    return VersionRow(
        name=name,
        state=state,
        as_of=datetime.fromisoformat(report["as_of"]) if report.get("as_of") else None,
        estimator=report.get("estimator"),
        cells=[metrics.get(metric) for metric in METRICS_OF_A_VERSION],
        terms=terms,
    )
