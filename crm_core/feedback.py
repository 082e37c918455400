"""What people say of scores: right or wrong, and why. Never an input of a model.

An append-only list: who changes their mind says so again, and of each person's words on one prediction the
last count. Task, version and record are those of the prediction, kept here so that counting needs no join.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    ForeignKey,
    Index,
    String,
    exists,
    func,
    select,
    update,
)
from sqlalchemy.orm import Mapped, Session, aliased, mapped_column

from crm_core.columns import Instant, check_text
from crm_core.predictions import Prediction
from crm_core.records import Base, Id
from crm_core.store import Transaction

LONGEST_TEXT = 2_000


class Verdict(StrEnum):
    """Whether somebody agrees."""

    RIGHT = "right"
    WRONG = "wrong"


class WhyWrong(StrEnum):
    """What is wrong with a score, in a word."""

    TOO_HIGH = "too_high"
    TOO_LOW = "too_low"
    WRONG_REASON = "wrong_reason"
    OLD_DATA = "old_data"
    MISSING_DATA = "missing_data"
    OTHER = "other"


class ScoreFeedback(Base):
    """What one person says of one prediction."""

    __tablename__ = "score_feedback"

    id: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=True)
    prediction_id: Mapped[int] = mapped_column(BigInteger)
    task: Mapped[str] = mapped_column(String(40))
    model_version: Mapped[str] = mapped_column(String(80))
    record_type: Mapped[str] = mapped_column(String(40))
    record_id: Mapped[int] = mapped_column(BigInteger)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    verdict: Mapped[str] = mapped_column(String(10), comment="right or wrong")
    reason: Mapped[str | None] = mapped_column(String(20), comment="what is wrong, in a word")
    text: Mapped[str | None] = mapped_column(String(LONGEST_TEXT))
    given_at: Mapped[datetime] = mapped_column(Instant)

    __table_args__ = (
        Index("ix_score_feedback_prediction_id_user_id", "prediction_id", "user_id"),
        Index("ix_score_feedback_task_model_version", "task", "model_version"),
        Index("ix_score_feedback_record_type_record_id", "record_type", "record_id"),
    )


@dataclass(frozen=True, kw_only=True)
class Verdicts:
    """How often people said that a version was right or wrong, and why."""

    right: int
    wrong: int
    by_reason: dict[str, int]


def give_feedback(
    transaction: Transaction,
    prediction: Prediction,
    *,
    user_id: int,
    verdict: Verdict,
    reason: WhyWrong | None = None,
    text: str | None = None,
) -> ScoreFeedback:
    """Append what somebody says of a prediction; it takes the place of what they said of it before."""
    given = ScoreFeedback(
        prediction_id=prediction.id,
        task=prediction.task,
        model_version=prediction.model_version,
        record_type=prediction.record_type,
        record_id=prediction.record_id,
        user_id=user_id,
        verdict=verdict,
        reason=reason,
        text=None if text is None else check_text("text", text, longest=LONGEST_TEXT),
        given_at=transaction.now,
    )
    transaction.session.add(given)
    transaction.session.flush()
    return given


def counts() -> ColumnElement[bool]:
    """Return the condition that nobody has said something newer of the same prediction themselves."""
    newer = aliased(ScoreFeedback)
    return ~exists().where(
        newer.prediction_id == ScoreFeedback.prediction_id,
        newer.user_id == ScoreFeedback.user_id,
        newer.id > ScoreFeedback.id,
    )


def list_feedback(
    session: Session, *conditions: ColumnElement[bool], limit: int, before: int | None = None
) -> Sequence[ScoreFeedback]:
    """Return what counts, newest first; with `before`, what is older than the one with this id."""
    query = select(ScoreFeedback).where(counts(), *conditions)
    if before is not None:
        query = query.where(ScoreFeedback.id < before)
    return session.scalars(query.order_by(ScoreFeedback.id.desc()).limit(limit)).all()


def count_verdicts(session: Session, task: str, model_version: str) -> Verdicts:
    """Return what people say of a version, the last words of each on each prediction."""
    query = select(ScoreFeedback.verdict, ScoreFeedback.reason, func.count())
    query = query.where(counts(), ScoreFeedback.task == task, ScoreFeedback.model_version == model_version)
    rows = session.execute(query.group_by(ScoreFeedback.verdict, ScoreFeedback.reason)).all()
    by_reason: dict[str, int] = {}
    for verdict, reason, count in rows:
        if verdict == Verdict.WRONG:
            by_reason[reason or "none"] = by_reason.get(reason or "none", 0) + count
    right = sum(count for verdict, _, count in rows if verdict == Verdict.RIGHT)
    return Verdicts(right=right, wrong=sum(by_reason.values()), by_reason=by_reason)


def forget_texts(session: Session, record_type: str, ids: Collection[int]) -> None:
    """Take the texts off what was said of predictions about records; the verdicts stay."""
    session.execute(
        update(ScoreFeedback)
        .where(ScoreFeedback.record_type == record_type, ScoreFeedback.record_id.in_(ids))
        .values(text=None)
    )
