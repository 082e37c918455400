"""How tickets are served: queues and who serves them, targets in working time, and whose turn it is.

A queue is served by people named one by one and by everybody of a team; who serves a queue sees its tickets.
Targets are minutes of working time by priority, for all queues or for one; what was not set is as in USUAL.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, ForeignKey, String, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from crm_core.columns import Json, check_text
from crm_core.errors import InvalidValueError, RecordNotFoundError, StaleRecordError
from crm_core.external_ids import hold_keys
from crm_core.phrases import Phrase, one_of
from crm_core.recall import recalled, recalled_by_readers
from crm_core.records import Base, Id, Role, Team, TicketPriority, User
from crm_core.tokens import works_here

MOST_MINUTES: Final = 60 * 24 * 366
_KEY: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,39}", re.ASCII)
_SERVING: Final = frozenset({Role.REP, Role.MANAGER, Role.ADMIN})


class TicketQueue(Base):
    """Where tickets wait for somebody."""

    __tablename__ = "ticket_queues"

    key: Mapped[str] = mapped_column(String(40), primary_key=True, comment="as tickets name it")
    name: Mapped[str] = mapped_column(String(120))
    team_id: Mapped[int | None] = mapped_column(ForeignKey("teams.id"), comment="whose people serve it")
    members: Mapped[Any] = mapped_column(Json, comment="ids of further people who serve it")
    round_robin: Mapped[bool] = mapped_column(comment="whether new tickets are given to people in turn")
    retired: Mapped[bool] = mapped_column(default=False, comment="not offered any more")
    version: Mapped[int] = mapped_column(default=1, comment="counts changes")


class ServiceTarget(Base):
    """How soon a ticket is to be answered and solved, in minutes of working time."""

    __tablename__ = "service_targets"

    queue: Mapped[str] = mapped_column(String(40), primary_key=True, comment="empty: of all queues")
    priority: Mapped[str] = mapped_column(String(20), primary_key=True)
    first_minutes: Mapped[int] = mapped_column(comment="until the first answer")
    solve_minutes: Mapped[int] = mapped_column(comment="until it is solved")


class QueueTurn(Base):
    """Who of a queue was given the last ticket in turn."""

    __tablename__ = "queue_turns"

    queue: Mapped[str] = mapped_column(String(40), primary_key=True)
    user_id: Mapped[int] = mapped_column(Id)


@dataclass(frozen=True, kw_only=True)
class Target:
    """How soon a ticket is to be answered and solved, in minutes of working time."""

    first_minutes: int
    solve_minutes: int


USUAL: Final[Mapping[str, Target]] = {
    TicketPriority.URGENT: Target(first_minutes=60, solve_minutes=8 * 60),
    TicketPriority.HIGH: Target(first_minutes=2 * 60, solve_minutes=16 * 60),
    TicketPriority.NORMAL: Target(first_minutes=8 * 60, solve_minutes=40 * 60),
    TicketPriority.LOW: Target(first_minutes=16 * 60, solve_minutes=80 * 60),
}
"""By priority, what holds where nothing was set."""


@dataclass(frozen=True, kw_only=True)
class Queue:
    """A queue as it is to be."""

    key: str
    name: str
    team_id: int | None = None
    members: Sequence[int] = ()
    round_robin: bool = False
    retired: bool = False


# ------------------------------------------------------------------------------------------------ reading


def list_queues(session: Session, *, retired: bool = False) -> Sequence[TicketQueue]:
    """Return the queues by name; those that are not offered any more only if asked for."""
    query = select(TicketQueue).order_by(TicketQueue.name, TicketQueue.key)
    return session.scalars(query if retired else query.where(TicketQueue.retired.is_(False))).all()


def find_queue(session: Session, key: str | None) -> TicketQueue | None:
    """Return a queue by its key, if there is one."""
    return None if key is None else session.get(TicketQueue, key)


def check_queue(session: Session, key: str) -> None:
    """Raise InvalidValueError for what is no queue's key."""
    found = find_queue(session, key)
    if found is None or found.retired:
        offered = ", ".join(each.key for each in list_queues(session)) or "no queue: none was set up"
        raise InvalidValueError("ticket.queue", key, Phrase("one of {offered}", offered=offered))


def list_members(session: Session, queue: TicketQueue) -> Sequence[User]:
    """Return those who work here and serve a queue, by id."""
    named = User.id.in_(queue.members)
    serving = named if queue.team_id is None else named | (User.team_id == queue.team_id)
    found = session.scalars(select(User).where(serving, User.role.in_(_SERVING)).order_by(User.id))
    return [user for user in found if works_here(user)]


def queues_served_by(session: Session, user: User) -> tuple[str, ...]:
    """Return the keys of the queues that somebody serves, retired ones too."""
    if user.role not in _SERVING:
        return ()
    return tuple(
        each.key
        for each in recall_queues(session)
        if user.id in each.members or (each.team_id is not None and each.team_id == user.team_id)
    )


def recall_queues(session: Session) -> tuple[Queue, ...]:
    """Return all queues, retired ones too, by name, as they were a moment ago at the longest."""
    return recalled(session, ("ticket queues",), lambda: tuple(_read_queues(session)))


def _read_queues(session: Session) -> Iterator[Queue]:
    for row in list_queues(session, retired=True):
        yield Queue(
            key=row.key,
            name=row.name,
            team_id=row.team_id,
            members=tuple(row.members),
            round_robin=row.round_robin,
            retired=row.retired,
        )


def serving(queue: Queue) -> ColumnElement[bool]:
    """Return the condition that somebody is among those who serve a queue, if they work here."""
    named = User.id.in_(queue.members)
    return named if queue.team_id is None else named | (User.team_id == queue.team_id)


def targets(session: Session) -> Mapping[tuple[str, str], Target]:
    """Return what was set, by queue (empty: all) and priority."""
    return recalled_by_readers(session, ("service targets",), lambda: _read_targets(session))


def _read_targets(session: Session) -> dict[tuple[str, str], Target]:
    return {
        (row.queue, row.priority): Target(first_minutes=row.first_minutes, solve_minutes=row.solve_minutes)
        for row in session.scalars(select(ServiceTarget))
    }


def target_of(session: Session, queue: str | None, priority: str | None) -> Target:
    """Return how soon a ticket is to be answered and solved: by its queue, else by all, else as usual."""
    known = targets(session)
    word = priority if priority is not None and priority in USUAL else TicketPriority.NORMAL.value
    return known.get((queue or "", word)) or known.get(("", word)) or USUAL[word]


# ------------------------------------------------------------------------------------------------ setting


def set_queue(session: Session, wanted: Queue, *, version: int | None) -> TicketQueue:
    """Set a queue up or change it; `version` is that of what was seen, 0 for none; None: any.

    Raises
    ------
    InvalidValueError
        For a key that is none, no name, or people or a team that are not there.
    StaleRecordError
        Where somebody has changed it since.
    """
    _check_queue_given(session, wanted)
    hold_keys(session, [f"queue:{wanted.key}"])
    row = session.get(TicketQueue, wanted.key, populate_existing=True)
    known = 0 if row is None else row.version
    if version is not None and known != version:
        raise StaleRecordError("ticket queue", 0, version, known)
    if row is None:
        row = TicketQueue(key=wanted.key)
        session.add(row)
    row.name, row.team_id, row.members = wanted.name.strip(), wanted.team_id, sorted(set(wanted.members))
    row.round_robin, row.retired, row.version = wanted.round_robin, wanted.retired, known + 1
    session.flush()
    return row


def _check_queue_given(session: Session, wanted: Queue) -> None:
    if not _KEY.fullmatch(wanted.key):
        raise InvalidValueError("queue.key", wanted.key, "up to 40 small letters, digits and hyphens")
    check_text("queue.name", wanted.name, longest=120)
    if not wanted.name.strip():
        raise InvalidValueError("queue.name", wanted.name, "a name")
    if wanted.team_id is not None and session.get(Team, wanted.team_id) is None:
        raise InvalidValueError("queue.team_id", wanted.team_id, "the id of a team")
    known = set(session.scalars(select(User.id).where(User.id.in_(wanted.members))))
    if missing := set(wanted.members) - known:
        raise InvalidValueError("queue.members", min(missing), "ids of users")


def set_target(session: Session, queue: str, priority: str, wanted: Target | None) -> None:
    """Set how soon tickets are to be answered and solved; `queue` is empty for all, None sets it back.

    Tickets that there are keep what is due until their priority, queue or status changes.
    """
    if priority not in USUAL:
        raise InvalidValueError("priority", priority, one_of(USUAL))
    if queue and find_queue(session, queue) is None:
        raise RecordNotFoundError("ticket queue", queue)
    hold_keys(session, [f"target:{queue}:{priority}"])
    row = session.get(ServiceTarget, (queue, priority), populate_existing=True)
    if wanted is None:
        if row is not None:
            session.delete(row)
            session.flush()
        return
    for name, minutes in (("first_minutes", wanted.first_minutes), ("solve_minutes", wanted.solve_minutes)):
        if not 1 <= minutes <= MOST_MINUTES:
            raise InvalidValueError(
                name, minutes, Phrase("minutes of working time, from 1 to {most:,}", most=MOST_MINUTES)
            )
    if row is None:
        row = ServiceTarget(queue=queue, priority=priority)
        session.add(row)
    row.first_minutes, row.solve_minutes = wanted.first_minutes, wanted.solve_minutes
    session.flush()


# ------------------------------------------------------------------------------------------------ turns


def take_turn(session: Session, queue: TicketQueue, away: Collection[int]) -> User | None:
    """Return who of a queue is next, and note it; None where everybody is `away`.

    People take turns by id. Two who ask at once wait for one another, so that nobody is passed over.
    """
    hold_keys(session, [f"turn:{queue.key}"])
    here = [user for user in list_members(session, queue) if user.id not in away]
    if not here:
        return None
    turn = session.get(QueueTurn, queue.key, populate_existing=True)
    last = 0 if turn is None else turn.user_id
    chosen = next((user for user in here if user.id > last), here[0])
    if turn is None:
        session.add(QueueTurn(queue=queue.key, user_id=chosen.id))
    else:
        turn.user_id = chosen.id
    session.flush()
    return chosen
