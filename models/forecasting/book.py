"""The deals as they were known at any instant, read once and asked often."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, fields

import numpy as np
import numpy.typing as npt
from sqlalchemy import select

from crm_core.arrays import NO_INSTANT, Arrays, read_arrays
from crm_core.clock import DAY
from crm_core.columns import MONEY_SCALE
from crm_core.history import FieldHistory, current_values, newest_known, read_histories, resolve_as_of
from crm_core.records import Deal, DealStatus
from crm_core.store import Store
from crm_core.worth import NO_CURRENCY
from features.windows import visible_from, visible_until
from models.hazard import Bools, Floats, Ints

Objects = npt.NDArray[np.object_]

NOBODY = 0
"""Stands for no owner; ids begin with 1."""

_FIELDS = (
    "status",
    "closed_at",
    "amount",
    "currency",
    "pipeline",
    "stage",
    "owner_id",
    "rep_probability",
    "expected_close_on",
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Snapshot:
    """The n deals known at `as_of` (microseconds), as they were known then.

    `known_from` int64[n]: since when each was known. `won_at` int64[n]: when it was won, NO_INSTANT if it was
    not. `amount` float64[n] in units of its currency, NaN for none; a currency not named is the commonest.
    `owner` int64[n], NOBODY for none.
    `rep_probability` float64[n], NaN for none. `expected_close_at` int64[n], a midnight, NO_INSTANT for none.
    All is what was recorded and had happened by `as_of`.
    """

    as_of: int
    ids: Ints
    born: Ints
    known_from: Ints
    is_open: Bools
    won_at: Ints
    amount: Floats
    currency: Objects
    pipeline: Objects
    stage: Objects
    owner: Ints
    rep_probability: Floats
    expected_close_at: Ints

    def __len__(self) -> int:
        """Return how many deals there are."""
        return int(self.ids.size)

    @property
    def is_won(self) -> Bools:
        """Return which are won."""
        return np.asarray(self.won_at != NO_INSTANT, dtype=np.bool_)

    def take(self, rows: Bools | Ints) -> Snapshot:
        """Return some of the deals."""
        taken = {one.name: getattr(self, one.name)[rows] for one in fields(self) if one.name != "as_of"}
        return Snapshot(as_of=self.as_of, **taken)

    def won_within(self, start: int, end: int) -> Bools:
        """Return which were won in `start <= t < end`."""
        return self.is_won & (self.won_at >= start) & (self.won_at < end)

    def rows_of(self, ids: Ints) -> Ints:
        """Return the row of each id, -1 for a deal that was not known."""
        if not len(self):
            return np.full(ids.size, -1, dtype=np.int64)
        position = np.minimum(np.searchsorted(self.ids, ids), len(self) - 1)
        return np.where(self.ids[position] == ids, position, -1)


@dataclass(frozen=True, kw_only=True, eq=False)
class DealBook:
    """All deals with the history of what is needed of them."""

    rows: Arrays
    current: dict[str, Objects]
    histories: dict[str, FieldHistory]
    _seen: dict[int, Snapshot] = field(default_factory=dict, repr=False)

    @classmethod
    def read(cls, store: Store) -> DealBook:
        """Read it, in one consistent state."""
        query = select(Deal.id, Deal.occurred_at, Deal.recorded_at, Deal.deleted_at).order_by(Deal.id)
        with store.reading() as session:
            rows = read_arrays(session, query)
            current = {name: current_values(session, Deal, name, rows["id"]) for name in _FIELDS}
            return cls(rows=rows, current=current, histories=read_histories(session, Deal, _FIELDS))

    @property
    def first_known(self) -> int | None:
        """Return when the first deal became known; None without deals."""
        known = visible_from(self.rows["occurred_at"], self.rows["recorded_at"])
        return int(known.min()) if known.size else None

    def at(self, as_of: int) -> Snapshot:
        """Return the deals as known at an instant (microseconds)."""
        if as_of not in self._seen:
            self._seen[as_of] = self._at(as_of)
        return self._seen[as_of]

    def _at(self, as_of: int) -> Snapshot:
        known_from = visible_from(self.rows["occurred_at"], self.rows["recorded_at"])
        kept = np.flatnonzero((known_from <= as_of) & (as_of < visible_until(self.rows["deleted_at"])))
        ids, when = self.rows["id"][kept], np.full(kept.size, as_of)
        values = {
            name: resolve_as_of(self.histories[name], self.current[name][kept], ids, when) for name in _FIELDS
        }
        born = self.rows["occurred_at"][kept]
        return Snapshot(
            as_of=as_of,
            ids=ids,
            born=born,
            known_from=known_from[kept],
            is_open=np.asarray(values["status"] == DealStatus.OPEN, dtype=np.bool_),
            won_at=self._won_at(values, ids, when, born),
            amount=_numbers(values["amount"]) / MONEY_SCALE,
            currency=_with_currency(values["currency"]),
            pipeline=values["pipeline"],
            stage=values["stage"],
            owner=_whole(values["owner_id"], NOBODY),
            rep_probability=_numbers(values["rep_probability"]),
            expected_close_at=_days(values["expected_close_on"]),
        )

    def _won_at(self, values: dict[str, Objects], ids: Ints, when: Ints, born: Ints) -> Ints:
        """Return when each was won: as the change of its status says, else its closing date or birth."""
        history = self.histories["status"]
        change = newest_known(history, ids, when)
        closed = _whole(values["closed_at"], NO_INSTANT)
        told = np.where(closed == NO_INSTANT, born, closed)
        if history.occurred_at.size:
            told = np.where(change >= 0, history.occurred_at[np.maximum(change, 0)], told)
        return np.where(values["status"] == DealStatus.WON, told, NO_INSTANT)


def _numbers(values: Objects) -> Floats:
    return np.array([np.nan if value is None else float(value) for value in values], dtype=np.float64)


def _whole(values: Objects, missing: int) -> Ints:
    return np.array([missing if value is None else int(value) for value in values], dtype=np.int64)


def _with_currency(values: Objects) -> Objects:
    """Return currencies; a deal without one is in the commonest."""
    named = Counter(str(value) for value in values if value is not None)
    commonest = min(named, key=lambda name: (-named[name], name)) if named else NO_CURRENCY
    return np.array([commonest if value is None else str(value) for value in values], dtype=object)


def _days(values: Objects) -> Ints:
    found = _whole(values, NO_INSTANT)
    return np.where(found == NO_INSTANT, NO_INSTANT, found * DAY)
