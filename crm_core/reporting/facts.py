"""Records as they were known at an instant, as arrays: what reports count.

Nearly all records of a type hold now what they held at any instant of the last weeks, so the rows are read as
they are now, in one query, and only those of which something was written since are put back through the log.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import BigInteger, ColumnElement, Select, and_, func, literal, or_, select, true, type_coerce
from sqlalchemy.dialects.postgresql import array

from crm_core.access import Reader
from crm_core.arrays import NO_INSTANT, Arrays, among, read_arrays
from crm_core.changes import Change
from crm_core.clock import micros
from crm_core.columns import Day
from crm_core.history import current_values, read_histories, resolve_as_of
from crm_core.records import Activity, Deal, DealStatus, Direction, Line, Product, Record, Ticket
from crm_core.reporting.catalogue import LINKS, SOLD, Path
from crm_core.reporting.conditions import ALWAYS, Conditions
from crm_core.reporting.sold import LINE_FIELDS, LINKED, Sold, Spread, sold_on
from crm_core.stage_settings import stages_of
from crm_core.validation import columns_of

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Objects = npt.NDArray[np.object_]
Values = npt.NDArray[Any]

DERIVED = frozenset(
    {"stay_stage", "entered_at", "left_at", "went", "first_response_at", "done_at", "line_total"}
)
"""What is no field of a record and is worked out of some."""


@dataclass(frozen=True, kw_only=True)
class View:
    """Who looks, from which instant; `past`: the log has to be asked what fields held then."""

    reader: Reader
    as_of: datetime
    past: bool

    @property
    def at(self) -> int:
        """Return the instant in microseconds."""
        return micros(self.as_of)

    def known(self, model: type[Record]) -> ColumnElement[bool]:
        """Return the condition that a record was known: recorded, happened, and not deleted yet."""
        gone = or_(model.deleted_at.is_(None), model.deleted_at > self.as_of)
        return and_(model.occurred_at <= self.as_of, model.recorded_at <= self.as_of, gone)

    @cached_property
    def sold(self) -> Sold:
        """Return which products deals are about, as the lines said that were known."""
        lines = with_line_totals(read_facts(self, Line, LINE_FIELDS, ALWAYS))
        lines.linked = LINKED
        return sold_on(lines)

    def moved(self, model: type[Record], fields: Iterable[str], *also: ColumnElement[bool]) -> Ints:
        """Return the records of which some field got a value that was not known yet, sorted."""
        logged = [name for name in fields if name not in _FIXED]
        if not self.past or not logged:
            return np.empty(0, dtype=np.int64)
        query = (
            select(Change.record_id)
            .distinct()
            .where(
                Change.record_type == model.record_type,
                Change.field.in_(logged),
                or_(Change.occurred_at > self.as_of, Change.recorded_at > self.as_of),
                *also,
            )
            .order_by(Change.record_id)
        )
        return read_arrays(self.reader.session, query)["record_id"]


_FIXED = frozenset({"id", "occurred_at", "recorded_at", "deleted_at"})


@dataclass(kw_only=True, eq=False)
class Facts:
    """Rows of one subject: a column a field, and how many records each row stands for."""

    view: View
    model: type[Record]
    columns: dict[str, Values]
    weight: Ints | None = None
    linked: Mapping[type[Record], set[str]] = field(default_factory=dict)
    _read: dict[tuple[Path, str], tuple[Ints, Values]] = field(default_factory=dict)

    def __len__(self) -> int:
        return int(next(iter(self.columns.values())).size)

    @property
    def weights(self) -> Ints:
        """Return how many records each row stands for."""
        return np.ones(len(self), dtype=np.int64) if self.weight is None else self.weight

    def take(self, rows: Ints, **more: Values) -> Facts:
        """Return some rows, in an order, with further columns."""
        taken = {name: column[rows] for name, column in self.columns.items()} | more
        return Facts(view=self.view, model=self.model, columns=taken, linked=self.linked)

    def along(self, path: Path) -> Values:
        """Return what stands at the end of a path, for each row; what is not seen or not known is missing."""
        values, model = self.columns[path[0]], self.model
        for steps in range(1, len(path)):
            model = LINKS[path[steps - 1]]
            values = self._of_linked(path[:steps], model, path[steps], values)
        return values

    def first_of(self, paths: Sequence[Path]) -> Values:
        """Return what stands at the end of the first path that leads somewhere."""
        values = self.along(paths[0]).copy()
        for path in paths[1:]:
            missing = is_missing(values)
            values[missing] = self.along(path)[missing]
        return values

    def spread(self, to: Path, rows: Ints) -> Spread:
        """Return some rows once for each product of the deal that a path to `SOLD` leads to."""
        deals = self.columns["id"] if to[0] == SOLD else self.along(to[: to.index(SOLD)])
        return self.view.sold.of(deals[rows])

    def of_products(self, products: Ints, name: str) -> Values:
        """Return a field of products, which may be NO_INSTANT."""
        self._linked_values((SOLD,), Product, name, self.view.sold.product)  # of all, to be read once
        return self._of_linked((SOLD,), Product, name, products)

    def _of_linked(self, to: Path, model: type[Record], name: str, ids: Values) -> Values:
        keys, values = self._linked_values(to, model, name, ids)
        missing = missing_like(values)
        if not keys.size:
            return np.full(ids.size, missing, dtype=values.dtype)
        place = np.minimum(np.searchsorted(keys, ids), keys.size - 1)
        found = np.where(keys[place] == ids, values[place], missing)
        return found.astype(values.dtype) if values.dtype != object else found

    def _linked_values(self, to: Path, model: type[Record], name: str, ids: Values) -> tuple[Ints, Values]:
        if (to, name) not in self._read:
            wanted = sorted(self.linked.get(model, set()) | {name})
            asked = np.unique(ids[ids != NO_INSTANT]).astype(np.int64)
            keys, columns = read_linked(self.view, model, wanted, asked)
            for each in wanted:
                self._read[to, each] = keys, columns[each]
        return self._read[to, name]


def is_missing(values: Values) -> Bools:
    """Say of each value whether there is none."""
    if values.dtype == object:
        return np.array([each is None for each in values.tolist()], dtype=np.bool_)
    if values.dtype == np.float64:
        return np.isnan(values)
    return np.asarray(values == NO_INSTANT)


def missing_like(values: Values) -> Any:  # noqa: ANN401  of the array's kind
    """Return what stands for no value in an array."""
    if values.dtype == object:
        return None
    return np.nan if values.dtype == np.float64 else NO_INSTANT


# ---------------------------------------------------------------- reading


def read_facts(
    view: View,
    model: type[Record],
    fields: Sequence[str],
    conditions: Conditions,
    *,
    narrowed: ColumnElement[bool] | None = None,
) -> Facts:
    """Return the records that the reader may see and that were known, for which the conditions held then.

    Parameters
    ----------
    fields : names
        Columns to read, beside `id`, `occurred_at` and what is worked out (`DERIVED`).
    narrowed : condition
        On what never changes; those who fail it are not read at all.
    """
    own = _own_fields(model, fields)
    moved = view.moved(model, [*own, *conditions.fields])
    rows = _rows(view, model, own, and_(conditions.sql, narrowed if narrowed is not None else true()))
    if moved.size:
        kept = ~np.isin(rows["id"], moved)
        put_back = _put_back(view, model, own, conditions, moved, narrowed)
        rows = {name: np.concatenate([column[kept], put_back[name]]) for name, column in rows.items()}
    return Facts(view=view, model=model, columns=rows)


def _own_fields(model: type[Record], fields: Sequence[str]) -> list[str]:
    own = [name for name in fields if name in columns_of(model)]
    return list(dict.fromkeys(["id", "occurred_at", *own]))


def _rows(view: View, model: type[Record], own: Sequence[str], also: ColumnElement[bool]) -> Arrays:
    columns = columns_of(model)
    query = select(*(columns[name] for name in own)).where(
        view.known(model), view.reader.readable(model), also
    )
    return read_arrays(view.reader.session, query)


def _put_back(
    view: View,
    model: type[Record],
    own: Sequence[str],
    conditions: Conditions,
    moved: Ints,
    narrowed: ColumnElement[bool] | None,
) -> Arrays:
    """Return the records of which something was written since, with what they held then."""
    also = and_(among(model.id, moved), narrowed if narrowed is not None else true())
    rows = _rows(view, model, own, also)
    asked = np.isin(rows["id"], moved)
    rows = {name: column[asked] for name, column in rows.items()}
    logged = [name for name in own if name not in _FIXED]
    rows |= as_known(view, model, rows["id"], {name: rows[name] for name in logged})
    session = view.reader.session
    current = {name: current_values(session, model, name, rows["id"]) for name in conditions.fields}
    fits = conditions.hold(rows["id"], as_known(view, model, rows["id"], current))
    return {name: column[fits] for name, column in rows.items()}


def as_known(view: View, model: type[Record], ids: Ints, current: Mapping[str, Values]) -> dict[str, Values]:
    """Return columns of current values as they were known at the view's instant."""
    if not view.past or not ids.size or not current:
        return dict(current)
    histories = read_histories(view.reader.session, model, list(current), ids)
    when = np.full(ids.size, view.at)
    found = {}
    for name, column in current.items():
        if not histories[name].record_id.size:
            found[name] = column
            continue
        stored = column if column.dtype == object else _stored(model, name, as_objects(column))
        resolved = resolve_as_of(histories[name], stored, ids, when)
        found[name] = resolved if column.dtype == object else _like(model, name, column, resolved)
    return found


def _stored(model: type[Record], name: str, values: Objects) -> Objects:
    """Return values as the log has them: days are numbers of days there, and microseconds in arrays."""
    if not _is_day(model, name):
        return values
    return objects([None if each is None else each // _DAY for each in values.tolist()])


def _like(model: type[Record], name: str, column: Values, values: Objects) -> Values:
    """Return values of the log in the form of a column that was read."""
    times = _DAY if _is_day(model, name) else 1
    if column.dtype == np.float64:
        return np.array(
            [np.nan if each is None else float(each) for each in values.tolist()], dtype=np.float64
        )
    whole = [NO_INSTANT if each is None else int(each) * times for each in values.tolist()]
    return np.array(whole, dtype=np.int64)


_DAY = 86_400_000_000


def _is_day(model: type[Record], name: str) -> bool:
    column = columns_of(model).get(name)
    return column is not None and isinstance(column.type, Day)


def as_objects(column: Values) -> Objects:
    """Return a column as objects, with None for nothing."""
    if column.dtype == object:
        return column
    missing = is_missing(column)
    return objects(
        [None if gone else each for each, gone in zip(column.tolist(), missing.tolist(), strict=True)]
    )


def objects(values: Sequence[Any]) -> Objects:
    """Return an array of objects, whatever they are."""
    return np.fromiter(values, dtype=object, count=len(values))


def read_linked(
    view: View, model: type[Record], fields: Sequence[str], ids: Ints
) -> tuple[Ints, dict[str, Values]]:
    """Return the records among `ids` that the reader may see and that were known, sorted, with fields."""
    columns, names = columns_of(model), list(dict.fromkeys(["id", *fields]))
    where = [among(model.id, ids) if ids.size else model.id.is_(None), view.known(model)]
    query = select(*(columns[name] for name in names)).where(*where, view.reader.readable(model))
    rows = read_arrays(view.reader.session, query.order_by(model.id))
    logged = {name: rows[name] for name in names if name not in _FIXED}
    moved = view.moved(model, logged) if rows["id"].size else rows["id"]
    put_back = np.flatnonzero(np.isin(rows["id"], moved))
    if put_back.size:
        resolved = as_known(view, model, rows["id"][put_back], {k: c[put_back] for k, c in logged.items()})
        for name, values in resolved.items():
            rows[name][put_back] = values
    return rows["id"], dict(rows)


# ---------------------------------------------------------------- what is worked out


def with_line_totals(facts: Facts) -> Facts:
    """Add what a line comes to: quantity times price, less the discount, in ten-thousandths."""
    columns = facts.columns
    price = np.where(columns["unit_price"] == NO_INSTANT, np.nan, columns["unit_price"].astype(np.float64))
    left = 1 - np.nan_to_num(columns["discount"])
    total = np.rint(price * np.nan_to_num(columns["quantity"], nan=1.0) * left)
    columns["line_total"] = np.where(np.isnan(total), NO_INSTANT, np.nan_to_num(total)).astype(np.int64)
    return facts


def with_first_responses(facts: Facts) -> Facts:
    """Add when each ticket was first answered: as it holds, else our first mail, call or visit about it."""
    view = facts.view
    query = (
        select(Activity.subject_id.label("id"), func.min(Activity.occurred_at).label("at"))
        .where(
            Activity.subject_type == Ticket.record_type,
            or_(Activity.direction.is_(None), Activity.direction != Direction.INBOUND),
            Activity.kind.in_(("call", "mail", "meeting", "visit")),
            view.known(Activity),
        )
        .group_by(Activity.subject_id)
        .order_by(Activity.subject_id)
    )
    found = read_arrays(view.reader.session, query)
    ids, at = found["id"], found["at"]
    if ids.size:
        place = np.minimum(np.searchsorted(ids, facts.columns["id"]), ids.size - 1)
        at = np.where(ids[place] == facts.columns["id"], at[place], NO_INSTANT)
    else:
        at = np.full(len(facts), NO_INSTANT)
    held = facts.columns["first_answered_at"]
    facts.columns["first_response_at"] = np.where(held == NO_INSTANT, at, held)
    return facts


def with_ends_of_tickets(facts: Facts) -> Facts:
    """Add when each ticket was done: solved or, of those that were never said to be solved, closed."""
    solved, closed = facts.columns["solved_at"], facts.columns["closed_at"]
    facts.columns["done_at"] = np.where(solved == NO_INSTANT, closed, solved)
    return facts


def stays_of(deals: Facts) -> Facts:
    """Return the stays of deals in the stages before a deal is won: a row a stay, with the deal's columns.

    `went` is "on" if the deal left the stage for a later one or was won, "back" or "lost"; None while it is
    there. Facts that were told late are put where they belong.
    """
    position = {stage.key: number for number, stage in enumerate(stages_of(deals.view.reader.session))}
    won_stages = {stage.key for stage in stages_of(deals.view.reader.session) if stage.won}
    moves = _moves(deals)
    columns = ("id", "occurred_at", "stage", "status", "closed_at")
    told = zip(*(deals.columns[name].tolist() for name in columns), strict=True)
    rows: list[tuple[int, str, int, int, str | None]] = []
    for number, (deal, began, stage, status, closed_at) in enumerate(told):
        entries = _entries(began, stage, moves.get(deal))
        ended = status != DealStatus.OPEN
        over = (closed_at if closed_at != NO_INSTANT else began) if ended else NO_INSTANT
        for place, (entered, key) in enumerate(entries):
            if key in won_stages or (ended and entered > over):
                continue
            after = entries[place + 1] if place + 1 < len(entries) else None
            if after is not None and (not ended or after[0] <= over):
                forth = position.get(after[1], 0) > position.get(key, 0)
                rows.append((number, key, entered, after[0], "on" if forth else "back"))
            elif ended:
                rows.append((number, key, entered, over, "on" if status == DealStatus.WON else "lost"))
            else:
                rows.append((number, key, entered, NO_INSTANT, None))
    index, stages, entered_at, left_at, went = zip(*rows, strict=True) if rows else ((), (), (), (), ())
    return deals.take(
        np.array(index, dtype=np.int64),
        stay_stage=objects(stages),
        entered_at=np.array(entered_at, dtype=np.int64),
        left_at=np.array(left_at, dtype=np.int64),
        went=objects(went),
    )


_Move = tuple[int, str, str]
"""When, from which stage as known when it was told, to which."""


def _moves(deals: Facts) -> dict[int, tuple[str, list[_Move]]]:
    """Return by deal the stage it began in, and the moves that were known, in the order of happening."""
    history = read_histories(deals.view.reader.session, Deal, ["stage"])["stage"]
    order = np.lexsort((history.change_id, history.recorded_at, history.occurred_at, history.record_id))
    first: dict[int, str] = {}
    for deal, old in zip(history.record_id.tolist(), history.old.tolist(), strict=True):
        first.setdefault(deal, old)
    found = {deal: (stage, list[_Move]()) for deal, stage in first.items()}
    known = np.maximum(history.occurred_at, history.recorded_at) <= deals.view.at
    order = order[known[order]]
    parts = (history.record_id, history.occurred_at, history.old, history.new)
    for deal, at, old, new in zip(*(part[order].tolist() for part in parts), strict=True):
        found[deal][1].append((at, old, new))
    return found


def _entries(began: int, stage: str, told: tuple[str, list[_Move]] | None) -> list[tuple[int, str]]:
    """Return when a deal entered each stage, in order; of moves at one instant the last one counts."""
    if told is None:
        return [(began, stage)]
    entries = [(began, told[0])]
    for at, _, new in told[1]:
        entered = max(at, began)
        if entries[-1][0] == entered:
            entries.pop()
        if not entries or entries[-1][1] != new:
            entries.append((entered, new))
    return entries


# ---------------------------------------------------------------- activities, counted by the database


@dataclass(frozen=True, kw_only=True)
class Counted:
    """Activities counted by whose, kind and direction in parts of time: far fewer rows than activities.

    `kinds`, where they are given, are those that are looked at.
    """

    view: View
    owners: Sequence[int] | None
    kinds: Sequence[str] = ()
    bounds: Sequence[tuple[int, int]]

    def read(self) -> Facts:
        """Return one row a group that was counted; `occurred_at` is the beginning of its part of time."""
        rows = self._counted()
        moved = self.view.moved(Activity, ("owner_id", "kind", "direction"))
        if moved.size:
            now = self._of_moved(moved)
            then = as_known(
                self.view,
                Activity,
                now["id"],
                {name: now[name] for name in ("owner_id", "kind", "direction")},
            )
            parts: list[Mapping[str, Values]] = [rows, {**now, "count": np.full(now["id"].size, -1)}]
            parts.append({**now, **then, "count": np.ones(now["id"].size, dtype=np.int64)})
            parts = [self._within_reach(part) for part in parts]
            rows = {name: np.concatenate([part[name] for part in parts]) for name in rows}
        columns = {name: rows[name] for name in ("owner_id", "kind", "direction", "occurred_at")}
        return Facts(view=self.view, model=Activity, columns=columns, weight=rows["count"])

    def _within_reach(self, part: Mapping[str, Values]) -> Mapping[str, Values]:
        if self.owners is None:
            return part
        kept = np.isin(part["owner_id"], np.array(self.owners))
        return {name: column[kept] for name, column in part.items()}

    @cached_property
    def _ours(self) -> ColumnElement[bool]:
        whose = true() if self.owners is None else Activity.owner_id.in_(self.owners)
        return and_(whose, Activity.kind.in_(self.kinds)) if self.kinds else whose

    def _counted(self) -> dict[str, Values]:
        postgres = self.view.reader.session.get_bind().dialect.name == "postgresql"
        query = self._by_bucket() if postgres else self._through_index()
        rows = read_arrays(self.view.reader.session, query)
        some = rows["count"] > 0
        return {name: column[some] for name, column in rows.items()}

    def _through_index(self) -> Select[*tuple[Any, ...]]:
        """Count along the index in its own order, which is many times faster than to sort a million rows."""
        names = ("owner_id", "kind", "direction")
        columns = columns_of(Activity)
        groups = select(*(columns[name] for name in names)).where(self._ours).distinct().cte("groups")
        parts = _parts_of_time(self.bounds).cte("parts")
        same = [columns[name].is_not_distinct_from(groups.c[name]) for name in names]
        when = type_coerce(Activity.occurred_at, BigInteger)
        count = (
            select(func.count())
            .select_from(Activity)
            .where(*same, when >= parts.c.low, when < parts.c.high, self.view.known(Activity))
            .correlate(groups, parts)
            .scalar_subquery()
        )
        at = type_coerce(parts.c.low, BigInteger).label("occurred_at")
        counted = type_coerce(count, BigInteger).label("count")
        found = (groups.c[name] for name in names)
        return select(*found, at, counted).select_from(groups.join(parts, true()))

    def _by_bucket(self) -> Select[*tuple[Any, ...]]:
        """Count by groups that PostgreSQL holds in memory."""
        when = type_coerce(Activity.occurred_at, BigInteger)
        lows = array([literal(low, BigInteger) for low, _ in self.bounds])
        bucket = func.width_bucket(when, lows)
        first, last = self.bounds[0][0], self.bounds[-1][1]
        groups = (Activity.owner_id, Activity.kind, Activity.direction)
        counted = type_coerce(func.count(), BigInteger).label("count")
        at = type_coerce(lows[bucket], BigInteger).label("occurred_at")
        where = (self._ours, when >= first, when < last, self.view.known(Activity))
        return select(*groups, at, counted).where(*where).group_by(*groups, at)

    def _of_moved(self, moved: Ints) -> dict[str, Values]:
        """Return those of which something was written since, as they are now, in their parts of time."""
        low, high = self.bounds[0][0], self.bounds[-1][1]
        when = type_coerce(Activity.occurred_at, BigInteger)
        names = ("id", "owner_id", "kind", "direction", "occurred_at")
        columns = columns_of(Activity)
        query = select(*(columns[name] for name in names)).where(
            among(Activity.id, moved), self.view.known(Activity), when >= low, when < high
        )
        rows = read_arrays(self.view.reader.session, query)
        asked = np.isin(rows["id"], moved)
        rows = {name: column[asked] for name, column in rows.items()}
        lows = np.array([each for each, _ in self.bounds], dtype=np.int64)
        rows["occurred_at"] = lows[np.searchsorted(lows, rows["occurred_at"], side="right") - 1]
        return rows


def _parts_of_time(bounds: Sequence[tuple[int, int]]) -> Any:  # noqa: ANN401  a query of two columns
    """Return a query of the beginnings and ends of parts of time."""
    first, *rest = (
        select(literal(low, BigInteger).label("low"), literal(high, BigInteger).label("high"))
        for low, high in bounds
    )
    return first.union_all(*rest) if rest else first
