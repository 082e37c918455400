"""Forecasts that were made and are shown until the records have moved on: one row for each part asked about.

A row is a copy that can be made again at any time: it is no history, and nothing but the page reads it.
`scope` stands for what a reader may see and for the part they asked about; whoever asks works it out anew
from their rights, so that a row is never found by somebody whose rights have changed. `content` holds ids
and sums, and no names.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, String, delete, func, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from crm_core.changes import Change
from crm_core.columns import Instant, Json
from crm_core.records import Base

KEPT_FOR = timedelta(days=30)
"""A part that nobody asked about for so long is forgotten."""


class KeptForecast(Base):
    """The newest forecast of one part of the company."""

    __tablename__ = "kept_forecasts"

    scope: Mapped[str] = mapped_column(String(64), primary_key=True, comment="a hash of who sees what")
    made_at: Mapped[datetime] = mapped_column(Instant)
    log_id: Mapped[int] = mapped_column(BigInteger, comment="the newest change when it was made")
    champion: Mapped[str] = mapped_column(String(80), comment="the model in charge then; empty for none")
    content: Mapped[Any] = mapped_column(Json)


@dataclass(frozen=True, kw_only=True)
class Basis:
    """What a forecast is made from: the newest change, and the model in charge."""

    log_id: int
    champion: str


def newest_change() -> ColumnElement[int]:
    """Return what asks for the id of the newest change; 0 without any."""
    return func.coalesce(select(func.max(Change.id)).scalar_subquery(), 0)


def find_kept(session: Session, scope: str) -> KeptForecast | None:
    """Return the forecast that is kept of a scope."""
    return session.get(KeptForecast, scope)


def keep(session: Session, scope: str, content: object, *, basis: Basis, now: datetime) -> None:
    """Keep a forecast in the place of the one before; those of parts long not asked about go."""
    session.execute(delete(KeptForecast).where(KeptForecast.made_at < now - KEPT_FOR))
    row = KeptForecast(
        scope=scope, made_at=now, log_id=basis.log_id, champion=basis.champion, content=content
    )
    session.merge(row)
    session.flush()
