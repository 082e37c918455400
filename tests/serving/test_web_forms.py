"""Web forms from a stranger's browser to the records: what is made, filled, held, and never told."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import func, select

from crm_core.clock import FixedClock
from crm_core.errors import AccessDeniedError, InvalidValueError
from crm_core.form_taking import Sent, let_through, take_submission, throw_away
from crm_core.forms import (
    AskedField,
    FormSubmission,
    FormWording,
    Standing,
    Texts,
    WantedForm,
    WebForm,
    change_form,
    make_form,
    read_origin,
    wanted_of,
)
from crm_core.handover import hand_over
from crm_core.leads import convert_lead, disqualify_lead
from crm_core.merging import merge_records
from crm_core.notifications import Notification
from crm_core.records import Activity, Campaign, CampaignMember, Contact, Lead, User
from crm_core.store import Store
from serving.app import create_app
from serving.form_sheets import hand_out, read_sheet
from serving.settings import Settings
from tests.factories import make_contact, make_lead
from tests.serving import hostile
from tests.serving.conftest import *  # noqa: F403  its fixtures
from tests.serving.conftest import Cast

SITE = "https://www.fangda.example"
FILLED = {
    "name": "Li Na",
    "company": "Nafang Pumps",
    "email": "li.na@nafang.example",
    "message": "Twenty pumps, please.",
}
Send = Callable[..., Any]


@pytest.fixture
def form(store: Store, cast: Cast) -> WebForm:
    """A form of the spring campaign that asks for consent."""
    with store.transaction(actor_id=cast["Mara"].id) as transaction:
        campaign = transaction.create(Campaign(name="Spring", channel="fair"))
        return make_form(transaction, cast["Mara"], wanted(campaign_id=campaign.id))


def wanted(**more: Any) -> WantedForm:
    fields = [AskedField(field=name) for name in ("name", "company", "employees", "message")]
    said: dict[str, Any] = {
        "name": "Contact us",
        "source": "web form",
        "fields": [AskedField(field="email", required=True), *fields],
        "consent": Texts(en="You may write to me.", zh="可以给我发邮件。"),
        "thanks": Texts(en="Thanks!", zh="谢谢！"),
        "origins": [SITE],
    }
    return WantedForm(**{**said, **more})


@pytest.fixture
def send(client: FlaskClient, form: WebForm, clock: FixedClock) -> Send:
    """Open the form's page, take some seconds, and send it."""

    def open_and_send(*, after: float = 20, query: str = "", times: int = 1, **values: str) -> Any:
        page = client.get(f"/forms/{form.public_id}?lang=en{query}").text
        data = dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)">', page))
        clock.advance(timedelta(seconds=after))
        sent = {**data, **FILLED, **values}
        return [client.post(f"/forms/{form.public_id}?lang=en", data=sent) for _ in range(times)][-1]

    return open_and_send


def one(store: Store, model: Any) -> Any:
    with store.reading() as session:
        return session.scalars(select(model)).one()


def count(store: Store, model: Any) -> int:
    with store.reading() as session:
        return session.scalar(select(func.count()).select_from(model)) or 0


def test_a_stranger_becomes_a_lead_with_source_campaign_and_consent(
    store: Store, form: WebForm, send: Send, clock: FixedClock
) -> None:
    answer = send(consent="yes", query="&utm_source=search&utm_campaign=pumps")
    assert (answer.status_code, "Thanks!" in answer.text) == (200, True)
    assert "Set-Cookie" not in answer.headers
    lead, activity, member = one(store, Lead), one(store, Activity), one(store, CampaignMember)
    assert (lead.name, lead.email, lead.source) == ("Li Na", "li.na@nafang.example", "web form")
    assert (lead.campaign_id, lead.campaign) == (form.campaign_id, "Spring")
    assert (lead.consent, lead.consent_at) == ("granted", clock.now())
    assert (activity.kind, activity.direction, activity.lead_id) == ("web", "inbound", lead.id)
    assert activity.body == "Twenty pumps, please."
    assert (member.lead_id, member.response, member.responded_at) == (lead.id, "form", clock.now())
    sent = one(store, FormSubmission)
    assert (sent.agreed, sent.wording, sent.utm) == (True, 1, {"source": "search", "campaign": "pumps"})
    assert (sent.standing, sent.given, sent.lead_id) == ("taken", None, lead.id)


def test_leads_of_a_form_go_to_who_took_over_and_to_nobody_who_left(
    store: Store, send: Send, form: WebForm, cast: Cast
) -> None:
    ana, ben = cast["Ana"].id, cast["Ben"].id
    with store.transaction() as transaction:
        transaction.session.get_one(WebForm, form.id).owner_id = ana
    send()
    with store.transaction() as transaction:
        leaver, heir = (transaction.session.get_one(User, each) for each in (ana, ben))
        assert hand_over(transaction, leaver, [heir])["form"] == 1
    send(email="zhou@other.example", name="Zhou", company="Other")
    with store.transaction() as transaction:
        transaction.update(transaction.get(User, ben), {"active": False})
    send(email="wu@third.example", name="Wu", company="Third")
    with store.reading() as session:
        owners = session.scalars(select(Lead.owner_id).order_by(Lead.id)).all()
    assert owners == [ben, ben, None]


def test_sending_twice_is_sending_once(store: Store, send: Send) -> None:
    send(times=2)
    send()  # the same words on another sheet, a moment later
    assert (count(store, Lead), count(store, Activity), count(store, FormSubmission)) == (1, 1, 1)


def test_an_open_lead_is_filled_up_and_never_overwritten(store: Store, send: Send) -> None:
    with store.transaction() as transaction:
        known = {"name": "李娜", "email": "Li.Na@Nafang.example", "source": "referral", "company": None}
        lead = make_lead(transaction, **known).id
    send(employees="40")
    found = one(store, Lead)
    assert (found.id, found.name, found.company, found.employees) == (lead, "李娜", "Nafang Pumps", 40)
    assert (found.source, found.campaign) == ("referral", "Spring")
    assert one(store, Activity).body == "Twenty pumps, please.\nemail: li.na@nafang.example\nname: Li Na"


def test_a_contact_gets_an_activity_and_no_lead_and_its_owner_is_told(
    store: Store, send: Send, cast: Cast
) -> None:
    with store.transaction() as transaction:
        owner = cast["Ana"].id
        contact = make_contact(transaction, name="Li Na", email="li.na@nafang.example", owner_id=owner).id
    send()
    assert count(store, Lead) == 0
    assert one(store, Activity).contact_id == contact
    told = one(store, Notification)
    assert (told.user_id, told.text, told.about_id) == (owner, "form_again", contact)


def test_nobody_leads_a_customers_mail_astray_by_a_form(store: Store, cast: Cast) -> None:
    with store.transaction() as transaction:
        contact = make_contact(transaction, name="Li Na", email=None, phone="+86 138 0013 8000")
        asked = [
            AskedField(field="phone", required=True),
            *(AskedField(field=name) for name in ("name", "email", "title")),
        ]
        form = make_form(transaction, cast["Mara"], wanted(fields=asked))
        said = {"name": "Li Na", "phone": "13800138000", "email": "evil@else.example", "title": "Buyer"}
        take_submission(transaction, form, Sent(key="1", values=said, seconds=20))
        assert (contact.email, contact.title) == (None, "Buyer")
    activity = one(store, Activity)
    assert (activity.contact_id, "evil@else.example" in activity.body) == (contact.id, True)


def test_a_converted_lead_stays_converted_and_a_disqualified_one_is_opened_in_the_log(
    store: Store, send: Send, cast: Cast
) -> None:
    with store.transaction() as transaction:
        lead = make_lead(transaction, name="Li Na", email="li.na@nafang.example", phone=None)
        convert_lead(transaction, lead)
        other = make_lead(transaction, name="Bo Yu", email="bo@yu.example", company=None)
        disqualify_lead(transaction, other, reason="No budget")
    send()
    send(name="Bo Yu", email="bo@yu.example")
    with store.reading() as session:
        assert {each.email: each.status for each in session.scalars(select(Lead))} == {
            "li.na@nafang.example": "converted",
            "bo@yu.example": "open",
        }
        became = session.scalars(select(Contact)).one().id
        assert [(each.contact_id, each.lead_id) for each in session.scalars(select(Activity))] == [
            (became, None),
            (None, other.id),
        ]


def test_who_withdrew_consent_has_not_given_it_again_by_a_form(store: Store, send: Send) -> None:
    with store.transaction() as transaction:
        make_lead(transaction, email="li.na@nafang.example", consent="withdrawn", consent_at=transaction.now)
    send(consent="yes")
    assert one(store, Lead).consent == "withdrawn"
    assert one(store, FormSubmission).agreed


def test_two_people_of_one_mailbox_are_two_leads(store: Store, send: Send) -> None:
    send(name="Li Na", email="info@nafang.example", company="")
    send(name="Zhao Bo", email="info@nafang.example", company="")
    assert count(store, Lead) == 2


def test_a_member_who_was_only_reached_has_answered_now(store: Store, send: Send, form: WebForm) -> None:
    with store.transaction() as transaction:
        lead = make_lead(transaction, email="li.na@nafang.example")
        transaction.create(CampaignMember(campaign_id=form.campaign_id, lead_id=lead.id))
    send()
    assert one(store, CampaignMember).response == "form"


@pytest.mark.parametrize(
    ("why", "given"),
    [
        ("trap", {"homepage": "x"}),
        ("too_fast", {"after": 1}),
        ("links", {"message": "see http://a.example and https://b.example"}),
        ("links", {"name": "www.buy.example"}),
        ("markup", {"message": "<a href=x>buy</a>"}),
        ("words", {"message": "承接代开发票业务"}),
        ("words", {"message": "Best CASINO in town"}),
    ],
)
def test_what_looks_like_spam_is_held_with_the_reason_and_answered_alike(
    store: Store, send: Send, why: str, given: dict[str, Any]
) -> None:
    assert send(**given).text == send(email="other@nafang.example").text
    with store.reading() as session:
        held = session.scalars(select(FormSubmission).where(FormSubmission.standing == "held")).one()
        assert held.given is not None
        assert (held.why, held.given["email"]) == ([why], "li.na@nafang.example")
        assert {each.email for each in session.scalars(select(Lead))} == {"other@nafang.example"}


def test_an_ordinary_message_with_a_link_and_ordinary_words_is_taken(store: Store, send: Send) -> None:
    send(message="Our drawings are at https://nafang.example/a.pdf; we need specialist advice.")
    assert one(store, FormSubmission).standing == "taken"


def test_the_sixth_of_a_day_from_one_address_is_held(store: Store, send: Send, clock: FixedClock) -> None:
    for number in range(6):
        send(message=f"number {number}")
    with store.reading() as session:
        found = session.scalars(select(FormSubmission).order_by(FormSubmission.id)).all()
    assert [each.why for each in found] == [[]] * 5 + [["too_many"]]


def test_what_was_held_is_let_through_as_of_when_it_came_or_thrown_away(
    store: Store, send: Send, cast: Cast, clock: FixedClock
) -> None:
    send(after=1, consent="yes")
    came = clock.now()
    send(after=1, email="spam@nafang.example")
    clock.advance(timedelta(days=1))
    with store.transaction(actor_id=cast["Mara"].id) as transaction:
        for _ in range(2):
            let_through(transaction, cast["Mara"], 1)
            throw_away(transaction, cast["Mara"], 2)
        with pytest.raises(AccessDeniedError):
            let_through(transaction, cast["Ana"], 1)
    lead = one(store, Lead)
    assert (lead.email, lead.occurred_at, lead.consent_at) == ("li.na@nafang.example", came, came)
    with store.reading() as session:
        gone = session.get_one(FormSubmission, 2)
        assert (gone.standing, gone.given, gone.address) == (Standing.DISCARDED, None, None)


def test_what_is_missing_or_wrong_is_said_and_what_was_typed_is_kept(store: Store, send: Send) -> None:
    answer = send(email="nobody", employees="many", name="Li <b>")
    assert answer.status_code == 422
    assert answer.text.count('class="wrong"') == 3
    assert 'value="Li &lt;b&gt;"' in answer.text
    assert count(store, FormSubmission) == 0


def test_a_sheet_of_another_form_or_of_yesterday_is_none(clock: FixedClock) -> None:
    text = hand_out("secret", "a", clock.now())
    assert read_sheet("secret", "a", text, clock.now()) is not None
    assert read_sheet("secret", "b", text, clock.now()) is None
    assert read_sheet("other", "a", text, clock.now()) is None
    clock.advance(timedelta(hours=25))
    assert read_sheet("secret", "a", text, clock.now()) is None


def test_a_page_of_another_site_reads_and_sends_only_if_it_was_named(
    client: FlaskClient, form: WebForm, store: Store, clock: FixedClock
) -> None:
    path = f"/forms/{form.public_id}"
    stranger = {"Origin": "https://evil.example"}
    for answer in (
        client.get(f"{path}/sheet", headers=stranger),
        client.options(path, headers=stranger),
        client.post(path, json={}, headers=stranger),
        client.post(path, data=FILLED, headers={"Origin": "null"}),
    ):
        assert answer.status_code == 403
        assert "Access-Control-Allow-Origin" not in answer.headers
    named = {"Origin": SITE}
    assert client.options(path, headers=named).headers["Access-Control-Allow-Origin"] == SITE
    sheet: Any = client.get(f"{path}/sheet?lang=zh", headers=named).json
    assert sheet["consent"] == "可以给我发邮件。"
    clock.advance(timedelta(seconds=9))
    body = {"sheet": sheet["sheet"], "values": FILLED, "consent": True, "utm": {"source": "news"}}
    answer = client.post(f"{path}?lang=zh", json=body, headers=named)
    assert (answer.status_code, answer.json) == (202, {"received": True, "thanks": "谢谢！"})
    assert answer.headers["Access-Control-Allow-Origin"] == SITE
    assert one(store, FormSubmission).utm == {"source": "news"}
    wrong = client.post(path, json={**body, "values": {"email": "x", "status": "won"}}, headers=named)
    assert json.loads(wrong.text)["wrong"] == {"email": "no_mail", "status": "not_asked"}


def test_only_named_sites_may_show_the_page_inside_of_theirs(
    client: FlaskClient, form: WebForm, store: Store, cast: Cast
) -> None:
    shown = client.get(f"/forms/{form.public_id}")
    assert f"frame-ancestors 'self' {SITE}" in shown.headers["Content-Security-Policy"]
    assert "X-Frame-Options" not in shown.headers
    with store.transaction(actor_id=cast["Mara"].id) as transaction:
        change_form(transaction, cast["Mara"], form.id, wanted(origins=[]))
    shown = client.get(f"/forms/{form.public_id}")
    assert "frame-ancestors 'none'" in shown.headers["Content-Security-Policy"]
    assert shown.headers["X-Frame-Options"] == "DENY"


def test_a_form_that_was_switched_off_is_not_there(
    client: FlaskClient, form: WebForm, store: Store, cast: Cast
) -> None:
    with store.transaction(actor_id=cast["Mara"].id) as transaction:
        change_form(transaction, cast["Mara"], form.id, wanted(active=False))
    for path in (f"/forms/{form.public_id}", "/forms/none", "/forms/" + "x" * 90):
        assert client.get(path).status_code == 404


def test_one_address_sends_only_so_often(home: Any, store: Store, champions: Any, form: WebForm) -> None:
    client = create_app(Settings(home=home, form_rate=1), store, champions).test_client()
    answers = [client.post(f"/forms/{form.public_id}", data=FILLED) for _ in range(2)]
    assert [each.status_code for each in answers] == [422, 429]
    assert "Retry-After" in answers[1].headers


def test_whatever_a_stranger_sends_nothing_breaks(
    app: Flask, form: WebForm, store: Store, clock: FixedClock
) -> None:
    client, path = app.test_client(), f"/forms/{form.public_id}"
    for number, value in enumerate(hostile.VALUES[::2]):
        odd = value.encode("utf-8", "surrogatepass")
        sheet = hand_out(str(app.secret_key), form.public_id, clock.now() - timedelta(minutes=1))
        data: dict[str, Any] = {"email": f"a{number}@b.example", "sheet": sheet}
        data |= dict.fromkeys(("utm_source", "page", "name", "message", "consent", "lang"), odd)
        data |= {"employees": odd} if number % 2 else {}
        assert client.post(path, data=data).status_code in {200, 413, 422}
        values = {"email": f"c{number}@b.example", "name": value, "message": value}
        body = json.dumps({"sheet": sheet, "values": values, "page": value, "utm": {value: value}})
        answer = client.post(path, data=body, content_type="application/json")
        assert answer.status_code in {202, 413, 422}
        assert client.get(path, query_string={"lang": odd[:99], "utm_term": odd[:99]}).status_code == 200
        clock.advance(timedelta(seconds=6))
    assert count(store, Lead) > 30
    for body in ("[" * 60_000, "{", '{"values": 1}', '{"sheet": NaN}', "9" * 60_000, "null"):
        assert client.post(path, data=body, content_type="application/json").status_code == 400
        clock.advance(timedelta(seconds=3))
    assert client.post(path, data="x" * 70_000, content_type="application/json").status_code == 413


def test_every_wording_of_the_consent_is_kept(store: Store, form: WebForm, cast: Cast) -> None:
    mara = cast["Mara"]
    with store.transaction(actor_id=mara.id) as transaction:
        as_it_was = wanted_of(transaction.session.get_one(WebForm, form.id))
        change_form(transaction, mara, form.id, as_it_was)
        for text in ("You may write to me.", "You may call me.", ""):
            change_form(transaction, mara, form.id, wanted(consent=Texts(en=text)))
        kept = {each.number: each.text["en"] for each in transaction.session.scalars(select(FormWording))}
        assert kept == {1: "You may write to me.", 2: "You may write to me.", 3: "You may call me."}
        assert transaction.session.get_one(WebForm, form.id).wording == 0


@pytest.mark.parametrize(
    ("field", "more"),
    [
        ("fields", {"fields": [AskedField(field="name", required=True)]}),
        ("fields", {"fields": [AskedField(field="status"), AskedField(field="email", required=True)]}),
        ("origins", {"origins": ["https://a.example/path"]}),
        ("origins", {"origins": ["javascript:alert(1)"]}),
        ("origins", {"origins": ["https://a.example; script-src *"]}),
        ("campaign_id", {"campaign_id": 99}),
        ("owner_id", {"owner_id": 99}),
        ("name", {"name": " "}),
    ],
)
def test_a_form_that_makes_no_sense_is_refused(
    store: Store, cast: Cast, field: str, more: dict[str, Any]
) -> None:
    with store.transaction() as transaction, pytest.raises(InvalidValueError) as refused:
        make_form(transaction, cast["Adam"], wanted(**more))
    assert refused.value.field == field


def test_an_origin_is_read_as_browsers_write_it() -> None:
    assert read_origin(" HTTPS://WWW.Example.com:443/ ") == "https://www.example.com"
    assert read_origin("http://localhost:8080") == "http://localhost:8080"


def test_who_sells_makes_no_forms(store: Store, cast: Cast) -> None:
    with store.transaction() as transaction, pytest.raises(AccessDeniedError):
        make_form(transaction, cast["Ana"], wanted())


def test_a_merge_takes_the_activity_of_a_form_along(store: Store, send: Send) -> None:
    send()
    with store.transaction() as transaction:
        gone = transaction.session.scalars(select(Lead)).one()
        keep = make_lead(transaction, name="李娜")
        merge_records(transaction, keep, gone)
        sent = transaction.session.scalars(select(FormSubmission)).one()
        assert transaction.session.get_one(Activity, sent.activity_id).lead_id == keep.id
