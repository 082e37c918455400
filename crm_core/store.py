"""The store: transactions in which every write leaves its row in the change log."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import copy
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from sqlalchemy import Engine, func, insert, select, text
from sqlalchemy.orm import Session

from crm_core.arrays import read_only_ahead
from crm_core.bulk import (
    UPDATED_AT_ONCE,
    Place,
    TimedUpdate,
    Update,
    Writer,
    is_last,
    place_of,
    read_field_log,
    stored_form,
    write_updates,
)
from crm_core.changes import Action, Change, Source, next_sequence, set_author
from crm_core.clock import Clock, SystemClock, micros
from crm_core.creating import (
    AT_ONCE,
    Cells,
    Times,
    as_stored,
    rows_of,
    size_of,
    stored_columns,
    turned,
    write_new,
)
from crm_core.database import BUSY_SECONDS, alone, end_reading, one_state, open_engine
from crm_core.declared import Written, check_written, declarations, type_of
from crm_core.errors import (
    DuplicateExternalIdError,
    FutureEventError,
    InvalidValueError,
    RecordNotFoundError,
    StaleRecordError,
    UnknownFieldError,
)
from crm_core.fields import CUSTOM
from crm_core.links import check_no_cycle
from crm_core.phrases import Phrase
from crm_core.recall import count_writes, let_recall, let_recall_while_writing, recall_of, watch_writes
from crm_core.records import SCORE_COLUMNS, Account, CustomRecord, Record, Team
from crm_core.search_index import Indexer, is_searched
from crm_core.turns import Turns
from crm_core.validation import check_order, check_values, columns_of, ordered_with

R = TypeVar("R", bound=Record)

_SKEW = timedelta(seconds=5)
"""How far ahead of ours the clock of somebody who reports an event may be."""

_FIXED = frozenset({"id", "occurred_at", "recorded_at", "version", "deleted_at", "type_id"}) | SCORE_COLUMNS
"""Columns that `update` does not touch."""

_TREES = (Account, Team)
"""Record types whose records may stand below one another; declared ones are checked with their links."""


class Store:
    """A record store in one database."""

    def __init__(self, url: str, *, clock: Clock | None = None) -> None:
        self.url = url
        self.clock = clock or SystemClock()
        self.engine: Engine = open_engine(url)
        self._write_engine = self.engine.execution_options(writes=True)
        watch_writes(self._write_engine)
        self._read_engine = one_state(self.engine)
        self._alone_engine = alone(self.engine)
        self.turns = Turns(patience=BUSY_SECONDS)
        self.recall = recall_of(url)
        self._seen_by: Session | None = None
        self.zone = "UTC"
        """The time zone of working hours where no week was set: that of the pages, as the settings say."""

    def seen_by(self, session: Session) -> Store:
        """Return this store for whoever is to read what a session that reads sees: they share the session."""
        shared = copy(self)
        shared._seen_by = session  # noqa: SLF001  it is one of us
        return shared

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """Give a session that sees one consistent state and writes nothing."""
        if self._seen_by is not None:
            yield self._seen_by
            return
        with Session(self._read_engine, expire_on_commit=False, autoflush=False) as session:
            let_recall(session, self.recall)
            yield session
            end_reading(session)

    @contextmanager
    def glancing(self) -> Iterator[Session]:
        """Give a session for what is read in one go by `read_ahead`, which then is of one consistent state.

        It costs PostgreSQL one round trip. Arrays that were not read ahead are not read any more there:
        NotReadAheadError is raised, and the question has to be asked again in a session that is `reading`.
        """
        if self._alone_engine is None:
            with self.reading() as session:
                yield session
            return
        with Session(self._alone_engine, expire_on_commit=False, autoflush=False) as session:
            let_recall(session, self.recall)
            read_only_ahead(session)
            yield session

    def settled_now(self) -> datetime:
        """Return an instant up to which nobody writes any more, so that the same can be asked again later.

        On SQLite whoever writes has it alone. On PostgreSQL a transaction that is open now may still add
        what it learned before; what it changes is scored again when it ends.
        """
        if self.engine.dialect.name != "sqlite":
            return self.clock.now()
        with self._turn(), self._write_engine.connect() as connection, connection.begin():
            return self.clock.now()

    @contextmanager
    def transaction(
        self, *, source: Source = Source.REP, actor_id: int | None = None, alone: bool = False
    ) -> Iterator[Transaction]:
        """Give a transaction that commits when the block ends and undoes everything when it raises.

        One that is `alone` must write with one statement, which on PostgreSQL is then a transaction by
        itself: beginning and ending one would be two round trips more.
        """
        engine = (self._alone_engine if alone else None) or self._write_engine
        with (
            self._turn(),
            Session(engine, expire_on_commit=False) as session,
            session.begin(),
        ):
            session.connection()  # takes SQLite's write lock now, so that `now` is read inside it
            writing = let_recall_while_writing(session, self.recall)
            transaction = Transaction(session, clock=self.clock, source=source, actor_id=actor_id)
            transaction.zone = self.zone
            yield transaction
            transaction.index.flush()
            count_writes(session, writing)
        if writing.touched:
            self.recall.forget()

    @contextmanager
    def supposing(self, *, source: Source = Source.API, actor_id: int | None = None) -> Iterator[Transaction]:
        """Give a transaction that sees one consistent state, takes no lock and writes nothing.

        Records can be prepared in it, as if they were to be created; whatever else is done in it is undone.
        """
        with self.reading() as session:
            yield Transaction(session, clock=self.clock, source=source, actor_id=actor_id)

    @contextmanager
    def rehearsal(self) -> Iterator[Rehearsal]:
        """Give a store whose transactions see one another and are all undone when the block ends.

        SQLite lets nobody else write meanwhile.
        """
        with self._turn(), Session(self._write_engine, expire_on_commit=False) as session:
            session.connection()
            try:
                yield Rehearsal(session, self.clock, self.zone)
            finally:
                session.rollback()

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()

    def _turn(self) -> AbstractContextManager[None]:
        # PostgreSQL lets many write at once and queues those who want the same row by itself.
        return self.turns.turn() if self.engine.dialect.name == "sqlite" else nullcontext()


class Rehearsal:
    """A store that keeps nothing: what its transactions write is undone in the end."""

    def __init__(self, session: Session, clock: Clock, zone: str = "UTC") -> None:
        self._session = session
        self.clock = clock
        self.zone = zone

    @contextmanager
    def transaction(
        self, *, source: Source = Source.REP, actor_id: int | None = None
    ) -> Iterator[Transaction]:
        """Give a transaction as the store does; one that raises ends the rehearsal."""
        transaction = Transaction(self._session, clock=self.clock, source=source, actor_id=actor_id)
        transaction.zone = self.zone
        yield transaction
        self._session.flush()
        self._session.expunge_all()


class Transaction:
    """One unit of work: records and their change rows are written together or not at all."""

    def __init__(self, session: Session, *, clock: Clock, source: Source, actor_id: int | None) -> None:
        self.session = session
        self.source = source
        if source is not Source.MODEL and session.get_bind().dialect.name == "postgresql":
            # The number first, then the clock: see `crm_core.changes.is_settled`. Models log nothing.
            self._sequence  # noqa: B018  cached
        self.now = clock.now()
        self.actor_id = actor_id
        self.zone = "UTC"
        self.index = Indexer(session)
        self.newest_change: Change | None = None
        set_author(session, self)

    @property
    def sequence(self) -> int:
        """The number that the change log knows this transaction by."""
        return self._sequence

    @cached_property
    def _sequence(self) -> int:
        return next_sequence(self.session)

    def get(self, model: type[R], record_id: int, *, version: int | None = None) -> R:
        """Return a record that is not deleted, locked; with `version`, only if it is still at that one."""
        self.session.flush()  # what is read anew below must not undo what was written here
        record = self.session.get(model, record_id, with_for_update=True, populate_existing=True)
        if record is None or record.deleted_at is not None:
            raise RecordNotFoundError(model.record_type, record_id)
        if version is not None and record.version != version:
            raise StaleRecordError(model.record_type, record_id, version, record.version)
        return record

    def create(self, record: R) -> R:
        """Insert `record`; `occurred_at` and `recorded_at` default to now.

        Raises InvalidValueError, FutureEventError or DuplicateExternalIdError before anything is written.
        """
        self.prepare(record)
        self.session.add(record)
        self.session.flush()
        self._log(record, Action.CREATED, occurred_at=record.occurred_at, recorded_at=record.recorded_at)
        self.index.note(type(record), [record.id])
        return record

    def prepare(self, record: Record) -> None:
        """Check a record that is to be created, and fill in what is not said; nothing is written."""
        model = type(record)
        values = {
            field: value for field in columns_of(model) if (value := getattr(record, field)) is not None
        }
        check_values(model, values)
        record.custom = self._custom_of_new(model, values)
        self._stamp(record)
        if self._names_others(model):
            check_written(self.session, [self._written(model, {**values, "custom": record.custom})])
        check_order(model, {**values, "occurred_at": record.occurred_at})
        self._check_new_external_id(record)

    def create_many(self, model: type[Record], rows: Sequence[Mapping[str, Any]]) -> list[int]:
        """Insert many records in one go and return their ids, in the order of `rows`.

        Each row gives `occurred_at` and may give `recorded_at` (default now). Same checks and the same
        change rows as `create`; a bad row raises and nothing of the call is written once the transaction is
        undone.
        """
        first = self._reserve_ids(model, len(rows)) if rows else 0
        for start in range(0, len(rows), AT_ONCE):
            self._create_some(model, turned(rows[start : start + AT_ONCE]), first + start)
        return list(range(first, first + len(rows)))

    def create_columns(self, model: type[Record], columns: Mapping[str, Cells]) -> npt.NDArray[np.int64]:
        """Insert many records, given as columns of one length, as `create_many` would; return their ids.

        A column is a list of values as `create_many` takes them, None for nothing; or an array as
        `crm_core.arrays.read_arrays` makes it: instants and days in microseconds since 1970, money in
        ten-thousandths, NO_INSTANT or NaN for nothing.
        """
        size = size_of(model, columns)
        first = self._reserve_ids(model, size) if size else 0
        for start in range(0, size, AT_ONCE):
            some = {name: cells[start : start + AT_ONCE] for name, cells in columns.items()}
            self._create_some(model, some, first + start)
        return np.arange(first, first + size)

    def _create_some(self, model: type[Record], columns: Mapping[str, Cells], first: int) -> None:
        times = Times(
            now=micros(self.now), latest=micros(self.now + _SKEW), may_tell=self.source is Source.IMPORT
        )
        stored = stored_columns(model, columns, times) if self._needs_no_custom(model) else None
        if stored is None:
            filled = [self._fill(model, row) for row in rows_of(model, columns)]
            if self._names_others(model):
                check_written(self.session, [self._written(model, row) for row in filled])
            columns = turned(filled)
            stored = as_stored(model, columns)
        size = len(stored["occurred_at"])
        write_new(self.session, model, stored, first, self._writer())
        self.index.add(model, range(first, first + size), columns)

    def update(
        self,
        record: Record,
        values: Mapping[str, Any],
        *,
        occurred_at: datetime | None = None,
        recorded_at: datetime | None = None,
    ) -> list[Change]:
        """Set fields of `record`, one change row for each that really changes; return those rows.

        `occurred_at` is when it became true (default now). A fact older than one already known of the same
        field goes into history and leaves the record as it is. `recorded_at` may be given by imports only.
        A custom field is named `custom.NAME`.
        """
        model = type(record)
        values = self._checked_updates(model, [(record.id, values)])[0]
        if self.source is not Source.IMPORT:  # history arrives as it was, in whatever order
            held = {name: getattr(record, name) for name in ordered_with(model, values)}
            check_order(model, {**held, **values}, changed=values)
        happened = self._past("occurred_at", occurred_at) or self.now
        learned = self._learned(recorded_at)
        changes = [
            change
            for field, value in values.items()
            if (change := self._set(record, field, value, happened, learned)) is not None
        ]
        if changes:
            record.version += 1
            self.session.flush()
        if is_searched(model.record_type, (change.field or "" for change in changes)):
            self.index.note(model, [record.id])
        return changes

    def update_many(self, model: type[Record], updates: Sequence[Update]) -> list[int]:
        """Update records of one type as `update` would, in order; return how many fields each changed."""
        changed: list[int] = []
        for start in range(0, len(updates), UPDATED_AT_ONCE):
            changed += self._update_some(model, updates[start : start + UPDATED_AT_ONCE])
        return changed

    def _update_some(self, model: type[Record], updates: Sequence[Update]) -> list[int]:
        values = self._checked_updates(model, [(each.record_id, each.values) for each in updates])
        timed = [self._timed(each, new) for each, new in zip(updates, values, strict=True)]
        changed = write_updates(self.session, model, timed, self._writer())
        self.index.note(
            model,
            {
                each.record_id
                for each, fields in zip(timed, changed, strict=True)
                if fields and is_searched(model.record_type, each.values)
            },
        )
        return changed

    def delete(self, record: Record) -> None:
        """Mark `record` as deleted; its history stays."""
        record.deleted_at = self.now
        record.version += 1
        self._log(record, Action.DELETED, occurred_at=self.now, recorded_at=self.now)
        self.session.flush()

    def log_declared(
        self,
        declared: str,
        declaration_id: int,
        action: Action,
        *,
        field: str | None = None,
        old: object = None,
        new: object = None,
        at: datetime | None = None,
    ) -> None:
        """Leave a row about a declared field or record type, at `at` or now."""
        old, new = (micros(each) if isinstance(each, datetime) else each for each in (old, new))
        when = at or self.now
        self._log_row(declared, declaration_id, action, when, when, field=field, old=old, new=new)

    def log_personal(self, model: type[Record], ids: Collection[int], action: Action) -> None:
        """Leave a row for each record of which something personal was erased or handed out."""
        common = {
            "sequence": self._sequence,
            "record_type": model.record_type,
            "action": action,
            "occurred_at": self.now,
            "recorded_at": self.now,
            "source": self.source,
            "actor_id": self.actor_id,
        }
        if ids:
            self.session.execute(insert(Change), [{**common, "record_id": each} for each in sorted(ids)])

    def _set(
        self, record: Record, field: str, value: object, happened: datetime, learned: datetime
    ) -> Change | None:
        place = self._place(record, field, happened, learned)
        new = stored_form(type(record), field, value)
        if place.old == new:
            return None
        if place.newest:
            _write(record, field, value)
        change = self._log(
            record,
            Action.UPDATED,
            occurred_at=place.occurred_at,
            recorded_at=place.recorded_at,
            field=field,
            old=place.old,
            new=new,
        )
        self.session.flush()
        return change

    def _place(self, record: Record, field: str, happened: datetime, learned: datetime) -> Place:
        model, held = type(record), stored_form(type(record), field, _read(record, field))
        last = is_last(self.session, model, record.id, field, happened=happened, learned=learned)
        # Mostly it is, and then the log need not be read to know where the fact belongs.
        log = [] if last else read_field_log(self.session, model, record.id, field)
        return place_of(log, held, happened=happened, learned=learned, now=self.now)

    def _timed(self, each: Update, values: Mapping[str, Any]) -> TimedUpdate:
        return TimedUpdate(
            record_id=each.record_id,
            values=values,
            occurred_at=self._past("occurred_at", each.occurred_at) or self.now,
            recorded_at=self._learned(each.recorded_at),
        )

    def _checked_updates(
        self, model: type[Record], updates: Sequence[tuple[int, Mapping[str, Any]]]
    ) -> list[Mapping[str, Any]]:
        """Return the values to write of each record, custom ones in their stored form; raise for bad ones."""
        types = self._types_of(model, [record_id for record_id, _ in updates])
        ready: list[Mapping[str, Any]] = []
        written = []
        for record_id, values in updates:
            record_type = types.get(record_id, model.record_type)
            checked = self._checked_update(model, record_type, values)
            ready.append(checked)
            if self._names_others(model):
                written.append(_as_written(record_type, checked, record_id))
        check_written(self.session, written)
        if model in _TREES and self.source is not Source.IMPORT:  # which refuses such rows one by one
            parents = [(each, values["parent_id"]) for each, values in updates if "parent_id" in values]
            check_no_cycle(self.session, model, parents)
        return ready

    def _checked_update(
        self, model: type[Record], record_type: str, values: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        plain = {field: value for field, value in values.items() if not field.startswith(CUSTOM)}
        for field in plain:
            if field in _FIXED or field == "custom":
                raise UnknownFieldError(model.record_type, field)
        check_values(model, plain)
        if model is CustomRecord:
            declarations(self.session).by_name[record_type].check_links(plain)
        if len(plain) == len(values):
            return values
        custom = {field.removeprefix(CUSTOM): values[field] for field in values.keys() - plain.keys()}
        stored = declarations(self.session).stored(record_type, custom, new=False) or {}
        return {
            field: value if field in plain else stored[field.removeprefix(CUSTOM)]
            for field, value in values.items()
        }

    def _types_of(self, model: type[Record], ids: Collection[int]) -> dict[int, str]:
        """Return the declared type of each record, where records of `model` have one."""
        if model is not CustomRecord:
            return {}
        query = select(CustomRecord.id, CustomRecord.type_id).where(CustomRecord.id.in_(ids))
        found = {key: type_of(self.session, type_id).name for key, type_id in self.session.execute(query)}
        for missing in set(ids) - found.keys():
            raise RecordNotFoundError(model.record_type, missing)
        return found

    def _custom_of_new(self, model: type[Record], row: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the custom values of a record to be created in their stored form; raise for bad ones."""
        record_type = model.record_type
        if model is CustomRecord:
            kind = type_of(self.session, row.get("type_id"))
            if kind.retired:
                raise InvalidValueError("type_id", kind.name, "a record type that is not retired")
            kind.check_links(row)
            record_type = kind.name
        return declarations(self.session).stored(record_type, row.get("custom"), new=True)

    def _names_others(self, model: type[Record]) -> bool:
        """Return whether records may name others that the database itself does not look for."""
        return model is CustomRecord or declarations(self.session).has_references(model.record_type)

    def _written(self, model: type[Record], row: Mapping[str, Any]) -> Written:
        is_custom = model is CustomRecord
        record_type = type_of(self.session, row["type_id"]).name if is_custom else model.record_type
        return Written(record_type=record_type, values=row, custom=row.get("custom") or {})

    def _writer(self) -> Writer:
        return Writer(source=self.source, actor_id=self.actor_id, sequence=self._sequence, now=self.now)

    def _stamp(self, record: Record) -> None:
        record.occurred_at = self._past("occurred_at", record.occurred_at) or self.now
        record.recorded_at = self._learned(record.recorded_at)

    def _past(self, field: str, value: datetime | None) -> datetime | None:
        if value is None:
            return None
        if value > self.now + _SKEW:
            raise FutureEventError(
                field, value.isoformat(), Phrase("an instant up to now ({now})", now=self.now)
            )
        return min(value, self.now)

    def _learned(self, value: datetime | None) -> datetime:
        if value is None:
            return self.now
        if self.source is not Source.IMPORT:
            raise InvalidValueError("recorded_at", value.isoformat(), "nothing: only imports may give it")
        return self._past("recorded_at", value) or self.now

    def _check_new_external_id(self, record: Record) -> None:
        if record.external_id is None:
            return
        model = type(record)
        same = select(model.id).where(model.external_id == record.external_id)
        if isinstance(record, CustomRecord):
            same = same.where(CustomRecord.type_id == record.type_id)
        found = self.session.scalar(same)
        if found is not None:
            raise DuplicateExternalIdError(model.record_type, record.external_id)

    def _reserve_ids(self, model: type[Record], count: int) -> int:
        table = model.__tablename__
        if self.session.get_bind().dialect.name == "postgresql":
            # Moving the sequence under a lock keeps the block contiguous for every other writer.
            self.session.execute(text(f"LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE"))
            sequence = f"pg_get_serial_sequence('{table}', 'id')"
            first = self.session.scalar(text(f"SELECT nextval({sequence})")) or 1
            self.session.execute(text(f"SELECT setval({sequence}, {first + count - 1})"))
            return int(first)
        return (self.session.scalar(select(func.max(model.id))) or 0) + 1

    def _fill(self, model: type[Record], row: Mapping[str, Any]) -> dict[str, Any]:
        check_values(model, row)
        filled = dict(row)
        filled["custom"] = self._custom_of_new(model, row)
        filled["occurred_at"] = self._past("occurred_at", row.get("occurred_at")) or self.now
        filled["recorded_at"] = self._learned(row.get("recorded_at"))
        return filled

    def _needs_no_custom(self, model: type[Record]) -> bool:
        """Tell whether a new record may be without any custom value."""
        if model is CustomRecord:
            return False
        try:
            self._custom_of_new(model, {})
        except InvalidValueError:
            return False
        return True

    def _log(
        self,
        record: Record,
        action: Action,
        *,
        occurred_at: datetime,
        recorded_at: datetime,
        field: str | None = None,
        old: object = None,
        new: object = None,
    ) -> Change:
        return self._log_row(
            record.record_type, record.id, action, occurred_at, recorded_at, field=field, old=old, new=new
        )

    def _log_row(
        self,
        record_type: str,
        record_id: int,
        action: Action,
        occurred_at: datetime,
        recorded_at: datetime,
        *,
        field: str | None,
        old: object,
        new: object,
    ) -> Change:
        change = Change(
            sequence=self._sequence,
            record_type=record_type,
            record_id=record_id,
            action=action,
            field=field,
            old=old,
            new=new,
            occurred_at=occurred_at,
            recorded_at=recorded_at,
            source=self.source,
            actor_id=self.actor_id,
        )
        self.session.add(change)
        self.newest_change = change
        return change


def _as_written(record_type: str, values: Mapping[str, Any], record_id: int) -> Written:
    custom = {field.removeprefix(CUSTOM): each for field, each in values.items() if field.startswith(CUSTOM)}
    return Written(record_type=record_type, values=values, custom=custom, record_id=record_id)


def _read(record: Record, field: str) -> object:
    if field.startswith("custom."):
        return (record.custom or {}).get(field.removeprefix("custom."))
    return getattr(record, field)


def _write(record: Record, field: str, value: object) -> None:
    if field.startswith("custom."):
        # A new dict: SQLAlchemy does not notice a change inside the old one.
        record.custom = {**(record.custom or {}), field.removeprefix("custom."): value}
    else:
        setattr(record, field, value)
