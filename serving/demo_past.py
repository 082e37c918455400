"""Writing things down in the past of a demonstration: what people there are said to have done, when they did.

A demonstration that was all written today would show nothing late, nothing answered and no trend. What is
written is as of then in every respect, the change log too; that is right only before anything was scored.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from crm_core.changes import Source
from crm_core.clock import FixedClock
from crm_core.records import Role, User
from crm_core.store import Store, Transaction

DAY: Final = timedelta(days=1)


class Past:
    """A store whose clock is set to the instant of whatever is written, never to one that is to come."""

    def __init__(self, store: Store) -> None:
        self.now = store.clock.now()
        self.clock = FixedClock(self.now)
        self._store = copy(store)
        self._store.clock = self.clock

    @contextmanager
    def at(self, instant: datetime, by: User | None = None) -> Iterator[Transaction]:
        """Give a transaction of that instant, of a person or, without one, of the program."""
        self.clock.set(min(instant, self.now))
        source = Source.AUTOMATION if by is None else Source.REP
        with self._store.transaction(source=source, actor_id=None if by is None else by.id) as transaction:
            yield transaction

    def ago(self, days: float) -> datetime:
        """Return the instant so many days before now."""
        return self.now - days * DAY


def first_admin(session: Session) -> User | None:
    """Return who administrates the demonstration."""
    return session.scalars(select(User).where(User.role == Role.ADMIN).order_by(User.id).limit(1)).first()
