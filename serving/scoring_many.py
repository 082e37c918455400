"""Scoring many records at once, because somebody asks: an answer or a refusal for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from crm_core.access import Reader
from crm_core.errors import (
    CRMError,
    FeatureSetMismatchError,
    ModelError,
    NotEnoughDataError,
    OutcomeFieldError,
    RecordNotFoundError,
    ScoringOptOutError,
)
from crm_core.opting_out import list_opted_out
from crm_core.phrases import Phrase
from crm_core.predictions import NewPrediction, Prediction
from crm_core.records import Account, Deal, Lead, User
from crm_core.store import Store, Transaction
from serving.champions import TASK_OF, Champion, Champions
from serving.logs import get_log
from serving.rescoring import write_as
from serving.scoring_now import check_open

Scored = Lead | Deal | Account

_log = get_log("serving.scoring_many")

Refusals = dict[int, CRMError]
"""By record, why it gets no score."""


@dataclass(frozen=True, kw_only=True)
class ManyAsked:
    """What one champion said of many records, all asked from one instant; not written yet."""

    ids: Sequence[int]
    champion: Champion
    as_of: datetime
    predictions: Sequence[NewPrediction]
    refused: Refusals = field(default_factory=dict)


def ask_many(
    store: Store, champions: Champions, user: User, model: type[Scored], ids: Sequence[int]
) -> ManyAsked:
    """Ask the champion about each of `ids` that `user` may see, is open and may be scored.

    Raises NoChampionError without a model, AccessDeniedError for whoever may not see the scores of the type.
    """
    willing, refused = _sorted_out(store, user, model, ids)
    champion = champions.get(TASK_OF[model.record_type])
    as_of = store.settled_now()
    predictions = _ask(store, champion, willing, as_of, refused) if willing else []
    said = {new.record_id for new in predictions}
    for record_id in willing:
        if record_id not in said and record_id not in refused:
            refused[record_id] = NotEnoughDataError(
                Phrase(
                    "{task} is not asked of {record_type} {record_id} at present",
                    task=champion.task,
                    record_type=model.record_type,
                    record_id=record_id,
                )
            )
    return ManyAsked(ids=ids, champion=champion, as_of=as_of, predictions=predictions, refused=refused)


def write_many(transaction: Transaction, asked: ManyAsked) -> dict[int, Prediction]:
    """Write what was said, in the given transaction; return what is stored of each record.

    Whoever asked meanwhile not to be scored is left out and refused.
    """
    write_as(transaction, asked.champion, asked.predictions, asked.as_of)
    ids = [new.record_id for new in asked.predictions]
    query = select(Prediction).where(
        Prediction.task == asked.champion.task,
        Prediction.record_id.in_(ids),
        Prediction.as_of == asked.as_of,
        Prediction.model_version == asked.champion.scorer.model_version,
    )
    stored = {found.record_id: found for found in transaction.session.scalars(query)} if ids else {}
    for record_id in ids:
        if record_id not in stored:
            asked.refused[record_id] = ScoringOptOutError(asked.champion.record_type, record_id)
    return stored


def _sorted_out(
    store: Store, user: User, model: type[Scored], ids: Sequence[int]
) -> tuple[list[int], Refusals]:
    """Return which records may be scored, each once, and why the others may not."""
    with store.reading() as session:
        reader = Reader(session, user)
        reader.check_may_see_scores(model)
        seen = {
            record.id: record for record in session.scalars(reader.select(model).where(model.id.in_(ids)))
        }
        silent = set(list_opted_out(session, model, list(seen)))
    refused: Refusals = {}
    for record_id in ids:
        if record_id not in seen:
            refused[record_id] = RecordNotFoundError(model.record_type, record_id)
        elif record_id in silent:
            refused[record_id] = ScoringOptOutError(model.record_type, record_id)
        elif (error := _closed(seen[record_id])) is not None:
            refused[record_id] = error
    return [record_id for record_id in dict.fromkeys(ids) if record_id not in refused], refused


def _closed(record: Scored) -> CRMError | None:
    try:
        check_open(record)
    except CRMError as error:
        return error
    return None


def _ask(
    store: Store, champion: Champion, ids: Sequence[int], as_of: datetime, refused: Refusals
) -> list[NewPrediction]:
    """Ask about all at once; if that fails on one of them, find out on which, and let the others through."""
    try:
        return champion.scorer.score(store, ids, as_of)
    except (SQLAlchemyError, ModelError, FeatureSetMismatchError, OutcomeFieldError):
        raise  # the database or the model, not a record, is in trouble
    except Exception as error:  # noqa: BLE001  one bad record must not cost the others their answers
        if len(ids) == 1:
            _log.error("cannot be scored", task=champion.task, record=ids[0], exc_info=error)
            refused[ids[0]] = error if isinstance(error, CRMError) else CRMError("it cannot be scored")
            return []
        middle = len(ids) // 2
        halves = ids[:middle], ids[middle:]
        return [new for half in halves for new in _ask(store, champion, half, as_of, refused)]
