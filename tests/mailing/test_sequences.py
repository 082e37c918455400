"""Somebody goes through a sequence once, in working time, until they answer or leave."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import select

from crm_core.clock import FixedClock
from crm_core.errors import AccessDeniedError, InvalidValueError, NotWrittenToError
from crm_core.incoming.filing import take_mail, unsubscribe
from crm_core.incoming.parsing import read_mail
from crm_core.mail_templates import Draft, retire_template, save_template
from crm_core.messages import Message
from crm_core.outgoing import mark_dead, mark_sent
from crm_core.records import Activity, Lead, User
from crm_core.rights import set_field_right
from crm_core.saved import Segment, Shared
from crm_core.saving import keep_segment
from crm_core.sequences import (
    MailSequence,
    SequenceRun,
    Step,
    Wanted,
    save_sequence,
    send_due,
    standing_of,
    start_as,
    start_from_segments,
    start_sequence,
    stop_run,
)
from crm_core.store import Store
from crm_core.working_time import WorkingTime
from tests.factories import make_lead, make_user

FANG = "wang.fang@fangda.example"
WEEKS = timedelta(days=10)


class Made:
    """A sequence of three steps by Mara, and a lead of Ana's who agreed."""

    def __init__(self, store: Store, **given: Any) -> None:
        with store.transaction() as transaction:
            self.mara = make_user(transaction, "Mara", role="manager")
            self.ana = make_user(transaction)
            self.template = save_template(
                transaction,
                self.mara,
                Draft(
                    name="T", subject="Hello {{ lead.name }}", body="Dear {{ lead.name }}", shared=Shared.ALL
                ),
            )
            wait = (0, 2, 3)
            steps = tuple(Step(template_id=self.template.id, wait_days=days) for days in wait)
            wanted = Wanted(**{"name": "Warm up", "record_type": "lead", "steps": steps, **given})
            self.sequence = save_sequence(transaction, self.mara, wanted).id
            self.lead = make_lead(transaction, email=FANG, owner_id=self.ana.id, consent="granted").id

    def start(self, store: Store) -> SequenceRun | None:
        with store.transaction() as transaction:
            return start_sequence(transaction, self.sequence, transaction.get(Lead, self.lead))


def run_of(store: Store) -> SequenceRun:
    with store.reading() as session:
        return session.scalars(select(SequenceRun)).one()


def mails(store: Store) -> list[Message]:
    with store.reading() as session:
        return list(session.scalars(select(Message).where(Message.run_id.is_not(None)).order_by(Message.id)))


def go_on(store: Store, clock: FixedClock, until: datetime) -> list[datetime]:
    """Let time pass by hours; return when mails were queued."""
    when, count = [], len(mails(store))
    while clock.now() < until:
        while send_due(store, zone="UTC"):
            pass
        when += [clock.now()] * (len(mails(store)) - count)
        count = len(mails(store))
        clock.advance(timedelta(hours=1))
    return when


def test_steps_go_out_in_working_time_after_working_days(store: Store, clock: FixedClock) -> None:
    made = Made(store)
    clock.advance(timedelta(days=3, hours=10))  # Thursday 19:00, after work
    made.start(store)
    when = go_on(store, clock, clock.now() + WEEKS)
    assert [f"{each:%a %H:%M}" for each in when] == ["Fri 09:00", "Tue 09:00", "Fri 09:00"]
    run = run_of(store)
    assert (run.state, run.step, run.next_at) == ("finished", 3, None)
    sent = mails(store)
    assert [(each.subject, each.step, each.kind, each.sender_id) for each in sent] == [
        ("Hello Wang Fang", step, "marketing", made.ana.id) for step in range(3)
    ]
    assert len({each.leave_token for each in sent}) == 3


def test_somebody_goes_through_it_once_whatever_record_they_stand_in(store: Store, clock: FixedClock) -> None:
    made = Made(store)
    assert made.start(store) is not None
    assert made.start(store) is None
    with store.transaction() as transaction:
        twin = make_lead(transaction, email=FANG.upper(), consent="granted")
        assert start_sequence(transaction, made.sequence, twin) is None


@pytest.mark.parametrize("given", [{"consent": None}, {"consent": "withdrawn"}, {"email": None}])
def test_nobody_begins_who_did_not_agree_or_cannot_be_reached(store: Store, given: dict[str, Any]) -> None:
    made = Made(store)
    with store.transaction() as transaction:
        lead = make_lead(transaction, **{"email": "x@y.example", "consent": "granted", **given})
        with pytest.raises(NotWrittenToError):
            start_sequence(transaction, made.sequence, lead)


def answer(store: Store, *headers: str) -> None:
    raw = "\n".join([f"From: {FANG}", "To: crm@ours.example", *headers, "", "Yes."]).encode()
    with store.transaction() as transaction:
        take_mail(transaction, read_mail(raw), source="imap")


def convert(store: Store) -> None:
    with store.transaction() as transaction:
        lead = transaction.session.scalars(select(Lead)).one()
        transaction.update(lead, {"status": "disqualified"})


def leave(store: Store) -> None:
    with store.transaction() as transaction:
        assert unsubscribe(transaction, mails(store)[0].leave_token or "") is not None


@pytest.mark.parametrize(
    ("happens", "why"),
    [(answer, "replied"), (leave, "unsubscribed"), (convert, "disqualified")],
    ids=["an answer", "leaving", "the end of the lead"],
)
def test_a_run_ends_with(store: Store, clock: FixedClock, happens: Any, why: str) -> None:
    made = Made(store)
    made.start(store)
    send_due(store, zone="UTC")
    happens(store)
    go_on(store, clock, clock.now() + WEEKS)
    assert (run_of(store).state, run_of(store).why) == ("stopped", why)
    assert len(mails(store)) == 1


def test_a_reply_in_somebodys_absence_ends_nothing(store: Store, clock: FixedClock) -> None:
    made = Made(store)
    made.start(store)
    send_due(store, zone="UTC")
    answer(store, "Auto-Submitted: auto-replied")
    go_on(store, clock, clock.now() + WEEKS)
    assert (run_of(store).state, len(mails(store))) == ("finished", 3)


def test_whoever_writes_from_an_address_is_reached_by_it_again(store: Store) -> None:
    made = Made(store)
    raw = f"From: {FANG}\nMessage-ID: <a@b>\nSubject: We have moved\n\nHello.".encode()
    with store.transaction() as transaction:
        mark_dead(transaction.session, FANG, "550", transaction.now)
    with pytest.raises(NotWrittenToError):
        made.start(store)
    with store.transaction() as transaction:
        take_mail(transaction, read_mail(raw), source="imap")
    assert made.start(store) is not None


def test_a_field_that_the_sender_may_not_see_ends_the_run_and_says_so(store: Store) -> None:
    made = Made(store)
    made.start(store)
    with store.transaction() as transaction:
        set_field_right(transaction.session, "rep", "lead", "name", read=False, write=False)
    send_due(store, zone="UTC")
    assert mails(store) == []
    assert "may not see" in (run_of(store).why or "")


def test_a_mail_that_cannot_be_written_leaves_no_half_of_it(store: Store) -> None:
    made = Made(store)
    made.start(store)
    with store.transaction() as transaction:
        transaction.update(transaction.get(Lead, made.lead), {"email": "a b@x.example"})
        run = transaction.session.scalars(select(SequenceRun)).one()
        run.address = "a b@x.example"
    send_due(store, zone="UTC")
    assert run_of(store).state == "stopped"
    with store.reading() as session:
        assert session.scalars(select(Activity)).all() == []


def test_a_template_that_is_gone_and_an_address_that_changed_end_the_run(store: Store) -> None:
    made = Made(store)
    made.start(store)
    with store.transaction() as transaction:
        retire_template(transaction, made.mara, made.template.id)
    send_due(store, zone="UTC")
    assert "not offered any more" in (run_of(store).why or "")


def test_whoever_is_in_the_segment_begins_by_themselves_once(store: Store) -> None:
    with store.transaction() as transaction:
        chief = make_user(transaction, "Zoe", role="admin")
        segment = Segment(
            user_id=chief.id,
            record_type="lead",
            name="Web",
            filter=["source:eq:web_form"],
            shared="all",
            saved_at=transaction.now,
        )
        transaction.session.add(segment)
        transaction.session.flush()
        segment_id = segment.id
    made = Made(store, segment_id=segment_id)
    with store.transaction() as transaction:
        transaction.update(transaction.get(User, made.mara.id), {"role": "admin"})
        make_lead(transaction, email="no@consent.example")
        make_lead(transaction, email="other@source.example", consent="granted", source="fair")
    assert start_from_segments(store, zone="UTC") == 1
    assert start_from_segments(store, zone="UTC") == 0
    assert run_of(store).record_id == made.lead


def test_whoever_changes_a_sequence_reaches_only_whom_they_see(store: Store) -> None:
    with store.transaction() as transaction:
        chief = make_user(transaction, "Zoe", role="admin")
        segment = keep_segment(transaction, chief, "lead", "All", ["source:eq:web_form"], shared="all")
    made = Made(store)
    wanted = Wanted(
        name="Mine",
        record_type="lead",
        steps=(Step(template_id=made.template.id),),
        segment_id=segment.id,
    )
    with store.transaction() as transaction:  # Mara leads nobody, and the lead is Ana's
        kept = transaction.session.get_one(MailSequence, made.sequence)
        kept.user_id = chief.id
        save_sequence(transaction, made.mara, wanted, sequence_id=made.sequence)
    assert start_from_segments(store, zone="UTC") == 0


def test_who_cannot_begin_stands_in_nobodys_way(store: Store) -> None:
    with store.transaction() as transaction:
        chief = make_user(transaction, "Zoe", role="admin")
        segment = keep_segment(transaction, chief, "lead", "All", ["source:eq:web_form"], shared="all")
        for number in range(3):
            make_lead(transaction, email=f"dead{number}@x.example", consent="granted")
            mark_dead(transaction.session, f"dead{number}@x.example", "550", transaction.now)
    made = Made(store, segment_id=segment.id)
    with store.transaction() as transaction:
        transaction.update(transaction.get(User, made.mara.id), {"role": "admin"})
    assert start_from_segments(store, zone="UTC", limit=2) == 1
    assert run_of(store).record_id == made.lead


def test_one_sequence_that_cannot_be_read_holds_up_no_other(store: Store) -> None:
    made = Made(store)
    made.start(store)
    with store.transaction() as transaction:
        steps = (Step(template_id=made.template.id),)
        whole = save_sequence(transaction, made.mara, Wanted(name="Whole", record_type="lead", steps=steps))
        other = make_lead(transaction, email="b@x.example", consent="granted", owner_id=made.ana.id)
        start_sequence(transaction, whole.id, other)
        transaction.session.get_one(MailSequence, made.sequence).steps = [{"of another program": 1}]
    with pytest.raises(TypeError):  # it is told
        send_due(store, zone="UTC")
    assert [each.to_addresses for each in mails(store)] == [["b@x.example"]]


def test_a_mail_goes_to_the_address_as_it_is_written(store: Store) -> None:
    made = Made(store)
    with store.transaction() as transaction:
        transaction.update(transaction.get(Lead, made.lead), {"email": "Wang.Fang@Fangda.example"})
    made.start(store)
    send_due(store, zone="UTC")
    assert [each.to_addresses for each in mails(store)] == [["Wang.Fang@Fangda.example"]]


def test_who_may_write_on_the_record_begins_and_ends_by_hand(store: Store) -> None:
    made = Made(store)
    with store.transaction() as transaction:
        ben = make_user(transaction, "Ben")
        with pytest.raises(Exception, match="no lead"):
            start_as(transaction, ben, made.sequence, made.lead)
        run = start_as(transaction, made.ana, made.sequence, made.lead)
        assert run is not None
        with pytest.raises(AccessDeniedError):
            save_sequence(transaction, ben, Wanted(name="x", record_type="lead", steps=()))
        stop_run(transaction, made.ana, run.id)
    assert (run_of(store).state, run_of(store).why) == ("stopped", "by hand")


@pytest.mark.parametrize(
    "given",
    [{"name": " "}, {"steps": ()}, {"record_type": "deal"}, {"record_type": "contact"}],
    ids=["no name", "no steps", "no people", "a template for others"],
)
def test_a_sequence_that_makes_no_sense_is_refused(store: Store, given: dict[str, Any]) -> None:
    with pytest.raises(InvalidValueError):
        Made(store, **given)


def test_what_became_of_it_is_counted_by_people(store: Store, clock: FixedClock) -> None:
    made = Made(store)
    made.start(store)
    send_due(store, zone="UTC")
    with store.transaction() as transaction:
        mark_sent(transaction.session, mails(store)[0].id, transaction.now)
    answer(store, f"In-Reply-To: <{mails(store)[0].message_id}@x>")
    with store.reading() as session:
        standing = standing_of(session, [made.sequence])[made.sequence]
    assert (standing.people, standing.stopped, standing.sent, standing.replied, standing.bounced) == (
        1,
        1,
        1,
        1,
        0,
    )


def test_both_days_on_which_clocks_change_are_usual_days(store: Store, clock: FixedClock) -> None:
    made = Made(store)
    for day in (datetime(2026, 3, 28, 8, tzinfo=UTC), datetime(2026, 10, 24, 8, tzinfo=UTC)):
        step = Step(template_id=made.template.id, wait_days=1)
        berlin = WorkingTime(zone=ZoneInfo("Europe/Berlin"))
        due = step.after(day, berlin)
        on_the_wall = f"{day.astimezone(berlin.zone):%H:%M}"
        assert f"{due.astimezone(berlin.zone):%a %H:%M}" == f"Mon {on_the_wall}"
