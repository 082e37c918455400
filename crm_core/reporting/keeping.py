"""Reports that people keep, share with their team or everybody, and have sent at a time of day.

A kept report is a question with a period in words, so that "last month" is another month in April than in
March. Whoever may use it is answered within their own rights. A mail is due once a slot: a day, a week or a
month at a time on the wall clock of a zone; a slot whose hour the clocks leave out is due when it would have
been, one whose hour comes twice is due the first time. Slots that passed while nobody could send are one
mail.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo, available_timezones

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from crm_core.access import Reader
from crm_core.columns import check_json, check_text
from crm_core.errors import (
    AccessDeniedError,
    InvalidValueError,
    RecordNotFoundError,
    StaleRecordError,
)
from crm_core.external_ids import hold_keys
from crm_core.phrases import Phrase, one_of
from crm_core.records import Role, User
from crm_core.reporting.asking import FIRST_YEAR, Question, check_rights, end_of_day
from crm_core.reporting.periods import first_day, next_first
from crm_core.saved import LONGEST_NAME, MOST_KEPT, ReportMail, SavedReport, Shared, get_report, may_end
from crm_core.store import Transaction
from crm_core.tokens import works_here

PERIODS: Final = (
    *("last_30", "last_90", "last_365"),
    *("this_month", "last_month", "this_quarter", "last_quarter", "this_year", "last_year"),
    "dates",
)
"""Periods by words; "dates" are two days that stay."""

EVERY: Final = ("day", "week", "month")
MOST_RECEIVERS: Final = 50
_LAST_YEAR: Final = 2200
_DAYS: Final = {"last_30": 30, "last_90": 90, "last_365": 365}
_TIME = re.compile(r"(?:[01]\d|2[0-3]):[0-5]\d")


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A question as it is kept: without an instant, and with a period that may move with time."""

    measures: tuple[str, ...]
    rows: str | None = None
    columns: str | None = None
    filters: tuple[str, ...] = ()
    period: str = "last_365"
    since: date | None = None
    until: date | None = None
    as_of: date | None = None

    def question(self, now: datetime, zone: str) -> Question:
        """Return the question as of now, or of the end of the day that it names."""
        as_of = now if self.as_of is None else end_of_day(self.as_of, zone, now)
        today = as_of.astimezone(ZoneInfo(zone)).date()
        since, until = self.days(today)
        return Question(
            measures=self.measures,
            rows=self.rows,
            columns=self.columns,
            since=since,
            until=until,
            as_of=as_of,
            filters=self.filters,
            zone=zone,
        )

    def days(self, today: date) -> tuple[date, date]:
        """Return the first and the last day of the period."""
        if self.period == "dates":
            until = self.until or today
            return self.since or until - timedelta(days=364), until
        if self.period in _DAYS:
            return today - timedelta(days=_DAYS[self.period] - 1), today
        which, _, span = self.period.partition("_")
        first = first_day(span, today)
        if which == "this":
            return first, next_first(span, first) - timedelta(days=1)
        last = first - timedelta(days=1)
        return first_day(span, last), last

    def to_json(self) -> dict[str, Any]:
        """Return it as it is kept."""
        plain = {name: value for name, value in vars(self).items() if value not in (None, ())}
        return {
            name: value.isoformat()
            if isinstance(value, date)
            else list(value)
            if isinstance(value, tuple)
            else value
            for name, value in plain.items()
        }

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Asked:
        """Read what was kept, or what somebody sent; raise InvalidValueError for what makes no sense."""
        unknown = told.keys() - cls.__dataclass_fields__.keys()
        if unknown:
            raise InvalidValueError("asked", min(unknown), one_of(cls.__dataclass_fields__))
        period = told.get("period", "last_365")
        if period not in PERIODS:
            raise InvalidValueError("period", period, one_of(PERIODS))
        return cls(
            measures=_texts("measures", told.get("measures", ())),
            rows=told.get("rows") or None,
            columns=told.get("columns") or None,
            filters=_texts("filters", told.get("filters", ())),
            period=period,
            since=read_day("since", told.get("since")),
            until=read_day("until", told.get("until")),
            as_of=read_day("as_of", told.get("as_of")),
        )


def _texts(name: str, given: object) -> tuple[str, ...]:
    if not isinstance(given, list | tuple) or not all(isinstance(each, str) for each in given):
        raise InvalidValueError(name, str(given), "a list of texts")
    return tuple(given)


def read_day(name: str, text: object) -> date | None:
    """Return the day that a text says, None for none; raise InvalidValueError for one far from our time."""
    if text is None or text == "":
        return None
    try:
        day = date.fromisoformat(str(text))
    except ValueError as error:
        raise InvalidValueError(name, str(text), "a day such as 2026-01-31") from error
    if not FIRST_YEAR <= day.year <= _LAST_YEAR:
        raise InvalidValueError(
            name,
            str(text),
            Phrase("a day from {first_year} to {last_year}", first_year=FIRST_YEAR, last_year=_LAST_YEAR),
        )
    return day


# ---------------------------------------------------------------- keeping


def keep_report(
    transaction: Transaction,
    user: User,
    name: str,
    asked: Asked,
    *,
    shared: str = Shared.OWN,
    report_id: int | None = None,
    version: int | None = None,
) -> SavedReport:
    """Keep a report, or change one's own that has `version`; None: any.

    Raises what asking it raises: nobody keeps a report that they may not see. StaleRecordError where somebody
    changed it meanwhile.
    """
    session = transaction.session
    question = asked.question(transaction.now, "UTC")
    question.check(transaction.now)
    check_rights(Reader(session, user), question)
    check_json("asked", asked.to_json())
    if shared not in list(Shared):
        raise InvalidValueError("shared", shared, one_of(Shared))
    made = _new(session, user) if report_id is None else _to_change(session, user, report_id, version)
    made.name, made.asked, made.shared = _name(name), asked.to_json(), shared
    made.saved_at = transaction.now
    session.add(made)
    session.flush()
    return made


def _new(session: Session, user: User) -> SavedReport:
    kept = session.scalar(select(func.count(SavedReport.id)).where(SavedReport.user_id == user.id)) or 0
    if kept >= MOST_KEPT:
        raise InvalidValueError(
            "name", kept, Phrase("at most {most} reports; delete one first", most=MOST_KEPT)
        )
    return SavedReport(user_id=user.id, version=1)


def _to_change(session: Session, user: User, report_id: int, version: int | None) -> SavedReport:
    get_report(session, user, report_id)
    found = session.get_one(SavedReport, report_id, with_for_update=True, populate_existing=True)
    if not may_end(found, user):
        raise AccessDeniedError(
            Phrase(
                "report {report_id} is another person's: keep it under a name of your own",
                report_id=report_id,
            )
        )
    if version is not None and version != found.version:
        raise StaleRecordError("report", report_id, version, found.version)
    found.version += 1
    return found


def _name(name: str) -> str:
    name = check_text("name", name.strip(), longest=LONGEST_NAME)
    if not name:
        raise InvalidValueError("name", name, "a name")
    return name


def end_report(transaction: Transaction, user: User, report_id: int, version: int | None = None) -> None:
    """Delete a report with its mails; only whoever made it may, and administrators what is shared."""
    session = transaction.session
    found = session.get(SavedReport, report_id, with_for_update=True)
    seen = found is not None and (found.user_id == user.id or found.shared != Shared.OWN)
    if found is None or not seen or not may_end(found, user):
        raise RecordNotFoundError("report", report_id)
    if version is not None and version != found.version:
        raise StaleRecordError("report", report_id, version, found.version)
    session.execute(delete(ReportMail).where(ReportMail.report_id == report_id))
    session.delete(found)
    session.flush()


# ---------------------------------------------------------------- sending


@dataclass(frozen=True, kw_only=True)
class Rhythm:
    """When a report is sent: `day` is the weekday from 0, Monday, of a week, and the day of a month."""

    every: str
    at: str
    zone: str
    day: int = 0

    def check(self) -> None:
        """Raise InvalidValueError for what makes no sense."""
        if self.every not in EVERY:
            raise InvalidValueError("every", self.every, one_of(EVERY))
        if not _TIME.fullmatch(self.at):
            raise InvalidValueError("at", self.at, "a time such as 08:30")
        if self.zone not in available_timezones():
            raise InvalidValueError("zone", self.zone, "a time zone such as Asia/Shanghai")
        low, high = {"day": (0, 0), "week": (0, 6), "month": (1, 28)}[self.every]
        if not low <= self.day <= high:
            raise InvalidValueError(
                "day", self.day, Phrase("a number from {low} to {high}", low=low, high=high)
            )

    def after(self, now: datetime) -> datetime:
        """Return the first slot after an instant."""
        day = now.astimezone(ZoneInfo(self.zone)).date() - timedelta(days=1)
        while True:
            day += timedelta(days=1)
            slot = self._slot(day)
            if slot > now and self._is_its_day(day):
                return slot

    def _is_its_day(self, day: date) -> bool:
        return {"week": day.weekday(), "month": day.day}.get(self.every, self.day) == self.day

    def _slot(self, day: date) -> datetime:
        return datetime.combine(day, time.fromisoformat(self.at), ZoneInfo(self.zone)).astimezone(UTC)


def rhythm_of(mail: ReportMail) -> Rhythm:
    """Return when a mail is sent."""
    return Rhythm(every=mail.every, at=mail.at, zone=mail.zone, day=mail.day)


def send_to(
    transaction: Transaction, user: User, report_id: int, receivers: Sequence[int], rhythm: Rhythm
) -> list[ReportMail]:
    """Have a report that one may use sent to people who work here; those who stopped it are left alone.

    Only whoever keeps the report sends it to others; everybody has what they may use sent to themselves.
    """
    session = transaction.session
    rhythm.check()
    found = get_report(session, user, report_id)
    if set(receivers) != {user.id} and found.user_id != user.id and user.role != Role.ADMIN:
        raise AccessDeniedError("only whoever keeps a report sends it to others")
    hold_keys(session, [f"report mails:{report_id}"])
    wanted = sorted(set(receivers))
    if not 1 <= len(wanted) <= MOST_RECEIVERS:
        raise InvalidValueError("to", len(wanted), Phrase("1 to {most} people", most=MOST_RECEIVERS))
    mails = {each.user_id: each for each in mails_of(session, report_id)}
    for each in wanted:
        person = session.get(User, each)
        if person is None or not works_here(person):
            raise RecordNotFoundError("user", each)
        mails[each] = _set_mail(transaction, user, report_id, each, rhythm, mails.get(each))
    session.flush()
    return [mails[each] for each in wanted]


def _set_mail(
    transaction: Transaction,
    user: User,
    report_id: int,
    receiver: int,
    rhythm: Rhythm,
    mail: ReportMail | None,
) -> ReportMail:
    if mail is None:
        mail = ReportMail(report_id=report_id, user_id=receiver, stopped=False)
        transaction.session.add(mail)
    if mail.stopped and receiver != user.id:
        return mail
    mail.set_by_id, mail.stopped = user.id, False
    mail.every, mail.day, mail.at, mail.zone = rhythm.every, rhythm.day, rhythm.at, rhythm.zone
    mail.next_at = rhythm.after(transaction.now)
    return mail


def mails_of(session: Session, report_id: int) -> Sequence[ReportMail]:
    """Return to whom a report is sent."""
    query = select(ReportMail).where(ReportMail.report_id == report_id).order_by(ReportMail.id)
    return session.scalars(query).all()


def stop_mail(transaction: Transaction, user: User, report_id: int, receiver: int) -> None:
    """Stop a mail: whoever receives it for good, whoever keeps the report by taking it away."""
    session = transaction.session
    query = select(ReportMail).where(ReportMail.report_id == report_id, ReportMail.user_id == receiver)
    mail = session.scalars(query.with_for_update()).one_or_none()
    report = session.get(SavedReport, report_id)
    if mail is None or report is None:
        raise RecordNotFoundError("report", report_id)
    if receiver == user.id:
        mail.stopped = True
    elif report.user_id == user.id or (user.role == Role.ADMIN and report.shared != Shared.OWN):
        if not mail.stopped:
            session.delete(mail)
    else:
        raise RecordNotFoundError("report", report_id)
    session.flush()


def take_due(transaction: Transaction, *, most: int = 100) -> list[tuple[ReportMail, datetime]]:
    """Return the mails that are due with their slots, and put each on to its next slot.

    In the same transaction the caller writes down what is to be sent: then nobody takes a slot twice.
    """
    session, now = transaction.session, transaction.now
    query = select(ReportMail).where(ReportMail.next_at <= now, ReportMail.stopped.is_(False))
    query = query.order_by(ReportMail.next_at, ReportMail.id).limit(most)
    taken = []
    for mail in session.scalars(query.with_for_update(skip_locked=True)).all():
        taken.append((mail, mail.next_at))
        mail.sent_at, mail.next_at = mail.next_at, rhythm_of(mail).after(now)
    session.flush()
    return taken
