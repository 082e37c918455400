"""Which model serves which task, since when, and who decided it; and which may be next: append-only lists."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, String, func, select, text
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


class Challenger(Base):
    """A model version that may come to serve; the newest row of a task names its challenger."""

    __tablename__ = "challengers"

    id: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=True)
    task: Mapped[str] = mapped_column(String(40))
    model_version: Mapped[str] = mapped_column(String(80))
    sha256: Mapped[str] = mapped_column(String(64), comment="of the bytes of the model file")
    run_id: Mapped[str] = mapped_column(String(64), comment="the MLflow run that made it")
    named_at: Mapped[datetime] = mapped_column(Instant)

    __table_args__ = (Index("ix_challengers_task_id", "task", "id"),)


def find_champion(session: Session, task: str) -> Promotion | None:
    """Return the promotion in force for a task, or None."""
    query = select(Promotion).where(Promotion.task == task).order_by(Promotion.id.desc()).limit(1)
    return session.scalars(query).one_or_none()


def find_newest_id(session: Session) -> int | None:
    """Return the id of the promotion made last, of any task; None before the first."""
    return session.scalar(select(func.max(Promotion.id)))


def find_challenger(session: Session, task: str) -> Challenger | None:
    """Return the newest challenger of a task, or None: one that has served is no challenger any more."""
    query = select(Challenger).where(Challenger.task == task).order_by(Challenger.id.desc()).limit(1)
    found = session.scalars(query).one_or_none()
    if found is None:
        return None
    served = select(Promotion.id).where(Promotion.task == task, Promotion.sha256 == found.sha256)
    return None if session.scalar(served.limit(1)) is not None else found


def find_served(session: Session, task: str, at: datetime) -> Promotion | None:
    """Return the promotion that was in force at an instant, or None."""
    query = select(Promotion).where(Promotion.task == task, Promotion.promoted_at <= at)
    return session.scalars(query.order_by(Promotion.id.desc()).limit(1)).one_or_none()


def find_origin(session: Session, task: str, model_version: str) -> Promotion | Challenger | None:
    """Return the newest row that names a version that served or was to serve; None for any other."""
    served = select(Promotion).where(Promotion.task == task, Promotion.model_version == model_version)
    found = session.scalars(served.order_by(Promotion.id.desc()).limit(1)).one_or_none()
    if found is not None:
        return found
    named = select(Challenger).where(Challenger.task == task, Challenger.model_version == model_version)
    return session.scalars(named.order_by(Challenger.id.desc()).limit(1)).one_or_none()


def list_promotions(session: Session, task: str) -> Sequence[Promotion]:
    """Return a task's promotions, newest first."""
    return session.scalars(
        select(Promotion).where(Promotion.task == task).order_by(Promotion.id.desc())
    ).all()


def standing(newest_first: Sequence[Promotion]) -> list[Promotion]:
    """Return promotions oldest first without those that were rolled back, and without the rollbacks."""
    found: list[Promotion] = []
    for row in reversed(newest_first):
        if row.gate is not None and "rollback_of" in row.gate:
            found.pop()
        else:
            found.append(row)
    return found


def lock_promotions(session: Session) -> None:
    """Wait until nobody else is putting a model in charge; SQLite has one writer anyway."""
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text("LOCK TABLE promotions IN SHARE ROW EXCLUSIVE MODE"))
