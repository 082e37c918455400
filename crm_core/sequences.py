"""Mail sequences: steps that one person after another is taken through, until they answer or leave.

A step is a template and how long to wait before it, in days or working days. Somebody goes through a sequence
once, ever, told by their mail address; they must have agreed to be written to, and every mail carries a way
out. Their run ends when they answer, when a mail comes back, when they unsubscribe, when the lead is
converted or closed, or after the last step. Mails go out in working time only.

The mail is written with the rights of whoever it comes from: the owner of the record, or else whoever saved
the sequence last. A step that cannot be written (a field is empty, the template is gone) ends the run and
says why.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    ForeignKey,
    Index,
    String,
    UniqueConstraint,
    and_,
    case,
    func,
    select,
)
from sqlalchemy.orm import Mapped, Session, mapped_column

from crm_core.access import Reader, check_may_write
from crm_core.addresses import mail_key
from crm_core.apart import each_apart
from crm_core.columns import Instant, Json, check_text
from crm_core.errors import (
    AccessDeniedError,
    CRMError,
    InvalidValueError,
    NotWrittenToError,
    RecordNotFoundError,
    StaleRecordError,
)
from crm_core.external_ids import hold_keys
from crm_core.mail_templates import MailTemplate, fits, get_template, render
from crm_core.messages import DeadAddress, Message, MessageKind
from crm_core.outgoing import check_may_market, queue_mail
from crm_core.phrases import Phrase
from crm_core.records import Base, Contact, Id, Lead, LeadStatus, Role, User
from crm_core.saved import get_segment
from crm_core.store import Store, Transaction
from crm_core.tokens import works_here
from crm_core.working_time import WorkingTime, working_time

MOST_STEPS: Final = 20
LONGEST_WAIT: Final = 365
LONGEST_NAME: Final = 120
_AT_ONCE: Final = 50


class RunState(StrEnum):
    """Where somebody stands in a sequence."""

    ACTIVE = "active"
    FINISHED = "finished"
    STOPPED = "stopped"


class MailSequence(Base):
    """A sequence; `steps` are its templates and waits, in order."""

    __tablename__ = "mail_sequences"

    id: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), comment="who made it")
    name: Mapped[str] = mapped_column(String(LONGEST_NAME))
    record_type: Mapped[str] = mapped_column(String(10), comment="lead or contact")
    steps: Mapped[list[dict[str, Any]]] = mapped_column(Json, comment="template_id, wait_days, working")
    segment_id: Mapped[int | None] = mapped_column(
        BigInteger, comment="whoever is in it begins by themselves"
    )
    active: Mapped[bool] = mapped_column(comment="whether mails of it go out")
    version: Mapped[int] = mapped_column(default=1, comment="counts changes")
    saved_at: Mapped[datetime] = mapped_column(Instant)


class SequenceRun(Base):
    """Somebody's way through a sequence; `step` is the next one."""

    __tablename__ = "sequence_runs"

    id: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=True)
    sequence_id: Mapped[int] = mapped_column(ForeignKey("mail_sequences.id"))
    record_type: Mapped[str] = mapped_column(String(10))
    record_id: Mapped[int] = mapped_column(BigInteger)
    address: Mapped[str] = mapped_column(String(320), comment="as it is compared")
    state: Mapped[str] = mapped_column(String(10))
    why: Mapped[str | None] = mapped_column(String(300), comment="why it ended")
    step: Mapped[int]
    next_at: Mapped[datetime | None] = mapped_column(Instant)
    started_by_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"))
    started_at: Mapped[datetime] = mapped_column(Instant)
    ended_at: Mapped[datetime | None] = mapped_column(Instant)

    __table_args__ = (
        UniqueConstraint("sequence_id", "address"),
        Index("ix_sequence_runs_state_next_at", "state", "next_at"),
        Index("ix_sequence_runs_address", "address"),
        Index("ix_sequence_runs_record_type_record_id", "record_type", "record_id"),
    )


@dataclass(frozen=True, kw_only=True)
class Step:
    """One mail of a sequence, and how long after the one before it goes out."""

    template_id: int
    wait_days: int = 0
    working: bool = True

    def after(self, instant: datetime, time: WorkingTime) -> datetime:
        """Return when this step is due after the one before was done: always in working time."""
        if not self.working:
            return time.after(_days_later(instant, self.wait_days, time), timedelta(0))
        due = instant
        for _ in range(self.wait_days):
            due = _next_working_day(due, time)
        return time.after(due, timedelta(0))


def _days_later(instant: datetime, days: int, time: WorkingTime) -> datetime:
    """Return the same hour on the wall some days later, whatever clocks do between."""
    on_the_wall = instant.astimezone(time.zone).replace(tzinfo=None) + timedelta(days=days)
    return on_the_wall.replace(tzinfo=time.zone).astimezone(UTC)


def _next_working_day(instant: datetime, time: WorkingTime) -> datetime:
    for days in range(1, 367):
        due = _days_later(instant, days, time)
        if time.is_working_day(time.local_day(due)):
            return due
    raise InvalidValueError("working time", "no working day", "a year in which people work")


# ------------------------------------------------------------------------------------------------- keeping


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a sequence is to be."""

    name: str
    record_type: str
    steps: tuple[Step, ...]
    segment_id: int | None = None
    active: bool = True


def list_sequences(session: Session) -> Sequence[MailSequence]:
    """Return all sequences, by name."""
    return session.scalars(select(MailSequence).order_by(MailSequence.name, MailSequence.id)).all()


def get_sequence(session: Session, sequence_id: int) -> MailSequence:
    """Return a sequence."""
    found = session.get(MailSequence, sequence_id)
    if found is None:
        raise RecordNotFoundError("mail sequence", sequence_id)
    return found


def may_change_sequences(user: User) -> bool:
    """Tell whether somebody may make and change sequences, which write in everybody's name."""
    return user.role in {Role.MANAGER, Role.ADMIN}


def save_sequence(
    transaction: Transaction,
    user: User,
    wanted: Wanted,
    *,
    sequence_id: int | None = None,
    version: int | None = None,
) -> MailSequence:
    """Save a sequence anew, or change one; who is on their way goes on with the new steps."""
    if not may_change_sequences(user):
        raise AccessDeniedError("only managers and administrators may change sequences")
    _check(transaction.session, user, wanted)
    if sequence_id is None:
        saved = MailSequence(version=0, record_type=wanted.record_type)
        transaction.session.add(saved)
    else:
        saved = get_sequence(transaction.session, sequence_id)
        transaction.session.refresh(saved, with_for_update=True)  # of two at once the second is told
        if version is not None and version != saved.version:
            raise StaleRecordError("mail sequence", sequence_id, version, saved.version)
        if saved.record_type != wanted.record_type:
            raise InvalidValueError(
                "record_type",
                wanted.record_type,
                Phrase("{record_type}, as it was made for", record_type=saved.record_type),
            )
    saved.name, saved.segment_id, saved.active = wanted.name.strip(), wanted.segment_id, wanted.active
    saved.steps = [dict(vars(step)) for step in wanted.steps]
    # Whoever changes it answers for it: it reaches nobody from now on whom they do not see.
    saved.user_id, saved.version, saved.saved_at = user.id, saved.version + 1, transaction.now
    transaction.session.flush()
    return saved


def _check(session: Session, user: User, wanted: Wanted) -> None:
    check_text("name", wanted.name, longest=LONGEST_NAME)
    if not wanted.name.strip():
        raise InvalidValueError("name", wanted.name, "a name")
    if wanted.record_type not in {"lead", "contact"}:
        raise InvalidValueError("record_type", wanted.record_type, "lead or contact")
    if not 0 < len(wanted.steps) <= MOST_STEPS:
        raise InvalidValueError(
            "steps", Phrase("{count}", count=len(wanted.steps)), Phrase("1 to {most} steps", most=MOST_STEPS)
        )
    for number, step in enumerate(wanted.steps, 1):
        if not 0 <= step.wait_days <= LONGEST_WAIT:
            raise InvalidValueError(
                f"steps.{number}.wait_days",
                step.wait_days,
                Phrase("0 to {longest} days", longest=LONGEST_WAIT),
            )
        template = get_template(session, user, step.template_id)
        if template.retired_at is not None or not fits(template, wanted.record_type):
            raise InvalidValueError(
                f"steps.{number}",
                template.name,
                Phrase(
                    "a template that can be filled in for a {record_type}", record_type=wanted.record_type
                ),
            )
    if wanted.segment_id is not None:
        segment = get_segment(session, user, wanted.segment_id)
        if segment.record_type != wanted.record_type:
            raise InvalidValueError(
                "segment_id",
                segment.name,
                Phrase("a segment of {record_type}s", record_type=wanted.record_type),
            )


def steps_of(sequence: MailSequence) -> list[Step]:
    """Return the steps of a sequence."""
    return [Step(**each) for each in sequence.steps]


# ------------------------------------------------------------------------------------------- going through it


def start_sequence(
    transaction: Transaction, sequence_id: int, record: Lead | Contact, *, zone: str = "UTC"
) -> SequenceRun | None:
    """Begin a sequence with somebody; None where they went through it before, or are on their way.

    Whether who asks may write to the record is for the caller to ask.

    Raises
    ------
    NotWrittenToError
        For somebody who did not agree, took it back, has no mail address, or whom mails do not reach.
    InvalidValueError
        For a sequence of other records, one that is off, or somebody who is no open lead any more.
    """
    session = transaction.session
    sequence = get_sequence(session, sequence_id)
    if record.record_type != sequence.record_type or not sequence.active:
        raise InvalidValueError(
            "sequence",
            sequence.name,
            Phrase("an active one for a {record_type}", record_type=record.record_type),
        )
    key = mail_key(record.email)
    if key is None:
        raise NotWrittenToError(
            "nobody",
            Phrase("{record_type} {id} has no mail address", record_type=record.record_type, id=record.id),
        )
    if (over := _is_over(record)) is not None:
        raise InvalidValueError(
            "record", over, Phrase("a {record_type} that is open", record_type=record.record_type)
        )
    transaction.index.flush()
    check_may_market(session, key, (record.record_type, record.id))
    hold_keys(session, [f"sequence:{sequence_id}:{key}"])
    same = select(SequenceRun.id).where(SequenceRun.sequence_id == sequence_id, SequenceRun.address == key)
    if session.scalar(same) is not None:
        return None
    first = steps_of(sequence)[0]
    run = SequenceRun(
        sequence_id=sequence_id,
        record_type=record.record_type,
        record_id=record.id,
        address=key,
        state=RunState.ACTIVE,
        step=0,
        next_at=first.after(transaction.now, working_time(session, zone)),
        started_by_id=transaction.actor_id,
        started_at=transaction.now,
    )
    session.add(run)
    session.flush()
    return run


def start_as(
    transaction: Transaction, user: User, sequence_id: int, record_id: int, *, zone: str = "UTC"
) -> SequenceRun | None:
    """Begin a sequence with somebody as a user who may write on their record."""
    check_may_write(user)
    model: type[Lead | Contact] = (
        Lead if get_sequence(transaction.session, sequence_id).record_type == "lead" else Contact
    )
    record = Reader(transaction.session, user).get_to_write(model, record_id)
    return start_sequence(transaction, sequence_id, record, zone=zone)


def stop_runs_of(transaction: Transaction, addresses: Collection[str], why: str) -> int:
    """End all runs of whoever has one of some addresses; return how many."""
    keys = {key for each in addresses if (key := mail_key(each)) is not None}
    if not keys:
        return 0
    query = select(SequenceRun).where(SequenceRun.address.in_(keys), SequenceRun.state == RunState.ACTIVE)
    runs = transaction.session.scalars(query.order_by(SequenceRun.id).with_for_update()).all()
    for run in runs:
        _end(run, RunState.STOPPED, why, transaction.now)
    transaction.session.flush()
    return len(runs)


def stop_run(
    transaction: Transaction, user: User, run_id: int, *, sequence_id: int | None = None
) -> SequenceRun:
    """End somebody's run by hand, as who may write on their record; of one sequence, if it is named."""
    run = transaction.session.get(SequenceRun, run_id, with_for_update=True)
    if run is None or sequence_id not in {None, run.sequence_id}:
        raise RecordNotFoundError("sequence run", run_id)
    Reader(transaction.session, user).get_to_write(_MODELS[run.record_type], run.record_id)
    if run.state == RunState.ACTIVE:
        _end(run, RunState.STOPPED, "by hand", transaction.now)
    transaction.session.flush()
    return run


_MODELS: Final[dict[str, type[Lead | Contact]]] = {"lead": Lead, "contact": Contact}


def _end(run: SequenceRun, state: RunState, why: str | None, now: datetime) -> None:
    run.state, run.why, run.ended_at, run.next_at = state, why[:300] if why else None, now, None


def _is_over(record: Lead | Contact) -> str | None:
    """Return why nobody is written to on a record any more; None if somebody is."""
    if record.deleted_at is not None:
        return "deleted"
    if isinstance(record, Lead) and record.status != LeadStatus.OPEN:
        return str(record.status)
    return None


# ------------------------------------------------------------------------------------------------ sending


def send_due(store: Store, *, zone: str) -> int:
    """Queue what is due, each step in a transaction of its own; return how many runs went on or ended."""
    with store.reading() as session:
        due = select(SequenceRun.id).where(_is_due(store.clock.now()))
        ids = session.scalars(due.order_by(SequenceRun.next_at, SequenceRun.id).limit(_AT_ONCE)).all()

    def go_on(run_id: int) -> int:
        with store.transaction() as transaction:
            return _go_on(transaction, run_id, zone)

    return each_apart(ids, go_on)


def _is_due(now: datetime) -> ColumnElement[bool]:
    active = select(MailSequence.id).where(MailSequence.active.is_(True))
    due = and_(SequenceRun.state == RunState.ACTIVE, SequenceRun.next_at <= now)
    return and_(due, SequenceRun.sequence_id.in_(active))


def _go_on(transaction: Transaction, run_id: int, zone: str) -> bool:
    """Take somebody one step further; False where another process does, or it is not the time to write."""
    session, now = transaction.session, transaction.now
    query = select(SequenceRun).where(SequenceRun.id == run_id, _is_due(now))
    run = session.scalars(query.with_for_update(skip_locked=True)).one_or_none()
    if run is None:
        return False
    time = working_time(session, zone)
    if not time.is_working(now):
        run.next_at = time.after(now, timedelta(0))
        return True
    sequence = get_sequence(session, run.sequence_id)
    steps = steps_of(sequence)
    try:
        why = _send(transaction, run, sequence, steps[run.step]) if run.step < len(steps) else None
    except CRMError as error:
        why = str(error)
    if why is not None:
        _end(run, RunState.STOPPED, why, now)
    elif run.step + 1 >= len(steps):
        run.step += 1
        _end(run, RunState.FINISHED, None, now)
    else:
        run.step += 1
        run.next_at = steps[run.step].after(now, time)
    session.flush()
    return True


def _send(transaction: Transaction, run: SequenceRun, sequence: MailSequence, step: Step) -> str | None:
    """Queue one mail; return why nobody is to be written to any more, if so."""
    session = transaction.session
    record = _find_record(session, run)
    if record is None or (over := _is_over(record)) is not None:
        return "deleted" if record is None else over
    if mail_key(record.email) != run.address:
        return "the mail address is another one now"
    sender = _sender(session, record, sequence)
    template = session.get(MailTemplate, step.template_id)
    if template is None or template.retired_at is not None:
        return f"template {step.template_id} is not offered any more"
    about = (run.record_type, run.record_id)
    mail = render(session, Reader(session, sender), template, about)
    queue_mail(
        transaction,
        to=(record.email or "").strip().strip("<>"),  # as they write it, not as it is compared
        subject=mail.subject,
        text=mail.text,
        html=mail.html,
        about=about,
        sender=sender,
        kind=MessageKind.MARKETING,
        template_id=template.id,
        language=template.language,
        key=f"sequence:{run.id}:{run.step}",
        run_id=run.id,
        step=run.step,
    )
    return None


def _find_record(session: Session, run: SequenceRun) -> Lead | Contact | None:
    if run.record_type == "lead":
        return session.get(Lead, run.record_id)
    return session.get(Contact, run.record_id)


def _sender(session: Session, record: Lead | Contact, sequence: MailSequence) -> User:
    owner = session.get(User, record.owner_id) if record.owner_id is not None else None
    sender = owner if owner is not None and works_here(owner) else session.get(User, sequence.user_id)
    if sender is None or not works_here(sender):
        raise AccessDeniedError("nobody who works here is responsible for the record or made the sequence")
    return sender


# ----------------------------------------------------------------------------------------------- beginning


def start_from_segments(store: Store, *, zone: str, limit: int = 200) -> int:
    """Begin, for each active sequence with a segment, with whoever is in it and never was; return how many.

    Who is in it, is asked with the rights of whoever saved the sequence last.
    """
    with store.reading() as session:
        with_segment = and_(MailSequence.segment_id.is_not(None), MailSequence.active.is_(True))
        ids = session.scalars(select(MailSequence.id).where(with_segment)).all()
    return each_apart(ids, lambda each: _start_from(store, each, zone, limit))


def _start_from(store: Store, sequence_id: int, zone: str, limit: int) -> int:
    started, after = 0, 0
    while started < limit:
        with store.transaction() as transaction:
            people = _next_people(transaction.session, sequence_id, after, limit)
            started += _start_all(transaction, sequence_id, people, zone)
            after = people[-1].id if people else 0
        if len(people) < limit:
            break
    return started


def _next_people(session: Session, sequence_id: int, after: int, limit: int) -> Sequence[Lead | Contact]:
    """Return who may begin, in their order after an id: who cannot must not stand in the others' way."""
    sequence = get_sequence(session, sequence_id)
    maker = session.get(User, sequence.user_id)
    if maker is None or not works_here(maker) or sequence.segment_id is None:
        return ()
    model = _MODELS[sequence.record_type]
    reader = Reader(session, maker)
    try:
        inside = _in_segment(reader, sequence)
    except CRMError:
        return ()  # a segment that is gone, or asks what its maker may not see any more
    never = select(SequenceRun.record_id).where(SequenceRun.sequence_id == sequence_id)
    query = reader.select(model).where(inside, _may_begin(model), model.id.not_in(never), model.id > after)
    return session.scalars(query.order_by(model.id).limit(limit)).all()


def _start_all(
    transaction: Transaction, sequence_id: int, people: Sequence[Lead | Contact], zone: str
) -> int:
    """Begin with those of some people who may; return how many these were."""
    keys = {mail_key(person.email) for person in people} - {None}
    gone = select(DeadAddress.address).where(DeadAddress.address.in_(keys))
    known = select(SequenceRun.address).where(
        SequenceRun.sequence_id == sequence_id, SequenceRun.address.in_(keys)
    )
    never = {*transaction.session.scalars(gone), *transaction.session.scalars(known)}
    started = 0
    for person in people:
        if mail_key(person.email) not in never:
            # Who took their consent back elsewhere, for example: the others go on.
            with suppress(CRMError):
                started += start_sequence(transaction, sequence_id, person, zone=zone) is not None
    return started


def _in_segment(reader: Reader, sequence: MailSequence) -> ColumnElement[bool]:
    from crm_core.filters import compile_segment

    segment = get_segment(reader.session, reader.user, sequence.segment_id or 0)
    return compile_segment(reader, sequence.record_type, segment.filter)


def _may_begin(model: type[Lead | Contact]) -> ColumnElement[bool]:
    agreed = and_(model.consent == "granted", model.email.is_not(None))
    return and_(agreed, Lead.status == LeadStatus.OPEN) if model is Lead else agreed


# ------------------------------------------------------------------------------------------------ watching


@dataclass(frozen=True, kw_only=True)
class Standing:
    """How a sequence does: people by where they stand, and what became of their mails."""

    people: int = 0
    active: int = 0
    finished: int = 0
    stopped: int = 0
    sent: int = 0
    replied: int = 0
    bounced: int = 0
    unsubscribed: int = 0


def standing_of(session: Session, sequence_ids: Collection[int]) -> dict[int, Standing]:
    """Return how sequences do. Mails are counted that left; people who answered, once each."""
    if not sequence_ids:
        return {}
    states = {
        sequence_id: {"people": people, "active": active, "finished": finished, "stopped": stopped}
        for sequence_id, people, active, finished, stopped in session.execute(
            select(
                SequenceRun.sequence_id,
                func.count(),
                *(func.sum(case((SequenceRun.state == state, 1), else_=0)) for state in RunState),
            )
            .where(SequenceRun.sequence_id.in_(sequence_ids))
            .group_by(SequenceRun.sequence_id)
        )
    }
    told = (Message.sent_at, Message.replied_at, Message.bounced_at, Message.unsubscribed_at)
    mails = select(
        SequenceRun.sequence_id,
        func.count(Message.sent_at),
        *(func.count(func.distinct(case((each.is_not(None), SequenceRun.id)))) for each in told[1:]),
    )
    mails = mails.join(SequenceRun, SequenceRun.id == Message.run_id)
    mails = mails.where(SequenceRun.sequence_id.in_(sequence_ids)).group_by(SequenceRun.sequence_id)
    names = ("sent", "replied", "bounced", "unsubscribed")
    became = {row[0]: dict(zip(names, row[1:], strict=True)) for row in session.execute(mails)}
    return {
        each: Standing(
            **{name: int(count or 0) for name, count in {**states[each], **became.get(each, {})}.items()}
        )
        for each in states
    }


def list_runs(
    reader: Reader,
    sequence_id: int,
    *,
    limit: int = 100,
    state: RunState | None = None,
    before: int | None = None,
) -> list[SequenceRun]:
    """Return who goes through a sequence, as far as the reader sees their records, newest first.

    With `before`, what is older than the run with this id.
    """
    sequence = get_sequence(reader.session, sequence_id)
    seen = reader.select(_MODELS[sequence.record_type]).with_only_columns(_MODELS[sequence.record_type].id)
    query = select(SequenceRun).where(SequenceRun.sequence_id == sequence_id, SequenceRun.record_id.in_(seen))
    if state is not None:
        query = query.where(SequenceRun.state == state)
    if before is not None:
        query = query.where(SequenceRun.id < before)
    return list(reader.session.scalars(query.order_by(SequenceRun.id.desc()).limit(limit)))


def list_with_runs(
    session: Session, record_type: str, record_id: int
) -> tuple[Sequence[MailSequence], Sequence[SequenceRun]]:
    """Return all sequences, by name, and the runs of one record."""
    theirs = and_(
        SequenceRun.sequence_id == MailSequence.id,
        SequenceRun.record_type == record_type,
        SequenceRun.record_id == record_id,
    )
    rows = session.execute(
        select(MailSequence, SequenceRun)
        .outerjoin(SequenceRun, theirs)
        .order_by(MailSequence.name, MailSequence.id, SequenceRun.id)
    ).all()
    found: list[SequenceRun | None] = [run for _, run in rows]
    runs = sorted((each for each in found if each is not None), key=lambda each: each.id)
    return list(dict.fromkeys(sequence for sequence, _ in rows)), runs
