"""Approvals in one step: what somebody gives away above a limit, somebody else has to say yes to.

What needs one, and the limits, are in `crm_core.sales_settings`. A request is about a quote: that it is sent
as it is, or that a contract is made of it for less than it says. It waits for the manager of the quote's
owner; whoever leads, may change the quote, and may give as much away themselves can decide it too, but never
the one who asked nor the owner. An approval holds for exactly what was asked: a fingerprint of all that the
customer reads is kept with it, and a quote that is changed has lost it.

The reasons that people give are comments on the quote: they are seen, kept and erased as such.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Final

from sqlalchemy import ForeignKey, Index, String, or_, select, update
from sqlalchemy.orm import Mapped, Session, mapped_column

from crm_core.access import Reader, check_may_write
from crm_core.alerting import managers_of, works_here
from crm_core.columns import Instant, Money, check_text
from crm_core.errors import (
    AccessDeniedError,
    ApprovalDecidedError,
    ApprovalNeededError,
    InvalidValueError,
    QuoteStateError,
    RecordNotFoundError,
)
from crm_core.notifications import Occasion, notify
from crm_core.offers import Offer, fingerprint_of, given_away, read_offer
from crm_core.phrases import Phrase
from crm_core.recall import recalled_by_readers
from crm_core.records import ApprovalState, Base, Comment, Id, Quote, QuoteStatus, Role, User
from crm_core.sales_settings import sales_settings
from crm_core.store import Transaction

LONGEST_NOTE: Final = 2000

LEADING: Final = (Role.MANAGER, Role.ADMIN)
"""Roles of whoever may approve anything."""


class ApprovalKind(StrEnum):
    """What is to be approved."""

    DISCOUNT = "discount"
    CONTRACT_VALUE = "contract_value"


class Approval(Base):
    """One request, and what became of it."""

    __tablename__ = "approvals"

    id: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=True)
    kind: Mapped[str] = mapped_column(String(20), comment="what is to be approved")
    quote_id: Mapped[int] = mapped_column(ForeignKey("quotes.id"), index=True)
    state: Mapped[str] = mapped_column(String(10), default=ApprovalState.WAITING)
    given_away: Mapped[float] = mapped_column(
        comment="share of the list price, as it was when it was asked for"
    )
    amount: Mapped[Decimal] = mapped_column(Money)
    currency: Mapped[str | None] = mapped_column(String(3))
    fingerprint: Mapped[str] = mapped_column(String(64), comment="of all that is approved")
    asked_by_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    asked_at: Mapped[datetime] = mapped_column(Instant)
    asked_in_id: Mapped[int | None] = mapped_column(
        ForeignKey("comments.id"), comment="the comment that says why"
    )
    approver_id: Mapped[int | None] = mapped_column(
        ForeignKey("users.id"), comment="whom it waits for; NULL: whoever may"
    )
    decided_by_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"))
    decided_at: Mapped[datetime | None] = mapped_column(Instant)
    decided_in_id: Mapped[int | None] = mapped_column(
        ForeignKey("comments.id"), comment="the comment that says why"
    )

    __table_args__ = (Index("ix_approvals_state_approver_id", "state", "approver_id"),)


# ------------------------------------------------------------------------------------------- what needs one


def limit_for(session: Session, quote: Quote, user: User) -> Decimal | None:
    """Return the share of the list price that somebody may give away on a quote; None for any.

    It is the lower one of theirs and the owner's: nobody sends for a rep what the rep might not.
    """
    settings = sales_settings(session)
    roles = {user.role, *([] if quote.owner_id is None else [_role_of(session, quote.owner_id)])}
    limits = [settings.limit_of(role) for role in roles if role is not None]
    return min((limit for limit in limits if limit is not None), default=None)


def _role_of(session: Session, user_id: int) -> str | None:
    def read() -> str | None:
        return session.scalar(select(User.role).where(User.id == user_id))

    return recalled_by_readers(session, ("role of", user_id), read)


def is_above_limit(session: Session, quote: Quote, user: User, offer: Offer) -> bool:
    """Say whether a quote, as it is, may be sent by somebody only once it has been approved."""
    limit = limit_for(session, quote, user)
    return limit is not None and given_away(quote, offer) > limit


def check_approved(session: Session, quote: Quote, user: User, offer: Offer) -> None:
    """Raise ApprovalNeededError where a quote gives too much away and nobody approved it as it is."""
    _check(session, quote, user, given_away(quote, offer), fingerprint_of(quote, offer))


def check_value_approved(session: Session, quote: Quote, user: User, value: Decimal) -> None:
    """Raise ApprovalNeededError for a contract below its quote that gives too much of the list price away."""
    if quote.amount is not None and value >= quote.amount:
        return  # the quote itself was looked at
    offer = read_offer(session, quote)
    _check(session, quote, user, offer.off_list(value), _of_value(quote, offer, value))


def _check(session: Session, quote: Quote, user: User, share: Decimal, fingerprint: str) -> None:
    limit = limit_for(session, quote, user)
    if limit is None or share <= limit:
        return
    approved = select(Approval.id).where(
        Approval.quote_id == quote.id,
        Approval.state == ApprovalState.APPROVED,
        Approval.fingerprint == fingerprint,
    )
    if session.scalar(approved.limit(1)) is None:
        raise ApprovalNeededError(quote.id, float(share), float(limit))


def _of_value(quote: Quote, offer: Offer, value: Decimal) -> str:
    return fingerprint_of(quote, offer, ApprovalKind.CONTRACT_VALUE, value.normalize())


# ---------------------------------------------------------------------------------------------- asking


def ask_for_approval(
    transaction: Transaction,
    quote: Quote,
    user: User,
    *,
    note: str | None = None,
    value: Decimal | None = None,
) -> Approval:
    """Ask that a draft may be sent as it is or, with `value`, that a contract may be made for as much.

    Raises QuoteStateError for a quote past that, InvalidValueError where no approval is needed. Asked again
    while the same request waits, it is that one.
    """
    session = transaction.session
    offer = read_offer(session, quote)
    kind = ApprovalKind.DISCOUNT if value is None else ApprovalKind.CONTRACT_VALUE
    _check_state(quote, kind)
    fingerprint = fingerprint_of(quote, offer) if value is None else _of_value(quote, offer, value)
    share = given_away(quote, offer) if value is None else offer.off_list(value)
    limit = limit_for(session, quote, user)
    if limit is None or share <= limit:
        raise InvalidValueError(
            "quote", Phrase("{share:.2%} off the list", share=share), "one that gives more away than it may"
        )
    waiting = _waiting(session, quote)
    for each in waiting:
        if each.fingerprint == fingerprint:
            return each
        each.state = ApprovalState.LAPSED
    approval = Approval(
        kind=kind,
        quote_id=quote.id,
        state=ApprovalState.WAITING,
        given_away=float(share),
        amount=(offer.totals.amount if offer.lines else quote.amount or Decimal(0))
        if value is None
        else value,
        currency=quote.currency,
        fingerprint=fingerprint,
        asked_by_id=user.id,
        asked_at=transaction.now,
        asked_in_id=_say(transaction, quote, user, note),
        approver_id=_approver(session, quote, user, share),
    )
    session.add(approval)
    session.flush()
    transaction.update(quote, {"approval": ApprovalState.WAITING})
    _tell(transaction, [approval.approver_id], quote, approval, "approval_asked")
    return approval


def _check_state(quote: Quote, kind: ApprovalKind) -> None:
    wanted = QuoteStatus.DRAFT if kind is ApprovalKind.DISCOUNT else QuoteStatus.ACCEPTED
    if quote.status != wanted:
        raise QuoteStateError(quote.id, quote.status, wanted)


def _approver(
    session: Session, quote: Quote, asked_by: User, share: Decimal, *, but_id: int | None = None
) -> int | None:
    """Return whom a request waits for: a manager of the owner's, or an administrator."""
    owner = asked_by if quote.owner_id is None else session.get(User, quote.owner_id) or asked_by
    admins = session.scalars(select(User).where(User.role == Role.ADMIN, *works_here).order_by(User.id))
    people: list[User] = [*managers_of(session, owner), *admins]
    for one in people:
        if one.id != but_id and _may(session, one, quote, asked_by=asked_by.id, share=share):
            return one.id
    return None


def lapse_approval(transaction: Transaction, quote: Quote) -> None:
    """Take back what was approved or asked for, because the quote is another one now."""
    live = (ApprovalState.WAITING, ApprovalState.APPROVED)
    if quote.approval not in live:
        return
    transaction.session.execute(
        update(Approval)
        .where(Approval.quote_id == quote.id, Approval.state.in_(live))
        .values(state=ApprovalState.LAPSED)
    )
    transaction.update(quote, {"approval": ApprovalState.LAPSED})


# -------------------------------------------------------------------------------------------- deciding


def decide_approval(
    transaction: Transaction, user: User, approval_id: int, *, approve: bool, note: str | None = None
) -> Approval:
    """Approve a request or refuse it.

    Raises RecordNotFoundError for a request about a quote that the user does not see, AccessDeniedError for
    whoever may not decide it, ApprovalDecidedError where it does not wait any more, and InvalidValueError
    where it is refused without a word.
    """
    session = transaction.session
    approval = session.get(Approval, approval_id, with_for_update=True, populate_existing=True)
    if approval is None:
        raise RecordNotFoundError("approval", approval_id)
    quote = _quote_of(transaction, user, approval)
    if not _may(session, user, quote, asked_by=approval.asked_by_id, share=Decimal(str(approval.given_away))):
        raise AccessDeniedError(Phrase("{name} may not decide approval {id}", name=user.name, id=approval.id))
    if approval.state != ApprovalState.WAITING:
        raise ApprovalDecidedError(approval.id, approval.state)
    if not approve and not (note or "").strip():
        raise InvalidValueError("note", note, "why it is refused")
    approval.state = ApprovalState.APPROVED if approve else ApprovalState.REFUSED
    approval.decided_by_id, approval.decided_at = user.id, transaction.now
    approval.decided_in_id = _say(transaction, quote, user, note)
    session.flush()
    transaction.update(quote, {"approval": approval.state})
    told = "approval_given" if approve else "approval_refused"
    _tell(transaction, [approval.asked_by_id, quote.owner_id], quote, approval, told)
    return approval


def _quote_of(transaction: Transaction, user: User, approval: Approval) -> Quote:
    try:
        Reader(transaction.session, user).get(Quote, approval.quote_id)
    except RecordNotFoundError:
        raise RecordNotFoundError("approval", approval.id) from None
    return transaction.get(Quote, approval.quote_id)


def may_decide(session: Session, user: User, approval: Approval, quote: Quote) -> bool:
    """Say whether somebody may decide a request."""
    share = Decimal(str(approval.given_away))
    return _may(session, user, quote, asked_by=approval.asked_by_id, share=share)


def _may(session: Session, user: User, quote: Quote, *, asked_by: int, share: Decimal) -> bool:
    if user.role not in LEADING or user.id in {asked_by, quote.owner_id}:
        return False
    limit = sales_settings(session).limit_of(user.role)
    if limit is not None and share > limit:
        return False
    try:
        check_may_write(user)
        Reader(session, user).get_to_write(Quote, quote.id, only=("id",))
    except (RecordNotFoundError, AccessDeniedError):
        return False
    return True


def _say(transaction: Transaction, quote: Quote, user: User, note: str | None) -> int | None:
    """Write what somebody gives as a reason as their comment on the quote; return its id."""
    text = check_text("note", (note or "").strip(), longest=LONGEST_NOTE)
    if not text:
        return None
    about = {"subject_type": "quote", "subject_id": quote.id, "owner_id": user.id}
    return transaction.create(Comment(body=text, **about)).id


def _tell(
    transaction: Transaction, people: Sequence[int | None], quote: Quote, approval: Approval, text: str
) -> None:
    wanted = {each for each in people if each is not None}
    about = ("quote", quote.id)
    notify(
        transaction, wanted, kind=Occasion.APPROVAL, text=text, about=about, params={"approval": approval.id}
    )


# ---------------------------------------------------------------------------------------------- reading


def list_waiting(
    reader: Reader, *, addressed: bool = False, limit: int | None = 200
) -> list[tuple[Approval, Quote]]:
    """Return what waits for a decision that a reader may take, what waits for them by name first.

    With `addressed`, nothing that waits for somebody else by name.
    """
    user = reader.user
    if user.role not in LEADING:
        return []
    query = (
        select(Approval, Quote)
        .join(Quote, Quote.id == Approval.quote_id)
        .where(
            Approval.state == ApprovalState.WAITING,
            Approval.asked_by_id != user.id,
            Quote.deleted_at.is_(None),
            Quote.owner_id.is_distinct_from(user.id),
            reader.readable(Quote),
            reader.writable(Quote),
        )
        .order_by(Approval.approver_id.is_distinct_from(user.id), Approval.asked_at, Approval.id)
        .limit(limit)
    )
    if addressed:
        query = query.where(or_(Approval.approver_id == user.id, Approval.approver_id.is_(None)))
    most = sales_settings(reader.session).limit_of(user.role)
    if most is not None:
        query = query.where(Approval.given_away <= float(most))
    return [(approval, quote) for approval, quote in reader.session.execute(query)]


def get_approval(reader: Reader, approval_id: int) -> Approval:
    """Return a request about a quote that a reader sees, for whoever made it and whoever may decide such."""
    found = reader.session.get(Approval, approval_id)
    if found is None or (found.asked_by_id != reader.user.id and reader.user.role not in LEADING):
        raise RecordNotFoundError("approval", approval_id)
    try:
        reader.get(Quote, found.quote_id)
    except RecordNotFoundError:
        raise RecordNotFoundError("approval", approval_id) from None
    return found


def list_asked(reader: Reader, *, limit: int = 50, before: int | None = None) -> list[tuple[Approval, Quote]]:
    """Return what a reader asked for, newest first; those before an id where one is given."""
    older = () if before is None else (Approval.id < before,)
    query = (
        select(Approval, Quote)
        .join(Quote, Quote.id == Approval.quote_id)
        .where(
            Approval.asked_by_id == reader.user.id, Quote.deleted_at.is_(None), reader.readable(Quote), *older
        )
        .order_by(Approval.id.desc())
        .limit(limit)
    )
    return [(approval, quote) for approval, quote in reader.session.execute(query)]


def find_newest(session: Session, quote_id: int) -> Approval | None:
    """Return the newest request about a quote."""
    query = select(Approval).where(Approval.quote_id == quote_id).order_by(Approval.id.desc())
    return session.scalars(query.limit(1)).first()


def _waiting(session: Session, quote: Quote) -> list[Approval]:
    query = select(Approval).where(Approval.quote_id == quote.id, Approval.state == ApprovalState.WAITING)
    return list(session.scalars(query.with_for_update()))


def waits_for(session: Session, user: User) -> bool:
    """Tell whether anything waits for somebody's decision by name."""
    waiting = (Approval.state == ApprovalState.WAITING, Approval.approver_id == user.id)
    return session.scalar(select(Approval.id).where(*waiting).limit(1)) is not None


def readdress(transaction: Transaction, leaver: User) -> int:
    """Let what waits for somebody who leaves wait for who else may decide it; return how many moved."""
    session = transaction.session
    query = select(Approval).where(Approval.state == ApprovalState.WAITING, Approval.approver_id == leaver.id)
    query = query.order_by(Approval.id)
    moved = 0
    for approval in session.scalars(query.with_for_update()):
        quote = session.get_one(Quote, approval.quote_id)
        asked_by = session.get_one(User, approval.asked_by_id)
        share = Decimal(str(approval.given_away))
        approval.approver_id = _approver(session, quote, asked_by, share, but_id=leaver.id)
        _tell(transaction, [approval.approver_id], quote, approval, "approval_asked")
        moved += 1
    session.flush()
    return moved
