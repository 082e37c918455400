"""What models said: an append-only history, and the newest prediction on the record itself.

The contract: a row is unique by (task, record_id, as_of, model_version), so that asking the same question
twice stores one answer. Rows are never edited. The record's own columns always show its newest prediction
by `as_of`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Index, Integer, String, UniqueConstraint, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Mapped, Session, mapped_column

from crm_core.columns import Instant, Json
from crm_core.opting_out import may_be_scored
from crm_core.records import Account, Base, Deal, Id, Lead
from crm_core.store import Transaction

SCORED_TYPES: dict[str, type[Lead | Deal | Account]] = {"lead": Lead, "deal": Deal, "account": Account}
"""Record types that carry a score."""

FLAT = 0.01
"""A probability that moves by less than this has no trend."""


class Prediction(Base):
    """One answer of one model about one record, asked from one instant."""

    __tablename__ = "predictions"

    id: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=True)
    task: Mapped[str] = mapped_column(String(40))
    record_type: Mapped[str] = mapped_column(String(40))
    record_id: Mapped[int] = mapped_column(BigInteger)
    as_of: Mapped[datetime] = mapped_column(Instant)
    recorded_at: Mapped[datetime] = mapped_column(Instant, comment="when it was written")
    model_version: Mapped[str] = mapped_column(String(80))
    horizon_days: Mapped[int] = mapped_column(Integer)
    probability: Mapped[float | None] = mapped_column(comment="NULL: not enough data to say")
    score: Mapped[int | None]
    grade: Mapped[str | None] = mapped_column(String(1))
    reasons: Mapped[list[dict[str, Any]] | None] = mapped_column(Json)
    cause_change_id: Mapped[int | None] = mapped_column(
        BigInteger, comment="the change that led to it; NULL: time or a new model"
    )

    __table_args__ = (
        UniqueConstraint("task", "record_id", "as_of", "model_version"),
        Index("ix_predictions_record_type_record_id_as_of", "record_type", "record_id", "as_of"),
    )


@dataclass(frozen=True, kw_only=True)
class NewPrediction:
    """A prediction to be written."""

    record_id: int
    probability: float | None
    score: int | None
    grade: str | None
    reasons: list[dict[str, Any]]
    cause_change_id: int | None = None


def write_predictions(
    transaction: Transaction,
    *,
    task: str,
    record_type: str,
    as_of: datetime,
    model_version: str,
    horizon_days: int,
    predictions: Sequence[NewPrediction],
) -> int:
    """Append predictions and show each on its record if it is the newest; return how many were new.

    Answers to questions that have one already are left out, so that a batch can be written again after a
    crash. So are those about anybody who asked not to be scored, whoever asked for them.
    """
    if not predictions:
        return 0
    rows = [
        {
            "task": task,
            "record_type": record_type,
            "record_id": new.record_id,
            "as_of": as_of,
            "recorded_at": transaction.now,
            "model_version": model_version,
            "horizon_days": horizon_days,
            "probability": new.probability,
            "score": new.score,
            "grade": new.grade,
            "reasons": new.reasons,
            "cause_change_id": new.cause_change_id,
        }
        for new in predictions
    ]
    session = transaction.session
    asked = _without_opted_out(session, SCORED_TYPES[record_type], rows)
    fresh = _without_answered(session, asked, task=task, as_of=as_of, model_version=model_version)
    if fresh:
        session.execute(_insert_new(session), fresh)
        _show_on_records(session, record_type, fresh)
    return len(fresh)


def _without_opted_out(
    session: Session, model: type[Lead | Deal | Account], rows: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    ids = [row["record_id"] for row in rows]
    opted_out = set(session.scalars(select(model.id).where(model.id.in_(ids), ~may_be_scored(model))))
    return [row for row in rows if row["record_id"] not in opted_out]


def _without_answered(
    session: Session, rows: list[dict[str, Any]], *, task: str, as_of: datetime, model_version: str
) -> list[dict[str, Any]]:
    query = select(Prediction.record_id).where(
        Prediction.task == task,
        Prediction.as_of == as_of,
        Prediction.model_version == model_version,
        Prediction.record_id.in_([row["record_id"] for row in rows]),
    )
    answered = set(session.scalars(query))
    return [row for row in rows if row["record_id"] not in answered]


def _insert_new(session: Session) -> Any:  # noqa: ANN401  two dialects, two classes
    # Two workers may write the same answer at the same time; the second one is left out by the database.
    dialect = session.get_bind().dialect.name
    build = postgresql.insert if dialect == "postgresql" else sqlite.insert
    return build(Prediction).on_conflict_do_nothing()


def _show_on_records(session: Session, record_type: str, rows: list[dict[str, Any]]) -> None:
    model = SCORED_TYPES[record_type]
    ids = [row["record_id"] for row in rows]
    found = select(model.id, model.probability, model.scored_at).where(model.id.in_(ids))
    current = {
        record_id: (probability, scored_at) for record_id, probability, scored_at in session.execute(found)
    }
    updates = [
        _shown(row, current[row["record_id"]][0])
        for row in rows
        if row["record_id"] in current
        and (current[row["record_id"]][1] is None or current[row["record_id"]][1] <= row["as_of"])
    ]
    if updates:
        session.execute(update(model), updates)


def _shown(row: dict[str, Any], before: float | None) -> dict[str, Any]:
    return {
        "id": row["record_id"],
        "probability": row["probability"],
        "previous_probability": before,
        "score": row["score"],
        "grade": row["grade"],
        "trend": _trend(before, row["probability"]),
        "reasons": row["reasons"],
        "scored_at": row["as_of"],
        "model_version": row["model_version"],
    }


def _trend(before: float | None, now: float | None) -> str | None:
    if before is None or now is None:
        return None
    if abs(now - before) < FLAT:
        return "flat"
    return "up" if now > before else "down"


def list_predictions(
    session: Session, record_type: str, record_id: int, *, limit: int = 50
) -> Sequence[Prediction]:
    """Return a record's predictions, newest first."""
    query = (
        select(Prediction)
        .where(Prediction.record_type == record_type, Prediction.record_id == record_id)
        .order_by(Prediction.as_of.desc(), Prediction.id.desc())
        .limit(limit)
    )
    return session.scalars(query).all()
