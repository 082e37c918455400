"""A day's work: leads, deals and customers of somebody in the order worth working, each with its arithmetic.

What is at stake: of a deal its amount times the chance to win it; of a lead the chance that it becomes a deal
times the share of deals that are won times what a first deal in its industry is worth; of a customer what it
brings in a year times the danger of leaving. How much it is time for each: see `crm_core.workday`.

Only the likeliest of each type are looked at, and everything with a step that is due.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any
from weakref import WeakKeyDictionary
from zoneinfo import ZoneInfo

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Engine,
    Select,
    Text,
    and_,
    case,
    cast,
    false,
    func,
    literal,
    null,
    or_,
    select,
    type_coerce,
    union_all,
)
from sqlalchemy.orm import Session

from crm_core.access import Reader, Scope
from crm_core.clock import DAY, instant
from crm_core.columns import MONEY_SCALE
from crm_core.errors import AccessDeniedError, InvalidValueError
from crm_core.phrases import Phrase
from crm_core.predictions import Prediction, is_shown_on
from crm_core.records import Account, Activity, ActivityKind, Deal, Direction, Lead, User, likeliest_first
from crm_core.store import Store
from crm_core.won_deals import WonDeals
from crm_core.workday import Place, Standing, plan_day, rhythm_of, rhythm_of_others, usual_a_day
from crm_core.worth import readable_worth
from serving.open_records import is_open

Scored = Lead | Deal | Account
MODELS: dict[str, type[Scored]] = {"lead": Lead, "deal": Deal, "account": Account}

LOOKED_AT = 100
"""Records of each type that are put in order: those with most at stake by probability and amount."""
CUSTOMERS_READ = 400
"""Customers whose yearly value is read to find those."""
STEPS_READ = 2_000
OVERDUE_DAYS = 30
"""A step that has been due for longer is forgotten, not urgent."""
HABIT_DAYS = 60
"""For so long back it is counted how many records somebody works a day."""

CONTACTS = (ActivityKind.CALL, ActivityKind.MAIL, ActivityKind.MEETING, ActivityKind.VISIT)
STEPS = (ActivityKind.TASK, ActivityKind.CALL, ActivityKind.MEETING, ActivityKind.VISIT)
_KINDS = tuple(ActivityKind)
_CODES = 8
"""An instant and a kind in one number: the newest contact and what it was, by one maximum."""


@dataclass(frozen=True, kw_only=True)
class AskedDay:
    """Which day's list: of which record types, whose, and from where on."""

    types: tuple[str, ...] = ("lead", "deal", "account")
    owner_id: int | None = None
    only: tuple[str, int] | None = None


@dataclass(frozen=True, kw_only=True)
class Step:
    """The next open task or planned meeting; `due_days` is 0 today and negative when it is overdue."""

    id: int
    kind: str
    subject: str | None
    due_at: datetime
    due_days: int


@dataclass(frozen=True, kw_only=True)
class Contact:
    """The last contact in one direction."""

    kind: str
    occurred_at: datetime


@dataclass(frozen=True, kw_only=True)
class Stake:
    """What the money of a record is made of, in the currency of the list.

    `of` says what `amount` is: "deal" its own, "usual" what deals are usually worth (of `deals` first deals),
    "contract" or "order" what a customer brings in a year. `share` is that of such deals that are won.
    """

    of: str
    amount: float
    share: float = 1.0
    deals: int = 0

    @property
    def value(self) -> float:
        """What it is worth if it happens."""
        return self.amount * self.share


@dataclass(frozen=True, kw_only=True)
class Ranked:
    """A record in its place."""

    place: Place
    stake: Stake | None
    step: Step | None
    ours: Contact | None
    theirs: Contact | None

    @property
    def record(self) -> tuple[str, int]:
        """Type and id."""
        return self.place.standing.record_type, self.place.standing.record_id


@dataclass(frozen=True, kw_only=True)
class Day:
    """Everything that was put in order: what is to do, and what was worked today.

    `currency` is that of all amounts, "" where none is named; `several` tells that amounts of several were
    compared. `with_values` is false where the reader may not see amounts: then the chance alone counts.
    """

    to_do: Sequence[Ranked]
    done: Sequence[Ranked]
    currency: str
    several: bool
    with_values: bool
    any_score: bool
    usual: WonDeals
    types: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class _Candidate:
    record_type: str
    id: int
    probability: float | None
    amount: float | None
    currency: str | None
    industry: str | None
    yearly: Sequence[Mapping[str, str]]


@dataclass(frozen=True, kw_only=True)
class _Contacts:
    ours: Contact | None = None
    theirs: Contact | None = None
    gaps: int = 0
    gap_days: float = 0.0


@dataclass(frozen=True)
class _Calendar:
    """Days as the reader counts them."""

    today: date
    zone: ZoneInfo

    def days_from_today(self, at: datetime) -> int:
        return (at.astimezone(self.zone).date() - self.today).days

    def began(self) -> datetime:
        return datetime.combine(self.today, datetime.min.time(), self.zone)


def day_began(now: datetime, zone: ZoneInfo) -> datetime:
    """Return when the day of an instant began in a time zone."""
    return _Calendar(now.astimezone(zone).date(), zone).began()


def types_shown(reader: Reader) -> tuple[str, ...]:
    """Return the types of which a reader may see records, whether they are open, and their scores."""
    return tuple(
        name
        for name in MODELS
        if reader.right(name).read is not Scope.NONE
        and reader.may_read_field(name, "probability")
        and (name == "account" or reader.may_read_field(name, "status"))
    )


def read_day(reader: Reader, asked: AskedDay, now: datetime, zone: ZoneInfo, usual: WonDeals) -> Day:
    """Return the records that a reader may work today, in order."""
    calendar = _Calendar(now.astimezone(zone).date(), zone)
    types = tuple(name for name in types_shown(reader) if name in asked.types)
    if asked.owner_id is not None:
        _check_may_ask_for_owners(reader, types)
    steps = _read_steps(reader, calendar, now, *([(asked.only[0], [asked.only[1]])] if asked.only else []))
    found = _read_candidates(reader, types, asked, steps) if types else []
    ids = {name: [each.id for each in found if each.record_type == name] for name in types}
    contacts = _read_contacts(reader, ids)
    ranked = _rank(reader, found, contacts, steps, calendar, usual)
    currencies = Counter(each.currency for each in found if each.currency)
    currency = usual.currency if usual.factors else next(iter(currencies), "")
    return Day(
        to_do=[each for each in ranked if not each.place.standing.done_today],
        done=[each for each in ranked if each.place.standing.done_today],
        currency=currency or "",
        several=len(currencies.keys() | usual.factors.keys()) > 1,
        with_values=_may_use_values(reader),
        any_score=any(each.probability is not None for each in found),
        usual=usual,
        types=types,
    )


def _check_may_ask_for_owners(reader: Reader, types: Iterable[str]) -> None:
    for name in types:
        if not reader.may_read_field(name, "owner_id"):
            raise AccessDeniedError(
                Phrase(
                    "the role {role} may not ask for the owner_id of a {record_type}",
                    role=reader.user.role,
                    record_type=name,
                )
            )


def _may_use_values(reader: Reader) -> bool:
    """Tell whether a reader may see all amounts that the order is made of: it would tell of hidden ones."""
    needed = ("deal.amount", "deal.currency", "contract.value", "order.amount")
    return reader.may_be_told_of(needed)


# ------------------------------------------------------------------------------------- reading


Steps = dict[tuple[str, int], list[Step]]


def _read_steps(
    reader: Reader, calendar: _Calendar, now: datetime, *only: tuple[str, Sequence[int]]
) -> Steps:
    """Return the open steps of records, of all or `only` some, the first due first.

    A deal's are not its customer's.
    """
    if not all(reader.may_read_field("activity", name) for name in ("kind", "due_at", "outcome")):
        return {}
    links = (Activity.lead_id, Activity.deal_id, Activity.account_id)
    query = (
        select(Activity.id, Activity.kind, Activity.subject, Activity.due_at, *links)
        .where(
            Activity.due_at >= now - timedelta(days=OVERDUE_DAYS),
            Activity.outcome.is_(None),
            Activity.kind.in_(STEPS),
            Activity.deleted_at.is_(None),
            or_(*_about_what_is_seen(reader, only)),
        )
        .order_by(Activity.due_at, Activity.id)
        .limit(STEPS_READ)
    )
    told = reader.may_read_field("activity", "subject")
    found: Steps = defaultdict(list)
    for step_id, kind, subject, due_at, lead_id, deal_id, account_id in reader.session.execute(query):
        name = "lead" if lead_id else "deal" if deal_id else "account"
        record_id = lead_id or deal_id or account_id
        if record_id is not None and due_at is not None:
            days = calendar.days_from_today(due_at)
            step = Step(
                id=step_id, kind=kind, subject=subject if told else None, due_at=due_at, due_days=days
            )
            found[name, record_id].append(step)
    return found


def _about_what_is_seen(
    reader: Reader, only: Sequence[tuple[str, Sequence[int]]]
) -> list[ColumnElement[bool]]:
    """Return conditions on steps; whether their records may be seen is asked when these are read."""
    links = {name: getattr(Activity, f"{name}_id") for name in MODELS}
    about = {name: links[name].in_(ids) for name, ids in only} or {
        name: link.is_not(None) for name, link in links.items()
    }
    return [and_(link, reader.readable_about(Activity, MODELS[name])) for name, link in about.items()]


def _read_candidates(reader: Reader, types: Sequence[str], asked: AskedDay, steps: Steps) -> list[_Candidate]:
    """Return the records with most at stake, and those with a step due, in one query."""
    due = {
        name: [key for (kind, key), some in steps.items() if kind == name and some[0].due_days <= 0]
        for name in types
    }
    parts = [_QUERIES[name](reader, asked, due[name]).subquery() for name in types]
    query: Any = union_all(*(select(part) for part in parts))
    found = [_candidate(reader, row) for row in reader.session.execute(query)]
    kept = [each for each in found if each.record_type != "account"]
    customers = [each for each in found if each.record_type == "account"]
    first = set(due.get("account", ()))
    return kept + sorted(customers, key=lambda each: (each.id not in first, -_at_risk(each)))[:LOOKED_AT]


def _at_risk(customer: _Candidate) -> float:
    return (customer.probability or 0.0) * sum(float(part["amount"]) for part in customer.yearly)


def _candidate(reader: Reader, row: Any) -> _Candidate:  # noqa: ANN401  a row of the query
    record_type, record_id, probability, amount, currency, industry, yearly = row
    parts = json.loads(yearly) if isinstance(yearly, str) else yearly or ()
    return _Candidate(
        record_type=record_type,
        id=record_id,
        probability=probability,
        amount=None if amount is None else amount / MONEY_SCALE,
        currency=currency,
        industry=industry,
        yearly=readable_worth(reader, parts),
    )


def _among(reader: Reader, model: Any, asked: AskedDay, due: Sequence[int]) -> list[ColumnElement[bool]]:  # noqa: ANN401  one of three classes with the same columns
    conditions = [is_open(model.record_type), reader.readable(model)]
    if asked.owner_id is not None:
        conditions.append(model.owner_id == asked.owner_id)
    if asked.only is not None:
        conditions.append(and_(model.id == asked.only[1], literal(asked.only[0] == model.record_type)))
    else:
        conditions.append(or_(model.probability.is_not(None), model.id.in_(due)))
    return conditions


_NO_AMOUNT = cast(null(), BigInteger)
_NO_TEXT = cast(null(), Text)


def _leads(reader: Reader, asked: AskedDay, due: Sequence[int]) -> Select[*tuple[Any, ...]]:
    industry = Lead.industry if reader.may_read_field("lead", "industry") else _NO_TEXT
    columns = (literal("lead").label("type"), Lead.id, Lead.probability, _NO_AMOUNT.label("amount"))
    query = select(
        *columns, _NO_TEXT.label("currency"), industry.label("industry"), _NO_TEXT.label("yearly")
    ).where(*_among(reader, Lead, asked, due))
    order = (*_first(Lead, due), *likeliest_first(Lead.probability), Lead.id)
    return query.order_by(*order).limit(LOOKED_AT)


def _deals(reader: Reader, asked: AskedDay, due: Sequence[int]) -> Select[*tuple[Any, ...]]:
    amount = type_coerce(Deal.amount, BigInteger)
    columns = (literal("deal").label("type"), Deal.id, Deal.probability, amount.label("amount"))
    query = select(
        *columns, Deal.currency.label("currency"), _NO_TEXT.label("industry"), _NO_TEXT.label("yearly")
    ).where(*_among(reader, Deal, asked, due))
    stake = Deal.probability * (func.coalesce(amount, 0) if _may_use_values(reader) else 1)
    return query.order_by(*_first(Deal, due), stake.desc().nulls_last(), Deal.id).limit(LOOKED_AT)


def _customers(reader: Reader, asked: AskedDay, due: Sequence[int]) -> Select[*tuple[Any, ...]]:
    # Which ones first, and then what they bring in: that takes looking up a prediction of each.
    likeliest = (
        select(Account.id)
        .where(*_among(reader, Account, asked, due))
        .order_by(*_first(Account, due), Account.probability.desc().nulls_last(), Account.id)
    )
    some = likeliest.limit(CUSTOMERS_READ).subquery()
    yearly = type_coerce(Prediction.yearly_value, Text)
    columns = (literal("account").label("type"), Account.id, Account.probability, _NO_AMOUNT.label("amount"))
    return (
        select(*columns, _NO_TEXT.label("currency"), _NO_TEXT.label("industry"), yearly.label("yearly"))
        .join(some, some.c.id == Account.id)
        .outerjoin(Prediction, and_(is_shown_on("account"), Prediction.task == "churn"))
    )


_QUERIES = {"lead": _leads, "deal": _deals, "account": _customers}


def _first(model: Any, due: Sequence[int]) -> list[ColumnElement[int]]:  # noqa: ANN401  as above
    return [case((model.id.in_(due), 0), else_=1)] if due else []


def _read_contacts(
    reader: Reader, ids: Mapping[str, Sequence[int]]
) -> dict[tuple[str, int], _Contacts] | None:
    """Return the contacts of records, in one query; None where the reader may not see them."""
    needed = ("kind", "direction", "occurred_at")
    if not any(ids.values()) or not all(reader.may_read_field("activity", name) for name in needed):
        return None
    query: Any = union_all(*(_contacts_of(reader, name, some) for name, some in ids.items() if some))
    return {(name, record_id): _contacts(*rest) for name, record_id, *rest in reader.session.execute(query)}


def _contacts_of(reader: Reader, record_type: str, ids: Sequence[int]) -> Select[*tuple[Any, ...]]:
    link = getattr(Activity, f"{record_type}_id")
    at = type_coerce(Activity.occurred_at, BigInteger)
    code = case({kind: place for place, kind in enumerate(_KINDS)}, value=Activity.kind, else_=_CODES - 1)
    inbound_mail = and_(Activity.kind == ActivityKind.MAIL, Activity.direction == Direction.INBOUND)
    planned = and_(Activity.due_at.is_not(None), Activity.outcome.is_(None))
    ours = and_(Activity.kind.in_(CONTACTS), ~func.coalesce(inbound_mail, false()), ~planned)
    theirs = or_(inbound_mail, Activity.kind == ActivityKind.WEB)
    return (
        select(
            literal(record_type),
            link,
            func.max(case((ours, at * _CODES + code))),
            func.max(case((theirs, at * _CODES + code))),
            func.min(case((ours, at))),
            func.count(case((ours, 1))),
        )
        .where(
            link.in_(ids), Activity.deleted_at.is_(None), reader.readable_about(Activity, MODELS[record_type])
        )
        .group_by(link)
    )


def _contacts(ours: int | None, theirs: int | None, first: int | None, count: int) -> _Contacts:
    last = None if ours is None else ours // _CODES
    return _Contacts(
        ours=_contact(ours),
        theirs=_contact(theirs),
        gaps=max(0, count - 1),
        gap_days=0.0 if last is None or first is None else (last - first) / DAY,
    )


def _contact(coded: int | None) -> Contact | None:
    if coded is None:
        return None
    at, code = divmod(coded, _CODES)
    return Contact(kind=_KINDS[code] if code < len(_KINDS) else "", occurred_at=instant(at))


def read_next_steps(
    reader: Reader, record_type: str, ids: Sequence[int], now: datetime, zone: ZoneInfo
) -> dict[int, Step]:
    """Return the next open step of each of some records that the reader sees."""
    calendar = _Calendar(now.astimezone(zone).date(), zone)
    steps = _read_steps(reader, calendar, now, (record_type, ids))
    some = [record_id for record_id in ids if (record_type, record_id) in steps]
    contacts = _read_contacts(reader, {record_type: some}) or {}
    found = {
        record_id: _next_step(
            steps[record_type, record_id], contacts.get((record_type, record_id), _Contacts()), calendar
        )
        for record_id in some
    }
    return {record_id: step for record_id, step in found.items() if step is not None}


# ------------------------------------------------------------------------------------- ranking


def _rank(
    reader: Reader,
    found: Sequence[_Candidate],
    contacts: Mapping[tuple[str, int], _Contacts] | None,
    steps: Steps,
    calendar: _Calendar,
    usual: WonDeals,
) -> list[Ranked]:
    others = _rhythms(contacts or {})
    with_values = _may_use_values(reader)
    parts: dict[tuple[str, int], tuple[Stake | None, Step | None, _Contacts]] = {}
    standings = []
    for each in found:
        key = (each.record_type, each.id)
        seen = (contacts or {}).get(key, _Contacts())
        step = _next_step(steps.get(key, ()), seen, calendar)
        stake = _stake(each, usual) if with_values else None
        parts[key] = stake, step, seen
        rhythm = rhythm_of(seen.gaps, seen.gap_days, others[each.record_type])
        standings.append(_standing(each, stake, step, seen, calendar, None if contacts is None else rhythm))
    return [
        Ranked(
            place=place,
            stake=stake,
            step=step,
            ours=seen.ours,
            theirs=seen.theirs if place.standing.waiting else None,
        )
        for place in plan_day(standings)
        for stake, step, seen in (parts[place.standing.record_type, place.standing.record_id],)
    ]


def _rhythms(contacts: Mapping[tuple[str, int], _Contacts]) -> dict[str, float]:
    return {
        name: rhythm_of_others(
            name, [(each.gaps, each.gap_days) for (kind, _), each in contacts.items() if kind == name]
        )
        for name in MODELS
    }


def _standing(
    each: _Candidate,
    stake: Stake | None,
    step: Step | None,
    seen: _Contacts,
    calendar: _Calendar,
    rhythm_days: float | None,
) -> Standing:
    touched = None if seen.ours is None else max(0, -calendar.days_from_today(seen.ours.occurred_at))
    waiting = seen.theirs is not None and (
        seen.ours is None or seen.theirs.occurred_at > seen.ours.occurred_at
    )
    return Standing(
        record_type=each.record_type,
        record_id=each.id,
        probability=each.probability,
        value=None if stake is None else stake.value,
        touched_days=touched,
        rhythm_days=rhythm_days,
        waiting=waiting,
        due_days=None if step is None else step.due_days,
        done_today=touched == 0 and not waiting,
    )


def _next_step(steps: Sequence[Step], seen: _Contacts, calendar: _Calendar) -> Step | None:
    """Return the first step that still is one: whoever was in touch on its day or later has taken it."""
    touched = None if seen.ours is None else calendar.days_from_today(seen.ours.occurred_at)
    open_ones = (step for step in steps if touched is None or touched < step.due_days)
    return next(open_ones, None)


def _stake(each: _Candidate, usual: WonDeals) -> Stake | None:
    if each.record_type == "account":
        amounts = [usual.in_main(float(part["amount"]), part["currency"]) for part in each.yearly]
        known = [amount for amount in amounts if amount is not None]
        return Stake(of=each.yearly[0]["of"], amount=sum(known)) if known else None
    if each.record_type == "deal":
        own = usual.in_main(each.amount, each.currency)
        if own is not None:
            return Stake(of="deal", amount=own)
        first = usual.first
        return None if first is None else Stake(of="usual", amount=first.amount, deals=first.deals)
    first = usual.usual_first(each.industry)
    if first is None or usual.share is None:
        return None
    return Stake(of="usual", amount=first.amount, share=usual.share, deals=first.deals)


# ------------------------------------------------------------------------------------- capacity


def read_habit(store: Store, user: User, now: datetime, zone: ZoneInfo) -> int | None:
    """Return how many records somebody usually works on a working day, counted once a day; None for few."""
    today = now.astimezone(zone).date()
    kept = _HABITS.setdefault(store.engine, {})
    if (user.id, today) not in kept:
        if len(kept) > _MOST_HABITS:
            kept.clear()
        with store.reading() as session:
            kept[user.id, today] = _count_habit(session, user.id, now, zone)
    return kept[user.id, today]


_MOST_HABITS = 10_000
_HABITS: WeakKeyDictionary[Engine, dict[tuple[int, date], int | None]] = WeakKeyDictionary()


def _count_habit(session: Session, user_id: int, now: datetime, zone: ZoneInfo) -> int | None:
    """Count the records that somebody was in touch with on each day before today."""
    query = select(Activity.occurred_at, Activity.lead_id, Activity.deal_id, Activity.account_id).where(
        Activity.owner_id == user_id,
        Activity.occurred_at >= now - timedelta(days=HABIT_DAYS),
        Activity.occurred_at < day_began(now, zone),
        Activity.kind.in_(CONTACTS),
        Activity.deleted_at.is_(None),
    )
    by_day: dict[date, set[tuple[str, int | None]]] = defaultdict(set)
    for at, lead_id, deal_id, account_id in session.execute(query):
        record = ("lead", lead_id) if lead_id else ("deal", deal_id) if deal_id else ("account", account_id)
        by_day[at.astimezone(zone).date()].add(record)
    return usual_a_day([len(records) for records in by_day.values()])


# ------------------------------------------------------------------------------------- pages


def page_of(
    ranked: Sequence[Ranked], *, limit: int, cursor: str | None
) -> tuple[Sequence[Ranked], str | None, int]:
    """Return a page of what is in order, the cursor of the next one, and the place of its first record."""
    start = 0
    if cursor is not None:
        key = _read_cursor(cursor)
        start = sum(each.place.key <= key for each in ranked)
    shown = ranked[start : start + limit]
    more = start + limit < len(ranked)
    return shown, cursor_of(shown[-1]) if more and shown else None, start


def cursor_of(ranked: Ranked) -> str:
    """Return where the page after a record begins."""
    text = json.dumps(ranked.place.key, separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _read_cursor(cursor: str) -> tuple[int, int, int, float, str, int]:
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        done, due, unknown, worth, record_type, record_id = json.loads(text)
        return int(done), int(due), int(unknown), float(worth), str(record_type), int(record_id)
    except (binascii.Error, ValueError, TypeError, OverflowError) as error:
        raise InvalidValueError("cursor", cursor, "a cursor that a page of the day gave") from error
