"""The change log: what every write did, in the order in which it was written.

The contract, from which any consumer can be built:

- A row is added in the same transaction as the write it tells of, and is never edited or removed, but for
  one reason: erasing a person empties `old` and `new` where they tell of that person, and nothing else.
- `action` is `created` (one row a record, `field` is NULL), `updated` (one row a field that got a new
  value), `deleted`, `erased` (one row a record from which something personal was taken, `field`, `old` and
  `new` are NULL: who did it and when, not what it was), or `exported` (as `erased`: all that is held about
  the person was handed out, nothing has changed). `old` and `new` are JSON of the stored form:
  instants in microseconds since 1970, days in days since 1970, money in ten-thousandths, everything else
  as it is. A custom field is named `custom.NAME`.
- What a field held before its first `updated` row is that row's `old`; without any, it is what the
  record holds now. A creation therefore costs one row however many fields it fills.
- `occurred_at` is when it happened, `recorded_at` when we learned it. A late fact has an `occurred_at`
  before that of rows with a smaller id: it is history, and the record keeps the value that happened last.
- `source` says who wrote: rep, import, api or automation. What models write is not here but in
  `predictions`, an append-only log of its own, so following this log can never be set off by a score.
- Custom fields and record types are declared in the log too: the record types `field` and `record_type`, with
  the id of the declaration.
- `sequence` says which transaction wrote the row. Consumers read whole transactions in the order of
  `sequence`, keep the last one they have dealt with in `cursors`, and read on from there: `list_changes`
  gives only what no transaction still running can come before. Ids are not that order: on PostgreSQL a
  transaction may take a smaller id and commit later, and who reads on from the last id never sees it.
  But of two changes of one record, the one with the greater id was made later.

What this does not do: it does not hold the values of fields at creation, nor what was never written through
`crm_core.store.Transaction`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    ForeignKey,
    Index,
    Integer,
    Select,
    String,
    and_,
    delete,
    func,
    insert,
    literal_column,
    or_,
    select,
    text,
    true,
)
from sqlalchemy.orm import Mapped, Session, mapped_column

from crm_core.columns import Instant, Json
from crm_core.records import Base, Id


class Source(StrEnum):
    """Where a write came from."""

    REP = "rep"
    IMPORT = "import"
    API = "api"
    AUTOMATION = "automation"
    MODEL = "model"


class Action(StrEnum):
    """What a write did."""

    CREATED = "created"
    UPDATED = "updated"
    DELETED = "deleted"
    ERASED = "erased"
    EXPORTED = "exported"


class Change(Base):
    """One change of one field, or the creation or deletion of one record."""

    __tablename__ = "changes"

    id: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=True)
    sequence: Mapped[int] = mapped_column(BigInteger, comment="the transaction that wrote it")
    record_type: Mapped[str] = mapped_column(String(40))
    record_id: Mapped[int] = mapped_column(BigInteger)
    action: Mapped[str] = mapped_column(String(10))
    field: Mapped[str | None] = mapped_column(String(120))
    old: Mapped[Any] = mapped_column(Json, nullable=True)
    new: Mapped[Any] = mapped_column(Json, nullable=True)
    occurred_at: Mapped[datetime] = mapped_column(Instant)
    recorded_at: Mapped[datetime] = mapped_column(Instant)
    source: Mapped[str] = mapped_column(String(12))
    actor_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"))

    __table_args__ = (
        Index("ix_changes_record_type_field_record_id", "record_type", "field", "record_id"),
        Index("ix_changes_record_type_record_id", "record_type", "record_id"),
        Index("ix_changes_sequence_id", "sequence", "id"),
    )


class Cursor(Base):
    """How far a consumer of the change log has come, and the batch it has begun, if any."""

    __tablename__ = "cursors"

    name: Mapped[str] = mapped_column(String(80), primary_key=True)
    position: Mapped[int] = mapped_column(BigInteger, comment="sequence of the last transaction dealt with")
    batch_until: Mapped[int | None] = mapped_column(
        BigInteger, comment="sequence of the begun batch's last transaction"
    )
    batch_as_of: Mapped[datetime | None] = mapped_column(Instant, comment="the instant it asks from")


class LogOffset(Base):
    """What is added to the transaction ids of a PostgreSQL server, once the log was moved there from another.

    Another server counts its transactions from its own beginning; without this, what it writes would come
    before what the log holds already, and every reader of the log would miss it.
    """

    __tablename__ = "log_offset"

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    added: Mapped[int] = mapped_column(BigInteger)


class Author(Protocol):
    """Who writes declarations, and when: the transaction that a session belongs to."""

    now: datetime

    def log_declared(
        self,
        declared: str,
        declaration_id: int,
        action: Action,
        *,
        field: str | None = None,
        old: object = None,
        new: object = None,
        at: datetime | None = None,
    ) -> None:
        """Leave a row about a declared field or record type."""


_AUTHOR = "author"


def set_author(session: Session, author: Author) -> None:
    """Say who writes in a session."""
    session.info[_AUTHOR] = author


def author_of(session: Session) -> Author:
    """Return who writes in a session, which must be that of a transaction of the store."""
    author: Author | None = session.info.get(_AUTHOR)
    if author is None:
        raise RuntimeError("declarations are written inside Store.transaction, this session only reads")
    return author


_ADDED = "coalesce((SELECT max(added) FROM log_offset), 0)"
_TRANSACTION = "pg_current_xact_id()::text::bigint"


def _snapshot(end: str) -> str:
    return f"pg_snapshot_{end}(pg_current_snapshot())::text::bigint"


def is_ahead(connection: Connection) -> bool:
    """Return whether the log holds more transactions than this server has had: it was moved from another."""
    if connection.dialect.name != "postgresql":
        return False
    horizon = connection.scalar(
        text(f"SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint + {_ADDED}")
    )
    return _highest(connection) >= (horizon or 0)


def adopt_log(connection: Connection) -> None:
    """Have this server go on counting where the log ends, if it was moved from another server."""
    if not is_ahead(connection):
        return
    own = connection.scalar(text(f"SELECT {_TRANSACTION}")) or 0
    connection.execute(delete(LogOffset))
    connection.execute(insert(LogOffset).values(id=1, added=_highest(connection) + 1 - own))


def _highest(connection: Connection) -> int:
    return connection.scalar(select(func.max(Change.sequence))) or 0


def list_changes(session: Session, *, after: int, limit: int) -> list[Change]:
    """Return the changes of whole transactions that come after the sequence `after`.

    About `limit` of them: the last transaction is never cut. Nothing that commits later can come before
    what is returned.
    """
    order = (Change.sequence, Change.id)
    query = select(Change).where(Change.sequence > after, _settled(session)).order_by(*order)
    found = list(session.scalars(query.limit(limit)))
    if len(found) == limit:
        last = found[-1]
        rest = select(Change).where(Change.sequence == last.sequence, Change.id > last.id).order_by(Change.id)
        found.extend(session.scalars(rest))
    return found


@dataclass(frozen=True, kw_only=True)
class Position:
    """How far somebody has read: all of a transaction, or only up to one change of it."""

    sequence: int
    change_id: int | None = None


@dataclass(frozen=True, kw_only=True)
class ChangesPage:
    """Some changes, where to read on, and whether there is more to be read at once."""

    changes: Sequence[Change]
    position: Position
    more: bool


def read_changes(session: Session, after: Position, *, limit: int) -> ChangesPage:
    """Return at most `limit` changes that come after a position, in the order of `list_changes`.

    They are whole transactions, as far as one of them fits; one that has more changes than `limit` is given
    in parts. Nothing that commits later can come before what is returned.
    """
    query = select(Change).where(_after(after), _settled(session)).order_by(Change.sequence, Change.id)
    found = list(session.scalars(query.limit(limit + 1)))
    if not found:
        return ChangesPage(changes=[], position=after, more=False)
    if len(found) <= limit:
        return ChangesPage(changes=found, position=Position(sequence=found[-1].sequence), more=False)
    cut = found[limit].sequence
    whole = [change for change in found if change.sequence != cut]
    if whole:
        return ChangesPage(changes=whole, position=Position(sequence=whole[-1].sequence), more=True)
    part = found[:limit]
    return ChangesPage(changes=part, position=Position(sequence=cut, change_id=part[-1].id), more=True)


def _after(position: Position) -> ColumnElement[bool]:
    if position.change_id is None:
        return Change.sequence > position.sequence
    rest = and_(Change.sequence == position.sequence, Change.id > position.change_id)
    return or_(Change.sequence > position.sequence, rest)


def list_changes_between(session: Session, *, after: int, until: int) -> list[Change]:
    """Return the changes of the transactions after `after`, up to `until`, in their order."""
    query = select(Change).where(Change.sequence > after, Change.sequence <= until)
    return list(session.scalars(query.order_by(Change.sequence, Change.id)))


def newest_sequence(session: Session) -> int:
    """Return the last transaction that `list_changes` would give; 0 in an empty log."""
    return session.scalar(select(func.max(Change.sequence)).where(_settled(session))) or 0


def seen_transactions(session: Session) -> tuple[int, frozenset[int]] | None:
    """Return the first transaction that a session sees nothing of, and which before it were running.

    None where transactions commit in the order of their numbers.
    """
    if session.get_bind().dialect.name != "postgresql":
        return None
    return _transactions_of(*session.execute(text(f"SELECT pg_current_snapshot()::text, {_ADDED}")).one())


def _transactions_of(snapshot: str, added: int) -> tuple[int, frozenset[int]]:
    _, limit, running = snapshot.split(":")
    return int(limit) + added, frozenset(int(number) + added for number in running.split(",") if number)


@dataclass(frozen=True, kw_only=True)
class LogEnd:
    """How far a session sees the change log: what is in it, and what nothing committed later comes before.

    Of transactions before `limit` it sees all but those that were `running`.
    """

    newest: int
    settled: int
    limit: int
    running: frozenset[int] = frozenset()


def see_log_end(session: Session) -> LogEnd:
    """Return how far a session sees the log, by one statement."""
    if session.get_bind().dialect.name != "postgresql":  # there transactions commit in their numbers' order
        last = session.scalar(select(func.max(Change.sequence))) or 0
        return LogEnd(newest=last, settled=last, limit=last + 1)
    return log_end_of(*session.execute(log_end()).one())


def log_end() -> Select[*tuple[Any, ...]]:
    """Return what is asked of PostgreSQL to see how far the log is seen."""
    return select(
        select(func.max(Change.sequence)).scalar_subquery().label("newest"),
        select(func.max(Change.sequence)).where(_BEFORE_ALL_RUNNING).scalar_subquery().label("settled"),
        literal_column("pg_current_snapshot()::text", String).label("snapshot"),
        literal_column(_ADDED, BigInteger).label("added"),
    )


def log_end_of(newest: int | None, settled: int | None, snapshot: str, added: int) -> LogEnd:
    """Return what the answer to that says."""
    limit, running = _transactions_of(snapshot, added)
    last = max(newest or 0, 0)  # of an empty log arrays say less than nothing
    return LogEnd(newest=last, settled=max(min(last, settled or 0), 0), limit=limit, running=running)


def is_settled(session: Session, before: int | None) -> bool:
    """Tell whether every transaction with a number below `before` is over; None: there is none running.

    A transaction takes its number before it reads the clock. So when those up to one that began after an
    instant are over, nothing that was recorded up to that instant can still be added, and who reads then
    reads what anybody will read later.
    """
    if before is None:
        return True
    oldest = session.scalar(text(f"SELECT {_snapshot('xmin')} + {_ADDED}"))
    return int(oldest or 0) >= before


def settled_from(session: Session) -> int | None:
    """Return the transaction to give `is_settled` for what is recorded up to now, in one that writes.

    None where whoever writes has the database alone.
    """
    return next_sequence(session) if session.get_bind().dialect.name == "postgresql" else None


def next_sequence(session: Session) -> int:
    """Return the sequence of the transaction that `session` is in, which must be one that writes."""
    if session.get_bind().dialect.name == "postgresql":
        return int(session.execute(text(f"SELECT {_TRANSACTION} + {_ADDED}")).scalar_one())
    # SQLite has one writer at a time: the order of ids is the order of commits.
    return (session.scalar(select(func.max(Change.id))) or 0) + 1


def _settled(session: Session) -> ColumnElement[bool]:
    """Return the condition that no transaction still running began before the one that wrote a row."""
    return _BEFORE_ALL_RUNNING if session.get_bind().dialect.name == "postgresql" else true()


_BEFORE_ALL_RUNNING = Change.sequence < literal_column(
    f"pg_snapshot_xmin(pg_current_snapshot())::text::bigint + {_ADDED}", BigInteger
)
