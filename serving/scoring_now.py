"""Scoring one record at once, because somebody asks."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Boolean, select, type_coerce
from sqlalchemy.orm import Session

from crm_core.access import Reader
from crm_core.arrays import ArrayQuery, Arrays, NotReadAheadError, keyed, read_ahead
from crm_core.changes import Source
from crm_core.errors import (
    DealNotOpenError,
    LeadNotOpenError,
    NotEnoughDataError,
    RecordNotFoundError,
    ScoringOptOutError,
)
from crm_core.opting_out import may_be_scored, note_willing
from crm_core.phrases import Phrase
from crm_core.predictions import NewPrediction, Prediction
from crm_core.recall import recalled
from crm_core.records import Account, Deal, DealStatus, Lead, LeadStatus, User
from crm_core.store import Store
from crm_core.turns import Turns
from serving.answering import write_one_as
from serving.champions import TASK_OF, Champion, Champions, ReadsAhead
from serving.supposed import as_prediction

Scored = Lead | Deal | Account

PATIENCE: Final = 30.0
"""How many seconds one question about a record may take before those behind it are refused."""

_ASKING: Final = Turns(patience=PATIENCE)
"""Asking is the interpreter's own work, which SQLite lets go of at every row: one thread answers a third more
than eight that take it from one another."""


@dataclass(frozen=True, kw_only=True)
class ToScore:
    """A record whose score somebody may see, and how it stands; nobody it is about asked not to be scored."""

    record_type: str
    id: int
    status: str | None


def get_to_score(store: Store, user: User, model: type[Scored], record_id: int) -> ToScore:
    """Return a record whose score `user` may see.

    Raises RecordNotFoundError, AccessDeniedError, or ScoringOptOutError.
    """
    with store.reading() as session:
        return _get_to_score(session, user, model, record_id)


def score_now(
    store: Store, champions: Champions, user: User, model: type[Scored], record_id: int
) -> Prediction:
    """Score a record as it is known now, show the score on it, and return the stored prediction.

    Raises what `get_to_score` does, NoChampionError without a model, LeadNotOpenError or DealNotOpenError for
    a closed record, and NotEnoughDataError for one that the task is not asked of.
    """
    as_of = store.settled_now()
    champion, said = _ask(store, champions, (user, model, record_id), as_of)
    with store.transaction(source=Source.MODEL, alone=True) as transaction:
        written = write_one_as(transaction, champion, said, as_of)
        if written is None:
            return _asked_before(transaction.session, champion, record_id, as_of)
        made = as_prediction(champion, said, as_of)
        made.id, made.record_id, made.recorded_at = written, record_id, transaction.now
    return made


def _asked_before(session: Session, champion: Champion, record_id: int, as_of: datetime) -> Prediction:
    """Return the answer that somebody got to the very same; without one, nothing may be said any more."""
    query = select(Prediction).where(
        Prediction.task == champion.task,
        Prediction.record_id == record_id,
        Prediction.as_of == as_of,
        Prediction.model_version == champion.scorer.model_version,
    )
    found = session.scalars(query).one_or_none()
    if found is None:
        raise ScoringOptOutError(champion.record_type, record_id)
    return found


def tell_now(
    store: Store, champions: Champions, user: User, model: type[Scored], record_id: int
) -> Prediction:
    """Return what `score_now` would say, and write nothing: no row, no lock, nothing shown on the record."""
    as_of = store.clock.now()
    champion, said = _ask(store, champions, (user, model, record_id), as_of)
    return as_prediction(champion, said, as_of)


def _ask(
    store: Store, champions: Champions, whom: tuple[User, type[Scored], int], as_of: datetime
) -> tuple[Champion, NewPrediction]:
    """Look whether a record may be scored and ask the champion about it, in one session and one state."""
    task = TASK_OF[whom[1].record_type]
    champions.look()
    with _turn(store):
        champion = champions.find(task)
        if champion is not None and _reads_at_once(store, champion):
            with suppress(NotReadAheadError), store.glancing() as session:
                return _ask_in(store.seen_by(session), session, champions, whom, as_of)
        with store.reading() as session:
            return _ask_in(store.seen_by(session), session, champions, whom, as_of)


def _reads_at_once(store: Store, champion: Champion) -> bool:
    return isinstance(champion.scorer, ReadsAhead) and champion.scorer.reads_at_once(store)


def _ask_in(
    store: Store,
    session: Session,
    champions: Champions,
    whom: tuple[User, type[Scored], int],
    as_of: datetime,
) -> tuple[Champion, NewPrediction]:
    model, record_id = whom[1:]
    task = TASK_OF[model.record_type]
    record = _get_to_score(session, *whom, ahead=(store, champions.find(task)))
    check_open(record)
    champion = champions.get(task)
    predictions = champion.scorer.score(store, [record_id], as_of)
    if not predictions:
        raise NotEnoughDataError(
            Phrase(
                "{task} is not asked of {record_type} {id} at present",
                task=task,
                record_type=record.record_type,
                id=record.id,
            )
        )
    return champion, predictions[0]


def _turn(store: Store) -> AbstractContextManager[None]:
    # PostgreSQL is waited for, and meanwhile others can work.
    return _ASKING.turn() if store.engine.dialect.name == "sqlite" else nullcontext()


def _get_to_score(
    session: Session,
    user: User,
    model: type[Scored],
    record_id: int,
    *,
    ahead: tuple[Store, Champion | None] | None = None,
) -> ToScore:
    reader = Reader(session, user)
    found = _look_up(session, _standing_query(reader, model), record_id, ahead)
    if not found["id"].size:
        raise RecordNotFoundError(model.record_type, record_id)
    reader.check_may_see_scores(model)
    if found["silent"][0]:
        raise ScoringOptOutError(model.record_type, record_id)
    note_willing(session, model, record_id)
    status = found["status"][0] if "status" in found else None
    return ToScore(record_type=model.record_type, id=record_id, status=status)


def _look_up(
    session: Session, standing: ArrayQuery, record_id: int, ahead: tuple[Store, Champion | None] | None
) -> Arrays:
    """Return how a record stands; with it is read what the champion will ask, if there is one."""
    asked = standing, [record_id]
    store, champion = ahead or (None, None)
    if store is not None and champion is not None and isinstance(champion.scorer, ReadsAhead):
        return champion.scorer.read_ahead(store, session, record_id, [asked])[0]
    return read_ahead(session, [asked])[0]


def _standing_query(reader: Reader, model: type[Scored]) -> ArrayQuery:
    user = reader.user
    key = ("to score", model, user.id, user.role, user.team_id)
    return recalled(reader.session, key, lambda: _make_standing_query(reader, model))


def _make_standing_query(reader: Reader, model: type[Scored]) -> ArrayQuery:
    wanted: list[Any] = [model.id, type_coerce(~may_be_scored(model), Boolean).label("silent")]
    if not issubclass(model, Account):
        wanted.append(model.status)
    query = select(*wanted).where(keyed(model.id, few=True), model.deleted_at.is_(None))
    return ArrayQuery(query.where(reader.readable(model)))


def check_open(record: Lead | Deal | Account | ToScore) -> None:
    """Raise LeadNotOpenError or DealNotOpenError for a record that nothing can change any more."""
    if record.record_type == Lead.record_type and _status_of(record) != LeadStatus.OPEN:
        raise LeadNotOpenError(record.id, _status_of(record))
    if record.record_type == Deal.record_type and _status_of(record) != DealStatus.OPEN:
        raise DealNotOpenError(record.id, _status_of(record))


def _status_of(record: Lead | Deal | Account | ToScore) -> str:
    return "" if isinstance(record, Account) else str(record.status)
