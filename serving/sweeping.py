"""Passes over all open records: every night for what time alone moves, and after a promotion.

A pass is due when the hour at which it is to begin has come since the last one began, when another model has
been promoted, and when more has changed than is worth following one by one. A night that was missed is made
up for as soon as somebody is there again. Lots are small, changes go between any two of them, and while
people wait for answers they are smaller and further apart.
"""

from __future__ import annotations

import time as timer
from bisect import bisect_right
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, time, timedelta, tzinfo

from sqlalchemy.orm import Session

from crm_core.changes import Cursor, Source, newest_sequence, settled_from
from crm_core.predictions import NewPrediction
from crm_core.rescoring import (
    CURSOR,
    LEASE,
    Asked,
    Lot,
    Sweep,
    advance_lot,
    begin_sweep,
    claim_lot,
    cut_lot,
    end_sweep,
    finish_lot,
    get_sweep,
    get_work,
    has_lots,
    note_failure,
    put_back,
    split_lot,
)
from crm_core.store import Store, Transaction
from crm_core.writing_back import LOT_SECONDS, SMALLEST_LOT, PredictionColumns, next_size
from serving.answering import Answers, ask_many, write_many
from serving.champions import RECORD_TYPE_OF, Champion, Champions
from serving.logs import get_log
from serving.open_records import count_unanswered, highest_id, list_unanswered

BUSY_SHARE = 4
"""While people wait, a sweep takes one part in so many of the time, and its lots are that much smaller."""

ASK_SECONDS = 0.25
"""How long a lot may take to be asked about, while changes wait for this worker."""

A_MOMENT = timedelta(milliseconds=200)
"""After how long a record that somebody was writing is tried again."""

_log = get_log("serving.rescoring")


@dataclass(frozen=True, kw_only=True)
class Nightly:
    """The hour of the day, somewhere, at which every open record is to be scored."""

    at: time = time(2, 0)
    zone: tzinfo = UTC

    def last(self, now: datetime) -> datetime:
        """Return the last time that hour came.

        It comes once on every day: a clock that is put forward skips no night, one put back repeats none.
        """
        today = now.astimezone(self.zone).date()
        hours = (
            datetime.combine(today - timedelta(days=back), self.at, tzinfo=self.zone).astimezone(UTC)
            for back in (0, 1, 2)
        )
        return next(hour for hour in hours if hour <= now)


@dataclass(frozen=True, kw_only=True)
class _Taken:
    """A lot that is this worker's own, and what is to be asked of whom."""

    lot: Lot
    ids: Sequence[int]
    as_of: datetime
    settled_from: int | None


@dataclass(frozen=True, kw_only=True)
class _Said:
    """What was said of a lot, not all of it written yet: the records up to `written` are."""

    champion: Champion
    taken: _Taken
    columns: PredictionColumns
    failed: Mapping[int, str]
    written: int

    def next(self, size: int) -> tuple[PredictionColumns, int]:
        """Return what is to be written next, and up to which record that goes."""
        start = bisect_right(self.columns.record_id, self.written)
        some = self.columns.part(start, start + size)
        is_last = start + size >= len(self.columns)
        return some, self.taken.lot.until_id if is_last else some.record_id[-1]

    def ids(self, until: int) -> Sequence[int]:
        """Return the records of the lot from those that are written to `until`."""
        ids = self.taken.ids
        return ids[bisect_right(ids, self.written) : bisect_right(ids, until)]


class Sweeper:
    """Deals with one lot after another of whatever sweep is due; `busy` tells whether people are waiting."""

    def __init__(
        self,
        store: Store,
        champions: Champions,
        *,
        name: str,
        most: int,
        nightly: Nightly,
        busy: Callable[[], bool],
        wait: Callable[[int | None], None],
    ) -> None:
        self._store = store
        self._champions = champions
        self._name = name
        self._most = most
        self._asks = self._writes = min(most, SMALLEST_LOT)
        self._said: _Said | None = None
        self._nightly = nightly
        self._busy = busy
        self._wait = wait
        self.breather = 0.0
        """Seconds to leave to others before the next lot."""

    def run_once(self) -> Answers | None:
        """Write some of what was said of a lot, of another one if all is; return that, None without a sweep.

        Whoever calls may do something else in between: what was said waits, and its lot is leased.
        """
        began = timer.perf_counter()
        said = self._said or self._ask_next()
        if said is None:
            return None
        self._said = None  # whatever goes wrong, the lot is claimed and asked about again
        some, until = said.next(self._writes)
        self._write(said, some, until)
        spent = timer.perf_counter() - began
        self.breather = spent * (BUSY_SHARE - 1) if self._busy() else 0.0
        return _answers(said, some, until)

    def _ask_next(self) -> _Said | None:
        """Ask about the next lot of a sweep that is due or under way."""
        for task in RECORD_TYPE_OF:
            champion = self._champions.find(task)
            taken = None if champion is None else self._take(champion)
            if champion is not None and taken is not None:
                return self._ask(champion, taken)
        return None

    def _ask(self, champion: Champion, taken: _Taken) -> _Said:
        self._wait(taken.settled_from)
        began = timer.perf_counter()
        columns, failed = ask_many(self._store, champion, taken.ids, taken.as_of)
        if len(taken.ids) >= self._asks // BUSY_SHARE:
            took = (timer.perf_counter() - began) * self._asks / max(len(taken.ids), 1)
            self._asks = min(self._most, next_size(self._asks, took, ASK_SECONDS))
        return _Said(
            champion=champion, taken=taken, columns=columns, failed=failed, written=taken.lot.after_id
        )

    def _write(self, said: _Said, some: PredictionColumns, until: int) -> None:
        """Write some of what was said, if the lot is this worker's still; the rest is for later."""
        lot, done = said.taken.lot, said.ids(until)
        with self._store.transaction(source=Source.MODEL) as transaction:
            began = timer.perf_counter()
            if not self._note(transaction, lot, until, len(done)):
                return
            written = write_many(transaction, said.champion, some, said.taken.as_of)
            failed = {each: said.failed[each] for each in done if each in said.failed}
            self._put_aside(transaction, said.champion.task, failed, written.busy)
            if until == lot.until_id:
                self._end(transaction, said.champion.task)
        if len(some) >= self._writes:
            self._writes = next_size(len(some), timer.perf_counter() - began, LOT_SECONDS)
        if until < lot.until_id:
            self._said = replace(said, written=until)

    def _note(self, transaction: Transaction, lot: Lot, until: int, done: int) -> bool:
        """Note how far a lot is; return False if it is not this worker's own any more."""
        session = transaction.session
        if until == lot.until_id:
            return finish_lot(session, lot, by=self._name, done=done)
        return advance_lot(session, lot, to=until, by=self._name, done=done, until=transaction.now + LEASE)

    @staticmethod
    def _put_aside(
        transaction: Transaction, task: str, failed: Mapping[int, str], busy: Collection[int]
    ) -> None:
        """Put what could not be scored or written among the work, so that the sweep can go on."""
        now = transaction.now
        for record_id in sorted({*failed, *busy}):
            asked = Asked(task=task, record_id=record_id, cause_change_id=None, changed_at=now)
            work = get_work(transaction.session, asked)
            if record_id in failed:
                note_failure(work, failed[record_id], now)
            elif work.leased_by is None:
                put_back(work, now + A_MOMENT)
        transaction.session.flush()

    # ---------------------------------------------------------------- taking a lot

    def _take(self, champion: Champion) -> _Taken | None:
        """Begin the sweep that is due, if any, and make its next lot this worker's own."""
        now = self._store.clock.now()
        with self._store.reading() as session:
            sweep = session.get(Sweep, champion.task)
            if not self._is_due(sweep, champion, now) and not self._goes_on(session, sweep, champion, now):
                return None
            total = self._total(session, sweep, champion, now)
        with self._store.transaction(source=Source.MODEL) as transaction:
            sweep = self._current(transaction, champion, total)
            if sweep is None:
                return None
            taken = self._claim(transaction, champion, sweep)
            if taken is None:
                self._end(transaction, champion.task)
            return taken

    def _is_due(self, sweep: Sweep | None, champion: Champion, now: datetime) -> bool:
        if sweep is None or (sweep.as_of < champion.promoted_at and not _is_ahead(sweep, champion, now)):
            return True
        return sweep.ended_at is not None and sweep.as_of < self._nightly.last(now)

    def _goes_on(self, session: Session, sweep: Sweep | None, champion: Champion, now: datetime) -> bool:
        """Tell whether a sweep under way has something for a worker with this model."""
        if sweep is None or sweep.ended_at is not None:
            return False
        if sweep.model_version != champion.scorer.model_version:
            return False
        return sweep.position < sweep.until or has_lots(session, sweep.task, by=self._name, now=now)

    def _total(self, session: Session, sweep: Sweep | None, champion: Champion, now: datetime) -> int:
        """Count what a sweep that is due will have to do; not inside the transaction that begins it."""
        if not self._is_due(sweep, champion, now):
            return 0
        version = champion.scorer.model_version
        return count_unanswered(session, champion.record_type, asked=now, model_version=version)

    def _current(self, transaction: Transaction, champion: Champion, total: int) -> Sweep | None:
        """Return the sweep under way, locked, or the one begun now; None if it is not for this model."""
        session = transaction.session
        sweep = get_sweep(session, champion.task)
        if sweep is None:
            return None
        if self._is_due(sweep, champion, transaction.now):
            return _begin(transaction, champion, total)
        if sweep.ended_at is not None:
            return None
        return sweep if sweep.model_version == champion.scorer.model_version else None

    def _claim(self, transaction: Transaction, champion: Champion, sweep: Sweep) -> _Taken | None:
        session, now = transaction.session, transaction.now
        size = max(1, self._asks // (BUSY_SHARE if self._busy() else 1))
        lot = claim_lot(session, sweep, by=self._name, now=now)
        if lot is not None:
            ids = self._ids(session, champion, sweep, after=lot.after_id, until=lot.until_id, limit=size)
            if len(ids) == size and ids[-1] < lot.until_id:
                split_lot(session, lot, at=ids[-1])
        elif sweep.position < sweep.until:
            ids = self._ids(session, champion, sweep, after=sweep.position, until=sweep.until, limit=size)
            until_id = ids[-1] if len(ids) == size else sweep.until
            lot = cut_lot(session, sweep, until_id=until_id, by=self._name, now=now)
        else:
            return None
        return _Taken(lot=lot, ids=ids, as_of=sweep.as_of, settled_from=sweep.settled_from)

    @staticmethod
    def _ids(
        session: Session,
        champion: Champion,
        sweep: Sweep,
        *,
        after: int,
        until: int,
        limit: int | None = None,
    ) -> list[int]:
        return list_unanswered(
            session,
            champion.record_type,
            after=after,
            until=until,
            asked=sweep.as_of,
            model_version=champion.scorer.model_version,
            limit=limit,
        )

    @staticmethod
    def _end(transaction: Transaction, task: str) -> None:
        session = transaction.session
        session.flush()
        sweep = get_sweep(session, task)
        if sweep is not None and sweep.ended_at is None and end_sweep(session, sweep, transaction.now):
            _log.info("sweep done", task=task, records=sweep.done)


def _is_ahead(sweep: Sweep, champion: Champion, now: datetime) -> bool:
    """Tell whether only a clock ahead of ours makes a sweep of this very model seem older than its promotion.

    It would seem so of every sweep that begins before that instant comes, and none would ever end.
    """
    return now < champion.promoted_at and sweep.model_version == champion.scorer.model_version


def _answers(said: _Said, some: PredictionColumns, until: int) -> Answers:
    """Return what was written as it is told to others, without reasons."""
    cells = zip(some.record_id, some.probability, some.score, some.grade, strict=True)
    predictions = [
        NewPrediction(record_id=record_id, probability=probability, score=score, grade=grade, reasons=[])
        for record_id, probability, score, grade in cells
    ]
    return Answers(
        champion=said.champion, as_of=said.taken.as_of, ids=said.ids(until), predictions=predictions
    )


def _begin(transaction: Transaction, champion: Champion, total: int) -> Sweep:
    session = transaction.session
    begun = Sweep(
        task=champion.task,
        as_of=transaction.now,
        model_version=champion.scorer.model_version,
        settled_from=settled_from(session),
        log_position=newest_sequence(session),
        position=0,
        until=highest_id(session, champion.record_type),
        total=total,
        done=0,
        ended_at=None,
    )
    begin_sweep(session, begun)
    _log.info("sweep begun", task=champion.task, model_version=begun.model_version, records=total)
    return session.get_one(Sweep, champion.task)


def note_full_scoring(transaction: Transaction, task: str, *, as_of: datetime, position: int) -> None:
    """Note that all open records of a task were scored as of `as_of`, after the change `position`."""
    session = transaction.session
    swept = Sweep(
        task=task,
        as_of=as_of,
        model_version=None,
        settled_from=None,
        log_position=position,
        position=0,
        until=0,
        total=0,
        done=0,
        ended_at=transaction.now,
    )
    begin_sweep(session, swept)
    if session.get(Cursor, CURSOR) is None:
        session.add(Cursor(name=CURSOR, position=position))
    session.flush()
