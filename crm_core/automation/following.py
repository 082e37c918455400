"""The loop that has rules act: on the change log, on what models say, on alerts, and on time.

Each of these has a cursor of its own. Causes are found beyond it, acted on, and the cursor is moved, all in
one transaction under a lock on the cursor: killed anywhere, or run beside another one, nothing is lost and
nothing is done twice. That a run is unique by its rule and cause holds even where a cursor would not.

Of the change log whole transactions are read, behind the horizon of those that are still running, and of them
only the rows that some rule waits for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from crm_core.alerts import Alert
from crm_core.automation.acting import Actor
from crm_core.automation.causes import Found, Watch, alerts_raised, scores_crossed
from crm_core.automation.due import Look, find_due
from crm_core.automation.kept import Active, list_active
from crm_core.automation.triggers import AlertRaised, OnTime, ScoreCrossed, StageOverdue
from crm_core.changes import Cursor, Source, newest_sequence
from crm_core.errors import CRMError
from crm_core.predictions import Prediction
from crm_core.store import Store
from crm_core.webhook_events import lock_cursor, settled_until
from crm_core.won_deals import StageNorm, recent_won_deals
from crm_core.working_time import working_time

CURSOR: Final = "automation"
PREDICTIONS: Final = "automation.predictions"
ALERTS: Final = "automation.alerts"
TIME: Final = "automation.time"

LOOKED_EVERY: Final = timedelta(minutes=5)
"""How often somebody looks at what has become due."""

AT_ONCE: Final = 500
"""Rows of a log that are read together."""

MOST_RUNS: Final = 40
"""Causes that are acted on in one transaction, about: on SQLite nobody else writes meanwhile."""


Broken = Callable[[int, str], None]
"""Told of a rule that asks for what is not there any more, and with what kind of error."""


def _nowhere(_name: str) -> None:
    """Do nothing at a checkpoint."""


@dataclass(frozen=True, kw_only=True)
class _Batch:
    """What was found beyond a cursor: causes, and where the cursor goes."""

    found: Sequence[Found]
    until: int


class Follower:
    """Has rules act, a batch at a time.

    `checkpoint` is called with the name of every boundary between two steps; tests kill the process there.
    """

    def __init__(
        self,
        store: Store,
        *,
        zone: str = "UTC",
        language: str = "en",
        at_once: int = AT_ONCE,
        most_runs: int = MOST_RUNS,
        broken: Broken = lambda _rule, _error: None,
        checkpoint: Callable[[str], None] = _nowhere,
    ) -> None:
        self._store = store
        self._zone = zone
        self._language = language
        self._at_once = at_once
        self._most_runs = most_runs
        self._broken = broken
        self._checkpoint = checkpoint

    def run_once(self) -> int:
        """Deal with a batch of each log; return how much of them there was, runs of time included."""
        return self._follow_changes() + self._follow_scores() + self._follow_alerts() + self._look()

    def run_until_done(self) -> None:
        """Deal with everything that is there."""
        while self.run_once():
            pass

    # ---------------------------------------------------------------- changes

    def _follow_changes(self) -> int:
        with self._store.reading() as session:
            watch = Watch.over(list_active(session))
            if not watch.rules:
                return 0
            after = _after(session, CURSOR, [each.since_sequence for each in watch.rules])
            if newest_sequence(session) <= after:
                return 0
        with self._store.transaction(source=Source.AUTOMATION) as transaction:
            session = transaction.session
            cursor = lock_cursor(session, CURSOR)
            watch = Watch.over(list_active(session))
            if not watch.rules:
                return 0
            cursor.position = _at_least(cursor, [each.since_sequence for each in watch.rules])
            batch = self._read_changes(session, watch, cursor.position)
            if batch.until <= cursor.position:
                return 0
            moved = batch.until - cursor.position
            Actor(transaction, self._zone, self._language).act(batch.found)
            self._checkpoint("acted")
            cursor.position = batch.until
        self._checkpoint("moved")
        return moved

    def _read_changes(self, session: Session, watch: Watch, after: int) -> _Batch:
        newest = newest_sequence(session)
        rows = watch.read(session, after=after, until=newest, limit=self._at_once)
        until = newest if len(rows) < self._at_once else rows[-1].sequence
        found = watch.match(session, rows)
        if len(found) <= self._most_runs:
            return _Batch(found=found, until=until)
        until = found[self._most_runs - 1][1].sequence
        return _Batch(found=[each for each in found if each[1].sequence <= until], until=until)

    # ---------------------------------------------------------------- scores and alerts

    def _follow_scores(self) -> int:
        def is_new(session: Session, after: int) -> bool:
            return (session.scalar(select(func.max(Prediction.id))) or 0) > after

        def read(session: Session, rules: Sequence[Active], cursor: Cursor) -> _Batch | None:
            until = settled_until(session, cursor, Prediction)
            if until is None:
                return None
            limit = self._at_once
            found, seen = scores_crossed(session, rules, after=cursor.position, until=until, limit=limit)
            if seen >= until:
                cursor.batch_until = None
            return _Batch(found=found, until=max(seen, cursor.position))

        return self._follow(PREDICTIONS, ScoreCrossed, "since_prediction", is_new, read)

    def _follow_alerts(self) -> int:
        def is_new(session: Session, after: int) -> bool:
            return (session.scalar(select(func.max(Alert.id))) or 0) > after

        def read(session: Session, rules: Sequence[Active], cursor: Cursor) -> _Batch:
            found, seen = alerts_raised(session, rules, after=cursor.position, limit=self._at_once)
            return _Batch(found=found, until=seen)

        return self._follow(ALERTS, AlertRaised, "since_alert", is_new, read)

    # ---------------------------------------------------------------- time

    def _look(self) -> int:
        """Act on what is due by now, if nobody has looked of late; return how much of it there was."""
        now = self._store.clock.now()
        with self._store.reading() as session:
            rules = [each for each in list_active(session) if isinstance(each.rule.trigger, OnTime)]
            cursor = session.get(Cursor, TIME) if rules else None
            looked = cursor.batch_as_of if cursor is not None else None
            # A clock that went back is looked at again: the last look lies ahead of it.
            if not rules or (looked is not None and looked <= now < looked + LOOKED_EVERY):
                return 0
            look = self._begin_look(session, rules, now, looked)
            found = [each for rule in rules for each in self._find_due(session, rule, look)]
        with self._store.transaction(source=Source.AUTOMATION) as transaction:
            cursor = lock_cursor(transaction.session, TIME)
            Actor(transaction, self._zone, self._language).act(found[: self._most_runs])
            self._checkpoint("acted")
            if len(found) <= self._most_runs:
                cursor.batch_as_of = now
        self._checkpoint("moved")
        return len(found)

    def _begin_look(
        self, session: Session, rules: Sequence[Active], now: datetime, looked: datetime | None
    ) -> Look:
        norms: Mapping[tuple[str, str], StageNorm] = {}
        if any(isinstance(each.rule.trigger, StageOverdue) for each in rules):
            norms = recent_won_deals(self._store).norms
        return Look(
            now=now,
            working=working_time(session, self._zone),
            looked=looked,
            norms={key: timedelta(days=norm.days) for key, norm in norms.items()},
        )

    def _find_due(self, session: Session, active: Active, look: Look) -> list[Found]:
        try:
            return find_due(session, active, look, limit=self._most_runs + 1)
        except CRMError as error:
            self._broken(active.id, type(error).__name__)
            return []

    def _follow(
        self,
        name: str,
        trigger: type[Any],
        since: str,
        is_new: Callable[[Session, int], bool],
        read: Callable[[Session, Sequence[Active], Cursor], _Batch | None],
    ) -> int:
        with self._store.reading() as session:
            rules = _with_trigger(session, trigger)
            if not rules or not is_new(session, _after(session, name, _sinces(rules, since))):
                return 0
        with self._store.transaction(source=Source.AUTOMATION) as transaction:
            session = transaction.session
            cursor = lock_cursor(session, name)
            rules = _with_trigger(session, trigger)
            if not rules:
                return 0
            cursor.position = _at_least(cursor, _sinces(rules, since))
            batch = read(session, rules, cursor)
            if batch is None:
                return 0
            moved = batch.until - cursor.position
            Actor(transaction, self._zone, self._language).act(batch.found)
            self._checkpoint("acted")
            cursor.position = batch.until
        self._checkpoint("moved")
        return moved


def _with_trigger(session: Session, trigger: Any) -> list[Active]:  # noqa: ANN401  a class, or several
    return [each for each in list_active(session) if isinstance(each.rule.trigger, trigger)]


def _sinces(rules: Sequence[Active], since: str) -> list[int]:
    return [getattr(each, since) for each in rules]


def _after(session: Session, name: str, sinces: Sequence[int]) -> int:
    cursor = session.get(Cursor, name)
    return max(cursor.position if cursor else 0, min(sinces))


def _at_least(cursor: Cursor, sinces: Sequence[int]) -> int:
    return max(cursor.position, min(sinces))
