"""Past records like one, and how they ended: what the reader may see of it, and nothing of the model's.

Compared are plain facts that an outcome does not write, as the records hold them: of a deal its amount,
source and pipeline and its customer's industry, region and size; of a lead its source, campaign, industry,
region and size; of a customer its industry, region and size. The distance is Gower's: of each fact known of
the record asked about, 0 for the same word and 1 for another, or how far two numbers are apart on a
logarithmic scale that is as wide as the middle nine tenths of all; one that the other lacks counts half. The
mean of these is the distance.

Time rule: a record counts if its end happened and was recorded by now. It is never the record itself, nor one
that the reader may not see; a fact that they may not see is not compared.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

import numpy as np
from sqlalchemy import ColumnElement, and_, func, literal, or_, select

from crm_core.access import Reader
from crm_core.changes import Change
from crm_core.records import Account, Contract, Deal, Lead, Record

NEAREST: Final = 8
"""Records that are shown."""

LOOKED_AT: Final = 5_000
"""Records that ended last, of which the nearest are looked for."""

_LACKING: Final = 0.5
"""What a fact counts that the other record lacks."""

Scored = Lead | Deal | Account


@dataclass(frozen=True, kw_only=True)
class Past:
    """A record that ended: `alike` names the facts in which it is like the one asked about."""

    record_id: int
    went_well: bool
    outcome: str
    ended_at: datetime
    days: int | None
    amount: Decimal | None
    currency: str | None
    distance: float
    alike: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Similar:
    """The nearest, nearest first, out of `looked_at` that ended; `facts` are those that were compared."""

    nearest: Sequence[Past]
    looked_at: int
    facts: tuple[str, ...]

    @property
    def went_well(self) -> int:
        """Return how many of the nearest ended well."""
        return sum(past.went_well for past in self.nearest)


@dataclass(frozen=True, kw_only=True)
class _Fact:
    """One fact: its name as `record.field`, its column, and whether it is a size."""

    name: str
    column: Any
    is_size: bool = False
    through: tuple[str, ...] = ()
    """The fields by which the fact is found."""


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """What ended, of a type: the query's columns in the order of `Past`, conditions and facts."""

    query: Any
    facts: tuple[_Fact, ...]
    went_well: Callable[[str], bool]
    told_by: str
    dated_by: tuple[str, ...]
    """The fields that say when it ended, and how the record belongs to what its facts are of."""
    amount: str | None = None
    currency: str = ""


def find_similar(reader: Reader, record: Scored, now: datetime) -> Similar:
    """Return the past records most like one that the reader sees; none where nothing can be compared."""
    asked = _ASKED[type(record)](reader, now)
    facts = tuple(fact for fact in asked.facts if reader.may_be_told_of([fact.name, *fact.through]))
    if not facts or not reader.may_be_told_of([asked.told_by, *asked.dated_by]):
        return Similar(nearest=(), looked_at=0, facts=())
    model = type(record)
    own = _own(reader, record, facts)
    known = tuple(fact for fact in facts if own[fact.name] is not None)
    columns = [fact.column.label(fact.name) for fact in known]
    query = asked.query.add_columns(*columns).where(
        model.deleted_at.is_(None), model.id != record.id, reader.readable(model)
    )
    rows = reader.session.execute(query.limit(LOOKED_AT)).mappings().all() if known else []
    if not rows:
        return Similar(nearest=(), looked_at=len(rows), facts=tuple(fact.name for fact in known))
    away = _distances(known, own, rows)
    total = away.mean(axis=1)
    order = np.lexsort((np.arange(len(rows)), total))[:NEAREST]
    may_tell = asked.amount is None or reader.may_be_told_of([asked.amount, asked.currency])
    return Similar(
        nearest=[
            _past(rows[place], float(total[place]), _alike(known, away[place]), asked, may_tell=may_tell)
            for place in order.tolist()
        ],
        looked_at=len(rows),
        facts=tuple(fact.name for fact in known),
    )


def _past(
    row: Mapping[str, Any], distance: float, alike: tuple[str, ...], asked: _Asked, *, may_tell: bool
) -> Past:
    began, ended = row["began_at"], row["ended_at"]
    return Past(
        record_id=row["record_id"],
        went_well=asked.went_well(row["outcome"]),
        outcome=row["outcome"],
        ended_at=ended,
        days=None if began is None else max(0, (ended - began).days),
        amount=row["worth"] if may_tell else None,
        currency=row["money_of"] if may_tell else None,
        distance=distance,
        alike=alike,
    )


def _own(reader: Reader, record: Scored, facts: Sequence[_Fact]) -> dict[str, Any]:
    """Return the facts of the record asked about; nothing of a customer that the reader does not see."""
    model = type(record)
    query: Any = select(*(fact.column.label(fact.name) for fact in facts)).select_from(model)
    if model is Deal:
        query = query.outerjoin(Account, _customer(reader))
    row = reader.session.execute(query.where(model.id == record.id)).mappings().one()
    return {fact.name: row[fact.name] if row[fact.name] != "" else None for fact in facts}


def _customer(reader: Reader) -> ColumnElement[bool]:
    return and_(Account.id == Deal.account_id, Account.deleted_at.is_(None), reader.readable(Account))


def _distances(
    facts: Sequence[_Fact], own: Mapping[str, Any], rows: Sequence[Mapping[Any, Any]]
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return by row and fact how far each is from the record asked about, in [0, 1]."""
    columns = []
    for fact in facts:
        values = [row[fact.name] for row in rows]
        columns.append(_sizes(values, own[fact.name]) if fact.is_size else _words(values, own[fact.name]))
    return np.stack(columns, axis=1)


def _words(values: Sequence[Any], mine: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    told = mine.strip().casefold()
    return np.array(
        [_LACKING if not value else float(str(value).strip().casefold() != told) for value in values]
    )


def _sizes(values: Sequence[Any], mine: float | Decimal) -> np.ndarray[Any, np.dtype[np.float64]]:
    sizes = np.array([math.nan if value is None else math.log1p(max(0.0, float(value))) for value in values])
    known = sizes[~np.isnan(sizes)]
    if not known.size:
        return np.full(len(values), _LACKING)
    low, high = np.quantile(known, [0.05, 0.95])
    width = max(float(high - low), 1e-9)
    away = np.minimum(np.abs(sizes - math.log1p(max(0.0, float(mine)))) / width, 1.0)
    return np.where(np.isnan(away), _LACKING, away)


def _alike(facts: Sequence[_Fact], away: np.ndarray[Any, np.dtype[np.float64]]) -> tuple[str, ...]:
    """Return the facts that are the same, or sizes that are near."""
    near = {fact.name: (0.15 if fact.is_size else 0.0) for fact in facts}
    return tuple(fact.name for fact, far in zip(facts, away.tolist(), strict=True) if far <= near[fact.name])


_CUSTOMER: Final = ("deal.account_id",)


def _deals(reader: Reader, now: datetime) -> _Asked:
    query = select(
        Deal.id.label("record_id"),
        Deal.status.label("outcome"),
        Deal.closed_at.label("ended_at"),
        Deal.occurred_at.label("began_at"),
        Deal.amount.label("worth"),
        Deal.currency.label("money_of"),
    ).outerjoin(Account, _customer(reader))
    return _Asked(
        query=query.where(Deal.status.in_(["won", "lost"]), Deal.closed_at <= now).order_by(
            Deal.closed_at.desc(), Deal.id.desc()
        ),
        told_by="deal.status",
        dated_by=("deal.closed_at",),
        facts=(
            _Fact(name="deal.amount", column=Deal.amount, is_size=True),
            _Fact(name="deal.source", column=Deal.source),
            _Fact(name="deal.pipeline", column=Deal.pipeline),
            _Fact(name="account.industry", column=Account.industry, through=_CUSTOMER),
            _Fact(name="account.region", column=Account.region, through=_CUSTOMER),
            _Fact(name="account.employees", column=Account.employees, is_size=True, through=_CUSTOMER),
        ),
        went_well=lambda outcome: outcome == "won",
        amount="deal.amount",
        currency="deal.currency",
    )


def _leads(_reader: Reader, now: datetime) -> _Asked:
    disqualified = (
        select(func.max(Change.occurred_at))
        .where(
            Change.record_type == "lead",
            Change.record_id == Lead.id,
            Change.field == "status",
        )
        .correlate(Lead)
        .scalar_subquery()
    )
    ended = func.coalesce(Lead.converted_at, disqualified, type_=Lead.converted_at.type)
    query = select(
        Lead.id.label("record_id"),
        Lead.status.label("outcome"),
        ended.label("ended_at"),
        Lead.occurred_at.label("began_at"),
        literal(None).label("worth"),
        literal(None).label("money_of"),
    )
    over = or_(Lead.status == "converted", Lead.status == "disqualified")
    return _Asked(
        query=query.where(over, Lead.erased_at.is_(None), ended.is_not(None), ended <= now).order_by(
            Lead.id.desc()
        ),
        told_by="lead.status",
        dated_by=("lead.converted_at",),
        facts=(
            _Fact(name="lead.source", column=Lead.source),
            _Fact(name="lead.campaign", column=Lead.campaign),
            _Fact(name="lead.industry", column=Lead.industry),
            _Fact(name="lead.region", column=Lead.region),
            _Fact(name="lead.employees", column=Lead.employees, is_size=True),
        ),
        went_well=lambda outcome: outcome == "converted",
    )


def _accounts(reader: Reader, now: datetime) -> _Asked:
    """Return customers by how their last decided contract ended: renewed, or not."""
    ended = func.coalesce(Contract.ended_at, Contract.occurred_at, type_=Contract.ended_at.type)
    newest = func.row_number().over(
        partition_by=Contract.account_id, order_by=(Contract.ends_on.desc(), Contract.id.desc())
    )
    decided = (
        select(
            Contract.account_id,
            Contract.status,
            ended.label("ended_at"),
            Contract.occurred_at.label("began_at"),
            Contract.value,
            Contract.currency,
            newest.label("place"),
        )
        .where(
            Contract.deleted_at.is_(None),
            Contract.status.in_(["ended", "cancelled", "renewed"]),
            ended <= now,
            reader.readable(Contract),
        )
        .subquery()
    )
    query = (
        select(
            Account.id.label("record_id"),
            decided.c.status.label("outcome"),
            decided.c.ended_at,
            decided.c.began_at,
            decided.c.value.label("worth"),
            decided.c.currency.label("money_of"),
        )
        .join(decided, decided.c.account_id == Account.id)
        .where(decided.c.place == 1)
        .order_by(decided.c.ended_at.desc(), Account.id.desc())
    )
    return _Asked(
        query=query,
        told_by="contract.status",
        dated_by=("contract.ended_at", "contract.ends_on", "contract.account_id"),
        facts=(
            _Fact(name="account.industry", column=Account.industry),
            _Fact(name="account.region", column=Account.region),
            _Fact(name="account.employees", column=Account.employees, is_size=True),
        ),
        went_well=lambda outcome: outcome == "renewed",
        amount="contract.value",
        currency="contract.currency",
    )


_ASKED: dict[type[Record], Callable[[Reader, datetime], _Asked]] = {
    Deal: _deals,
    Lead: _leads,
    Account: _accounts,
}
