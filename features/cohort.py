"""Who is asked about, and when: only questions that could really have been asked at the time.

A record is asked about from when it was known until it was known as closed or deleted, and never from a
future instant. Who asks not to be scored is not asked about at any instant, not even before they asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt
from sqlalchemy import exists, select
from sqlalchemy.orm import Session

from crm_core.arrays import NO_INSTANT, read_arrays
from crm_core.clock import DAY, micros
from crm_core.errors import FeatureError
from crm_core.history import FieldHistory, read_field_history, resolve_as_of
from crm_core.opting_out import list_opted_out
from crm_core.records import Account, Contract, Deal, DealStatus, Lead, LeadStatus, Order
from crm_core.segments import expand_runs
from crm_core.store import Store
from features.contracts import RUNNING_FIELDS, running
from features.endings import UNDATED, read_endings
from features.events import AskedEvents, Versions
from features.reading import read_versions
from features.windows import NEVER, Flags, Ints, visible_from, visible_until

WEEK = 7 * DAY
_MONDAY = 4 * DAY
"""1970-01-05, the first Monday after 1970 began."""

ACTIVE_DAYS = 90
"""A customer who has not ordered for so long has gone already, and is not asked about.

With it, no sale in the next 60 days on the public Olist data is told by recency alone with an AUC of 0.79;
with 60 days it is 0.76, with 180 days 0.84, because those long gone are easy."""


LONGEST_RHYTHM_DAYS = 180
"""The same for those who are asked about by their own rhythm, whatever it is."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Cohort:
    """Questions: of which record, asked from when.

    Attributes
    ----------
    record_type : str
        The type of all records.
    ids, as_of : int64[n]
        The record, and the instant in microseconds since 1970 UTC.
    weight : float64[n]
        One over the number of questions about the same record. Not for learning: how often a record is asked
        depends on how it ended, see `docs/models.md`.
    """

    record_type: str
    ids: Ints
    as_of: Ints
    weight: npt.NDArray[np.float64]

    def __post_init__(self) -> None:
        """Refuse arrays of different lengths, and close gaps: loops are compiled for arrays without."""
        if not self.ids.size == self.as_of.size == self.weight.size:
            raise FeatureError(
                f"a cohort of {self.ids.size} ids, {self.as_of.size} instants, {self.weight.size} weights"
            )
        for name in ("ids", "as_of", "weight"):
            object.__setattr__(self, name, np.ascontiguousarray(getattr(self, name)))

    def __len__(self) -> int:
        """Return the number of questions."""
        return int(self.ids.size)

    def take(self, index: npt.NDArray[np.int64] | npt.NDArray[np.bool_] | slice) -> Cohort:
        """Return the chosen questions, in the order chosen; each keeps its weight."""
        return Cohort(
            record_type=self.record_type,
            ids=self.ids[index],
            as_of=self.as_of[index],
            weight=self.weight[index],
        )

    @classmethod
    def of(cls, record_type: str, ids: Ints, as_of: Ints) -> Cohort:
        """Return a cohort with the weights that follow from its questions."""
        _, record, count = np.unique(ids, return_inverse=True, return_counts=True)
        return cls(record_type=record_type, ids=ids, as_of=as_of, weight=1.0 / count[record])

    @classmethod
    def at(cls, record_type: str, ids: Sequence[int] | Ints, as_of: datetime) -> Cohort:
        """Return one question about each of `ids`, all asked from the same instant."""
        asked = np.asarray(ids, dtype=np.int64)
        return cls.of(record_type, asked, np.full(asked.size, micros(as_of)))

    @classmethod
    def single(cls, record_type: str, record_id: int, as_of: datetime) -> Cohort:
        """Return one question about one record."""
        return cls.at(record_type, [record_id], as_of)


def lead_cohort(
    store: Store, *, start: datetime, until: datetime, ages_days: Sequence[int] = (0, 7, 14, 30, 60)
) -> Cohort:
    """Return the questions about open leads with start < as_of <= until, by lead and instant.

    Age 0 asks when the lead became known; the others that many days after it came to exist, if it was known
    by then.
    """
    with store.reading() as session:
        leads = _Lives(session, Lead, open_status=LeadStatus.OPEN)
        return leads.cohort(_ages(leads, ages_days), start=start, until=_past(store, until))


def deal_cohort(store: Store, *, start: datetime, until: datetime) -> Cohort:
    """Return the questions about open deals with start < as_of <= until, by deal and instant.

    A deal is asked about when it became known, when a change of its stage became known, and every Monday at
    00:00 UTC.
    """
    with store.reading() as session:
        deals = _Lives(session, Deal, open_status=DealStatus.OPEN)
        moves = read_field_history(session, Deal, "stage")
        moved = (
            np.searchsorted(deals.ids, moves.record_id),
            visible_from(moves.occurred_at, moves.recorded_at),
        )
        until = _past(store, until)
        mondays = _mondays(deals, after=micros(start), until=micros(until))
        born = (np.arange(deals.ids.size), deals.known_from)
        row = np.concatenate((born[0], moved[0], mondays[0]))
        as_of = np.concatenate((born[1], moved[1], mondays[1]))
        return deals.cohort((row, as_of), start=start, until=until)


def account_cohort(
    store: Store, *, start: datetime, until: datetime, kind: str | None = None, active_days: int = ACTIVE_DAYS
) -> Cohort:
    """Return the questions about active customers at month ends with start < as_of <= until, in their order.

    A month ends with its last microsecond (UTC), so that what is dated by day counts for the month it is of.
    `kind` says who is active: "orders", who ordered in the last `active_days`; "rhythm", in the longest time
    that any rhythm allows; "contracts", who has a running contract. None follows `churn_kind`.
    """
    with store.reading() as session:
        ends = month_ends(start, _past(store, until))
        return _active(session, ends, kind or churn_kind_in(session), active_days)


def open_records(store: Store, record_type: str, as_of: datetime, *, kind: str | None = None) -> Cohort:
    """Return a question from `as_of` about every lead or deal open then, or every customer active then."""
    with store.reading() as session:
        return open_records_in(session, record_type, as_of, kind=kind)


def open_records_in(
    session: Session, record_type: str, as_of: datetime, *, kind: str | None = None
) -> Cohort:
    """Return the same from an open session."""
    return _open_at(session, record_type, np.array([micros(as_of)]), kind)


def open_records_at(store: Store, record_type: str, instants: Ints, *, kind: str | None = None) -> Cohort:
    """Return what `open_records` gives for each of some instants (int64[k], microseconds), read once."""
    with store.reading() as session:
        return _open_at(session, record_type, instants, kind)


def _open_at(session: Session, record_type: str, instants: Ints, kind: str | None) -> Cohort:
    if record_type == "account":
        return _active(session, instants, kind or churn_kind_in(session), ACTIVE_DAYS)
    if record_type == "lead":
        lives = _Lives(session, Lead, open_status=LeadStatus.OPEN)
    elif record_type == "deal":
        lives = _Lives(session, Deal, open_status=DealStatus.OPEN)
    else:
        raise FeatureError(f"{record_type}: expected lead, deal or account")
    row = np.repeat(np.arange(lives.ids.size), instants.size)
    when = np.tile(instants, lives.ids.size)
    asked = lives.askable(row, when)
    return Cohort.of(record_type, lives.ids[row[asked]], when[asked])


def churn_kind(store: Store) -> str:
    """Return "contracts" for a company that has any contract, else "orders"."""
    with store.reading() as session:
        return churn_kind_in(session)


def churn_kind_in(session: Session) -> str:
    """Return the same from an open session."""
    return "contracts" if session.scalar(select(exists().where(Contract.id.is_not(None)))) else "orders"


def month_ends(start: datetime, until: datetime) -> Ints:
    """Return the last microsecond of every month (UTC) with start < instant <= until."""
    first = np.datetime64(start.astimezone(UTC).replace(tzinfo=None), "M")
    last = np.datetime64(until.astimezone(UTC).replace(tzinfo=None), "M")
    months = np.arange(first, last + 2)
    ends = months.astype("datetime64[us]").astype(np.int64) - 1
    return ends[(ends > micros(start)) & (ends <= micros(until))]


def mondays(after: int, until: int) -> Ints:
    """Return every Monday 00:00 UTC with after < instant <= until, in microseconds."""
    first, last = (after - _MONDAY) // WEEK + 1, (until - _MONDAY) // WEEK
    return np.arange(first, last + 1, dtype=np.int64) * WEEK + _MONDAY


def _past(store: Store, until: datetime) -> datetime:
    return min(until, store.clock.now())


class _Lives:
    """When the records of a type that opens and closes could be asked about."""

    def __init__(self, session: Session, model: type[Lead | Deal], *, open_status: str) -> None:
        query = select(model.id, model.occurred_at, model.recorded_at, model.deleted_at, model.status)
        rows = read_arrays(session, query.order_by(model.id))
        self.record_type = model.record_type
        self.ids: Ints = rows["id"]
        self.occurred_at: Ints = rows["occurred_at"]
        self.known_from = visible_from(rows["occurred_at"], rows["recorded_at"])
        self.known_until = visible_until(rows["deleted_at"])
        self._silent = np.isin(self.ids, list_opted_out(session, model))
        self._open = open_status
        self._status = rows["status"]
        self._history: FieldHistory = read_field_history(session, model, "status")

    def askable(self, row: Ints, as_of: Ints) -> Flags:
        """Tell which records (by their position) were known, not deleted and open, and are willing."""
        status = resolve_as_of(self._history, self._status[row], self.ids[row], as_of)
        known = (self.known_from[row] <= as_of) & (as_of < self.known_until[row])
        return np.asarray(known & (status == self._open) & ~self._silent[row], dtype=np.bool_)

    def last_open(self) -> Ints:
        """Return an instant after which each record is not open any more; NEVER for one that is open."""
        changed = visible_from(self._history.occurred_at, self._history.recorded_at)
        newest = np.full(self.ids.size, NO_INSTANT)
        np.maximum.at(newest, np.searchsorted(self.ids, self._history.record_id), changed)
        closed = np.asarray(self._status != self._open, dtype=np.bool_)
        return np.where(closed, np.maximum(newest, self.known_from), self.known_until)

    def cohort(self, asked: tuple[Ints, Ints], *, start: datetime, until: datetime) -> Cohort:
        """Return the questions that can be asked, each once, sorted by record and instant."""
        row, as_of = asked
        inside = (as_of > micros(start)) & (as_of <= micros(until))
        row, as_of = row[inside], as_of[inside]
        once = np.unique(np.stack((row, as_of), axis=1), axis=0)
        row, as_of = once[:, 0], once[:, 1]
        kept = self.askable(row, as_of)
        return Cohort.of(self.record_type, self.ids[row[kept]], as_of[kept])


def _ages(lives: _Lives, ages_days: Sequence[int]) -> tuple[Ints, Ints]:
    rows, instants = [], []
    for age in ages_days:
        as_of = lives.known_from if age == 0 else lives.occurred_at + age * DAY
        row = np.flatnonzero(as_of >= lives.known_from)
        rows.append(row)
        instants.append(as_of[row])
    return np.concatenate(rows), np.concatenate(instants)


def _mondays(deals: _Lives, *, after: int, until: int) -> tuple[Ints, Ints]:
    """Return (row, instant) of every Monday 00:00 UTC at which a deal may have been open."""
    first = np.maximum(deals.known_from, after + 1)
    last = np.minimum(deals.last_open(), until)
    week_of_first = -((_MONDAY - first) // WEEK)
    week_after_last = (last - _MONDAY) // WEEK + 1
    row, week = expand_runs(week_of_first, np.maximum(week_of_first, week_after_last))
    return row, week * WEEK + _MONDAY


def _active(session: Session, ends: Ints, kind: str, active_days: int) -> Cohort:
    accounts, known_from, known_until = _read_accounts(session)
    versions, lookback = _signs_of_life(session, accounts, kind, active_days)
    row = np.repeat(np.arange(accounts.size), ends.size)
    as_of = np.tile(ends, accounts.size)
    active = AskedEvents(versions, accounts[row], as_of).count(lookback) > 0
    active &= (known_from[row] <= as_of) & (as_of < known_until[row])
    active &= ~np.isin(accounts, list_opted_out(session, Account))[row]
    return Cohort.of("account", accounts[row[active]], as_of[active])


def _signs_of_life(
    session: Session, accounts: Ints, kind: str, active_days: int
) -> tuple[Versions, int | None]:
    if kind == UNDATED:
        ends = read_endings(session, "account")
        return _from_until(ends.ids, ends.known_from, ~ends.wanted), None
    if kind in ("orders", "rhythm"):
        lookback = (LONGEST_RHYTHM_DAYS if kind == "rhythm" else active_days) * DAY
        return read_versions(session, Order, "account_id", accounts, ()), lookback
    if kind == "contracts":
        contracts = read_versions(session, Contract, "account_id", accounts, RUNNING_FIELDS)
        return running(contracts), None
    raise FeatureError(f"churn of {kind!r}: expected orders, rhythm, contracts or {UNDATED}")


def _from_until(ids: Ints, known_from: Ints, present: Flags) -> Versions:
    """Return a sign of life of each customer who is there, from when it was known."""
    return Versions(
        key=ids[present],
        record_id=ids[present],
        occurred_at=known_from[present],
        start=known_from[present],
        stop=np.full(int(present.sum()), NEVER),
        columns={},
    ).in_order()


def _read_accounts(session: Session) -> tuple[Ints, Ints, Ints]:
    query = select(Account.id, Account.occurred_at, Account.recorded_at, Account.deleted_at)
    rows = read_arrays(session, query.order_by(Account.id))
    return (
        rows["id"],
        visible_from(rows["occurred_at"], rows["recorded_at"]),
        visible_until(rows["deleted_at"]),
    )
