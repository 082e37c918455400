"""What the people of a team do, next to their own past, and how far they are towards their targets.

A week or month that goes on is compared with the same part of the weeks or months before it: by Wednesday
noon with what the person had done by Wednesday noon then. The norm is the median of these, over the parts
in which the person worked here at all. Every number belongs to the owner that its record has now.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from statistics import median
from typing import Any, Final, Literal
from weakref import WeakKeyDictionary
from zoneinfo import ZoneInfo

from sqlalchemy import ColumnElement, Engine, and_, case, exists, func, literal, null, or_, select

from crm_core.access import Reader, Scope
from crm_core.kept_forecasts import find_kept
from crm_core.records import (
    Account,
    Activity,
    ActivityKind,
    Contract,
    Deal,
    DealStatus,
    Direction,
    Lead,
    LeadStatus,
    Payment,
    Role,
)
from crm_core.targets import (
    Gap,
    Measure,
    Target,
    Whose,
    gaps_of,
    list_targets,
    months_of,
    periods_at,
    read_period,
)
from crm_core.tokens import works_here
from serving.forecast_making import scope_of
from serving.forecasts import Part
from serving.owners import Staff

Span = Literal["week", "month"]

BEFORE: Final[Mapping[str, int]] = {"week": 8, "month": 6}
"""How many earlier weeks or months make the norm."""

UNTOUCHED_HOURS: Final = (4, 24, 72)
"""For so long a new lead may wait, one of these."""

NEW_DAYS: Final = 30
"""A lead is new for so long; one that waits longer is no news any more."""

OVERDUE_DAYS: Final = 30
"""A task that was due longer ago is given up, and not counted as overdue."""

COUNTED: Final = ("calls", "mails", "meetings", "records")
"""What is counted of activities: our own, and on how many records they were."""

_NO_BUCKET: Final = -1

FRESH: Final = timedelta(minutes=5)
"""For how long what people did in earlier weeks or months is good enough."""

_MOST_KEPT: Final = 200

_Counts = Mapping[tuple[int, int], Mapping[str, int]]
"""By person and bucket, what was counted."""

_KEPT: WeakKeyDictionary[Engine, dict[tuple[frozenset[int], str, datetime], tuple[datetime, _Counts]]] = (
    WeakKeyDictionary()
)
"""By whose activities were counted, so that nobody is told of more people than they see."""


@dataclass(frozen=True, kw_only=True)
class Normed:
    """A count, and the person's own norm for the same part of earlier times; None where there is none."""

    count: int
    norm: float | None

    @property
    def moved(self) -> str:
        """Say how it compares: "more", "less" or "usual"; "" without a norm. Small differences are usual."""
        if self.norm is None:
            return ""
        off = self.count - self.norm
        if abs(off) < max(2.0, 0.25 * self.norm):
            return "usual"
        return "more" if off > 0 else "less"


@dataclass(frozen=True, kw_only=True)
class Person:
    """One person's time so far; `won` and `forecast` (of the month, where one is kept) by currency."""

    id: int
    name: str
    team_id: int | None
    done: Mapping[str, Normed]
    untouched: int | None
    overdue: int | None
    deals_won: Normed | None
    won: Mapping[str, Decimal]
    forecast: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Attained:
    """A target, what has been reached, and where the forecast sees it end; None where nothing says."""

    target: Target
    name: str
    reached: Decimal
    expected: float | None = None
    range_80: tuple[float, float] | None = None
    gaps: Sequence[Gap] = ()

    @property
    def share(self) -> float:
        """Return the share that is reached."""
        return float(self.reached / self.target.value)

    @property
    def expected_share(self) -> float | None:
        """Return the share that the forecast sees at the end."""
        return None if self.expected is None else self.expected / float(self.target.value)


@dataclass(frozen=True, kw_only=True)
class TeamQuestion:
    """What is asked: this week or month in a time zone, and after how many hours a lead waits too long."""

    now: datetime
    zone: str
    span: Span = "week"
    hours: int = 24


@dataclass(frozen=True, kw_only=True)
class TeamPage:
    """People by team and name, since when they are counted, and targets."""

    since: datetime
    people: Sequence[Person]
    targets: Sequence[Attained]
    shows: frozenset[str]


def read_team(reader: Reader, staff: Staff, question: TeamQuestion) -> TeamPage:
    """Return what a reader may see of their people: a rep of themselves."""
    counter = _Counter(reader=reader, staff=staff, question=question, starts=starts_of(question))
    people = [user for user in staff.owners(reader.user) if works_here(user) and user.role in _SELLING]
    done, untouched, won = counter.activities(), counter.waiting_leads(), counter.wins()
    kept = _kept(reader)
    month = periods_at(question.now.date())[0]
    shows = frozenset(
        name
        for name, seen in (("activities", done), ("leads", untouched), ("deals", won))
        if seen is not None
    )
    found = [
        Person(
            id=user.id,
            name=user.name,
            team_id=user.team_id,
            done={} if done is None else done.of(user.id, COUNTED),
            overdue=None if done is None else done.overdue.get(user.id, 0),
            untouched=None if untouched is None else untouched.get(user.id, 0),
            deals_won=None if won is None else won.normed(user.id, question.now),
            won={} if won is None else won.money(user.id, counter.starts[0], question.now),
            forecast=_expected(kept, month, user.id),
        )
        for user in people
    ]
    targets = _attained(reader, staff, question.now, kept, won)
    return TeamPage(since=counter.starts[0], people=found, targets=targets, shows=shows)


_SELLING: Final = frozenset({Role.REP, Role.MANAGER})


def starts_of(question: TeamQuestion) -> list[datetime]:
    """Return when this week (on Monday) or month began in the zone, and those before, newest first."""
    here = question.now.astimezone(ZoneInfo(question.zone))
    today = here.replace(hour=0, minute=0, second=0, microsecond=0)
    count = BEFORE[question.span] + 1
    if question.span == "week":
        monday = today - timedelta(days=today.weekday())
        return [_utc(monday - timedelta(weeks=back)) for back in range(count)]
    month = today.year * 12 + today.month - 1
    firsts = [(month - back) for back in range(count)]
    return [_utc(today.replace(year=one // 12, month=one % 12 + 1, day=1)) for one in firsts]


def _utc(local: datetime) -> datetime:
    return local.astimezone(ZoneInfo("UTC"))


# ---------------------------------------------------------------- counting


@dataclass(frozen=True, kw_only=True)
class _Done:
    """By person and bucket (0: now, then back in time) what was counted, and by person what is overdue."""

    counts: Mapping[tuple[int, int], Mapping[str, int]]
    overdue: Mapping[int, int]
    buckets: int

    def of(self, user_id: int, names: Collection[str]) -> dict[str, Normed]:
        rows = [self.counts.get((user_id, bucket), {}) for bucket in range(self.buckets)]
        # Before somebody's first deed here nothing says what is usual.
        last = max((bucket for bucket in range(self.buckets) if rows[bucket]), default=0)
        return {
            name: Normed(
                count=rows[0].get(name, 0),
                norm=float(median(row.get(name, 0) for row in rows[1 : last + 1])) if last else None,
            )
            for name in names
        }


@dataclass(frozen=True, kw_only=True)
class _Won:
    """Deals won since long ago: whose, when, for what."""

    deals: Sequence[tuple[int, datetime, Decimal | None, str | None]]
    starts: Sequence[datetime]

    def normed(self, user_id: int, now: datetime) -> Normed:
        """Return how many somebody won, and their norm."""
        spent = now - self.starts[0]
        mine = [at for owner, at, _, _ in self.deals if owner == user_id]
        counts = [sum(start <= at <= start + spent for at in mine) for start in self.starts]
        return Normed(count=counts[0], norm=float(median(counts[1:])))

    def money(self, user_id: int, since: datetime, until: datetime) -> dict[str, Decimal]:
        """Return what somebody won in a time, by currency."""
        return self.sums({user_id}, since, until)

    def sums(self, users: Collection[int], since: datetime, until: datetime) -> dict[str, Decimal]:
        """Return what people won in `since <= t < until`, by currency."""
        found: dict[str, Decimal] = {}
        for owner, at, amount, currency in self.deals:
            if owner in users and since <= at < until and amount is not None:
                found[currency or ""] = found.get(currency or "", Decimal(0)) + amount
        return found

    def count(self, users: Collection[int], since: datetime, until: datetime) -> int:
        """Return how many deals people won in a time."""
        return sum(owner in users and since <= at < until for owner, at, _, _ in self.deals)


@dataclass(frozen=True, kw_only=True)
class _Counter:
    """Asks the store; None where the reader may not see what would be counted."""

    reader: Reader
    staff: Staff
    question: TeamQuestion
    starts: Sequence[datetime]

    def reach(self, record_type: str) -> set[int] | None:
        """Return whose records of a type the reader sees; None for nobody's."""
        scope = self.reader.right(record_type).read
        user = self.reader.user
        if scope is Scope.NONE:
            return None
        if scope is Scope.OWN:
            return {user.id}
        if scope is Scope.ALL:
            return {one.id for one in self.staff.users}
        within = self.staff.is_within
        return {user.id, *(one.id for one in self.staff.users if within(one.team_id, user.team_id))}

    def activities(self) -> _Done | None:
        """Return what people did in each part of time, and their overdue tasks."""
        users = self.reach("activity")
        if users is None or not self.reader.may_be_told_of(
            ["activity.kind", "activity.due_at", "activity.outcome"]
        ):
            return None
        counts = dict(self._before(frozenset(users)))
        counts |= self._counted(users, [0])
        return _Done(counts=counts, overdue=self._overdue(users), buckets=len(self.starts))

    def _counted(self, users: Collection[int], buckets: Sequence[int]) -> _Counts:
        rows = self.reader.session.execute(self._activity_query(users, buckets))
        return {
            (owner, bucket): dict(zip(COUNTED, numbers, strict=True))
            for owner, bucket, *numbers in rows
            if bucket != _NO_BUCKET
        }

    def _overdue(self, users: Collection[int]) -> dict[int, int]:
        """Return how many tasks of each person are late: of the few that are due, whoever has them."""
        query = select(Activity.owner_id, func.count()).where(
            Activity.due_at < self.question.now,
            Activity.due_at >= self.question.now - timedelta(days=OVERDUE_DAYS),
            Activity.kind == ActivityKind.TASK,
            Activity.outcome.is_(None),
            Activity.deleted_at.is_(None),
        )
        rows = self.reader.session.execute(query.group_by(Activity.owner_id))
        return {owner: count for owner, count in rows if owner is not None and owner in users}

    def _before(self, users: frozenset[int]) -> _Counts:
        """Return what people did in the parts of time before this one, as known some minutes ago at most.

        That is most of what there is to count, and hardly changes any more.
        """
        kept = _KEPT.setdefault(self.reader.session.get_bind().engine, {})
        key = (users, self.question.span, self.starts[0])
        found = kept.get(key)
        if found is None or not timedelta(0) <= self.question.now - found[0] < FRESH:
            found = self.question.now, self._counted(users, range(1, len(self.starts)))
            if len(kept) >= _MOST_KEPT:
                kept.clear()
            if self.starts[0] < self.question.now:
                kept[key] = found
        return found[1]

    def _activity_query(self, users: Collection[int], buckets: Sequence[int]) -> Any:  # noqa: ANN401  a query of many columns
        now, start = self.question.now, self.starts[buckets[-1]]
        until = now if buckets[0] == 0 else self.starts[0]
        bucket = self._bucket(Activity.occurred_at, buckets)
        ours = or_(Activity.direction.is_(None), Activity.direction != Direction.INBOUND)
        touch = Activity.kind.in_([ActivityKind.CALL, ActivityKind.MAIL, *_MET])
        kinds = ((ActivityKind.CALL,), (ActivityKind.MAIL,), _MET)
        counts = [func.sum(case((and_(ours, Activity.kind.in_(kind)), 1), else_=0)) for kind in kinds]
        records = func.count(func.distinct(case((and_(ours, touch), _RECORD), else_=null())))
        in_time = and_(Activity.occurred_at >= start, Activity.occurred_at <= until)
        return (
            select(Activity.owner_id, bucket.label("bucket"), *counts, records)
            .where(Activity.owner_id.in_(users), Activity.deleted_at.is_(None), in_time)
            .group_by(Activity.owner_id, "bucket")
        )

    def _bucket(self, column: Any, buckets: Sequence[int]) -> ColumnElement[int]:  # noqa: ANN401  a column of instants
        """Return which part of time an instant lies in: 0 for this one."""
        spent = self.question.now - self.starts[0]
        parts = [
            (and_(column >= self.starts[number], column <= self.starts[number] + spent), literal(number))
            for number in buckets
        ]
        return case(*parts, else_=literal(_NO_BUCKET))

    def waiting_leads(self) -> dict[int, int] | None:
        """Return how many new leads of each person nobody has turned to for too long."""
        users, now = self.reach("lead"), self.question.now
        if users is None or not self.reader.may_be_told_of(["lead.status", "lead.owner_id"]):
            return None
        touched = exists().where(
            Activity.lead_id == Lead.id,
            Activity.deleted_at.is_(None),
            or_(Activity.direction.is_(None), Activity.direction != Direction.INBOUND),
        )
        query = (
            select(Lead.owner_id, func.count())
            .where(
                Lead.owner_id.in_(users),
                Lead.deleted_at.is_(None),
                Lead.status == LeadStatus.OPEN,
                Lead.occurred_at <= now - timedelta(hours=self.question.hours),
                Lead.occurred_at > now - timedelta(days=NEW_DAYS),
                ~touched,
            )
            .group_by(Lead.owner_id)
        )
        rows = self.reader.session.execute(query)
        return {owner: count for owner, count in rows if owner is not None}

    def wins(self) -> _Won | None:
        """Return the deals won since the earliest time that is asked about."""
        users = self.reach("deal")
        if users is None or not self.reader.may_be_told_of(
            ["deal.status", "deal.closed_at", "deal.owner_id"]
        ):
            return None
        first = min(self.starts[-1], read_period(periods_at(self.question.now.date())[2])[0])
        told: list[Any] = [
            column if self.reader.may_read_field("deal", column.key) else null()
            for column in (Deal.amount, Deal.currency)
        ]
        query: Any = select(Deal.owner_id, Deal.closed_at, *told).where(
            Deal.owner_id.in_(users),
            Deal.deleted_at.is_(None),
            Deal.status == DealStatus.WON,
            Deal.closed_at >= first,
        )
        rows: Iterable[Any] = self.reader.session.execute(query)
        deals = [
            (row[0], row[1], row[2], row[3]) for row in rows if row[0] is not None and row[1] is not None
        ]
        return _Won(deals=deals, starts=self.starts)


_MET: Final = (ActivityKind.MEETING, ActivityKind.VISIT)

_RECORD: Final = case(
    (Activity.lead_id.is_not(None), Activity.lead_id * 4),
    (Activity.deal_id.is_not(None), Activity.deal_id * 4 + 1),
    (Activity.account_id.is_not(None), Activity.account_id * 4 + 2),
    (Activity.contact_id.is_not(None), Activity.contact_id * 4 + 3),
    else_=null(),
)
"""One number for the record that an activity is about."""


# ---------------------------------------------------------------- targets


def _kept(reader: Reader) -> Mapping[str, Any] | None:
    """Return the forecast that is kept of all that the reader may see; one is made by its own page."""
    if reader.right("deal").read is Scope.NONE or not reader.may_read_field("deal", "amount"):
        return None
    if not reader.may_read_field("deal", "probability"):
        return None
    found = find_kept(reader.session, scope_of(reader.session, reader.user, Part()))
    return None if found is None else found.content


def _expected(kept: Mapping[str, Any] | None, period: str, user_id: int) -> dict[str, float]:
    """Return what the forecast expects of a person in a period, by currency."""
    return {
        one["currency"]: part["expected"]
        for one in (kept["periods"] if kept else ())
        if one["period"] == period
        for part in one["by_owner"]
        if part["id"] == user_id
    }


def _attained(
    reader: Reader, staff: Staff, now: datetime, kept: Mapping[str, Any] | None, won: _Won | None
) -> list[Attained]:
    month, _, quarter, _ = periods_at(now.date())
    everything = reader.user.role in {Role.ANALYST, Role.ADMIN}
    people = {one.id for one in staff.owners(reader.user)}
    teams = {one.team_id for one in staff.users if one.id in people and one.team_id is not None}
    if reader.user.role == Role.REP:
        teams = set()
    periods = periods_at(now.date())
    known = list_targets(
        reader.session,
        periods={*periods, *(each for period in periods for each in months_of(period))},
        users=None if everything else people,
        teams=None if everything else teams,
    )
    found = [target for target in known if target.period in periods]
    converted = _converted(reader, [month, quarter]) if any(_is_leads(one) for one in found) else {}
    money = {
        measure: read(reader, [month, quarter])
        for measure, read in ((Measure.CONTRACT_VALUE, _signed), (Measure.PAYMENTS_RECEIVED, _received))
        if any(one.measure == measure for one in found)
    }
    shown = [target for target in found if _may_be_told(reader, target, won, money)]
    told = [_one(staff, target, kept, won, converted, money) for target in shown]
    return [replace(one, gaps=gaps_of(one.target, known, _members(staff, one.target))) for one in told]


def _is_leads(target: Target) -> bool:
    return target.measure == Measure.LEADS_CONVERTED


_Sums = Mapping[tuple[int, str, str], Decimal]
"""By person, period and currency, what came of something."""


def _may_be_told(
    reader: Reader, target: Target, won: _Won | None, money: Mapping[Measure, _Sums | None]
) -> bool:
    if target.measure in money:
        return money[Measure(target.measure)] is not None
    if target.measure == Measure.WON_AMOUNT and not reader.may_be_told_of(["deal.amount", "deal.currency"]):
        return False  # what is reached would be told as nothing
    return _is_leads(target) or won is not None


def _one(
    staff: Staff,
    target: Target,
    kept: Mapping[str, Any] | None,
    won: _Won | None,
    converted: Mapping[tuple[int, str], int],
    money: Mapping[Measure, _Sums | None],
) -> Attained:
    since, until = read_period(target.period)
    users = _members(staff, target)
    reached = Decimal(0)
    if target.measure == Measure.LEADS_CONVERTED:
        reached = Decimal(sum(converted.get((user, target.period), 0) for user in users))
    elif target.measure in money:
        sums = money[Measure(target.measure)] or {}
        keys = [(user, target.period, target.currency) for user in users]
        reached = sum((sums.get(key, Decimal(0)) for key in keys), Decimal(0))
    elif won is not None and target.measure == Measure.DEALS_WON:
        reached = Decimal(won.count(users, since, until))
    elif won is not None:
        reached = won.sums(users, since, until).get(target.currency, Decimal(0))
    expected, span = _projected(kept, target, users)
    names = staff.names if target.whose == Whose.USER else staff.teams
    return Attained(
        target=target,
        name=names.get(target.whose_id, ""),
        reached=reached,
        expected=expected,
        range_80=span,
    )


def _members(staff: Staff, target: Target) -> set[int]:
    if target.whose == Whose.USER:
        return {target.whose_id}
    return {one.id for one in staff.users if staff.is_within(one.team_id, target.whose_id)}


def _projected(
    kept: Mapping[str, Any] | None, target: Target, users: Collection[int]
) -> tuple[float | None, tuple[float, float] | None]:
    """Return where the forecast sees an amount at the period's end, with its range where that is of one part.

    Ranges of parts do not add up, so a team with teams below it gets none.
    """
    if kept is None or target.measure != Measure.WON_AMOUNT:
        return None, None
    period = next(
        (
            one
            for one in kept["periods"]
            if (one["period"], one["currency"]) == (target.period, target.currency)
        ),
        None,
    )
    if period is None:
        return None, None
    parts = [part for part in period["by_owner"] if part["id"] in users]
    expected = sum(part["expected"] for part in parts)
    same = [
        part for part in period["by_team"] if target.whose == Whose.TEAM and part["id"] == target.whose_id
    ]
    one = (
        parts[0] if len(parts) == 1 else same[0] if same and abs(same[0]["expected"] - expected) < 1 else None
    )
    low, high = one["ranges"]["80"] if one is not None else (0.0, 0.0)
    return expected, None if one is None else (low, high)


def _converted(reader: Reader, periods: Sequence[str]) -> dict[tuple[int, str], int]:
    """Return how many leads each person converted in each period, as far as the reader may see them."""
    if not reader.may_be_told_of(["lead.converted_at", "lead.status", "lead.owner_id"]):
        return {}
    spans = {period: read_period(period) for period in periods}
    sums = [
        func.sum(case((and_(Lead.converted_at >= since, Lead.converted_at < until), 1), else_=0))
        for since, until in spans.values()
    ]
    query = (
        select(Lead.owner_id, *sums)
        .where(
            Lead.converted_at >= min(since for since, _ in spans.values()),
            Lead.status == LeadStatus.CONVERTED,
            Lead.deleted_at.is_(None),
            reader.readable(Lead),
        )
        .group_by(Lead.owner_id)
    )
    return {
        (owner, period): count
        for owner, *counts in reader.session.execute(query)
        for period, count in zip(spans, counts, strict=True)
        if owner is not None
    }


def _signed(reader: Reader, periods: Sequence[str]) -> _Sums | None:
    """Return what the contracts are worth that were signed in each period, as far as the reader sees them."""
    return _money_by_owner(reader, periods, Contract, Contract.occurred_at, Contract.value)


def _received(reader: Reader, periods: Sequence[str]) -> _Sums | None:
    """Return what came in in each period, as far as the reader may see it."""
    return _money_by_owner(reader, periods, Payment, Payment.paid_at, Payment.amount)


def _money_by_owner(
    reader: Reader,
    periods: Sequence[str],
    model: type[Contract | Payment],
    at: Any,  # noqa: ANN401  a column of instants
    amount: Any,  # noqa: ANN401  a column of money
) -> _Sums | None:
    """Return sums by the owner of the deal, or else of the customer; None where they may not be seen."""
    name = model.record_type
    fields = [f"{name}.{field}" for field in (at.key, amount.key, "currency", "account_id", "deal_id")]
    if not reader.may_be_told_of([*fields, "deal.owner_id", "account.owner_id"]):
        return None
    owner = func.coalesce(Deal.owner_id, Account.owner_id)
    spans = {period: read_period(period) for period in periods}
    sums = [
        func.sum(case((and_(at >= since, at < until), amount), else_=null()))
        for since, until in spans.values()
    ]
    query: Any = (
        select(owner, model.currency, *sums)
        .join(Account, Account.id == model.account_id)
        .outerjoin(Deal, Deal.id == model.deal_id)
        .where(
            at >= min(since for since, _ in spans.values()),
            model.deleted_at.is_(None),
            reader.readable(model),
        )
        .group_by(owner, model.currency)
    )
    found: dict[tuple[int, str, str], Decimal] = {}
    for owner_id, currency, *amounts in reader.session.execute(query):
        for period, sum_of in zip(spans, amounts, strict=True):
            if owner_id is not None and sum_of is not None:
                found[owner_id, period, currency or ""] = Decimal(sum_of)
    return found
