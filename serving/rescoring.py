"""Keeps scores fresh: follows the change log, and every night asks about everything that time alone moves.

How no work is lost or done twice, however many do this at once and whenever one of them is killed:

1. One transaction moves the cursor of the log past a batch of changes and puts the records whose score they
   may move into the work (`crm_core.rescoring`). Whoever is late finds the cursor moved, and that is all.
2. A worker claims some of the work. On SQLite its transaction is alone, on PostgreSQL it passes over what
   others have locked. What a killed worker had claimed is claimed anew when its lease has run out.
3. The champions are asked, as of the instant of the claim, once nobody who writes may still add something
   that was recorded by then.
4. One transaction writes the answers, a lot at a time, and takes their records out of the work.

What a model writes is not in the change log, so this never sets itself off. An answer that is to the bit what
the record shows already is not written. A record that cannot be scored stays among the work, is tried again
after a time that doubles, and is counted in `/readyz`; it never holds up the others. A failing database does:
the lot is tried again until it works.

Sweeps (`serving.sweeping`) go on when there are no changes to follow.
"""

from __future__ import annotations

import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from crm_core.changes import (
    Change,
    Cursor,
    Source,
    is_settled,
    list_changes,
    newest_sequence,
    settled_from,
)
from crm_core.opting_out import hide_scores_of_opted_out
from crm_core.rescoring import (
    CURSOR,
    Asked,
    Claimed,
    Lot,
    Sweep,
    Work,
    Worker,
    ask_for,
    beat,
    claim,
    finish,
    is_work_waiting,
    leave,
    list_failures,
    list_held,
    list_workers,
    note_failure,
    put_back,
)
from crm_core.store import Store, Transaction
from serving import metrics
from serving.affected import Affected, find_affected
from serving.answering import Answers, ask, write_answers, write_as
from serving.champions import RECORD_TYPE_OF, Champions
from serving.logs import get_log
from serving.open_records import list_open
from serving.shadowing import Shadowing
from serving.sweeping import A_MOMENT, Nightly, Sweeper, note_full_scoring

__all__ = ["CURSOR", "Failure", "Rescorer", "RescoringThread", "note_full_scoring", "write_as"]

_WISHES = frozenset({"scoring_opt_out", "contact_id", "account_id"})
"""Fields whose change may mean that a record is not to be scored any more."""

POLL_SECONDS = 0.1
LONGEST_BREATH_SECONDS = 0.25
"""How long changes may gather, at most, while people are waiting for answers of this process."""

LONGEST_PAUSE_SECONDS = 30.0

BEAT_SECONDS = 10.0
"""How often a worker says that it is there, and renews its leases."""

LONGEST_STEP_SECONDS = 600.0
"""A worker that is at one step for longer renews its leases no more: somebody else is to have a try."""

SETTLING_SECONDS = 1.0
"""How long those who write may hold up a question; then it is asked without what they have not committed."""

_log = get_log("serving.rescoring")

_here: set[str] = set()
"""Names of this process's own workers."""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A record that could not be scored."""

    task: str
    record_id: int
    error: str
    at: datetime


@dataclass(frozen=True, kw_only=True)
class _Seen:
    """What has changed since the cursor's position: work to be asked for, and where the log goes on."""

    position: int | None
    until: int
    work: Sequence[Asked] = ()
    changes: int = 0
    wishes: bool = False
    too_much: bool = False


@dataclass(frozen=True, kw_only=True)
class _Taken:
    """Work that is this worker's own, and from which instant it asks."""

    work: Sequence[Claimed]
    as_of: datetime
    settled_from: int | None


def _never() -> bool:
    return False


class Rescorer:
    """Scores what changed, with the champions of the moment; one of perhaps several, none of which lead.

    `busy` tells whether people are waiting for answers of this process; sweeps then take their time.
    """

    def __init__(  # noqa: PLR0913  sizes that only tests make small
        self,
        store: Store,
        champions: Champions,
        *,
        changes_at_once: int = 500,
        records_at_once: int = 200,
        swept_at_once: int = 4_096,
        backlog: int = 20_000,
        shadowing: Shadowing | None = None,
        nightly: Nightly | None = None,
        busy: Callable[[], bool] = _never,
    ) -> None:
        self._store = store
        self._champions = champions
        self._changes_at_once = changes_at_once
        self._records_at_once = records_at_once
        self._backlog = backlog
        self._shadowing = shadowing
        self.name = f"{socket.gethostname()[:60]}:{os.getpid()}:{secrets.token_hex(3)}"
        self._sweeper = Sweeper(
            store,
            champions,
            name=self.name,
            most=swept_at_once,
            nightly=nightly or Nightly(),
            busy=busy,
            wait=self._wait_until_settled,
        )
        self._started_at = store.clock.now()
        self._step_began = time.monotonic()
        self.scored = 0
        """Records answered since it started."""
        self.idle = False
        """Whether the last step found nothing to do."""
        self.lag_seconds: float | None = None
        """From the oldest change behind the last lot to its scores being on the records."""
        _here.add(self.name)

    @property
    def failures(self) -> Sequence[Failure]:
        """Records whose last scoring failed, whoever tried."""
        with self._store.reading() as session:
            return [
                Failure(
                    task=work.task,
                    record_id=work.record_id,
                    error=work.error or "",
                    at=work.failed_at or work.changed_at,
                )
                for work in list_failures(session)
            ]

    @property
    def breather(self) -> float:
        """Seconds to leave to others before the next step."""
        return self._sweeper.breather

    def run_once(self) -> int:
        """Step on until records were answered or nothing is left to do; return how many were answered."""
        while not (answered := self.step()) and not self.idle:
            pass
        return answered

    def step(self) -> int:
        """Deal with some work, or else with a lot of a due sweep; return how many records were answered."""
        self._step_began = time.monotonic()
        self._sweeper.breather, self.idle = 0.0, False
        self._champions.follow()
        seen = self._look()
        answers = self._follow(seen) if seen is not None else None
        if answers is None:
            swept = self._sweeper.run_once()
            self.idle = swept is None
            answers = [] if swept is None else [swept]
        for each in answers:
            self.scored += len(each.predictions)
            if self._shadowing is not None:
                self._shadowing.follow(each.champion, each.predictions, each.as_of)
        return sum(len(each.predictions) for each in answers)

    # ---------------------------------------------------------------- following the log

    def _look(self) -> _Seen | None:
        """Return what has changed, without a lock; None if there is nothing new and no work to claim."""
        with self._store.reading() as session:
            cursor = session.get(Cursor, CURSOR)
            newest = newest_sequence(session)
            if cursor is None:  # the sweeps ask about all that was before
                return _Seen(position=None, until=newest)
            if newest > cursor.position:
                return self._see(session, cursor.position, newest)
            now = self._store.clock.now()
            if is_work_waiting(session, by=self.name, tasks=list(self._champions.serving), now=now):
                return _Seen(position=cursor.position, until=cursor.position)
        return None

    def _see(self, session: Session, position: int, newest: int) -> _Seen:
        changes = list_changes(session, after=position, limit=self._changes_at_once)
        if not changes:
            return _Seen(position=position, until=position)
        if self._is_too_much(session, position, len(changes)):
            return _Seen(position=position, until=newest, too_much=True)
        affected = find_affected(session, changes)
        return _Seen(
            position=position,
            until=changes[-1].sequence,
            work=list(self._asked(session, changes, affected)),
            changes=len(changes),
            wishes=any(change.field in _WISHES for change in changes),
        )

    def _is_too_much(self, session: Session, position: int, found: int) -> bool:
        """Tell whether a log is so long that sweeps are better: a question a record instead of a change."""
        if found < min(self._changes_at_once, self._backlog):
            return False
        waiting = select(Change.id).where(Change.sequence > position).limit(self._backlog + 1)
        return (session.scalar(select(func.count()).select_from(waiting.subquery())) or 0) > self._backlog

    def _asked(self, session: Session, changes: Sequence[Change], affected: Affected) -> Iterable[Asked]:
        """Yield what is open of what is affected, for each task that has a champion, loaded here or not."""
        now = self._store.clock.now()
        # An import tells when something was known elsewhere; here nobody could follow it before now.
        recorded = {
            change.id: now if change.source == Source.IMPORT else change.recorded_at for change in changes
        }
        for task in {*self._champions.serving, *self._champions.troubles}:
            causes = affected[RECORD_TYPE_OF[task]]
            for record_id in list_open(session, RECORD_TYPE_OF[task], causes) if causes else ():
                cause = causes[record_id]
                yield Asked(task=task, record_id=record_id, cause_change_id=cause, changed_at=recorded[cause])

    def _follow(self, seen: _Seen) -> list[Answers] | None:
        """Move the cursor, claim and answer; return what was said, None if there was nothing to do."""
        with self._store.transaction(source=Source.MODEL) as transaction:
            moved = self._move(transaction, seen)
            taken = self._claim(transaction)
        if taken is None:
            return [] if moved and seen.until != seen.position else None
        self._wait_until_settled(taken.settled_from)
        answers = self._ask(taken)
        with self._store.transaction(source=Source.MODEL) as transaction:
            written = self._write(transaction, taken, answers)
        fresh = [work.since for work in taken.work if not work.attempts]
        if fresh:
            self.lag_seconds = (self._store.clock.now() - min(fresh)).total_seconds()
            metrics.note_freshness(self.lag_seconds)
        _log.info(
            "followed", changes=seen.changes, claimed=len(taken.work), written=written, lag=self.lag_seconds
        )
        return answers

    def _move(self, transaction: Transaction, seen: _Seen) -> bool:
        """Move the cursor and ask for the work it leads to, unless somebody else did; tell whether."""
        session = transaction.session
        query = select(Cursor).where(Cursor.name == CURSOR).with_for_update(skip_locked=True)
        cursor = session.scalars(query).one_or_none()
        if cursor is None and seen.position is None:
            cursor = Cursor(name=CURSOR, position=seen.until)
            session.add(cursor)
        elif cursor is None or cursor.position != seen.position:
            return False
        if seen.too_much:
            _leave_to_sweeps(session, seen.until)
        if seen.wishes:
            hide_scores_of_opted_out(session)
        ask_for(session, seen.work)
        cursor.position, cursor.batch_until, cursor.batch_as_of = seen.until, None, None
        session.flush()
        return True

    def _claim(self, transaction: Transaction) -> _Taken | None:
        session, now = transaction.session, transaction.now
        work = claim(
            session,
            by=self.name,
            tasks=list(self._champions.serving),
            limit=self._records_at_once,
            now=now,
        )
        if not work:
            return None
        # Not before any change in it, even if another machine's clock is ahead of ours.
        as_of = max(now, *(each.changed_at for each in work))
        return _Taken(work=work, as_of=as_of, settled_from=settled_from(session))

    def _ask(self, taken: _Taken) -> list[Answers]:
        """Ask every champion about its part of the work, as far as that is still open."""
        answers = []
        for task, champion in self._champions.serving.items():
            causes = {each.record_id: each.cause_change_id for each in taken.work if each.task == task}
            if causes:
                with self._store.reading() as session:
                    ids = list_open(session, champion.record_type, causes)
                answers.append(ask(self._store, champion, ids, taken.as_of).with_causes(causes))
        return answers

    def _write(self, transaction: Transaction, taken: _Taken, answers: Sequence[Answers]) -> int:
        """Write what was said about what is still this worker's own, and take that out of the work."""
        session, now = transaction.session, transaction.now
        claimed = {(each.task, each.record_id): each for each in taken.work}
        held = {key: work for key, work in list_held(session, self.name).items() if key in claimed}
        count = 0
        for each in (_only(each, held) for each in answers):
            task, written = each.champion.task, write_answers(transaction, each)
            count += written.count
            for record_id, error in each.failed.items():
                note_failure(held.pop((task, record_id)), error, now)
            for record_id in written.busy:
                put_back(held.pop((task, record_id)), now + A_MOMENT)
        finish(session, held.values(), taken.work)
        return count

    def _wait_until_settled(self, before: int | None) -> None:
        """Wait until those who write may not add anything any more that was recorded before."""
        if before is None:
            return
        until = time.monotonic() + SETTLING_SECONDS
        while time.monotonic() < until:
            with self._store.reading() as session:
                if is_settled(session, before):
                    return
            time.sleep(0.002)
        _log.warning("asked while somebody was still writing", seconds=SETTLING_SECONDS)

    # ---------------------------------------------------------------- being there

    def beat(self, error: str | None = None) -> None:
        """Say that this worker is there, renew its leases, and let go what dead ones on this host held."""
        with self._store.reading() as session:
            dead = [worker.name for worker in list_workers(session) if self._is_dead(worker)]
        with self._store.transaction(source=Source.MODEL) as transaction:
            worker = Worker(
                name=self.name,
                host=socket.gethostname()[:200],
                pid=os.getpid(),
                started_at=self._started_at,
                seen_at=transaction.now,
                scored=self.scored,
                lag_seconds=self.lag_seconds,
                error=error,
            )
            at_work = time.monotonic() - self._step_began < LONGEST_STEP_SECONDS
            beat(transaction.session, worker, now=transaction.now, renew=at_work)
            if dead:
                leave(transaction.session, dead)

    def leave(self) -> None:
        """Say that this worker is gone, and let go what it held."""
        with self._store.transaction(source=Source.MODEL) as transaction:
            leave(transaction.session, [self.name])
        _here.discard(self.name)

    @staticmethod
    def _is_dead(worker: Worker) -> bool:
        """Tell whether a worker's process, which ran on this host, is gone; others may only be waited for."""
        if worker.host != socket.gethostname()[:200]:
            return False
        if worker.pid == os.getpid():
            return worker.name not in _here
        try:
            os.kill(worker.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False
        return False


def _only(answers: Answers, held: Mapping[tuple[str, int], Work]) -> Answers:
    """Return the part of answers that is about work which is still held."""
    mine = {record_id for task, record_id in held if task == answers.champion.task}
    return replace(
        answers,
        predictions=[each for each in answers.predictions if each.record_id in mine],
        failed={record_id: error for record_id, error in answers.failed.items() if record_id in mine},
    )


def _leave_to_sweeps(session: Session, newest: int) -> None:
    """Have everything scored by sweeps that know of all changes up to the newest."""
    _log.info("too many changes to follow one by one", newest=newest)
    for sweep in session.scalars(select(Sweep)).all():
        if sweep.ended_at is None or sweep.log_position < newest:
            session.execute(delete(Lot).where(Lot.task == sweep.task))
            session.delete(sweep)


class RescoringThread(threading.Thread):
    """Runs a rescorer until told to stop; `wake` makes it look at once.

    While a request is under way, as `busy` tells, it works half of the time at most: requests get the
    processor, and what changes meanwhile is answered together, for little more than one change costs.
    """

    def __init__(
        self, rescorer: Rescorer, *, poll_seconds: float = POLL_SECONDS, busy: Callable[[], bool] = _never
    ) -> None:
        super().__init__(name="rescoring", daemon=True)
        self.rescorer = rescorer
        self._busy = busy
        self.poll_seconds = poll_seconds
        self.last_error: str | None = None
        self.looked = threading.Event()
        """Set once it has tried a first step: the models are loaded then, if they can be."""
        self._wake = threading.Event()
        self._stopping = threading.Event()

    def run(self) -> None:
        """Work while there is work, then wait; after an error wait longer each time."""
        beating = threading.Thread(target=self._beat, name="rescoring beat", daemon=True)
        beating.start()
        failed = 0
        while not self._stopping.is_set():
            began = time.monotonic()
            try:
                self.rescorer.step()
            except Exception as error:  # noqa: BLE001  the edge of the thread: it must not die of one bad day
                failed += 1
                self.last_error = type(error).__name__
                _log.error("rescoring failed", error=self.last_error, failed=failed, exc_info=error)
                self.looked.set()
                self._stopping.wait(min(self.poll_seconds * 2 ** min(failed, 20), LONGEST_PAUSE_SECONDS))
                continue
            self.looked.set()
            failed, self.last_error = 0, None
            self._rest(time.monotonic() - began)
        beating.join()
        self._try(self.rescorer.leave)

    def _rest(self, worked: float) -> None:
        """Wait for something to do, or for as long as a sweep or what was just done leaves to others."""
        if not self.rescorer.idle and not self.rescorer.breather and self._busy():
            self._stopping.wait(min(worked, LONGEST_BREATH_SECONDS))
        seconds = self.poll_seconds if self.rescorer.idle else self.rescorer.breather
        if seconds:
            self._wake.wait(seconds)
        self._wake.clear()

    def _beat(self) -> None:
        self._try(lambda: self.rescorer.beat(self.last_error))
        while not self._stopping.wait(BEAT_SECONDS):
            self._try(lambda: self.rescorer.beat(self.last_error))

    @staticmethod
    def _try(do: Callable[[], None]) -> None:
        """Do what may fail without harm: a lease that is not renewed only runs out."""
        try:
            do()
        except Exception as error:  # noqa: BLE001  as above
            _log.warning("cannot say that this worker is there", error=type(error).__name__, exc_info=error)

    def wake(self) -> None:
        """Look for changes now."""
        self._wake.set()

    def stop(self, timeout: float = 10.0) -> None:
        """Finish the step at hand and end."""
        self._stopping.set()
        self._wake.set()
        if self.ident is not None:
            self.join(timeout)
