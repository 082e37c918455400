"""What was answered to a request that carried a key, so that sending it again does nothing again.

The row of a key is written in the transaction of the effect: either both are there, or neither. A second
request with the same key waits for the first (SQLite has one writer at a time, PostgreSQL makes whoever
inserts the same key wait) and then finds the answer.
"""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ForeignKey, Integer, String, Text, UniqueConstraint, delete, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Mapped, Session, mapped_column

from crm_core.columns import Instant, Json
from crm_core.records import Base, Id

KEPT_FOR = timedelta(hours=24)
"""For how long an answer is kept at least."""

LONGEST_KEY = 255
_PURGED_AT_ONCE = 100


class KeptAnswer(Base):
    """The answer to a request with a key of its sender's choice."""

    __tablename__ = "kept_answers"

    id: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    # Its SHA-256: senders make keys of anything, of mail addresses too.
    key: Mapped[str] = mapped_column(String(LONGEST_KEY))
    fingerprint: Mapped[str] = mapped_column(String(64), comment="SHA-256 of method, path and body")
    status: Mapped[int | None] = mapped_column(Integer, comment="null only inside of the transaction")
    headers: Mapped[dict[str, Any] | None] = mapped_column(Json)
    body: Mapped[str | None] = mapped_column(Text, comment="null: a secret, or forgotten with a person")
    created_at: Mapped[datetime] = mapped_column(Instant, index=True)

    __table_args__ = (UniqueConstraint("user_id", "key"),)


def find_kept(session: Session, user_id: int, key: str) -> KeptAnswer | None:
    """Return the answer kept for a user's key, or None."""
    query = select(KeptAnswer).where(KeptAnswer.user_id == user_id, KeptAnswer.key == _mark(key))
    return session.scalars(query).one_or_none()


def claim_key(
    session: Session, user_id: int, key: str, fingerprint: str, *, now: datetime
) -> KeptAnswer | None:
    """Take a key for the transaction at hand; return the answer that somebody else has left meanwhile."""
    _purge(session, now)
    kind = postgresql if session.get_bind().dialect.name == "postgresql" else sqlite
    row = {"user_id": user_id, "key": _mark(key), "fingerprint": fingerprint, "created_at": now}
    made = kind.insert(KeptAnswer).values(row).on_conflict_do_nothing().returning(KeptAnswer.id)
    if session.scalar(made) is not None:
        return None
    return find_kept(session, user_id, key)


def keep_answer(
    session: Session, user_id: int, key: str, *, status: int, headers: dict[str, str], body: str | None
) -> None:
    """Write the answer beside the key that was taken in this transaction."""
    own = update(KeptAnswer).where(KeptAnswer.user_id == user_id, KeptAnswer.key == _mark(key))
    session.execute(own.values(status=status, headers=headers, body=body))


def forget_bodies(session: Session) -> None:
    """Empty all kept answers: they may tell of anybody. The keys stay, so that nothing is done twice."""
    session.execute(update(KeptAnswer).values(body=None, headers=None))


def _mark(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def _purge(session: Session, now: datetime) -> None:
    # Rows that another transaction is about to delete are left to it: nobody waits for a purge.
    old = select(KeptAnswer.id).where(KeptAnswer.created_at <= now - KEPT_FOR).limit(_PURGED_AT_ONCE)
    gone = delete(KeptAnswer).where(KeptAnswer.id.in_(old.with_for_update(skip_locked=True)))
    session.execute(gone, execution_options={"synchronize_session": False})
