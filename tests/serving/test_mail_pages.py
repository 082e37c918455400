"""The tray, letters, templates, sequences, unsubscribing and calendars: what the pages show and refuse."""

from __future__ import annotations

import base64
import io
import re
from datetime import timedelta

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select

from crm_core.incoming.tray import IntakeItem
from crm_core.messages import Message
from crm_core.outgoing import queue_mail
from crm_core.records import Activity, Lead
from crm_core.rights import set_field_right
from crm_core.sequences import MailSequence, SequenceRun
from crm_core.store import Store
from crm_core.tokens import Scope, create_token
from tests.factories import make_activity, make_contact, make_lead, make_ticket
from tests.serving.conftest import *  # noqa: F403  its fixtures
from tests.serving.conftest import Cast, csrf_of, logged_in
from tests.serving.statements import sent_by

FANG = "wang.fang@fangda.example"
EML = b"From: Tom Hill <tom@hill.example>\nTo: crm@ours.example\nSubject: Pumps?\n\nWe need twenty.\n"
ICS = (
    b"BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:x\r\nBEGIN:VEVENT\r\nUID:1@x\r\nDTSTAMP:20260301T000000Z\r\n"
    b"DTSTART:20260310T100000Z\r\nDTEND:20260310T110000Z\r\nSUMMARY:Visit\r\n"
    b"ATTENDEE:mailto:wang.fang@fangda.example\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"
)


@pytest.fixture
def lead(store: Store, cast: Cast) -> int:
    with store.transaction() as transaction:
        return make_lead(transaction, email=FANG, owner_id=cast["Ana"].id, consent="granted").id


@pytest.fixture
def ana(app: Flask, cast: Cast) -> FlaskClient:
    return logged_in(app, cast["Ana"])


@pytest.fixture
def mara(app: Flask, cast: Cast) -> FlaskClient:
    return logged_in(app, cast["Mara"])


def post(client: FlaskClient, path: str, page: str, **data: object) -> tuple[int, str]:
    form = {"csrf_token": csrf_of(client.get(page).text), **data}
    answer = client.post(path, data=form, content_type="multipart/form-data")
    return answer.status_code, answer.text


def upload(client: FlaskClient, content: bytes, name: str = "a.eml") -> tuple[int, str]:
    return post(client, "/intake", "/intake", file=(io.BytesIO(content), name))


def one(store: Store, model: type) -> object:
    with store.reading() as session:
        return session.scalars(select(model)).one()


# -------------------------------------------------------------------------------------------------- the tray


def test_an_empty_tray_says_how_something_comes_in(mara: FlaskClient) -> None:
    assert "CRM_IMAP_HOST" in mara.get("/intake").text


def test_a_strangers_mail_waits_until_it_is_put_on_a_record_by_its_name(
    store: Store, mara: FlaskClient, ana: FlaskClient, lead: int
) -> None:
    assert upload(mara, EML)[0] == 302
    page = mara.get("/intake").text
    assert "Pumps?" in page
    assert "We need twenty." in page
    assert "Pumps?" not in ana.get("/intake").text  # nobody knows yet whose it is
    item = one(store, IntakeItem).id  # type: ignore[attr-defined]  # as it was asked for
    path = f"/intake/{item}"
    assert post(ana, path, "/intake", do="drop")[0] == 404
    assert post(mara, path, "/intake", do="assign", type="lead", text="nobody at all")[0] == 422
    assert post(mara, path, "/intake", do="assign", type="user", text="1")[0] == 422
    assert post(mara, path, "/intake", do="assign", type="lead", text="Fangda")[0] == 302
    assert one(store, Activity).lead_id == lead  # type: ignore[attr-defined]  # as above
    assert "The tray is empty" in mara.get("/intake").text
    assert "Pumps?" in mara.get("/intake?state=assigned").text
    assert post(mara, path, "/intake", do="drop")[0] == 409


def test_a_file_that_a_rep_brings_tells_them_nothing_of_a_colleagues_lead(
    app: Flask, store: Store, mara: FlaskClient, ana: FlaskClient, lead: int, cast: Cast
) -> None:
    ben = logged_in(app, cast["Ben"])
    known = EML.replace(b"tom@hill.example", FANG.encode())
    told = set()
    for content, name in ((known, "a.eml"), (EML, "b.eml")):
        assert upload(ben, content, name)[0] == 302
        told.add(re.sub(r"<(script|meta|input)[^>]*>", "", ben.get("/intake").text))
    assert len(told) == 1
    assert upload(ben, ICS, "a.ics")[0] == 302
    assert "0 meetings noted, 1 in the tray or with others" in ben.get("/intake").text
    with store.reading() as session:
        assert session.scalars(select(Activity)).all() == []
    assert "Pumps?" in ana.get("/intake").text  # it may be about her lead
    assert upload(ana, ICS.replace(b"UID:1", b"UID:2"), "a.ics")[0] == 302
    assert one(store, Activity).lead_id == lead  # type: ignore[attr-defined]  # as it was asked for


def test_a_lead_a_ticket_or_nothing_is_made_of_what_waits(
    store: Store, mara: FlaskClient, cast: Cast
) -> None:
    for number in range(3):
        upload(mara, EML.replace(b"Pumps?", b"Pumps %d" % number))
    with store.transaction() as transaction:
        account = make_ticket(transaction, account_id=_account(store, transaction, cast)).account_id
        items = list(transaction.session.scalars(select(IntakeItem.id).order_by(IntakeItem.id)))
    assert post(mara, f"/intake/{items[0]}", "/intake", do="lead")[0] == 302
    assert (
        post(mara, f"/intake/{items[1]}", "/intake", do="ticket", type="account", text=str(account))[0] == 302
    )
    assert post(mara, f"/intake/{items[2]}", "/intake", do="drop")[0] == 302
    with store.reading() as session:
        assert session.scalars(select(Lead.email)).all() == ["tom@hill.example"]


def _account(store: Store, transaction: object, cast: Cast) -> int:
    from tests.factories import make_account

    return make_account(transaction, owner_id=cast["Mara"].id).id  # type: ignore[arg-type]  # it is one


@pytest.mark.parametrize(("content", "name"), [(b"", "a.eml"), (b"\x00\x01\x02", "a.eml"), (b"no", "a.ics")])
def test_a_file_that_is_neither_a_mail_nor_a_calendar_is_refused(
    mara: FlaskClient, content: bytes, name: str
) -> None:
    assert upload(mara, content, name)[0] == 422


def test_calendar_entries_become_meetings(store: Store, ana: FlaskClient, lead: int, cast: Cast) -> None:
    assert upload(ana, ICS, "a.ics")[0] == 302
    meeting = one(store, Activity)
    assert (meeting.kind, meeting.lead_id, meeting.owner_id) == ("meeting", lead, cast["Ana"].id)  # type: ignore[attr-defined]  # as above


def test_the_tray_goes_on_to_a_second_page_and_asks_few_questions(mara: FlaskClient, store: Store) -> None:
    for number in range(27):
        upload(mara, EML.replace(b"Pumps?", b"Pumps no. %d," % number))
    mara.get("/intake")
    with sent_by(store) as sent:
        first = mara.get("/intake").text
    assert len(sent.statements) <= 16
    assert "Pumps no. 26," in first
    assert "Pumps no. 1," not in first
    before = first.split("before=")[1].split('"')[0]
    assert "Pumps no. 1," in mara.get(f"/intake?state=open&before={before}").text


# ---------------------------------------------------------------------------------------------------- letters


def save_template(client: FlaskClient, **given: str) -> tuple[int, str]:
    values = {
        "name": "First mail",
        "subject": "For {{ lead.company }}",
        "body": "Dear {{ lead.name }}",
        "language": "en",
        "shared": "all",
        **given,
    }
    return post(client, "/intake/templates", "/intake/templates", **values)


def test_a_mail_is_filled_in_by_a_template_and_sent(store: Store, ana: FlaskClient, lead: int) -> None:
    assert save_template(ana)[0] == 302
    page = f"/records/lead/{lead}/mail"
    assert FANG in ana.get(page).text
    filled = ana.get(f"{page}?template=1").text
    assert "For Fangda Valves" in filled
    assert "Dear Wang Fang" in filled
    assert post(ana, page, page, to=FANG, subject="Hello", text="Dear Fang")[0] == 302
    sent = one(store, Message)
    assert (sent.subject, sent.kind, sent.about_id) == ("Hello", "direct", lead)  # type: ignore[attr-defined]  # as above
    assert "Dear Fang" in ana.get(f"/leads/{lead}").text or "Hello" in ana.get(f"/leads/{lead}").text


def test_what_cannot_be_sent_says_why_and_keeps_what_was_typed(ana: FlaskClient, lead: int) -> None:
    page = f"/records/lead/{lead}/mail"
    status, text = post(ana, page, page, to="a@b.example, c@d.example", subject="Hello", text="Typed text")
    assert (status, "Typed text" in text, "one mail address" in text) == (422, True, True)
    assert post(ana, page, page, to=FANG, subject="", text="x")[0] == 422


def test_a_template_with_what_its_sender_may_not_see_is_refused_with_the_place(
    store: Store, ana: FlaskClient, mara: FlaskClient, lead: int
) -> None:
    save_template(mara)
    with store.transaction() as transaction:
        set_field_right(transaction.session, "rep", "lead", "company", read=False, write=False)
    answer = ana.get(f"/records/lead/{lead}/mail?template=1")
    assert (answer.status_code, "lead.company" in answer.text) == (422, True)
    assert "Fangda" not in answer.text


def test_an_answer_quotes_nothing_that_is_hidden(store: Store, ana: FlaskClient, lead: int) -> None:
    with store.transaction() as transaction:
        said = {"kind": "mail", "direction": "inbound", "subject": "Our budget", "body": "is 9 million"}
        mail = make_activity(transaction, lead_id=lead, **said).id
    path = f"/records/lead/{lead}/mail?answers={mail}"
    assert "&gt; is 9 million" in ana.get(path).text
    with store.transaction() as transaction:
        for field in ("subject", "body"):
            set_field_right(transaction.session, "rep", "activity", field, read=False, write=False)
    page = ana.get(path).text
    assert "9 million" not in page
    assert "Our budget" not in page


def test_nobody_writes_on_what_they_do_not_see_or_as_an_analyst(app: Flask, cast: Cast, lead: int) -> None:
    assert logged_in(app, cast["Otto"]).get(f"/records/lead/{lead}/mail").status_code == 404
    assert logged_in(app, cast["Dana"]).get(f"/records/lead/{lead}/mail").status_code == 403
    assert logged_in(app, cast["Ana"]).get(f"/records/user/{cast['Ana'].id}/mail").status_code == 404


def test_unknown_places_in_a_template_are_named_and_what_was_typed_stays(ana: FlaskClient) -> None:
    status, text = save_template(ana, body="Hello {{ lead.salary }}")
    assert (status, "lead.salary" in text) == (422, True)


def test_a_template_is_changed_and_retired_by_whoever_made_it(ana: FlaskClient, mara: FlaskClient) -> None:
    save_template(ana)
    page = "/intake/templates/1"
    assert "Dear {{ lead.name }}" in mara.get(page).text
    values = {"name": "N", "subject": "S", "body": "B", "language": "zh", "shared": "own", "version": "1"}
    assert post(mara, page, page, **values)[0] == 403
    assert post(ana, page, page, **values)[0] == 302
    assert post(ana, page, page, **values)[0] == 409
    assert post(ana, page, page, do="retire")[0] == 302
    assert ">N<" not in ana.get("/intake/templates").text


# -------------------------------------------------------------------------------------------------- sequences


def make_sequence(client: FlaskClient, **given: str) -> tuple[int, str]:
    values = {
        "name": "Warm up",
        "record_type": "lead",
        "active": "yes",
        "template-0": "1",
        "wait-0": "0",
        **given,
    }
    return post(client, "/intake/sequences", "/intake/sequences", **values)


def test_a_sequence_is_made_by_a_manager_begun_on_a_record_and_watched(
    store: Store, ana: FlaskClient, mara: FlaskClient, lead: int
) -> None:
    save_template(mara)
    assert "New sequence" not in ana.get("/intake/sequences").text
    assert make_sequence(mara)[0] == 302
    assert make_sequence(mara, **{"template-0": ""})[0] == 422
    page = f"/records/lead/{lead}/mail"
    assert post(ana, f"/records/lead/{lead}/sequence", page, sequence="1")[0] == 302
    assert one(store, SequenceRun).record_id == lead  # type: ignore[attr-defined]  # as above
    watched = ana.get("/intake/sequences/1").text
    assert "Fangda Valves" in watched
    assert post(ana, "/intake/sequences/1/stop", "/intake/sequences/1", run="1")[0] == 302
    assert "somebody stopped it" in ana.get("/intake/sequences/1").text
    changed = {"name": "Later", "record_type": "lead", "active": "no", "template-0": "1", "version": "1"}
    assert post(mara, "/intake/sequences/1", "/intake/sequences/1", **changed)[0] == 302
    assert (one(store, MailSequence).name, one(store, MailSequence).active) == ("Later", False)  # type: ignore[attr-defined]  # as above


def test_who_never_agreed_begins_no_sequence(
    store: Store, ana: FlaskClient, mara: FlaskClient, lead: int
) -> None:
    save_template(mara)
    make_sequence(mara)
    with store.transaction() as transaction:
        transaction.update(transaction.get(Lead, lead), {"consent": None})
    status, text = post(ana, f"/records/lead/{lead}/sequence", f"/records/lead/{lead}/mail", sequence="1")
    assert (status, "never agreed" in text) == (422, True)


def test_unsubscribing_takes_one_click_in_both_languages_and_no_login(
    store: Store, app: Flask, lead: int
) -> None:
    with store.transaction() as transaction:
        queued = queue_mail(
            transaction, to=FANG, subject="x", text="x", about=("lead", lead), sender=None, kind="marketing"
        )
        token = transaction.session.get_one(Message, queued.message_id).leave_token
    client = app.test_client()
    assert "Unsubscribe?" in client.get(f"/unsubscribe/{token}").text
    assert "退订" in client.get(f"/unsubscribe/{token}", headers={"Accept-Language": "zh"}).text
    with store.reading() as session:
        assert session.get_one(Lead, lead).consent == "granted"  # following a link changes nothing
    for _ in range(2):
        answer = client.post(f"/unsubscribe/{token}", data={"List-Unsubscribe": "One-Click"})
        assert answer.status_code == 200
    assert client.post("/unsubscribe/none").status_code == 200
    with store.reading() as session:
        assert session.get_one(Lead, lead).consent == "withdrawn"


# ------------------------------------------------------------------------------------------------- calendars


def test_a_calendar_is_read_by_its_secret_until_that_is_ended(
    store: Store, app: Flask, ana: FlaskClient, cast: Cast, lead: int
) -> None:
    with store.transaction() as transaction:
        due = transaction.now + timedelta(days=1)
        make_activity(
            transaction, lead_id=lead, owner_id=cast["Ana"].id, kind="task", due_at=due, subject="Call her"
        )
        foreign = make_contact(transaction, owner_id=cast["Otto"].id)
        make_activity(
            transaction,
            contact_id=foreign.id,
            owner_id=cast["Otto"].id,
            kind="meeting",
            due_at=due,
            subject="His",
        )
    shown = post(ana, "/intake/calendar", "/intake/calendar", do="make")[1]
    path = "/calendar/" + shown.split("/calendar/")[1].split('"')[0]
    anybody = app.test_client()
    given = anybody.get(path)
    assert given.content_type.startswith("text/calendar")
    assert "SUMMARY:Call her" in given.text
    assert "His" not in given.text
    assert path.rsplit("/", 1)[1] not in ana.get("/intake/calendar").text
    assert post(ana, "/intake/calendar", "/intake/calendar", do="end")[0] == 302
    assert anybody.get(path).status_code == 404


# ------------------------------------------------------------------------------------------------------- API


def test_other_systems_bring_mails_calls_chats_and_calendars_with_a_key_for_that(
    store: Store, client: FlaskClient, cast: Cast, lead: int
) -> None:
    with store.transaction() as transaction:
        transaction.update(transaction.get(Lead, lead), {"phone": "13800138000"})
        key = create_token(
            transaction.session,
            user_id=cast["Adam"].id,
            name="PBX",
            now=transaction.now,
            scopes=[Scope.INTAKE],
        )
    headers = {"Authorization": f"Bearer {key}"}

    def send(path: str, body: object) -> tuple[int, object]:
        answer = client.post(f"/api/v1/intake/{path}", json=body, headers=headers)
        return answer.status_code, answer.json

    mail = {"raw": base64.b64encode(EML.replace(b"tom@hill.example", FANG.encode())).decode()}
    assert send("mail", mail) == (200, {"outcome": "filed"})
    assert send("mail", mail) == (200, {"outcome": "known"})
    assert send("mail", {"raw": "not base64!"})[0] == 422
    call = {
        "id": "1",
        "from_number": "+86 138 0013 8000",
        "to_number": "021",
        "started_at": "2026-03-02T08:00:00Z",
        "direction": "inbound",
    }
    assert send("calls", call) == (200, {"outcome": "filed"})
    assert send("calls", {**call, "duration_seconds": 60}) == (200, {"outcome": "renewed"})
    message = {"id": "m1", "at": "2026-03-02T08:00:00Z", "by_us": False, "text": "Hello"}
    assert send("chats", {"id": "c", "who": "@li", "messages": [message]}) == (200, {"outcome": "tray"})
    assert send("calendar", {"ics": ICS.decode()})[1] == {"filed": 1, "tray": 0, "known": 0, "ignored": 0}
    assert client.get("/api/v1/leads", headers=headers).status_code == 403
