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
from serving.champions import TASK_OF, Champions
from serving.rescoring import write_as

S = TypeVar("S", Lead, Deal, Account)


def get_to_score(store: Store, user: User, model: type[S], record_id: int) -> S:
    """Return a record whose score `user` may see, on its own."""
    with store.reading() as session:
        reader = Reader(session, user)
        record = reader.get(model, record_id)
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
        raise NotEnoughDataError(
            f"{champion.task} is not asked of {record.record_type} {record_id} at present"
        )
    with store.transaction(source=Source.MODEL) as transaction:
        write_as(transaction, champion, predictions, as_of)
        question = {
            "task": champion.task,
            "record_id": record_id,
            "as_of": as_of,
            "model_version": champion.scorer.model_version,
        }
        return transaction.session.scalars(_QUESTION, question).one()


_QUESTION: Final = select(Prediction).where(
    *(
        getattr(Prediction, name) == bindparam(name)
        for name in ("task", "record_id", "as_of", "model_version")
    )
)
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
