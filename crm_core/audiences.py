"""Who is to be reached by a campaign: members added by a filter once, or by a segment for as long as it runs.

A segment that feeds a campaign is an audience. It is looked at again once the log tells of anything that may
have changed who is in it (a lead, contact, account, tag or the segment itself), and once an hour in any case,
because scores are not in the log. Whoever fits becomes a member. Nobody ceases to be one, because who was
reached was reached; who was taken out by hand does not come back. A segment of leads adds leads, one of
customers their contacts.

An audience sees what the person sees who set it up, and ends with their leaving or the segment's end.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import BigInteger, ColumnElement, ForeignKey, UniqueConstraint, exists, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from crm_core.access import Reader
from crm_core.changes import Change, see_log_end
from crm_core.columns import Instant
from crm_core.errors import (
    AccessDeniedError,
    FilterError,
    InvalidValueError,
    RecordNotFoundError,
    UnknownFieldError,
)
from crm_core.external_ids import hold_keys
from crm_core.filters import compile_filter, compile_segment
from crm_core.phrases import Phrase, one_of
from crm_core.records import Account, Base, Campaign, CampaignMember, Contact, Id, Lead, User
from crm_core.saved import Segment, get_segment
from crm_core.store import Transaction
from crm_core.tokens import works_here

MOST_AT_ONCE: Final = 50_000
REACHABLE: Final = ("lead", "contact", "account")
"""What may be filtered for members; of accounts, their contacts become members."""

AUDIENCE_TYPES: Final = ("lead", "account")
MOST_AUDIENCES: Final = 20
PAUSE: Final = timedelta(minutes=1)
HOURLY: Final = timedelta(hours=1)
_TOLD_BY: Final = ("lead", "contact", "account", "tag")


class Audience(Base):
    """A segment that feeds a campaign."""

    __tablename__ = "campaign_audiences"

    id: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=True)
    campaign_id: Mapped[int] = mapped_column(ForeignKey("campaigns.id"))
    segment_id: Mapped[int] = mapped_column(BigInteger, comment="the segment may be gone")
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), comment="with whose rights")
    position: Mapped[int] = mapped_column(BigInteger, comment="how far the log had come then")
    refreshed_at: Mapped[datetime] = mapped_column(Instant)
    added: Mapped[int] = mapped_column(comment="members that it added")

    __table_args__ = (UniqueConstraint("campaign_id", "segment_id"),)


def add_members(
    transaction: Transaction, user: User, campaign_id: int, record_type: str, conditions: Sequence[str]
) -> int:
    """Make everybody a member of a campaign who fits a filter, and is none yet; return how many that were.

    Raises AccessDeniedError for a role that may not change the campaign, what `compile_filter` raises, and
    InvalidValueError for a type nobody of which can be reached, or a filter without a condition.
    """
    reader = Reader(transaction.session, user)
    campaign = _writable(reader, campaign_id)
    if record_type not in REACHABLE:
        raise InvalidValueError("record_type", record_type, one_of(REACHABLE))
    if not conditions:
        raise InvalidValueError("filter", [], "at least one condition")
    fits = compile_filter(reader, record_type, conditions)
    return _add(transaction, reader, campaign.id, record_type, fits)


def add_audience(transaction: Transaction, user: User, campaign_id: int, segment_id: int) -> int:
    """Have a segment feed a campaign from now on; return how many members that added.

    One that does so already is looked at again.

    Raises as `add_members` does, and RecordNotFoundError for a segment that the user may not use.
    """
    session = transaction.session
    reader = Reader(session, user)
    campaign = _writable(reader, campaign_id)
    hold_keys(session, [f"audiences:{campaign_id}"])  # of two at once the second finds it there
    segment = get_segment(session, user, segment_id)
    if segment.record_type not in AUDIENCE_TYPES:
        raise InvalidValueError(
            "segment", segment.name, Phrase("one of {or_targets}s", or_targets=" or ".join(AUDIENCE_TYPES))
        )
    found = _audiences(session, campaign.id)
    audience = next((each for each in found if each.segment_id == segment_id), None)
    if audience is None:
        if len(found) >= MOST_AUDIENCES:
            raise InvalidValueError(
                "segment", segment.name, Phrase("at most {most} segments", most=MOST_AUDIENCES)
            )
        audience = Audience(campaign_id=campaign.id, segment_id=segment_id, user_id=user.id, added=0)
    added = _look(transaction, reader, audience, segment)
    session.add(audience)
    session.flush()
    return added


def end_audience(transaction: Transaction, user: User, campaign_id: int, segment_id: int) -> None:
    """Have a segment feed a campaign no more; its members stay. One that does not is left alone."""
    campaign = _writable(Reader(transaction.session, user), campaign_id)
    for each in _audiences(transaction.session, campaign.id):
        if each.segment_id == segment_id:
            transaction.session.delete(each)
    transaction.session.flush()


def list_audiences(session: Session, campaign_id: int) -> list[tuple[Audience, Segment | None]]:
    """Return the audiences of a campaign with their segments, None where one is gone."""
    query = select(Audience, Segment).outerjoin(Segment, Segment.id == Audience.segment_id)
    found = session.execute(query.where(Audience.campaign_id == campaign_id).order_by(Audience.id))
    return [(audience, segment) for audience, segment in found]


def list_due(session: Session, now: datetime) -> list[int]:
    """Return the audiences to look at again: the log has moved on where it matters, or an hour is over."""
    due = []
    rows: Any = session.execute(
        select(Audience, Segment)
        .outerjoin(Segment, Segment.id == Audience.segment_id)
        .where(Audience.refreshed_at <= now - PAUSE)
        .order_by(Audience.id)
    )
    for audience, segment in rows:
        is_old = audience.refreshed_at <= now - HOURLY
        is_new = segment is None or segment.saved_at > audience.refreshed_at
        if is_old or is_new or _has_moved(session, audience.position):
            due.append(audience.id)
    return due


def refresh(transaction: Transaction, audience_id: int) -> int:
    """Look at one audience again; return how many members that added. One that has ended is removed."""
    session = transaction.session
    audience = session.get(Audience, audience_id, with_for_update=True, populate_existing=True)
    if audience is None:
        return 0
    user, segment = session.get(User, audience.user_id), session.get(Segment, audience.segment_id)
    campaign = session.get(Campaign, audience.campaign_id)
    gone = campaign is None or campaign.deleted_at is not None
    if user is None or segment is None or gone or not works_here(user):
        session.delete(audience)
        return 0
    reader = Reader(session, user)
    try:
        get_segment(session, user, segment.id)
        return _look(transaction, reader, audience, segment)
    except (AccessDeniedError, FilterError, UnknownFieldError, RecordNotFoundError):
        session.delete(audience)  # they may not ask it any more, or nobody may
        return 0


def _look(transaction: Transaction, reader: Reader, audience: Audience, segment: Segment) -> int:
    # The log's end is read first: what comes in meanwhile is looked at once more.
    audience.position = see_log_end(transaction.session).settled
    audience.refreshed_at = transaction.now
    fits = compile_segment(reader, segment.record_type, segment.filter)
    added = _add(transaction, reader, audience.campaign_id, segment.record_type, fits)
    audience.added += added
    return added


def _add(
    transaction: Transaction, reader: Reader, campaign_id: int, record_type: str, fits: ColumnElement[bool]
) -> int:
    session = transaction.session
    hold_keys(session, [f"members:{campaign_id}"])
    model: Any = Lead if record_type == "lead" else Contact
    link = CampaignMember.lead_id if model is Lead else CampaignMember.contact_id
    if record_type == "account":
        accounts = reader.select(Account).with_only_columns(Account.id).where(fits)
        fits = Contact.account_id.in_(accounts)
    known = exists().where(CampaignMember.campaign_id == campaign_id, link == model.id)
    query = reader.select(model).with_only_columns(model.id).where(fits, model.erased_at.is_(None), ~known)
    ids = list(session.scalars(query.order_by(model.id).limit(MOST_AT_ONCE)))
    rows = [{"campaign_id": campaign_id, link.key: each, "occurred_at": transaction.now} for each in ids]
    transaction.create_many(CampaignMember, rows)
    return len(rows)


def _has_moved(session: Session, position: int) -> bool:
    """Tell whether the log holds anything since a position that may change who is in a segment."""
    later = select(Change.id).where(Change.sequence > position, Change.record_type.in_(_TOLD_BY))
    return session.scalar(later.order_by(Change.sequence, Change.id).limit(1)) is not None


def _audiences(session: Session, campaign_id: int) -> Sequence[Audience]:
    query = select(Audience).where(Audience.campaign_id == campaign_id)
    return session.scalars(query.order_by(Audience.id)).all()


def _writable(reader: Reader, campaign_id: int) -> Campaign:
    campaign = reader.get_to_write(Campaign, campaign_id)
    reader.check_may_create(CampaignMember)
    return campaign
