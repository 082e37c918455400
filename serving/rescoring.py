"""Keeps scores fresh: follows the change log, and once a day asks about everything that time alone moves.

How it survives being killed between any two steps:

1. One transaction begins a batch: it fixes its last change and the instant it asks from (`as_of`),
   which is not before any change in it, and keeps both in the cursor. A restart finds the begun batch and
   asks the same question again.
2. The champions score what the batch's changes affect.
3. Predictions are written some records at a time, each lot in a transaction of its own. They are unique by
   (task, record, as_of, model version): what had been written before the kill is left out.
4. One transaction moves the cursor past the batch.

What a model writes is not in the change log, so this never sets itself off. A record that cannot be scored is
left out, logged and counted in `/readyz`, and asked about again with the next change to it or the next sweep;
it never holds up the log. A failing database does: the batch is tried again until it works.

A sweep asks about every open record of a task, in lots that let changes go first. It is due when the day in
UTC is another than that of the last one, when another model has been promoted, and when more has changed than
is worth following one by one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice
from typing import Any

from sqlalchemy import ColumnElement, and_, func, or_, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from crm_core.changes import Change, Cursor, Source, list_changes, list_changes_between, newest_sequence
from crm_core.errors import FeatureError, ModelError
from crm_core.opting_out import hide_scores_of_opted_out, may_be_scored
from crm_core.predictions import NewPrediction, write_predictions
from crm_core.records import Account, Deal, DealStatus, Lead, LeadStatus
from crm_core.store import Store, Transaction
from serving.affected import Affected, find_affected
from serving.champions import RECORD_TYPE_OF, Champion, Champions
from serving.logs import get_log
from serving.shadowing import Shadowing

CURSOR = "rescoring"
SWEEP = "sweep."
"""A sweep's cursor: `batch_as_of` is the instant it asks from. While it runs, `batch_until` is the highest
record id and `position` the last one done; afterwards `batch_until` is empty and `position` the last change
that it takes into account."""

_WISHES = frozenset({"scoring_opt_out", "contact_id", "account_id"})
"""Fields whose change may mean that a record is not to be scored any more."""

POLL_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 30.0

_log = get_log("serving.rescoring")


@dataclass(frozen=True, kw_only=True)
class Begun:
    """Work that a cursor has begun: what comes after `position` up to `until`, asked from `as_of`."""

    position: int
    until: int
    as_of: datetime


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A record that could not be scored."""

    task: str
    record_id: int
    error: str
    at: datetime


def _nowhere(_name: str) -> None:
    """Do nothing at a checkpoint."""


class Rescorer:
    """Scores what changed, with the champions of the moment.

    `checkpoint` is called with the name of every boundary between two steps; tests kill the process there.
    """

    def __init__(
        self,
        store: Store,
        champions: Champions,
        *,
        checkpoint: Callable[[str], None] = _nowhere,
        changes_at_once: int = 500,
        records_at_once: int = 200,
        backlog: int = 20_000,
        shadowing: Shadowing | None = None,
    ) -> None:
        self._store = store
        self._champions = champions
        self._checkpoint = checkpoint
        self._changes_at_once = changes_at_once
        self._records_at_once = records_at_once
        self._backlog = backlog
        self._shadowing = shadowing
        self._failures: dict[tuple[str, int], Failure] = {}
        self.lag_seconds: float | None = None
        """From the newest change of the last batch to its scores being on the records."""

    @property
    def failures(self) -> Sequence[Failure]:
        """Records whose last scoring failed."""
        return list(self._failures.values())

    def run_once(self) -> int:
        """Deal with a batch of changes, or else a lot of a due sweep; return how many were scored."""
        self._champions.refresh()
        batch = self._begin()
        if batch is not None:
            return self._deal_with(batch)
        return next((done for task in RECORD_TYPE_OF if (done := self._sweep(task))), 0)

    # ---------------------------------------------------------------- following the log

    def _begin(self) -> Begun | None:
        """Return the begun batch, or begin one; None if nothing has changed."""
        if not self._something_changed():
            return None
        with self._store.transaction(source=Source.MODEL) as transaction:
            session = transaction.session
            cursor = _get_cursor(session)
            if cursor.batch_until is None or cursor.batch_as_of is None:
                self._skip_backlog(session, cursor)
                changes = list_changes(session, after=cursor.position, limit=self._changes_at_once)
                if not changes:
                    return None
                cursor.batch_until = changes[-1].sequence
                cursor.batch_as_of = max(transaction.now, *(change.recorded_at for change in changes))
            begun = Begun(position=cursor.position, until=cursor.batch_until, as_of=cursor.batch_as_of)
        self._checkpoint("begun")
        return begun

    def _something_changed(self) -> bool:
        with self._store.reading() as session:
            cursor = session.get(Cursor, CURSOR)
            if cursor is None or cursor.batch_until is not None:
                return True
            return newest_sequence(session) > cursor.position

    def _skip_backlog(self, session: Session, cursor: Cursor) -> None:
        """Leave a log that is too long to the sweeps: one question a record instead of one a change."""
        waiting = select(Change.id).where(Change.sequence > cursor.position).limit(self._backlog + 1)
        if (session.scalar(select(func.count()).select_from(waiting.subquery())) or 0) <= self._backlog:
            return
        newest = newest_sequence(session)
        _log.info("too many changes to follow one by one", transactions=newest - cursor.position)
        cursor.position = newest
        for task in RECORD_TYPE_OF:
            sweep = session.get(Cursor, SWEEP + task)
            if sweep is not None and (sweep.batch_until is not None or sweep.position < newest):
                session.delete(sweep)

    def _deal_with(self, batch: Begun) -> int:
        with self._store.reading() as session:
            changes = list_changes_between(session, after=batch.position, until=batch.until)
            affected = find_affected(session, changes)
            wishes = any(change.field in _WISHES for change in changes)
            written_last = max((change.recorded_at for change in changes), default=batch.as_of)
        if wishes:
            with self._store.transaction(source=Source.MODEL) as transaction:
                hide_scores_of_opted_out(transaction.session)
        done = sum(
            self._answer(champion, affected, batch.as_of) for champion in self._champions.serving.values()
        )
        self._move(batch.until)
        self.lag_seconds = (self._store.clock.now() - written_last).total_seconds()
        _log.info("followed", changes=len(changes), scored=done, lag_seconds=round(self.lag_seconds, 3))
        return done

    def _answer(self, champion: Champion, affected: Affected, as_of: datetime) -> int:
        """Score what is affected and open, some records at a time."""
        causes = affected.get(champion.record_type, {})
        with self._store.reading() as session:
            ids = _list_open(session, champion.record_type, causes)
        return sum(
            self._score_and_write(champion, lot, as_of, causes) for lot in _lots(ids, self._records_at_once)
        )

    def _move(self, until: int) -> None:
        with self._store.transaction(source=Source.MODEL) as transaction:
            cursor = _get_cursor(transaction.session)
            cursor.position, cursor.batch_until, cursor.batch_as_of = until, None, None
            transaction.session.flush()
            self._checkpoint("moving")
        self._checkpoint("moved")

    # ---------------------------------------------------------------- sweeping

    def _sweep(self, task: str) -> int:
        """Deal with one lot of a task's sweep, if one is due."""
        champion = self._champions.find(task)
        if champion is None:
            return 0
        sweep = self._begin_sweep(champion)
        if sweep is None:
            return 0
        with self._store.reading() as session:
            ids = _list_unanswered(session, champion, sweep, limit=self._records_at_once)
        done = self._score_and_write(champion, ids, sweep.as_of, {}) if ids else 0
        self._move_sweep(task, ids[-1] if len(ids) == self._records_at_once else None)
        return done

    def _begin_sweep(self, champion: Champion) -> Begun | None:
        """Return the sweep that is under way, or begin the one that is due; None if none is."""
        now = self._store.clock.now()
        with self._store.reading() as session:
            if not _is_due(session.get(Cursor, SWEEP + champion.task), champion, now):
                return None
        with self._store.transaction(source=Source.MODEL) as transaction:
            session = transaction.session
            sweep = session.get(Cursor, SWEEP + champion.task)
            begun = _under_way(sweep, champion)
            if begun is None:
                highest = session.scalar(select(func.max(_model_of(champion.record_type).id))) or 0
                begun = Begun(position=0, until=highest, as_of=transaction.now)
                session.merge(
                    Cursor(
                        name=SWEEP + champion.task, position=0, batch_until=highest, batch_as_of=begun.as_of
                    )
                )
                _log.info("sweep begun", task=champion.task, model_version=champion.scorer.model_version)
        self._checkpoint("sweep begun")
        return begun

    def _move_sweep(self, task: str, last_id: int | None) -> None:
        """Note the last record done; None ends the sweep."""
        with self._store.transaction(source=Source.MODEL) as transaction:
            session = transaction.session
            sweep = session.get_one(Cursor, SWEEP + task)
            if last_id is not None:
                sweep.position = last_id
            else:
                sweep.position, sweep.batch_until = _get_cursor(session).position, None
                _log.info("sweep done", task=task)
            session.flush()
        self._checkpoint("sweep moved")

    # ---------------------------------------------------------------- scoring and writing

    def _score_and_write(
        self, champion: Champion, ids: Sequence[int], as_of: datetime, causes: Mapping[int, int]
    ) -> int:
        predictions = [
            replace(prediction, cause_change_id=causes.get(prediction.record_id))
            for prediction in self._score(champion, ids, as_of)
        ]
        self._checkpoint("scored")
        with self._store.transaction(source=Source.MODEL) as transaction:
            written = write_as(transaction, champion, predictions, as_of)
            self._checkpoint("writing")
        self._checkpoint("written")
        if self._shadowing is not None:
            self._shadowing.follow(champion, predictions, as_of)
        return written

    def _score(self, champion: Champion, ids: Sequence[int], as_of: datetime) -> list[NewPrediction]:
        """Return what the champion says; halve the lot around a record that cannot be scored."""
        try:
            found = champion.scorer.score(self._store, ids, as_of)
        except SQLAlchemyError:
            raise  # the database, not a record, is in trouble
        except (FeatureError, ModelError) as error:
            self._note_failures(champion, ids, as_of, error)
            return []
        except Exception as error:  # noqa: BLE001  one bad record must not hold up the log
            if len(ids) == 1:
                self._note_failures(champion, ids, as_of, error)
                return []
            middle = len(ids) // 2
            halves = ids[:middle], ids[middle:]
            return [prediction for half in halves for prediction in self._score(champion, half, as_of)]
        for record_id in ids:
            self._failures.pop((champion.task, record_id), None)
        return found

    def _note_failures(self, champion: Champion, ids: Sequence[int], at: datetime, error: Exception) -> None:
        for record_id in ids:
            self._failures[champion.task, record_id] = Failure(
                task=champion.task, record_id=record_id, error=type(error).__name__, at=at
            )
        _log.error(
            "cannot be scored",
            task=champion.task,
            records=list(ids[:20]),
            count=len(ids),
            error=type(error).__name__,
            exc_info=error,
        )


def write_as(
    transaction: Transaction, champion: Champion, predictions: Sequence[NewPrediction], as_of: datetime
) -> int:
    """Write what a champion said; return how much of it was new."""
    return write_predictions(
        transaction,
        task=champion.task,
        record_type=champion.record_type,
        as_of=as_of,
        model_version=champion.scorer.model_version,
        horizon_days=champion.scorer.horizon_days,
        predictions=predictions,
    )


def note_full_scoring(transaction: Transaction, task: str, *, as_of: datetime, position: int) -> None:
    """Note that all open records of a task were scored as of `as_of`, after the change `position`."""
    session = transaction.session
    session.merge(Cursor(name=SWEEP + task, position=position, batch_until=None, batch_as_of=as_of))
    if session.get(Cursor, CURSOR) is None:
        session.add(Cursor(name=CURSOR, position=position))
    session.flush()


def _get_cursor(session: Session) -> Cursor:
    """Return the cursor, locked; a new one starts at the end of the log, as the sweeps ask about all else."""
    cursor = session.get(Cursor, CURSOR, with_for_update=True)
    if cursor is None:
        cursor = Cursor(name=CURSOR, position=newest_sequence(session))
        session.add(cursor)
    return cursor


def _is_due(sweep: Cursor | None, champion: Champion, now: datetime) -> bool:
    if sweep is None or sweep.batch_as_of is None or sweep.batch_until is not None:
        return True
    return sweep.batch_as_of < champion.promoted_at or sweep.batch_as_of.date() < now.date()


def _under_way(sweep: Cursor | None, champion: Champion) -> Begun | None:
    """Return the sweep that was begun with this champion and has not ended."""
    if sweep is None or sweep.batch_until is None or sweep.batch_as_of is None:
        return None
    if sweep.batch_as_of < champion.promoted_at:
        return None
    return Begun(position=sweep.position, until=sweep.batch_until, as_of=sweep.batch_as_of)


def _model_of(record_type: str) -> Any:  # noqa: ANN401  one of three classes with the same columns
    return {"lead": Lead, "deal": Deal, "account": Account}[record_type]


def _is_open(record_type: str) -> ColumnElement[bool]:
    """Return the condition that a record of a type is open and may be scored."""
    match record_type:
        case "lead":
            is_open = and_(Lead.deleted_at.is_(None), Lead.status == LeadStatus.OPEN)
        case "deal":
            is_open = and_(Deal.deleted_at.is_(None), Deal.status == DealStatus.OPEN)
        case _:
            is_open = Account.deleted_at.is_(None)
    return and_(is_open, may_be_scored(_model_of(record_type)))


def _list_open(session: Session, record_type: str, ids: Iterable[int]) -> list[int]:
    model = _model_of(record_type)
    query = select(model.id).where(model.id.in_(list(ids)), _is_open(record_type)).order_by(model.id)
    return list(session.scalars(query))


def _list_unanswered(session: Session, champion: Champion, sweep: Begun, *, limit: int) -> list[int]:
    """Return the next open records that this model has not answered for since the sweep began."""
    model = _model_of(champion.record_type)
    older = or_(
        model.scored_at.is_(None),
        model.scored_at < sweep.as_of,
        model.model_version != champion.scorer.model_version,
    )
    bounds = and_(model.id > sweep.position, model.id <= sweep.until)
    query = select(model.id).where(bounds, _is_open(champion.record_type), older).order_by(model.id)
    return list(session.scalars(query.limit(limit)))


def _lots(ids: Sequence[int], size: int) -> Iterable[Sequence[int]]:
    rest = iter(ids)
    while lot := list(islice(rest, size)):
        yield lot


class RescoringThread(threading.Thread):
    """Runs a rescorer until told to stop; `wake` makes it look at once."""

    def __init__(self, rescorer: Rescorer, *, poll_seconds: float = POLL_SECONDS) -> None:
        super().__init__(name="rescoring", daemon=True)
        self.rescorer = rescorer
        self.poll_seconds = poll_seconds
        self.last_error: str | None = None
        self._wake = threading.Event()
        self._stopping = threading.Event()

    def run(self) -> None:
        """Work while there is work, then wait; after an error wait longer each time."""
        failed = 0
        while not self._stopping.is_set():
            try:
                done = self.rescorer.run_once()
            except Exception as error:  # noqa: BLE001  the edge of the thread: it must not die of one bad day
                failed += 1
                self.last_error = type(error).__name__
                _log.error("rescoring failed", error=self.last_error, failed=failed, exc_info=error)
                self._stopping.wait(min(self.poll_seconds * 2**failed, LONGEST_PAUSE_SECONDS))
                continue
            failed, self.last_error = 0, None
            if not done:
                self._wake.wait(self.poll_seconds)
                self._wake.clear()

    def wake(self) -> None:
        """Look for changes now."""
        self._wake.set()

    def stop(self, timeout: float = 10.0) -> None:
        """Finish the step at hand and end."""
        self._stopping.set()
        self._wake.set()
        self.join(timeout)
