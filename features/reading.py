"""Reading what questions need from the database: each table once, only rows of the records asked about."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache, lru_cache
from typing import Any, NamedTuple

import numpy as np
from sqlalchemy import (
    BigInteger,
    BindParameter,
    ColumnElement,
    ScalarSelect,
    Select,
    Text,
    any_,
    bindparam,
    cast,
    func,
    select,
    type_coerce,
    union_all,
)
from sqlalchemy.orm import Session

from crm_core.arrays import (
    NO_INSTANT,
    ArrayQuery,
    Arrays,
    Keyed,
    are_few,
    as_array,
    keep_ahead,
    keyed,
    keys_of,
    read_ahead,
    read_arrays,
)
from crm_core.changes import Change
from crm_core.history import FieldHistory, changes_in, changes_of, changes_through, read_histories
from crm_core.recall import only_reads
from crm_core.record_types import get_record_type
from crm_core.records import RECORD_TYPES, CustomRecord, Record
from crm_core.validation import columns_of
from features.columns import Values, as_objects
from features.declaration import reached, steps_to
from features.events import Versions
from features.facts import Fields, Plan
from features.supposed import Supposed
from features.tables import Table
from features.windows import Ints

_BASE = ("id", "occurred_at", "recorded_at", "deleted_at")

Rows = dict[str, Values]


def read_tables(
    session: Session, plan: Plan, ids: Ints, supposed: Supposed | None = None
) -> dict[str, Table]:
    """Return what the plan names of these records, of those they lead to, and of events linked to them."""
    reader = _Reader(session, supposed)
    asked: dict[str | None, Ints] = {None: _present(ids)}
    ahead = ids.size <= _ALONE and supposed is None and only_reads(session)
    if ahead:
        read_tables_ahead(session, plan, asked[None])
    reader.read(plan.record_type, plan.fields[None], {"id": asked[None]})
    for level in _levels(plan):  # each step before the next
        for via in level:
            before, field = steps_to(via)[-1]
            asked[via] = _ever_held(reader.tables[reached(plan.record_type, before)], field)
        if ahead:
            _have_ahead(session, plan, asked[None], [(via, asked[via]) for via in level])
        for via in level:
            reader.read(reached(plan.record_type, via), plan.fields[via], {"id": asked[via]})
    for event in sorted({event for _, event in plan.events}):
        vias = [via for via, other in plan.events if other == event]
        fields = tuple(sorted({field for via in vias for field in plan.events[via, event]}))
        reader.read(event, fields, {f"{reached(plan.record_type, via)}_id": asked[via] for via in vias})
    return reader.tables


def _levels(plan: Plan) -> list[list[str]]:
    """Return the ways to other records by how many steps they take, fewest first."""
    vias = sorted(via for via in plan.fields if via is not None)
    return [
        [via for via in vias if via.count(".") == steps] for steps in sorted({via.count(".") for via in vias})
    ]


_ALONE = 8
"""Questions up to which what they need is asked for together, before it is known what is found."""


def read_tables_ahead(
    session: Session,
    plan: Plan,
    ids: Ints,
    also: Sequence[Keyed] = (),
    events: Sequence[EventAhead] = (),
) -> list[Arrays]:
    """Read what `read_tables` will ask of a few records, as far as it is known by now, in one go.

    `session` must be one that only reads. `events` are read besides those of the plan; returned are the
    answers to what is asked `also`. PostgreSQL is also asked what the records lead to, which it finds by
    itself; of SQLite, where going twice costs nothing, that is asked once it is known.
    """
    done: set[tuple[Plan, tuple[int, ...]]] = session.info.setdefault(_DONE, set())
    key = plan, tuple(ids.tolist())
    if key in done and not also:
        return []
    done.add(key)
    through = [via for level in _levels(plan) for via in level] if _finds_by_itself(session) else []
    return _read_level_ahead(session, plan, [(None, ids)], also, events, through)


_DONE = "tables read ahead"


def _finds_by_itself(session: Session) -> bool:
    return session.get_bind().dialect.name == "postgresql"


def _read_level_ahead(
    session: Session,
    plan: Plan,
    ids: Iterable[tuple[str | None, Ints]],
    also: Sequence[Keyed] = (),
    events: Sequence[EventAhead] = (),
    through: Sequence[str] = (),
) -> list[Arrays]:
    """Read the records that are `ids` by the way to them, and the events that are linked to these alone.

    And those at the end of the ways `through`, as far as they are found from the first of them.
    """
    asked, linked = list(also), []
    for via, few in ids:
        keys = few.tolist()
        if len(keys) <= _ALONE:
            record = _record_ahead(reached(plan.record_type, via), plan.fields[via])
            asked += [(record.rows, keys), (record.changes, keys)]
            linked += [(event, keys) for event in (*_events_ahead(plan, via), *events)]
            asked += [(query, keys) for way in through for query in _queries_through(plan, way)]
    at = len(asked)
    for event, keys in linked:
        asked += [(event.rows, keys), (event.moved, [*map(str, keys)]), (event.changes, keys)]
    found = read_ahead(session, asked)
    for place, (event, _) in enumerate(linked):
        rows, changes = found[at + 3 * place], found[at + 3 * place + 2]
        if are_few(rows["id"]):
            keep_ahead(session, event.changes_by_id, rows["id"].tolist(), changes)
    return found[: len(also)]


def _have_ahead(session: Session, plan: Plan, ids: Ints, level: Sequence[tuple[str, Ints]]) -> None:
    """See that what a level's ways lead to is read ahead, now that it is known: `ids` by the way to them."""
    if not _finds_by_itself(session) or ids.size > _ALONE:
        _read_level_ahead(session, plan, level)
        return
    for via, led_to in level:
        _keep_through(session, plan, via, ids.tolist(), led_to.tolist())


def _keep_through(session: Session, plan: Plan, via: str, ids: list[int], led_to: list[int]) -> None:
    """Have what was found from records given to whoever asks for it by its own keys."""
    record = _record_ahead(reached(plan.record_type, via), plan.fields[via])
    through = _record_ahead(reached(plan.record_type, via), plan.fields[via], (plan.record_type, via))
    for own, found in zip(record, through, strict=True):
        keep_ahead(session, own, led_to, read_arrays(session, found, {"keys": ids}))
    for event, linked in zip(_events_ahead(plan, via), _events_ahead(plan, via, through=True), strict=True):
        rows, moved, changes = (
            read_arrays(session, query, {"keys": ids})
            for query in (linked.rows, linked.moved, linked.changes)
        )
        keep_ahead(session, event.rows, led_to, rows)
        keep_ahead(session, event.moved, [*map(str, led_to)], moved)
        if are_few(rows["id"]):
            keep_ahead(session, event.changes_by_id, rows["id"].tolist(), changes)


def _queries_through(plan: Plan, via: str) -> list[ArrayQuery]:
    """Return what is asked of the end of a way, by the records that it begins at."""
    record = _record_ahead(reached(plan.record_type, via), plan.fields[via], (plan.record_type, via))
    events = _events_ahead(plan, via, through=True)
    return [*record, *(query for event in events for query in (event.rows, event.moved, event.changes))]


def is_read_at_once(plan: Plan) -> bool:
    """Tell whether `read_tables_ahead` nearly always reads all that a plan names, on PostgreSQL."""
    types = [reached(plan.record_type, via) for via in plan.fields] + [event for _, event in plan.events]
    return len(set(types)) == len(types) and all(each in RECORD_TYPES for each in types)


class _RecordAhead(NamedTuple):
    """What is asked of the records of a type, by their ids."""

    rows: ArrayQuery
    changes: ArrayQuery


class EventAhead(NamedTuple):
    """What is asked of the events of a type, by the records that they are linked to."""

    rows: ArrayQuery
    moved: ArrayQuery
    changes: ArrayQuery
    changes_by_id: ArrayQuery


Way = tuple[str, str]
"""A record type, and fields by which its records lead to others."""


@cache
def _record_ahead(record_type: str, fields: Fields, way: Way | None = None) -> _RecordAhead:
    """Return what is asked of records by their ids; or by those that lead to them by a way."""
    model, names = RECORD_TYPES[record_type], tuple(sorted(fields))
    if way is None:
        return _RecordAhead(
            rows=_rows_of(model, "id", names, few=True), changes=changes_of(model, names, few=True)
        )
    rows = _rows_where(model, names, _is_led_to(model.id, way))
    changes = changes_in(model, names).where(_is_led_to(Change.record_id, way))
    return _RecordAhead(rows=ArrayQuery(rows), changes=ArrayQuery(changes))


@cache
def event_ahead(event: str, fields: Fields, link: str, way: Way | None = None) -> EventAhead:
    """Return what `read_versions` asks of events, to be read ahead: by their link, or by a way to it."""
    model, names = RECORD_TYPES[event], tuple(sorted({*fields, link}))
    by_id = changes_of(model, names, few=True)
    if way is None:
        return EventAhead(
            rows=_rows_of(model, link, names, few=True),
            moved=_moved(model, link, few=True),
            changes=changes_through(model, names, link),
            changes_by_id=by_id,
        )
    linked = _is_led_to(columns_of(model)[link], way)
    old, new = (_is_led_to(type_coerce(column, Text), way) for column in (Change.old, Change.new))
    changes = changes_in(model, names).where(Change.record_id.in_(select(model.id).where(linked)))
    return EventAhead(
        rows=ArrayQuery(_rows_where(model, names, linked)),
        moved=ArrayQuery(_all_moved(model, link).where(old | new)),
        changes=ArrayQuery(changes),
        changes_by_id=by_id,
    )


def _events_ahead(plan: Plan, via: str | None, *, through: bool = False) -> list[EventAhead]:
    """Return the events that are linked to the records at the end of a way, and in no other way."""
    alone = Counter(event for _, event in plan.events)
    link = f"{reached(plan.record_type, via)}_id"
    way = (plan.record_type, via) if through and via is not None else None
    return [
        event_ahead(event, fields, link, way)
        for (before, event), fields in plan.events.items()
        if before == via and alone[event] == 1 and event in RECORD_TYPES
    ]


def _is_led_to(column: Any, way: Way) -> ColumnElement[bool]:  # noqa: ANN401  any column of ids
    """Return PostgreSQL's condition that a column names one of those that records lead to by a way.

    They are looked up first and then known: a table that is joined would be read whole where the planner
    takes them for many. In JSON ids are written as in a text.
    """
    ids = _led_to(way)
    found = ids if not isinstance(column.type, Text) else _as_texts(ids)
    return column == any_(func.array(found))  # type: ignore[no-any-return]  # SQL


def _as_texts(ids: ScalarSelect[int]) -> ScalarSelect[str]:
    return select(cast(func.unnest(func.array(ids)), Text)).scalar_subquery()


@cache
def _led_to(way: Way) -> ScalarSelect[int]:
    """Return every id that the last field of a way ever held, or came to hold, known or not."""
    before, field = steps_to(way[1])[-1]
    model = RECORD_TYPES[reached(way[0], before)]

    def asked(column: Any) -> ColumnElement[bool]:  # noqa: ANN401  any column of ids
        return keyed(column, few=True) if before is None else _is_led_to(column, (way[0], before))

    changed = (Change.record_type == model.record_type, Change.field == field, asked(Change.record_id))
    texts = (type_coerce(column, Text) for column in (Change.old, Change.new))
    held = [select(columns_of(model)[field]).where(asked(model.id))]
    held += [select(cast(text, BigInteger)).where(*changed) for text in texts]
    return union_all(*held).scalar_subquery()


def read_versions(
    session: Session,
    model: type[Record],
    link: str,
    keys: Ints,
    fields: Sequence[str],
    supposed: Supposed | None = None,
) -> Versions:
    """Return the events of `model` whose field `link` ever named one of `keys`, as they were known, in order.

    `fields` are read as they were known too: a correction starts a new version of the event.
    """
    table = read_table(session, model, tuple(fields), {link: keys})
    if supposed is not None:
        table = supposed.laid_over(model.record_type, table)
    return table.linked(link, (*fields, link)).of_records(_present(keys))


def read_table(
    session: Session,
    model: type[Record],
    fields: Sequence[str],
    by: Mapping[str, Ints],
    only: ColumnElement[bool] | None = None,
) -> Table:
    """Return the records of which a field in `by` (`id`, or a link) ever named one of its keys.

    `only` keeps those of one declared type.
    """
    links = [link for link in by if link != "id"]
    fields = sorted({*fields, *links})
    parts = [_read_rows(session, model, field, keys, fields, only) for field, keys in by.items()]
    rows = _once(parts)
    moved = [found for link in links if (found := _ever_linked(session, model, link, by[link])).size]
    missing = np.setdiff1d(np.concatenate(moved), rows["id"]) if moved else _NOBODY
    if missing.size:
        rows = _once([rows, _read_rows(session, model, "id", missing, fields, only)])
    return Table(rows, _read_typed_histories(session, model, fields, rows["id"]))


class _Reader:
    """The tables read so far; a type that is asked for in two roles becomes one table."""

    def __init__(self, session: Session, supposed: Supposed | None) -> None:
        self.tables: dict[str, Table] = {}
        self._session = session
        self._supposed = supposed
        self._asked: dict[str, tuple[set[str], dict[str, Ints]]] = {}

    def read(self, record_type: str, fields: Fields, by: Mapping[str, Ints]) -> None:
        """Read records of a type, and again those of it that were asked for before."""
        wanted, keys = self._asked.setdefault(record_type, (set(), {}))
        wanted.update(fields)
        for field, named in by.items():
            keys[field] = np.union1d(keys[field], named) if field in keys else np.unique(named)
        model = RECORD_TYPES.get(record_type, CustomRecord)
        only: ColumnElement[bool] | None = None
        if model is CustomRecord:
            only = CustomRecord.type_id == get_record_type(self._session, record_type).id
        table = read_table(self._session, model, tuple(wanted), keys, only)
        if self._supposed is not None:
            table = self._supposed.laid_over(record_type, table)
        self.tables[record_type] = table


_NOBODY = np.empty(0, dtype=np.int64)


def _present(ids: Ints) -> Ints:
    unique = np.unique(ids)
    present: Ints = unique[unique != NO_INSTANT]
    return present


def _ever_held(table: Table, field: str) -> Ints:
    """Return every id that a field held or came to hold, known or not."""
    history = table.history(field)
    return _present(np.concatenate((table.ints(field), np.asarray(history.old), np.asarray(history.new))))


def _once(parts: Sequence[Rows]) -> Rows:
    """Return the rows of all parts, each record once, by id."""
    if len(parts) == 1:
        return parts[0]
    rows = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    _, first = np.unique(rows["id"], return_index=True)
    return {name: column[first] for name, column in rows.items()}


def _read_rows(
    session: Session,
    model: type[Record],
    by: str,
    keys: Ints,
    fields: Sequence[str],
    only: ColumnElement[bool] | None,
) -> dict[str, Values]:
    """Return the columns of the records whose `by` is one of `keys`, by id; custom fields by their name."""
    custom = [field for field in fields if field.startswith("custom.")]
    query = _rows_of(model, by, tuple(fields), few=are_few(keys))
    if only is not None:
        query = ArrayQuery(query.query.where(only))
    rows = read_arrays(session, query, keys_of(keys))
    if custom:
        parsed = rows.pop("custom").tolist()
        for field in custom:
            name = field.removeprefix("custom.")
            rows[field] = as_objects([None if values is None else values.get(name) for values in parsed])
    return rows


@lru_cache(maxsize=200)
def _rows_of(model: type[Record], by: str, fields: tuple[str, ...], *, few: bool) -> ArrayQuery:
    """Return the query of the records whose `by` is among keys; custom fields all together."""
    return ArrayQuery(_rows_where(model, fields, keyed(columns_of(model)[by], few=few)))


def _rows_where(
    model: type[Record], fields: Sequence[str], which: ColumnElement[bool]
) -> Select[*tuple[Any, ...]]:
    plain = [field for field in fields if not field.startswith("custom.")]
    wanted = dict.fromkeys((*_BASE, *plain, *(("custom",) if len(plain) < len(fields) else ())))
    entity: Any = model
    attributes = [getattr(entity, name) for name in wanted]
    return select(*attributes).where(which).order_by(model.id)


def _ever_linked(session: Session, model: type[Record], link: str, keys: Ints) -> Ints:
    """Return the records whose `link` changed from or to one of `keys`; with many keys, all that changed."""
    few = keys.size <= 100
    found = read_arrays(
        session, _moved(model, link, few=few), {"keys": [*map(str, keys.tolist())]} if few else {}
    )
    return np.unique(found["record_id"]) if found["record_id"].size else _NOBODY


@lru_cache(maxsize=200)
def _moved(model: type[Record], link: str, *, few: bool) -> ArrayQuery:
    """Return the query of the records whose `link` changed: from or to few keys, or at all."""
    query = _all_moved(model, link)
    if few:
        old, new = (type_coerce(column, Text) for column in (Change.old, Change.new))
        keys: BindParameter[str] = bindparam("keys", expanding=True)  # as JSON has them
        query = query.where(old.in_(keys) | new.in_(keys))
    return ArrayQuery(query)


def _all_moved(model: type[Record], link: str) -> Select[int]:
    return select(Change.record_id).where(Change.record_type == model.record_type, Change.field == link)


def _read_typed_histories(
    session: Session, model: type[Record], fields: Sequence[str], ids: Ints
) -> dict[str, FieldHistory]:
    histories = read_histories(session, model, fields, ids)
    return {
        field: replace(history, old=_typed(model, field, history.old), new=_typed(model, field, history.new))
        for field, history in histories.items()
        if history.record_id.size
    }


def _typed(model: type[Record], field: str, stored: Values) -> Values:
    return stored if field.startswith("custom.") else as_array(columns_of(model)[field].type, stored.tolist())
