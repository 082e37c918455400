"""The pages, as a browser without scripts sees them."""

from __future__ import annotations

import re
from datetime import timedelta
from decimal import Decimal
from html import unescape

import pytest
from flask import Flask

from crm_core.access import FieldRight
from crm_core.changes import Source
from crm_core.clock import FixedClock
from crm_core.predictions import write_predictions
from crm_core.records import Activity, Deal, Lead
from crm_core.store import Store
from serving.champions import TASK_OF
from tests.factories import make_account, make_activity, make_deal, make_lead
from tests.serving.conftest import Cast, csrf_of, logged_in
from tests.serving.hand_made import prediction


def show(store: Store, record_type: str, probabilities: dict[int, float | None], version: str = "1") -> None:
    """Put predictions on records."""
    with store.transaction(source=Source.MODEL) as transaction:
        write_predictions(
            transaction,
            task=TASK_OF[record_type],
            record_type=record_type,
            as_of=transaction.now,
            model_version=f"{TASK_OF[record_type]}-{version}",
            horizon_days=90,
            predictions=[prediction(record_id, value) for record_id, value in probabilities.items()],
        )


def text_of(page: str) -> str:
    """Return what is read on a page."""
    body = page[page.index("<main") :]
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", body)))


@pytest.mark.parametrize(
    ("language", "words"), [("en", "Import them from another system"), ("zh", "可从其他系统导入")]
)
def test_a_list_without_leads_says_what_to_do(app: Flask, cast: Cast, language: str, words: str) -> None:
    page = logged_in(app, cast["Ana"], language).get("/leads").text
    assert f'<html lang="{language}"' in page
    assert words in page
    assert "crm import MAPPING --from FOLDER" in page


@pytest.mark.parametrize("path", ["/leads", "/deals", "/customers"])
@pytest.mark.parametrize("name", ["Ana", "Mara", "Dana", "Adam"])
def test_every_role_gets_every_list(app: Flask, cast: Cast, name: str, path: str) -> None:
    assert logged_in(app, cast[name]).get(path).status_code == 200


def test_a_rep_sees_whom_to_call_and_why(app: Flask, store: Store, cast: Cast, clock: FixedClock) -> None:
    with store.transaction() as transaction:
        likely = make_lead(transaction, company="Likely", owner_id=cast["Ana"].id)
        unlikely = make_lead(transaction, company="Unlikely", owner_id=cast["Ana"].id)
        make_lead(transaction, company="New", owner_id=cast["Ana"].id)
        unknown = make_lead(transaction, company="Unknown", owner_id=cast["Ana"].id)
    show(store, "lead", {likely.id: 0.48, unlikely.id: 0.2, unknown.id: None})
    clock.advance(timedelta(days=2))
    with store.transaction() as transaction:
        make_activity(transaction, lead_id=likely.id, kind="meeting")
        make_activity(transaction, lead_id=likely.id, kind="note")
    clock.advance(timedelta(hours=3))
    show(store, "lead", {likely.id: 0.61})
    clock.advance(timedelta(minutes=3))
    text = text_of(logged_in(app, cast["Ana"]).get("/leads").text)
    names = re.findall(r"\b(Likely|Unlikely|New|Unknown) Wang", text)
    assert names[:2] == ["Likely", "Unlikely"]
    assert sorted(names[2:]) == ["New", "Unknown"]
    assert "61%" in text
    assert "▲" in text
    assert " 13 " in text
    assert "2 calls in the last 30 days" in text
    assert "an average lead" not in text, "the starting point is no reason"
    assert "3 minutes ago" in text
    assert "Meeting 3 hours ago" in text
    assert "Not scored yet" in text
    assert "Not enough data" in text


def test_reasons_and_numbers_are_in_the_language_of_the_page(app: Flask, store: Store, cast: Cast) -> None:
    with store.transaction() as transaction:
        lead = make_lead(transaction, owner_id=cast["Ana"].id)
        deal = make_deal(transaction, owner_id=cast["Ana"].id, amount=Decimal("1234567.5"), currency="CNY")
    show(store, "lead", {lead.id: 0.5})
    ana = logged_in(app, cast["Ana"], "zh")
    assert "近 30 天通话 2 次" in ana.get("/leads").text
    assert "近 30 天通话 2 次" in ana.get(f"/leads/{lead.id}").text
    assert "¥1,234,567.50" in ana.get(f"/deals/{deal.id}").text


@pytest.mark.parametrize(
    ("outcome", "words"),
    [("no answer", "无人接听"), ("held", "已进行"), ("left_a_message", "Left a message")],
)
def test_the_usual_outcomes_are_in_the_language_of_the_page(
    app: Flask, store: Store, cast: Cast, outcome: str, words: str
) -> None:
    with store.transaction() as transaction:
        lead_id = make_lead(transaction, owner_id=cast["Ana"].id).id
        make_activity(transaction, lead_id=lead_id, outcome=outcome)
    assert f"· {words}" in text_of(logged_in(app, cast["Ana"], "zh").get(f"/leads/{lead_id}").text)


def test_a_change_of_owner_names_both(app: Flask, store: Store, cast: Cast) -> None:
    with store.transaction() as transaction:
        lead = make_lead(transaction, owner_id=cast["Ben"].id)
        transaction.update(lead, {"owner_id": cast["Ana"].id})
    page = text_of(logged_in(app, cast["Ana"]).get(f"/leads/{lead.id}").text)
    assert f"{cast['Ben'].name} → {cast['Ana'].name}" in page


def test_a_language_once_chosen_stays(app: Flask, store: Store, cast: Cast) -> None:
    ana = logged_in(app, cast["Ana"])
    page = ana.get("/leads")
    ana.post("/language", data={"csrf_token": csrf_of(page.text), "language": "zh", "next": "/deals"})
    assert '<html lang="zh"' in ana.get("/deals").text
    elsewhere = logged_in(app, cast["Ana"])
    assert '<html lang="zh"' in elsewhere.get("/deals").text


def test_the_second_page_goes_on_where_the_first_ends(app: Flask, store: Store, cast: Cast) -> None:
    with store.transaction() as transaction:
        ids = [make_lead(transaction, owner_id=cast["Ana"].id).id for _ in range(40)]
    show(store, "lead", {lead_id: 0.5 if number % 2 else None for number, lead_id in enumerate(ids)})
    ana = logged_in(app, cast["Ana"])
    first = ana.get("/leads").text
    following = re.search(r'rel="next" href="([^"]+)"', first)
    assert following is not None
    second = ana.get(unescape(following[1])).text
    shown = [int(number) for number in re.findall(r'<a href="/leads/(\d+)"', first + second)]
    assert sorted(shown) == ids
    assert 'rel="next"' not in second


def test_filters_leave_what_fits(app: Flask, store: Store, cast: Cast) -> None:
    with store.transaction() as transaction:
        make_lead(transaction, company="Ana's <b>", owner_id=cast["Ana"].id)
        make_lead(transaction, company="Ben's", owner_id=cast["Ben"].id)
    mara = logged_in(app, cast["Mara"])
    both = mara.get("/leads").text
    assert ("Ben&#39;s" in both, "Ana&#39;s &lt;b&gt;" in both, "<b>" in both) == (True, True, False)
    assert "Ana&#39;s" not in mara.get(f"/leads?owner={cast['Ben'].id}").text
    assert "Ben&#39;s" not in mara.get("/leads?q=ana").text
    assert "Nothing fits" in mara.get("/leads?q=nobody").text
    assert "Nothing fits" in mara.get("/leads?status=converted").text
    assert mara.get("/leads?owner=99999999999999999999999&status=x&q=%00").status_code == 422


def test_a_deal_shows_its_probability_beside_the_reps_own(app: Flask, store: Store, cast: Cast) -> None:
    with store.transaction() as transaction:
        account = make_account(transaction, owner_id=cast["Ana"].id)
        deal = make_deal(transaction, owner_id=cast["Ana"].id, account_id=account.id, rep_probability=0.7)
    show(store, "deal", {deal.id: 0.61})
    text = text_of(logged_in(app, cast["Ana"]).get(f"/deals/{deal.id}").text)
    assert "61%" in text
    assert "The rep says 70%." in text
    assert "win_probability-1" in text
    assert "Hill & Sons" in text
    with store.reading() as session:
        assert session.get_one(Deal, deal.id).rep_probability == 0.7


def test_the_bars_begin_at_the_average_and_end_at_the_score(app: Flask, store: Store, cast: Cast) -> None:
    with store.transaction() as transaction:
        lead = make_lead(transaction, owner_id=cast["Ana"].id)
    show(store, "lead", {lead.id: 0.3775406687981454})  # the log-odds of the reasons: -2.0 + 1.5
    text = text_of(logged_in(app, cast["Ana"]).get(f"/leads/{lead.id}").text)
    assert "An average one 12%" in text
    assert "2 calls in the last 30 days +1.50" in text
    assert "Together 38%" in text


def test_the_history_says_what_led_to_each_score(
    app: Flask, store: Store, cast: Cast, clock: FixedClock
) -> None:
    with store.transaction() as transaction:
        lead = make_lead(transaction, owner_id=cast["Ana"].id)
    for version in ("1", "1", "2"):
        clock.advance(timedelta(days=1))
        show(store, "lead", {lead.id: 0.4}, version)
    text = text_of(logged_in(app, cast["Ana"]).get(f"/leads/{lead.id}").text)
    assert re.search(
        r"another model lead_scoring-2 .* time lead_scoring-1 .* first score lead_scoring-1", text
    )


def test_the_causes_are_told_by_their_kind_where_the_model_of_the_time_is_gone(
    app: Flask, store: Store, cast: Cast, clock: FixedClock
) -> None:
    with store.transaction() as transaction:
        lead = make_lead(transaction, owner_id=cast["Ana"].id, source="web")
    for version, probability, source in (("1", 0.4, "web"), ("1", 0.5, "referral"), ("2", 0.42, "referral")):
        clock.advance(timedelta(days=1))
        with store.transaction() as transaction:
            transaction.update(transaction.get(Lead, lead.id), {"source": source})
        show(store, "lead", {lead.id: probability}, version)
    ana, path = logged_in(app, cast["Ana"]), f"/records/lead/{lead.id}/causes"
    assert f'data-load="{path}"' in ana.get(f"/leads/{lead.id}").text
    part = ana.get(path, headers={"X-Requested-With": "fetch"}).text
    assert "<html" not in part
    assert "data-load" not in part, "it is loaded once"
    told = text_of(ana.get(path).text)
    assert re.search(r"▼ down by 8 another model .* ▲ up by 10 its data: Source .* first score", told), told


def test_the_causes_are_for_who_sees_the_record_and_its_score(app: Flask, store: Store, cast: Cast) -> None:
    with store.transaction() as transaction:
        lead = make_lead(transaction, owner_id=cast["Ana"].id).id
    show(store, "lead", {lead: 0.4})
    path = f"/records/lead/{lead}/causes"
    assert logged_in(app, cast["Otto"]).get(path).status_code == 404
    assert logged_in(app, cast["Ana"]).get(f"/records/contact/{lead}/causes").status_code == 404
    with store.transaction() as transaction:
        hidden = {"read": False, "write": False, "record_type": "lead", "field": "probability"}
        transaction.session.add(FieldRight(role="rep", **hidden))
    ana = logged_in(app, cast["Ana"])
    assert ana.get(path).status_code == 403
    assert path not in ana.get(f"/leads/{lead}").text


def test_logging_without_a_script_comes_back_to_the_page(app: Flask, store: Store, cast: Cast) -> None:
    with store.transaction() as transaction:
        lead = make_lead(transaction, owner_id=cast["Ana"].id)
    ana = logged_in(app, cast["Ana"])
    form = ana.get(f"/leads/{lead.id}").text
    sent = {
        "csrf_token": csrf_of(form),
        "kind": "call",
        "direction": "outbound",
        "minutes": "7",
        "subject": "报价",
    }
    answer = ana.post(f"/leads/{lead.id}/activities", data=sent, follow_redirects=True)
    assert "Logged. The score follows in a moment" in answer.text
    assert "报价" in answer.text
    with store.reading() as session:
        logged = session.query(Activity).one()
        assert (logged.kind, logged.direction, logged.duration_seconds) == ("call", "outbound", 420)
        assert (logged.lead_id, logged.owner_id) == (lead.id, cast["Ana"].id)


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        ({"kind": "séance"}, "activity.kind"),
        ({"minutes": "-5"}, "activity.duration_seconds"),
        ({"minutes": "soon"}, "minutes"),
        ({"minutes": "1e999"}, "minutes"),
        ({"subject": "a\x00b"}, "activity.subject"),
        ({"subject": "x" * 301}, "activity.subject"),
        ({"occurred_at": "2027-01-01T00:00"}, "occurred_at"),
        ({"occurred_at": "tomorrow"}, "occurred_at"),
    ],
)
def test_a_form_that_cannot_be_logged_comes_back_with_what_was_written(
    app: Flask, store: Store, cast: Cast, more: dict[str, str], complaint: str
) -> None:
    with store.transaction() as transaction:
        lead = make_lead(transaction, owner_id=cast["Ana"].id)
    ana = logged_in(app, cast["Ana"])
    sent = {
        "csrf_token": csrf_of(ana.get(f"/leads/{lead.id}").text),
        "kind": "call",
        "subject": "Kept words",
        **more,
    }
    answer = ana.post(f"/leads/{lead.id}/activities", data=sent)
    assert answer.status_code == 422
    assert complaint in answer.text
    assert ("Kept words" in answer.text) == ("subject" not in more)
    with store.reading() as session:
        assert session.query(Activity).count() == 0


def test_a_time_is_read_in_the_readers_zone(app: Flask, store: Store, cast: Cast) -> None:
    with store.transaction() as transaction:
        lead = make_lead(transaction, owner_id=cast["Ana"].id)
        transaction.update(transaction.get(type(cast["Ana"]), cast["Ana"].id), {"time_zone": "Asia/Shanghai"})
    ana = logged_in(app, cast["Ana"])
    sent = {
        "csrf_token": csrf_of(ana.get(f"/leads/{lead.id}").text),
        "kind": "call",
        "occurred_at": "2026-03-02T08:30",
    }
    ana.post(f"/leads/{lead.id}/activities", data=sent)
    with store.reading() as session:
        assert session.query(Activity).one().occurred_at.isoformat() == "2026-03-02T00:30:00+00:00"
    assert "8:30" in ana.get(f"/leads/{lead.id}").text


def test_a_deal_that_lacks_what_a_stage_requires_is_asked_for_it_and_then_moves(
    app: Flask, store: Store, cast: Cast
) -> None:
    with store.transaction() as transaction:
        account = make_account(transaction, owner_id=cast["Ana"].id).id
        deal = make_deal(transaction, owner_id=cast["Ana"].id, amount=None)
    ana = logged_in(app, cast["Ana"])
    sent = {"csrf_token": csrf_of(ana.get(f"/deals/{deal.id}").text), "stage": "proposal"}
    asked = ana.post(f"/deals/{deal.id}/stage", data=sent)
    assert asked.status_code == 422
    assert "→ Proposal and quote This is needed there: Amount Customer" in text_of(asked.text)
    assert "First contact → Proposal and quote" not in text_of(ana.get(f"/deals/{deal.id}").text)
    given = {**sent, "version": deal.version, "back": "deal", "amount": "900", "account_id": account}
    moved = ana.post(f"/deals/board/{deal.id}/move", data=given)
    assert moved.location == f"/deals/{deal.id}"
    assert "First contact → Proposal and quote" in text_of(ana.get(moved.location).text)


def test_a_new_lead_may_be_of_a_usual_source_or_of_another(app: Flask, store: Store, cast: Cast) -> None:
    with store.transaction() as transaction:
        make_lead(transaction, source="猎头", owner_id=cast["Ana"].id)
    page = logged_in(app, cast["Ana"]).get("/leads/new").text
    assert '<option value="trade show">Trade show</option>' in page
    assert '<option value="猎头">猎头</option>' in page
    with store.transaction() as transaction:
        hidden = FieldRight(role="rep", record_type="lead", field="source", read=False, write=False)
        transaction.session.add(hidden)
    page = logged_in(app, cast["Ana"]).get("/leads/new").text
    assert "猎头" not in page
    assert '<option value="trade show">Trade show</option>' in page


def test_a_deal_is_moved_on_its_page(app: Flask, store: Store, cast: Cast) -> None:
    with store.transaction() as transaction:
        account = make_account(transaction, owner_id=cast["Ana"].id)
        deal = make_deal(transaction, owner_id=cast["Ana"].id, account_id=account.id)
    ana = logged_in(app, cast["Ana"])
    sent = {"csrf_token": csrf_of(ana.get(f"/deals/{deal.id}").text), "stage": "proposal"}
    page = ana.post(f"/deals/{deal.id}/stage", data=sent, follow_redirects=True).text
    assert "First contact → Proposal and quote" in text_of(page)


def test_a_lead_is_created_on_its_page(app: Flask, store: Store, cast: Cast) -> None:
    ana = logged_in(app, cast["Ana"])
    sent = {
        "csrf_token": csrf_of(ana.get("/leads/new").text),
        "company": "方达阀门",
        "employees": "40",
        "email": "",
    }
    page = ana.post("/leads/new", data=sent, follow_redirects=True)
    assert "方达阀门" in page.text
    with store.reading() as session:
        lead = session.query(Lead).one()
        assert (lead.company, lead.employees, lead.email, lead.owner_id) == (
            "方达阀门",
            40,
            None,
            cast["Ana"].id,
        )


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("email", "nobody"),
        ("employees", "-3"),
        ("employees", "many"),
        ("name", "x" * 201),
        ("name", "a\x00b"),
    ],
)
def test_a_lead_that_cannot_be_created_is_not(
    app: Flask, store: Store, cast: Cast, field: str, value: str
) -> None:
    ana = logged_in(app, cast["Ana"])
    sent = {"csrf_token": csrf_of(ana.get("/leads/new").text), "company": "Kept", field: value}
    answer = ana.post("/leads/new", data=sent)
    assert answer.status_code == 422
    assert "Kept" in answer.text
    with store.reading() as session:
        assert session.query(Lead).count() == 0


def test_an_analyst_is_offered_nothing_to_change(app: Flask, store: Store, cast: Cast) -> None:
    with store.transaction() as transaction:
        lead = make_lead(transaction, owner_id=cast["Ana"].id)
    dana = logged_in(app, cast["Dana"])
    page = dana.get(f"/leads/{lead.id}").text
    assert 'id="log"' not in page
    answer = dana.post(f"/leads/{lead.id}/activities", data={"csrf_token": csrf_of(page), "kind": "call"})
    assert answer.status_code == 403


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/leads/999", 404, "Nothing here"),
        ("/nothing", 404, "Nothing here"),
        ("/models", 403, "Not for your role"),
    ],
)
def test_error_pages(app: Flask, cast: Cast, path: str, status: int, words: str) -> None:
    answer = logged_in(app, cast["Ana"]).get(path)
    assert answer.status_code == status
    assert words in answer.text
    assert answer.content_type.startswith("text/html")


def test_an_internal_error_says_so_and_tells_nothing_else(own_rules: None, app: Flask, cast: Cast) -> None:
    @app.get("/broken")
    def broken() -> str:
        raise ZeroDivisionError("the secret inside")

    answer = logged_in(app, cast["Ana"]).get("/broken")
    assert answer.status_code == 500
    assert "Something went wrong here" in answer.text
    assert answer.headers["X-Request-ID"] in answer.text
    assert "the secret inside" not in answer.text


def test_the_documentation_of_the_api_is_a_page_of_our_own(app: Flask, cast: Cast) -> None:
    page = app.test_client().get("/api/docs")
    assert page.status_code == 200
    assert "/api/v1/leads/{id}/activities" in page.text
    assert "duration_seconds" in page.text


def test_pages_hold_no_inline_script_or_style(app: Flask, store: Store, cast: Cast) -> None:
    with store.transaction() as transaction:
        deal = make_deal(transaction, owner_id=cast["Ana"].id)
    show(store, "deal", {deal.id: 0.6})
    adam = logged_in(app, cast["Adam"])
    for path in (
        "/leads",
        "/leads/new",
        "/deals",
        f"/deals/{deal.id}",
        "/customers",
        "/models",
        "/api/docs",
        "/nothing",
    ):
        page = adam.get(path).text
        assert re.search(r"<script(?![^>]*\bsrc=)", page) is None, path
        assert re.search(r"\s(style|on\w+)=", page) is None, path
        assert re.search(r'(src|href)="(https?:)?//', page) is None, path
