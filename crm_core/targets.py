"""Targets: what a person or a team is to reach in a month or quarter.

A target is one number of one measure, written by whoever leads: managers for themselves and for people and
teams below them, administrators for all. It is an agreement about the future and no fact about a record, so
models never see it. Everybody reads their own; managers those of their people and teams; analysts and
administrators all.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Final

from sqlalchemy import BigInteger, ForeignKey, String, UniqueConstraint, and_, false, or_, select, true
from sqlalchemy.orm import Mapped, Session, mapped_column

from crm_core.access import team_member_ids
from crm_core.columns import Instant, Money
from crm_core.errors import (
    AccessDeniedError,
    InvalidValueError,
    RecordNotFoundError,
    StaleRecordError,
)
from crm_core.external_ids import hold_keys
from crm_core.phrases import Phrase
from crm_core.records import Base, Id, Role, Team, User
from crm_core.store import Transaction
from crm_core.totals import minor_digits, parts_of

MOST: Final = Decimal(10) ** 13
"""No target is higher; the column holds a little more."""


class Whose(StrEnum):
    """Who is to reach it."""

    USER = "user"
    TEAM = "team"


class Measure(StrEnum):
    """What is counted towards it."""

    WON_AMOUNT = "won_amount"
    DEALS_WON = "deals_won"
    LEADS_CONVERTED = "leads_converted"
    CONTRACT_VALUE = "contract_value"
    PAYMENTS_RECEIVED = "payments_received"


AMOUNTS: Final = frozenset({Measure.WON_AMOUNT, Measure.CONTRACT_VALUE, Measure.PAYMENTS_RECEIVED})
"""Measures that are amounts of a currency; the others count."""


class Over(StrEnum):
    """What a target is broken down over."""

    PEOPLE = "people"
    MONTHS = "months"


class Target(Base):
    """One number to be reached by one person or team in one period."""

    __tablename__ = "targets"

    id: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=True)
    whose: Mapped[str] = mapped_column(String(4), comment="user or team")
    whose_id: Mapped[int] = mapped_column(BigInteger)
    period: Mapped[str] = mapped_column(String(7), comment="2026-03 or 2026-Q1")
    measure: Mapped[str] = mapped_column(String(20))
    currency: Mapped[str] = mapped_column(String(3), comment="of amounts; empty for counts")
    value: Mapped[Decimal] = mapped_column(Money)
    version: Mapped[int] = mapped_column(default=1, comment="counts changes")
    set_by_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    set_at: Mapped[datetime] = mapped_column(Instant)

    __table_args__ = (UniqueConstraint("whose", "whose_id", "period", "measure", "currency"),)


_PERIOD = re.compile(r"(\d{4})-(?:(0[1-9]|1[0-2])|Q([1-4]))")


def read_period(text: str) -> tuple[datetime, datetime]:
    """Return the first instant of a month or quarter and of the next one; InvalidValueError if it is none."""
    found = _PERIOD.fullmatch(text)
    if found is None or not 1 <= int(found[1]) < 9999:
        raise InvalidValueError("period", text, "a month such as 2026-03 or a quarter such as 2026-Q1")
    year, months = int(found[1]), 1 if found[2] else 3
    first = int(found[2]) if found[2] else int(found[3]) * 3 - 2
    after = year * 12 + first - 1 + months
    return datetime(year, first, 1, tzinfo=UTC), datetime(after // 12, after % 12 + 1, 1, tzinfo=UTC)


def periods_at(day: date) -> tuple[str, str, str, str]:
    """Return the month of a day and the next one, and the same of quarters."""
    month, quarter = day.year * 12 + day.month - 1, day.year * 4 + (day.month - 1) // 3
    months = [f"{one // 12:04}-{one % 12 + 1:02}" for one in (month, month + 1)]
    quarters = [f"{one // 4:04}-Q{one % 4 + 1}" for one in (quarter, quarter + 1)]
    return (months[0], months[1], quarters[0], quarters[1])


def months_of(period: str) -> list[str]:
    """Return the months of a quarter; of a month, none."""
    found = _PERIOD.fullmatch(period)
    if found is None or found[3] is None:
        return []
    first = int(found[3]) * 3 - 2
    return [f"{found[1]}-{month:02}" for month in range(first, first + 3)]


@dataclass(frozen=True, kw_only=True)
class Gap:
    """That the targets which one was broken down into do not sum to it."""

    over: Over
    parts: Decimal
    count: int


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What somebody wants to set; a value of None takes the target away."""

    whose: Whose
    whose_id: int
    period: str
    measure: Measure
    value: Decimal | None
    currency: str = ""

    def check(self) -> None:
        """Raise InvalidValueError for what makes no sense."""
        read_period(self.period)
        if self.value is not None and not 0 < self.value <= MOST:
            raise InvalidValueError(
                "value", str(self.value), Phrase("a number above 0, up to {most:,}", most=MOST)
            )
        if self.measure in AMOUNTS:
            if not re.fullmatch("[A-Z]{3}", self.currency):
                raise InvalidValueError("currency", self.currency, "three capital letters, such as EUR")
        elif self.currency:
            raise InvalidValueError("currency", self.currency, "nothing: only amounts have a currency")
        elif self.value is not None and self.value % 1:
            raise InvalidValueError("value", str(self.value), "a whole number")


def set_target(
    transaction: Transaction, user: User, wanted: Wanted, *, version: int | None = None
) -> Target | None:
    """Set a target anew or change it; return it, None where it was taken away.

    `version` is that of the target which whoever sets it saw, 0 for none; raises StaleRecordError where it is
    another by now.
    """
    wanted.check()
    _check_may_set(transaction.session, user, wanted)
    hold_keys(transaction.session, [f"target:{wanted.whose}:{wanted.whose_id}:{wanted.period}"])
    found = find_target(transaction.session, wanted)
    if version is not None and version != (known := found.version if found is not None else 0):
        raise StaleRecordError("target", found.id if found is not None else 0, version, known)
    if wanted.value is None:
        if found is not None:
            transaction.session.delete(found)
        return None
    return _write(transaction, user, wanted, found)


def _write(transaction: Transaction, user: User, wanted: Wanted, found: Target | None) -> Target:
    if found is None:
        found = Target(
            whose=wanted.whose,
            whose_id=wanted.whose_id,
            period=wanted.period,
            measure=wanted.measure,
            currency=wanted.currency,
            version=0,
        )
        transaction.session.add(found)
    if wanted.value is not None and found.value != wanted.value:
        found.value, found.version = wanted.value, (found.version or 0) + 1
        found.set_by_id, found.set_at = user.id, transaction.now
    transaction.session.flush()
    return found


def find_target(session: Session, wanted: Wanted) -> Target | None:
    """Return the target that there is of what is wanted, locked until the transaction ends."""
    query = select(Target).where(
        Target.whose == wanted.whose,
        Target.whose_id == wanted.whose_id,
        Target.period == wanted.period,
        Target.measure == wanted.measure,
        Target.currency == wanted.currency,
    )
    return session.scalars(query.with_for_update()).one_or_none()


def _check_may_set(session: Session, user: User, wanted: Wanted) -> None:
    """Raise AccessDeniedError for who leads nobody, RecordNotFoundError for people and teams elsewhere."""
    if user.role not in {Role.MANAGER, Role.ADMIN}:
        raise AccessDeniedError(Phrase("the role {role} may not set targets", role=user.role))
    if wanted.whose_id not in settable_ids(session, user, wanted.whose):
        raise RecordNotFoundError(wanted.whose, wanted.whose_id)


def settable_ids(session: Session, user: User, whose: Whose) -> set[int]:
    """Return the people or teams that a user may set targets for."""
    if user.role == Role.ADMIN:
        model = User if whose is Whose.USER else Team
        return set(session.scalars(select(model.id).where(model.deleted_at.is_(None))))
    if user.role != Role.MANAGER:
        return set()
    if whose is Whose.USER:
        return set(team_member_ids(session, user))
    return {team_id for team_id in _teams_of(session, user) if team_id is not None}


def _teams_of(session: Session, user: User) -> set[int | None]:
    members = team_member_ids(session, user)
    teams = set(session.scalars(select(User.team_id).where(User.id.in_(members))))
    return teams | {user.team_id}


def list_targets(
    session: Session,
    *,
    periods: Collection[str],
    users: Collection[int] | None,
    teams: Collection[int] | None,
) -> list[Target]:
    """Return the targets of periods, of some people and teams (None: of all), in a settled order."""
    mine = and_(Target.whose == Whose.USER, true() if users is None else Target.whose_id.in_(users))
    ours = and_(Target.whose == Whose.TEAM, true() if teams is None else Target.whose_id.in_(teams))
    query = select(Target).where(Target.period.in_(periods), or_(false(), mine, ours))
    order = (Target.period, Target.whose, Target.whose_id, Target.measure, Target.currency)
    return list(session.scalars(query.order_by(*order)))


# ------------------------------------------------------------------------------------- breaking down


def split_target(transaction: Transaction, user: User, target: Target, over: Over) -> list[Target]:
    """Break a target down evenly: that of a team over its people who sell, that of a quarter over its months.

    The parts sum exactly to it; what is set of them already is written over. A count is divided into whole
    numbers, and who would get none gets no target.

    Raises InvalidValueError for what has no such parts, and what `set_target` raises.
    """
    parts = _parts(transaction.session, target, over)
    if not parts:
        raise InvalidValueError("over", over, "a team with people, or a quarter")
    digits = minor_digits(target.currency) if target.measure in AMOUNTS else 0
    share = Decimal(1) / len(parts)
    values = parts_of(target.value, [share] * len(parts), digits=digits)
    made = []
    for (whose, whose_id, period), value in zip(parts, values, strict=True):
        wanted = Wanted(
            whose=whose,
            whose_id=whose_id,
            period=period,
            measure=Measure(target.measure),
            value=value or None,
            currency=target.currency,
        )
        written = set_target(transaction, user, wanted)
        if written is not None:
            made.append(written)
    return made


def _parts(session: Session, target: Target, over: Over) -> list[tuple[Whose, int, str]]:
    if over is Over.MONTHS:
        months = months_of(target.period)
        return [(Whose(target.whose), target.whose_id, month) for month in months]
    if target.whose != Whose.TEAM:
        return []
    people = _people_of(session, target.whose_id)
    return [(Whose.USER, user_id, target.period) for user_id in people]


def _people_of(session: Session, team_id: int) -> list[int]:
    """Return who sells in a team and those below it: its reps, or where there are none its managers."""
    below = select(Team.id).where(Team.id == team_id).cte("below", recursive=True)
    below = below.union(select(Team.id).join(below, Team.parent_id == below.c.id))
    query = select(User.id, User.role).where(
        User.team_id.in_(select(below.c.id)),
        User.role.in_([Role.REP, Role.MANAGER]),
        User.active,
        User.deleted_at.is_(None),
        User.left_at.is_(None),
    )
    found = session.execute(query.order_by(User.id)).all()
    reps = [user_id for user_id, role in found if role == Role.REP]
    return reps or [user_id for user_id, _ in found]


def gaps_of(target: Target, others: Collection[Target], members: Collection[int]) -> list[Gap]:
    """Return where a target and what it was broken down into do not fit; nothing where it was not.

    `others` are all targets that are known, `members` the people of the team that it is of.
    """
    same = [one for one in others if (one.measure, one.currency) == (target.measure, target.currency)]
    months = months_of(target.period)
    parts = {
        Over.PEOPLE: [
            one
            for one in same
            if (target.whose, one.whose) == (Whose.TEAM, Whose.USER)
            and one.whose_id in members
            and one.period == target.period
        ],
        Over.MONTHS: [
            one
            for one in same
            if (one.whose, one.whose_id) == (target.whose, target.whose_id) and one.period in months
        ],
    }
    sums = {over: sum((one.value for one in some), Decimal(0)) for over, some in parts.items()}
    return [
        Gap(over=over, parts=sums[over], count=len(some))
        for over, some in parts.items()
        if some and sums[over] != target.value
    ]
