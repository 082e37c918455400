"""What a champion says of a lot of records, and how that is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TypeVar

from sqlalchemy.exc import SQLAlchemyError

from crm_core.errors import FeatureError, ModelError
from crm_core.predictions import (
    NewPrediction,
    write_prediction,
    write_prediction_columns,
    write_predictions,
)
from crm_core.shown import leave_out_unchanged, lock_records
from crm_core.store import Store, Transaction
from crm_core.writing_back import PredictionColumns
from serving import metrics
from serving.champions import Champion
from serving.logs import get_log
from serving.open_records import is_open

T = TypeVar("T")

_log = get_log("serving.rescoring")


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What a champion said when it was asked as of an instant, and of which records it could say nothing."""

    champion: Champion
    as_of: datetime
    ids: Sequence[int]
    predictions: Sequence[NewPrediction] = ()
    failed: Mapping[int, str] = field(default_factory=dict)

    def with_causes(self, causes: Mapping[int, int | None]) -> Answers:
        """Return them with the change that led to each."""
        caused = [replace(each, cause_change_id=causes.get(each.record_id)) for each in self.predictions]
        return replace(self, predictions=caused)


def ask(store: Store, champion: Champion, ids: Sequence[int], as_of: datetime) -> Answers:
    """Ask a champion about records; halve the lot around one that cannot be scored.

    A database in trouble is no fault of a record: its errors are raised.
    """
    found, failed = _ask(champion, ids, lambda some: champion.scorer.score(store, some, as_of))
    told = [new for some in found for new in some]
    return Answers(champion=champion, as_of=as_of, ids=ids, predictions=told, failed=failed)


def ask_many(
    store: Store, champion: Champion, ids: Sequence[int], as_of: datetime
) -> tuple[PredictionColumns, Mapping[int, str]]:
    """Return what a champion says of records as columns, and why it could say nothing of some, likewise."""
    found, failed = _ask(champion, ids, lambda some: champion.scorer.score_many(store, some, as_of))
    return PredictionColumns.joined(found), failed


def _ask(
    champion: Champion, ids: Sequence[int], score: Callable[[Sequence[int]], T]
) -> tuple[list[T], dict[int, str]]:
    try:
        return ([score(ids)] if ids else []), {}
    except SQLAlchemyError:
        raise
    except (FeatureError, ModelError) as error:
        return [], _failed(champion, ids, error)
    except Exception as error:  # noqa: BLE001  one bad record must not hold up the log
        if len(ids) == 1:
            return [], _failed(champion, ids, error)
        middle = len(ids) // 2
        (first, failed), (second, others) = (
            _ask(champion, half, score) for half in (ids[:middle], ids[middle:])
        )
        return [*first, *second], failed | others


def _failed(champion: Champion, ids: Sequence[int], error: Exception) -> dict[int, str]:
    name = type(error).__name__
    _log.error(
        "cannot be scored",
        task=champion.task,
        records=list(ids[:20]),
        count=len(ids),
        error=name,
        exc_info=error,
    )
    return dict.fromkeys(ids, name)


@dataclass(frozen=True, kw_only=True)
class Written:
    """How many predictions were new, and which records somebody else is writing at the moment."""

    count: int
    busy: frozenset[int]


def write_answers(transaction: Transaction, answers: Answers) -> Written:
    """Write what a champion said of records that are still open, if it is not what they show already."""
    session, champion = transaction.session, answers.champion
    asked = [each.record_id for each in answers.predictions]
    free = set(lock_records(session, champion.record_type, asked, is_open(champion.record_type)))
    predictions = [each for each in answers.predictions if each.record_id in free]
    predictions = leave_out_unchanged(
        session, champion.record_type, champion.scorer.model_version, predictions
    )
    count = write_as(transaction, champion, predictions, answers.as_of) if predictions else 0
    return Written(count=count, busy=frozenset(asked) - free)


def write_many(
    transaction: Transaction, champion: Champion, columns: PredictionColumns, as_of: datetime
) -> Written:
    """Write what a champion said of records that are still open, whatever they show."""
    if not len(columns):
        return Written(count=0, busy=frozenset())
    asked, version = columns.record_id, champion.scorer.model_version
    still = is_open(champion.record_type)
    free = frozenset(lock_records(transaction.session, champion.record_type, asked, still))
    count = write_prediction_columns(
        transaction,
        task=champion.task,
        record_type=champion.record_type,
        as_of=as_of,
        model_version=version,
        columns=columns.only(free),
    )
    metrics.note_scores(champion.task, version, count)
    return Written(count=count, busy=frozenset(asked) - free)


def write_as(
    transaction: Transaction, champion: Champion, predictions: Sequence[NewPrediction], as_of: datetime
) -> int:
    """Write what a champion said, and count it; return how much of it was new."""
    written = write_predictions(
        transaction,
        task=champion.task,
        record_type=champion.record_type,
        as_of=as_of,
        model_version=champion.scorer.model_version,
        horizon_days=champion.scorer.horizon_days,
        predictions=predictions,
    )
    metrics.note_scores(champion.task, champion.scorer.model_version, written)
    return written


def write_one_as(
    transaction: Transaction, champion: Champion, prediction: NewPrediction, as_of: datetime
) -> int | None:
    """Write what a champion said of one record, and count it; return its id, None if it was not new."""
    scorer = champion.scorer
    written = write_prediction(
        transaction,
        task=champion.task,
        record_type=champion.record_type,
        as_of=as_of,
        model_version=scorer.model_version,
        horizon_days=scorer.horizon_days,
        prediction=prediction,
    )
    metrics.note_scores(champion.task, scorer.model_version, 0 if written is None else 1)
    return written
