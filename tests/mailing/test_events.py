"""Calls, chats and calendar entries: one activity each, however often they are told."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import select

from crm_core.access import Reader
from crm_core.errors import InvalidValueError
from crm_core.incoming.calendars import read_calendar, take_calendar
from crm_core.incoming.events import Call, Chat, ChatMessage, take_call, take_chat
from crm_core.incoming.filing import assign_item
from crm_core.incoming.tray import list_items
from crm_core.records import Activity
from crm_core.store import Store
from tests.conftest import MONDAY
from tests.factories import make_account, make_contact, make_lead, make_user

ZONE = ZoneInfo("Asia/Shanghai")


def call(**given: Any) -> Call:
    usual = {
        "id": "pbx-1",
        "caller": "+86 138 0013 8000",
        "called": "021-12345678",
        "started_at": MONDAY - timedelta(minutes=5),
        "direction": "inbound",
        "duration_seconds": None,
    }
    return Call(**{**usual, **given})


def test_a_call_stands_on_whoever_has_the_number_however_it_is_written(store: Store) -> None:
    with store.transaction() as transaction:
        lead = make_lead(transaction, phone="138-0013-8000")
        heard = take_call(transaction, call())
        assert heard.about == ("lead", lead.id)
        again = take_call(transaction, call(duration_seconds=95, recording_url="https://pbx.example/1"))
        assert not again.is_new
        (activity,) = transaction.session.scalars(select(Activity)).all()
        assert (activity.kind, activity.direction, activity.duration_seconds, activity.body) == (
            *("call", "inbound", 95),
            "https://pbx.example/1",
        )
        assert activity.occurred_at == MONDAY - timedelta(minutes=5)


def test_a_companys_number_is_the_companys_and_an_unknown_one_waits(store: Store) -> None:
    with store.transaction() as transaction:
        boss = make_user(transaction, "Mara", role="manager")
        account = make_account(transaction, phone="021-12345678", owner_id=boss.id)
        out = call(id="pbx-2", direction="outbound")
        assert take_call(transaction, out).about == ("account", account.id)
        assert take_call(transaction, call()).about is None
        take_call(transaction, call(duration_seconds=60))
        (item,) = list_items(Reader(transaction.session, boss))
        assert (item.who, item.said["duration_seconds"]) == ("+8613800138000", 60)
        activity = assign_item(transaction, boss, item.id, ("account", account.id))
        assert (activity.kind, activity.duration_seconds) == ("call", 60)


@pytest.mark.parametrize(
    "given", [{"direction": "up"}, {"recording_url": "javascript:alert(1)"}, {"id": " "}, {"id": "x" * 300}]
)
def test_a_call_that_makes_no_sense_is_refused(store: Store, given: dict[str, str]) -> None:
    with store.transaction() as transaction, pytest.raises(InvalidValueError):
        take_call(transaction, call(**given))


def said(number: int, text: str, *, by_us: bool = False) -> ChatMessage:
    return ChatMessage(id=f"m{number}", at=MONDAY - timedelta(minutes=10 - number), by_us=by_us, text=text)


def test_a_conversation_is_one_activity_that_grows(store: Store) -> None:
    with store.transaction() as transaction:
        contact = make_contact(transaction, email="li.wei@example.com")
        first = Chat(
            id="c1", who="li.wei@example.com", name="Li Wei", channel="WeCom", messages=[said(1, "Hello?")]
        )
        assert take_chat(transaction, first).about == ("contact", contact.id)
        more = [said(2, "Good morning!", by_us=True), said(1, "Hello?")]
        take_chat(
            transaction,
            Chat(id="c1", who="li.wei@example.com", name="Li Wei", channel="WeCom", messages=more),
        )
        (activity,) = transaction.session.scalars(select(Activity)).all()
        assert (activity.subject, activity.body) == ("WeCom · Li Wei", "Li Wei: Hello?\n>: Good morning!")
        assert (activity.kind, activity.outcome, activity.direction) == ("web", "chat", "inbound")


def calendar(
    *, sequence: int = 0, start: str = "20260310T100000", more: str = "", method: str = "REQUEST"
) -> bytes:
    return (
        f"BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//x//y\r\nMETHOD:{method}\r\nBEGIN:VEVENT\r\n"
        f"UID:meeting-1@x\r\nSEQUENCE:{sequence}\r\nDTSTAMP:20260301T000000Z\r\n"
        f"DTSTART;TZID=Asia/Shanghai:{start}\r\nDURATION:PT45M\r\nSUMMARY:Visit\r\nLOCATION:Shanghai\r\n"
        "ORGANIZER:mailto:ana@example.com\r\nATTENDEE:mailto:Li.Wei@example.com\r\n"
        f"ATTENDEE:mailto:ana@example.com\r\n{more}END:VEVENT\r\nEND:VCALENDAR\r\n"
    ).encode()


def test_a_meeting_is_with_whoever_is_invited_moves_and_is_called_off(store: Store) -> None:
    def take(raw: bytes) -> Any:
        with store.transaction() as transaction:
            return take_calendar(transaction, read_calendar(raw, ZONE))

    def meeting() -> Activity:
        with store.reading() as session:
            return session.scalars(select(Activity)).one()

    with store.transaction() as transaction:
        ana = make_user(transaction)
        contact = make_contact(transaction)
    assert take(calendar(sequence=1)).filed == 1
    found = meeting()
    assert (found.kind, found.subject, found.contact_id, found.owner_id) == (
        "meeting",
        "Visit",
        contact.id,
        ana.id,
    )
    assert (found.due_at, found.duration_seconds) == (datetime(2026, 3, 10, 2, tzinfo=UTC), 2700)
    assert take(calendar(sequence=0, start="20260311T100000")).known == 1
    assert meeting().due_at == datetime(2026, 3, 10, 2, tzinfo=UTC)
    take(calendar(sequence=2, start="20260312T100000"))
    assert meeting().due_at == datetime(2026, 3, 12, 2, tzinfo=UTC)
    take(calendar(sequence=3, method="CANCEL"))
    assert (meeting().due_at, meeting().outcome) == (None, "cancelled")
    take(calendar(sequence=4))
    assert (meeting().due_at, meeting().outcome) == (datetime(2026, 3, 10, 2, tzinfo=UTC), None)


def test_an_entry_without_anybody_from_outside_is_nobodys_business(store: Store) -> None:
    raw = calendar().replace(b"ATTENDEE:mailto:Li.Wei@example.com\r\n", b"")
    with store.transaction() as transaction:
        make_user(transaction)
        assert take_calendar(transaction, read_calendar(raw, ZONE)).ignored == 1
        assert take_calendar(transaction, read_calendar(calendar(), ZONE)).tray == 1


@pytest.mark.parametrize("raw", [b"", b"no calendar", b"BEGIN:VCALENDAR\r\nBEGIN:VEVENT\r\n", b"\xff" * 100])
def test_what_is_no_calendar_is_refused(raw: bytes) -> None:
    with pytest.raises(InvalidValueError):
        read_calendar(raw, ZONE)


def test_an_entry_that_cannot_be_read_does_not_hide_the_others() -> None:
    bad = b"BEGIN:VEVENT\r\nUID:x\r\nDTSTART:nonsense\r\nEND:VEVENT\r\nEND:VCALENDAR"
    assert len(read_calendar(calendar().replace(b"END:VCALENDAR", bad), ZONE)) == 1
