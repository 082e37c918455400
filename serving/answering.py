"""What a champion says of a lot of records, and how that is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from sqlalchemy.exc import SQLAlchemyError

from crm_core.errors import FeatureError, ModelError
from crm_core.predictions import NewPrediction, write_predictions
from crm_core.shown import leave_out_unchanged, lock_records
from crm_core.store import Store, Transaction
from serving.champions import Champion
from serving.logs import get_log
from serving.open_records import is_open

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
    try:
        found = champion.scorer.score(store, ids, as_of) if ids else []
    except SQLAlchemyError:
        raise
    except (FeatureError, ModelError) as error:
        return _failed(champion, ids, as_of, error)
    except Exception as error:  # noqa: BLE001  one bad record must not hold up the log
        if len(ids) == 1:
            return _failed(champion, ids, as_of, error)
        middle = len(ids) // 2
        first, second = (ask(store, champion, half, as_of) for half in (ids[:middle], ids[middle:]))
        return replace(
            first,
            ids=ids,
            predictions=[*first.predictions, *second.predictions],
            failed={**first.failed, **second.failed},
        )
    return Answers(champion=champion, as_of=as_of, ids=ids, predictions=found)


def _failed(champion: Champion, ids: Sequence[int], as_of: datetime, error: Exception) -> Answers:
    name = type(error).__name__
    _log.error(
        "cannot be scored",
        task=champion.task,
        records=list(ids[:20]),
        count=len(ids),
        error=name,
        exc_info=error,
    )
    return Answers(champion=champion, as_of=as_of, ids=ids, failed=dict.fromkeys(ids, name))


@dataclass(frozen=True, kw_only=True)
class Written:
    """How many predictions were new, and which records somebody else is writing at the moment."""

    count: int
    busy: frozenset[int]


def write_answers(transaction: Transaction, answers: Answers, *, unchanged_too: bool) -> Written:
    """Write what a champion said of records that are still open.

    An answer that says nothing but what its record shows already is left out, unless `unchanged_too`.
    """
    session, champion = transaction.session, answers.champion
    asked = [each.record_id for each in answers.predictions]
    free = set(lock_records(session, champion.record_type, asked, is_open(champion.record_type)))
    predictions = [each for each in answers.predictions if each.record_id in free]
    if not unchanged_too:
        predictions = leave_out_unchanged(
            session, champion.record_type, champion.scorer.model_version, predictions
        )
    count = write_as(transaction, champion, predictions, answers.as_of) if predictions else 0
    return Written(count=count, busy=frozenset(asked) - free)


def write_as(
    transaction: Transaction, champion: Champion, predictions: Sequence[NewPrediction], as_of: datetime
) -> int:
    """Write what a champion said; return how much of it was new."""
    return write_predictions(
        transaction,
        task=champion.task,
        record_type=champion.record_type,
        as_of=as_of,
        model_version=champion.scorer.model_version,
        horizon_days=champion.scorer.horizon_days,
        predictions=predictions,
    )
