"""Many updates in a few statements, with the change rows that updating one by one would leave."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Column, ColumnElement, and_, insert, or_, select, type_coerce, update
from sqlalchemy.orm import Session

from crm_core.changes import Action, Change, Source
from crm_core.columns import Day, Instant, Money
from crm_core.errors import RecordNotFoundError
from crm_core.records import Record
from crm_core.validation import check_order, columns_of, ordered_with

UPDATED_AT_ONCE = 5_000
"""Records that are checked together, and whose state and log are held in memory together."""


@dataclass(frozen=True, kw_only=True)
class Update:
    """New values of some fields of one record; `occurred_at` and `recorded_at` default to now."""

    record_id: int
    values: Mapping[str, Any]
    occurred_at: datetime | None = None
    recorded_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class TimedUpdate:
    """A checked update with both of its instants."""

    record_id: int
    values: Mapping[str, Any]
    occurred_at: datetime
    recorded_at: datetime


@dataclass(frozen=True, kw_only=True)
class LoggedValue:
    """One change of one field, values in stored form."""

    old: Any
    new: Any
    occurred_at: datetime
    recorded_at: datetime
    source: str


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a new fact stands among what was written of the same field.

    `old` is what was known of the field then, `newest` whether the record itself is to hold the fact now.
    """

    old: Any
    newest: bool
    occurred_at: datetime
    recorded_at: datetime


@dataclass(frozen=True, kw_only=True)
class Writer:
    """Who writes."""

    source: str
    actor_id: int | None
    sequence: int
    now: datetime


Log = dict[tuple[int, str], list[LoggedValue]]
"""The changes of each field of each record, in the order in which they were written."""

State = dict[int, dict[str, Any]]
"""The fields of each record in stored form."""


def stored_form(model: type[Record], field: str, value: object) -> object:
    """Return the JSON form of a value in the change log."""
    if field.startswith("custom.") or value is None:
        return value
    column: Column[Any] = columns_of(model)[field]
    if isinstance(column.type, Instant | Day | Money):
        return column.type.process_bind_param(value, None)  # type: ignore[arg-type]  # any dialect
    return value


def loaded_form(model: type[Record], field: str, stored: object) -> object:
    """Return the value of a column that its JSON form in the change log stands for."""
    kind = columns_of(model)[field].type
    if isinstance(kind, Instant | Day | Money):
        return kind.process_result_value(stored, None)  # type: ignore[arg-type]  # any dialect
    return stored


def place_of(
    log: Sequence[LoggedValue], held: object, *, happened: datetime, learned: datetime, now: datetime
) -> Place:
    """Return where a fact stands, given the field's log in the order of writing and what the record holds.

    A fact of `now` comes after all that was written before it. Another writer's clock may be ahead of ours,
    and who waited for a record to be free read the clock before whoever kept it: then it is the log that
    says how late it is.
    """
    if happened == now:
        happened = max((happened, *(each.occurred_at for each in log)))
    if learned == now:
        learned = max((learned, *(each.recorded_at for each in log)))
    newest = all((each.occurred_at, each.recorded_at) <= (happened, learned) for each in log)
    if newest and all(each.recorded_at <= learned for each in log):
        return Place(old=held, newest=True, occurred_at=happened, recorded_at=learned)
    old = _known_at(log, happened, learned)
    return Place(old=old, newest=newest, occurred_at=happened, recorded_at=learned)


def _known_at(log: Sequence[LoggedValue], happened: datetime, learned: datetime) -> object:
    """Return what a field that has changed held at `happened`, by what was known at `learned`."""
    known = [each for each in log if each.occurred_at <= happened and each.recorded_at <= learned]
    if not known:
        return log[0].old
    last = max((each.occurred_at, each.recorded_at) for each in known)
    return next(each.new for each in reversed(known) if (each.occurred_at, each.recorded_at) == last)


def read_state(
    session: Session,
    model: type[Record],
    ids: Collection[int],
    fields: Iterable[str],
    *,
    lock: bool = False,
) -> State:
    """Return what the records hold now; `custom.NAME` is a field too, and `custom` always comes along.

    With `lock`, nobody else changes them until the transaction is over.
    """
    wanted = set(fields)
    columns = columns_of(model)
    names = sorted({"id", "custom"} | {name for name in wanted if name in columns})
    query = select(*(as_stored(columns[name]).label(name) for name in names)).where(columns["id"].in_(ids))
    if lock:
        # In one order for all, so that no two wait for each other. SQLite has one writer anyhow.
        query = query.order_by(columns["id"]).with_for_update()
    rows = [dict(zip(names, row, strict=True)) for row in session.execute(query)]
    for row in rows:
        custom = row["custom"] or {}
        row.update((name, custom.get(name.removeprefix("custom."))) for name in wanted if name not in columns)
    return {row["id"]: row for row in rows}


def as_stored(column: Column[Any]) -> Any:  # noqa: ANN401  any column expression
    """Return what a query selects to get a column's values in their stored form."""
    kind = column.type
    return type_coerce(column, kind.impl_instance) if isinstance(kind, Instant | Day | Money) else column


def read_log(session: Session, model: type[Record], ids: Collection[int]) -> Log:
    """Return the changes of the fields of some records."""
    query = (
        select(Change.record_id, Change.field, *_LOGGED)
        .where(
            Change.record_type == model.record_type,
            Change.record_id.in_(ids),
            Change.action == Action.UPDATED,
        )
        .order_by(Change.id)
    )
    log: Log = defaultdict(list)
    for record_id, field, *logged in session.execute(query):
        log[record_id, field].append(_logged(*logged))
    return log


def read_field_log(session: Session, model: type[Record], record_id: int, field: str) -> list[LoggedValue]:
    """Return the changes of one field of one record, in the order of writing."""
    query = select(*_LOGGED).where(_of_field(model, record_id, field)).order_by(Change.id)
    return [_logged(*row) for row in session.execute(query)]


def is_last(
    session: Session,
    model: type[Record],
    record_id: int,
    field: str,
    *,
    happened: datetime,
    learned: datetime,
) -> bool:
    """Tell whether nothing that was written of a field happened, or was learned, after these instants."""
    later = or_(Change.occurred_at > happened, Change.recorded_at > learned)
    query = select(Change.id).where(_of_field(model, record_id, field), later).limit(1)
    return session.scalar(query) is None


_LOGGED = (Change.old, Change.new, Change.occurred_at, Change.recorded_at, Change.source)


def _logged(
    old: object, new: object, occurred_at: datetime, recorded_at: datetime, source: str
) -> LoggedValue:
    return LoggedValue(old=old, new=new, occurred_at=occurred_at, recorded_at=recorded_at, source=source)


def _of_field(model: type[Record], record_id: int, field: str) -> ColumnElement[bool]:
    return and_(Change.record_type == model.record_type, Change.record_id == record_id, Change.field == field)


def write_updates(
    session: Session, model: type[Record], updates: Sequence[TimedUpdate], writer: Writer
) -> list[int]:
    """Write checked updates, in order; return how many fields each of them changed."""
    session.flush()
    changed: list[int] = []
    for start in range(0, len(updates), UPDATED_AT_ONCE):
        changed += _write_some(session, model, updates[start : start + UPDATED_AT_ONCE], writer)
    refresh_held(session, model, {each.record_id for each in updates})
    return changed


def refresh_held(session: Session, model: type[Record], ids: Collection[int]) -> None:
    """Read again the records that the session holds: they were changed behind its back."""
    for record in list(session.identity_map.values()):
        if isinstance(record, model) and record.id in ids:
            session.refresh(record)


def _write_some(
    session: Session, model: type[Record], updates: Sequence[TimedUpdate], writer: Writer
) -> list[int]:
    ids = {each.record_id for each in updates}
    fields = {field for each in updates for field in each.values}
    state = read_state(session, model, ids, fields | ordered_with(model, fields) | {"version"}, lock=True)
    for record_id in ids - state.keys():
        raise RecordNotFoundError(model.record_type, record_id)
    batch = _Batch(model=model, writer=writer, state=state, log=read_log(session, model, ids))
    changed = [batch.apply(each) for each in updates]
    if batch.changes:
        # Without `render_nulls` every change between a value and none would begin a statement of its own.
        session.execute(insert(Change).execution_options(render_nulls=True), batch.changes)
        for rows in batch.rows_by_fields():
            session.execute(update(model), rows)
    return changed


class _Batch:
    """Updates of one record type, applied in memory."""

    def __init__(self, *, model: type[Record], writer: Writer, state: State, log: Log) -> None:
        self.changes: list[dict[str, Any]] = []
        self._model = model
        self._writer = writer
        self._state = state
        self._log = log
        self._new: dict[int, dict[str, Any]] = defaultdict(dict)

    def apply(self, each: TimedUpdate) -> int:
        """Apply one update; return how many fields it changed."""
        if self._writer.source != Source.IMPORT:  # history arrives as it was, in whatever order
            check_order(self._model, self._with_held(each), changed=each.values)
        count = sum(self._set(each, field, value) for field, value in each.values.items())
        if count:
            state = self._state[each.record_id]
            state["version"] += 1
            self._new[each.record_id]["version"] = state["version"]
        return count

    def _with_held(self, each: TimedUpdate) -> dict[str, Any]:
        """Return what an update sets with what the record holds of the fields that belong with it."""
        state = self._state[each.record_id]
        held = {name: state[name] for name in ordered_with(self._model, each.values)}
        return {name: loaded_form(self._model, name, value) for name, value in held.items()} | dict(
            each.values
        )

    def rows_by_fields(self) -> list[list[dict[str, Any]]]:
        """Return the rows to write, those that set the same columns together."""
        groups: dict[frozenset[str], list[dict[str, Any]]] = defaultdict(list)
        for record_id, values in self._new.items():
            groups[frozenset(values)].append({"id": record_id, **values})
        return list(groups.values())

    def _set(self, each: TimedUpdate, field: str, value: object) -> bool:
        held = self._state[each.record_id][field]
        place = place_of(
            self._log[each.record_id, field],
            held,
            happened=each.occurred_at,
            learned=each.recorded_at,
            now=self._writer.now,
        )
        new = stored_form(self._model, field, value)
        if place.old == new:
            return False
        if place.newest:
            self._write(each.record_id, field, value, new)
        self._append(each.record_id, field, place, new)
        return True

    def _write(self, record_id: int, field: str, value: object, new: object) -> None:
        state = self._state[record_id]
        state[field] = new
        if field.startswith("custom."):
            state["custom"] = {**(state["custom"] or {}), field.removeprefix("custom."): value}
            self._new[record_id]["custom"] = state["custom"]
        else:
            self._new[record_id][field] = value

    def _append(self, record_id: int, field: str, place: Place, new: object) -> None:
        row = {
            "sequence": self._writer.sequence,
            "record_type": self._model.record_type,
            "record_id": record_id,
            "action": Action.UPDATED,
            "field": field,
            "old": place.old,
            "new": new,
            "occurred_at": place.occurred_at,
            "recorded_at": place.recorded_at,
            "source": self._writer.source,
            "actor_id": self._writer.actor_id,
        }
        self.changes.append(row)
        logged = _logged(place.old, new, place.occurred_at, place.recorded_at, self._writer.source)
        self._log[record_id, field].append(logged)
