"""Records and their changes as arrays: what every feature is computed from, wherever it was read.

A table is worked on once (its events put in order by the records they are linked to, its corrections told
apart) and then asked block by block, so that what a block needs stays in the processor's cache.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from crm_core.history import FieldHistory, resolve_as_of
from features.columns import Columns, Values, Words, kind_of, nothing_in, picked
from features.compiled import loops
from features.events import AskedEvents, Versions
from features.windows import NEVER, Flags, Ints, visible_from, visible_until

if TYPE_CHECKING:
    from features.population import Population


class Table:
    """All that is known of some records of one type: their columns as of now, and all changes of fields.

    Parameters
    ----------
    columns : arrays of one length, by name
        `id`, `occurred_at` and `recorded_at` (int64, microseconds), and fields in stored form: int64 with
        NO_INSTANT for empty, float64 with NaN, object with None, or `Words`. `deleted_at` may be absent where
        nothing was ever deleted. Each record once, in any order.
    histories : FieldHistory by field
        Every change of a field of these records, known or not, with values as the column has them. A field
        without one has never changed.

    Notes
    -----
    What a table works out it keeps; several threads may ask it at once.
    """

    def __init__(
        self, columns: Mapping[str, Values | Words], histories: Mapping[str, FieldHistory] | None = None
    ) -> None:
        self.columns = columns
        self.histories = {
            field: history for field, history in (histories or {}).items() if history.record_id.size
        }
        self._linked: dict[tuple[str, tuple[str, ...]], LinkedEvents] = {}
        self._changes: dict[str, Versions] = {}
        self._by_id: tuple[Ints, Ints | None] | None = None

    @property
    def size(self) -> int:
        """Return the number of records."""
        return int(self.ints("id").size)

    def ints(self, name: str) -> Ints:
        """Return a column of whole numbers."""
        column = self.columns[name]
        if isinstance(column, Words):
            raise TypeError(f"{name} holds words, not whole numbers")
        return column

    @property
    def deleted_at(self) -> Ints | None:
        """Return when each record was deleted; None where none was."""
        return self.ints("deleted_at") if "deleted_at" in self.columns else None

    def rows_of(self, ids: Ints) -> Ints:
        """Return where each record stands, -1 for one that is not here."""
        if self._by_id is None:
            known = self.ints("id")
            order = None if loops().is_ascending(known) else np.argsort(known, kind="stable")
            self._by_id = (known if order is None else known[order], order)
        sorted_ids, order = self._by_id
        place: Ints = loops().positions(sorted_ids, ids)
        return place if order is None or order.size == 0 else np.where(place < 0, -1, order[place])

    def history(self, field: str) -> FieldHistory:
        """Return all changes of a field, known or not."""
        return self.histories.get(field) or _NO_HISTORY

    def changes(self, field: str) -> Versions:
        """Return the changes of a field as events of its record; columns `new`, and `first` before all."""
        if field not in self._changes:
            self._changes[field] = _changes(self.history(field))
        return self._changes[field]

    def linked(self, link: str, fields: tuple[str, ...]) -> LinkedEvents:
        """Return these records as events of those that their field `link` names, with `fields` as known."""
        if (link, fields) not in self._linked:
            self._linked[link, fields] = LinkedEvents.of(self, link, fields)
        return self._linked[link, fields]


PopulationKey = tuple[str, str, str]
"""A record type, one of its fields, and how often each record is asked: see `features.population`."""


class Tables(dict[str, Table]):
    """Tables by record type, and what historical rates are counted from: `Population` by its key."""

    def __init__(self, tables: Mapping[str, Table], populations: Mapping[PopulationKey, Population]) -> None:
        super().__init__(tables)
        self.populations = dict(populations)


@dataclass(frozen=True, kw_only=True, eq=False)
class LinkedEvents:
    """Versions of events (see `Versions`), and which of them concern each record, in order.

    `known_at` is when each was known at the earliest (it may have happened later), `gone_at` from when on it
    is no longer known like this: NO_INSTANT for never, an empty array where none ever went. `unique`, `begin`
    and `order` are as `kernels.group` returns them. Where nothing was corrected, the arrays are the table's.
    """

    key: Ints
    record_id: Ints
    occurred_at: Ints
    known_at: Ints
    gone_at: Ints
    columns: Columns
    unique: Ints
    begin: Ints
    order: Values

    @classmethod
    def of(cls, table: Table, link: str, fields: tuple[str, ...]) -> LinkedEvents:
        """Tell the versions of all events of a table apart and put them in order."""
        columns = {field: _coded(table.columns[field]) for field in fields}
        read = {name: table.histories[name] for name in sorted({*fields, link}) if name in table.histories}
        if read:
            return cls._corrected(table, link, columns, read)
        gone_at = _NOBODY if table.deleted_at is None else table.deleted_at
        known_at = table.ints("recorded_at")
        return cls._grouped(
            table.ints(link), table.ints("id"), table.ints("occurred_at"), known_at, gone_at, Columns(columns)
        )

    @classmethod
    def _corrected(
        cls,
        table: Table,
        link: str,
        columns: Mapping[str, Values | Words],
        read: Mapping[str, FieldHistory],
    ) -> LinkedEvents:
        """Return one version of each event for every span in which what was known of it stayed the same."""
        row, since = _spans(table, read)
        ids = table.ints("id")[row]
        spans: dict[str, Values | Words] = {
            name: column.take(row) if isinstance(column, Words) else column[row]
            for name, column in {**columns, link: table.columns[link]}.items()
        }
        for field, history in read.items():
            spans[field] = _coded(resolve_as_of(history, Columns(spans)[field], ids, since))
        last = np.append(row[1:] != row[:-1], True)[: row.size]
        until = np.where(last, NEVER, np.append(since[1:], NEVER)[: row.size])
        if table.deleted_at is not None:
            until = np.minimum(until, visible_until(table.deleted_at[row]))
        key = np.asarray(spans[link])
        known = Columns({field: spans[field] for field in columns})
        return cls._grouped(key, ids, table.ints("occurred_at")[row], since, until, known)

    @classmethod
    def _grouped(
        cls, key: Ints, record_id: Ints, occurred_at: Ints, known_at: Ints, gone_at: Ints, columns: Columns
    ) -> LinkedEvents:
        unique, begin, order = loops().group(key)
        in_order = loops().is_log(occurred_at, record_id)
        mixed_up = [] if in_order else loops().settle(order, begin, occurred_at, record_id, known_at).tolist()
        for run in mixed_up:
            mixed = order[begin[run] : begin[run + 1]]
            order[begin[run] : begin[run + 1]] = mixed[
                np.lexsort((known_at[mixed], record_id[mixed], occurred_at[mixed]))
            ]
        return cls(
            key=key,
            record_id=record_id,
            occurred_at=occurred_at,
            known_at=known_at,
            gone_at=gone_at,
            columns=columns,
            unique=unique,
            begin=begin,
            order=order,
        )

    def of_records(self, keys: Ints) -> Versions:
        """Return the events that ever concerned one of `keys` (ascending, each once), in order."""
        place, key, record_id, occurred_at, start, stop = loops().events_of(
            self.unique,
            self.begin,
            self.order,
            keys,
            self.record_id,
            self.occurred_at,
            self.known_at,
            self.gone_at,
        )
        return Versions(
            key=key,
            record_id=record_id,
            occurred_at=occurred_at,
            start=start,
            stop=stop,
            columns=Columns(self.columns, place),
        )


class AskedRecords:
    """Records of one type as they were known, one for each question; `ids[i]` is NO_INSTANT for none."""

    def __init__(self, table: Table, ids: Ints, as_of: Ints) -> None:
        self.ids = ids
        self._as_of = as_of
        self._table = table
        self._row = table.rows_of(ids)
        self._born: tuple[Flags, Ints, Ints, Flags, bool] = loops().born(
            self._row, table.ints("occurred_at"), table.ints("recorded_at"), as_of
        )
        self._values: dict[str, Values] = {}
        self._newest: dict[str, Ints] = {}
        self._since: dict[str, Ints] = {}
        self._asked_changes: dict[str, AskedEvents] = {}

    @property
    def found(self) -> Flags:
        """Tell which of the records exist at all."""
        return self._born[0]

    @property
    def occurred_at(self) -> Ints:
        """Return when each record came to exist; NO_INSTANT for none."""
        return self._born[1]

    @property
    def known_from(self) -> Ints:
        """Return the first instant at which each record could be known; NO_INSTANT for none."""
        return self._born[2]

    @property
    def known(self) -> Flags:
        """Tell which of the records were known at their instant; deleted ones still are."""
        return self._born[3]

    @property
    def all_known(self) -> bool:
        """Tell whether all of the records were known at their instant."""
        return self._born[4]

    @cached_property
    def unique(self) -> Ints:
        """Return the ids that are asked about, ascending, each once."""
        ids: Ints = loops().unique(self.ids)
        return ids

    def values(self, field: str) -> Values:
        """Return what a field held, as known: int64 with NO_INSTANT, float64 with NaN, object with None."""
        if field not in self._values:
            self._values[field] = self._known_values(field)
        return self._values[field]

    def changed_at(self, field: str) -> Ints:
        """Return when a field came to hold what it held, as known; NO_INSTANT: since the record exists."""
        happened = self.asked_changes(field).versions.occurred_at
        return picked(happened, self._newest_change(field))

    def held_since(self, field: str) -> Ints:
        """Return since when a field held what it held; NO_INSTANT for a record that was not known."""
        found = self._since.get(field)
        if found is None:
            changed, newest = self.asked_changes(field).versions.occurred_at, self._newest_change(field)
            found = self._since[field] = loops().held_since(changed, newest, self.occurred_at, self.known)
        return found

    def asked_changes(self, field: str) -> AskedEvents:
        """Return the changes of a field beside the questions; columns `new`, and `first` before all."""
        if field not in self._asked_changes:
            self._asked_changes[field] = AskedEvents(self._table.changes(field), self.ids, self._as_of)
        return self._asked_changes[field]

    def history(self, field: str) -> FieldHistory:
        """Return all changes of a field of these records, known or not; values typed as `values` has them."""
        return self._table.history(field)

    def _known_values(self, field: str) -> Values:
        current = self._table.columns[field]
        if current.size == 0:
            return np.full(self.ids.size, nothing_in(current), dtype=kind_of(current))
        answer = current.take(self._row).decode() if isinstance(current, Words) else current[self._row]
        if field in self._table.histories:
            self._replay(field, answer)
        if not self.all_known:
            answer[~self.known] = nothing_in(current)
        return answer

    def _replay(self, field: str, answer: Values) -> None:
        """Put what a field held, as known, where it ever changed."""
        asked, newest = self.asked_changes(field), self._newest_change(field)
        columns = asked.versions.columns
        known = newest >= 0
        if not known.all():
            changed = asked.any_of()
            answer[changed >= 0] = columns["first"][changed[changed >= 0]]
        answer[known] = columns["new"][newest[known]]

    def _newest_change(self, field: str) -> Ints:
        """Return the change of a field that counts at each instant; -1 for none."""
        if field not in self._newest:
            self._newest[field] = self.asked_changes(field).newest()
        return self._newest[field]


def _changes(history: FieldHistory) -> Versions:
    first, start, stop, in_order = loops().changes(
        history.record_id, history.occurred_at, history.recorded_at
    )
    versions = Versions(
        key=history.record_id,
        # Of changes of one instant the one learned last counts; sorting keeps those below as written.
        record_id=history.recorded_at,
        occurred_at=history.occurred_at,
        start=start,
        stop=stop,
        columns={"first": history.old[first], "new": history.new},
    )
    return versions if in_order else versions.in_order()


def _spans(table: Table, histories: Mapping[str, FieldHistory]) -> tuple[Ints, Ints]:
    """Return (row, since) of every span: from when each event was known, and from each later change."""
    start = visible_from(table.ints("occurred_at"), table.ints("recorded_at"))
    rows, since = [np.arange(table.size)], [start]
    for history in histories.values():
        row = table.rows_of(history.record_id)
        seen = visible_from(history.occurred_at, history.recorded_at)
        later = (row >= 0) & (seen > start[row])
        rows.append(row[later])
        since.append(seen[later])
    row, when = np.concatenate(rows), np.concatenate(since)
    order = np.lexsort((when, row))
    row, when = row[order], when[order]
    new = np.append(True, (row[1:] != row[:-1]) | (when[1:] != when[:-1]))[: row.size]
    return row[new], when[new]


def _coded(column: Values | Words) -> Values | Words:
    """Return a column with its words as numbers."""
    return Words.of(column) if not isinstance(column, Words) and column.dtype.kind == "O" else column


_NOBODY = np.empty(0, dtype=np.int64)
_NO_HISTORY = FieldHistory(
    record_id=_NOBODY,
    change_id=_NOBODY,
    occurred_at=_NOBODY,
    recorded_at=_NOBODY,
    old=_NOBODY,
    new=_NOBODY,
)
