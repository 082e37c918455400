"""Which model serves which task, since when, and who decided it: an append-only list."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, String, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from crm_core.columns import Instant, Json
from crm_core.records import Base, Id


class Promotion(Base):
    """A model version put in charge of a task; the newest row of a task names its champion."""

    __tablename__ = "promotions"

    id: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=True)
    task: Mapped[str] = mapped_column(String(40))
    model_version: Mapped[str] = mapped_column(String(80))
    sha256: Mapped[str] = mapped_column(String(64), comment="of the bytes of the model file")
    run_id: Mapped[str] = mapped_column(String(64), comment="the MLflow run that made it")
    promoted_at: Mapped[datetime] = mapped_column(Instant)
    actor_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"))
    reason: Mapped[str] = mapped_column(String(400))
    gate: Mapped[dict[str, Any] | None] = mapped_column(Json, comment="what was compared, and the result")

    __table_args__ = (Index("ix_promotions_task_id", "task", "id"),)


def find_champion(session: Session, task: str) -> Promotion | None:
    """Return the promotion in force for a task, or None."""
    query = select(Promotion).where(Promotion.task == task).order_by(Promotion.id.desc()).limit(1)
    return session.scalars(query).one_or_none()


def list_promotions(session: Session, task: str) -> Sequence[Promotion]:
    """Return a task's promotions, newest first."""
    return session.scalars(
        select(Promotion).where(Promotion.task == task).order_by(Promotion.id.desc())
    ).all()
