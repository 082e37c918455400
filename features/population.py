"""What became of all records that could have been asked about: what historical rates are counted from.

A record is asked once when it became known, or once whenever a field came to hold another value (`ENTRY`).
Its question counts only if the record was open then, it counts in the group it was in then, and only once its
whole horizon is over, resolved or not: whoever counts resolved records only sees the fast outcomes. An
outcome counts from when it was known. So everything here has an instant from which it may be seen, and what a
question may see is told by that instant alone.

One online record would otherwise cost reading every record of its type. What was read is therefore kept
beside the database it came from, and brought up to date by the change log: only records that changed since
are read again. A session that sees an older state than what is kept, or that writes, reads for itself.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from sqlalchemy import Engine, Pool, Select, select
from sqlalchemy.orm import Session

from crm_core.arrays import NO_INSTANT, ArrayQuery, Arrays, Keyed, among, read_arrays, the_key
from crm_core.changes import Action, Change, LogEnd, log_end, log_end_of, see_log_end
from crm_core.clock import DAY
from crm_core.history import FieldHistory
from crm_core.records import Deal, DealStatus, Lead, LeadStatus
from crm_core.segments import expand_runs, runs_of
from features.compiled import loops
from features.events import Values
from features.facts import Plan
from features.reading import read_table, read_tables
from features.supposed import Supposed
from features.tables import AskedRecords, PopulationKey, Table, Tables
from features.windows import NEVER, Flags, Ints, visible_from, visible_until

RECORD, ENTRY = "record", "entry"
"""A record is asked once in all, or once whenever the field came to hold another value."""

SETTLED = DAY
"""A record's group is what was known of it a day after it became known, so that owners are assigned.

Later values are not used: what a record is moved to after its outcome would tell of the outcome, and who
takes over what others left open would seem to win nothing."""

_NOBODY = -2
"""The code of a value that no record of the population had; -1 is that of having none."""

_TOO_MANY = 5_000
"""Changed records above which everything is read anew."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What may come of records of a type: `status` goes from `open` to `wanted`."""

    model: type[Lead | Deal]
    open: str
    wanted: str
    en: str
    zh: str


OUTCOMES: Mapping[str, Outcome] = {
    "lead": Outcome(model=Lead, open=LeadStatus.OPEN, wanted=LeadStatus.CONVERTED, en="converted", zh="转化"),
    "deal": Outcome(model=Deal, open=DealStatus.OPEN, wanted=DealStatus.WON, en="won", zh="赢单"),
}
"""The outcomes that rates may be counted of; nothing else that is written at an outcome is ever read."""


class Steps:
    """Whole numbers that change at instants, by key; each starts at 0."""

    def __init__(self, key: Ints, time: Ints, step: Ints) -> None:
        real = time != NEVER
        key, time, step = key[real], time[real], step[real]
        order = np.lexsort((time, key))
        self._key, self._time = key[order], time[order]
        self._running = np.append(0, np.cumsum(step[order]))

    def at(self, key: Ints, as_of: Ints) -> Ints:
        """Return what each key has come to by an instant; 0 for a key that never changed."""
        reached: Ints = loops().stepped(self._key, self._time, self._running, key, as_of)
        return reached


@dataclass(frozen=True, kw_only=True, eq=False)
class Counted:
    """The questions of a population seen with one horizon: when each is over, and what is seen of it when.

    `start`, `stop`, `won`: int64[m]; each counts from `start` to before `stop`, as a success from `won`.
    """

    start: Ints
    stop: Ints
    won: Ints
    asked: Steps
    succeeded: Steps
    all_asked: Steps
    all_succeeded: Steps

    def at(self, code: Ints, as_of: Ints) -> tuple[Ints, Ints, Ints, Ints]:
        """Return how many were asked and won in each group, and in all."""
        whole = np.zeros_like(code)
        return (
            self.asked.at(code, as_of),
            self.succeeded.at(code, as_of),
            self.all_asked.at(whole, as_of),
            self.all_succeeded.at(whole, as_of),
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Population:
    """The questions that could have been asked of a record type, sorted by record.

    Attributes
    ----------
    record_id, asked_at, until : int64[m]
        The record, the instant it was asked at, and from when the question does not count any more: the
        record is deleted, or known to have had its outcome before it was asked.
    left_at : int64[m]
        When it was known that the record was in another group or not open any more; NEVER for not yet.
    group : int64[m]
        A code for the value of the field; -1 for none.
    event_record, event_at, event_seen : int64[k]
        Every wanted outcome, sorted by record: of what, when it happened, and when that was known.
    """

    record_id: Ints
    asked_at: Ints
    until: Ints
    left_at: Ints
    group: Ints
    codes: dict[Hashable, int]
    event_record: Ints
    event_at: Ints
    event_seen: Ints
    _counted: dict[tuple[int, int | None], Counted] = field(default_factory=dict)

    def code(self, values: Values) -> Ints:
        """Return the codes of values as the population has them; for one that nobody had, none of them."""
        return np.array([self.codes.get(value, _NOBODY) for value in values.tolist()], dtype=np.int64)

    def counted(self, horizon: int, lookback: int | None) -> Counted:
        """Return when each question with this horizon, if over within the lookback, is seen."""
        if (horizon, lookback) not in self._counted:
            self._counted[horizon, lookback] = self._count(horizon, lookback)
        return self._counted[horizon, lookback]

    def _count(self, horizon: int, lookback: int | None) -> Counted:
        start = self.asked_at + horizon
        stop = self.until if lookback is None else np.minimum(self.until, start + lookback)
        stop = np.maximum(start, stop)
        won = np.maximum(start, self._won_seen(horizon))
        won = np.where(won < stop, won, NEVER)
        lost_sight = np.where(won == NEVER, NEVER, stop)
        whole = np.zeros_like(self.group)
        both, plus = np.concatenate((start, stop)), np.ones(start.size, dtype=np.int64)
        wins, step = np.concatenate((won, lost_sight)), np.concatenate((plus, -plus))
        keys = np.concatenate((self.group, self.group))
        return Counted(
            start=start,
            stop=stop,
            won=won,
            asked=Steps(keys, both, step),
            succeeded=Steps(keys, wins, step),
            all_asked=Steps(np.concatenate((whole, whole)), both, step),
            all_succeeded=Steps(np.concatenate((whole, whole)), wins, step),
        )

    def _won_seen(self, horizon: int) -> Ints:
        """Return when it was first known of each question that the outcome came within its horizon."""
        row, event = expand_runs(*runs_of(self.event_record, self.record_id))
        after, happened = self.asked_at[row], self.event_at[event]
        within = (happened > after) & (happened <= after + horizon)
        seen = np.full(self.record_id.size, NEVER)
        np.minimum.at(seen, row[within], self.event_seen[event[within]])
        return seen


@dataclass(frozen=True, kw_only=True, eq=False)
class _Rows:
    """A population before its groups are coded."""

    record_id: Ints
    asked_at: Ints
    until: Ints
    left_at: Ints
    value: Values
    event_record: Ints
    event_at: Ints
    event_seen: Ints

    def without(self, ids: Ints) -> _Rows:
        kept = ~np.isin(self.record_id, ids)
        events = ~np.isin(self.event_record, ids)
        return self._take(np.flatnonzero(kept), np.flatnonzero(events))

    def joined(self, other: _Rows) -> _Rows:
        both = _Rows(
            **{name: np.concatenate((mine, getattr(other, name))) for name, mine in vars(self).items()}
        )
        return both.in_order()

    def in_order(self) -> _Rows:
        rows = np.lexsort((self.asked_at, self.record_id))
        return self._take(rows, np.lexsort((self.event_at, self.event_record)))

    def where(self, asked: Flags) -> _Rows:
        return self._take(np.flatnonzero(asked), np.arange(self.event_record.size))

    def _take(self, rows: Ints, events: Ints) -> _Rows:
        return _Rows(
            record_id=self.record_id[rows],
            asked_at=self.asked_at[rows],
            until=self.until[rows],
            left_at=self.left_at[rows],
            value=self.value[rows],
            event_record=self.event_record[events],
            event_at=self.event_at[events],
            event_seen=self.event_seen[events],
        )

    def coded(self) -> Population:
        codes: dict[Hashable, int] = {}
        nothing = {None, "", NO_INSTANT}
        found = (
            -1 if value in nothing else codes.setdefault(value, len(codes)) for value in self.value.tolist()
        )
        group = np.fromiter(found, dtype=np.int64, count=self.value.size)
        columns = {name: values for name, values in vars(self).items() if name != "value"}
        return Population(group=group, codes=codes, **columns)


def _covers(seen: LogEnd, other: LogEnd) -> bool:
    """Tell whether a session that sees `seen` sees everything in the log that the other one saw."""
    hidden = (number for number in seen.running if number <= other.newest)
    return other.newest < seen.limit and all(number in other.running for number in hidden)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Kept:
    """What was read by a session that saw `log`."""

    log: LogEnd
    rows: _Rows
    population: Population


_KEPT: WeakKeyDictionary[Pool, dict[PopulationKey, _Kept]] = WeakKeyDictionary()
"""What was read, by the connections that all engines of a store have in common."""


def read_all(session: Session, plan: Plan, ids: Ints, supposed: Supposed | None = None) -> Tables:
    """Return everything that a plan names for these records, other records' outcomes included.

    What is supposed to exist has had no outcome, and counts for nobody else.
    """
    populations = {key: population_of(session, *key) for key in plan.populations}
    return Tables(read_tables(session, plan, ids, supposed), populations)


def population_of(session: Session, record: str, by: str, each: str) -> Population:
    """Return everything that could have been asked of a record type, by what its field `by` held then."""
    engine = session.get_bind()
    key = (record, by, each)
    if not isinstance(engine, Engine) or engine.get_execution_options().get("writes"):
        return _read(session, key).coded()
    log = _log_end(session)
    kept = _kept_for(session).get(key)
    if kept is not None and not _covers(log, kept.log):
        return _read(session, key).coded()
    # What is kept is never changed, only replaced: others may be reading it.
    fresh = _begin(session, key, log) if kept is None else _brought_up_to(session, key, kept, log)
    _KEPT[engine.pool][key] = fresh
    return fresh.population


def populations_ahead(session: Session, plan: Plan) -> list[Keyed]:
    """Return what `population_of` will ask of PostgreSQL to bring up to date what is kept.

    Which records changed is not yet known: they have to be read afterwards.
    """
    if not plan.populations or session.get_bind().dialect.name != "postgresql":
        return []
    kept = _kept_for(session)
    since = {kept[key].log.settled for key in plan.populations if key in kept}
    return [(_LOG_END, _ANY), *((_CHANGED_FIRST, [each]) for each in sorted(since))]


def _kept_for(session: Session) -> Mapping[PopulationKey, _Kept]:
    """Return what is kept; to one session it stays the same, so that it can be asked about beforehand."""
    if _Kept not in session.info:
        session.info[_Kept] = dict(_KEPT.setdefault(session.get_bind().engine.pool, {}))
    found: Mapping[PopulationKey, _Kept] = session.info[_Kept]
    return found


_LOG_END = ArrayQuery(log_end())
_ANY = (0,)
"""What a query is asked with that takes no notice of it."""


def _log_end(session: Session) -> LogEnd:
    """Return it; a session that only reads sees one state, so that it is asked for once."""
    if LogEnd not in session.info:
        session.info[LogEnd] = _see_log_end(session)
    found: LogEnd = session.info[LogEnd]
    return found


def _see_log_end(session: Session) -> LogEnd:
    if session.get_bind().dialect.name != "postgresql":
        return see_log_end(session)
    (newest,), (settled,), (snapshot,), (added,) = (
        column.tolist() for column in read_arrays(session, _LOG_END, {"keys": _ANY}).values()
    )
    return log_end_of(newest, settled, snapshot, added)


def _begin(session: Session, key: PopulationKey, log: LogEnd) -> _Kept:
    rows = _read(session, key)
    return _Kept(log=log, rows=rows, population=rows.coded())


def _brought_up_to(session: Session, key: PopulationKey, kept: _Kept, log: LogEnd) -> _Kept:
    if kept.log.settled == log.newest:
        return kept
    changed = _changed_since(session, key, kept.log.settled)
    if changed.size > _TOO_MANY:
        return _begin(session, key, log)
    if changed.size == 0:
        return replace(kept, log=log)
    rows = kept.rows.without(changed).joined(_read(session, key, changed))
    return _Kept(log=log, rows=rows, population=rows.coded())


def _changed_since(session: Session, key: PopulationKey, sequence: int) -> Ints:
    """Return the records of whose population rows something was written, settled or not."""
    record, by, _ = key
    rows = read_arrays(session, _CHANGED_FIRST, {"keys": [sequence]})
    if rows["record_id"].size == _READ_FIRST:
        rows = read_arrays(session, _CHANGED, {"keys": [sequence]})
    matters = (rows["action"] != Action.UPDATED.value) | np.isin(rows["field"].astype(str), (by, "status"))
    return np.unique(rows["record_id"][(rows["record_type"] == record) & matters])


_READ_FIRST = 1_000
"""Changes that are read before it is known whether there are more."""

# Told apart afterwards: with more conditions SQLite takes an index by record type and walks all of it.
_SINCE: Select[*tuple[Any, ...]] = select(
    Change.record_type, Change.record_id, Change.action, Change.field
).where(Change.sequence > the_key())
_CHANGED = ArrayQuery(_SINCE)
_CHANGED_FIRST = ArrayQuery(_SINCE.order_by(Change.sequence, Change.id).limit(_READ_FIRST))


def _read(session: Session, key: PopulationKey, ids: Ints | None = None) -> _Rows:
    record, by, each = key
    model, wanted = OUTCOMES[record].model, OUTCOMES[record].wanted
    base = _base(session, model, ids)
    table = read_table(session, model, (by, "status"), {"id": base["id"]})
    known_from = visible_from(base["occurred_at"], base["recorded_at"])
    row, asked_at = np.arange(known_from.size), known_from
    if each == ENTRY:
        row, asked_at = _entries(table, base["id"], known_from, by)
    record_id = base["id"][row]
    status = AskedRecords(table, record_id, asked_at)
    told_at = asked_at if each == ENTRY else asked_at + SETTLED
    value = AskedRecords(table, record_id, told_at).values(by)
    history = status.history("status")
    event = _equal(history.new, wanted)
    rows = _Rows(
        record_id=record_id,
        asked_at=asked_at,
        until=visible_until(base["deleted_at"])[row],
        left_at=_left_at(record_id, asked_at, history, OUTCOMES[record].open),
        value=value,
        event_record=history.record_id[event],
        event_at=history.occurred_at[event],
        event_seen=visible_from(history.occurred_at, history.recorded_at)[event],
    )
    return _without_void(rows.where(_equal(status.values("status"), OUTCOMES[record].open)).in_order())


def _left_at(record_id: Ints, asked_at: Ints, status: FieldHistory, open_status: str) -> Ints:
    """Return when the next question of the same record was asked, or it was known as closed."""
    left = np.full(record_id.size, NEVER)
    same = np.flatnonzero(record_id[1:] == record_id[:-1])
    left[same] = asked_at[same + 1]
    closing = ~_equal(status.new, open_status)
    seen = visible_from(status.occurred_at, status.recorded_at)[closing]
    row, change = expand_runs(*runs_of(status.record_id[closing], record_id))
    after = seen[change] > asked_at[row]
    np.minimum.at(left, row[after], seen[change[after]])
    return left


def _base(session: Session, model: type[Lead | Deal], ids: Ints | None) -> Arrays:
    query = select(model.id, model.occurred_at, model.recorded_at, model.deleted_at).order_by(model.id)
    if ids is None:
        return read_arrays(session, query)
    rows = read_arrays(session, query.where(among(model.id, ids)))
    asked = np.isin(rows["id"], ids)
    return {name: column[asked] for name, column in rows.items()}


def _entries(table: Table, ids: Ints, known_from: Ints, by: str) -> tuple[Ints, Ints]:
    """Return (row, instant) of when each record was known, and of when another value of `by` was."""
    history = table.history(by)
    changed = np.searchsorted(ids, history.record_id)
    seen = visible_from(history.occurred_at, history.recorded_at)
    later = seen > known_from[changed]
    row = np.concatenate((np.arange(ids.size), changed[later]))
    instant = np.concatenate((known_from, seen[later]))
    if row.size:
        # Copied, as what numpy gives has gaps: the loops would be compiled anew for such arrays.
        row, instant = np.unique(np.stack((row, instant)), axis=1).copy()
    value = AskedRecords(table, ids[row], instant).values(by)
    same = np.append(False, (row[1:] == row[:-1]) & (value[1:] == value[:-1]))[: row.size]
    return row[~same], instant[~same]


def _without_void(rows: _Rows) -> _Rows:
    """Let questions that were asked after their outcome count only until that was known."""
    row, event = expand_runs(*runs_of(rows.event_record, rows.record_id))
    before = rows.event_at[event] <= rows.asked_at[row]
    unknown = before & (rows.event_seen[event] > rows.asked_at[row])
    until = rows.until.copy()
    np.minimum.at(until, row[unknown], rows.event_seen[event[unknown]])
    columns: dict[str, Any] = {**vars(rows), "until": until}
    return _Rows(**columns)


def _equal(values: Values, word: str) -> Flags:
    return np.fromiter((value == word for value in values.tolist()), dtype=np.bool_, count=values.size)
