"""What a rule would have been set off by of late, without doing anything.

The log of the last days is read as the rule would have read it, and its conditions are asked of each record
as it was then. What cannot be asked of the past is asked of the present, and the answer names it: tags, what
models write, how long won deals stay in a stage, and who had bought. Actions are not rehearsed: what a rule
would have changed, and what that would have set off, is not in the answer.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from typing import Any, Final

import numpy as np
from sqlalchemy import BigInteger, and_, func, select, type_coerce
from sqlalchemy.orm import Session

from crm_core.access import Reader
from crm_core.alerts import Alert
from crm_core.automation.causes import Cause, Found, Watch, alerts_raised, scores_crossed
from crm_core.automation.conditions import conditions_of
from crm_core.automation.due import (
    CAUGHT_UP,
    Look,
    at_of,
    customers,
    date_cause,
    due_day,
    holds_days,
    idle_cause,
    waited_since,
    waited_until,
)
from crm_core.automation.kept import Active
from crm_core.automation.rules import Rule
from crm_core.automation.triggers import (
    CREATED,
    AlertRaised,
    DateReached,
    Idle,
    OnLog,
    ScoreCrossed,
    StageOverdue,
)
from crm_core.changes import Action, Change
from crm_core.clock import day_of, instant, micros
from crm_core.fields import model_of
from crm_core.filters import compile_filter, read_tests
from crm_core.history import values_as_of
from crm_core.predictions import Prediction
from crm_core.records import Activity, Deal, Record, User
from crm_core.validation import columns_of

MOST_DAYS: Final = 90
MOST_CAUSES: Final = 20_000
"""Causes that are looked at, the latest; more are not worth waiting for."""

NORMS: Final = "norms"
CUSTOMERS: Final = "customers"


@dataclass(frozen=True, kw_only=True)
class Rehearsed:
    """What would have set a rule off, the latest first; `present` names what was asked of the present."""

    since: datetime
    until: datetime
    causes: Sequence[Cause] = ()
    present: Sequence[str] = ()
    cut: bool = False
    records: int = field(default=0)


def rehearse(session: Session, user: User, rule: Rule, look: Look, *, days: int) -> Rehearsed:
    """Return what would have set a rule off within some days, had it been on; raises as saving it would."""
    since = look.now - timedelta(days=min(days, MOST_DAYS))
    active = Active(
        id=0,
        version=0,
        rule=rule,
        since=since,
        since_sequence=0,
        since_prediction=0,
        since_alert=0,
        saved_by_id=user.id,
    )
    found = sorted(_causes(session, active, look), key=lambda cause: (cause.at, cause.key))
    cut, found = len(found) > MOST_CAUSES, found[-MOST_CAUSES:]
    fitting, present = _fitting(Reader(session, user), active, found)
    return Rehearsed(
        since=since,
        until=look.now,
        causes=fitting[::-1],
        present=[*present, *_asked_now(rule)],
        cut=cut,
        records=len({cause.record_id for cause in fitting}),
    )


def _asked_now(rule: Rule) -> list[str]:
    if isinstance(rule.trigger, StageOverdue):
        return [NORMS]
    return [CUSTOMERS] if isinstance(rule.trigger, Idle) and rule.trigger.customers else []


def _causes(session: Session, active: Active, look: Look) -> Iterable[Cause]:
    match active.rule.trigger:
        case ScoreCrossed():
            return _scores(session, active)
        case AlertRaised():
            return _alerts(session, active)
        case DateReached() as trigger:
            return _dates(session, active, trigger, look)
        case Idle() as trigger:
            return _idle(session, active, trigger, look)
        case StageOverdue() as trigger:
            return _overdue(session, active, trigger, look)
    return _logged(session, active)


# ---------------------------------------------------------------- as they were then


def _fitting(reader: Reader, active: Active, causes: Sequence[Cause]) -> tuple[list[Cause], list[str]]:
    """Return the causes whose records fitted the conditions then, and the conditions asked of the present."""
    session, record_type = reader.session, active.rule.record_type
    tests, present = read_tests(reader, record_type, _conditions(active))
    model = model_of(session, record_type)
    ids = np.array([cause.record_id for cause in causes], dtype=np.int64)
    at = np.array([micros(cause.at) for cause in causes], dtype=np.int64)
    fits = np.ones(ids.size, dtype=bool)
    for test in tests if causes else ():
        held = values_as_of(session, model, test.field, ids, at)
        fits &= np.fromiter((test.fits(each) for each in held.tolist()), dtype=bool, count=ids.size)
    deleted, now = _deleted(session, model, ids), _fit_now(reader, active, ids, present)
    kept: dict[str, Cause] = {}
    for cause, fitted in zip(causes, fits.tolist(), strict=True):
        if fitted and cause.record_id in now and not _is_gone(deleted, cause):
            kept.setdefault(cause.key, cause)
    return list(kept.values()), present


def _conditions(active: Active) -> list[str]:
    trigger = active.rule.trigger
    needed = isinstance(trigger, Idle) and trigger.since != CREATED
    more = [f"{trigger.since}:not_empty"] if needed and isinstance(trigger, Idle) else []
    return [*conditions_of(active), *more]


def _deleted(session: Session, model: type[Record], ids: Any) -> Mapping[int, datetime | None]:  # noqa: ANN401  int64[n]
    found: dict[int, datetime | None] = {}
    for some in _lots(ids):
        query = select(model.id, model.deleted_at).where(model.id.in_(some), model.deleted_at.is_not(None))
        found.update((record_id, at) for record_id, at in session.execute(query))
    return found


def _is_gone(deleted: Mapping[int, datetime | None], cause: Cause) -> bool:
    at = deleted.get(cause.record_id)
    return at is not None and at <= cause.at


def _fit_now(reader: Reader, active: Active, ids: Any, present: Sequence[str]) -> set[int]:  # noqa: ANN401  int64[n]
    """Return the records that exist, of the rule's type, and fit what only the present can be asked."""
    model = model_of(reader.session, active.rule.record_type)
    condition = compile_filter(reader, active.rule.record_type, present)
    if isinstance(active.rule.trigger, Idle) and active.rule.trigger.customers:
        condition = and_(condition, customers(model))
    found: set[int] = set()
    for some in _lots(ids):
        found.update(reader.session.scalars(select(model.id).where(model.id.in_(some), condition)))
    return found


def _lots(ids: Any) -> Iterator[list[int]]:  # noqa: ANN401  int64[n]
    unique = np.unique(ids).tolist()
    for start in range(0, len(unique), 500):
        yield unique[start : start + 500]


# ---------------------------------------------------------------- logs


def _logged(session: Session, active: Active) -> Iterator[Cause]:
    watch = Watch.over([active])
    if not isinstance(active.rule.trigger, OnLog):
        return
    query = (
        watch.query()
        .where(Change.id >= _first(session, Change, active.since), Change.recorded_at > active.since)
        .order_by(Change.id.desc())
        .limit(MOST_CAUSES + 1)
    )
    for _, cause in watch.match(session, session.execute(query).all()):
        yield cause


def _first(session: Session, model: type[Change | Prediction], since: datetime) -> int:
    """Return an id below which nothing was recorded after an instant, about: ids are drawn in that order."""
    low, high = 0, session.scalar(select(func.max(model.id))) or 0
    while low < high:
        middle = (low + high) // 2
        newer = select(model.recorded_at).where(model.id > middle).order_by(model.id).limit(1)
        at = session.scalar(newer)
        low, high = (low, middle) if at is None or at > since else (middle + 1, high)
    return max(0, low - _MARGIN)


_MARGIN: Final = 10_000
"""Rows that may have been recorded out of their order."""


def _scores(session: Session, active: Active) -> Iterator[Cause]:
    after = _first(session, Prediction, active.since) - 1
    until = session.scalar(select(func.max(Prediction.id))) or 0
    while after < until:
        found, after = scores_crossed(session, [active], after=after, until=until, limit=5_000)
        yield from _since(active, found)


def _alerts(session: Session, active: Active) -> Iterator[Cause]:
    begun = select(func.min(Alert.id)).where(Alert.raised_at > active.since)
    after = (session.scalar(begun) or 1) - 1
    while True:
        found, seen = alerts_raised(session, [active], after=after, limit=1_000)
        yield from _since(active, found)
        if seen == after:
            return
        after = seen


def _since(active: Active, found: Iterable[Found]) -> Iterator[Cause]:
    return (cause for _, cause in found if cause.at > active.since)


# ---------------------------------------------------------------- dates


def _dates(session: Session, active: Active, trigger: DateReached, look: Look) -> Iterator[Cause]:
    first, last = (look.working.local_day(each) for each in (active.since, look.now))
    days = [first + timedelta(days=number) for number in range((last - first).days + 1)]
    days = [day for day in days if active.since < at_of(trigger, day, look.working) <= look.now]
    if not days:
        return
    model = model_of(session, active.rule.record_type)
    is_day = holds_days(session, active.rule.record_type, trigger.field)

    def as_day(stored: int | None) -> date | None:
        if stored is None:
            return None
        return day_of(stored) if is_day else look.working.local_day(instant(stored))

    yield from _set_late(session, active, trigger, look, as_day)
    recorded = type_coerce(columns_of(model)["recorded_at"], BigInteger)
    known = {record_id: instant(at) for record_id, at in session.execute(select(model.id, recorded))}
    for day, held in _held_on(session, model, trigger, days, list(known), look, as_day):
        for record_id, said in held:
            if due_day(trigger, said, [day]) is None:
                continue
            cause = date_cause(record_id, day, at_of(trigger, day, look.working))
            if known[record_id] <= cause.at:
                yield cause
            elif trigger.days < 0 and look.working.local_day(known[record_id]) <= said:
                yield replace(cause, at=known[record_id])


def _set_late(
    session: Session,
    active: Active,
    trigger: DateReached,
    look: Look,
    as_day: Callable[[int | None], date | None],
) -> Iterator[Cause]:
    """Yield the causes of dates that were put so near, or so little back, that they were due at once."""
    if trigger.yearly:
        return
    logged = model_of(session, active.rule.record_type).record_type
    query = select(Change.record_id, Change.recorded_at, Change.new).where(
        Change.record_type == logged, Change.field == trigger.field, Change.recorded_at > active.since
    )
    for record_id, at, new in session.execute(query):
        said = as_day(new)
        if said is None:
            continue
        day, today = said + timedelta(days=trigger.days), look.working.local_day(at)
        due = at_of(trigger, day, look.working)
        still = today <= said if trigger.days < 0 else due > active.since and today - day <= CAUGHT_UP
        if due < at and still:
            yield date_cause(record_id, day, at)


def _held_on(
    session: Session,
    model: type[Record],
    trigger: DateReached,
    days: Sequence[date],
    ids: Sequence[int],
    look: Look,
    as_day: Callable[[int | None], date | None],
) -> Iterator[tuple[date, Sequence[tuple[int, date]]]]:
    """Yield for each day the records of which a field may have held a date then that falls due on it.

    It is read once for all that did not change meanwhile, and looked up by its place in the year.
    """
    changed = select(Change.record_id).where(
        Change.record_type == model.record_type,
        Change.field == trigger.field,
        Change.recorded_at > at_of(trigger, days[0], look.working),
    )
    moving = set(session.scalars(changed))
    still = np.array(sorted(set(ids) - moving), dtype=np.int64)
    now = np.full(still.size, micros(look.now), dtype=np.int64)
    by_place: dict[tuple[int, int], list[tuple[int, date]]] = defaultdict(list)
    for record_id, said in _said(still, values_as_of(session, model, trigger.field, still, now), as_day):
        by_place[said.month, said.day].append((record_id, said))
    moved = np.array(sorted(moving & set(ids)), dtype=np.int64)
    for day in days:
        of = day - timedelta(days=trigger.days)
        places = [(of.month, of.day), *([(2, 29)] if (of.month, of.day) == (2, 28) else [])]
        yield day, [each for place in places for each in by_place.get(place, ())]
        at = np.full(moved.size, micros(at_of(trigger, day, look.working)), dtype=np.int64)
        yield day, list(_said(moved, values_as_of(session, model, trigger.field, moved, at), as_day))


def _said(
    ids: Any,  # noqa: ANN401  int64[n]
    held: Any,  # noqa: ANN401  an array of stored values
    as_day: Callable[[int | None], date | None],
) -> Iterator[tuple[int, date]]:
    """Yield records with the days that they hold."""
    for record_id, stored in zip(ids.tolist(), held.tolist(), strict=True):
        if (said := as_day(stored)) is not None:
            yield record_id, said


# ---------------------------------------------------------------- nothing happened


Happened = dict[int, list[tuple[datetime, datetime]]]
"""By record: when something happened, and when it was learned of."""


def _idle(session: Session, active: Active, trigger: Idle, look: Look) -> Iterator[Cause]:
    low = waited_since(trigger, active.since, look.working) - timedelta(seconds=2)
    happened = _touched(session, active, trigger, low)
    for record_id, times in _begun(session, active, trigger.since, low).items():
        happened[record_id] += times
    for record_id, times in happened.items():
        for at, _ in sorted(times):
            due = waited_until(trigger, at, look.working)
            if active.since < due <= look.now and not _anything(times, at, due):
                yield idle_cause(record_id, at, due)


def _anything(times: Sequence[tuple[datetime, datetime]], after: datetime, until: datetime) -> bool:
    """Tell whether something happened after an instant, as far as it was known at another one."""
    return any(at > after and at <= until and learned <= until for at, learned in times)


def _touched(session: Session, active: Active, trigger: Idle, low: datetime) -> Happened:
    model = model_of(session, active.rule.record_type)
    link = getattr(Activity, f"{model.record_type}_id", None)
    subject, which = (
        (link, link.is_not(None))
        if link is not None
        else (
            Activity.subject_id,
            Activity.subject_type == active.rule.record_type,
        )
    )
    query = select(subject, Activity.occurred_at, Activity.recorded_at).where(
        which,
        Activity.kind.in_(list(trigger.kinds)),
        Activity.deleted_at.is_(None),
        Activity.occurred_at > low,
    )
    found: Happened = defaultdict(list)
    for record_id, at, learned in session.execute(query):
        found[record_id].append((at, learned))
    return found


def _begun(session: Session, active: Active, since: str, low: datetime) -> Happened:
    """Return since when records wait: since they are there, or since a field changed."""
    model = model_of(session, active.rule.record_type)
    found: Happened = defaultdict(list)
    for record_id, at in session.execute(select(model.id, model.recorded_at).where(model.recorded_at > low)):
        found[record_id].append((at, at))
    if since != CREATED:
        changed = select(Change.record_id, Change.recorded_at).where(
            Change.record_type == model.record_type, Change.field == since, Change.recorded_at > low
        )
        for record_id, at in session.execute(changed):
            found[record_id].append((at, at))
    return found


def _overdue(session: Session, active: Active, trigger: StageOverdue, look: Look) -> Iterator[Cause]:
    if not look.norms:
        return
    waits = {key: norm * trigger.times for key, norm in look.norms.items()}
    low = active.since - max(waits.values())
    moves: dict[int, list[datetime]] = defaultdict(list)
    moved = select(Change.record_id, Change.occurred_at).where(
        Change.record_type == Deal.record_type,
        Change.field == "stage",
        Change.action == Action.UPDATED,
        Change.occurred_at > low,
    )
    begun = select(Deal.id, Deal.occurred_at).where(Deal.occurred_at > low)
    for query in (moved, begun):
        for deal_id, at in session.execute(query):
            moves[deal_id].append(at)
    pipelines: dict[int, str] = dict(session.execute(select(Deal.id, Deal.pipeline)).all())
    for deal_id, at, stage in _entries(session, moves):
        wait = waits.get((pipelines.get(deal_id, ""), stage))
        if wait is None or not active.since < at + wait <= look.now:
            continue
        if not any(at < other <= at + wait for other in moves[deal_id]):
            yield idle_cause(deal_id, at, at + wait)


def _entries(
    session: Session, moves: Mapping[int, Sequence[datetime]]
) -> Iterator[tuple[int, datetime, str]]:
    """Yield which stage deals entered at each of their moves."""
    flat = [(deal_id, at) for deal_id, times in moves.items() for at in times]
    ids = np.array([deal_id for deal_id, _ in flat], dtype=np.int64)
    at = np.array([micros(each) for _, each in flat], dtype=np.int64)
    stages = values_as_of(session, Deal, "stage", ids, at).tolist() if flat else []
    for (deal_id, when), stage in zip(flat, stages, strict=True):
        yield deal_id, when, str(stage)
