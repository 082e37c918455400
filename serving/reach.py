"""When to try to reach a contact or a lead: what was tried, what was answered, read once a day for all.

A call is answered if it is noted as connected; a mail if the person wrote within a day of it, before the next
mail to them. Mails younger than a day are not counted: they may be answered yet. Who asked not to be scored
is not counted anywhere, and nobody is told of mails to somebody who took back their consent. Hours are those
of the organisation: nothing says where contacts are.

Time rule: what had happened and was recorded by the question. What a person answered is counted as far as the
reader sees it; what many people answered is one number of the organisation, as the rates in reasons are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Literal
from weakref import WeakKeyDictionary
from zoneinfo import ZoneInfo

import numpy as np
from sqlalchemy import Engine, Select, and_, func, or_, select
from sqlalchemy.orm import Session

from crm_core.access import Reader
from crm_core.opting_out import list_opted_out
from crm_core.records import Account, Activity, Consent, Contact, Deal, Lead, Record
from crm_core.working_time import working_time

if TYPE_CHECKING:
    from models.best_time import Attempts, BestTime

Way = Literal["call", "mail"]
WAYS: Final[tuple[Way, ...]] = ("call", "mail")

ANSWERED_WITHIN: Final = timedelta(days=1)
"""For so long after a mail an answer is one to it."""

LOOKBACK: Final = timedelta(days=730)
MOST_READ: Final = 60_000
"""Calls and mails that are looked at, the newest."""

_FIELDS: Final = ("kind", "direction", "outcome", "occurred_at", "contact_id", "lead_id")


@dataclass(frozen=True, kw_only=True)
class Reached:
    """The best time for one way of reaching somebody; `group` is the industry that is meant by "similar"."""

    way: Way
    best: BestTime
    group: str | None


@dataclass(frozen=True, kw_only=True, eq=False)
class _Known:
    """What is known of all people on a day: attempts by way, and the code of each industry."""

    day: date
    attempts: Mapping[Way, Attempts]
    groups: Mapping[str, int]


_KEPT: WeakKeyDictionary[Engine, dict[str, _Known]] = WeakKeyDictionary()


def find_times(reader: Reader, record: Record, now: datetime, zone: str) -> tuple[Reached, ...]:
    """Return when the person that a record is about is reached most surely more often; () where nobody knows.

    `record` is a lead, a contact, or a deal with a contact; `zone` is used where none was set for working.
    """
    from models.best_time import find_best_time

    person = _person(reader, record)
    if person is None or not reader.may_be_told_of([f"activity.{name}" for name in _FIELDS]):
        return ()
    here = working_time(reader.session, zone).zone
    known, industry = _known(reader.session, now, here), _industry(reader, person)
    own = _read(reader.session, now, here, own=(reader, person))
    found = []
    for way in WAYS:
        if way == "mail" and getattr(person, "consent", None) == Consent.WITHDRAWN:
            continue
        attempts = _joined(known.attempts[way], own[0][way], _code(person))
        group = known.groups.get(industry or "", -1)
        best = find_best_time(attempts, _code(person), group)
        if best is not None:
            found.append(Reached(way=way, best=best, group=industry if best.whose == "similar" else None))
    return tuple(found)


def _person(reader: Reader, record: Record) -> Contact | Lead | None:
    """Return whom a record is about, if the reader sees them and they did not opt out."""
    person: Record | None = record
    if isinstance(record, Deal):
        seen = reader.may_read_field("deal", "contact_id") and record.contact_id is not None
        query = reader.select(Contact).where(Contact.id == record.contact_id)
        person = reader.session.scalar(query) if seen else None
    if not isinstance(person, Contact | Lead):
        return None
    if isinstance(person, Lead) and (person.scoring_opt_out or person.erased_at is not None):
        return None
    if isinstance(person, Contact) and person.scoring_opt_out:
        return None
    account_id = person.account_id
    if account_id is not None and list_opted_out(reader.session, Account, [account_id]):
        return None
    return person


def _code(person: Contact | Lead) -> int:
    return person.id * 2 + (1 if isinstance(person, Lead) else 0)


def _industry(reader: Reader, person: Contact | Lead) -> str | None:
    if isinstance(person, Lead):
        return person.industry if reader.may_read_field("lead", "industry") else None
    if person.account_id is None or not reader.may_be_told_of(["account.industry", "contact.account_id"]):
        return None
    query = select(Account.industry).where(Account.id == person.account_id, reader.readable(Account))
    return reader.session.scalar(query)


def _known(session: Session, now: datetime, zone: ZoneInfo) -> _Known:
    """Return what is known of all people today; read by whoever asks first on a day."""
    kept = _KEPT.setdefault(session.get_bind().engine, {})
    day = now.astimezone(zone).date()
    found = kept.get(zone.key)
    if found is None or found.day != day:
        attempts, groups = _read(session, now, zone)
        found = kept[zone.key] = _Known(day=day, attempts=attempts, groups=groups)
    return found


def _read(
    session: Session,
    now: datetime,
    zone: ZoneInfo,
    own: tuple[Reader, Contact | Lead] | None = None,
) -> tuple[dict[Way, Attempts], dict[str, int]]:
    """Return what was tried by way, of all people or of one as far as seen, and the industries."""
    query = _query(now, own)
    rows = session.execute(query.order_by(Activity.occurred_at.desc()).limit(MOST_READ)).all()
    answered_at = _answers(rows)
    groups: dict[str, int] = {}
    tried: dict[Way, list[tuple[int, int, datetime, bool]]] = {"call": [], "mail": []}
    for row in rows:
        answered = _was_answered(row, answered_at, now)
        if answered is not None:
            code = groups.setdefault(row.industry, len(groups)) if row.industry else -1
            tried[row.kind].append((row.person, code, row.occurred_at, answered))
    return {way: _attempts(some, zone) for way, some in tried.items()}, groups


def _query(now: datetime, own: tuple[Reader, Contact | Lead] | None) -> Select[Any]:
    person = func.coalesce(Activity.contact_id * 2, Activity.lead_id * 2 + 1).label("person")
    wanted: list[Any] = [
        person,
        func.coalesce(Account.industry, Lead.industry).label("industry"),
        Activity.kind,
        Activity.direction,
        Activity.outcome,
        Activity.occurred_at,
    ]
    query = (
        select(*wanted)
        .outerjoin(Contact, Contact.id == Activity.contact_id)
        .outerjoin(Lead, and_(Lead.id == Activity.lead_id, Activity.contact_id.is_(None)))
        .outerjoin(Account, Account.id == Contact.account_id)
        .where(
            Activity.kind.in_(WAYS),
            Activity.deleted_at.is_(None),
            Activity.occurred_at > now - LOOKBACK,
            Activity.occurred_at <= now,
            Activity.recorded_at <= now,
            or_(Contact.scoring_opt_out.is_(False), Lead.scoring_opt_out.is_(False)),
            or_(Account.id.is_(None), Account.scoring_opt_out.is_(False)),
        )
    )
    if own is None:
        return query
    reader, whom = own
    mine = Activity.contact_id == whom.id if isinstance(whom, Contact) else Activity.lead_id == whom.id
    return query.where(mine, person == _code(whom), reader.readable(Activity))


def _answers(rows: Sequence[Any]) -> dict[tuple[int, datetime], datetime]:
    """Return by person and mail to them when they wrote first after it, and before the next one to them."""
    found: dict[tuple[int, datetime], datetime] = {}
    newest: dict[int, datetime] = {}
    for row in reversed(rows):  # the oldest first
        if row.kind != "mail":
            continue
        if row.direction == "outbound":
            newest[row.person] = row.occurred_at
        elif row.person in newest:
            found.setdefault((row.person, newest[row.person]), row.occurred_at)
    return found


def _was_answered(
    row: Any,  # noqa: ANN401  a row
    answered_at: Mapping[tuple[int, datetime], datetime],
    now: datetime,
) -> bool | None:
    """Tell whether what was tried was answered; None for what was not tried by us, or is not over."""
    if row.direction != "outbound":
        return None
    if row.kind == "call":
        return None if row.outcome is None else row.outcome.strip().casefold() == "connected"
    until = row.occurred_at + ANSWERED_WITHIN
    if until > now:
        return None
    at = answered_at.get((row.person, row.occurred_at))
    return at is not None and at <= until


def _attempts(tried: Sequence[tuple[int, int, datetime, bool]], zone: ZoneInfo) -> Attempts:
    from models.best_time import Attempts

    local = [at.astimezone(zone) for _, _, at, _ in tried]
    return Attempts(
        person=np.array([each[0] for each in tried], dtype=np.int64),
        group=np.array([each[1] for each in tried], dtype=np.int64),
        weekday=np.array([each.weekday() for each in local], dtype=np.int64),
        hour=np.array([each.hour for each in local], dtype=np.int64),
        answered=np.array([each[3] for each in tried], dtype=np.bool_),
    )


def _joined(others: Attempts, own: Attempts, person: int) -> Attempts:
    """Return everybody's attempts, those of a person as the reader sees them."""
    from models.best_time import Attempts

    rest = others.take(others.person != person)
    return Attempts(
        person=np.concatenate((rest.person, own.person)),
        group=np.concatenate((rest.group, own.group)),
        weekday=np.concatenate((rest.weekday, own.weekday)),
        hour=np.concatenate((rest.hour, own.hour)),
        answered=np.concatenate((rest.answered, own.answered)),
    )
