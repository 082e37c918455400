"""What is to be scored again, who is at it, and how far the passes over all records have come.

The contract, which holds however many workers there are and whenever one of them is killed:

- A change puts the records whose score it may move into `rescoring_work`, in the transaction that moves the
  cursor of the log past it. A record stands there once a task, whatever happens to it meanwhile.
- A worker claims some of it for as long as its lease runs; whoever finds a lease that ran out may claim it.
- What a worker found out is written, and its work taken out, in one transaction, and only for what it still
  holds. So an answer is either there and its work is gone, or neither.
- A record that changes while somebody is at it stays in, to be claimed again.
- A pass over all records of a task is cut into lots of ids; each is claimed, written and taken out likewise.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Index,
    Integer,
    String,
    case,
    delete,
    func,
    literal,
    or_,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Mapped, Session, mapped_column

from crm_core.changes import Cursor, newest_sequence
from crm_core.clock import instant
from crm_core.columns import Instant
from crm_core.records import Base, Id

CURSOR: Final = "rescoring"
"""The cursor of the change log that says up to where changes have become work."""

LEASE: Final = timedelta(seconds=30)
"""How long what a worker claimed is its own, unless it says that it is still at it."""

HELD: Final = timedelta(minutes=2)
"""How long a full rescore's lot is its own after each of its writes; a large block is read meanwhile."""

FIRST_PAUSE: Final = timedelta(seconds=30)
LONGEST_PAUSE: Final = timedelta(hours=1)
"""After how long a record that could not be scored is tried again: first, and at most."""

_LONG_AGO: Final = instant(0)

FORGOTTEN_AFTER: Final = timedelta(days=1)
"""After how long a worker that says nothing any more is taken off the list."""


class Work(Base):
    """A record that a task is to score again."""

    __tablename__ = "rescoring_work"

    task: Mapped[str] = mapped_column(String(40), primary_key=True)
    record_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    cause_change_id: Mapped[int | None] = mapped_column(
        BigInteger, comment="the newest change that asks for it; NULL: time or a new model"
    )
    changed_at: Mapped[datetime] = mapped_column(Instant, comment="when the newest cause was recorded")
    since: Mapped[datetime] = mapped_column(Instant, comment="when the oldest cause was recorded")
    leased_by: Mapped[str | None] = mapped_column(String(80), comment="the worker that is at it")
    leased_until: Mapped[datetime | None] = mapped_column(Instant)
    attempts: Mapped[int] = mapped_column(Integer, comment="how often it could not be scored")
    not_before: Mapped[datetime | None] = mapped_column(Instant, comment="when to try again")
    error: Mapped[str | None] = mapped_column(String(80), comment="why it could not be scored")
    failed_at: Mapped[datetime | None] = mapped_column(Instant)

    __table_args__ = (Index("ix_rescoring_work_leased_by", "leased_by"),)


class Sweep(Base):
    """A task's pass over all its open records: the one under way, or else the last one."""

    __tablename__ = "rescoring_sweeps"

    task: Mapped[str] = mapped_column(String(40), primary_key=True)
    as_of: Mapped[datetime] = mapped_column(Instant, comment="the instant it asks from")
    model_version: Mapped[str | None] = mapped_column(String(80))
    settled_from: Mapped[int | None] = mapped_column(
        BigInteger, comment="the first transaction that cannot have recorded anything up to as_of"
    )
    log_position: Mapped[int] = mapped_column(BigInteger, comment="the last change it takes into account")
    position: Mapped[int] = mapped_column(BigInteger, comment="the last record id in a lot")
    until: Mapped[int] = mapped_column(BigInteger, comment="the last record id of all")
    total: Mapped[int] = mapped_column(Integer, comment="records to score")
    done: Mapped[int] = mapped_column(Integer, comment="records dealt with")
    ended_at: Mapped[datetime | None] = mapped_column(Instant)


class Lot(Base):
    """A part of a sweep that a worker is at: the records after `after_id`, up to `until_id`."""

    __tablename__ = "rescoring_lots"

    id: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=True)
    task: Mapped[str] = mapped_column(String(40))
    after_id: Mapped[int] = mapped_column(BigInteger)
    until_id: Mapped[int] = mapped_column(BigInteger)
    leased_by: Mapped[str | None] = mapped_column(String(80))
    leased_until: Mapped[datetime | None] = mapped_column(Instant)

    __table_args__ = (Index("ix_rescoring_lots_task_id", "task", "id"),)


class Worker(Base):
    """A process that scores, and when it last said so."""

    __tablename__ = "rescoring_workers"

    name: Mapped[str] = mapped_column(String(80), primary_key=True)
    host: Mapped[str] = mapped_column(String(200))
    pid: Mapped[int] = mapped_column(BigInteger)
    started_at: Mapped[datetime] = mapped_column(Instant)
    seen_at: Mapped[datetime] = mapped_column(Instant)
    scored: Mapped[int] = mapped_column(BigInteger, comment="records answered since it started")
    lag_seconds: Mapped[float | None] = mapped_column(comment="from the last change to its score")
    error: Mapped[str | None] = mapped_column(String(80), comment="what stopped its last step")


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A record to be scored again, and the newest change that asks for it."""

    task: str
    record_id: int
    cause_change_id: int | None
    changed_at: datetime


@dataclass(frozen=True, kw_only=True)
class Claimed(Asked):
    """Work that is a worker's own until its lease runs out."""

    since: datetime
    attempts: int


# ------------------------------------------------------------------------------------------- work


def ask_for(session: Session, work: Iterable[Asked]) -> int:
    """Put records into the work, or note the newer cause of those that are there; return how many."""
    rows = [
        {**vars(each), "since": each.changed_at, "attempts": 0}
        for each in sorted(work, key=lambda each: (each.task, each.record_id))
    ]
    if rows:
        made = _insert(session, Work)
        new, newest = made.excluded, Work.changed_at
        made = made.on_conflict_do_update(
            index_elements=["task", "record_id"],
            set_={
                "cause_change_id": func.coalesce(new.cause_change_id, Work.cause_change_id),
                "changed_at": case((new.changed_at > newest, new.changed_at), else_=newest),
                "not_before": None,
            },
        )
        session.connection().execute(made, rows)
    return len(rows)


def claim(session: Session, *, by: str, tasks: Collection[str], limit: int, now: datetime) -> list[Claimed]:
    """Make work of some tasks this worker's own, what has waited longest first."""
    query = (
        select(Work)
        .where(Work.task.in_(tasks), _claimable(Work, by, now), _is_due(now))
        .order_by(Work.since, Work.task, Work.record_id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    found = session.scalars(query).all()
    for work in found:
        work.leased_by, work.leased_until = by, now + LEASE
    session.flush()
    return [_claimed(work) for work in found]


def is_work_waiting(session: Session, *, by: str, tasks: Collection[str], now: datetime) -> bool:
    """Tell whether `claim` would find something."""
    waiting = select(literal(1)).where(Work.task.in_(tasks), _claimable(Work, by, now), _is_due(now))
    return session.scalar(waiting.limit(1)) is not None


def list_held(session: Session, by: str) -> dict[tuple[str, int], Work]:
    """Return the work that is still a worker's own, locked until the transaction ends."""
    query = select(Work).where(Work.leased_by == by).order_by(Work.task, Work.record_id)
    return {(work.task, work.record_id): work for work in session.scalars(query.with_for_update())}


def finish(session: Session, held: Collection[Work], claimed: Collection[Claimed]) -> None:
    """Take out what is dealt with; what has changed since it was claimed goes back to be claimed again."""
    causes = {(each.task, each.record_id): each.cause_change_id for each in claimed}
    done: dict[str, list[int]] = {}
    for work in held:
        if causes[work.task, work.record_id] == work.cause_change_id:
            done.setdefault(work.task, []).append(work.record_id)
        else:
            put_back(work)
            work.attempts, work.error, work.failed_at = 0, None, None
    for task, ids in done.items():
        gone = delete(Work).where(Work.task == task, Work.record_id.in_(ids))
        session.execute(gone.execution_options(synchronize_session=False))


def put_back(work: Work, not_before: datetime | None = None) -> None:
    """Let work go, to be claimed by anybody."""
    work.leased_by, work.leased_until, work.not_before = None, None, not_before


def note_failure(work: Work, error: str, now: datetime) -> None:
    """Put work back that could not be done, for a time that doubles with every attempt."""
    put_back(work, now + min(FIRST_PAUSE * 2 ** min(work.attempts, 12), LONGEST_PAUSE))
    work.attempts, work.error, work.failed_at = work.attempts + 1, error[:80], now


def get_work(session: Session, asked: Asked) -> Work:
    """Return the work on a record, locked; it is put there if it was not."""
    ask_for(session, [asked])
    return session.get_one(Work, (asked.task, asked.record_id), with_for_update=True, populate_existing=True)


def is_followed(session: Session, *, task: str, record_id: int) -> bool:
    """Tell whether a task has answered for every change so far that may concern a record.

    Whoever wants to know whether a score is as fresh as its record asks this before reading the score.
    """
    cursor = session.get(Cursor, CURSOR, populate_existing=True)
    if cursor is None or cursor.position < newest_sequence(session):
        return False
    return session.get(Work, (task, record_id), populate_existing=True) is None


def list_failures(session: Session, *, limit: int | None = None) -> Sequence[Work]:
    """Return the work on records that could not be scored."""
    query = select(Work).where(Work.error.is_not(None)).order_by(Work.task, Work.record_id)
    return session.scalars(query.limit(limit)).all()


def _insert(session: Session, into: type[Base]) -> Any:  # noqa: ANN401  one of two that have no common type
    kind = postgresql if session.get_bind().dialect.name == "postgresql" else sqlite
    return kind.insert(into)


def _claimed(work: Work) -> Claimed:
    return Claimed(
        task=work.task,
        record_id=work.record_id,
        cause_change_id=work.cause_change_id,
        changed_at=work.changed_at,
        since=work.since,
        attempts=work.attempts,
    )


def _claimable(what: type[Work | Lot], by: str, now: datetime) -> ColumnElement[bool]:
    # A worker does one thing after another: what is its own when it claims, it did not come to finish.
    return or_(what.leased_by.is_(None), what.leased_by == by, what.leased_until < now)


def _is_due(now: datetime) -> ColumnElement[bool]:
    return or_(Work.not_before.is_(None), Work.not_before <= now)


# ----------------------------------------------------------------------------------------- sweeps


def get_sweep(session: Session, task: str) -> Sweep | None:
    """Return a task's sweep, locked; None if somebody else is at it this moment.

    Where there never was one, it is one that ended in 1970.
    """
    if session.get(Sweep, task) is None:
        long_ago = {"as_of": _LONG_AGO, "ended_at": _LONG_AGO}
        none = dict.fromkeys(("log_position", "position", "until", "total", "done"), 0)
        made = _insert(session, Sweep).on_conflict_do_nothing()
        session.connection().execute(made, [{"task": task, **long_ago, **none}])
    query = select(Sweep).where(Sweep.task == task).with_for_update(skip_locked=True)
    return session.scalars(query.execution_options(populate_existing=True)).one_or_none()


def begin_sweep(session: Session, sweep: Sweep) -> None:
    """Put a sweep in the place of the task's last one, with all its lots."""
    session.execute(delete(Lot).where(Lot.task == sweep.task))
    session.merge(sweep)
    session.flush()


def hold_all(session: Session, sweep: Sweep, *, after: int, by: str, now: datetime) -> Lot:
    """Begin a sweep whose records after one are all in a single lot, of somebody who is no worker.

    Workers leave it alone, and go on with what is left of it once the lease has run out.
    """
    begin_sweep(session, sweep)
    lot = Lot(task=sweep.task, after_id=after, until_id=sweep.until, leased_by=by, leased_until=now + HELD)
    session.add(lot)
    session.flush()
    return lot


def has_lots(session: Session, task: str, *, by: str, now: datetime) -> bool:
    """Tell whether `claim_lot` would find something, or nobody has a lot of a task any more."""
    lots = select(literal(1)).where(Lot.task == task)
    if session.scalar(lots.where(_claimable(Lot, by, now)).limit(1)) is not None:
        return True
    return session.scalar(lots.limit(1)) is None


def claim_lot(session: Session, sweep: Sweep, *, by: str, now: datetime) -> Lot | None:
    """Make a lot this worker's own whose worker is gone; None if there is no such lot."""
    query = select(Lot).where(Lot.task == sweep.task, _claimable(Lot, by, now)).order_by(Lot.id).limit(1)
    lot = session.scalars(query.with_for_update(skip_locked=True)).one_or_none()
    if lot is not None:
        lot.leased_by, lot.leased_until = by, now + LEASE
        session.flush()
    return lot


def cut_lot(session: Session, sweep: Sweep, *, until_id: int, by: str, now: datetime) -> Lot:
    """Make the records up to `until_id` that are in no lot yet one, this worker's own."""
    lot = Lot(
        task=sweep.task, after_id=sweep.position, until_id=until_id, leased_by=by, leased_until=now + LEASE
    )
    sweep.position = until_id
    session.add(lot)
    session.flush()
    return lot


def split_lot(session: Session, lot: Lot, *, at: int) -> None:
    """Keep of a lot the records up to `at`; the others are a lot for anybody."""
    session.add(Lot(task=lot.task, after_id=at, until_id=lot.until_id))
    lot.until_id = at
    session.flush()


def advance_lot(session: Session, lot: Lot, *, to: int, by: str, done: int, until: datetime) -> bool:
    """Note that a lot is done up to a record, and lease it anew; return False if it is another's by now."""
    mine = update(Lot).where(Lot.id == lot.id, Lot.leased_by == by)
    mine = mine.values(after_id=to, leased_until=until).returning(Lot.id)
    if session.scalar(mine.execution_options(synchronize_session=False)) is None:
        return False
    _count(session, lot.task, done)
    return True


def finish_lot(session: Session, lot: Lot, *, by: str, done: int) -> bool:
    """Take out a lot; return False, and leave all as it is, if it is not this worker's own any more."""
    mine = delete(Lot).where(Lot.id == lot.id, Lot.leased_by == by).returning(Lot.id)
    if session.scalar(mine.execution_options(synchronize_session=False)) is None:
        return False
    _count(session, lot.task, done)
    return True


def _count(session: Session, task: str, done: int) -> None:
    counted = update(Sweep).where(Sweep.task == task).values(done=Sweep.done + done)
    session.execute(counted.execution_options(synchronize_session=False))


def end_sweep(session: Session, sweep: Sweep, now: datetime) -> bool:
    """Note that a sweep has ended, if it is all cut into lots and every lot is done."""
    if sweep.position < sweep.until:
        return False
    if session.scalar(select(literal(1)).where(Lot.task == sweep.task).limit(1)) is not None:
        return False
    sweep.ended_at = now
    session.flush()
    return True


# ---------------------------------------------------------------------------------------- workers


def beat(session: Session, worker: Worker, *, now: datetime, renew: bool) -> None:
    """Say that a worker is there, and with `renew` that it is still at what it claimed."""
    session.merge(worker)
    session.execute(delete(Worker).where(Worker.seen_at < now - FORGOTTEN_AFTER))
    if renew:
        for held in _leased(session, [worker.name]):
            held.leased_until = now + LEASE
    session.flush()


def leave(session: Session, names: Collection[str]) -> None:
    """Take workers off the list, and let go what was theirs."""
    for held in _leased(session, names):
        held.leased_by, held.leased_until = None, None
    session.execute(delete(Worker).where(Worker.name.in_(names)))


def list_workers(session: Session) -> Sequence[Worker]:
    """Return the workers that are there or were until lately."""
    return session.scalars(select(Worker).order_by(Worker.started_at, Worker.name)).all()


def _leased(session: Session, names: Collection[str]) -> list[Work | Lot]:
    # What somebody is writing at this moment is left alone: nobody ever waits for it in the wrong order.
    held: list[Any] = []
    for what in (Work, Lot):
        query = select(what).where(what.leased_by.in_(names)).with_for_update(skip_locked=True)
        held += session.scalars(query).all()
    return held
