"""What a field held, as it was known at an instant, read from the change log.

How facts stand to one another:

- Known at an instant is what was recorded by then and had happened by then. Among the facts of a field that
  are known, the one that happened last counts; of those that happened together the one learned last (a
  correction names the same instant and another value); of those learned together the one written last.
- What a record was created with counts as older than every fact, whatever instant a fact names: who adds a
  late one means to say something about the record.
- No news is no fact: a write that says what was known already, at the instant it names, leaves no row, and so
  does not stand against a later fact that names an instant just before.
- A record is known from when it was recorded and had happened, until it is deleted. Deleted is for good; the
  values of its fields can still be asked for, as questions of the time before it was deleted are.
- A merge is a set of facts of the moment of merging: what pointed at the record that goes points at the one
  that stays, and the one that stays holds what it lacked. Before it there are two records, each with its own
  values; after it the one that goes is deleted, its last fact `merged_into_id`. Facts stay with the record
  they were told of, so that the history of both is kept apart; who learns something of the one that went
  tells it to `crm_core.merging.find_survivor`.
- A conversion is facts of the lead (its status, when, and what became of it) and the creation of other
  records, which hold what the lead held when it was written. Handing over is a fact of each record's owner.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import Select, Text, select, type_coerce
from sqlalchemy.orm import Session

from crm_core.arrays import ArrayQuery, Arrays, among, are_few, keyed, keys_of, read_arrays
from crm_core.bulk import as_stored
from crm_core.changes import Action, Change
from crm_core.clock import micros
from crm_core.errors import UnknownFieldError
from crm_core.records import SCORE_COLUMNS, Record
from crm_core.segments import end_within, runs_of
from crm_core.validation import columns_of

Ints = npt.NDArray[np.int64]
Objects = npt.NDArray[np.object_]
Values = npt.NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class FieldHistory:
    """All changes of one field of one record type, sorted by record and then by the order of being written.

    `record_id`, `change_id`, `occurred_at`, `recorded_at`: int64[n], instants in microseconds.
    `old`, `new`: object[n], decoded values in their stored form (see `crm_core.changes`).
    """

    record_id: Ints
    change_id: Ints
    occurred_at: Ints
    recorded_at: Ints
    old: Values
    new: Values


def read_field_history(session: Session, model: type[Record], field: str) -> FieldHistory:
    """Return every change of `field` (a column, or `custom.NAME`); its cost is that of the changes."""
    return read_histories(session, model, [field])[field]


def read_histories(
    session: Session, model: type[Record], fields: Sequence[str], ids: Ints | None = None
) -> dict[str, FieldHistory]:
    """Return every change of each of `fields`, in one query; with `ids`, those of these records only."""
    query = changes_of(model, tuple(fields), few=None if ids is None else are_few(ids))
    columns = read_arrays(session, query, {} if ids is None else keys_of(ids))
    if ids is not None and not are_few(ids):
        asked = np.isin(columns["record_id"], ids)
        columns = {name: column[asked] for name, column in columns.items()}
    changed = set(columns["field"].tolist())
    return {
        field: _history(columns, columns["field"] == field) if field in changed else _NO_CHANGES
        for field in fields
    }


@lru_cache(maxsize=200)
def changes_of(model: type[Record], fields: tuple[str, ...], *, few: bool | None) -> ArrayQuery:
    """Return the query that `read_histories` asks: of all records, of those listed, or of a range."""
    query = changes_in(model, fields)
    if few is not None:
        query = query.where(keyed(Change.record_id, few=few))
    return ArrayQuery(query)


@lru_cache(maxsize=200)
def changes_through(model: type[Record], fields: tuple[str, ...], link: str) -> ArrayQuery:
    """Return the query of the same changes of the records whose `link` names one of few keys."""
    named = select(model.id).where(keyed(columns_of(model)[link], few=True))
    return ArrayQuery(changes_in(model, fields).where(Change.record_id.in_(named)))


def changes_in(model: type[Record], fields: tuple[str, ...]) -> Select[*tuple[Any, ...]]:
    """Return the query of all changes of fields of a record type."""
    for field in fields:
        _check_field(model, field)
    query = select(
        Change.field,
        Change.record_id,
        Change.id.label("change_id"),
        Change.occurred_at,
        Change.recorded_at,
        type_coerce(Change.old, Text).label("old"),
        type_coerce(Change.new, Text).label("new"),
    ).where(Change.record_type == model.record_type, Change.field.in_(fields))
    return query.order_by(Change.field, Change.record_id, Change.id)


_NOTHING = np.empty(0, dtype=np.int64)
_NO_VALUES = np.empty(0, dtype=object)
_NO_CHANGES = FieldHistory(
    record_id=_NOTHING,
    change_id=_NOTHING,
    occurred_at=_NOTHING,
    recorded_at=_NOTHING,
    old=_NO_VALUES,
    new=_NO_VALUES,
)


def _history(columns: Arrays, rows: npt.NDArray[np.bool_]) -> FieldHistory:
    return FieldHistory(
        record_id=columns["record_id"][rows],
        change_id=columns["change_id"][rows],
        occurred_at=columns["occurred_at"][rows],
        recorded_at=columns["recorded_at"][rows],
        old=_decoded(columns["old"][rows]),
        new=_decoded(columns["new"][rows]),
    )


def values_as_of(session: Session, model: type[Record], field: str, ids: Ints, as_of: Ints) -> Objects:
    """Return what `field` of each record held, as known at each instant.

    Parameters
    ----------
    ids, as_of : int64[n]
        The questions: a record's id, and microseconds since 1970. A record may be asked many times.

    Returns
    -------
    object[n]
        The stored form of the value (ints for instants, days and money; str; float; bool), None where it
        was empty.

    Notes
    -----
    Time rule: among changes with recorded_at <= as_of and occurred_at <= as_of, the one that occurred last
    counts; of those that occurred together the one recorded last; of those the one written last. Without
    any, the value before the first change written. Whether the record itself was known at `as_of` is for
    the caller to ask.

    The cost is that of the records asked for and of the changes of this field of theirs.
    """
    history = read_histories(session, model, [field], ids)[field]
    return resolve_as_of(history, current_values(session, model, field, ids), ids, as_of)


def current_values(session: Session, model: type[Record], field: str, ids: Ints) -> Objects:
    """Return what `field` of each record holds now, in its stored form; None for an unknown record."""
    _check_field(model, field)
    return _held(session, model, [field], ids)[field]


def _held(session: Session, model: type[Record], fields: Sequence[str], ids: Ints) -> dict[str, Objects]:
    """Return what each field of the records holds now, in its stored form; None for an unknown record."""
    columns = columns_of(model)
    plain = [field for field in fields if field in columns]
    custom = [field for field in fields if field not in columns]
    wanted = dict.fromkeys(("id", *plain, *(("custom",) if custom else ())))
    query = select(*(as_stored(columns[name]) for name in wanted)).where(among(columns["id"], np.unique(ids)))
    found = {row[0]: dict(zip(wanted, row, strict=True)) for row in session.connection().execute(query)}
    for row in found.values():
        values = row.get("custom") or {}
        row.update((field, values.get(field.removeprefix("custom."))) for field in custom)
    rows = [found.get(record_id, {}) for record_id in ids.tolist()]
    return {field: _objects([row.get(field) for row in rows]) for field in fields}


def newest_known(history: FieldHistory, ids: Ints, as_of: Ints) -> Ints:
    """Return the change that decides what each record's field held, as known at each instant.

    Parameters
    ----------
    ids, as_of : int64[n]
        The questions: a record's id, and microseconds since 1970. A record may be asked many times.

    Returns
    -------
    int64[n]
        Positions in `history`; -1 where no change was known. Time rule: that of `values_as_of`.
    """
    if history.record_id.size == 0:
        return np.full(ids.size, -1, dtype=np.int64)
    by_age = np.lexsort((history.change_id, history.recorded_at, history.occurred_at, history.record_id))
    rank = np.empty_like(by_age)
    rank[by_age] = np.arange(by_age.size)
    visible = np.maximum(history.occurred_at, history.recorded_at)
    by_sight = np.lexsort((visible, history.record_id))
    # Ranks grow with the record first, so a running maximum never looks into the record before.
    newest = by_age[np.maximum.accumulate(rank[by_sight])]
    start, stop = runs_of(history.record_id, ids)
    end = end_within(visible[by_sight], start, stop, as_of)
    return np.where(end > start, newest[end - 1], -1)


def resolve_as_of(history: FieldHistory, current: Values, ids: Ints, as_of: Ints) -> Values:
    """Answer `values_as_of` from arrays that were read before; `history` and `current` hold values alike."""
    result = current.copy()
    start, stop = runs_of(history.record_id, ids)
    changed = stop > start
    result[changed] = history.old[start[changed]]
    newest = newest_known(history, ids, as_of)
    known = newest >= 0
    result[known] = history.new[newest[known]]
    return result


def state_as_of(session: Session, model: type[Record], record_id: int, at: datetime) -> dict[str, Any] | None:
    """Return every field of one record as known at `at`, in stored form; None if it was not known then.

    Columns that models write are left out: they are kept in `predictions`.
    """
    return states_as_of(session, model, np.array([record_id]), np.array([micros(at)]))[0]


def states_as_of(
    session: Session, model: type[Record], ids: Ints, as_of: Ints
) -> list[dict[str, Any] | None]:
    """Return the state of each record as known at each instant.

    Parameters
    ----------
    ids, as_of : int64[n]
        The questions: a record's id, and microseconds since 1970. A record may be asked many times.

    Returns
    -------
    list of n states
        Every field by name, in stored form, without what models write; None where the record was unknown
        (not recorded or not begun yet, deleted, or no such record). Time rule: that of `values_as_of`.
    """
    custom = _custom_names(session, model, np.unique(ids))
    fields = [name for name in columns_of(model) if name not in _NOT_STATE] + sorted(
        set().union(*custom.values())
    )
    held = _held(session, model, [*fields, "deleted_at"], ids)
    deleted_at = held.pop("deleted_at")
    histories = read_histories(session, model, fields, np.unique(ids))
    columns = {field: resolve_as_of(histories[field], held[field], ids, as_of) for field in fields}
    begun = zip(held["occurred_at"], held["recorded_at"], deleted_at, as_of.tolist(), strict=True)
    known = [_is_known(*each) for each in begun]
    left_out = [set(fields) - columns_of(model).keys() - custom.get(each, set()) for each in ids.tolist()]
    return [
        {field: columns[field][row] for field in fields if field not in left_out[row]} if known[row] else None
        for row in range(ids.size)
    ]


_NOT_STATE = SCORE_COLUMNS | {"custom", "version", "deleted_at"}


def _is_known(occurred_at: int | None, recorded_at: int | None, deleted_at: int | None, as_of: int) -> bool:
    if occurred_at is None or recorded_at is None or max(occurred_at, recorded_at) > as_of:
        return False
    return deleted_at is None or as_of < deleted_at


def _custom_names(session: Session, model: type[Record], ids: Ints) -> dict[int, set[str]]:
    """Return by record the custom fields that it holds or ever held, as `custom.NAME`."""
    names: dict[int, set[str]] = defaultdict(set)
    held = select(model.id, model.custom).where(among(model.id, ids), model.custom.is_not(None))
    for record_id, custom in session.execute(held):
        names[record_id].update(f"custom.{name}" for name in custom)
    logged = select(Change.record_id, Change.field).distinct()
    for record_id, field in session.execute(
        logged.where(
            Change.record_type == model.record_type,
            among(Change.record_id, ids),
            Change.action == Action.UPDATED,
            Change.field.startswith("custom."),
        )
    ):
        names[record_id].add(field or "")
    return names


def _check_field(model: type[Record], field: str) -> None:
    if not field.startswith("custom.") and field not in columns_of(model):
        raise UnknownFieldError(model.record_type, field)


def _decoded(texts: Objects) -> Objects:
    # Few different values are written over and over: each is parsed once.
    parsed = {text: None if text is None else json.loads(text) for text in set(texts.tolist())}
    return _objects([parsed[text] for text in texts.tolist()])


def _objects(values: list[Any]) -> Objects:
    # One by one: numpy would take lists among them for a dimension.
    return np.fromiter(values, dtype=object, count=len(values))
