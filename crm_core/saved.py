"""What people keep for themselves and others: views of lists, segments, and how they like the pages.

A view is how a list was asked for: its filter, order and columns. A segment is a filter with a name; who is
in it is asked whenever somebody looks, so that it is never out of date, and each reader gets those of its
records that they may see. A segment with a tag is that tag's rule: what fits now carries it. Neither holds a
record, so neither can show one to somebody who may not see it; and whoever may not see a field that it
filters by may not use it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, ForeignKey, Index, Select, String, UniqueConstraint, and_, or_, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from crm_core.columns import Instant, Json
from crm_core.errors import RecordNotFoundError
from crm_core.recall import recalled
from crm_core.records import Base, Id, Role, User

LONGEST_NAME = 120
LONGEST_WORD = 60
MOST_KEPT = 200
"""Views, or segments, that one person keeps."""


MOST_RULES = 60
"""Rules of tags that one reader's lists ask, the oldest first: each is a query of its own on every page."""


class Shared(StrEnum):
    """Who may use what somebody keeps, besides themselves."""

    OWN = "own"
    TEAM = "team"
    ALL = "all"


class SavedView(Base):
    """How a list was asked for: `asked` holds its filter, order, status, owner, search and columns."""

    __tablename__ = "saved_views"

    id: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    record_type: Mapped[str] = mapped_column(String(40))
    name: Mapped[str] = mapped_column(String(LONGEST_NAME))
    asked: Mapped[Any] = mapped_column(Json)
    shared: Mapped[str] = mapped_column(String(10), comment="own, team or all")
    saved_at: Mapped[datetime] = mapped_column(Instant)

    __table_args__ = (Index("ix_saved_views_record_type_user_id", "record_type", "user_id"),)


class Segment(Base):
    """A filter with a name; with a tag, the rule of that tag."""

    __tablename__ = "segments"

    id: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    record_type: Mapped[str] = mapped_column(String(40))
    name: Mapped[str] = mapped_column(String(LONGEST_NAME))
    filter: Mapped[Any] = mapped_column(Json, comment="conditions, as the API takes them")
    tag: Mapped[str | None] = mapped_column(String(LONGEST_WORD), comment="the tag of what fits now")
    shared: Mapped[str] = mapped_column(String(10), comment="own, team or all")
    saved_at: Mapped[datetime] = mapped_column(Instant)

    __table_args__ = (Index("ix_segments_record_type_user_id", "record_type", "user_id"),)


class SavedReport(Base):
    """A question to the reports: `asked` holds measures, rows, columns, filters and the period."""

    __tablename__ = "saved_reports"

    id: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    name: Mapped[str] = mapped_column(String(LONGEST_NAME))
    asked: Mapped[Any] = mapped_column(Json, comment="as `crm_core.reporting.keeping.Asked` reads it")
    shared: Mapped[str] = mapped_column(String(10), comment="own, team or all")
    version: Mapped[int] = mapped_column(default=1, comment="counts changes")
    saved_at: Mapped[datetime] = mapped_column(Instant)

    __table_args__ = (Index("ix_saved_reports_user_id", "user_id"),)


class ReportMail(Base):
    """A saved report that somebody is sent again and again; a row a receiver.

    A row that its receiver stopped stays, so that nobody else begins it anew.
    """

    __tablename__ = "report_mails"

    id: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=True)
    report_id: Mapped[int] = mapped_column(ForeignKey("saved_reports.id"))
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), comment="who receives it")
    set_by_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    every: Mapped[str] = mapped_column(String(5), comment="day, week or month")
    day: Mapped[int] = mapped_column(comment="weekday from 0, Monday, or day of the month; 0 of every day")
    at: Mapped[str] = mapped_column(String(5), comment="HH:MM on the wall clock of the zone")
    zone: Mapped[str] = mapped_column(String(64))
    stopped: Mapped[bool] = mapped_column(default=False, comment="by whoever receives it")
    next_at: Mapped[datetime] = mapped_column(Instant)
    sent_at: Mapped[datetime | None] = mapped_column(Instant, comment="the newest slot that was dealt with")

    __table_args__ = (
        UniqueConstraint("report_id", "user_id"),
        Index("ix_report_mails_next_at", "next_at"),
        Index("ix_report_mails_user_id", "user_id"),
    )


class Preference(Base):
    """How somebody likes the pages; without a row, as they come."""

    __tablename__ = "preferences"

    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), primary_key=True)
    keys: Mapped[bool] = mapped_column(comment="whether single letters go to pages")
    views: Mapped[Any] = mapped_column(Json, comment="by record type, the view that its list begins with")


@dataclass(frozen=True, kw_only=True)
class Likes:
    """A preference as it is read."""

    keys: bool = True
    views: tuple[tuple[str, int], ...] = ()

    def view_of(self, record_type: str) -> int | None:
        """Return the view that a list begins with."""
        return dict(self.views).get(record_type)


def likes_of(session: Session, user_id: int) -> Likes:
    """Return how somebody likes the pages."""
    return recalled(session, ("likes", user_id), lambda: _read_likes(session, user_id))


def _read_likes(session: Session, user_id: int) -> Likes:
    found = session.get(Preference, user_id)
    if found is None:
        return Likes()
    return Likes(keys=found.keys, views=tuple(sorted((found.views or {}).items())))


def set_keys(session: Session, user_id: int, *, on: bool) -> None:
    """Write down whether single letters go to pages."""
    _preference(session, user_id).keys = on
    session.flush()


def set_first_view(session: Session, user_id: int, record_type: str, view_id: int | None) -> None:
    """Write down which view a list begins with; None is the list as it comes."""
    found = _preference(session, user_id)
    rest = {name: view for name, view in (found.views or {}).items() if name != record_type}
    found.views = rest if view_id is None else {**rest, record_type: view_id}
    session.flush()


def _preference(session: Session, user_id: int) -> Preference:
    found = session.get(Preference, user_id)
    if found is None:
        found = Preference(user_id=user_id, keys=True, views={})
        session.add(found)
    return found


# ---------------------------------------------------------------- who sees what

Kept = SavedView | Segment | SavedReport


def may_use(model: type[Kept], user: User) -> ColumnElement[bool]:
    """Return the condition that something kept is one's own, or shared with everybody or one's own team."""
    ways = [model.user_id == user.id, model.shared == Shared.ALL]
    if user.team_id is not None:
        mates = select(User.id).where(User.team_id == user.team_id)
        ways.append(and_(model.shared == Shared.TEAM, model.user_id.in_(mates)))
    return or_(*ways)


def list_views(session: Session, user: User, record_type: str) -> Sequence[SavedView]:
    """Return the views of a list that somebody may use, by name."""
    return session.scalars(_usable(SavedView, user, record_type)).all()


def list_segments(session: Session, user: User, record_type: str | None = None) -> Sequence[Segment]:
    """Return the segments that somebody may use, by name."""
    return session.scalars(_usable(Segment, user, record_type)).all()


def list_rules(session: Session, user: User, record_type: str) -> Sequence[Segment]:
    """Return the segments that are the rule of a tag, no more than `MOST_RULES`."""
    rules = _usable(Segment, user, record_type).where(Segment.tag.is_not(None))
    return session.scalars(rules.order_by(None).order_by(Segment.id).limit(MOST_RULES)).all()


def find_view(session: Session, user: User, record_type: str, view_id: int) -> SavedView | None:
    """Return a view that somebody may use, or None."""
    return session.scalars(_usable(SavedView, user, record_type).where(SavedView.id == view_id)).one_or_none()


def get_view(session: Session, user: User, view_id: int) -> SavedView:
    """Return a view that somebody may use; raise RecordNotFoundError without one."""
    found: SavedView | None = session.scalars(
        _usable(SavedView, user, None).where(SavedView.id == view_id)
    ).one_or_none()
    if found is None:
        raise RecordNotFoundError("view", view_id)
    return found


def get_segment(session: Session, user: User, segment_id: int) -> Segment:
    """Return a segment that somebody may use; for all others there is none."""
    query = _usable(Segment, user, None).where(Segment.id == segment_id)
    found: Segment | None = session.scalars(query).one_or_none()
    if found is None:
        raise RecordNotFoundError("segment", segment_id)
    return found


def list_reports(session: Session, user: User) -> Sequence[SavedReport]:
    """Return the reports that somebody may use, by name."""
    return session.scalars(_usable(SavedReport, user, None)).all()


def get_report(session: Session, user: User, report_id: int) -> SavedReport:
    """Return a report that somebody may use, or is sent; for all others there is none."""
    sent = select(ReportMail.report_id).where(ReportMail.user_id == user.id, ReportMail.stopped.is_(False))
    ways = or_(may_use(SavedReport, user), SavedReport.id.in_(sent))
    found = session.scalars(select(SavedReport).where(SavedReport.id == report_id, ways)).one_or_none()
    if found is None:
        raise RecordNotFoundError("report", report_id)
    return found


def _usable(model: Any, user: User, record_type: str | None) -> Select[Any]:  # noqa: ANN401  either class
    query = select(model).where(may_use(model, user)).order_by(model.name, model.id)
    return query if record_type is None else query.where(model.record_type == record_type)


def may_end(kept: Kept, user: User) -> bool:
    """Say whether somebody may rename or delete what is kept: whoever made it, and administrators."""
    return kept.user_id == user.id or user.role == Role.ADMIN
