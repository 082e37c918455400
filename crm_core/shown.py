"""What records show of what was predicted for them, and whether a new answer says anything else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ARRAY, BigInteger, ColumnElement, any_, literal, select
from sqlalchemy.orm import Session

from crm_core.columns import dump_json
from crm_core.predictions import SCORED_TYPES, NewPrediction, newest_predictions
from crm_core.writing_back import are_dense


def lock_records(
    session: Session, record_type: str, ids: Sequence[int], condition: ColumnElement[bool]
) -> list[int]:
    """Lock those of some records that fulfil a condition, and return them in ascending order.

    On PostgreSQL a record that somebody is writing at this moment is left out instead of being waited for:
    who waits for nobody while others wait for him is never part of a deadlock.
    """
    model = SCORED_TYPES[record_type]
    if not ids:
        return []
    if session.get_bind().dialect.name == "postgresql":
        query = (
            select(model.id)
            .where(model.id == any_(literal(list(ids), ARRAY(BigInteger))), condition)
            .order_by(model.id)
        )
        return list(session.scalars(query.with_for_update(skip_locked=True, key_share=True, of=model)))
    these = model.id.between(min(ids), max(ids)) if are_dense(ids) else model.id.in_(ids)
    wanted = frozenset(ids)
    found = session.scalars(select(model.id).where(these, condition).order_by(model.id))
    return [record_id for record_id in found if record_id in wanted]


def leave_out_unchanged(
    session: Session, record_type: str, model_version: str, predictions: Sequence[NewPrediction]
) -> list[NewPrediction]:
    """Return the predictions that are not, to the bit, what their records show already."""
    ids = [new.record_id for new in predictions]
    shown = _read_shown(session, record_type, ids, model_version)
    alike = {new.record_id for new in predictions if shown.get(new.record_id) == _columns_of(new)}
    if not alike:
        return list(predictions)
    rows = newest_predictions(session, record_type, sorted(alike))
    same = {
        new.record_id
        for new in predictions
        if new.record_id in alike
        and (row := rows.get(new.record_id)) is not None
        and _text(row.within, row.expected_days, row.yearly_value) == _only_in_history(new)
    }
    return [new for new in predictions if new.record_id not in same]


def _read_shown(
    session: Session, record_type: str, ids: Sequence[int], model_version: str
) -> dict[int, tuple[Any, ...]]:
    """Return what records show that were last scored by one model."""
    model = SCORED_TYPES[record_type]
    query = select(model.id, model.probability, model.score, model.grade, model.reasons)
    rows = session.execute(query.where(model.id.in_(ids), model.model_version == model_version))
    return {row.id: (row.probability, row.score, row.grade, dump_json(row.reasons)) for row in rows}


def _columns_of(new: NewPrediction) -> tuple[Any, ...]:
    return new.probability, new.score, new.grade, dump_json(new.reasons)


def _only_in_history(new: NewPrediction) -> str:
    within = None if new.within is None else {str(days): p for days, p in new.within.items()}
    worth = None if new.yearly_value is None else [dict(each) for each in new.yearly_value]
    return _text(within, new.expected_days, worth)


def _text(within: object, expected_days: float | None, yearly_value: object) -> str:
    return dump_json([within, expected_days, yearly_value])
