"""Scoring one record at once, because somebody asks."""

from __future__ import annotations

from datetime import datetime
from typing import Final, TypeVar

from sqlalchemy import bindparam, select

from crm_core.access import Reader
from crm_core.changes import Source
from crm_core.errors import DealNotOpenError, LeadNotOpenError, NotEnoughDataError, ScoringOptOutError
from crm_core.opting_out import list_opted_out
from crm_core.predictions import Prediction
from crm_core.records import Account, Deal, DealStatus, Lead, LeadStatus, User
from crm_core.store import Store
from serving.champions import TASK_OF, Champion, Champions
from serving.rescoring import write_as
from serving.supposed import as_prediction

S = TypeVar("S", Lead, Deal, Account)


def get_to_score(store: Store, user: User, model: type[S], record_id: int) -> S:
    """Return a record whose score `user` may see, on its own: its id, and how it stands."""
    only = tuple(name for name in ("id", "status") if hasattr(model, name))
    with store.reading() as session:
        reader = Reader(session, user)
        record = reader.get(model, record_id, only=only)
        reader.check_may_see_scores(model)
        if list_opted_out(session, model, [record_id]):
            raise ScoringOptOutError(record.record_type, record_id)
        session.expunge(record)
    return record


def score_now(store: Store, champions: Champions, record: Lead | Deal | Account) -> Prediction:
    """Score a record as it is known now, show the score on it, and return the stored prediction.

    Raises NoChampionError without a model, LeadNotOpenError or DealNotOpenError for a closed record, and
    NotEnoughDataError for one that the task is not asked of.
    """
    check_open(record)
    champion = champions.get(TASK_OF[record.record_type])
    record_id, as_of = record.id, settled_now(store)
    predictions = champion.scorer.score(store, [record_id], as_of)
    if not predictions:
        raise _not_asked(champion, record)
    question = {
        "task": champion.task,
        "record_id": record_id,
        "as_of": as_of,
        "model_version": champion.scorer.model_version,
    }
    with store.transaction(source=Source.MODEL) as transaction:
        if write_as(transaction, champion, predictions, as_of) == 0:  # somebody asked the very same
            return transaction.session.scalars(_QUESTION, question).one()
        made = as_prediction(champion, predictions[0], as_of)
        made.record_id, made.recorded_at = record_id, transaction.now
        made.id = transaction.session.connection().execute(_ID, question).scalar_one()
    return made


def tell_now(store: Store, champions: Champions, record: Lead | Deal | Account) -> Prediction:
    """Return what `score_now` would say, and write nothing: no row, no lock, nothing shown on the record."""
    check_open(record)
    champion = champions.get(TASK_OF[record.record_type])
    as_of = store.clock.now()
    predictions = champion.scorer.score(store, [record.id], as_of)
    if not predictions:
        raise _not_asked(champion, record)
    return as_prediction(champion, predictions[0], as_of)


def _not_asked(champion: Champion, record: Lead | Deal | Account) -> NotEnoughDataError:
    return NotEnoughDataError(f"{champion.task} is not asked of {record.record_type} {record.id} at present")


_IS_THE_QUESTION: Final = (
    Prediction.task == bindparam("task"),
    Prediction.record_id == bindparam("record_id"),
    Prediction.as_of == bindparam("as_of"),
    Prediction.model_version == bindparam("model_version"),
)
_ID: Final = select(Prediction.id).where(*_IS_THE_QUESTION)
_QUESTION: Final = select(Prediction).where(*_IS_THE_QUESTION)
"""The stored answer to one question."""


def settled_now(store: Store) -> datetime:
    """Return an instant up to which nobody writes any more, so that the same can be asked again later.

    On SQLite whoever writes has it alone. On PostgreSQL a transaction that is open now may still add what it
    learned before; what it changes is scored again when it ends.
    """
    with store.transaction(source=Source.MODEL) as transaction:
        return transaction.now


def check_open(record: Lead | Deal | Account) -> None:
    """Raise LeadNotOpenError or DealNotOpenError for a record that nothing can change any more."""
    if isinstance(record, Lead) and record.status != LeadStatus.OPEN:
        raise LeadNotOpenError(record.id, record.status)
    if isinstance(record, Deal) and record.status != DealStatus.OPEN:
        raise DealNotOpenError(record.id, record.status)
