"""Working time: on which days and hours people work, so that "four working hours" means the same everywhere.

The week, the country whose public holidays are kept, single days that differ, and the absences of people are
set by administrators. Without any setting people work from Monday to Friday, 09:00 to 18:00, in the zone of
the pages, with no holidays. Hours are wall-clock hours: a day on which clocks change has its usual hours, and
may be shorter or longer between them only where somebody works through the change.

Public holidays come from the `holidays` library, which knows China's substituted days off and the weekends
that are worked for them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Any, Final
from zoneinfo import ZoneInfo

from sqlalchemy import ForeignKey, Index, String, delete, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from crm_core.columns import Day, Instant, Json, check_text
from crm_core.errors import InvalidValueError, RecordNotFoundError, StaleRecordError
from crm_core.external_ids import hold_keys
from crm_core.phrases import Phrase
from crm_core.recall import recalled_by_readers
from crm_core.records import Base, Id, User
from crm_core.store import Transaction

Hours = tuple[tuple[time, time], ...]
"""The hours of one day, in order, each from its first instant to before its last."""

USUAL: Final[Hours] = ((time(9), time(18)),)
_LONGEST_SEARCH: Final = 3 * 366
"""Days that are looked through for one that is worked, before giving up."""

_ONE_ROW: Final = 1
_CACHE: Final = "working time"
_ONE_DAY: Final = timedelta(days=1)


class WorkingWeek(Base):
    """The one row that says how a usual week looks."""

    __tablename__ = "working_weeks"

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    zone: Mapped[str] = mapped_column(String(64), comment="time zone of the hours")
    hours: Mapped[Any] = mapped_column(Json, comment="by weekday from 0, Monday: pairs of HH:MM")
    country: Mapped[str | None] = mapped_column(String(2), comment="whose public holidays are kept")
    version: Mapped[int] = mapped_column(default=1, comment="counts changes")
    set_by_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    set_at: Mapped[datetime] = mapped_column(Instant)


class SpecialDay(Base):
    """A day that differs from the week and from the country's holidays: off for all, or worked by all."""

    __tablename__ = "special_days"

    day: Mapped[date] = mapped_column(Day, primary_key=True)
    worked: Mapped[bool] = mapped_column(comment="with the hours of a usual working day; else off")
    name: Mapped[str | None] = mapped_column(String(120))


class Absence(Base):
    """Days on which somebody does not work, both included."""

    __tablename__ = "absences"

    id: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    first_day: Mapped[date] = mapped_column(Day)
    last_day: Mapped[date] = mapped_column(Day)

    __table_args__ = (Index("ix_absences_user_id_last_day", "user_id", "last_day"),)


@dataclass(frozen=True, kw_only=True)
class WorkingTime:
    """When people work; knows nothing of any one person's absences."""

    zone: ZoneInfo = field(default_factory=lambda: ZoneInfo("UTC"))
    week: tuple[Hours, ...] = (USUAL,) * 5 + ((), ())
    country: str | None = None
    special: Mapping[date, bool] = field(default_factory=dict)

    def hours_of(self, day: date) -> Hours:
        """Return the hours that are worked on a day; empty on a day off."""
        worked = self.special.get(day)
        if worked is None and self.country is not None:
            worked = _public(self.country, day)
        if worked is None:
            return self.week[day.weekday()]
        return self._a_working_day(day) if worked else ()

    def is_working_day(self, day: date) -> bool:
        """Tell whether anybody works on a day."""
        return bool(self.hours_of(day))

    def is_working(self, instant: datetime) -> bool:
        """Tell whether an instant lies in working time."""
        return any(first <= instant < last for first, last in self._spans(self.local_day(instant)))

    def local_day(self, instant: datetime) -> date:
        """Return the day that an instant is on where people work."""
        return instant.astimezone(self.zone).date()

    def between(self, first: datetime, last: datetime) -> timedelta:
        """Return the working time from `first` until `last`; zero where `last` is not later."""
        total = timedelta(0)
        for begins, ends in self._spans_from(first, self.local_day(last)):
            total += max(min(ends, last) - max(begins, first), timedelta(0))
        return total

    def after(self, instant: datetime, working: timedelta) -> datetime:
        """Return the instant at which `working` time has passed since `instant`.

        With none to pass it is `instant` itself, or the next one at which people work.

        Raises
        ------
        InvalidValueError
            Where nobody works for three years on end.
        """
        left = working
        until = self.local_day(instant) + timedelta(days=_LONGEST_SEARCH)
        for begins, ends in self._spans_from(instant, until):
            begins = max(begins, instant)  # noqa: PLW2901  the part of it that is still to come
            if ends <= begins:
                continue
            if left <= ends - begins:
                return begins + left
            left -= ends - begins
            until = self.local_day(ends) + timedelta(days=_LONGEST_SEARCH)
        raise InvalidValueError("working time", str(working), "a week in which people work")

    def _a_working_day(self, day: date) -> Hours:
        return self.week[day.weekday()] or next((hours for hours in self.week if hours), USUAL)

    def _spans_from(self, instant: datetime, until: date) -> Iterator[tuple[datetime, datetime]]:
        day = self.local_day(instant)
        while day <= until:
            yield from self._spans(day)
            day += _ONE_DAY

    def _spans(self, day: date) -> Iterator[tuple[datetime, datetime]]:
        for begins, ends in self.hours_of(day):
            # 24:00 is written as 00:00 of the next day.
            last_day = day + _ONE_DAY if ends == time(0) else day
            yield self._utc(day, begins), self._utc(last_day, ends)

    def _utc(self, day: date, at: time) -> datetime:
        return datetime.combine(day, at, tzinfo=self.zone).astimezone(UTC)


def _public(country: str, day: date) -> bool | None:
    """Tell whether a country's calendar makes a day worked or off; None where it says nothing."""
    off, worked = _calendar(country, day.year)
    if day in off:
        return False
    return True if day in worked else None


@lru_cache(maxsize=64)
def _calendar(country: str, year: int) -> tuple[frozenset[date], frozenset[date]]:
    import holidays  # takes a third of a second, and few pages need it

    known = holidays.country_holidays(country, years=year)
    worked = getattr(known, "weekend_workdays", ())
    return frozenset(known), frozenset(day for day in worked if day.year == year)


# ------------------------------------------------------------------------------------------------ reading


def working_time(session: Session, zone: str) -> WorkingTime:
    """Return when people work, as it was set; `zone` is that of the hours where nothing was."""
    return recalled_by_readers(session, (_CACHE, zone), lambda: _read(session, zone))


def find_week(session: Session) -> WorkingWeek | None:
    """Return the setting of the week, if there is one."""
    return session.get(WorkingWeek, _ONE_ROW)


def list_special_days(session: Session) -> Sequence[SpecialDay]:
    """Return the days that differ, by day."""
    return session.scalars(select(SpecialDay).order_by(SpecialDay.day)).all()


def list_absences(session: Session, user_id: int) -> Sequence[Absence]:
    """Return when somebody is away, the latest first."""
    query = select(Absence).where(Absence.user_id == user_id)
    return session.scalars(query.order_by(Absence.last_day.desc(), Absence.id)).all()


def list_absent(session: Session, day: date) -> set[int]:
    """Return the ids of those who are away on a day."""
    query = select(Absence.user_id).where(Absence.first_day <= day, Absence.last_day >= day)
    return set(session.scalars(query))


def _read(session: Session, zone: str) -> WorkingTime:
    row = find_week(session)
    special = {each.day: each.worked for each in list_special_days(session)}
    if row is None:
        return WorkingTime(zone=ZoneInfo(zone), special=special)
    week = tuple(_hours(each) for each in row.hours)
    return WorkingTime(zone=ZoneInfo(row.zone), week=week, country=row.country, special=special)


def _hours(pairs: Sequence[Sequence[str]]) -> Hours:
    return tuple((time.fromisoformat(first), time.fromisoformat(last)) for first, last in pairs)


# ------------------------------------------------------------------------------------------------ setting


def set_week(
    transaction: Transaction, user: User, wanted: WorkingTime, *, version: int | None
) -> WorkingWeek:
    """Set the usual week, its zone and its country; `version` is what was seen, 0 for none; None: any.

    Raises
    ------
    InvalidValueError
        For hours that are out of order or overlap, a week without any, or a country that is not known.
    StaleRecordError
        Where somebody has set it since.
    """
    _check_week(wanted)
    session = transaction.session
    hold_keys(session, ["working week"])
    row = session.get(WorkingWeek, _ONE_ROW, populate_existing=True)
    known = 0 if row is None else row.version
    if version is not None and version != known:
        raise StaleRecordError("working week", 0, version, known)
    if row is None:
        row = WorkingWeek(id=_ONE_ROW)
        session.add(row)
    row.zone, row.country = wanted.zone.key, wanted.country
    row.hours = [[[f"{first:%H:%M}", f"{last:%H:%M}"] for first, last in hours] for hours in wanted.week]
    row.version, row.set_by_id, row.set_at = known + 1, user.id, transaction.now
    session.flush()
    return row


def set_special_day(transaction: Transaction, day: date, *, worked: bool, name: str | None = None) -> None:
    """Make one day worked, or a day off."""
    if name is not None:
        check_text("name", name, longest=120)
    transaction.session.merge(SpecialDay(day=day, worked=worked, name=name))
    transaction.session.flush()


def remove_special_day(transaction: Transaction, day: date) -> bool:
    """Let a day be as the week and the country's calendar have it; tell whether it differed."""
    gone = transaction.session.execute(delete(SpecialDay).where(SpecialDay.day == day))
    return bool(getattr(gone, "rowcount", 0))


def add_absence(transaction: Transaction, user_id: int, first_day: date, last_day: date) -> Absence:
    """Note that somebody is away, both days included."""
    if last_day < first_day:
        raise InvalidValueError(
            "last_day", last_day.isoformat(), Phrase("no day before {first_day}", first_day=first_day)
        )
    made = Absence(user_id=user_id, first_day=first_day, last_day=last_day)
    transaction.session.add(made)
    transaction.session.flush()
    return made


def remove_absence(transaction: Transaction, user_id: int, absence_id: int) -> None:
    """Take back an absence; raise RecordNotFoundError where the person has none such."""
    found = transaction.session.get(Absence, absence_id)
    if found is None or found.user_id != user_id:
        raise RecordNotFoundError("absence", absence_id)
    transaction.session.delete(found)
    transaction.session.flush()


def list_countries() -> list[str]:
    """Return the codes of the countries (ISO 3166-1 alpha-2) whose holidays are known."""
    import holidays

    known = holidays.list_supported_countries()
    return sorted(code for code in known if len(code) == 2 and code != "UK")  # another name of GB


def _check_week(wanted: WorkingTime) -> None:
    if len(wanted.week) != 7:
        raise InvalidValueError("week", str(len(wanted.week)), "seven days")
    if not any(wanted.week):
        raise InvalidValueError("week", "no hours", "a week in which people work")
    for day, hours in enumerate(wanted.week):
        ends = time(0)
        for first, last in hours:
            if first < ends or (last <= first and last != time(0)):
                said = ", ".join(f"{a:%H:%M}-{b:%H:%M}" for a, b in hours)
                raise InvalidValueError(f"week.{day}", said, "hours in order that do not overlap")
            ends = time.max if last == time(0) else last
    if wanted.country is not None and wanted.country not in list_countries():
        raise InvalidValueError("country", wanted.country, "the code of a country whose holidays are known")
