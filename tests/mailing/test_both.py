"""Where a database has a say: several at once take the same mail, and send the same steps."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime

from sqlalchemy import func, select

from crm_core.incoming.calendars import read_calendar, take_calendar
from crm_core.incoming.filing import Outcome, take_mail
from crm_core.incoming.parsing import read_mail
from crm_core.messages import Message
from crm_core.outgoing import queue_mail
from crm_core.records import Activity
from crm_core.sequences import SequenceRun, send_due, start_sequence
from crm_core.store import Store
from tests.factories import make_contact, make_lead, make_user
from tests.mailing.test_events import ZONE, calendar
from tests.mailing.test_sequences import Made
from tests.serving.both_databases import *  # noqa: F403  the fixtures on both

FANG = "wang.fang@fangda.example"


def at_once(count: int, work: Callable[[], None]) -> None:
    """Have some threads do the same thing."""
    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_one_mail_that_comes_in_four_ways_at_once_is_filed_once(store: Store) -> None:
    with store.transaction() as transaction:
        lead = make_lead(transaction, email=FANG)
        out = queue_mail(transaction, to=FANG, subject="x", text="x", about=("lead", lead.id), sender=None)
        ours = transaction.session.get_one(Message, out.message_id).message_id
    raw = f"From: {FANG}\nMessage-ID: <a@b>\nIn-Reply-To: <{ours}@x>\n\nYes.".encode()
    outcomes: list[Outcome] = []

    def take() -> None:
        with store.transaction() as transaction:
            outcomes.append(take_mail(transaction, read_mail(raw), source="api").outcome)

    at_once(4, take)
    assert sorted(outcomes) == [Outcome.FILED, *[Outcome.KNOWN] * 3]
    with store.reading() as session:
        assert session.scalar(select(func.count(Activity.id))) == 2


def test_of_two_calendars_at_once_the_newer_entry_stays(store: Store) -> None:
    def take(sequence: int, start: str) -> None:
        entries = read_calendar(calendar(sequence=sequence, start=start), ZONE)
        with store.transaction() as transaction:
            take_calendar(transaction, entries)

    with store.transaction() as transaction:
        make_user(transaction)
        make_contact(transaction)
    take(0, "20260310T100000")
    with store.transaction() as transaction:
        newer = read_calendar(calendar(sequence=2, start="20260312T100000"), ZONE)
        take_calendar(transaction, newer)
        older = threading.Thread(target=lambda: take(1, "20260311T100000"))
        older.start()
        older.join(0.3)
    older.join()
    with store.reading() as session:
        assert session.scalars(select(Activity)).one().due_at == datetime(2026, 3, 12, 2, tzinfo=UTC)


def test_several_processes_send_each_step_once_and_lose_none(store: Store) -> None:
    made = Made(store)
    with store.transaction() as transaction:
        for number in range(20):
            lead = make_lead(
                transaction, email=f"p{number}@x.example", consent="granted", owner_id=made.ana.id
            )
            start_sequence(transaction, made.sequence, lead)

    def work() -> None:
        while True:
            with store.reading() as session:
                left = session.scalar(select(func.count(SequenceRun.id)).where(SequenceRun.step == 0))
            if not left:
                return
            send_due(store, zone="UTC")

    at_once(3, work)
    with store.reading() as session:
        runs = session.scalars(select(Message.run_id)).all()
    assert len(runs) == len(set(runs)) == 20
