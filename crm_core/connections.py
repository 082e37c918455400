"""How far the exchange with other systems has come: what was taken in, and which scores they were told.

Taking in goes by a mark for each of their objects: up to where all of its changes have been imported. Giving
out goes by record: a score is told again only when it is another one. Both are written after the fact, so
that what was under way when a process died is done again, which changes nothing the second time.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import BigInteger, Integer, Select, String, UniqueConstraint, and_, delete, func, or_, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from crm_core.columns import Instant, Json
from crm_core.opting_out import may_be_scored
from crm_core.predictions import SCORED_TYPES
from crm_core.records import Account, Base, Deal, Id, Lead

RUN: Final = "run"
"""The mark under which it is noted how the last exchange went."""

LONGEST_ERROR: Final = 500
FIRST_PAUSE: Final = timedelta(minutes=1)
LONGEST_PAUSE: Final = timedelta(days=1)
"""Between two attempts to tell a system of one record, which double from the first pause on."""

Scored = Lead | Deal | Account


class Mark(Base):
    """Up to where the changes of one kind of object of another system have been taken in."""

    __tablename__ = "connection_marks"

    id: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=True)
    connection: Mapped[str] = mapped_column(String(40))
    kind: Mapped[str] = mapped_column(String(40), comment="their name of the object")
    mark: Mapped[dict[str, Any]] = mapped_column(Json, comment="in their own terms")
    at: Mapped[datetime] = mapped_column(Instant, comment="when it was written")

    __table_args__ = (UniqueConstraint("connection", "kind"),)


class Told(Base):
    """The newest score of a record that another system was told, or refused to hear."""

    __tablename__ = "connection_told"

    id: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=True)
    connection: Mapped[str] = mapped_column(String(40))
    record_type: Mapped[str] = mapped_column(String(40))
    record_id: Mapped[int] = mapped_column(BigInteger)
    scored_at: Mapped[datetime | None] = mapped_column(Instant, comment="NULL: that there is none any more")
    model_version: Mapped[str | None] = mapped_column(String(80))
    told_at: Mapped[datetime | None] = mapped_column(Instant, comment="NULL: it was refused")
    attempts: Mapped[int] = mapped_column(Integer, comment="refusals in a row")
    next_at: Mapped[datetime | None] = mapped_column(Instant, comment="when it is tried again")
    error: Mapped[str | None] = mapped_column(String(LONGEST_ERROR))

    __table_args__ = (UniqueConstraint("connection", "record_type", "record_id"),)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of telling about one record; `external_id` is the key that it was given there."""

    record_id: int
    error: str | None = None
    external_id: str | None = None


def read_mark(session: Session, connection: str, kind: str) -> Mapping[str, Any]:
    """Return up to where an object's changes were taken in; nothing if never."""
    query = select(Mark.mark).where(Mark.connection == connection, Mark.kind == kind)
    return session.scalars(query).one_or_none() or {}


def write_mark(
    session: Session, connection: str, kind: str, mark: Mapping[str, Any], *, now: datetime
) -> None:
    """Note up to where an object's changes were taken in."""
    found = session.scalars(
        select(Mark).where(Mark.connection == connection, Mark.kind == kind)
    ).one_or_none()
    if found is None:
        session.add(Mark(connection=connection, kind=kind, mark=dict(mark), at=now))
    else:
        found.mark, found.at = dict(mark), now


def list_marks(session: Session, connection: str) -> Sequence[Mark]:
    """Return how far each of a connection's objects has come."""
    return session.scalars(select(Mark).where(Mark.connection == connection).order_by(Mark.kind)).all()


def list_untold(
    session: Session, connection: str, record_type: str, *, now: datetime, limit: int, born_here: bool
) -> Sequence[Scored]:
    """Return records whose newest score the other system does not know yet, oldest news first.

    Those that came from there, by their external id; with `born_here`, those without one too. A record whose
    score was taken away since it was told (somebody asked not to be scored) is among them, without a score.
    Left out are those it refused so lately that it is not asked again yet.
    """
    model = SCORED_TYPES[record_type]
    return session.scalars(_untold(model, connection, now, born_here=born_here).limit(limit)).all()


def count_untold(
    session: Session, connection: str, record_type: str, *, now: datetime, born_here: bool
) -> int:
    """Return how many records such a list would have without a limit."""
    query = _untold(SCORED_TYPES[record_type], connection, now, born_here=born_here)
    return session.scalar(select(func.count()).select_from(query.order_by(None).subquery())) or 0


def _untold(model: type[Scored], connection: str, now: datetime, *, born_here: bool) -> Select[Any]:
    told = and_(
        Told.connection == connection, Told.record_type == model.record_type, Told.record_id == model.id
    )
    another = or_(
        Told.scored_at.is_distinct_from(model.scored_at),
        Told.model_version.is_distinct_from(model.model_version),
    )
    refused = and_(Told.told_at.is_(None), Told.next_at <= now)
    query = (
        select(model)
        .outerjoin(Told, told)
        .where(
            model.deleted_at.is_(None),
            or_(
                and_(Told.id.is_(None), model.scored_at.is_not(None), may_be_scored(model)),
                and_(Told.told_at.is_not(None), another),
                refused,
            ),
        )
        .order_by(model.scored_at, model.id)
    )
    return query if born_here else query.where(model.external_id.is_not(None))


def note_told(
    session: Session,
    connection: str,
    records: Sequence[Scored],
    outcomes: Collection[Outcome],
    *,
    now: datetime,
) -> None:
    """Note what became of telling about records, as they were when they were told about."""
    by_id = {outcome.record_id: outcome for outcome in outcomes}
    ids = [record.id for record in records]
    known = {
        each.record_id: each
        for each in session.scalars(
            select(Told).where(
                Told.connection == connection,
                Told.record_type == records[0].record_type,
                Told.record_id.in_(ids),
            )
        )
    }
    for record in records:
        outcome = by_id.get(record.id, Outcome(record_id=record.id, error="nothing was answered about it"))
        row = known.get(record.id) or Told(
            connection=connection, record_type=record.record_type, record_id=record.id, attempts=0
        )
        _note(row, record, outcome, now)
        session.add(row)


def _note(row: Told, record: Scored, outcome: Outcome, now: datetime) -> None:
    row.scored_at, row.model_version = record.scored_at, record.model_version
    if outcome.error is None:
        row.told_at, row.attempts, row.next_at, row.error = now, 0, None, None
        return
    pause = min(FIRST_PAUSE * 2 ** min(row.attempts, 20), LONGEST_PAUSE)
    row.told_at, row.attempts, row.next_at = None, row.attempts + 1, now + pause
    row.error = outcome.error[:LONGEST_ERROR]


def list_refused(session: Session, connection: str, *, limit: int) -> Sequence[Told]:
    """Return what the other system refused, newest first."""
    query = select(Told).where(Told.connection == connection, Told.told_at.is_(None))
    return session.scalars(query.order_by(Told.next_at.desc(), Told.id).limit(limit)).all()


def forget(session: Session, connection: str) -> None:
    """Forget how far a connection has come: the next exchange begins from the beginning."""
    session.execute(delete(Mark).where(Mark.connection == connection))
    session.execute(delete(Told).where(Told.connection == connection))
