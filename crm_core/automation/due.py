"""What comes with time: which records are due for a rule now.

Nothing is counted down and no list of what is due is kept. What is due is worked out from what the records
say whenever somebody looks, and each cause has a key made of the record and of what its time is counted from,
so that looking again, late, or with a clock that went back finds nothing new:

- `d17:2026-03-02` is the day on which record 17 was due;
- `i17:1772441000000000` is the instant since which nothing has happened to record 17.

A clock that jumps ahead has a rule act early, as the clock says so, and then not again. One that goes back
has it act on nothing until it is where it was. Days are those of the zone in which people work, and what is
due at an hour that a day does not have is due when that hour would have been; hours are counted as they pass.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

from sqlalchemy import BigInteger, ColumnElement, and_, exists, func, or_, select, true, type_coerce
from sqlalchemy.orm import Session

from crm_core.access import Reader
from crm_core.automation.causes import Cause, Found
from crm_core.automation.conditions import conditions_of, reader_for
from crm_core.automation.kept import Active, AutomationRun
from crm_core.automation.triggers import CREATED, DateReached, Idle, StageOverdue, Unit
from crm_core.changes import Action, Change
from crm_core.clock import day_of, instant, micros
from crm_core.columns import Day
from crm_core.declared import declarations
from crm_core.fields import CUSTOM, FieldKind, model_of
from crm_core.filters import compile_filter
from crm_core.records import Account, Activity, Contract, Deal, DealStatus, Order, Record
from crm_core.validation import columns_of
from crm_core.working_time import WorkingTime

CAUGHT_UP: Final = timedelta(days=7)
"""What fell due so long before the last look is still acted on: it was learned of late."""

LATEST_WISH: Final = timedelta(days=31)
"""What comes back every year is acted on so late at most, however long nobody looked."""

FIRST_YEAR: Final = 1900
"""Of dates that come back every year."""

_LISTED: Final = 150
_AT_ONCE: Final = 500
_ONE_DAY: Final = timedelta(days=1)


@dataclass(frozen=True, kw_only=True)
class Look:
    """When somebody looks, when that was done last, and what they know: working time and stages' norms."""

    now: datetime
    working: WorkingTime
    looked: datetime | None = None
    norms: Mapping[tuple[str, str], timedelta] = field(default_factory=dict)


def find_due(session: Session, active: Active, look: Look, *, limit: int) -> list[Found]:
    """Return what a rule is to act on now, at most `limit`, the longest due first."""
    found = sorted(_due(session, active, look), key=lambda cause: (cause.at, cause.record_id))
    new = list(_unknown(session, active, found))
    return [(active, cause) for cause in new[:limit]]


def _due(session: Session, active: Active, look: Look) -> Iterable[Cause]:
    match active.rule.trigger:
        case DateReached() as trigger:
            return _dates(session, active, trigger, look)
        case Idle() as trigger:
            return _idle(session, active, trigger, look)
        case StageOverdue() as trigger:
            return _overdue(session, active, trigger, look)
    return ()


def _unknown(session: Session, active: Active, found: Sequence[Cause]) -> Iterator[Cause]:
    """Yield the causes that no run is about."""
    for start in range(0, len(found), _AT_ONCE):
        some = found[start : start + _AT_ONCE]
        keys = [cause.key for cause in some]
        known = set(
            session.scalars(
                select(AutomationRun.cause).where(
                    AutomationRun.rule_id == active.id, AutomationRun.cause.in_(keys)
                )
            )
        )
        yield from (cause for cause in some if cause.key not in known)


def _fitting(session: Session, active: Active, *more: str) -> tuple[Reader, ColumnElement[bool]]:
    """Return the condition that a record is there and fits a rule's conditions, and more."""
    reader, model = reader_for(session, active), model_of(session, active.rule.record_type)
    texts = [*conditions_of(active), *more]
    return reader, and_(model.deleted_at.is_(None), compile_filter(reader, active.rule.record_type, texts))


# ---------------------------------------------------------------- dates


def _dates(session: Session, active: Active, trigger: DateReached, look: Look) -> Iterator[Cause]:
    days = due_days(trigger, active, look)
    if not days:
        return
    reader, fits = _fitting(session, active)
    held = _held_days(session, active, trigger, look.working)
    within = _holds_one_of(reader, active, trigger, days, look.working)
    model = model_of(session, active.rule.record_type)
    for record_id, *stored in session.execute(select(model.id, *held.columns).where(fits, within)):
        said = held.read(stored[0])
        day = None if said is None else due_day(trigger, said, days)
        if day is not None and is_due(trigger, active, day, look):
            yield date_cause(record_id, day, at_of(trigger, day, look.working))


def due_days(trigger: DateReached, active: Active, look: Look) -> list[date]:
    """Return the days on which something may have fallen due that is still to be acted on."""
    today = look.working.local_day(look.now)
    last = today if at_of(trigger, today, look.working) <= look.now else today - _ONE_DAY
    if trigger.days < 0 and not trigger.yearly:
        first = today + timedelta(days=trigger.days)
    else:
        begun = min(look.looked or active.since, look.now) - CAUGHT_UP
        first = look.working.local_day(max(begun, active.since))
    if trigger.yearly:  # nobody wishes a happy birthday months later
        first = max(first, last - LATEST_WISH)
    return [first + timedelta(days=number) for number in range((last - first).days + 1)]


def is_due(trigger: DateReached, active: Active, day: date, look: Look) -> bool:
    """Tell whether what fell due on a day is the rule's to act on."""
    if trigger.days < 0 and not trigger.yearly:
        return True
    return at_of(trigger, day, look.working) > active.since


def at_of(trigger: DateReached, day: date, working: WorkingTime) -> datetime:
    """Return the instant at which a rule acts on a day."""
    return datetime.combine(day, trigger.at, tzinfo=working.zone).astimezone(UTC)


def due_day(trigger: DateReached, held: date, days: Sequence[date]) -> date | None:
    """Return on which of some consecutive days a record was due that holds a date; the last, if several."""
    offset = timedelta(days=trigger.days)
    if not trigger.yearly:
        day = held + offset
        return day if days[0] <= day <= days[-1] else None
    return next((day for day in reversed(days) if _comes_back(held, day - offset)), None)


def _comes_back(held: date, day: date) -> bool:
    """Tell whether a date comes back on a day; what fell on the 29th of February does on the 28th, too."""
    if held > day:
        return False
    if (held.month, held.day) == (day.month, day.day):
        return True
    return (held.month, held.day, day.month, day.day) == (2, 29, 2, 28) and not _is_leap(day.year)


def _is_leap(year: int) -> bool:
    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)


def date_cause(record_id: int, day: date, at: datetime) -> Cause:
    """Return the cause that a record was due on a day."""
    return Cause(key=f"d{record_id}:{day.isoformat()}", record_id=record_id, at=at)


@dataclass(frozen=True, kw_only=True)
class _Held:
    """Where the days of a field are kept, and how they are read."""

    columns: Sequence[Any]
    name: str
    is_day: bool
    working: WorkingTime
    custom: bool

    def read(self, stored: Any) -> date | None:  # noqa: ANN401  as the column has it
        """Return the day that a stored value stands for, where people work."""
        value = (stored or {}).get(self.name) if self.custom else stored
        if value is None:
            return None
        if self.is_day:
            return day_of(value)
        return self.working.local_day(instant(value))


def _held_days(session: Session, active: Active, trigger: DateReached, working: WorkingTime) -> _Held:
    columns = columns_of(model_of(session, active.rule.record_type))
    is_day = holds_days(session, active.rule.record_type, trigger.field)
    if trigger.field.startswith(CUSTOM):
        name = trigger.field.removeprefix(CUSTOM)
        return _Held(columns=[columns["custom"]], name=name, is_day=is_day, working=working, custom=True)
    stored = type_coerce(columns[trigger.field], BigInteger)
    return _Held(columns=[stored], name=trigger.field, is_day=is_day, working=working, custom=False)


def holds_days(session: Session, record_type: str, name: str) -> bool:
    """Tell whether a field that holds dates holds days, and not instants."""
    if name.startswith(CUSTOM):
        declared = declarations(session).fields(record_type).get(name.removeprefix(CUSTOM))
        return declared is not None and declared.kind is FieldKind.DAY
    return isinstance(columns_of(model_of(session, record_type))[name].type, Day)


def _holds_one_of(
    reader: Reader, active: Active, trigger: DateReached, days: Sequence[date], working: WorkingTime
) -> ColumnElement[bool]:
    """Return the condition that a field holds a date that falls due on one of some consecutive days."""
    name, record_type = trigger.field, active.rule.record_type
    held = [day - timedelta(days=trigger.days) for day in days]
    if trigger.yearly:
        every = sorted({one for day in held for one in _years_of(day)})
        parts = [every[start : start + _LISTED] for start in range(0, len(every), _LISTED)]
        texts = [f"{name}:in:{','.join(day.isoformat() for day in part)}" for part in parts]
        return or_(*(compile_filter(reader, record_type, [text]) for text in texts))
    first, last = held[0].isoformat(), held[-1].isoformat()
    if holds_days(reader.session, record_type, name):
        return compile_filter(reader, record_type, [f"{name}:between:{first},{last}"])
    begins, ends = (_midnight(day, working) for day in (held[0], held[-1] + _ONE_DAY))
    return compile_filter(reader, record_type, [f"{name}:ge:{begins}", f"{name}:lt:{ends}"])


def _years_of(day: date) -> Iterator[date]:
    """Yield the days of earlier years that come back on a day."""
    for year in range(FIRST_YEAR, day.year + 1):
        if (day.month, day.day) != (2, 29) or _is_leap(year):
            yield day.replace(year=year)
        if (day.month, day.day) == (2, 28) and not _is_leap(day.year) and _is_leap(year):
            yield date(year, 2, 29)


def _midnight(day: date, working: WorkingTime) -> str:
    return datetime.combine(day, datetime.min.time(), tzinfo=working.zone).astimezone(UTC).isoformat()


# ---------------------------------------------------------------- nothing happened


def _idle(session: Session, active: Active, trigger: Idle, look: Look) -> Iterator[Cause]:
    until = waited_since(trigger, look.now, look.working)
    since = waited_since(trigger, active.since, look.working)
    model = model_of(session, active.rule.record_type)
    more = [] if trigger.since == CREATED else [f"{trigger.since}:not_empty"]
    _, fits = _fitting(session, active, *more)
    began = _began(model, trigger.since)
    about = _about(model, active.rule.record_type, trigger)
    last = select(func.max(type_coerce(Activity.occurred_at, BigInteger))).where(about).scalar_subquery()
    query = select(model.id, began, last).where(
        fits,
        customers(model) if trigger.customers else true(),
        began <= micros(until),
        ~exists().where(about, Activity.occurred_at > until),
        or_(began > micros(since), exists().where(about, Activity.occurred_at > since)),
    )
    for record_id, begun, touched in session.execute(query):
        quiet_since = instant(max(begun, touched or 0))
        at = waited_until(trigger, quiet_since, look.working)
        if active.since < at <= look.now:
            yield idle_cause(record_id, quiet_since, at)


def idle_cause(record_id: int, quiet_since: datetime, at: datetime) -> Cause:
    """Return the cause that nothing has happened to a record since an instant."""
    return Cause(key=f"i{record_id}:{micros(quiet_since)}", record_id=record_id, at=at)


def waited_until(trigger: Idle, since: datetime, working: WorkingTime) -> datetime:
    """Return when it has been quiet for as long as a rule waits."""
    if trigger.unit is Unit.WORKING_HOURS:
        return working.after(since, timedelta(hours=trigger.amount))
    return since + _as_time(trigger)


def waited_since(trigger: Idle, now: datetime, working: WorkingTime) -> datetime:
    """Return the last instant since which it has been as long by now as a rule waits, to a second."""
    if trigger.unit is not Unit.WORKING_HOURS:
        return now - _as_time(trigger)
    wanted, step = timedelta(hours=trigger.amount), _ONE_DAY
    early = now
    while working.between(early, now) < wanted:
        early, step = early - step, min(step * 2, timedelta(days=400))
    late = now
    while late - early > timedelta(seconds=1):
        middle = early + (late - early) / 2
        early, late = (middle, late) if working.between(middle, now) >= wanted else (early, middle)
    return late


def _as_time(trigger: Idle) -> timedelta:
    hours = trigger.amount * (24 if trigger.unit is Unit.DAYS else 1)
    return timedelta(hours=hours)


def _began(model: type[Record], since: str) -> ColumnElement[Any]:
    """Return since when a record waits, in microseconds: since a field changed, else since it is there."""
    created = type_coerce(columns_of(model)["recorded_at"], BigInteger)
    if since == CREATED:
        return created
    changed = select(func.max(type_coerce(Change.recorded_at, BigInteger))).where(
        Change.record_type == model.record_type,
        Change.field == since,
        Change.record_id == model.id,
        Change.action == Action.UPDATED,
    )
    return func.coalesce(changed.scalar_subquery(), created)


def _about(model: type[Record], record_type: str, trigger: Idle) -> ColumnElement[bool]:
    """Return the condition that an activity is one that counts, about a record of a query around."""
    counted = and_(Activity.kind.in_(list(trigger.kinds)), Activity.deleted_at.is_(None))
    link = f"{model.record_type}_id"
    if hasattr(Activity, link):
        return and_(counted, getattr(Activity, link) == model.id)
    return and_(counted, Activity.subject_type == record_type, Activity.subject_id == model.id)


def customers(model: type[Record]) -> ColumnElement[bool]:
    """Return the condition that an account has bought: a contract, an order, or a deal that was won."""
    if model is not Account:
        return true()
    won = exists().where(
        Deal.account_id == Account.id, Deal.status == DealStatus.WON, Deal.deleted_at.is_(None)
    )
    bought = (exists().where(each.account_id == Account.id, each.deleted_at.is_(None)) for each in _BOUGHT)
    return or_(won, *bought)


_BOUGHT: Final[tuple[type[Contract | Order], ...]] = (Contract, Order)


# ---------------------------------------------------------------- too long in a stage


def _overdue(session: Session, active: Active, trigger: StageOverdue, look: Look) -> Iterator[Cause]:
    if not look.norms:
        return
    _, fits = _fitting(session, active)
    entered = _entered()
    waits = {key: norm * trigger.times for key, norm in look.norms.items()}
    late = (
        and_(
            Deal.pipeline == pipeline,
            Deal.stage == stage,
            entered <= micros(look.now - wait),
            entered > micros(active.since - wait),
        )
        for (pipeline, stage), wait in waits.items()
    )
    query = select(Deal.id, Deal.pipeline, Deal.stage, entered).where(fits, or_(*late))
    for deal_id, pipeline, stage, since in session.execute(query):
        yield idle_cause(deal_id, instant(since), instant(since) + waits[pipeline, stage])


def _entered() -> ColumnElement[Any]:
    """Return when a deal entered the stage that it is in, in microseconds."""
    moved = select(func.max(type_coerce(Change.occurred_at, BigInteger))).where(
        Change.record_type == Deal.record_type,
        Change.field == "stage",
        Change.record_id == Deal.id,
        Change.action == Action.UPDATED,
    )
    return func.coalesce(moved.scalar_subquery(), type_coerce(Deal.occurred_at, BigInteger))
