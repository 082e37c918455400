"""What models said: an append-only history, and the newest prediction on the record itself.

The contract: a row is unique by (task, record_id, as_of, model_version), so that asking the same question
twice stores one answer. Rows are never edited. The record's own columns always show its newest prediction
by `as_of`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Integer,
    Select,
    String,
    UniqueConstraint,
    and_,
    bindparam,
    or_,
    select,
)
from sqlalchemy.orm import Mapped, Session, defer, load_only, mapped_column

from crm_core.clock import micros
from crm_core.columns import Instant, Json, PackedJson, dump_json
from crm_core.packing import pack_json
from crm_core.records import Account, Base, Deal, Id, Lead
from crm_core.store import Transaction
from crm_core.writing_back import Asked, PredictionColumns, write_columns, write_one

IN_THE_END_DAYS = 36_500
"""Stands for "in the end" where a horizon in days is wanted: nothing takes a hundred years."""

SCORED_TYPES: dict[str, type[Lead | Deal | Account]] = {"lead": Lead, "deal": Deal, "account": Account}
"""Record types that carry a score."""

AT_ONCE: Final = 5_000
"""Predictions written together."""


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
    reasons: Mapped[list[dict[str, Any]] | None] = mapped_column(PackedJson)
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
        # Begins with the record, so that a record's history is found by it too: one index is all there is to
        # keep up for each row.
        UniqueConstraint("record_id", "as_of", "task", "model_version"),
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
    starts = range(0, len(predictions), AT_ONCE)
    return sum(
        write_prediction_columns(
            transaction,
            task=task,
            record_type=record_type,
            as_of=as_of,
            model_version=model_version,
            columns=columns_of(predictions[start : start + AT_ONCE], horizon_days=horizon_days),
        )
        for start in starts
    )


def write_prediction_columns(
    transaction: Transaction,
    *,
    task: str,
    record_type: str,
    as_of: datetime,
    model_version: str,
    columns: PredictionColumns,
) -> int:
    """Append and show predictions that are in stored form already, all of one lot; return how many were new.

    The same holds as for `write_predictions`. A lot should be as small as others can wait for.
    """
    session = transaction.session
    session.flush()
    asked = Asked(
        task=task,
        record_type=record_type,
        as_of=micros(as_of),
        recorded_at=micros(transaction.now),
        model_version=model_version,
    )
    return write_columns(session.connection(), SCORED_TYPES[record_type], asked, columns)


def write_prediction(
    transaction: Transaction,
    *,
    task: str,
    record_type: str,
    as_of: datetime,
    model_version: str,
    horizon_days: int,
    prediction: NewPrediction,
) -> int | None:
    """Append one prediction and show it if it is the newest; return its id, None if it was not new.

    The same holds as for `write_predictions`. The transaction may be `alone`.
    """
    asked = Asked(
        task=task,
        record_type=record_type,
        as_of=micros(as_of),
        recorded_at=micros(transaction.now),
        model_version=model_version,
    )
    columns = columns_of([prediction], horizon_days=horizon_days)
    return write_one(transaction.session.connection(), SCORED_TYPES[record_type], asked, columns)


def columns_of(predictions: Sequence[NewPrediction], *, horizon_days: int) -> PredictionColumns:
    """Return predictions as columns in stored form, by record; of two about one record the first stands."""
    once = {new.record_id: new for new in reversed(predictions)}
    ordered = [once[record_id] for record_id in sorted(once)]
    return PredictionColumns(
        record_id=[new.record_id for new in ordered],
        horizon_days=[new.horizon_days or horizon_days for new in ordered],
        probability=[new.probability for new in ordered],
        score=[new.score for new in ordered],
        grade=[new.grade for new in ordered],
        reasons=[pack_json(dump_json(new.reasons)) for new in ordered],
        within=[_json(_by_text(new.within)) for new in ordered],
        expected_days=[new.expected_days for new in ordered],
        yearly_value=[_json(None if new.yearly_value is None else list(new.yearly_value)) for new in ordered],
        cause_change_id=[new.cause_change_id for new in ordered],
    )


def _by_text(within: Mapping[int, float | None] | None) -> dict[str, float | None] | None:
    return None if within is None else {str(days): probability for days, probability in within.items()}


def _json(value: object) -> str | None:
    return None if value is None else dump_json(value)


def list_predictions(
    session: Session,
    record_type: str,
    record_id: int,
    *,
    limit: int = 50,
    before: tuple[datetime, int] | None = None,
    only: tuple[str, ...] = (),
) -> Sequence[Prediction]:
    """Return a record's predictions, newest first; `before` leaves out all since one (`as_of`, id).

    With `only`, nothing but these columns is read.
    """
    query = select(Prediction).where(Prediction.record_type == record_type, Prediction.record_id == record_id)
    if before is not None:
        as_of, last_id = before
        same = and_(Prediction.as_of == as_of, Prediction.id < last_id)
        query = query.where(Prediction.as_of <= as_of, or_(Prediction.as_of < as_of, same))
    if only:
        query = query.options(load_only(*(getattr(Prediction, name) for name in only), raiseload=True))
    return session.scalars(query.order_by(Prediction.as_of.desc(), Prediction.id.desc()).limit(limit)).all()


class Outlook(NamedTuple):
    """What a prediction says about when, beyond what its record shows."""

    within: Mapping[str, float | None] | None
    expected_days: float | None


def newest_outlooks(session: Session, record_type: str, ids: Sequence[int]) -> dict[int, Outlook]:
    """Return what the prediction that each of these records shows says about when, by record."""
    if not ids:
        return {}
    rows = session.execute(_outlooks_of(record_type), {"ids": list(ids)})
    return {record_id: Outlook(within, days) for record_id, within, days in rows}


@cache
def _outlooks_of(record_type: str) -> Select[int, dict[str, float | None] | None, float | None]:
    model = SCORED_TYPES[record_type]
    query = select(Prediction.record_id, Prediction.within, Prediction.expected_days)
    query = query.join(model, is_shown_on(record_type))
    return query.where(model.id.in_(bindparam("ids", expanding=True))).order_by(Prediction.id)


def is_shown_on(record_type: str) -> ColumnElement[bool]:
    """Return the condition that a prediction is the one that its record, joined to it, shows."""
    model = SCORED_TYPES[record_type]
    return and_(
        Prediction.record_type == record_type,
        Prediction.record_id == model.id,
        Prediction.as_of == model.scored_at,
        Prediction.model_version == model.model_version,
    )


def newest_predictions(session: Session, record_type: str, ids: Sequence[int]) -> dict[int, Prediction]:
    """Return the prediction that each of these records shows, by record; those never scored are left out."""
    model = SCORED_TYPES[record_type]
    query = (
        select(Prediction)
        .join(model, is_shown_on(record_type))
        .where(model.id.in_(ids))
        .order_by(Prediction.id)
    )
    query = query.options(defer(Prediction.reasons))  # they stand on the record too
    return {found.record_id: found for found in session.scalars(query)} if ids else {}
