"""Finds events in the change log, the predictions and the promotions, and has endpoints told of them.

A follower reads on from its own cursors. The jobs that tell of a batch and the cursor behind it are written
in one transaction, under a lock on the cursor: killed anywhere, or run beside another one, it misses nothing
and tells nothing twice.

What imports bring is not told one by one: whoever imports a million records knows. Predictions are told when
the probability moved by what the endpoint asks for or the grade changed; where more are waiting than is worth
telling one by one, as after a full re-scoring, they are left out and the log says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Any, Final

from sqlalchemy import func, select, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session, aliased

from crm_core.changes import Action, Change, Cursor, Source, list_changes, newest_sequence
from crm_core.columns import MONEY_SCALE
from crm_core.declared import type_of
from crm_core.predictions import Prediction
from crm_core.promotions import Promotion
from crm_core.records import RECORD_TYPES, CustomRecord, Deal, DealStatus, LeadStatus
from crm_core.store import Store
from crm_core.webhooks import Event, WebhookEndpoint, list_active, tell, wants

CURSOR: Final = "webhooks"
PREDICTIONS: Final = "webhooks.predictions"
PROMOTIONS: Final = "webhooks.promotions"
_SEEN: Final = ".seen"
"""Beside the cursor of a log without sequences, on PostgreSQL: which transactions had begun at the look."""

Left = Callable[[int], None]
"""Told how many predictions were left out."""


def _nowhere(_name: str) -> None:
    """Do nothing at a checkpoint."""


class EventFollower:
    """Tells of what happened, a batch at a time.

    `checkpoint` is called with the name of every boundary between two steps; tests kill the process there.
    """

    def __init__(
        self,
        store: Store,
        *,
        at_once: int = 500,
        backlog: int = 20_000,
        left_out: Left = lambda _count: None,
        checkpoint: Callable[[str], None] = _nowhere,
    ) -> None:
        self._store = store
        self._at_once = at_once
        self._backlog = backlog
        self._left_out = left_out
        self._checkpoint = checkpoint

    def run_once(self) -> int:
        """Deal with a batch of each log; return how many rows of them there were."""
        return self._follow_changes() + self._follow_predictions() + self._follow_promotions()

    # ---------------------------------------------------------------- changes

    def _follow_changes(self) -> int:
        with self._store.reading() as session:
            endpoints = list_active(session)
            if not endpoints or newest_sequence(session) <= _position(session, endpoints):
                return 0
        with self._store.transaction(source=Source.AUTOMATION) as transaction:
            session = transaction.session
            cursor = lock_cursor(session, CURSOR)
            endpoints = list_active(session)
            if not endpoints:
                return 0
            cursor.position = max(cursor.position, min(each.since_sequence for each in endpoints))
            changes = list_changes(session, after=cursor.position, limit=self._at_once)
            if not changes:
                return 0
            for endpoint in endpoints:
                new = [each for each in changes if each.sequence > endpoint.since_sequence]
                tell(session, [endpoint], list(events_of(session, new)), transaction.now)
            self._checkpoint("told")
            cursor.position = changes[-1].sequence
        self._checkpoint("moved")
        return len(changes)

    # ---------------------------------------------------------------- predictions

    def _follow_predictions(self) -> int:
        return self._follow_log(PREDICTIONS, Prediction, "prediction.changed", self._tell_predictions)

    def _tell_predictions(
        self, session: Session, endpoints: Sequence[WebhookEndpoint], after: int, until: int
    ) -> tuple[int, int]:
        """Tell of predictions after an id; return the last one dealt with, and how many there were."""
        waiting = select(func.count()).where(Prediction.id > after, Prediction.id <= until)
        if (count := session.scalar(waiting) or 0) > self._backlog:
            self._left_out(count)
            return until, count
        rows = session.execute(_moves(after, until, self._at_once)).all()
        for endpoint in endpoints:
            moved = [
                _event_of_move(row)
                for row in rows
                if row.id > endpoint.since_prediction and _is_told(row, endpoint.least_change)
            ]
            tell(session, [endpoint], moved, self._store.clock.now())
        return (rows[-1].id if len(rows) == self._at_once else until), len(rows)

    # ---------------------------------------------------------------- promotions

    def _follow_promotions(self) -> int:
        return self._follow_log(PROMOTIONS, Promotion, "model.promoted", self._tell_promotions)

    def _tell_promotions(
        self, session: Session, endpoints: Sequence[WebhookEndpoint], after: int, until: int
    ) -> tuple[int, int]:
        query = select(Promotion).where(Promotion.id > after, Promotion.id <= until).order_by(Promotion.id)
        found = session.scalars(query).all()
        for endpoint in endpoints:
            new = [_event_of_promotion(each) for each in found if each.id > endpoint.since_promotion]
            tell(session, [endpoint], new, self._store.clock.now())
        return until, len(found)

    # ---------------------------------------------------------------- logs without sequences

    def _follow_log(
        self,
        name: str,
        model: type[Prediction | Promotion],
        event_type: str,
        tell_some: Callable[[Session, Sequence[WebhookEndpoint], int, int], tuple[int, int]],
    ) -> int:
        since = "since_prediction" if model is Prediction else "since_promotion"
        with self._store.reading() as session:
            wanting = [each for each in list_active(session) if wants(each, event_type)]
            cursor = session.get(Cursor, name)
            after = _after(cursor.position if cursor else 0, wanting, since)
            if not wanting or (session.scalar(select(func.max(model.id))) or 0) <= after:
                return 0
        with self._store.transaction(source=Source.AUTOMATION) as transaction:
            session = transaction.session
            moving = lock_cursor(session, name)
            wanting = [each for each in list_active(session) if wants(each, event_type)]
            moving.position = _after(moving.position, wanting, since)
            until = settled_until(session, moving, model)
            if until is None:
                return 0
            if until <= moving.position:
                moving.batch_until = None
                return 0
            moving.position, count = tell_some(session, wanting, moving.position, until)
            if moving.position >= until:
                moving.batch_until = None
            self._checkpoint("told")
        self._checkpoint("moved")
        return count


def _after(position: int, endpoints: Sequence[WebhookEndpoint], since: str) -> int:
    return max(position, min((getattr(each, since) for each in endpoints), default=0))


def _position(session: Session, endpoints: Sequence[WebhookEndpoint]) -> int:
    cursor = session.get(Cursor, CURSOR)
    return _after(cursor.position if cursor else 0, endpoints, "since_sequence")


def lock_cursor(session: Session, name: str) -> Cursor:
    """Return a cursor that nobody else moves before the transaction ends."""
    insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    session.execute(insert(Cursor).values(name=name, position=0).on_conflict_do_nothing())
    return session.get_one(Cursor, name, with_for_update=True)


def settled_until(session: Session, cursor: Cursor, model: type[Prediction | Promotion]) -> int | None:
    """Return the id up to which nothing can appear any more; None if that is not known yet.

    On PostgreSQL a smaller id may be committed later. So the greatest id is looked at first, and dealt with
    when all transactions that were running at that look have ended.
    """
    newest = session.scalar(select(func.max(model.id))) or 0
    if session.get_bind().dialect.name != "postgresql":
        return newest
    seen = lock_cursor(session, cursor.name + _SEEN)
    if cursor.batch_until is None:
        cursor.batch_until = newest
        seen.position = _snapshot(session, "xmax")
        return None
    return cursor.batch_until if _snapshot(session, "xmin") >= seen.position else None


def _snapshot(session: Session, end: str) -> int:
    found = session.execute(text(f"SELECT pg_snapshot_{end}(pg_current_snapshot())::text::bigint"))
    return int(found.scalar_one())


# ------------------------------------------------------------------------------------------ what happened


def events_of(session: Session, changes: Sequence[Change]) -> Iterator[Event]:
    """Yield the events that changes are: one of each kind for each record and transaction."""
    told = [each for each in changes if each.source != Source.IMPORT and each.record_type in RECORD_TYPES]
    told.sort(key=lambda each: (each.sequence, each.record_type, each.record_id, each.id))
    for _, rows in groupby(told, key=lambda each: (each.sequence, each.record_type, each.record_id)):
        yield from _events_of_record(session, list(rows))


def _events_of_record(session: Session, rows: list[Change]) -> Iterator[Event]:
    record_type = _named(session, rows[0])
    by_action = {row.action: row for row in reversed(rows)}
    if created := by_action.get(Action.CREATED):
        yield _event(record_type, "created", created)
    updates = [row for row in rows if row.action == Action.UPDATED]
    if updates and not created:
        fields = list(dict.fromkeys(row.field or "" for row in updates))
        yield _event(record_type, "updated", updates[0], fields=fields)
    for row in updates:
        yield from _special(session, record_type, row, updates)
    for action in (Action.DELETED, Action.ERASED):
        if ended := by_action.get(action):
            yield _event(record_type, action.value, ended)


def _named(session: Session, row: Change) -> str:
    """Return the record type that events are named by: a declared one's own name."""
    if row.record_type != CustomRecord.record_type:
        return row.record_type
    record = session.get(CustomRecord, row.record_id)
    return row.record_type if record is None else type_of(session, record.type_id).name


def _special(session: Session, record_type: str, row: Change, updates: Sequence[Change]) -> Iterator[Event]:
    """Yield what an update means beyond being one."""
    match record_type, row.field, row.new:
        case "deal", "stage", _:
            values = {"from": ("stage", row.old), "to": ("stage", row.new)}
            yield _event(record_type, "stage_changed", row, fields=["stage"], values=values)
        case "deal", "status", DealStatus.WON | DealStatus.LOST:
            yield _event(record_type, row.new, row, fields=["status"], values=_closing(session, row, updates))
        case "lead", "status", LeadStatus.CONVERTED:
            links = {each.field: (each.field, each.new) for each in updates if each.field in _LINKS}
            yield _event(record_type, "converted", row, fields=["status"], values=links)


_LINKS: Final = frozenset({"account_id", "contact_id", "deal_id"})


def _closing(session: Session, row: Change, updates: Sequence[Change]) -> dict[str, tuple[str, Any]]:
    """Return what is told of a closed deal: its amount, and why it was lost."""
    deal = session.get(Deal, row.record_id)
    new = {each.field: each.new for each in updates}
    amount = None if deal is None or deal.amount is None else str(deal.amount)
    if new.get("amount") is not None:
        amount = str(new["amount"] / MONEY_SCALE)
    told = {"amount": amount, "currency": None if deal is None else deal.currency}
    if row.new == DealStatus.LOST:
        told["lost_reason"] = new.get("lost_reason")
    return {name: (name, value) for name, value in told.items()}


def _event(
    record_type: str,
    what: str,
    row: Change,
    *,
    fields: Sequence[str] | None = None,
    values: dict[str, tuple[str, Any]] | None = None,
) -> Event:
    return Event(
        id=f"evt_c{row.id}_{what}",
        type=f"{record_type}.{what}",
        at=row.recorded_at,
        data={
            "record_type": record_type,
            "record_id": row.record_id,
            "occurred_at": row.occurred_at.isoformat().replace("+00:00", "Z"),
            "source": row.source,
            "actor_id": row.actor_id,
        },
        record=(record_type, row.record_id),
        fields=fields,
        values=values,
    )


def _moves(after: int, until: int, limit: int) -> Any:  # noqa: ANN401  a select of many columns
    """Ask for predictions with the one before each, of the same task and record."""
    now, earlier, before = aliased(Prediction), aliased(Prediction), aliased(Prediction)
    previous = (
        select(earlier.id)
        .where(
            earlier.record_type == now.record_type,
            earlier.record_id == now.record_id,
            earlier.as_of < now.as_of,
            earlier.task == now.task,
        )
        .order_by(earlier.as_of.desc(), earlier.id.desc())
        .limit(1)
        .scalar_subquery()
    )
    return (
        select(
            now.id,
            now.task,
            now.record_type,
            now.record_id,
            now.as_of,
            now.recorded_at,
            now.model_version,
            now.horizon_days,
            now.probability,
            now.grade,
            now.cause_change_id,
            before.id.label("before_id"),
            before.probability.label("previous_probability"),
            before.grade.label("previous_grade"),
        )
        .join(before, before.id == previous, isouter=True)
        .where(now.id > after, now.id <= until)
        .order_by(now.id)
        .limit(limit)
    )


def _is_told(move: Any, least: float) -> bool:  # noqa: ANN401  a row of `_moves`
    if move.before_id is None:
        return move.cause_change_id is not None  # else everything that a first model scores would be told
    if move.grade != move.previous_grade or (move.probability is None) != (move.previous_probability is None):
        return True
    return move.probability is not None and abs(move.probability - move.previous_probability) >= least


def _event_of_move(move: Any) -> Event:  # noqa: ANN401  a row of `_moves`
    told = {
        "task": ("probability", move.task),
        "probability": ("probability", move.probability),
        "previous_probability": ("previous_probability", move.previous_probability),
        "grade": ("grade", move.grade),
        "previous_grade": ("grade", move.previous_grade),
        "horizon_days": ("probability", move.horizon_days),
        "model_version": ("model_version", move.model_version),
        "as_of": ("scored_at", move.as_of.isoformat().replace("+00:00", "Z")),
        "cause_change_id": ("probability", move.cause_change_id),
    }
    return Event(
        id=f"evt_p{move.id}",
        type="prediction.changed",
        at=move.recorded_at,
        data={"record_type": move.record_type, "record_id": move.record_id},
        record=(move.record_type, move.record_id),
        fields=["probability"],
        values=told,
    )


def _event_of_promotion(promotion: Promotion) -> Event:
    return Event(
        id=f"evt_m{promotion.id}",
        type="model.promoted",
        at=promotion.promoted_at,
        data={
            "task": promotion.task,
            "model_version": promotion.model_version,
            "reason": promotion.reason,
            "actor_id": promotion.actor_id,
        },
    )
