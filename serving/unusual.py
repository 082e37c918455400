"""Unusual changes: what happened to anyone's deals, and how good the leads of a source are, this week.

Weeks are the last seven days and those before them, so that each has all days of the week. Of people: deals
opened, their value, deals lost, deals that came to a standstill, and close dates that were put off. Of
sources: what the model in charge said first of the leads that came (the first answer, as `lead_quality` has
it), and which share was converted within `CONVERTED_DAYS`. Each against the same person's or source's own
past (`models.unusual`); of all that is looked at together, chance alone names anything in one look of twenty.

Every number belongs to the owner that its deal has now. Only records that the reader sees are counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
import numpy.typing as npt
from sqlalchemy import BigInteger, or_, select, type_coerce

from crm_core.access import Reader
from crm_core.arrays import NO_INSTANT, Arrays, read_arrays
from crm_core.changes import Change
from crm_core.clock import DAY, instant, micros
from crm_core.predictions import Prediction
from crm_core.records import Activity, Deal, DealStatus, Lead, LeadStatus
from crm_core.tokens import works_here
from serving.owners import Staff

if TYPE_CHECKING:
    from models.unusual import Comparison

Floats = npt.NDArray[np.float64]

Measure = Literal["opened", "value", "lost", "stalled", "put_off", "score", "converted"]

WEEK: Final = timedelta(weeks=1)
WEEKS: Final = 26
"""Weeks before this one that say what is usual."""

STALLED_DAYS: Final = 14
"""A deal with which nothing happened for so long stands still."""

CONVERTED_DAYS: Final = 30
WITHIN: Final = timedelta(days=7)
"""The first answer of a model about a lead is one within these days of its coming."""

LENGTHS: Final = (1, 2, 4)
"""Weeks of which leads are taken together: the fewest that hold enough of them."""


@dataclass(frozen=True, kw_only=True)
class Unusual:
    """One thing that is unusual: of a person (`user_id`) or a source, over the last `weeks`.

    Counts are counts, `value` is in `currency`, `score` and `converted` are in [0, 1]. `low` and `high` bound
    what is usual: eight weeks in ten. `records` is how many a mean or a share rests on.
    """

    measure: Measure
    user_id: int | None
    source: str | None
    name: str
    now: float
    usual: float
    low: float
    high: float
    weeks: int
    currency: str | None = None
    records: int | None = None

    @property
    def is_more(self) -> bool:
        """Tell whether it is more than usual."""
        return self.now > self.usual

    @property
    def is_good(self) -> bool | None:
        """Tell whether it is good news; None where that depends."""
        if self.measure in {"lost", "stalled", "put_off"}:
            return not self.is_more
        return self.is_more


@dataclass(frozen=True, kw_only=True)
class Looked:
    """What is unusual, the most unlikely first, out of so many things that were looked at."""

    as_of: datetime
    found: Sequence[Unusual]
    looked_at: int


_Told = tuple[Unusual, float]
"""Something that was compared, and how likely chance alone is to move it so far."""


def find_unusual(reader: Reader, now: datetime) -> Looked:
    """Return the unusual changes of the people that a reader leads, or of themselves, and of sources."""
    from models.unusual import unusual

    told = [*_of_people(reader, now), *_of_sources(reader, now)]
    named = unusual([chance for _, chance in told])
    found = [each for each, is_named in zip(told, named, strict=True) if is_named]
    return Looked(
        as_of=now,
        found=[each for each, _ in sorted(found, key=lambda one: one[1])],
        looked_at=len(told),
    )


# ---------------------------------------------------------------- people


@dataclass(frozen=True, kw_only=True)
class _Seen:
    """A deal as the reader sees it."""

    id: int
    owner_id: int
    came: datetime
    ended: datetime | None
    lost: bool
    amount: float | None
    currency: str | None


_DEAL_FIELDS: Final = ("deal.owner_id", "deal.status", "deal.closed_at")


def _of_people(reader: Reader, now: datetime) -> Iterator[_Told]:
    if not reader.may_be_told_of(_DEAL_FIELDS):
        return
    staff = Staff.read(reader.session)
    people = {one.id: one.name for one in staff.owners(reader.user) if works_here(one)}
    deals = [deal for deal in _read_deals(reader, now) if deal.owner_id in people]
    since = {
        owner: min(d.came for d in deals if d.owner_id == owner) for owner in {d.owner_id for d in deals}
    }
    yield from _counted("opened", ((d.owner_id, d.came) for d in deals), people, since, now)
    yield from _counted(
        "lost", ((d.owner_id, d.ended) for d in deals if d.lost and d.ended), people, since, now
    )
    if reader.may_be_told_of(["activity.deal_id"]):
        stalls = _stalls(deals, _read_touches(reader, people, now), now)
        yield from _counted("stalled", stalls, people, since, now)
    if reader.may_read_field("deal", "expected_close_on"):
        owners = {deal.id: deal.owner_id for deal in deals}
        moved = ((owners[key], at) for key, at in _read_put_off(reader, now) if key in owners)
        yield from _counted("put_off", moved, people, since, now)
    if reader.may_be_told_of(["deal.amount", "deal.currency"]):
        yield from _valued(deals, people, since, now)


def _read_deals(reader: Reader, now: datetime) -> list[_Seen]:
    """Return the deals that were open at some time in the weeks looked at."""
    query = select(
        Deal.id, Deal.owner_id, Deal.occurred_at, Deal.closed_at, Deal.status, Deal.amount, Deal.currency
    ).where(
        Deal.deleted_at.is_(None),
        Deal.owner_id.is_not(None),
        Deal.occurred_at <= now,
        or_(Deal.status == DealStatus.OPEN, Deal.closed_at >= _first(now)),
        reader.readable(Deal),
    )
    return [
        _Seen(
            id=row.id,
            owner_id=row.owner_id,
            came=row.occurred_at,
            ended=None if row.status == DealStatus.OPEN else row.closed_at,
            lost=row.status == DealStatus.LOST,
            amount=None if row.amount is None else float(row.amount),
            currency=row.currency,
        )
        for row in reader.session.execute(query)
    ]


def _first(now: datetime) -> datetime:
    return now - (WEEKS + 1) * WEEK


def _read_touches(reader: Reader, owners: Iterable[int], now: datetime) -> Arrays:
    """Return when something happened with which deal of somebody, as far back as a standstill may begin."""
    since = _first(now) - timedelta(days=STALLED_DAYS)
    running = select(Deal.id).where(
        Deal.owner_id.in_(owners), or_(Deal.status == DealStatus.OPEN, Deal.closed_at >= _first(now))
    )
    query = select(Activity.deal_id, Activity.occurred_at).where(
        Activity.deal_id.in_(running),
        Activity.deleted_at.is_(None),
        Activity.occurred_at.between(since, now),
        reader.readable(Activity),
    )
    return read_arrays(reader.session, query)


def _stalls(deals: Iterable[_Seen], touches: Arrays, now: datetime) -> list[tuple[int, datetime]]:
    """Return whose deal came to a standstill, and when: so long after the last thing that happened."""
    known = sorted(deals, key=lambda deal: deal.id)
    if not known:
        return []
    ids = np.array([deal.id for deal in known])
    came = np.array([micros(deal.came) for deal in known])
    ended = np.array([micros(deal.ended or now) for deal in known])
    place = np.minimum(np.searchsorted(ids, touches["deal_id"]), ids.size - 1)
    touched = touches["occurred_at"]
    counts = (ids[place] == touches["deal_id"]) & (touched > came[place])
    counts &= touched < ended[place]  # what happens with a deal that is over stands still no more
    of = np.concatenate([np.arange(ids.size), place[counts]])
    at = np.concatenate([came, touched[counts]])
    order = np.lexsort((at, of))
    of, at = of[order], at[order]
    is_last = np.append(of[1:] != of[:-1], True)
    following = np.where(is_last, ended[of], np.append(at[1:], 0))
    stalled = at + STALLED_DAYS * DAY
    found = np.flatnonzero(stalled < following)
    return [(known[of[each]].owner_id, instant(int(stalled[each]))) for each in found.tolist()]


def _read_put_off(reader: Reader, now: datetime) -> Iterator[tuple[int, datetime]]:
    """Yield the deals whose close date was moved to a later day, and when."""
    query = select(Change.record_id, Change.occurred_at, Change.old, Change.new).where(
        Change.record_type == Deal.record_type,
        Change.field == "expected_close_on",
        Change.old.is_not(None),
        Change.new.is_not(None),
        Change.occurred_at.between(_first(now), now),
    )
    for key, at, old, new in reader.session.execute(query):
        if int(new) > int(old):  # days, as they are stored
            yield key, at


def _weeks(events: Iterable[tuple[datetime, float]], now: datetime) -> Floats:
    """Return sums by week, this one first: float64[WEEKS + 1]."""
    sums = np.zeros(WEEKS + 1)
    for at, amount in events:
        week = (now - at) // WEEK
        if 0 <= week <= WEEKS:
            sums[week] += amount
    return sums


def _known_weeks(since: datetime, now: datetime) -> int:
    """Return how many whole weeks before this one lie after somebody's first deal."""
    return max(0, min(WEEKS, (now - since) // WEEK - 1))


def _counted(
    measure: Measure,
    events: Iterable[tuple[int, datetime]],
    people: Mapping[int, str],
    since: Mapping[int, datetime],
    now: datetime,
) -> Iterator[_Told]:
    from models.unusual import clumping_of, compare_weeks

    by_person: dict[int, list[tuple[datetime, float]]] = {owner: [] for owner in since}
    for owner, at in events:
        by_person[owner].append((at, 1.0))
    weeks = {
        owner: _weeks(found, now)[: _known_weeks(since[owner], now) + 1] for owner, found in by_person.items()
    }
    clumping = clumping_of([each[1:] for each in weeks.values()])
    for owner, each in sorted(weeks.items()):
        compared = compare_weeks(float(each[0]), each[1:], clumping=clumping)
        if compared is not None:
            yield _of_person(measure, owner, people[owner], compared), compared.chance


def _valued(
    deals: Sequence[_Seen], people: Mapping[int, str], since: Mapping[int, datetime], now: datetime
) -> Iterator[_Told]:
    """Compare what the deals opened are worth, in the currency that most deals have."""
    from models.unusual import clumping_of, compare_weeks

    named = Counter(deal.currency for deal in deals if deal.amount)
    if not named:
        return
    currency = max(sorted(named, key=str), key=named.__getitem__)
    priced = [deal for deal in deals if deal.amount and deal.currency == currency]
    amounts = np.array([deal.amount for deal in priced])
    counts = [
        _weeks(((d.came, 1.0) for d in priced if d.owner_id == owner), now)[1 : _known_weeks(start, now) + 1]
        for owner, start in since.items()
    ]
    clumping = clumping_of(counts) * float((amounts**2).mean() / amounts.mean() ** 2)
    for owner, start in sorted(since.items()):
        own = _weeks(((d.came, d.amount or 0.0) for d in priced if d.owner_id == owner), now)
        own = own[: _known_weeks(start, now) + 1]
        compared = compare_weeks(float(own[0]), own[1:], unit=float(amounts.mean()), clumping=clumping)
        if compared is not None:
            yield _of_person("value", owner, people[owner], compared, currency=currency), compared.chance


def _of_person(
    measure: Measure, owner: int, name: str, compared: Comparison, currency: str | None = None
) -> Unusual:
    return Unusual(
        measure=measure,
        user_id=owner,
        source=None,
        name=name,
        now=compared.now,
        usual=compared.usual,
        low=compared.low,
        high=compared.high,
        weeks=1,
        currency=currency,
    )


# ---------------------------------------------------------------- sources


def _of_sources(reader: Reader, now: datetime) -> Iterator[_Told]:
    """Compare what was said of the leads of each source, and how many were converted, with before."""
    if not reader.may_be_told_of(["lead.source"]):
        return
    first = _first(now) - timedelta(days=CONVERTED_DAYS)
    query = select(Lead.id, Lead.source, Lead.occurred_at, Lead.status, Lead.converted_at).where(
        Lead.deleted_at.is_(None),
        Lead.source.is_not(None),
        Lead.occurred_at.between(first, now),
        reader.readable(Lead),
    )
    leads = read_arrays(reader.session, query)
    if reader.may_read_field("lead", "probability"):
        said = _first_said(reader, now)
        scores = np.array([said.get(key, np.nan) for key in leads["id"].tolist()], dtype=np.float64)
        yield from _compared("score", leads, scores, now)
    if reader.may_be_told_of(["lead.status", "lead.converted_at"]):
        took = leads["converted_at"] - leads["occurred_at"]
        soon = (leads["converted_at"] != NO_INSTANT) & (took <= CONVERTED_DAYS * DAY)
        ends = ((leads["status"] == LeadStatus.CONVERTED) & soon).astype(np.float64)
        yield from _compared("converted", leads, ends, now - timedelta(days=CONVERTED_DAYS))


def _first_said(reader: Reader, now: datetime) -> dict[int, float]:
    """Return by lead the first answer of the model that answered last: others' answers mean other things."""
    after = type_coerce(Prediction.as_of, BigInteger) - type_coerce(Lead.recorded_at, BigInteger)
    query = (
        select(Prediction.record_id, Prediction.probability, Prediction.model_version)
        .join(Lead, Lead.id == Prediction.record_id)
        .where(
            Lead.recorded_at >= _first(now),
            Prediction.task == "lead_scoring",
            Prediction.record_type == Lead.record_type,
            Prediction.probability.is_not(None),
            after.between(0, WITHIN // timedelta(microseconds=1)),
            Prediction.as_of <= now,
        )
        .order_by(Prediction.as_of.desc(), Prediction.id.desc())
    )
    rows = read_arrays(reader.session, query)
    versions = rows["model_version"]
    same = versions == versions[0] if versions.size else np.empty(0, dtype=np.bool_)
    # The newest row comes first, so that of each lead the earliest stays.
    return dict(zip(rows["record_id"][same].tolist(), rows["probability"][same].tolist(), strict=True))


def _compared(measure: Measure, leads: Arrays, values: Floats, until: datetime) -> Iterator[_Told]:
    """Compare each source's leads of the last weeks before `until` with those of the weeks before these.

    A value that is NaN is not known.
    """
    known = ~np.isnan(values) & (leads["occurred_at"] <= micros(until))
    sources, came, values = leads["source"][known], leads["occurred_at"][known], values[known]
    for source in sorted(set(sources.tolist())):
        own = sources == source
        at, told = came[own], values[own]
        for weeks in LENGTHS:
            start = until - weeks * WEEK
            here = told[at > micros(start)]
            past = told[(at > micros(start - WEEKS * WEEK)) & (at <= micros(start))]
            compared = _compare(measure, here, past)
            if compared is not None:
                yield _of_source(measure, source, weeks, here.size, compared), compared.chance
                break


def _compare(measure: Measure, here: Floats, past: Floats) -> Comparison | None:
    from models.unusual import compare_means, compare_shares

    if measure == "score":
        return compare_means(here, past)
    return compare_shares(int(here.sum()), here.size, int(past.sum()), past.size)


def _of_source(measure: Measure, source: str, weeks: int, records: int, compared: Comparison) -> Unusual:
    return Unusual(
        measure=measure,
        user_id=None,
        source=source,
        name=source,
        now=compared.now,
        usual=compared.usual,
        low=compared.low,
        high=compared.high,
        weeks=weeks,
        records=records,
    )
