"""What came true after each question, and until when that is known.

`event_at` is the first event with `occurred_at > as_of`. `known_until` is until when the outcome has been
seen: an interval after `as_of` is over only if it ends by then. With `known_at`, only what was recorded by
that instant is used, as training at that instant would have had to.

What each task's event is:

- lead: the lead is converted. deal: the deal is won; a lost deal goes on without an event.
- orders: the customer's next order. Churn is its absence over the horizon.
- contracts: the customer's last contract has ended, and no other was signed and begun within `GRACE_DAYS` of
  it. It happens when the contract ends (or was cancelled), but nobody can tell before the grace time is over.
  So nothing counts as seen that is younger than that: taking churn as soon as it is recorded, and renewals
  only once the grace time is over, would show more churn than there is.

Where the event had happened by `as_of` and was only recorded later, the question was void: `known_until` is
`as_of`, and no interval of it is ever over.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby

import numpy as np
from sqlalchemy.orm import Session

from crm_core.arrays import NO_INSTANT
from crm_core.clock import DAY, micros
from crm_core.fields import observed_until
from crm_core.history import FieldHistory, read_field_history
from crm_core.records import Contract, ContractStatus, Deal, DealStatus, Lead, LeadStatus, Order, Record
from crm_core.segments import end_within, runs_of
from crm_core.store import Store
from features.cohort import Cohort, churn_kind_in
from features.contracts import RUNNING_FIELDS
from features.events import AskedEvents, Versions
from features.reading import read_versions
from features.windows import NEVER, Flags, Ints

GRACE_DAYS = 30
"""A customer who signs again within so many days of the end of a contract has not left."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Labels:
    """The outcome of each question of a cohort, in its order.

    Attributes
    ----------
    event_at : int64[n]
        When the first event after `as_of` happened, in microseconds; NO_INSTANT for none by `known_until`.
    known_until : int64[n]
        Until when the outcome has been seen, in microseconds; may lie before `as_of`.
    over_at : int64[n] or None
        Of questions about the end of a record: when each was over, in microseconds, NO_INSTANT if it is not.
    """

    event_at: Ints
    known_until: Ints
    over_at: Ints | None = None

    def __len__(self) -> int:
        """Return the number of questions."""
        return int(self.event_at.size)


def lead_labels(store: Store, cohort: Cohort, *, known_at: int | None = None) -> Labels:
    """Return when each lead was converted."""
    return _status_labels(store, cohort, Lead, LeadStatus.CONVERTED, known_at)


def deal_labels(store: Store, cohort: Cohort, *, known_at: int | None = None) -> Labels:
    """Return when each deal was won."""
    return _status_labels(store, cohort, Deal, DealStatus.WON, known_at)


def order_labels(store: Store, cohort: Cohort, *, known_at: int | None = None) -> Labels:
    """Return when each customer ordered next; churn is that they did not."""
    with store.reading() as session:
        known, seen = _knowledge(session, store, Order, known_at)
        orders = read_versions(session, Order, "account_id", np.unique(cohort.ids), ())
    orders = orders.take((orders.start <= known) & (known < orders.stop))
    return _first_after(cohort, orders.key, orders.occurred_at, seen)


def contract_labels(store: Store, cohort: Cohort, *, known_at: int | None = None) -> Labels:
    """Return when each customer left: their contracts ended and were not renewed in the grace time."""
    with store.reading() as session:
        known, seen = _knowledge(session, store, Contract, known_at)
        contracts = read_versions(session, Contract, "account_id", np.unique(cohort.ids), RUNNING_FIELDS)
        status = read_field_history(session, Contract, "status")
    contracts = contracts.take((contracts.start <= known) & (known < contracts.stop))
    spells = list(_spells(_terms(contracts, _ended_at(status, known))))
    key, begin, end = np.array(spells, dtype=np.int64).reshape(-1, 3).T
    seen -= GRACE_DAYS * DAY
    labels = _first_after(cohort, key, end, seen)
    return _void(labels, cohort, ~_covers(cohort, key, begin, end))


def churn_labels(
    store: Store, cohort: Cohort, *, known_at: int | None = None, kind: str | None = None
) -> Labels:
    """Return `contract_labels` or `order_labels`, as `kind` or the store's own churn kind says."""
    if kind is None:
        with store.reading() as session:
            kind = churn_kind_in(session)
    build = contract_labels if kind == "contracts" else order_labels
    return build(store, cohort, known_at=known_at)


def pending(labels: Labels, cohort: Cohort, horizon: int) -> Flags:
    """Tell which questions have a label window (`horizon` microseconds) that is not over, resolved or not."""
    return cohort.as_of + horizon > labels.known_until


def _knowledge(session: Session, store: Store, model: type[Record], known_at: int | None) -> tuple[int, int]:
    """Return from which instant we look back, and until when everything had been seen then."""
    now: datetime = store.clock.now()
    known = micros(now) if known_at is None else min(known_at, micros(now))
    return known, min(known, micros(observed_until(session, model.record_type, now=now)))


def _status_labels(
    store: Store, cohort: Cohort, model: type[Lead | Deal], wanted: str, known_at: int | None
) -> Labels:
    with store.reading() as session:
        known, seen = _knowledge(session, store, model, known_at)
        history = read_field_history(session, model, "status")
    event = (history.new == wanted) & (history.recorded_at <= known) & (history.occurred_at <= known)
    rows = np.flatnonzero(event)
    rows = rows[np.lexsort((history.occurred_at[rows], history.record_id[rows]))]
    labels = _first_after(cohort, history.record_id[rows], history.occurred_at[rows], seen)
    late = _happened_unknown(cohort, history, rows)
    return _void(labels, cohort, late & (labels.event_at == NO_INSTANT))


def _first_after(cohort: Cohort, key: Ints, when: Ints, seen: int) -> Labels:
    """Return labels from events sorted by key and instant, of which those by `seen` count."""
    start, stop = runs_of(key, cohort.ids)
    position = end_within(when, start, stop, cohort.as_of)
    found = np.append(when, NEVER)[np.where(position < stop, position, when.size)]
    event_at = np.where(found <= seen, found, NO_INSTANT)
    return Labels(event_at=event_at, known_until=np.full(len(cohort), seen))


def _happened_unknown(cohort: Cohort, history: FieldHistory, rows: Ints) -> Flags:
    """Tell which questions were asked between one of these changes and its being recorded."""
    unknown = Versions(
        key=history.record_id[rows],
        record_id=history.change_id[rows],
        occurred_at=history.occurred_at[rows],
        start=history.occurred_at[rows],
        stop=history.recorded_at[rows],
        columns={},
    )
    return AskedEvents(unknown.in_order(), cohort.ids, cohort.as_of).count() > 0


def _void(labels: Labels, cohort: Cohort, void: Flags) -> Labels:
    """Return the labels with nothing seen of questions that could have no outcome any more."""
    return Labels(
        event_at=np.where(void, NO_INSTANT, labels.event_at),
        known_until=np.where(void, np.minimum(cohort.as_of, labels.known_until), labels.known_until),
    )


def _ended_at(status: FieldHistory, known: int) -> dict[int, int]:
    """Return by contract when it was cancelled or ended, as known; the newest word counts."""
    rows = np.flatnonzero((status.recorded_at <= known) & (status.occurred_at <= known))
    rows = rows[np.lexsort((status.change_id[rows], status.recorded_at[rows], status.occurred_at[rows]))]
    ended = {ContractStatus.CANCELLED.value, ContractStatus.ENDED.value}
    found: dict[int, int] = {}
    for contract, when, new in zip(
        status.record_id[rows].tolist(),
        status.occurred_at[rows].tolist(),
        status.new[rows].tolist(),
        strict=True,
    ):
        if new in ended:
            found[contract] = when
        else:
            found.pop(contract, None)
    return found


@dataclass(frozen=True, kw_only=True, order=True)
class _Term:
    """One contract: when it was both signed and begun, its time, and whether it is known as renewed."""

    customer: int
    joins: int
    begin: int
    end: int
    renewed: bool


def _spells(terms: Iterable[_Term]) -> Iterator[tuple[int, int, int]]:
    """Yield (customer, begin, end) of every time without a gap longer than the grace time, in order.

    A contract known as renewed does not end, even where the store lacks the one that followed.
    """
    for customer, group in groupby(sorted(terms), key=lambda term: term.customer):
        first, *others = group
        begin, last = first.begin, first
        for term in others:
            if last.renewed or term.joins <= last.end + GRACE_DAYS * DAY:
                begin, last = min(begin, term.begin), max(last, term, key=lambda one: (one.end, one.renewed))
            else:
                yield customer, begin, last.end
                begin, last = term.begin, term
        yield customer, begin, NEVER if last.renewed else last.end


def _terms(contracts: Versions, ended_at: dict[int, int]) -> Iterator[_Term]:
    columns = contracts.columns
    rows = zip(
        contracts.key.tolist(),
        contracts.record_id.tolist(),
        contracts.occurred_at.tolist(),
        columns["starts_on"].tolist(),
        columns["ends_on"].tolist(),
        columns["status"].tolist(),
        strict=True,
    )
    for customer, contract, signed, begin, end, status in rows:
        joins, ends = max(signed, begin), min(end, ended_at.get(contract, NEVER))
        # One that was signed only after its end never ran: nobody could have been asked about it.
        if joins < ends:
            renewed = status == ContractStatus.RENEWED
            yield _Term(customer=customer, joins=joins, begin=begin, end=ends, renewed=renewed)


def _covers(cohort: Cohort, key: Ints, begin: Ints, end: Ints) -> Flags:
    """Tell which questions were asked inside a spell (sorted by key)."""
    start, stop = runs_of(key, cohort.ids)
    position = end_within(end, start, stop, cohort.as_of)
    inside = position < stop
    begins = np.append(begin, NEVER)[np.where(inside, position, begin.size)]
    return inside & (begins <= cohort.as_of)
