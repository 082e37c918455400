"""Records by their keys in the systems that they come from, for several senders at once.

The contract: who is about to write a record under an external id holds that id first. On PostgreSQL others
who want the same one wait until the holder's transaction has ended, and see then what it wrote; on SQLite
one transaction writes at a time anyway. Who needs several takes them all at once, so that nobody waits in a
circle.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from crm_core.records import CustomRecord, Record

R = TypeVar("R", bound=Record)


def hold_keys(session: Session, keys: Iterable[str]) -> None:
    """Keep keys, such as `lead:crm-17`, from all others who hold them, until the transaction ends."""
    if session.get_bind().dialect.name != "postgresql":
        return
    for key in sorted(set(keys)):
        session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(key, 0))))


def key_of(record_type: str, external_id: str) -> str:
    """Return the key to hold for an external id of a record type, built in or declared."""
    return f"{record_type}:{external_id}"


def find_by_external_id(
    session: Session, model: type[R], external_id: str, *, type_id: int | None = None
) -> R | None:
    """Return the record with an external id, a deleted one too, or None; of a declared type by its id."""
    query = select(model).where(model.external_id == external_id)
    if type_id is not None:
        query = query.where(CustomRecord.type_id == type_id)
    return session.scalars(query).one_or_none()
