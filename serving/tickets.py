"""Tickets as somebody works with them: by their rights, in lists, on the page, and in figures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal, cast

from sqlalchemy import ColumnElement, Select, and_, case, false, func, or_, select, true
from sqlalchemy.orm import aliased

from crm_core.access import Reader, recall_team
from crm_core.articles import note_use
from crm_core.columns import check_text
from crm_core.errors import (
    AccessDeniedError,
    InvalidValueError,
    MergeError,
    RecordNotFoundError,
)
from crm_core.phrases import Phrase
from crm_core.records import (
    Account,
    Activity,
    Article,
    Comment,
    Contact,
    Feedback,
    Role,
    Ticket,
    TicketStatus,
    User,
)
from crm_core.service_desk import (
    find_queue,
    list_members,
    queues_served_by,
    recall_queues,
    serving,
)
from crm_core.store import Transaction
from crm_core.tickets import answer_ticket, assign_next, assign_ticket, merge_tickets, take_feedback
from crm_core.working_time import WorkingTime
from serving.editing import Editor, kind_of
from serving.mail import mail_is_on
from serving.owners import choose_owner, list_owners
from serving.settings import Settings

SOON: Final = timedelta(hours=4)
"""Working time within which something that is due is due soon."""

VIEWS: Final = ("mine", "queues", "unassigned", "soon", "missed", "waiting", "running", "all")
"""What a list of tickets may be narrowed to; the first is shown to who asks for nothing."""

_MOST_SAID: Final = 200
"""Parts of a conversation that a page shows, the newest ones."""

_OTHERS: Final = 6


# ------------------------------------------------------------------------------------------------ doing


@dataclass(frozen=True, kw_only=True)
class Answered:
    """An answer: `unsent` says why it is only noted, `no_address` or `mail_off`; None: it will be sent."""

    activity: Activity
    unsent: Literal["no_address", "mail_off"] | None


def get_ticket(transaction: Transaction, user: User, ticket_id: int, *fields: str) -> Ticket:
    """Return a ticket, locked, of which somebody may change some fields."""
    editor = Editor(transaction, user)
    found = editor.get_to_write(kind_of(transaction.session, Ticket.record_type), ticket_id)
    editor.reader.check_fields(Ticket.record_type, fields)
    return cast("Ticket", found)


def answer(
    transaction: Transaction,
    user: User,
    settings: Settings,
    ticket_id: int,
    text: str,
    *,
    status: str | None = None,
    article_ids: Sequence[int] = (),
) -> Answered:
    """Answer the customer; the articles that the answer was made with are noted."""
    ticket = get_ticket(transaction, user, ticket_id, *(["status"] if status else []))
    reader = Reader(transaction.session, user)
    reader.check_may_create(Activity)
    _check_not_merged(ticket)
    contact = None if ticket.contact_id is None else transaction.session.get(Contact, ticket.contact_id)
    address = None if contact is None or contact.deleted_at is not None else contact.email
    on = mail_is_on(settings)
    said = answer_ticket(transaction, user, ticket, text, status=status, to=address if on else None)
    for article_id in article_ids:
        note_use(transaction, user, reader.get(Article, article_id), ticket)
    return Answered(activity=said, unsent=None if on and address else "no_address" if on else "mail_off")


def set_ticket(
    transaction: Transaction,
    user: User,
    ticket_id: int,
    values: Mapping[str, Any],
    *,
    versions: Sequence[int] | None = None,
) -> Ticket:
    """Set status, priority, queue or any other field, with all that follows for the clocks."""
    kind = kind_of(transaction.session, Ticket.record_type)
    return cast("Ticket", Editor(transaction, user).update(kind, ticket_id, values, versions=versions))


def give(transaction: Transaction, user: User, ticket_id: int, owner_id: int | None) -> Ticket:
    """Give a ticket to somebody whom the user may give records to, or who serves its queue; or to nobody."""
    ticket = get_ticket(transaction, user, ticket_id, "owner_id")
    if owner_id is not None:
        _check_takes(transaction, user, ticket, owner_id)
    elif user.id != ticket.owner_id and not list_owners_but_self(transaction, user):
        raise AccessDeniedError(Phrase("the role {role} may not take the owner off a ticket", role=user.role))
    assign_ticket(transaction, ticket, owner_id)
    return ticket


def give_next(transaction: Transaction, user: User, ticket_id: int) -> Ticket:
    """Give a ticket to who is next in its queue; raise InvalidValueError where nobody is there."""
    ticket = get_ticket(transaction, user, ticket_id, "owner_id")
    if ticket.queue is None:
        raise InvalidValueError("ticket.queue", None, "a queue, whose people take turns")
    if assign_next(transaction, ticket) is None:
        raise InvalidValueError(
            "owner_id", "next", Phrase("somebody who serves {queue} and is there today", queue=ticket.queue)
        )
    return ticket


def list_owners_but_self(transaction: Transaction, user: User) -> list[User]:
    """Return those besides themselves whose records somebody may see."""
    return [each for each in list_owners(transaction.session, user) if each.id != user.id]


def _check_takes(transaction: Transaction, user: User, ticket: Ticket, owner_id: int) -> None:
    session = transaction.session
    queue = find_queue(session, ticket.queue)
    serves = queue is not None and queue.key in queues_served_by(session, user)
    if serves and queue is not None and owner_id in {each.id for each in list_members(session, queue)}:
        return
    try:
        choose_owner(session, user, owner_id)
    except RecordNotFoundError:
        raise InvalidValueError("ticket.owner_id", owner_id, "the id of an active user") from None


def merge(transaction: Transaction, user: User, keep_id: int, gone_id: int) -> Ticket:
    """Make one ticket of two, both of which the user may change."""
    first, second = sorted({keep_id, gone_id}) if keep_id != gone_id else (keep_id, gone_id)
    held = {each: get_ticket(transaction, user, each, "status") for each in (first, second)}
    return merge_tickets(transaction, held[keep_id], held[gone_id])


def _check_not_merged(ticket: Ticket) -> None:
    if ticket.merged_into_id is not None:
        raise MergeError(
            Phrase(
                "ticket {id} was merged into ticket {merged_into_id}: answer there",
                id=ticket.id,
                merged_into_id=ticket.merged_into_id,
            )
        )


def note_feedback(
    transaction: Transaction,
    user: User,
    account_id: int,
    kind: Feedback,
    text: str,
    contact_id: int | None = None,
) -> Activity:
    """Note what a customer says of us; the customer is one that the user may change."""
    reader = Reader(transaction.session, user)
    reader.get_to_write(Account, account_id, only=("id",))
    reader.check_may_create(Activity)
    if contact_id is not None:
        contact = reader.get(Contact, contact_id)
        if contact.account_id != account_id:
            raise InvalidValueError(
                "contact_id", contact_id, Phrase("a contact of account {account_id}", account_id=account_id)
            )
    check_text("body", text)
    return take_feedback(transaction, user, account_id, kind, text, contact_id=contact_id)


def judge_article(
    transaction: Transaction, user: User, article_id: int, ticket_id: int, *, helpful: bool
) -> None:
    """Say whether an article helped with a ticket."""
    reader = Reader(transaction.session, user)
    article = reader.get(Article, article_id)
    note_use(transaction, user, article, get_ticket(transaction, user, ticket_id), helpful=helpful)


# ------------------------------------------------------------------------------------------------ lists


@dataclass(frozen=True, kw_only=True)
class TicketQuestion:
    """Which tickets: `view` is one of VIEWS."""

    now: datetime
    hours: WorkingTime
    view: str = "mine"
    queue: str | None = None
    priority: str | None = None
    owner_id: int | None = None
    search: str | None = None
    page: int = 1
    limit: int = 25


@dataclass(frozen=True, kw_only=True)
class TicketRow:
    """One line of a list."""

    ticket: Ticket
    account: str | None
    owner_id: int | None
    clock: Clock


@dataclass(frozen=True, kw_only=True)
class TicketPage:
    """A page of a list of tickets."""

    rows: Sequence[TicketRow]
    more: bool
    counts: Mapping[str, int]


def read_tickets(reader: Reader, asked: TicketQuestion) -> TicketPage:
    """Return a page of tickets, what is due first at the top; of those that are over, the newest."""
    query = _asked(reader, asked).order_by(*_order(asked.view), Ticket.id.desc())
    found = reader.session.scalars(query.offset((asked.page - 1) * asked.limit).limit(asked.limit + 1)).all()
    shown = found[: asked.limit]
    names = _account_names(reader, {each.account_id for each in shown})
    rows = [
        TicketRow(
            ticket=reader.masked(each),
            account=names.get(each.account_id) if reader.may_read_field("ticket", "account_id") else None,
            owner_id=each.owner_id if reader.may_read_field("ticket", "owner_id") else None,
            clock=clock_of(each, asked.now, asked.hours),
        )
        for each in shown
    ]
    return TicketPage(rows=rows, more=len(found) > asked.limit, counts=_counts(reader, asked))


def _asked(reader: Reader, asked: TicketQuestion) -> Select[Ticket]:
    query = reader.select(Ticket).where(_views(reader, asked, _begun())[asked.view])
    for name in ("queue", "priority", "owner_id"):
        if getattr(asked, name) is not None and not reader.may_read_field("ticket", name):
            raise AccessDeniedError(
                Phrase(
                    "the role {role} may not filter by {record_type}.{field}",
                    role=reader.user.role,
                    record_type="ticket",
                    field=name,
                )
            )
    if asked.queue is not None:
        query = query.where(Ticket.queue == asked.queue)
    if asked.priority is not None:
        query = query.where(Ticket.priority == asked.priority)
    if asked.owner_id is not None:
        query = query.where(Ticket.owner_id == asked.owner_id)
    if asked.search:
        query = query.where(_said(reader, asked.search))
    return query


def _said(reader: Reader, text: str) -> ColumnElement[bool]:
    """Return the condition that a ticket says something, as far as the reader sees it, or has a number."""
    number = text.strip().removeprefix("[").removesuffix("]").removeprefix("#")
    told = reader.may_read_field("ticket", "subject")
    said = Ticket.subject.icontains(text, autoescape=True) if told else false()
    if number.isascii() and number.isdigit() and len(number) < 18:
        return or_(said, Ticket.id == int(number))
    return said


def _views(
    reader: Reader, asked: TicketQuestion, begun: ColumnElement[bool]
) -> dict[str, ColumnElement[bool]]:
    """Return the condition of each view; `begun` is that of tickets which are open or wait."""
    running = Ticket.status == TicketStatus.OPEN
    standing = Ticket.merged_into_id.is_(None)
    until = asked.hours.after(asked.now, SOON)
    unanswered = Ticket.first_answered_at.is_(None)
    late = or_(
        and_(unanswered, Ticket.first_due_at < asked.now),
        Ticket.solve_due_at < asked.now,
    )
    near = or_(and_(unanswered, Ticket.first_due_at <= until), Ticket.solve_due_at <= until)
    return {
        "mine": and_(begun, Ticket.owner_id == reader.user.id),
        "queues": and_(begun, Ticket.queue.in_(queues_served_by(reader.session, reader.user))),
        "unassigned": and_(begun, Ticket.owner_id.is_(None)),
        "soon": and_(begun, running, near),
        "missed": and_(begun, running, late),
        "waiting": and_(begun, Ticket.status == TicketStatus.PENDING),
        "running": begun,
        "all": standing,
    }


def _begun() -> ColumnElement[bool]:
    """Return the condition that a ticket is open or waits: by their ids, of which there are few among all."""
    few = aliased(Ticket)
    return Ticket.id.in_(select(few.id).where(few.status.in_([TicketStatus.OPEN, TicketStatus.PENDING])))


def _counts(reader: Reader, asked: TicketQuestion) -> dict[str, int]:
    """Return how many tickets there are in each view but the last, in one statement."""
    parts = {name: condition for name, condition in _views(reader, asked, true()).items() if name != "all"}
    sums = [
        func.coalesce(func.sum(case((condition, 1), else_=0)), 0).label(name)
        for name, condition in parts.items()
    ]
    query = reader.select(Ticket).with_only_columns(*sums).where(_begun())
    return {name: int(count) for name, count in zip(parts, reader.session.execute(query).one(), strict=True)}


def _order(view: str) -> list[ColumnElement[Any]]:
    if view == "all":
        return [Ticket.occurred_at.desc()]
    unanswered = and_(Ticket.first_answered_at.is_(None), Ticket.first_due_at.is_not(None))
    due = case((unanswered, Ticket.first_due_at), else_=Ticket.solve_due_at)
    stands = case((Ticket.status == TicketStatus.OPEN, 0), else_=1)
    return [stands, due.asc().nulls_last()]


def _account_names(reader: Reader, ids: set[int]) -> dict[int, str]:
    if not ids or not reader.may_read_field("account", "name"):
        return {}
    query = reader.select(Account).with_only_columns(Account.id, Account.name).where(Account.id.in_(ids))
    return dict(reader.session.execute(query).all())


# ------------------------------------------------------------------------------------------------ clocks


@dataclass(frozen=True, kw_only=True)
class Due:
    """One target: `state` is running, soon, missed, done, late or stands; `left` is working time, or None."""

    what: str
    state: str
    at: datetime | None
    left: timedelta | None


@dataclass(frozen=True, kw_only=True)
class Clock:
    """Both targets of a ticket."""

    first: Due
    solve: Due

    @property
    def next(self) -> Due:
        """Return what matters now: the first answer until it was given."""
        return self.first if self.first.state in {"running", "soon", "missed"} else self.solve


def clock_of(ticket: Ticket, now: datetime, hours: WorkingTime) -> Clock:
    """Return how a ticket stands with its targets."""
    stands = ticket.paused_at is not None
    first = _due("first", ticket.first_due_at, ticket.first_answered_at, ticket.first_breached_at, stands)
    solve = _due("solve", ticket.solve_due_at, ticket.solved_at, ticket.solve_breached_at, stands)
    return Clock(first=_at(first, now, hours), solve=_at(solve, now, hours))


def _due(what: str, at: datetime | None, done: datetime | None, missed: datetime | None, stands: bool) -> Due:  # noqa: FBT001  five facts of one target
    if done is not None:
        return Due(what=what, state="late" if missed is not None else "done", at=done, left=None)
    if at is None:
        return Due(what=what, state="none", at=None, left=None)
    if missed is not None:
        return Due(what=what, state="missed", at=at, left=None)
    return Due(what=what, state="stands" if stands else "running", at=at, left=None)


def _at(due: Due, now: datetime, hours: WorkingTime) -> Due:
    if due.state != "running" or due.at is None:
        return due
    left = hours.between(now, due.at)
    state = "missed" if due.at < now else "soon" if left <= SOON else "running"
    return Due(what=due.what, state=state, at=due.at, left=left if state != "missed" else None)


# ------------------------------------------------------------------------------------------------ one ticket


@dataclass(frozen=True, kw_only=True)
class Said:
    """One part of a conversation: `whose` is customer, us, note (for colleagues only) or other."""

    whose: str
    kind: str
    at: datetime
    who_id: int | None
    body: str | None
    subject: str | None
    id: int


def read_conversation(reader: Reader, ticket: Ticket) -> list[Said]:
    """Return what was said about a ticket, the oldest first: activities, and the notes of colleagues."""
    session = reader.session
    acts = reader.select_about(Activity, ticket).order_by(Activity.occurred_at.desc(), Activity.id.desc())
    notes = reader.select_about(Comment, ticket).order_by(Comment.occurred_at.desc(), Comment.id.desc())
    found = [_said_by(reader.masked(each)) for each in session.scalars(acts.limit(_MOST_SAID))]
    found += [
        Said(
            whose="note",
            kind="comment",
            at=each.occurred_at,
            who_id=each.owner_id,
            body=each.body if reader.may_read_field("comment", "body") else None,
            subject=None,
            id=each.id,
        )
        for each in session.scalars(notes.limit(_MOST_SAID))
    ]
    return sorted(found, key=lambda said: (said.at, said.kind == "comment", said.id))


def _said_by(activity: Activity) -> Said:
    talk = activity.kind in {"mail", "call", "web", "meeting", "visit"}
    whose = {"inbound": "customer", "outbound": "us"}.get(activity.direction or "", "other")
    return Said(
        whose=whose if talk else "note",
        kind=activity.kind,
        at=activity.occurred_at,
        who_id=activity.owner_id,
        body=activity.body,
        subject=activity.subject,
        id=activity.id,
    )


def list_others(reader: Reader, ticket: Ticket) -> Sequence[Ticket]:
    """Return the customer's other tickets, those that are open first."""
    over = case((Ticket.status.in_([TicketStatus.OPEN, TicketStatus.PENDING]), 0), else_=1)
    query = reader.select(Ticket).where(
        Ticket.account_id == ticket.account_id, Ticket.id != ticket.id, Ticket.merged_into_id.is_(None)
    )
    found = reader.session.scalars(query.order_by(over, Ticket.occurred_at.desc()).limit(_OTHERS))
    return [reader.masked(each) for each in found]


# ------------------------------------------------------------------------------------------------ figures


@dataclass(frozen=True, kw_only=True)
class Mean:
    """An average of marks with its 95 % interval; None where two marks at least are missing."""

    count: int
    mean: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, kw_only=True)
class ServiceFigures:
    """What came of the tickets that were opened in a span of time."""

    opened: int
    answered_in_time: int
    answered_late: int
    solved_in_time: int
    solved_late: int
    satisfaction: Mean


def read_figures(
    reader: Reader, *, since: datetime, until: datetime, account_id: int | None = None
) -> ServiceFigures:
    """Return the figures of the tickets that the reader sees and that were opened in a span."""
    span = (Ticket.occurred_at >= since, Ticket.occurred_at < until, Ticket.merged_into_id.is_(None))
    of = () if account_id is None else (Ticket.account_id == account_id,)

    def count(*conditions: ColumnElement[bool]) -> ColumnElement[int]:
        return func.coalesce(func.sum(case((and_(*conditions), 1), else_=0)), 0)

    answered, solved = Ticket.first_answered_at.is_not(None), Ticket.solved_at.is_not(None)
    query = reader.select(Ticket).with_only_columns(
        func.count(),
        count(answered, Ticket.first_due_at.is_not(None), Ticket.first_breached_at.is_(None)),
        count(Ticket.first_breached_at.is_not(None)),
        count(solved, Ticket.solve_due_at.is_not(None), Ticket.solve_breached_at.is_(None)),
        count(Ticket.solve_breached_at.is_not(None)),
        func.count(Ticket.satisfaction),
        func.sum(Ticket.satisfaction),
        func.sum(Ticket.satisfaction * Ticket.satisfaction),
    )
    row = reader.session.execute(query.where(*span, *of)).one()
    seen = reader.may_read_field("ticket", "satisfaction")
    return ServiceFigures(
        opened=int(row[0]),
        answered_in_time=int(row[1]),
        answered_late=int(row[2]),
        solved_in_time=int(row[3]),
        solved_late=int(row[4]),
        satisfaction=_mean(int(row[5]), int(row[6] or 0), int(row[7] or 0)) if seen else mean_of(()),
    )


def mean_of(marks: Sequence[int]) -> Mean:
    """Return the average of marks from 1 to 5 and its 95 % interval by Student's t, within 1 to 5."""
    return _mean(len(marks), sum(marks), sum(mark * mark for mark in marks))


def _mean(count: int, total: int, squares: int) -> Mean:
    """Return the same from how many marks there are, their sum, and the sum of their squares."""
    if count == 0:
        return Mean(count=0, mean=None, low=None, high=None)
    mean = total / count
    if count < 2:
        return Mean(count=count, mean=mean, low=None, high=None)
    deviation = math.sqrt((squares - total * total / count) / (count - 1))
    reach = student_t(count - 1) * deviation / math.sqrt(count)
    return Mean(count=count, mean=mean, low=max(1.0, mean - reach), high=min(5.0, mean + reach))


def student_t(freedom: int) -> float:
    """Return the 97.5 % quantile of Student's t, to 1 in 500.

    Exact for one and two degrees of freedom; beyond, the expansion of Cornish and Fisher in 1 / freedom.
    """
    if freedom == 1:
        return math.tan(math.pi * 0.475)
    if freedom == 2:
        return 0.95 * math.sqrt(2 / (1 - 0.95**2))
    z, n = 1.959963984540054, float(freedom)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92_160,
    )
    return z + sum(term / n**power for power, term in enumerate(terms, start=1))


def list_assignable(reader: Reader, ticket: Ticket) -> list[User]:
    """Return whom a user may give a ticket to, by name: their people, and who serves its queue with them."""
    session, user = reader.session, reader.user
    may: list[ColumnElement[bool]] = [_theirs(reader)]
    if ticket.queue is not None and ticket.queue in queues_served_by(session, user):
        may += [serving(each) for each in recall_queues(session) if each.key == ticket.queue]
    here = (User.deleted_at.is_(None), User.active, User.left_at.is_(None), User.role != Role.ANALYST)
    return list(session.scalars(select(User).where(or_(*may), *here).order_by(User.name, User.id)))


def _theirs(reader: Reader) -> ColumnElement[bool]:
    match reader.user.role:
        case Role.REP:
            return User.id == reader.user.id
        case Role.MANAGER:
            return User.id.in_(recall_team(reader.session, reader.user))
    return true()


@dataclass(frozen=True, kw_only=True)
class Glance:
    """A customer's service at a glance: running tickets, how content they were, what they said of us."""

    running: Sequence[Ticket]
    count: int
    overdue: int
    satisfaction: Mean
    last: int | None
    feedback: Sequence[Activity]


def read_glance(reader: Reader, account: Account, said: Sequence[Activity]) -> Glance:
    """Return a customer's service at a glance, of what the reader sees; `said` is the newest feedback."""
    tickets = reader.select_about(Ticket, account).where(Ticket.merged_into_id.is_(None))
    begun = Ticket.status.in_([TicketStatus.OPEN, TicketStatus.PENDING])
    rated = Ticket.satisfaction.is_not(None)
    tickets = tickets.where(or_(begun, rated)).order_by(Ticket.occurred_at.desc()).limit(_MOST_SAID)
    found = reader.session.scalars(tickets).all()
    running = [each for each in found if each.status in {TicketStatus.OPEN, TicketStatus.PENDING}]
    seen = reader.may_read_field("ticket", "satisfaction")
    marks = [each.satisfaction for each in found if each.satisfaction is not None] if seen else []
    return Glance(
        running=[reader.masked(each) for each in running[:5]],
        count=len(running),
        overdue=sum(_is_overdue(each) for each in running),
        satisfaction=mean_of(marks),
        last=marks[0] if marks else None,
        feedback=said,
    )


def _is_overdue(ticket: Ticket) -> bool:
    unanswered = ticket.first_breached_at is not None and ticket.first_answered_at is None
    return unanswered or ticket.solve_breached_at is not None
