"""What is read for the questions of a cohort: records, their histories, and the events linked to them.

Only rows of the records asked about are read, each table once, with the fields that the feature set needs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from crm_core.arrays import NO_INSTANT, among, as_array, read_arrays
from crm_core.changes import Change
from crm_core.clock import instant
from crm_core.errors import FeatureError, RecordNotFoundError
from crm_core.history import FieldHistory, newest_known, read_histories, resolve_as_of
from crm_core.records import RECORD_TYPES, Record
from crm_core.segments import runs_of
from crm_core.validation import columns_of
from features.declaration import Need, reached
from features.events import AskedEvents, Values, Versions
from features.windows import NEVER, Flags, Ints, visible_from, visible_until

if TYPE_CHECKING:
    from features.cohort import Cohort
    from features.event_features import Events

_BASE = ("id", "occurred_at", "recorded_at", "deleted_at")


class Facts:
    """Everything that a feature set needs to answer the questions of a cohort."""

    def __init__(self, session: Session, cohort: Cohort, needs: Iterable[Need]) -> None:
        self._session = session
        self._record_type = cohort.record_type
        self.as_of = cohort.as_of
        self._fields, self._event_fields = _plan(needs)
        self._records: dict[str | None, AskedRecords] = {}
        self._versions: dict[tuple[str | None, str], Versions] = {}
        self._events: dict[Events, AskedEvents] = {}
        self._ids = cohort.ids
        _check_known(self._record_type, self.records(None), cohort)

    @property
    def session(self) -> Session:
        """Return the session that everything is read from."""
        return self._session

    def records(self, via: str | None) -> AskedRecords:
        """Return the records asked about, or those they name in the field `via` as known at each instant."""
        if via not in self._records:
            ids = self._ids if via is None else self.records(None).values(via)
            model = RECORD_TYPES[reached(self._record_type, via)]
            self._records[via] = AskedRecords(
                self._session, model, ids, self.as_of, sorted(self._fields[via])
            )
        return self._records[via]

    def events(self, events: Events) -> AskedEvents:
        """Return the events of a declared kind that are linked to the records asked about."""
        if events not in self._events:
            versions = self._read_versions(events.via, events.event)
            rows = np.ones(versions.key.size, dtype=np.bool_)
            for field, wanted in events.where:
                rows &= np.isin(versions.columns[field], wanted)
            chosen = versions if rows.all() else versions.take(rows)
            self._events[events] = self.asked(events.via, chosen)
        return self._events[events]

    def changes(self, via: str | None, field: str) -> AskedEvents:
        """Return the changes of a field of the records asked about; columns `new`, and `first` before all."""
        return self.asked(via, _changes(self.records(via).history(field)))

    def asked(self, via: str | None, versions: Versions) -> AskedEvents:
        """Return events that were worked on, in order, beside the questions."""
        return AskedEvents(versions, self.records(via).ids, self.as_of)

    def _read_versions(self, via: str | None, event: str) -> Versions:
        if (via, event) not in self._versions:
            keys = np.unique(self.records(via).ids)
            link = f"{reached(self._record_type, via)}_id"
            fields = sorted(self._event_fields[via, event])
            self._versions[via, event] = read_versions(
                self._session, RECORD_TYPES[event], link, keys[keys != NO_INSTANT], fields
            )
        return self._versions[via, event]


class AskedRecords:
    """Records of one type as they were known, one for each question; `ids[i]` is NO_INSTANT for none."""

    def __init__(
        self, session: Session, model: type[Record], ids: Ints, as_of: Ints, fields: Sequence[str]
    ) -> None:
        self.ids = ids
        self._as_of = as_of
        self._model = model
        present = np.unique(ids)
        present = present[present != NO_INSTANT]
        self._rows = _read_rows(session, model, "id", present, fields)
        self._position = _positions(self._rows["id"], ids)
        self._histories = _read_typed_histories(session, model, fields, present)

    @cached_property
    def found(self) -> Flags:
        """Tell which of the records exist at all."""
        return self._position >= 0

    @cached_property
    def known(self) -> Flags:
        """Tell which of the records were known at their instant; deleted ones still are."""
        return self.found & (visible_from(self.occurred_at, self._base("recorded_at")) <= self._as_of)

    @cached_property
    def occurred_at(self) -> Ints:
        """Return when each record came to exist."""
        return self._base("occurred_at")

    def values(self, field: str) -> Values:
        """Return what a field held, as known: int64 with NO_INSTANT, float64 with NaN, object with None."""
        current = self._rows[field]
        if current.size == 0:
            return _empty_like(current, self.ids.size)
        answer = resolve_as_of(self._histories[field], current[self._position], self.ids, self._as_of)
        answer[~self.known] = _nothing(current)
        return answer

    def changed_at(self, field: str) -> Ints:
        """Return when a field came to hold what it held, as known; NO_INSTANT: since the record exists."""
        history = self._histories[field]
        newest = newest_known(history, self.ids, self._as_of)
        if history.occurred_at.size == 0:
            return np.full(self.ids.size, NO_INSTANT)
        return np.where(newest < 0, NO_INSTANT, history.occurred_at[newest])

    def history(self, field: str) -> FieldHistory:
        """Return all changes of a field of these records, known or not; values typed as `values` has them."""
        return self._histories[field]

    def _base(self, column: str) -> Ints:
        if self._rows["id"].size == 0:
            return np.full(self.ids.size, NO_INSTANT)
        return np.asarray(np.where(self.found, self._rows[column][self._position], NO_INSTANT))


def read_versions(
    session: Session, model: type[Record], link: str, keys: Ints, fields: Sequence[str]
) -> Versions:
    """Return the events of `model` whose field `link` ever named one of `keys`, as they were known, in order.

    `fields` are read as they were known too: a correction starts a new version of the event.
    """
    fields = sorted({*fields, link})
    rows = _read_rows(session, model, link, keys, fields)
    moved = np.setdiff1d(_ever_linked(session, model, link, keys), rows["id"])
    if moved.size:
        more = _read_rows(session, model, "id", moved, fields)
        rows = {name: np.concatenate((column, more[name])) for name, column in rows.items()}
    histories = _read_typed_histories(session, model, fields, np.unique(rows["id"]))
    versions = _split(rows, histories, link)
    return versions.take(np.isin(versions.key, keys)).in_order()


def _plan(
    needs: Iterable[Need],
) -> tuple[dict[str | None, set[str]], dict[tuple[str | None, str], set[str]]]:
    fields: dict[str | None, set[str]] = defaultdict(set)
    events: dict[tuple[str | None, str], set[str]] = defaultdict(set)
    for need in needs:
        if need.via is not None:
            fields[None].add(need.via)
        if need.event is None:
            fields[need.via].update(need.fields)
        else:
            events[need.via, need.event].update(need.fields, need.guards)
    return fields, events


def _check_known(record_type: str, records: AskedRecords, cohort: Cohort) -> None:
    if not records.found.all():
        raise RecordNotFoundError(record_type, int(cohort.ids[~records.found][0]))
    if not records.known.all():
        first = int(np.argmin(records.known))
        when = instant(int(cohort.as_of[first])).isoformat()
        raise FeatureError(
            f"{record_type} {cohort.ids[first]} was not known at {when}: nothing can be asked of it"
        )


def _read_rows(
    session: Session, model: type[Record], by: str, keys: Ints, fields: Sequence[str]
) -> dict[str, Values]:
    """Return the columns of the records whose `by` is one of `keys`, by id; custom fields by their name."""
    columns = columns_of(model)
    plain = [field for field in fields if not field.startswith("custom.")]
    custom = [field for field in fields if field.startswith("custom.")]
    wanted = dict.fromkeys((*_BASE, *plain, *(("custom",) if custom else ())))
    entity: Any = model
    attributes = [getattr(entity, name) for name in wanted]
    rows = read_arrays(session, select(*attributes).where(among(columns[by], keys)).order_by(model.id))
    if custom:
        parsed = rows.pop("custom").tolist()
        for field in custom:
            name = field.removeprefix("custom.")
            rows[field] = _objects([None if values is None else values.get(name) for values in parsed])
    return rows


def _ever_linked(session: Session, model: type[Record], link: str, keys: Ints) -> Ints:
    """Return the records whose `link` changed from or to one of `keys`; with many keys, all that changed."""
    query = select(Change.record_id).where(Change.record_type == model.record_type, Change.field == link)
    if keys.size <= 100:
        named = keys.tolist()
        query = query.where(Change.old.in_(named) | Change.new.in_(named))
    return np.unique(read_arrays(session, query)["record_id"])


def _read_typed_histories(
    session: Session, model: type[Record], fields: Sequence[str], ids: Ints
) -> dict[str, FieldHistory]:
    histories = read_histories(session, model, fields, ids)
    return {
        field: replace(history, old=_typed(model, field, history.old), new=_typed(model, field, history.new))
        for field, history in histories.items()
    }


def _typed(model: type[Record], field: str, stored: Values) -> Values:
    return stored if field.startswith("custom.") else as_array(columns_of(model)[field].type, stored.tolist())


def _changes(history: FieldHistory) -> Versions:
    start, _ = runs_of(history.record_id, history.record_id)
    return Versions(
        key=history.record_id,
        record_id=history.change_id,
        occurred_at=history.occurred_at,
        start=visible_from(history.occurred_at, history.recorded_at),
        stop=np.full(history.record_id.size, NEVER),
        columns={"first": history.old[start], "new": history.new},
    ).in_order()


def _split(rows: Mapping[str, Values], histories: Mapping[str, FieldHistory], link: str) -> Versions:
    """Return one version of each event for every span in which what was known of it stayed the same."""
    start = visible_from(rows["occurred_at"], rows["recorded_at"])
    order = np.argsort(rows["id"], kind="stable")
    rows = {name: column[order] for name, column in rows.items()}
    start = start[order]
    row, since = _spans(rows["id"], start, histories)
    until = np.append(since[1:], NEVER)
    last = np.append(row[1:] != row[:-1], True)
    stop = np.where(last, NEVER, until)
    columns = {name: column[row] for name, column in rows.items()}
    for field, history in histories.items():
        columns[field] = resolve_as_of(history, columns[field], columns["id"], since)
    return Versions(
        key=columns[link],
        record_id=columns["id"],
        occurred_at=columns["occurred_at"],
        start=since,
        stop=np.minimum(stop, visible_until(columns["deleted_at"])),
        columns={name: columns[name] for name in histories},
    )


def _spans(ids: Ints, start: Ints, histories: Mapping[str, FieldHistory]) -> tuple[Ints, Ints]:
    """Return (row, since) of every span: from when each event was known, and from each later change."""
    rows, since = [np.arange(ids.size)], [start]
    for history in histories.values():
        row = np.searchsorted(ids, history.record_id)
        seen = visible_from(history.occurred_at, history.recorded_at)
        later = seen > start[row]
        rows.append(row[later])
        since.append(seen[later])
    row, when = np.concatenate(rows), np.concatenate(since)
    order = np.lexsort((when, row))
    row, when = row[order], when[order]
    new = np.append(True, (row[1:] != row[:-1]) | (when[1:] != when[:-1]))[: row.size]
    return row[new], when[new]


def _positions(sorted_ids: Ints, ids: Ints) -> Ints:
    if sorted_ids.size == 0:
        return np.full(ids.size, -1, dtype=np.int64)
    position = np.minimum(np.searchsorted(sorted_ids, ids), sorted_ids.size - 1)
    return np.where(sorted_ids[position] == ids, position, -1)


def _nothing(column: Values) -> float | int | None:
    return {"i": NO_INSTANT, "f": np.nan}.get(column.dtype.kind)


def _empty_like(column: Values, size: int) -> Values:
    answer = np.empty(size, dtype=column.dtype)
    answer[:] = _nothing(column)
    return answer


def _objects(values: list[Any]) -> Values:
    # One by one: numpy would take lists among them for a dimension.
    return np.fromiter(values, dtype=object, count=len(values))
