"""The tray: what came in and could not be put on a record by itself, until somebody says where it belongs.

People see the whole tray who oversee: managers and administrators; others see what may be about nothing
but records that they see. What is assigned becomes an activity there, as if it had been matched; what is
dropped stays as a row, so that it does not come again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import ForeignKey, Index, String, func, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from crm_core.access import Reader, check_may_write
from crm_core.columns import Instant, Json
from crm_core.errors import InvalidValueError, RecordNotFoundError, StaleRecordError
from crm_core.records import RECORD_TYPES, Base, Id, Role, User
from crm_core.store import Transaction

OVERSEERS: Final = frozenset({Role.MANAGER, Role.ADMIN})


class ItemKind(StrEnum):
    """What came in."""

    MAIL = "mail"
    CALL = "call"
    CHAT = "chat"
    EVENT = "event"


class ItemState(StrEnum):
    """What became of it."""

    OPEN = "open"
    ASSIGNED = "assigned"
    DROPPED = "dropped"


class IntakeItem(Base):
    """One thing in the tray; `said` is what it says, in the form in which it is filed."""

    __tablename__ = "intake_items"

    id: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=True)
    kind: Mapped[str] = mapped_column(String(10))
    key: Mapped[str] = mapped_column(String(200), comment="what tells it from others of its kind")
    state: Mapped[str] = mapped_column(String(10))
    who: Mapped[str | None] = mapped_column(String(320), comment="address or number that it is from or to")
    title: Mapped[str | None] = mapped_column(String(300))
    said: Mapped[dict[str, Any]] = mapped_column(Json)
    candidates: Mapped[list[Any]] = mapped_column(Json, comment="record types and ids that it may be about")
    message_id: Mapped[int | None] = mapped_column(ForeignKey("messages.id"), comment="of a mail")
    happened_at: Mapped[datetime] = mapped_column(Instant)
    received_at: Mapped[datetime] = mapped_column(Instant)
    settled_at: Mapped[datetime | None] = mapped_column(Instant)
    settled_by_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"))
    activity_id: Mapped[int | None] = mapped_column(ForeignKey("activities.id"))

    __table_args__ = (
        Index("ix_intake_items_state_id", "state", "id"),
        Index("ix_intake_items_kind_key", "kind", "key", unique=True),
    )


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What goes into the tray."""

    kind: ItemKind
    key: str
    who: str | None
    title: str | None
    said: Mapping[str, Any]
    happened_at: datetime
    candidates: Sequence[tuple[str, int]] = ()
    message_id: int | None = None


def put_in_tray(transaction: Transaction, entry: Entry) -> IntakeItem:
    """Put something into the tray, or renew what lies there under the same key."""
    session = transaction.session
    found = find_item(session, entry.kind, entry.key)
    if found is None:
        found = IntakeItem(
            kind=entry.kind,
            key=entry.key,
            state=ItemState.OPEN,
            received_at=transaction.now,
            message_id=entry.message_id,
        )
        session.add(found)
    found.who = (entry.who or "")[:320] or None
    found.title = (entry.title or "")[:300] or None
    found.said, found.candidates = dict(entry.said), [list(each) for each in entry.candidates]
    found.happened_at = entry.happened_at
    session.flush()
    return found


def find_item(session: Session, kind: str, key: str) -> IntakeItem | None:
    """Return what lies, or lay, in the tray under a key."""
    query = select(IntakeItem).where(IntakeItem.kind == kind, IntakeItem.key == key)
    return session.scalars(query).one_or_none()


def list_items(
    reader: Reader, *, state: ItemState = ItemState.OPEN, before: int | None = None, limit: int = 50
) -> list[IntakeItem]:
    """Return what somebody sees of the tray, newest first; with `before`, what has a smaller id."""
    query = select(IntakeItem).where(IntakeItem.state == state).order_by(IntakeItem.id.desc())
    if before is not None:
        query = query.where(IntakeItem.id < before)
    if reader.user.role in OVERSEERS:
        return list(reader.session.scalars(query.limit(limit)))
    found = reader.session.scalars(query.limit(20 * limit)).all()
    seen = _seen(reader, [tuple(each) for item in found for each in item.candidates])
    return [item for item in found if _is_theirs(item, seen)][:limit]


def count_open(session: Session) -> int:
    """Return how much lies in the tray."""
    query = select(func.count()).select_from(IntakeItem).where(IntakeItem.state == ItemState.OPEN)
    return session.scalar(query) or 0


def get_item(reader: Reader, item_id: int) -> IntakeItem:
    """Return something in the tray that somebody sees; for all others it is not there."""
    found = reader.session.get(IntakeItem, item_id)
    if found is None or not _may_see(reader, found):
        raise RecordNotFoundError("intake item", item_id)
    return found


def _may_see(reader: Reader, item: IntakeItem) -> bool:
    if reader.user.role in OVERSEERS:
        return True
    return _is_theirs(item, _seen(reader, [tuple(each) for each in item.candidates]))


def _is_theirs(item: IntakeItem, seen: AbstractSet[tuple[str, int]]) -> bool:
    """Say whether all is seen that something may be about: nobody reads what may be a colleague's."""
    return bool(item.candidates) and all(tuple(each) in seen for each in item.candidates)


def _seen(reader: Reader, keys: Sequence[tuple[str, int]]) -> set[tuple[str, int]]:
    """Return those of some records that somebody sees."""
    seen: set[tuple[str, int]] = set()
    for record_type in {each[0] for each in keys} & RECORD_TYPES.keys():
        model = RECORD_TYPES[record_type]
        ids = {each[1] for each in keys if each[0] == record_type}
        query = reader.select(model).where(model.id.in_(ids)).with_only_columns(model.id)
        seen |= {(record_type, each) for each in reader.session.scalars(query)}
    return seen


def hold_open(transaction: Transaction, user: User, item_id: int) -> IntakeItem:
    """Return something in the tray to be settled, locked; raise StaleRecordError where it was already."""
    check_may_write(user)
    get_item(Reader(transaction.session, user), item_id)
    found = transaction.session.get(IntakeItem, item_id, with_for_update=True, populate_existing=True)
    if found is None:
        raise RecordNotFoundError("intake item", item_id)
    if found.state != ItemState.OPEN:
        raise StaleRecordError("intake item", item_id, 0, 1)
    return found


def settle(
    transaction: Transaction, item: IntakeItem, user: User | None, state: ItemState, activity_id: int | None
) -> None:
    """Note what became of something in the tray."""
    if state is ItemState.OPEN:
        raise InvalidValueError("state", state, "an end")
    item.state, item.settled_at, item.activity_id = state, transaction.now, activity_id
    item.settled_by_id = user.id if user is not None else None
    transaction.session.flush()
