"""What models said: an append-only history, and the newest prediction on the record itself.

The contract: a row is unique by (task, record_id, as_of, model_version), so that asking the same question
twice stores one answer. Rows are never edited. The record's own columns always show its newest prediction
by `as_of`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Case,
    ColumnElement,
    CompoundSelect,
    Connection,
    Index,
    Integer,
    String,
    UniqueConstraint,
    Update,
    and_,
    case,
    func,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.orm import InstrumentedAttribute, Mapped, Session, defer, mapped_column

from crm_core.clock import micros
from crm_core.columns import Instant, Json, dump_json
from crm_core.opting_out import may_be_scored
from crm_core.records import Account, Base, Deal, Id, Lead
from crm_core.store import Transaction

IN_THE_END_DAYS = 36_500
"""Stands for "in the end" where a horizon in days is wanted: nothing takes a hundred years."""

SCORED_TYPES: dict[str, type[Lead | Deal | Account]] = {"lead": Lead, "deal": Deal, "account": Account}
"""Record types that carry a score."""

AT_ONCE: Final = 5_000
"""Predictions written together."""

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
    within: Mapped[dict[str, float | None] | None] = mapped_column(
        Json, comment="probability by horizon in days; null in it: too few were followed for so long"
    )
    expected_days: Mapped[float | None] = mapped_column(
        comment="mean days until it happens, given that it does within the longest horizon"
    )
    yearly_value: Mapped[list[dict[str, str]] | None] = mapped_column(
        Json, comment="of customers: what they bring in a year, by currency"
    )
    cause_change_id: Mapped[int | None] = mapped_column(
        BigInteger, comment="the change that led to it; NULL: time or a new model"
    )

    __table_args__ = (
        UniqueConstraint("task", "record_id", "as_of", "model_version"),
        Index("ix_predictions_record_type_record_id_as_of", "record_type", "record_id", "as_of"),
    )


@dataclass(frozen=True, kw_only=True)
class NewPrediction:
    """A prediction to be written.

    `within` has the probability of every horizon in days, None where the model cannot say; `expected_days` is
    the mean time until it happens, given that it does within the longest of them. `yearly_value` is what a
    customer brings in a year: {"currency", "amount", "of"} each, see `features.worth`. `horizon_days` is that
    of this record, where it is not the same for all.
    """

    record_id: int
    probability: float | None
    score: int | None
    grade: str | None
    reasons: list[dict[str, Any]]
    within: Mapping[int, float | None] | None = None
    expected_days: float | None = None
    yearly_value: Sequence[Mapping[str, str]] | None = None
    horizon_days: int | None = None
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
    said = _Said(
        transaction=transaction,
        task=task,
        record_type=record_type,
        as_of=as_of,
        model_version=model_version,
        horizon_days=horizon_days,
    )
    starts = range(0, len(predictions), AT_ONCE)
    return sum(said.write(predictions[start : start + AT_ONCE]) for start in starts)


@dataclass(frozen=True, kw_only=True)
class _Said:
    """What predictions that are written together have in common."""

    transaction: Transaction
    task: str
    record_type: str
    as_of: datetime
    model_version: str
    horizon_days: int

    def write(self, predictions: Sequence[NewPrediction]) -> int:
        """Append predictions and show them; return how many were new."""
        session = self.transaction.session
        left_out = set(session.scalars(self._left_out([new.record_id for new in predictions])))
        fresh = [new for new in predictions if new.record_id not in left_out]
        if fresh:
            self._insert(session.connection(), fresh)
            session.execute(self._show([new.record_id for new in fresh]))
        return len(fresh)

    def _left_out(self, ids: list[int]) -> CompoundSelect[int]:
        """Ask for those who are not to be scored, or have an answer already."""
        model = SCORED_TYPES[self.record_type]
        opted_out = select(model.id).where(model.id.in_(ids), ~may_be_scored(model))
        return opted_out.union_all(
            select(Prediction.record_id).where(self._is_the_question(), Prediction.record_id.in_(ids))
        )

    def _is_the_question(self) -> ColumnElement[bool]:
        return and_(
            Prediction.task == self.task,
            Prediction.as_of == self.as_of,
            Prediction.model_version == self.model_version,
        )

    def _insert(self, connection: Connection, fresh: Sequence[NewPrediction]) -> None:
        # Two workers may write the same answer at the same time; the second one is left out by the database.
        common = {
            "task": self.task,
            "record_type": self.record_type,
            "as_of": micros(self.as_of),
            "recorded_at": micros(self.transaction.now),
            "model_version": self.model_version,
        }
        rows = [
            (
                new.record_id,
                new.horizon_days or self.horizon_days,
                new.probability,
                new.score,
                new.grade,
                dump_json(new.reasons),
                _json(None if new.within is None else {str(days): p for days, p in new.within.items()}),
                new.expected_days,
                _json(None if new.yearly_value is None else list(new.yearly_value)),
                new.cause_change_id,
            )
            for new in fresh
        ]
        if connection.dialect.name == "postgresql":
            columns = zip(_NAMES, map(list, zip(*rows, strict=True)), strict=True)
            connection.execute(_INSERT_COLUMNS, {**common, **dict(columns)})
        else:
            values = tuple(common.values())
            connection.exec_driver_sql(_INSERT_ROWS, [values + row for row in rows])

    def _show(self, ids: list[int]) -> Update:
        """Show what was just written on the records whose newest prediction it is."""
        model = SCORED_TYPES[self.record_type]
        older = or_(model.scored_at.is_(None), model.scored_at <= self.as_of)
        shown = {
            "probability": Prediction.probability,
            "previous_probability": model.probability,
            "score": Prediction.score,
            "grade": Prediction.grade,
            "trend": _trend(model.probability, Prediction.probability),
            "reasons": Prediction.reasons,
            "scored_at": Prediction.as_of,
            "model_version": Prediction.model_version,
        }
        return (
            update(model)
            .where(model.id == Prediction.record_id, self._is_the_question(), model.id.in_(ids), older)
            .values(shown)
            .execution_options(synchronize_session=False)
        )


_NAMES: Final = (
    "record_id",
    "horizon_days",
    "probability",
    "score",
    "grade",
    "reasons",
    "within",
    "expected_days",
    "yearly_value",
    "cause_change_id",
)

_INSERT_ROWS: Final = (
    "INSERT INTO predictions (task, record_type, as_of, recorded_at, model_version, record_id, horizon_days, "
    "probability, score, grade, reasons, within, expected_days, yearly_value, cause_change_id) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
)

_INSERT_COLUMNS: Final = text(
    "INSERT INTO predictions (task, record_type, as_of, recorded_at, model_version, record_id, horizon_days, "
    "probability, score, grade, reasons, within, expected_days, yearly_value, cause_change_id) "
    "SELECT :task, :record_type, :as_of, :recorded_at, :model_version, given.* FROM unnest("
    "CAST(:record_id AS bigint[]), CAST(:horizon_days AS int[]), CAST(:probability AS float8[]), "
    "CAST(:score AS int[]), CAST(:grade AS text[]), CAST(:reasons AS text[]), CAST(:within AS text[]), "
    "CAST(:expected_days AS float8[]), CAST(:yearly_value AS text[]), CAST(:cause_change_id AS bigint[])) "
    "AS given ON CONFLICT DO NOTHING"
)


def _json(value: object) -> str | None:
    return None if value is None else dump_json(value)


def _trend(
    before: InstrumentedAttribute[float | None], now: InstrumentedAttribute[float | None]
) -> Case[Any]:
    return case(
        (or_(before.is_(None), now.is_(None)), None),
        (func.abs(now - before) < FLAT, "flat"),
        (now > before, "up"),
        else_="down",
    )


def list_predictions(
    session: Session,
    record_type: str,
    record_id: int,
    *,
    limit: int = 50,
    before: tuple[datetime, int] | None = None,
) -> Sequence[Prediction]:
    """Return a record's predictions, newest first; `before` leaves out all since one (`as_of`, id)."""
    query = select(Prediction).where(Prediction.record_type == record_type, Prediction.record_id == record_id)
    if before is not None:
        as_of, last_id = before
        same = and_(Prediction.as_of == as_of, Prediction.id < last_id)
        query = query.where(Prediction.as_of <= as_of, or_(Prediction.as_of < as_of, same))
    return session.scalars(query.order_by(Prediction.as_of.desc(), Prediction.id.desc()).limit(limit)).all()


def newest_predictions(session: Session, record_type: str, ids: Sequence[int]) -> dict[int, Prediction]:
    """Return the prediction that each of these records shows, by record; those never scored are left out."""
    model = SCORED_TYPES[record_type]
    shown = and_(
        Prediction.record_type == record_type,
        Prediction.record_id == model.id,
        Prediction.as_of == model.scored_at,
        Prediction.model_version == model.model_version,
    )
    query = select(Prediction).join(model, shown).where(model.id.in_(ids)).order_by(Prediction.id)
    query = query.options(defer(Prediction.reasons))  # they stand on the record too
    return {found.record_id: found for found in session.scalars(query)} if ids else {}
