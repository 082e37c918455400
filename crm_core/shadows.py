"""What a challenger would have said: kept apart from predictions, seen by nobody whom a score is shown to.

A row holds the answers of two models to one question, the challenger's and the champion's, unique by (task,
record, as_of, challenger). Nothing reads it but the comparison of the two: no record, list, export or view.
Who asks not to be scored is left out, and loses the rows there are with the next purge.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import BigInteger, Index, Integer, String, UniqueConstraint, delete, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Mapped, Session, mapped_column

from crm_core.columns import Instant
from crm_core.opting_out import may_be_scored
from crm_core.predictions import SCORED_TYPES
from crm_core.records import Base, Id
from crm_core.store import Transaction

KEPT_ROWS: Final = 100_000
"""Rows of a task that are kept; the oldest go first."""

KEPT_DAYS: Final = 730
"""Days after which a row goes: long enough for every horizon to be over."""

_AT_ONCE: Final = 1_000


class ShadowPrediction(Base):
    """What a challenger and the champion answered to one question."""

    __tablename__ = "shadow_predictions"

    id: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=True)
    task: Mapped[str] = mapped_column(String(40))
    record_type: Mapped[str] = mapped_column(String(40))
    record_id: Mapped[int] = mapped_column(BigInteger)
    as_of: Mapped[datetime] = mapped_column(Instant)
    recorded_at: Mapped[datetime] = mapped_column(Instant, comment="when it was written")
    model_version: Mapped[str] = mapped_column(String(80), comment="the challenger")
    champion_version: Mapped[str] = mapped_column(String(80))
    horizon_days: Mapped[int] = mapped_column(Integer)
    probability: Mapped[float]
    champion_probability: Mapped[float]
    grade: Mapped[str | None] = mapped_column(String(1))
    champion_grade: Mapped[str | None] = mapped_column(String(1))

    __table_args__ = (
        UniqueConstraint("task", "record_id", "as_of", "model_version"),
        Index("ix_shadow_predictions_task_model_version_id", "task", "model_version", "id"),
    )


@dataclass(frozen=True, kw_only=True)
class Shadow:
    """The answers of challenger and champion about one record."""

    record_id: int
    probability: float
    champion_probability: float
    grade: str | None
    champion_grade: str | None


@dataclass(frozen=True, kw_only=True)
class Match:
    """Two models and the question that both were asked."""

    task: str
    record_type: str
    as_of: datetime
    horizon_days: int
    challenger: str
    champion: str


def write_shadows(transaction: Transaction, match: Match, shadows: Sequence[Shadow]) -> int:
    """Keep what both models answered, without what is there already and who opted out; return how many."""
    written = 0
    for start in range(0, len(shadows), _AT_ONCE):
        written += _write(transaction, match, shadows[start : start + _AT_ONCE])
    return written


def _write(transaction: Transaction, match: Match, shadows: Sequence[Shadow]) -> int:
    session, model = transaction.session, SCORED_TYPES[match.record_type]
    ids = [shadow.record_id for shadow in shadows]
    willing = set(session.scalars(select(model.id).where(model.id.in_(ids), may_be_scored(model))))
    rows = [_row(transaction, match, shadow) for shadow in shadows if shadow.record_id in willing]
    if not rows:
        return 0
    kind = postgresql if session.get_bind().dialect.name == "postgresql" else sqlite
    made = kind.insert(ShadowPrediction).values(rows).on_conflict_do_nothing()
    return len(session.scalars(made.returning(ShadowPrediction.id)).all())


def _row(transaction: Transaction, match: Match, shadow: Shadow) -> dict[str, Any]:
    return {
        **vars(shadow),
        "task": match.task,
        "record_type": match.record_type,
        "as_of": match.as_of,
        "recorded_at": transaction.now,
        "model_version": match.challenger,
        "champion_version": match.champion,
        "horizon_days": match.horizon_days,
    }


def list_shadows(session: Session, task: str, challenger: str, champion: str) -> Sequence[ShadowPrediction]:
    """Return what two models were both asked, in the order of asking."""
    query = select(ShadowPrediction).where(
        ShadowPrediction.task == task,
        ShadowPrediction.model_version == challenger,
        ShadowPrediction.champion_version == champion,
    )
    return session.scalars(query.order_by(ShadowPrediction.as_of, ShadowPrediction.id)).all()


def purge_shadows(transaction: Transaction, task: str, *, keep: int = KEPT_ROWS) -> int:
    """Delete a task's rows that are too many or too old, and those about who opted out; return how many."""
    session = transaction.session
    table = ShadowPrediction
    newest = select(table.id).where(table.task == task).order_by(table.id.desc())
    last_gone = session.scalar(newest.offset(keep).limit(1)) or 0
    old = table.as_of < transaction.now - timedelta(days=KEPT_DAYS)
    gone = session.scalars(
        delete(table).where(table.task == task, (table.id <= last_gone) | old).returning(table.id)
    ).all()
    return len(gone) + sum(_forget_silent(session, task, record_type) for record_type in SCORED_TYPES)


def _forget_silent(session: Session, task: str, record_type: str) -> int:
    table, model = ShadowPrediction, SCORED_TYPES[record_type]
    silent = select(model.id).where(~may_be_scored(model))
    about = (table.task == task, table.record_type == record_type, table.record_id.in_(silent))
    return len(session.scalars(delete(table).where(*about).returning(table.id)).all())


def count_shadows(session: Session, task: str) -> int:
    """Return how many rows a task has."""
    query = select(func.count()).select_from(ShadowPrediction).where(ShadowPrediction.task == task)
    return session.scalar(query) or 0
