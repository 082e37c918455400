"""Which records are open and may be scored, and which of them a model has not answered for."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, bindparam, func, or_, select
from sqlalchemy.orm import Session

from crm_core.opting_out import may_be_scored
from crm_core.predictions import SCORED_TYPES
from crm_core.records import Account, Deal, DealStatus, Lead, LeadStatus


@cache
def is_open(record_type: str) -> ColumnElement[bool]:
    """Return the condition that a record of a type is open and may be scored."""
    match record_type:
        case "lead":
            still = and_(Lead.deleted_at.is_(None), Lead.status == LeadStatus.OPEN)
        case "deal":
            still = and_(Deal.deleted_at.is_(None), Deal.status == DealStatus.OPEN)
        case _:
            still = Account.deleted_at.is_(None)
    return and_(still, may_be_scored(SCORED_TYPES[record_type]))


def list_open(session: Session, record_type: str, ids: Iterable[int]) -> list[int]:
    """Return those of some records that are open, in ascending order."""
    return list(session.scalars(_open_among(record_type), {"ids": list(ids)}))


@cache
def _open_among(record_type: str) -> Select[int]:
    model = SCORED_TYPES[record_type]
    among = model.id.in_(bindparam("ids", expanding=True))
    return select(model.id).where(among, is_open(record_type)).order_by(model.id)


def highest_id(session: Session, record_type: str) -> int:
    """Return the highest id of a record type; 0 without any."""
    return session.scalar(select(func.max(SCORED_TYPES[record_type].id))) or 0


def list_unanswered(
    session: Session,
    record_type: str,
    *,
    after: int,
    until: int,
    asked: datetime,
    model_version: str,
    limit: int | None = None,
) -> list[int]:
    """Return the next open records that a model has not answered for as of `asked` or later."""
    model = SCORED_TYPES[record_type]
    bounds = and_(model.id > after, model.id <= until)
    older = _unanswered(model, asked, model_version)
    query = select(model.id).where(bounds, is_open(record_type), older).order_by(model.id)
    return list(session.scalars(query.limit(limit)))


def count_unanswered(session: Session, record_type: str, *, asked: datetime, model_version: str) -> int:
    """Return how many open records a model has not answered for as of `asked` or later."""
    model = SCORED_TYPES[record_type]
    older = _unanswered(model, asked, model_version)
    query = select(func.count()).select_from(model).where(is_open(record_type), older)
    return session.scalar(query) or 0


def _unanswered(model: Any, asked: datetime, model_version: str) -> ColumnElement[bool]:  # noqa: ANN401  one of three classes with the same columns
    return or_(model.scored_at.is_(None), model.scored_at < asked, model.model_version != model_version)
