"""Tickets: clocks in working time, escalation once each, turns, merging, rating and what customers say."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import select

from crm_core.access import Reader
from crm_core.activities import log_activity
from crm_core.changes import Change, Source
from crm_core.clock import FixedClock
from crm_core.errors import InvalidValueError, MergeError, RecordNotFoundError
from crm_core.notifications import Notification
from crm_core.records import Activity, Comment, Feedback, Ticket, User
from crm_core.service_desk import Queue, Target, set_queue, set_target, target_of
from crm_core.store import Store, Transaction
from crm_core.ticket_clocks import CLOSED_AFTER, Step, TicketClock, change_ticket
from crm_core.tickets import (
    add_mail,
    answer_ticket,
    assign_next,
    assign_ticket,
    do_due_steps,
    merge_tickets,
    open_ticket,
    rate_ticket,
    take_feedback,
)
from crm_core.working_time import WorkingTime, add_absence, set_special_day, set_week
from tests.conftest import MONDAY
from tests.factories import make_account, make_contact, make_team, make_user

MINUTE = timedelta(minutes=1)


@dataclass(frozen=True, kw_only=True)
class Desk:
    """A customer with a contact, and those who serve: Ana and Ben in Mara's team."""

    account: int
    contact: int
    ana: int
    ben: int
    mara: int


@pytest.fixture
def desk(store: Store) -> Desk:
    with store.transaction() as transaction:
        team = make_team(transaction).id
        account = make_account(transaction).id
        made = Desk(
            account=account,
            contact=make_contact(transaction, account_id=account).id,
            ana=make_user(transaction, "Ana", team_id=team).id,
            ben=make_user(transaction, "Ben", team_id=team).id,
            mara=make_user(transaction, "Mara", team_id=team, role="manager").id,
        )
        queue = Queue(key="help", name="Help", members=[made.ana, made.ben], round_robin=True)
        set_queue(transaction.session, queue, version=0)
    return made


def opened(transaction: Transaction, desk: Desk, **given: object) -> Ticket:
    values: dict[str, object] = {"account_id": desk.account, "contact_id": desk.contact, "subject": "Leak"}
    return open_ticket(transaction, Ticket(**{**values, **given}))


def told(store: Store) -> list[tuple[int, str]]:
    with store.reading() as session:
        rows = session.execute(select(Notification.user_id, Notification.text).order_by(Notification.id))
        return [(user_id, text) for user_id, text in rows]


def minutes_worked(hours: WorkingTime, first: datetime, last: datetime) -> int:
    """Count, one by one, the minutes from `first` until `last` that begin in working time."""
    return sum(hours.is_working(first + n * MINUTE) for n in range(round((last - first) / MINUTE)))


# ---------------------------------------------------------------- clocks


def test_what_is_due_is_that_many_working_minutes_away_whatever_happens(store: Store, desk: Desk) -> None:
    """Tickets through random pauses and other priorities, against a count of every single minute."""
    rng = random.Random(7)
    zone = ZoneInfo("Asia/Shanghai")
    hours = WorkingTime(zone=zone, special={date(2026, 3, 4): False, date(2026, 3, 7): True})
    with store.transaction() as transaction:
        user = transaction.session.get_one(User, desk.mara)
        set_week(transaction, user, WorkingTime(zone=zone), version=0)
        for day, worked in hours.special.items():
            set_special_day(transaction, day, worked=worked)
    checked = 0
    for _ in range(3):
        clock = FixedClock(MONDAY + rng.randrange(4 * 24 * 60) * MINUTE)
        store.clock = clock
        with store.transaction() as transaction:
            ticket = opened(transaction, desk, priority="high").id
        began, stood, paused, priority = clock.now(), 0, None, "high"
        for _ in range(5):
            clock.set(clock.now() + rng.randrange(10, 900) * MINUTE)
            with store.transaction() as transaction:
                found = transaction.get(Ticket, ticket)
                if rng.random() < 0.3:
                    priority = rng.choice(["low", "normal", "high"])
                    change_ticket(transaction, found, {"priority": priority})
                elif paused is None:
                    change_ticket(transaction, found, {"status": rng.choice(["pending", "solved"])})
                    paused = clock.now()
                else:
                    stood += minutes_worked(hours, paused, clock.now())
                    paused = None
                    change_ticket(transaction, found, {"status": "open"})
                if found.solve_breached_at is None and found.first_breached_at is None and paused is None:
                    target = target_of(transaction.session, None, priority)
                    for due, wanted in (
                        (found.first_due_at, target.first_minutes),
                        (found.solve_due_at, target.solve_minutes),
                    ):
                        assert due is not None
                        assert minutes_worked(hours, began, due) == wanted + stood
                        checked += 1
    assert checked > 10


def test_a_queue_may_have_targets_of_its_own(store: Store, desk: Desk) -> None:
    with store.transaction() as transaction:
        session = transaction.session
        set_target(session, "", "urgent", Target(first_minutes=30, solve_minutes=60))
        set_target(session, "help", "urgent", Target(first_minutes=10, solve_minutes=20))
        general = opened(transaction, desk, priority="urgent")
        special = opened(transaction, desk, priority="urgent", queue="help")
        assert general.first_due_at == MONDAY + 30 * MINUTE
        assert special.first_due_at == MONDAY + 10 * MINUTE
        set_target(session, "help", "urgent", None)
        assert target_of(session, "help", "urgent").first_minutes == 30
        with pytest.raises(InvalidValueError, match="minutes of working time"):
            set_target(session, "", "low", Target(first_minutes=0, solve_minutes=1))
        with pytest.raises(InvalidValueError, match="one of help"):
            opened(transaction, desk, queue="elsewhere")


def test_only_our_first_mail_or_call_answers(store: Store, desk: Desk, clock: FixedClock) -> None:
    about = {"subject_type": "ticket", "account_id": desk.account}
    with store.transaction() as transaction:
        ticket = opened(transaction, desk)
        about["subject_id"] = ticket.id
        log_activity(transaction, Activity(**about, kind="mail", direction="inbound"))
        log_activity(transaction, Activity(**about, kind="note", direction="outbound"))
        assert ticket.first_answered_at is None
        clock.advance(5 * MINUTE)
    with store.transaction() as transaction:
        log_activity(transaction, Activity(**about, kind="call", direction="outbound"))
        first = transaction.get(Ticket, ticket.id).first_answered_at
        answer_ticket(transaction, transaction.session.get_one(User, desk.ana), ticket, "Hello")
        assert transaction.get(Ticket, ticket.id).first_answered_at == first == clock.now()


def test_a_late_answer_is_marked_even_if_nobody_looked(store: Store, desk: Desk, clock: FixedClock) -> None:
    with store.transaction() as transaction:
        set_queue(transaction.session, Queue(key="pool", name="Pool", members=[desk.ana]), version=0)
        ticket = opened(transaction, desk, priority="urgent", queue="pool").id
    clock.advance(3 * 60 * MINUTE)
    with store.transaction() as transaction:
        found = transaction.get(Ticket, ticket)
        answer_ticket(transaction, transaction.session.get_one(User, desk.ana), found, "Hello")
        assert (found.first_breached_at, found.owner_id) == (MONDAY + 60 * MINUTE, desk.ana)


def test_a_customer_who_answers_opens_what_waits_or_was_solved(
    store: Store, desk: Desk, clock: FixedClock
) -> None:
    with store.transaction() as transaction:
        ticket = opened(transaction, desk, owner_id=desk.ana)
        change_ticket(transaction, ticket, {"status": "solved"})
        assert ticket.solved_at is not None
    before = clock.now() - 60 * MINUTE
    with store.transaction() as transaction:
        found = transaction.get(Ticket, ticket.id)
        add_mail(transaction, found, subject="older", body="!", occurred_at=before)
        assert found.status == "solved"  # it was written before that
        about = {"subject_type": "ticket", "subject_id": found.id, "account_id": desk.account}
        away = Activity(kind="mail", direction="inbound", outcome="auto_reply", **about)
        log_activity(transaction, away)
        assert found.status == "solved"  # nobody wrote it
    clock.advance(MINUTE)
    with store.transaction() as transaction:
        found = transaction.get(Ticket, ticket.id)
        add_mail(transaction, found, subject="Re: Leak", body="It still leaks")
        assert (found.status, found.solved_at, found.paused_at) == ("open", None, None)
    assert told(store) == [(desk.ana, "ticket_answered")] * 2


# ---------------------------------------------------------------- steps


def run(store: Store, ticket: int) -> list[Step]:
    with store.transaction(source=Source.AUTOMATION) as transaction:
        return do_due_steps(transaction, ticket)


def test_owner_is_warned_and_manager_told_once_each(store: Store, desk: Desk, clock: FixedClock) -> None:
    with store.transaction() as transaction:
        ticket = opened(transaction, desk, priority="urgent", owner_id=desk.ana).id
        assert transaction.session.get_one(TicketClock, ticket).next_at == MONDAY + 45 * MINUTE
    seen = []
    for minutes in (44, 45, 46, 60, 61, 6 * 60, 8 * 60, 8 * 60 + 1):
        clock.set(MONDAY + minutes * MINUTE)
        seen += [(minutes, step) for step in run(store, ticket)]
    assert seen == [
        (45, Step.FIRST_SOON),
        (60, Step.FIRST_MISSED),
        (360, Step.SOLVE_SOON),
        (480, Step.SOLVE_MISSED),
    ]
    assert told(store) == [
        (desk.ana, "ticket_first_soon"),
        (desk.mara, "ticket_first_missed"),
        (desk.ana, "ticket_solve_soon"),
        (desk.mara, "ticket_solve_missed"),
    ]
    with store.reading() as session:
        found = session.get_one(Ticket, ticket)
        assert found.first_breached_at == MONDAY + 60 * MINUTE
        assert found.solve_breached_at == MONDAY + 480 * MINUTE
        logged = session.scalars(select(Change).where(Change.field == "first_breached_at")).one()
        assert logged.source == "automation"


def test_what_nobody_owns_warns_all_of_its_queue_and_what_waits_nobody(
    store: Store, desk: Desk, clock: FixedClock
) -> None:
    with store.transaction() as transaction:
        session = transaction.session
        set_queue(session, Queue(key="pool", name="Pool", members=[desk.ana, desk.ben]), version=0)
        ticket = opened(transaction, desk, priority="urgent", queue="pool").id
        waiting = opened(transaction, desk, priority="urgent", queue="pool").id
        change_ticket(transaction, transaction.get(Ticket, waiting), {"status": "pending"})
    clock.advance(50 * MINUTE)
    assert (run(store, ticket), run(store, waiting)) == ([Step.FIRST_SOON], [])
    assert told(store) == [(desk.ana, "ticket_first_soon"), (desk.ben, "ticket_first_soon")]


def test_what_is_solved_is_closed_after_days_and_asked_about_once(
    store: Store, desk: Desk, clock: FixedClock
) -> None:
    with store.transaction() as transaction:
        ticket = opened(transaction, desk).id
        change_ticket(transaction, transaction.get(Ticket, ticket), {"status": "solved"})
    clock.advance(CLOSED_AFTER)
    steps = [run(store, ticket) for _ in range(3)]
    assert steps == [[Step.CLOSE], [Step.ASK], []]
    with store.transaction() as transaction:
        assert rate_ticket(transaction, ticket, 4, "  fine ")
        assert not rate_ticket(transaction, ticket, 1, None)
        found = transaction.get(Ticket, ticket)
        change_ticket(transaction, found, {"status": "open"})
        change_ticket(transaction, found, {"status": "closed"})
        assert (found.satisfaction, found.satisfaction_comment) == (4, "fine")
    assert run(store, ticket) == []


def test_a_deleted_ticket_has_nothing_due(store: Store, desk: Desk, clock: FixedClock) -> None:
    with store.transaction() as transaction:
        ticket = opened(transaction, desk)
        transaction.delete(ticket)
    clock.advance(timedelta(days=30))
    assert run(store, ticket.id) == []
    with store.reading() as session:
        assert session.get_one(TicketClock, ticket.id).next_at is None


def test_two_who_do_a_step_at_once_do_it_once(store: Store, desk: Desk, clock: FixedClock) -> None:
    with store.transaction() as transaction:
        ticket = opened(transaction, desk, priority="urgent", owner_id=desk.ana).id
    clock.advance(61 * MINUTE)
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda _: run(store, ticket), range(4)))
    assert sorted(map(len, done)) == [0, 0, 0, 2]
    assert told(store) == [(desk.mara, "ticket_first_missed")]


# ---------------------------------------------------------------- who serves


def test_tickets_go_round_a_queue_past_those_who_are_away(store: Store, desk: Desk) -> None:
    with store.transaction() as transaction:
        owners = [opened(transaction, desk, queue="help").owner_id for _ in range(3)]
        add_absence(transaction, desk.ben, MONDAY.date(), MONDAY.date())
        owners += [opened(transaction, desk, queue="help").owner_id for _ in range(2)]
        add_absence(transaction, desk.ana, MONDAY.date(), MONDAY.date())
        last = opened(transaction, desk, queue="help")
        assert assign_next(transaction, last) is None
    assert owners == [desk.ana, desk.ben, desk.ana, desk.ana, desk.ana]
    assert last.owner_id is None


def test_who_serves_a_queue_sees_its_tickets_and_nobody_else_does(store: Store, desk: Desk) -> None:
    with store.transaction() as transaction:
        session = transaction.session
        set_queue(session, Queue(key="pool", name="Pool", members=[desk.ana]), version=0)
        ticket = opened(transaction, desk, queue="pool")
        comment = transaction.create(Comment(subject_type="ticket", subject_id=ticket.id, body="Hm"))
        outside = make_user(transaction, "Otto").id
    with store.reading() as session:
        ana = Reader(session, session.get_one(User, desk.ana))
        assert ana.get_to_write(Ticket, ticket.id).id == ticket.id
        assert ana.get(Comment, comment.id).body == "Hm"
        for other in (desk.ben, outside):
            with pytest.raises(RecordNotFoundError):
                Reader(session, session.get_one(User, other)).get(Ticket, ticket.id)
    with store.transaction() as transaction:
        assign_ticket(transaction, transaction.get(Ticket, ticket.id), desk.ben)
    assert told(store) == [(desk.ben, "assigned")]
    with store.reading() as session:
        assert Reader(session, session.get_one(User, desk.ben)).get(Ticket, ticket.id).id == ticket.id


# ---------------------------------------------------------------- mail and merging


def test_merging_keeps_the_whole_conversation_and_leads_on(store: Store, desk: Desk) -> None:
    with store.transaction() as transaction:
        session = transaction.session
        keep, gone = (opened(transaction, desk, subject=each) for each in ("One", "Two"))
        user = session.get_one(User, desk.ana)
        answer_ticket(transaction, user, gone, "Hello")
        transaction.create(Comment(subject_type="ticket", subject_id=gone.id, body="Hm"))
        merge_tickets(transaction, keep, gone)
        merge_tickets(transaction, keep, gone)
        talk = session.scalars(select(Activity.body).where(Activity.subject_id == keep.id)).all()
        notes = session.scalars(select(Comment.body).where(Comment.subject_id == keep.id)).all()
        assert (talk, notes) == (["Hello"], ["Hm"])
        assert (gone.status, gone.merged_into_id) == ("closed", keep.id)
        assert keep.first_answered_at is not None
        late = add_mail(transaction, gone, subject="more", body="x")
        assert late.subject_id == keep.id
        other = opened(transaction, desk, account_id=make_account(transaction).id)
        for pair in ((keep, keep), (keep, other), (other, gone)):
            with pytest.raises(MergeError):
                merge_tickets(transaction, *pair)
    assert run(store, gone.id) == []  # nobody is asked about half a ticket


def test_feedback_says_which_kind_it_is(store: Store, desk: Desk) -> None:
    with store.transaction() as transaction:
        said = take_feedback(transaction, None, desk.account, Feedback.PRAISE, "Quick!")
        assert (said.kind, said.outcome, said.account_id) == ("feedback", "praise", desk.account)
        with pytest.raises(InvalidValueError, match="complaint, praise, idea"):
            log_activity(transaction, Activity(kind="feedback", account_id=desk.account))


def test_history_that_is_imported_starts_nothing(store: Store, desk: Desk) -> None:
    with store.transaction() as transaction:
        ticket = opened(transaction, desk, status="closed", occurred_at=MONDAY - timedelta(days=9))
        clock = transaction.session.get_one(TicketClock, ticket.id)
        assert (ticket.first_due_at, clock.next_at) == (None, None)
