"""The funnel: what became of the leads that came in a time, by where they came from and who has them.

Time rule: a funnel "as of" an instant counts what was recorded and had happened by then (`crm_core.history`),
so that a figure of the past stays what it was. The cohort is the leads whose creation (`occurred_at`) lies in
`since <= t < until`.

Honest shares: a lead of last week cannot have been won within 90 days. A share "within N days" is therefore
counted over the leads that are at least N days old at `as_of`, resolved or not, and over what happened within
N days of each one's creation; so are the medians. What happened so far, of all leads, is counted beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from functools import cached_property
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from sqlalchemy import func, or_, select

from crm_core.access import Reader, Scope
from crm_core.arrays import NO_INSTANT, read_arrays
from crm_core.clock import DAY, instant, micros
from crm_core.columns import MONEY_SCALE
from crm_core.errors import AccessDeniedError, InvalidValueError
from crm_core.history import read_histories, resolve_as_of
from crm_core.phrases import Phrase, one_of
from crm_core.records import (
    Activity,
    ActivityKind,
    Campaign,
    Deal,
    DealStatus,
    Direction,
    Lead,
    LeadStatus,
    User,
)
from serving.shares import Share

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Objects = npt.NDArray[np.object_]

STEPS: Final = ("contacted", "converted", "deal", "won")
"""After the lead itself, in their order."""

WINDOWS: Final = (30, 90, 180, 365)
"""Days within which a step may be counted."""

_NEEDS: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    "source": ("lead", ("source",)),
    "campaign": ("lead", ("campaign", "campaign_id")),
    "region": ("lead", ("region",)),
    "industry": ("lead", ("industry",)),
    "owner": ("lead", ("owner_id",)),
    "month": ("lead", ()),
}
DIMENSIONS: Final = tuple(_NEEDS)
"""What leads are told apart by; `month` is that of their creation."""

MOST_GROUPS: Final = 100
"""Groups that are told apart: of a field that anybody types into there may be thousands."""

_TOUCHES: Final = (ActivityKind.CALL, ActivityKind.MAIL, ActivityKind.MEETING, ActivityKind.VISIT)
_NEVER: Final = np.iinfo(np.int64).max


@dataclass(frozen=True, kw_only=True)
class FunnelQuestion:
    """What is asked: leads created in `since <= day < until`, as known at `as_of`, told apart `by`."""

    since: date
    until: date
    as_of: datetime
    by: str = "source"
    within_days: int = 90

    def check(self, now: datetime) -> None:
        """Raise InvalidValueError for what makes no sense."""
        if self.by not in DIMENSIONS:
            raise InvalidValueError("by", self.by, one_of(DIMENSIONS))
        if self.since >= self.until:
            raise InvalidValueError(
                "until", self.until.isoformat(), Phrase("a day after {since}", since=self.since)
            )
        if self.within_days not in WINDOWS:
            raise InvalidValueError(
                "within_days", self.within_days, Phrase("one of {windows}", windows=str(WINDOWS))
            )
        if self.as_of > now:
            raise InvalidValueError("as_of", self.as_of.isoformat(), "an instant that is not in the future")


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step of one group: how many so far, how many within the window of those old enough, and how fast.

    `median_days` from the lead's creation, of those who took it within the window and are old enough; None
    where nobody did.
    """

    name: str
    count: int
    within: Share
    median_days: float | None


@dataclass(frozen=True, kw_only=True)
class Money:
    """What a campaign cost and brought, in its currency; None where nothing says what a customer cost."""

    currency: str | None
    cost: Decimal
    revenue: Decimal
    per_customer: Decimal | None
    times: float | None


@dataclass(frozen=True, kw_only=True)
class Group:
    """The leads with one value; `key` is what stands for it in an address, "" for no value."""

    key: str
    name: str | None
    leads: int
    old_enough: int
    steps: Sequence[Step]
    won: Mapping[str, Decimal] = field(default_factory=dict)
    money: Money | None = None


@dataclass(frozen=True, kw_only=True)
class Funnel:
    """All leads together, and by group, the largest first (months in their order).

    Beyond `MOST_GROUPS`, `others` are the leads of the `others_count` smaller groups together.
    """

    question: FunnelQuestion
    whole: Group
    groups: Sequence[Group]
    shows_cost: bool
    others: Group | None = None
    others_count: int = 0
    hidden: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class _Leads:
    """The leads of a cohort as known: when each took each step (NO_INSTANT: not yet), and what it brought."""

    ids: Ints
    created: Ints
    steps: Mapping[str, Ints]
    amount: npt.NDArray[np.float64]
    currency: Objects
    value: Objects

    def __len__(self) -> int:
        return int(self.ids.size)


def build_funnel(reader: Reader, question: FunnelQuestion, now: datetime) -> Funnel:
    """Return the funnel of the leads that a reader may see.

    Steps whose records the reader may not see are left out and named in `hidden`. Raises AccessDeniedError
    for a role that may not see leads, their status, or the field that they are told apart by.
    """
    question.check(now)
    leads = _read(reader, question, now)
    names = _names(reader, question.by, leads.value)
    every = np.ones(len(leads), dtype=np.bool_)
    values = [str(value or "") for value in leads.value.tolist()]
    keys = sorted(set(values))
    at = {key: place for place, key in enumerate(keys)}
    of = np.array([at[value] for value in values], dtype=np.int64)
    places = _largest(np.bincount(of, minlength=len(keys)), question.by)
    groups = [
        _group(leads, question, of == place, keys[place], names.get(keys[place], keys[place]) or None)
        for place in places
    ]
    others = ~np.isin(of, places)
    costs = _costs(reader, groups) if question.by == "campaign" else {}
    groups = [_with_cost(group, costs.get(group.key)) for group in groups]
    return Funnel(
        question=question,
        whole=_group(leads, question, every, "", None),
        groups=groups,
        others=_group(leads, question, others, "", None) if others.any() else None,
        others_count=len(keys) - len(places),
        shows_cost=any(group.money for group in groups),
        hidden=[step for step in STEPS if step not in leads.steps],
    )


def list_behind(
    reader: Reader, question: FunnelQuestion, now: datetime, key: str | None, step: str
) -> list[int]:
    """Return the ids of the leads behind a number: of a group (None: all) and a step ("": all leads)."""
    question.check(now)
    view = _view(reader, question, now)
    rows = np.ones(view.leads["id"].size, dtype=np.bool_)
    if key is not None:
        values = view.values(question.by).tolist()
        rows &= np.array([(value or "") == key for value in values], dtype=np.bool_)
    if step:
        taken = view.steps(step)
        if step not in taken:
            raise InvalidValueError("step", step, one_of(view.told))
        rows &= taken[step] != NO_INSTANT
    return [int(key) for key in view.leads["id"][rows].tolist()]


# ---------------------------------------------------------------- counting


def _largest(sizes: Ints, by: str) -> list[int]:
    """Return the places of the groups that are shown, the largest first; of months all, in their order."""
    if by == "month":
        return list(range(sizes.size))
    return [int(place) for place in np.argsort(-sizes, kind="stable")[:MOST_GROUPS]]


def _group(leads: _Leads, question: FunnelQuestion, rows: Bools, key: str, name: str | None) -> Group:
    rows = np.asarray(rows, dtype=np.bool_)
    old = rows & (leads.created + question.within_days * DAY <= micros(question.as_of))
    return Group(
        key=key,
        name=name,
        leads=int(rows.sum()),
        old_enough=int(old.sum()),
        steps=[_step(leads, question, rows, old, step) for step in leads.steps],
        won=_revenue(leads, rows),
    )


def _step(leads: _Leads, question: FunnelQuestion, rows: Bools, old: Bools, name: str) -> Step:
    at = leads.steps[name]
    took = at != NO_INSTANT
    wait = np.where(took, at - leads.created, _NEVER)
    in_time = old & (wait <= question.within_days * DAY)
    days = np.maximum(wait[in_time], 0) / DAY
    return Step(
        name=name,
        count=int((rows & took).sum()),
        within=Share(count=int(in_time.sum()), of=int(old.sum())),
        median_days=float(np.median(days)) if days.size else None,
    )


def _revenue(leads: _Leads, rows: Bools) -> dict[str, Decimal]:
    """Return what won deals brought, by currency."""
    won = leads.steps.get("won")
    if won is None:
        return {}
    paid = rows & (won != NO_INSTANT) & ~np.isnan(leads.amount)
    found: dict[str, Decimal] = {}
    for currency in {str(one) for one in leads.currency[paid]}:
        total = leads.amount[paid & (leads.currency == currency)].sum()
        found[currency] = Decimal(round(total)) / MONEY_SCALE
    return found


# ---------------------------------------------------------------- reading


def _read(reader: Reader, question: FunnelQuestion, now: datetime) -> _Leads:
    view = _view(reader, question, now)
    return _Leads(
        ids=view.leads["id"],
        created=view.leads["occurred_at"],
        steps=view.steps(),
        amount=view.deals.amount,
        currency=view.deals.currency,
        value=view.values(question.by),
    )


def _view(reader: Reader, question: FunnelQuestion, now: datetime) -> _View:
    _check_rights(reader, question.by)
    past = question.as_of < now - timedelta(minutes=1)
    as_of = micros(question.as_of)
    rows = _lead_rows(reader, question)
    known = np.maximum(rows["occurred_at"], rows["recorded_at"])
    gone = np.where(rows["deleted_at"] == NO_INSTANT, _NEVER, rows["deleted_at"])
    rows = {name: column[(known <= as_of) & (as_of < gone)] for name, column in rows.items()}
    return _View(reader=reader, as_of=as_of, past=past, leads=rows)


def _check_rights(reader: Reader, by: str) -> None:
    record_type, fields = _NEEDS[by]
    wanted = [record_type + "." + field for field in ("status", "converted_at", *fields)]
    if reader.right("lead").read is Scope.NONE or not reader.may_be_told_of(wanted):
        raise AccessDeniedError(
            Phrase("the role {role} may not see leads by {by}", role=reader.user.role, by=by)
        )


def _lead_rows(reader: Reader, question: FunnelQuestion) -> dict[str, Any]:
    since, until = (datetime.combine(day, time(), UTC) for day in (question.since, question.until))
    columns = (Lead.id, Lead.occurred_at, Lead.recorded_at, Lead.deleted_at)
    more = (Lead.status, Lead.converted_at, Lead.deal_id)
    fields = [getattr(Lead, name) for name in _NEEDS[question.by][1]]
    query = select(*columns, *more, *fields).where(
        reader.readable(Lead), Lead.occurred_at >= since, Lead.occurred_at < until
    )
    return dict(read_arrays(reader.session, query.order_by(Lead.id)))


@dataclass(frozen=True, kw_only=True, eq=False)
class _Deals:
    """The deal of each lead, in their order: since when it is known, when it was won, and for what."""

    created: Ints
    won_at: Ints
    amount: npt.NDArray[np.float64]
    currency: Objects


@dataclass(frozen=True, kw_only=True, eq=False)
class _View:
    """A cohort seen from an instant; where that is the present, the log need not be asked."""

    reader: Reader
    as_of: int
    past: bool
    leads: Mapping[str, Any]

    @property
    def told(self) -> tuple[str, ...]:
        """Return the steps that the reader may see."""
        contacted = ("contacted",) if self.reader.right("activity").read is not Scope.NONE else ()
        return (*contacted, "converted", *(("deal", "won") if self._sees_deals else ()))

    def steps(self, *only: str) -> dict[str, Ints]:
        """Return when each lead took each step, or some of them, of those that the reader may see."""
        read: Mapping[str, Callable[[], Ints]] = {
            "contacted": self._contacted,
            "converted": self._converted,
            "deal": lambda: self.deals.created,
            "won": lambda: self.deals.won_at,
        }
        return {step: read[step]() for step in self.told if not only or step in only}

    def values(self, by: str) -> Objects:
        """Return the value that each lead is told apart by; None for none."""
        if by == "month":
            months = [f"{instant(int(at)):%Y-%m}" for at in self.leads["occurred_at"]]
            return _objects(months)
        fields = _NEEDS[by][1]
        columns = self._as_known(Lead, fields, self.leads["id"], self.leads)
        if by == "campaign":
            named = zip(_whole(columns["campaign_id"]), columns["campaign"].tolist(), strict=True)
            return _objects([f"#{key}" if key is not None else text for key, text in named])
        if by == "owner":
            return _objects([None if key is None else str(key) for key in _whole(columns["owner_id"])])
        return _objects([value or None for value in columns[fields[0]].tolist()])

    @property
    def _sees_deals(self) -> bool:
        wanted = ["lead.deal_id", "deal.status", "deal.closed_at", "deal.amount"]
        return self.reader.right("deal").read is not Scope.NONE and self.reader.may_be_told_of(wanted)

    def _contacted(self) -> Ints:
        """Return when each lead was first called, written to or met by us."""
        at = instant(self.as_of)
        query = (
            select(Activity.lead_id.label("id"), func.min(Activity.occurred_at).label("at"))
            .where(
                Activity.lead_id.between(*self._span),
                Activity.kind.in_(_TOUCHES),
                or_(Activity.direction.is_(None), Activity.direction != Direction.INBOUND),
                Activity.occurred_at <= at,
                Activity.recorded_at <= at,
                or_(Activity.deleted_at.is_(None), Activity.deleted_at > at),
            )
            .group_by(Activity.lead_id)
            .order_by(Activity.lead_id)
        )
        found = read_arrays(self.reader.session, query)
        return _placed(self.leads["id"], found["id"], found["at"])

    @property
    def _span(self) -> tuple[int, int]:
        """The lowest and the highest id: leads that came in a time have nearly all that lie between."""
        ids = self.leads["id"]
        return (int(ids.min()), int(ids.max())) if ids.size else (0, 0)

    def _converted(self) -> Ints:
        """Return when each lead was converted: as the change of its status says, else its own date."""
        ids = self.leads["id"]
        known = self._as_known(Lead, ("status", "converted_at"), ids, self.leads)
        status, converted = known["status"], _instants(known["converted_at"])
        told = np.where(converted == NO_INSTANT, self.leads["occurred_at"], converted)
        return np.where(status == LeadStatus.CONVERTED, told, NO_INSTANT)

    @cached_property
    def deals(self) -> _Deals:
        """Return the deal that each lead led to, as known."""
        ids = self.leads["id"]
        rows = self._deal_rows() if self._sees_deals else None
        if rows is None or not rows["id"].size:
            nothing = np.full(ids.size, NO_INSTANT, dtype=np.int64)
            return _Deals(
                created=nothing,
                won_at=nothing,
                amount=np.full(ids.size, np.nan),
                currency=_objects([""] * ids.size),
            )
        values = self._as_known(Deal, ("status", "closed_at", "amount", "currency"), rows["id"], rows)
        closed = _instants(values["closed_at"])
        told = np.where(closed == NO_INSTANT, rows["occurred_at"], closed)
        won = np.where(values["status"] == DealStatus.WON, told, NO_INSTANT)
        place = _places(ids, rows["lead_id"])
        return _Deals(
            created=_at_places(rows["occurred_at"], place, NO_INSTANT),
            won_at=_at_places(won, place, NO_INSTANT),
            amount=_at_places(_numbers(values["amount"]), place, np.nan),
            currency=_objects([values["currency"][one] or "" if one >= 0 else "" for one in place.tolist()]),
        )

    def _deal_rows(self) -> dict[str, Any]:
        columns = (Deal.id, Deal.occurred_at, Deal.recorded_at, Deal.deleted_at)
        more = (Deal.status, Deal.closed_at, Deal.amount, Deal.currency)
        query = (
            select(Lead.id.label("lead_id"), *columns, *more)
            .join(Deal, Deal.id == Lead.deal_id)
            .where(Lead.id.between(*self._span), self.reader.readable(Deal))
        )
        rows = read_arrays(self.reader.session, query.order_by(Lead.id))
        known = np.maximum(rows["occurred_at"], rows["recorded_at"])
        gone = np.where(rows["deleted_at"] == NO_INSTANT, _NEVER, rows["deleted_at"])
        return {name: column[(known <= self.as_of) & (self.as_of < gone)] for name, column in rows.items()}

    def _as_known(
        self, model: type[Lead | Deal], fields: Sequence[str], ids: Ints, rows: Mapping[str, Any]
    ) -> dict[str, Objects]:
        """Return fields as known at the instant: from the rows now, else through the log."""
        current = {name: _stored(rows[name]) for name in fields}
        if not self.past or not ids.size:
            return current
        when = np.full(ids.size, self.as_of)
        histories = read_histories(self.reader.session, model, fields, ids)
        return {name: resolve_as_of(histories[name], current[name], ids, when) for name in fields}


def _stored(column: Any) -> Objects:  # noqa: ANN401  an array of any kind
    """Return a column as objects, with None for NULL."""
    if column.dtype == np.int64:
        return _objects([None if value == NO_INSTANT else value for value in column.tolist()])
    return _objects(column.tolist())


def _objects(values: Sequence[Any]) -> Objects:
    found = np.empty(len(values), dtype=object)
    found[:] = values
    return found


def _whole(values: Objects) -> list[int | None]:
    return [None if value is None else int(value) for value in values.tolist()]


def _numbers(values: Objects) -> npt.NDArray[np.float64]:
    return np.array([np.nan if value is None else float(value) for value in values], dtype=np.float64)


def _instants(values: Objects) -> Ints:
    return np.array([NO_INSTANT if value is None else int(value) for value in values], dtype=np.int64)


def _places(ids: Ints, of: Ints) -> Ints:
    """Return for each id the row of the sorted ids `of`; -1 where it is not there."""
    if not of.size:
        return np.full(ids.size, -1, dtype=np.int64)
    place = np.minimum(np.searchsorted(of, ids), of.size - 1)
    return np.where(of[place] == ids, place, -1)


def _placed(ids: Ints, of: Ints, values: Ints) -> Ints:
    return _at_places(values, _places(ids, of), NO_INSTANT) if of.size else np.full(ids.size, NO_INSTANT)


def _at_places(values: npt.NDArray[Any], place: Ints, missing: float) -> npt.NDArray[Any]:
    return np.where(place >= 0, values[np.maximum(place, 0)], missing)


# ---------------------------------------------------------------- names and money


def _names(reader: Reader, by: str, values: Objects) -> dict[str, str]:
    """Return what keys are called where they are ids."""
    if by == "owner":
        rows = reader.session.execute(select(User.id, User.name))
        return {str(key): name for key, name in rows}
    if by == "campaign" and any(str(value).startswith("#") for value in values):
        query = reader.select(Campaign).with_only_columns(Campaign.id, Campaign.name)
        return {f"#{key}": name for key, name in reader.session.execute(query)}
    return {}


def _costs(reader: Reader, groups: Sequence[Group]) -> dict[str, tuple[Decimal, str | None]]:
    """Return by key what campaigns have cost, where the reader may see that."""
    if not reader.may_be_told_of(["campaign.cost"]):
        return {}
    ids = [int(group.key[1:]) for group in groups if group.key.startswith("#")]
    query = reader.select(Campaign).with_only_columns(Campaign.id, Campaign.cost, Campaign.currency)
    rows = reader.session.execute(query.where(Campaign.id.in_(ids), Campaign.cost.is_not(None)))
    return {f"#{key}": (cost, currency) for key, cost, currency in rows if cost is not None}


def _with_cost(group: Group, cost: tuple[Decimal, str | None] | None) -> Group:
    if cost is None:
        return group
    spent, currency = cost
    customers = next((step.count for step in group.steps if step.name == "won"), 0)
    revenue = group.won.get(currency or "", Decimal(0))
    money = Money(
        currency=currency,
        cost=spent,
        revenue=revenue,
        per_customer=spent / customers if customers else None,
        times=float(revenue / spent) if spent else None,
    )
    return Group(**{**vars(group), "money": money})
