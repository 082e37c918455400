"""Letting somebody go: they cannot log in any more, and what they were responsible for goes to others."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import select

from crm_core.access import check_may_administer
from crm_core.errors import HandoverError, RecordNotFoundError
from crm_core.handover import hand_over, has_open
from crm_core.operations import Done, Operation, Origin, write_operations
from crm_core.phrases import Phrase
from crm_core.records import User
from crm_core.sessions import end_sessions
from crm_core.store import Transaction
from serving.editing import Editor, kind_of


def let_go(
    transaction: Transaction, user: User, leaver_id: int, heir_ids: Collection[int], *, origin: Origin
) -> dict[str, int]:
    """Note that somebody left and give all that is open to heirs, in turn; return how many of each moved.

    Raises AccessDeniedError unless `user` administers, RecordNotFoundError for nobody, and HandoverError
    where there is something to hand over and nobody who takes it.
    """
    check_may_administer(user)
    session = transaction.session
    leaver = session.get(User, leaver_id)
    if leaver is None or leaver.deleted_at is not None:
        raise RecordNotFoundError("user", leaver_id)
    working = (User.deleted_at.is_(None), User.active, User.id != leaver.id, User.id.in_(set(heir_ids)))
    heirs = session.scalars(select(User).where(*working).order_by(User.name, User.id)).all()
    if len(heirs) < len(set(heir_ids)):
        raise HandoverError(
            Phrase("expected people who work here to take over from {name}", name=leaver.name)
        )
    moved: dict[str, int] = {}
    if heirs or has_open(session, leaver):
        moved = hand_over(transaction, leaver, heirs)
    values = {"active": False, "left_at": transaction.now}
    Editor(transaction, user).update(kind_of(session, "user"), leaver_id, values)
    end_sessions(session, leaver_id)
    detail = ", ".join(f"{name} {count}" for name, count in sorted(moved.items()))
    done = Operation(
        at=transaction.now,
        done=Done.HANDED_OVER,
        origin=origin,
        record_type="user",
        ids=(leaver_id,),
        detail=detail[:200] or None,
    )
    write_operations(session, [done])
    return moved
