"""Scoring one record at once, because somebody asks."""

from __future__ import annotations

from sqlalchemy import select

from crm_core.changes import Source
from crm_core.errors import DealNotOpenError, LeadNotOpenError, NotEnoughDataError
from crm_core.predictions import Prediction
from crm_core.records import Account, Deal, DealStatus, Lead, LeadStatus
from crm_core.store import Store
from serving.champions import TASK_OF, Champions
from serving.rescoring import write_as


def score_now(store: Store, champions: Champions, record: Lead | Deal | Account) -> Prediction:
    """Score a record as it is known now, show the score on it, and return the stored prediction.

    Raises NoChampionError without a model, LeadNotOpenError or DealNotOpenError for a closed record, and
    NotEnoughDataError for one that the task is not asked of.
    """
    _check_open(record)
    champion = champions.get(TASK_OF[record.record_type])
    record_id, as_of = record.id, store.clock.now()
    predictions = champion.scorer.score(store, [record_id], as_of)
    if not predictions:
        raise NotEnoughDataError(
            f"{champion.task} is not asked of {record.record_type} {record_id} at present"
        )
    with store.transaction(source=Source.MODEL) as transaction:
        write_as(transaction, champion, predictions, as_of)
        query = select(Prediction).where(
            Prediction.task == champion.task,
            Prediction.record_id == record_id,
            Prediction.as_of == as_of,
            Prediction.model_version == champion.scorer.model_version,
        )
        return transaction.session.scalars(query).one()


def _check_open(record: Lead | Deal | Account) -> None:
    if isinstance(record, Lead) and record.status != LeadStatus.OPEN:
        raise LeadNotOpenError(record.id, record.status)
    if isinstance(record, Deal) and record.status != DealStatus.OPEN:
        raise DealNotOpenError(record.id, record.status)
