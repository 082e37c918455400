"""What set rules off: causes found in the change log, the predictions and the alerts.

A cause has a key that says what it is by numbers of what happened: `c17` is change 17, `p17` a prediction,
`a17` an alert. What comes with time has keys of its own, see `crm_core.automation.due`. Whoever reads the
same log finds the same causes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final

import numpy as np
from sqlalchemy import ColumnElement, Row, Select, and_, false, or_, select
from sqlalchemy.orm import Session, aliased

from crm_core.alert_rules import was_said
from crm_core.alerts import Alert
from crm_core.automation.kept import Active, AutomationRun
from crm_core.automation.triggers import (
    AlertRaised,
    Direction,
    FieldChanged,
    RecordCreated,
    ScoreCrossed,
    StageEntered,
)
from crm_core.changes import Action, Change, Source
from crm_core.clock import micros
from crm_core.history import values_as_of
from crm_core.predictions import Prediction
from crm_core.records import RECORD_TYPES, CustomRecord, Deal

_COLUMNS: Final = (
    Change.id,
    Change.sequence,
    Change.record_type,
    Change.record_id,
    Change.action,
    Change.field,
    Change.old,
    Change.new,
    Change.recorded_at,
    Change.source,
)


@dataclass(frozen=True, kw_only=True)
class Cause:
    """Something that sets a rule off about a record; `depth` runs of rules led to it."""

    key: str
    record_id: int
    at: datetime
    depth: int = 0
    sequence: int = 0


Found = tuple[Active, Cause]


@dataclass(kw_only=True)
class Watch:
    """Which rules wait for which rows of the change log; only those rows are read."""

    created: dict[str, list[Active]] = field(default_factory=lambda: defaultdict(list))
    updated: dict[tuple[str, str], list[Active]] = field(default_factory=lambda: defaultdict(list))

    @classmethod
    def over(cls, active: Iterable[Active]) -> Watch:
        """Return what rules wait for in the log."""
        watch = cls()
        for each in active:
            watch._add(each)
        return watch

    @property
    def rules(self) -> list[Active]:
        """The rules that wait for something in the log."""
        return list({rule.id: rule for some in self._waiting() for rule in some}.values())

    def query(self) -> Select[Any]:
        """Return the query of the rows of the log that rules wait for."""
        return select(*_COLUMNS).where(self._condition())

    def _condition(self) -> ColumnElement[bool]:
        parts = [
            and_(Change.record_type == record_type, Change.action == Action.CREATED)
            for record_type in self.created
        ]
        parts += [
            and_(Change.record_type == record_type, Change.action == Action.UPDATED, Change.field == name)
            for record_type, name in self.updated
        ]
        return or_(false(), *parts)

    def read(self, session: Session, *, after: int, until: int, limit: int | None = None) -> list[Row[Any]]:
        """Return the rows that rules wait for, of whole transactions after one and up to another, in order.

        About `limit` of them: the last transaction is never cut.
        """
        query = self.query().where(Change.sequence > after, Change.sequence <= until)
        ordered = query.order_by(Change.sequence, Change.id)
        found = list(session.execute(ordered.limit(limit)))
        if limit is not None and len(found) == limit:
            last = found[-1]
            rest = query.where(Change.sequence == last.sequence, Change.id > last.id).order_by(Change.id)
            found.extend(session.execute(rest))
        return found

    def match(self, session: Session, rows: Sequence[Row[Any]]) -> list[Found]:
        """Return which rules rows set off, in the order of the log and then of the rules."""
        stages = self._stages_of_new(session, rows)
        found = [
            (
                rule,
                Cause(key=f"c{row.id}", record_id=row.record_id, at=row.recorded_at, sequence=row.sequence),
            )
            for row in rows
            for rule in self._rules_of(row)
            if row.sequence > rule.since_sequence and _is_waited_for(rule, row, stages)
        ]
        depths = depths_of(session, [row for row in rows if row.source == Source.AUTOMATION])
        return [(rule, replace(cause, depth=depths.get(int(cause.key[1:]), 0))) for rule, cause in found]

    def _add(self, each: Active) -> None:
        name = each.rule.record_type
        logged = name if name in RECORD_TYPES else CustomRecord.record_type
        match each.rule.trigger:
            case RecordCreated():
                self.created[logged].append(each)
            case FieldChanged(field=changed):
                self.updated[logged, changed].append(each)
            case StageEntered():
                self.created[logged].append(each)
                self.updated[logged, "stage"].append(each)

    def _waiting(self) -> Iterator[list[Active]]:
        yield from self.created.values()
        yield from self.updated.values()

    def _rules_of(self, row: Row[Any]) -> Sequence[Active]:
        if row.action == Action.CREATED:
            return self.created.get(row.record_type, ())
        return self.updated.get((row.record_type, row.field), ())

    def _stages_of_new(self, session: Session, rows: Sequence[Row[Any]]) -> dict[int, str]:
        """Return in which stage deals were created, where somebody waits for that."""
        if not any(isinstance(each.rule.trigger, StageEntered) for each in self.created.get("deal", ())):
            return {}
        new = [row for row in rows if row.record_type == "deal" and row.action == Action.CREATED]
        ids = np.array([row.record_id for row in new], dtype=np.int64)
        before = np.array([micros(row.recorded_at) - 1 for row in new], dtype=np.int64)
        stages = values_as_of(session, Deal, "stage", ids, before).tolist() if new else []
        return dict(zip(ids.tolist(), stages, strict=True))


def _is_waited_for(active: Active, row: Row[Any], stages: dict[int, str]) -> bool:
    trigger = active.rule.trigger
    if not isinstance(trigger, RecordCreated | FieldChanged | StageEntered):
        return False
    if row.source == Source.IMPORT and not trigger.imports:
        return False
    match trigger:
        case FieldChanged(was=was, becomes=becomes):
            return (not was or row.old in was) and (not becomes or row.new in becomes)
        case StageEntered(stage=stage):
            return (stages.get(row.record_id) if row.action == Action.CREATED else row.new) == stage
    return True


# ---------------------------------------------------------------- how deep


def depths_of(session: Session, changes: Sequence[Any]) -> dict[int, int]:
    """Return by id how many runs led to changes that automation wrote; rows with `id` and `sequence`."""
    if not changes:
        return {}
    runs = select(
        AutomationRun.sequence, AutomationRun.after_change, AutomationRun.last_change, AutomationRun.depth
    ).where(AutomationRun.sequence.in_({change.sequence for change in changes}))
    written = defaultdict(list)
    for sequence, after, last, depth in session.execute(runs):
        written[sequence].append((after or 0, last or 0, depth))
    return {
        change.id: 1
        + max(
            (depth for after, last, depth in written[change.sequence] if after < change.id <= last), default=0
        )
        for change in changes
    }


def _depths_by_id(session: Session, ids: Iterable[int | None]) -> dict[int, int]:
    wanted = {each for each in ids if each is not None}
    query = select(Change.id, Change.sequence).where(
        Change.id.in_(wanted), Change.source == Source.AUTOMATION
    )
    return depths_of(session, session.execute(query).all()) if wanted else {}


# ---------------------------------------------------------------- scores


def scores_crossed(
    session: Session, active: Sequence[Active], *, after: int, until: int, limit: int
) -> tuple[list[Found], int]:
    """Return which rules predictions after an id set off, and the last prediction that was looked at.

    A score passes a level from one prediction of its task to the next; the first one of a record rises from
    nothing, if something that happened led to it. What was worked out later about the past is left out.
    """
    rules = [each for each in active if isinstance(each.rule.trigger, ScoreCrossed)]
    tasks = {each.rule.trigger.task for each in rules if isinstance(each.rule.trigger, ScoreCrossed)}
    rows = session.execute(_moves(tasks, after, until).limit(limit)).all()
    depths = _depths_by_id(session, [row.cause_change_id for row in rows])
    found = [
        (rule, _of_score(row, depths))
        for row in rows
        for rule in rules
        if row.id > rule.since_prediction and _crosses(rule, row)
    ]
    return found, rows[-1].id if len(rows) == limit else until


def _of_score(row: Row[Any], depths: dict[int, int]) -> Cause:
    depth = depths.get(row.cause_change_id, 0)
    return Cause(key=f"p{row.id}", record_id=row.record_id, at=row.recorded_at, depth=depth)


def _moves(tasks: Iterable[str], after: int, until: int) -> Select[Any]:
    """Ask for predictions with what was said before each, of the same task and record."""
    now, earlier = aliased(Prediction), aliased(Prediction)
    before = select(earlier.probability).where(
        earlier.record_type == now.record_type,
        earlier.record_id == now.record_id,
        earlier.as_of < now.as_of,
        earlier.task == now.task,
    )
    newest = before.order_by(earlier.as_of.desc(), earlier.id.desc()).limit(1).scalar_subquery()
    columns = (now.id, now.task, now.record_type, now.record_id, now.as_of, now.recorded_at)
    return (
        select(*columns, now.probability, now.cause_change_id, newest.label("before"))
        .where(now.id > after, now.id <= until, now.task.in_(list(tasks)))
        .order_by(now.id)
    )


def _crosses(active: Active, row: Row[Any]) -> bool:
    trigger = active.rule.trigger
    if not isinstance(trigger, ScoreCrossed) or trigger.task != row.task or row.probability is None:
        return False
    if not was_said(row.as_of, row.recorded_at):
        return False
    if trigger.direction is Direction.FALLS:
        return row.before is not None and row.before >= trigger.level > row.probability
    if row.before is None and row.cause_change_id is None:
        return False
    return bool((row.before or 0.0) < trigger.level <= row.probability)


# ---------------------------------------------------------------- alerts


def alerts_raised(
    session: Session, active: Sequence[Active], *, after: int, limit: int
) -> tuple[list[Found], int]:
    """Return which rules alerts after an id set off, and the last alert that was looked at.

    Whoever raises alerts does it alone, so that their ids are the order in which they were committed.
    """
    query = select(Alert).where(Alert.id > after).order_by(Alert.id).limit(limit)
    alerts = session.scalars(query).all()
    said = select(Prediction.id, Prediction.cause_change_id).where(
        Prediction.id.in_([alert.prediction_id for alert in alerts])
    )
    changes: dict[int, int | None] = dict(session.execute(said).all()) if alerts else {}
    depths = _depths_by_id(session, changes.values())
    found = [
        (rule, _of_alert(alert, depths.get(changes.get(alert.prediction_id) or 0, 0)))
        for alert in alerts
        for rule in active
        if alert.id > rule.since_alert and _is_about(rule, alert)
    ]
    return found, alerts[-1].id if alerts else after


def _of_alert(alert: Alert, depth: int) -> Cause:
    return Cause(key=f"a{alert.id}", record_id=alert.record_id, at=alert.raised_at, depth=depth)


def _is_about(active: Active, alert: Alert) -> bool:
    trigger = active.rule.trigger
    if not isinstance(trigger, AlertRaised) or active.rule.record_type != alert.record_type:
        return False
    return not trigger.alerts or alert.kind in trigger.alerts
